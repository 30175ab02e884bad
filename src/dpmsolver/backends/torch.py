"""torch tensors, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint
from numpy.typing import NDArray
from torch import Tensor

from dpmsolver.backends import stream_seed
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host

__all__ = ["BACKEND", "TorchBackend", "seeds_from"]


def seeds_from(generator: Any, batch: int) -> list[tuple[int, ...]]:
    """One seed per sample drawn from a torch.Generator, in order."""
    if not isinstance(generator, torch.Generator):
        raise PlanError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    drawn = torch.randint(2**63 - 1, (batch,), generator=generator, device=generator.device)
    return [(int(s),) for s in drawn.tolist()]


_HOST = (
    "a CUDA graph cannot capture what comes from the host, as seeds and calibrated coefficients do: "
    "capture a plan without noise, such as that of dpm++2m"
)


def _capturing(x: Tensor) -> bool:
    """Whether a CUDA graph is being captured: nothing can then be brought from the host, or asked of the device."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _counted() -> AbstractContextManager[Any]:
    """Where new tensors count how often they are written to: inference tensors do not."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def _recordable(value: Any) -> Any:
    """The same, with copies of tensors that were made under inference mode: autograd cannot save those for its backward pass."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {name: _recordable(each) for name, each in value.items()}
    return type(value)(map(_recordable, value)) if type(value) in (list, tuple) else value


class TorchBackend:
    """See `dpmsolver.backends.Backend`.

    A run of a plan without noise can be captured in a CUDA graph. Nobody asks then whether its numbers are finite.
    """

    differentiates = True

    def state(self, x: Tensor) -> Tensor:
        if x.is_nested or x.layout != torch.strided:
            kind = "a nested" if x.is_nested else f"a {x.layout}"
            raise TypeError(
                f"the state must be a dense tensor, got {kind} one: pad it (x.to_padded_tensor(0.0)) or convert it (x.to_dense()), "
                "or sample each shape in a run of its own"
            )
        if x.numel() == 0 or x.ndim == 0:
            raise ValueError(f"the state must have a batch axis and at least one element, got shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"the state must be floating point, got {x.dtype}: convert it first")
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        with _counted():
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

    def labels(self, values: NDArray[np.float64], x: Tensor, dtype: Any) -> Sequence[Tensor]:
        dtype = torch.int64 if dtype is None else dtype
        if _capturing(x):
            return [torch.full((len(x),), value, dtype=dtype, device=x.device) for value in values[:, 0].tolist()]
        host = torch.from_numpy(values).to(dtype)
        # Memory of its own for each label: a network may write into it.
        return host.expand(-1, len(x)).contiguous().to(x.device).unbind()

    def label_dtype(self, network_dtype: Any, x: Tensor) -> Any:
        return torch.float64 if (network_dtype or x.dtype) == torch.float64 else torch.float32

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        return x if dtype is None or x.dtype == dtype else x.to(dtype)

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype is not None:
            return getattr(torch, dtype)
        if isinstance(network, partial):
            return self.network_dtype(network.func, None)
        network = getattr(network, "__self__", network)  # of a module's method, such as one that takes a scale
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

    def not_finite(self, x: Tensor) -> list[int]:
        finite: list[bool] = x.isfinite().reshape(len(x), -1).all(dim=1).tolist()
        return [i for i, each in enumerate(finite) if not each]

    def version(self, x: Tensor) -> int | None:
        try:
            return x._version
        except RuntimeError:  # of inference tensors nothing counts the writes
            return None

    def first_false(self, flags: Sequence[Any]) -> int | None:
        stacked = torch.stack([torch.as_tensor(flag) for flag in flags])
        values = [] if _capturing(stacked) else stacked.tolist()
        return next((i for i, flag in enumerate(values) if not flag), None)

    def from_numpy(self, values: NDArray[np.float64], like: Tensor) -> Tensor:
        if _capturing(like):
            raise TypeError(_HOST)
        return torch.from_numpy(values).to(dtype=like.dtype).to(like.device)

    def normals(self, keys: Sequence[tuple[int, ...]], interval: int, like: Tensor) -> Tensor:
        if _capturing(like):
            raise TypeError(_HOST)
        generator = torch.Generator(like.device)
        with _counted():
            drawn = torch.empty_like(like)
        for each, key in zip(drawn.unbind(), keys, strict=True):
            generator.manual_seed(stream_seed(key, interval))
            each.normal_(generator=generator)
        return drawn

    def to_numpy(self, x: Tensor) -> NDArray[np.float64]:
        return to_host(x)

    def copy_to(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if out is not None:
            return out.copy_(x)
        with _counted():
            return x.clone()

    def quantile(self, x: Tensor, q: float) -> Tensor:
        # By sorting, because torch.quantile takes at most 2^24 numbers.
        ordered = x.abs().reshape(len(x), -1).sort(dim=1).values
        place = q * (ordered.shape[1] - 1)
        low, high = ordered[:, math.floor(place)], ordered[:, math.ceil(place)]
        return torch.lerp(low, high, place - math.floor(place)).reshape(-1, *[1] * (x.ndim - 1))

    def clip(self, x: Tensor, limit: Any) -> Tensor:
        return torch.clamp(x, -limit, limit)

    def deviation(self, x: Tensor) -> Any:
        if _capturing(x):
            return None
        flat, every = x.detach().view(-1), 1 + x.numel() // 1024
        if x.device.type != "cpu":
            return flat.unfold(0, 1, every).std(correction=0)
        # Two sums cost a third of std; where they cancel, std has to tell.
        some = flat[::every]
        mean, power = some.sum().item() / some.numel(), some.dot(some).item() / some.numel()
        variance = power - mean * mean
        return math.sqrt(variance) if variance > 1e-3 * power else some.std(correction=0).item()

    def where(self, mask: NDArray[np.bool_], x: Tensor, y: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(mask).to(x.device).reshape(-1, *[1] * (x.ndim - 1)), x, y)

    def error_norm(self, high: Tensor, low: Tensor, before: Tensor, atol: float, rtol: float) -> NDArray[np.float64]:
        scale = torch.maximum(low.abs(), before.abs()).mul_(rtol).clamp_(min=atol)
        ratio = (high - low).div_(scale).reshape(len(high), -1).abs_()
        # Relative to the largest, whose square float32 may not hold: not every device has float64.
        largest = ratio.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(ratio.dtype).tiny)
        return self.to_numpy(ratio.div_(largest).square_().mean(dim=1).sqrt_() * largest[:, 0])

    def gradient(
        self, what: str, function: Callable[..., Any], x: Tensor, label: Tensor, kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, Any]:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = _recordable(x).detach().requires_grad_(True)
            # A copy of the leaf: the function may write into its input, and into a leaf torch lets nobody write.
            found, more = function(leaf.clone(), _recordable(label), **_recordable(dict(kwargs)))
            if tuple(found.shape) != (len(x),):
                raise ValueError(
                    f"{what} must return one number per sample, shape {(len(x),)}, got {tuple(found.shape)}"
                )
            gradients = torch.autograd.grad(found.sum(), leaf, allow_unused=True) if found.requires_grad else (None,)
            if gradients[0] is None:
                raise ValueError(
                    f"{what} must be differentiable in x: compute it from x with torch, and outside torch.no_grad()"
                )
            return gradients[0], more.detach() if isinstance(more, Tensor) else more

    def no_grad(self) -> AbstractContextManager[Any]:
        return torch.no_grad()

    def records(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.requires_grad

    def checkpointed(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        found: Tensor = torch.utils.checkpoint.checkpoint(function, x, use_reentrant=False)
        return found


BACKEND = TorchBackend()
