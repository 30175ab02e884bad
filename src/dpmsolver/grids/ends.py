"""What grids share at their ends: limits of the log-SNR, the two directions, exact start and end."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["Grid", "between_limits", "either_way", "pinned"]

Grid: TypeAlias = Callable[..., Floats]


def pinned(times: Floats, start: float, end: float) -> Floats:
    """The same times with the first and the last exactly as given, whatever rounding did to them."""
    times[0], times[-1] = start, end
    return times


def either_way(grid: Grid) -> Grid:
    """Let a grid made for falling times rise too: the falling one read backwards, so that encoding retraces sampling."""

    @wraps(grid)
    def both(schedule: NoiseSchedule, steps: int, start: float, end: float, **options: Any) -> Floats:
        if start < end:
            return grid(schedule, steps, end, start, **options)[::-1]
        return grid(schedule, steps, start, end, **options)

    return both


def between_limits(grid: Grid) -> Grid:
    """Let a grid over log-SNR start or end at alpha = 0 or sigma = 0: one step to each limit, the grid between."""

    @wraps(grid)
    def with_limits(schedule: NoiseSchedule, steps: int, start: float, end: float, **options: Any) -> Floats:
        first, last = start, end
        head: list[float] = []
        tail: list[float] = []
        if math.isinf(schedule.half_log_snr(start)):
            head, first = [start], _next_to(schedule, start, steps)
        if math.isinf(schedule.half_log_snr(end)):
            tail, last = [end], _next_to(schedule, end, steps)
        if (first - last) * (start - end) < 0:
            raise PlanError(f"no room for a grid over log-SNR between t={start} and t={end}: take grid='time'")
        inner = steps - len(head) - len(tail)
        if inner < 0:
            return np.array([start, end])
        if inner == 0:
            middle = [first] if not head else [last] if not tail else [0.5 * (first + last)]
            return np.array([*head, *middle, *tail])
        return np.concatenate([head, grid(schedule, inner, first, last, **options), tail])

    return with_limits


def _next_to(schedule: NoiseSchedule, limit: float, steps: int) -> float:
    """The time next to a limit, where the log-SNR is finite: a hundredth of a uniform step from alpha = 0, `last_time` by sigma = 0."""
    if schedule.half_log_snr(limit) > 0:
        return schedule.last_time(steps)
    return limit - 0.01 * (limit - schedule.t_min) / steps
