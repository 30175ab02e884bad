"""torch tensors, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from operator import index
from typing import Any, Literal

import array_api_compat.torch as xp
import numpy as np
import torch
import torch.utils.checkpoint
from numpy.typing import NDArray
from torch import Tensor

from dpmsolver.backends import Autograd
from dpmsolver.backends.arrays import require_one_per_sample, require_state
from dpmsolver.backends.keys import Keys, require_host_keys, stream_seed
from dpmsolver.errors import PlanError
from dpmsolver.host import settled

__all__ = ["BACKEND", "LARGE", "TorchBackend", "seeds_from"]

LARGE = 2**18  # elements of a CUDA tensor from which on memory takes longer than launches


def seeds_from(generator: Any, batch: int) -> list[tuple[int, ...]]:
    """One seed per sample drawn from a torch.Generator, in order."""
    if not isinstance(generator, torch.Generator):
        raise PlanError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    drawn = torch.randint(2**63 - 1, (batch,), generator=generator, device=generator.device)
    return [(int(s),) for s in drawn.tolist()]


def _capturing(x: Tensor) -> bool:
    """Whether a CUDA graph is being captured: nothing can then be brought from the host, or asked of the device."""
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def _filled(values: NDArray[Any], like: Tensor, dtype: torch.dtype) -> Tensor:
    """The same as `from_numpy`, by a kernel for each number, which a CUDA graph can capture; the host's memory it cannot."""
    if values.size > 4096:
        raise TypeError("a CUDA graph cannot capture arrays that come from the host: capture a plan without them")
    each = [torch.full((), value, dtype=dtype, device=like.device) for value in values.ravel().tolist()]
    return torch.stack(each).reshape(values.shape)


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


