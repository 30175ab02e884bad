"""Guidance: how a condition steers the network. Give one to `Denoiser(…, guidance=…)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError

__all__ = ["Classifier", "ClassifierFree"]


def _check(scale: float, interval: tuple[float, float] | None) -> None:
    if not np.isfinite(scale):
        raise PlanError(f"guidance scale must be finite, got {scale}")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise PlanError(f"interval is (low, high) in the schedule's time, got {interval}")


def _scales(scale: float, outside: float, interval: tuple[float, float] | None, time: Any) -> Any:
    """The scale at a time, or one per sample where times differ."""
    if interval is None:
        return scale if np.ndim(time) == 0 else np.full(np.shape(time), scale)
    inside = (np.asarray(time) >= interval[0]) & (np.asarray(time) <= interval[1])
    return np.where(inside, scale, outside) if np.ndim(time) else (scale if inside else outside)


@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance: output = unconditional + scale (conditional - unconditional), in one batched call.

    Args:
        scale: 1 is the conditional network alone (and costs one call of the plain batch), 0 the unconditional one.
        condition: keyword arguments of the conditional network; arrays have the batch as their first axis.
        unconditional: the same names with the values of "no condition". Whatever else has the batch as its first axis belongs in
            both as well: the call's batch is doubled, `Denoiser.network_kwargs` are not.
        interval: (low, high) in the schedule's time; outside it the conditional network runs alone (Kynkaanniemi et al. 2024).

    One guided evaluation counts once in `nfe`, though its batch is twice as large.

    Source: Ho & Salimans 2022, arXiv 2207.12598, eq. 6 (with scale = w + 1).
    """

    scale: float
    condition: Mapping[str, Any]
    unconditional: Mapping[str, Any]
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check(self.scale, self.interval)
        if set(self.condition) != set(self.unconditional):
            raise PlanError(
                f"condition and unconditional must have the same names, got {sorted(self.condition)} and {sorted(self.unconditional)}"
            )

    def run(self, backend: Backend, call: Callable[..., Any], x: Any, label: Any, time: Any) -> Any:
        """The guided network output; `call(x, label, kwargs)` is the network, whatever its conversions."""
        scale = _scales(self.scale, 1.0, self.interval, time)
        if np.all(scale == 1.0):
            return call(x, label, self.condition)
        both = {
            name: _pair(backend, name, self.unconditional[name], self.condition[name], len(x))
            for name in self.condition
        }
        out = call(backend.concatenate([x, x]), backend.concatenate([label, label]), both)
        without, with_condition = out[: len(x)], out[len(x) :]
        if np.ndim(scale):
            return backend.combine_each([1.0 - scale, scale], [without, with_condition])
        return backend.combine([1.0 - scale, scale], [without, with_condition])


def _pair(backend: Backend, name: str, unconditional: Any, condition: Any, batch: int) -> Any:
    shapes = [getattr(v, "shape", None) for v in (unconditional, condition)]
    if shapes == [None, None]:
        if unconditional is not condition and unconditional != condition:
            raise PlanError(
                f"guidance: {name!r} must be an array of {batch} rows for one batched call, got {condition!r}"
            )
        return condition
    if shapes[0] is None or shapes[1] is None or shapes[0] != shapes[1] or shapes[0][:1] != (batch,):
        raise PlanError(f"guidance: {name!r} needs two arrays of equal shape with {batch} rows, got shapes {shapes}")
    return backend.concatenate([unconditional, condition])


@dataclass(frozen=True)
class Classifier:
    """Classifier guidance: eps <- eps - scale sigma grad_x log p(y | x_t).

    Args:
        scale: strength.
        log_probability: function (x, label, **kwargs) -> (B,), differentiated by torch.
        gradient: instead of it, a function (x, label, **kwargs) -> the gradient, of x's shape (for NumPy, or your own).
        kwargs: handed to either.
        interval: (low, high) in the schedule's time; no guidance outside.

    Source: Dhariwal & Nichol 2021, arXiv 2105.05233, algorithm 2.
    """

    scale: float
    log_probability: Callable[..., Any] | None = None
    gradient: Callable[..., Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check(self.scale, self.interval)
        if (self.log_probability is None) == (self.gradient is None):
            raise PlanError("give exactly one of log_probability and gradient")

    def at(self, backend: Backend, x: Any, label: Any, time: Any) -> tuple[Any, Any] | None:
        """(scale, gradient), or None outside the interval."""
        scale = _scales(self.scale, 0.0, self.interval, time)
        if np.all(scale == 0.0):
            return None
        if self.gradient is not None:
            gradient = self.gradient(x, label, **self.kwargs)
            if tuple(gradient.shape) != tuple(x.shape):
                raise ValueError(f"gradient must return x's shape {tuple(x.shape)}, got {tuple(gradient.shape)}")
            return scale, gradient
        assert self.log_probability is not None
        return scale, backend.gradient(self.log_probability, x, label, self.kwargs)
