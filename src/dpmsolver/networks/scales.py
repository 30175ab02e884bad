"""Scales of guidance: a number, one number per sample or a function of time, inside an interval of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpmsolver.errors import PlanError
from dpmsolver.host import settled, to_host

__all__ = ["Interval", "Scale", "checked_scale", "scale_at", "times_inside"]

# A number; a function of the schedule's time; or one number per sample, in a list, an array or a tensor on any device.
Scale: TypeAlias = Any
Interval: TypeAlias = tuple[float, float] | None


def checked_scale(scale: Scale, interval: Interval) -> Scale:
    """Return a scale as a float, a tuple of floats or, unchanged, a function. Raise PlanError for anything else."""
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise PlanError(f"interval is (low, high) in the schedule's time, got {interval}")
    if callable(scale):
        return scale
    try:
        values = to_host(scale)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if isinstance(scale, str) or values.ndim > 1:
        raise PlanError(
            f"guidance scale must be a number, one number per sample or a function of time, got {type(scale).__name__}"
            + (f" of shape {values.shape}" if values.size else "")
        )
    if not np.isfinite(values).all():
        raise PlanError(f"guidance scale must be finite, got {scale}")
    return tuple(values.tolist()) if values.ndim else float(values)


@settled
def scale_at(
    scale: Scale, outside: float, interval: Interval, time: Any, batch: int
) -> tuple[float | NDArray[np.float64], bool]:
    """Return the scale of an evaluation, and True if it is `outside` for all samples.

    The scale is a float, or float64 (B,) if samples differ in their scale or their time.
    """
    if interval is None and isinstance(scale, float) and isinstance(time, float):
        return scale, scale == outside
    times = np.asarray(time, dtype=np.float64)
    values = np.asarray(scale) if not callable(scale) else _called(scale, times)
    if values.ndim and len(values) != batch:
        raise PlanError(f"guidance scale must be one number or one per sample: {batch} samples, {len(values)} numbers")
    if interval is not None:
        values = np.where(_inside(times, interval), values, outside)
    idle = bool(np.all(values == outside))
    if not times.ndim and not values.ndim:
        return float(values), idle
    return np.array(np.broadcast_to(values, (batch,)), dtype=np.float64), idle


def _inside(times: NDArray[np.float64], interval: Interval) -> NDArray[np.bool_]:
    """Return for each time whether it lies in an interval; None contains all times."""
    if interval is None:
        return np.full(times.shape, True)
    return np.asarray((times >= interval[0]) & (times <= interval[1]))


@settled
def times_inside(time: Any, interval: Interval) -> tuple[NDArray[np.bool_], bool, bool]:
    """Return which of the times lie in an interval, whether any of them does, and whether all do."""
    inside = _inside(np.asarray(time, dtype=np.float64), interval)
    return inside, bool(inside.any()), bool(inside.all())


def _called(scale: Callable[[float], Any], times: NDArray[np.float64]) -> NDArray[np.float64]:
    found = [to_host(scale(time)) for time in times.ravel().tolist()]
    for time, value in zip(times.ravel(), found, strict=True):
        if value.ndim or not np.isfinite(value):
            raise PlanError(f"guidance scale must return one finite number, at t={time:.6g} it returned {value}")
    return np.array(found, dtype=np.float64).reshape(times.shape)