class TorchAutograd(Autograd):
    """See `dpmsolver.backends.Autograd`."""

    differentiates = True

    def no_grad(self) -> AbstractContextManager[Any]:
        return torch.no_grad()

    def records(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.requires_grad

    def checkpointed(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        found: Tensor = torch.utils.checkpoint.checkpoint(function, x, use_reentrant=False)
        return found

    def gradient(
        self, what: str, function: Callable[..., Any], x: Tensor, label: Tensor, kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, Any]:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = _recordable(x).detach().requires_grad_(True)
            # A copy of the leaf: the function may write into its input, and into a leaf torch lets nobody write.
            found, more = function(leaf.clone(), _recordable(label), **_recordable(dict(kwargs)))
            require_one_per_sample(what, found, len(x))
            gradients = torch.autograd.grad(found.sum(), leaf, allow_unused=True) if found.requires_grad else (None,)
            if gradients[0] is None:
                raise ValueError(
                    f"{what} must be differentiable in x: compute it from x with torch, and outside torch.no_grad()"
                )
            return gradients[0], more.detach() if isinstance(more, Tensor) else more


class TorchBackend:
    """See `dpmsolver.backends.Backend`.

    A run of a plan without noise can be captured in a CUDA graph. Nobody asks then whether its numbers are finite.
    """

    xp = xp
    array = Tensor
    autograd = TorchAutograd()
    scan = None

    @property
    def current(self) -> TorchBackend:
        return _TRACED if torch.compiler.is_compiling() else self

    def kept(self, make: Callable[..., Any], *given: Any) -> Any:
        return make(*given)

    def state(self, x: Tensor) -> Tensor:
        if x.is_nested or x.layout != torch.strided:
            kind = "a nested" if x.is_nested else f"a {x.layout}"
            raise TypeError(
                f"the state must be a dense tensor, got {kind} one: pad it (x.to_padded_tensor(0.0)) or convert it (x.to_dense()), "
                "or sample each shape in a run of its own"
            )
        require_state(self, x)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        with _counted():
            return x.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)

    def place(self, x: Tensor) -> Literal["host", "device", "nowhere"]:
        if x.device.type == "cpu":
            return "host"
        return "nowhere" if _capturing(x) else "device"

    def finite(self, x: Tensor) -> Any:
        if x.device.type == "cpu":
            # A sum is one pass without a temporary; an overflow of its own is told apart by the second look.
            return math.isfinite(x.sum().item()) or bool(x.isfinite().all())
        # The largest magnitude is one kernel, and NaN where there is one; isfinite takes four, and all() a fifth.
        return _capturing(x) or not x.numel() or torch.linalg.vector_norm(x, math.inf) < math.inf

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        first, scale, done = arrays[0], coefficients[0], 1
        if first.is_cuda and len(arrays) > 2 and first.numel() >= LARGE:
            from dpmsolver.backends.one_kernel import combined

            total = combined(coefficients, arrays, out)
            if total is not None:
                return total
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

    def copy_to(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if out is not None:
            return out.copy_(x)
        with _counted():
            return x.clone()

    def version(self, x: Tensor) -> int | None:
        try:
            return x._version
        except RuntimeError:  # of inference tensors nothing counts the writes
            return None

    def from_numpy(self, values: NDArray[Any], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        dtype = dtype or like.dtype
        if _capturing(like):
            return _filled(values, like, dtype)
        return torch.from_numpy(values).to(dtype).to(like.device)

    def unseeded(self, generator: Any, noise: str) -> bool:
        return False

    def keys(self, keys: Keys) -> Any:
        return require_host_keys(keys)

    def normals(self, keys: Any, interval: Any, shape: Sequence[int], like: Tensor) -> Tensor:
        if _capturing(like):
            raise TypeError("a CUDA graph cannot capture seeds: capture a plan without noise, such as that of dpm++2m")
        generator = torch.Generator(like.device)
        with _counted():
            drawn = like.new_empty((len(keys), *shape))
        for each, key in zip(drawn.unbind(), keys, strict=True):
            generator.manual_seed(stream_seed(key, interval))
            each.normal_(generator=generator)
        return drawn

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype is not None:
            return getattr(torch, dtype)
        if isinstance(network, partial):
            return self.network_dtype(network.func, None)
        network = getattr(network, "__self__", network)  # of a module's method, such as one that takes a scale
        if isinstance(network, torch.nn.Module):
            return next((p.dtype for p in network.parameters() if p.is_floating_point()), None)
        return None


class _TracedAutograd(TorchAutograd):
    """See `dpmsolver.backends.Autograd`: what `torch.compile` can trace of it."""

    def gradient(
        self, what: str, function: Callable[..., Any], x: Tensor, label: Tensor, kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, Any]:
        def total(x: Tensor) -> tuple[Tensor, Any]:
            found, more = function(x.clone(), label, **kwargs)
            require_one_per_sample(what, found, len(x))
            return found.sum(), () if more is None else more  # torch.func wants tensors

        found: tuple[Tensor, Any] = torch.func.grad(total, has_aux=True)(x)
        return found


class _TracedBackend(TorchBackend):
    """torch while `torch.compile` traces: numbers are nowhere yet, nothing is written into, and the compiler joins what can be joined."""

    autograd = _TracedAutograd()

    @property
    def current(self) -> TorchBackend:
        return self

    def kept(self, make: Callable[..., Any], *given: Any) -> Any:
        return _KEPT[_keep(make, *given)]

    def state(self, x: Tensor) -> Tensor:
        require_state(self, x)
        return x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32, copy=True)

    def place(self, x: Tensor) -> Literal["host", "device", "nowhere"]:
        return "nowhere"

    def finite(self, x: Tensor) -> Any:
        return True

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
        total = coefficients[0] * arrays[0]
        for coefficient, array in zip(coefficients[1:], arrays[1:], strict=True):
            if coefficient:
                total = total + coefficient * array
        return total

    def copy_to(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return x.clone()  # which the compiler leaves out where nobody writes

    def version(self, x: Tensor) -> int | None:
        return None

    def from_numpy(self, values: NDArray[Any], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return torch.from_numpy(values).to(device=like.device, dtype=dtype or like.dtype)

    def unseeded(self, generator: Any, noise: str) -> bool:
        if any(isinstance(each, (torch.Generator, np.random.Generator)) for each in (generator, *_items(generator))):
            raise PlanError(
                "a compiled run would draw from a Generator once, while it is traced: give a seed, or generator=None for noise that torch "
                "draws anew in every run"
            )
        if noise == "brownian" or (noise == "host" and generator is None):
            raise PlanError(
                f"a compiled run does not draw noise={noise!r} with generator={generator!r}: take noise='independent', or noise='host' "
                "with a seed"
            )
        return generator is None

    def normals(self, keys: Any, interval: Any, shape: Sequence[int], like: Tensor) -> Tensor:
        if not keys:
            return torch.randn((len(like), *shape), dtype=like.dtype, device=like.device)
        return _drawn(keys, interval, tuple(map(index, shape)), like.dtype, like.device)


_KEPT: dict[int, Any] = {}  # objects that traced runs have made: a compiled one comes back to them here


@settled
def _keep(make: Callable[..., Any], *given: Any) -> int:
    _KEPT[len(_KEPT)] = make(*given)
    return len(_KEPT) - 1


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


@settled
def _drawn(keys: Keys, interval: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The normals of seeds, which are the same in every run: numbers that a compiled run holds."""
    return TorchBackend().normals(keys, interval, shape, torch.empty(0, dtype=dtype, device=device))


BACKEND, _TRACED = TorchBackend(), _TracedBackend()
