"""torch tensors, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BACKEND", "TorchBackend", "seeds_from"]


def seeds_from(generator: Any, batch: int) -> list[tuple[int, ...]]:
    """One seed per sample drawn from a torch.Generator, in order."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    drawn = torch.randint(2**63 - 1, (batch,), generator=generator, device=generator.device)
    return [(int(s),) for s in drawn.tolist()]


def _capturing(x: Tensor) -> bool:
    """Whether a CUDA graph is being captured: nothing can then be brought from the host, or asked of the device."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


class TorchBackend:
    """See `dpmsolver.backends.Backend`.

    A run of a plan without noise can be captured in a CUDA graph. Nobody asks then whether its numbers are finite.
    """

    def state(self, x: Tensor) -> Tensor:
        if x.numel() == 0 or x.ndim == 0:
            raise ValueError(f"the state must have a batch axis and at least one element, got shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"the state must be floating point, got {x.dtype}: convert it first")
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return x.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)

    def is_float_array(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.is_floating_point()

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        first, scale, done = arrays[0], coefficients[0], 1
        if out is first:
            out.mul_(scale)
        elif scale == 1.0 and len(arrays) > 1:
            out, done = torch.add(first, arrays[1], alpha=coefficients[1], out=out), 2
        else:
            out = torch.mul(first, scale, out=out)
        for coefficient, array in zip(coefficients[done:], arrays[done:], strict=True):
            if coefficient:
                out.add_(array, alpha=coefficient)
        return out

    def combine_each(self, coefficients: Sequence[NDArray[np.float64]], arrays: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(arrays[0])
        for coefficient, array in zip(coefficients, arrays, strict=True):
            total.addcmul_(self.from_numpy(coefficient, array).reshape(-1, *[1] * (array.ndim - 1)), array)
        return total

    def labels(self, values: NDArray[np.float64], x: Tensor, integer: bool) -> Sequence[Tensor]:
        dtype = torch.int64 if integer else x.dtype
        if _capturing(x):
            return [torch.full((len(x),), value, dtype=dtype, device=x.device) for value in values[:, 0].tolist()]
        host = torch.from_numpy(values).to(dtype)
        return host.to(x.device).expand(-1, len(x)).unbind()

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        return x if dtype is None or x.dtype == dtype else x.to(dtype)

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype is not None:
            return getattr(torch, dtype)
        if isinstance(network, torch.nn.Module):
            return next((p.dtype for p in network.parameters() if p.is_floating_point()), None)
        return None

    def concatenate(self, arrays: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(arrays))

    def finite(self, x: Tensor) -> Any:
        if x.device.type == "cpu":
            # A sum is one pass without a temporary; an overflow of its own is told apart by the second look.
            return math.isfinite(x.sum().item()) or bool(x.isfinite().all())
        return x.isfinite().all()

    def first_false(self, flags: Sequence[Any]) -> int | None:
        stacked = torch.stack([torch.as_tensor(flag) for flag in flags])
        values = [] if _capturing(stacked) else stacked.tolist()
        return next((i for i, flag in enumerate(values) if not flag), None)

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Tensor:
        if _capturing(like):
            raise TypeError(
                "a CUDA graph cannot capture what comes from the host, as noise and calibrated coefficients do: "
                "capture a plan without noise, such as that of dpm++2m"
            )
        return torch.from_numpy(values).to(dtype=like.dtype).to(like.device)

    def to_numpy(self, x: Tensor) -> NDArray[np.float64]:
        return np.asarray(x.detach().cpu().double().numpy())

    def copy_to(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return x.clone() if out is None else out.copy_(x)

    def quantile(self, x: Tensor, q: float) -> Tensor:
        # One sample at a time: torch.quantile takes at most 2^24 elements.
        flat = torch.stack([sample.quantile(q) for sample in x.abs().reshape(len(x), -1)])
        return flat.reshape(-1, *[1] * (x.ndim - 1))

    def clip(self, x: Tensor, limit: Any) -> Tensor:
        return torch.clamp(x, -limit, limit)

    def deviation(self, x: Tensor) -> Any:
        if _capturing(x):
            return None
        flat = x.detach().reshape(-1)
        found = flat[:: 1 + flat.numel() // 1024].std(correction=0)
        return found.item() if x.device.type == "cpu" else found

    def where(self, mask: NDArray[np.bool_], x: Tensor, y: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(mask).to(x.device).reshape(-1, *[1] * (x.ndim - 1)), x, y)

    def error_norm(self, high: Tensor, low: Tensor, before: Tensor, atol: float, rtol: float) -> NDArray[np.float64]:
        scale = torch.maximum(low.abs(), before.abs()).mul_(rtol).clamp_(min=atol)
        return self.to_numpy((high - low).div_(scale).reshape(len(high), -1).double().square().mean(dim=1).sqrt())

    def gradient(self, function: Callable[..., Any], x: Tensor, label: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            return torch.autograd.grad(function(leaf, label, **kwargs).sum(), leaf)[0]

    def no_grad(self) -> AbstractContextManager[Any]:
        return torch.no_grad()


BACKEND = TorchBackend()
