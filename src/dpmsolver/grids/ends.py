"""The ends of grids: limits of the log-SNR, both directions, exact start and end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.typing import GridAlias, GridName, SupportsArray, Written

__all__ = ["AnyGrid", "Grid", "between_limits", "either_way", "pinned"]

Grid: TypeAlias = Callable[..., Floats]
# A name, a function, or times.
AnyGrid: TypeAlias = GridName | GridAlias | Written | Grid | SupportsArray | Sequence[float]


def pinned(times: Floats, start: float, end: float) -> Floats:
    """Return times with the first and the last one set to start and end exactly, so that rounding cannot move them."""
    times[0], times[-1] = start, end
    return times


def either_way(grid: Grid) -> Grid:
    """Extend a grid for falling times to rising ones: they are the falling ones in reverse order, so that encoding retraces sampling."""

    @wraps(grid)
    def both(schedule: NoiseSchedule, steps: int, start: float, end: float, **options: Any) -> Floats:
        if start < end:
            return grid(schedule, steps, end, start, **options)[::-1]
        return grid(schedule, steps, start, end, **options)

    return both


def between_limits(grid: Grid) -> Grid:
    """Extend a grid over log-SNR to runs that start at alpha = 0 or end at sigma = 0: one step leads from or to each limit.

    The time before sigma = 0 is `last`, by default the last time worth an evaluation for a budget of one evaluation a step.
    """

    @wraps(grid)
    def with_limits(
        schedule: NoiseSchedule, steps: int, start: float, end: float, *, last: float | None = None, **options: Any
    ) -> Floats:
        last = schedule.last_time(steps) if last is None else last
        first, final = (_finite(schedule, t, other, last, steps) for t, other in ((start, end), (end, start)))
        head, tail = [start] * (first != start), [end] * (final != end)
        if (first - final) * (start - end) < 0:
            raise PlanError(f"no room for a grid over log-SNR between t={start} and t={end}: take grid='time'")
        inner = steps - len(head) - len(tail)
        if inner < 0:
            return np.array([start, end])
        if inner == 0:
            middle = [first] if not head else [final] if not tail else [0.5 * (first + final)]
            return np.array([*head, *middle, *tail])
        if first == final:
            raise PlanError(
                f"a run from t={start} to t={end} has room for {steps - inner} steps, not {steps}: take fewer"
            )
        return np.concatenate([head, grid(schedule, inner, first, final, **options), tail])

    with_limits.takes_last = True  # type: ignore[attr-defined]
    return with_limits


def _finite(schedule: NoiseSchedule, time: float, other: float, last: float, steps: int) -> float:
    """The time itself, or next to a limit the nearest one of the grid: `last` by sigma = 0 if the run passes it, else t_min;
    a hundredth of a uniform step from alpha = 0."""
    half_log_snr = schedule.half_log_snr(time)
    if math.isfinite(half_log_snr):
        return time
    if half_log_snr > 0:
        return last if other > last else schedule.t_min
    return time - 0.01 * (time - schedule.t_min) / steps
