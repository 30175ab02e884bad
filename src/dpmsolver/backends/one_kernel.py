"""A linear combination of CUDA tensors in one kernel, which reads every array once and writes the result once.

A chain of torch's operations reads and writes the result again for every array after the second: four arrays cost it nine passes over
memory, and this kernel five. Small states are bound by the time to launch a kernel instead, so they take the chain.

The kernel needs Triton, which comes with the CUDA builds of torch and takes a while to import: this module is imported when a run needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

__all__ = ["MOST", "combined"]

MOST = 8  # arrays
_BLOCK = 1024


def combined(coefficients: Sequence[float], arrays: Sequence[Tensor], out: Tensor | None) -> Tensor | None:
    """Return sum_i coefficients[i] arrays[i], in `out` if it is given; None where the chain has to do it.

    The kernel takes up to eight arrays of float32 without gaps, and no gradients. It sums in float32, with fused multiplications, so that
    its result may differ from the chain's by rounding.

    Args:
        coefficients, arrays, out: as in `Backend.combine`; the arrays are CUDA tensors.
    """
    first = arrays[0]
    if triton is None or len(arrays) > MOST or torch.compiler.is_compiling():
        return None
    if not all(_plain(array, first) for array in (arrays if out is None else [*arrays, out])):
        return None
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        return None
    result = torch.empty_like(first) if out is None else out
    spare = MOST - len(arrays)
    numbers = [*map(float, coefficients), *[0.0] * spare]
    size = first.numel()
    with torch.cuda.device(first.device):
        _KERNEL[(-(-size // _BLOCK),)](
            result, *arrays, *[first] * spare, *numbers, size, COUNT=len(arrays), BLOCK=_BLOCK
        )
    return result


def _plain(array: Tensor, first: Tensor) -> bool:
    """Whether the kernel can walk through an array as through the first one."""
    return (
        array.dtype == torch.float32
        and array.shape == first.shape
        and array.device == first.device
        and array.is_contiguous()
    )


def _combine(  # type: ignore[no-untyped-def]
    result, a0, a1, a2, a3, a4, a5, a6, a7, c0, c1, c2, c3, c4, c5, c6, c7, size, COUNT: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = c0 * tl.load(a0 + at, mask=inside)
    if COUNT > 1:
        total += c1 * tl.load(a1 + at, mask=inside)
    if COUNT > 2:
        total += c2 * tl.load(a2 + at, mask=inside)
    if COUNT > 3:
        total += c3 * tl.load(a3 + at, mask=inside)
    if COUNT > 4:
        total += c4 * tl.load(a4 + at, mask=inside)
    if COUNT > 5:
        total += c5 * tl.load(a5 + at, mask=inside)
    if COUNT > 6:
        total += c6 * tl.load(a6 + at, mask=inside)
    if COUNT > 7:
        total += c7 * tl.load(a7 + at, mask=inside)
    tl.store(result + at, total, mask=inside)


_KERNEL: Any = triton.jit(_combine) if triton is not None else None
