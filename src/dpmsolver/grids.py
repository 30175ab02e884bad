"""Grids: where the steps of a run go.

A grid is a function (schedule, steps, start, end) -> float64 times of shape (steps + 1,), strictly monotone from `start` to `end`.
It is chosen apart from the solver and means one thing, whatever solver uses it. `start` and `end` are times; end = 0 is clean data.
A grid that is even in log-SNR cannot reach an infinite one: it then covers the finite range and one step goes to the limit.

Your own grid: an array of times, or any function with this signature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError, unknown
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = [
    "GRIDS",
    "Grid",
    "beta",
    "check_times",
    "from_labels",
    "from_sigmas",
    "karras",
    "logsnr",
    "make_grid",
    "quadratic",
    "shifted",
    "time",
    "trailing",
]

Grid: TypeAlias = Callable[..., Floats]


def _between_limits(grid: Grid) -> Grid:
    """Let a grid over log-SNR start or end at alpha = 0 or sigma = 0: one step to each limit, the grid between."""

    @wraps(grid)
    def with_limits(schedule: NoiseSchedule, steps: int, start: float, end: float, **options: float) -> Floats:
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


@_between_limits
def logsnr(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Uniform in half-log-SNR: the grid of DPM-Solver (section 3.4); k-diffusion's "exponential" sigmas."""
    return _from_half_log_snr(
        schedule, np.linspace(schedule.half_log_snr(start), schedule.half_log_snr(end), steps + 1), start, end
    )


@_between_limits
def karras(schedule: NoiseSchedule, steps: int, start: float, end: float, rho: float = 7.0) -> Floats:
    """Uniform in (sigma/alpha)^(1/rho): the grid of EDM (Karras et al. 2022, eq. 5)."""
    if not rho > 0:
        raise PlanError(f"rho must be positive, got {rho}")
    low, high = (math.exp(-float(schedule.half_log_snr(t)) / rho) for t in (start, end))
    return _from_half_log_snr(schedule, -rho * np.log(np.linspace(low, high, steps + 1)), start, end)


def time(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Uniform in time."""
    return np.linspace(start, end, steps + 1)


def quadratic(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Uniform in the square root of time (DDIM, appendix D.3)."""
    return _pinned(np.linspace(math.sqrt(start), math.sqrt(end), steps + 1) ** 2, start, end)


def trailing(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Uniform in time towards 0, with the last knot moved to `end` ("trailing" of Lin et al. 2024, without rounding to integers).

    A rising grid is the falling one read backwards.
    """
    if start < end:
        return trailing(schedule, steps, end, start)[::-1]
    if steps > 1 and start <= steps * end * (1 + 1e-12):
        most = max(1, math.ceil(start / end - 1e-6) - 1)
        raise PlanError(
            f"a trailing grid from t={start} to t={end} has room for {most} steps, not {steps}: take fewer, or grid='time'"
        )
    times = np.linspace(start, 0.0, steps + 1)
    times[-1] = end
    return times


def beta(schedule: NoiseSchedule, steps: int, start: float, end: float, a: float = 0.6, b: float = 0.6) -> Floats:
    """Times at the quantiles of a Beta(a, b) distribution: dense at both ends for a, b < 1 (Lee et al. 2024, arXiv 2407.12173)."""
    if not (a > 0 and b > 0):
        raise PlanError(f"a and b must be positive, got a={a}, b={b}")
    from scipy.special import betaincinv  # here, because it is slow to import

    quantiles = betaincinv(a, b, np.linspace(1.0, 0.0, steps + 1))
    return _pinned(end + (start - end) * quantiles, start, end)


def shifted(schedule: NoiseSchedule, steps: int, start: float, end: float, shift: float = 3.0) -> Floats:
    """The flow shift t -> shift t / (1 + (shift - 1) t) of a uniform grid, for times in [0, 1] (Esser et al. 2024, eq. 23)."""
    if not shift > 0 or max(start, end) > 1:
        raise PlanError(
            f"the shifted grid needs shift > 0 and times in [0, 1], got shift={shift}, start={start}, end={end}"
        )
    first, last = (t / (shift - (shift - 1.0) * t) for t in (start, end))
    even = np.linspace(first, last, steps + 1)
    return _pinned(shift * even / (1.0 + (shift - 1.0) * even), start, end)


def from_sigmas(schedule: NoiseSchedule, sigmas: ArrayLike) -> Floats:
    """Times from noise levels sigma/alpha as k-diffusion and EDM count them; 0 is clean data.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> from_sigmas(EDM(), [80.0, 1.0, 0.0])
        array([80.,  1.,  0.])
    """
    with np.errstate(divide="ignore"):
        return np.asarray(schedule.time(-np.log(np.asarray(sigmas, dtype=np.float64))), dtype=np.float64)


def from_labels(schedule: NoiseSchedule, labels: ArrayLike) -> Floats:
    """Times from network labels, such as the integer timesteps of diffusers (append the end of the run yourself)."""
    return np.array([schedule.time_from_label(float(n)) for n in np.asarray(labels, dtype=np.float64)])


def _from_half_log_snr(schedule: NoiseSchedule, half_log_snr: Floats, start: float, end: float) -> Floats:
    return _pinned(np.asarray(schedule.time(half_log_snr)), start, end)


def _pinned(times: Floats, start: float, end: float) -> Floats:
    times[0], times[-1] = start, end
    return times


GRIDS: dict[str, Grid] = {
    "logsnr": logsnr,
    "exponential": logsnr,
    "karras": karras,
    "time": time,
    "quadratic": quadratic,
    "trailing": trailing,
    "beta": beta,
    "shifted": shifted,
}


def make_grid(
    schedule: NoiseSchedule,
    steps: int,
    grid: str | Grid | ArrayLike | None = None,
    start: float | None = None,
    end: float | None = None,
    **options: Any,
) -> Floats:
    """The times of a run: float64 of shape (steps + 1,), strictly monotone.

    Args:
        grid: a name (`GRIDS`), a function (schedule, steps, start, end) -> times, an array of steps + 1 times, or None: "logsnr",
            and "time" for a run from or to alpha = 0.
        start, end: times; by default `schedule.default_start()` and `schedule.default_end(steps)`. start < end runs the ODE backwards.
        options: of the grid: `rho` of karras, `a` and `b` of beta, `shift` of shifted.

    Raises:
        PlanError: unknown grid, times outside the schedule, duplicate or non-monotone times, another number of them than steps + 1.

    Examples:
        >>> from dpmsolver.schedules import LinearVP
        >>> make_grid(LinearVP(), 2, "time", start=1.0, end=0.5)
        array([1.  , 0.75, 0.5 ])
    """
    given = not (grid is None or isinstance(grid, str) or callable(grid))
    if given:
        if start is not None or end is not None or options:
            raise PlanError(
                "an array of times already says where the run starts and ends: drop start, end and grid options"
            )
        times = np.array(grid, dtype=np.float64)
    else:
        start = schedule.default_start() if start is None else float(start)
        end = schedule.default_end(steps) if end is None else float(end)
        check_times(schedule, np.array([start, end]))
        if grid is None:
            grid = "time" if -math.inf in (schedule.half_log_snr(start), schedule.half_log_snr(end)) else "logsnr"
        if isinstance(grid, str):
            if grid not in GRIDS:
                raise PlanError(unknown("grid", grid, GRIDS))
            grid = GRIDS[grid]
        assert callable(grid)
        times = np.asarray(grid(schedule, steps, start, end, **options), dtype=np.float64)
    check_times(schedule, times)
    if len(times) != steps + 1:
        raise PlanError(f"{steps} steps need {steps + 1} times, the grid has {len(times)}")
    return times


def check_times(schedule: NoiseSchedule, times: Floats) -> None:
    """Raise PlanError unless `times` is a strictly monotone vector of at least two times inside the schedule."""
    if times.ndim != 1 or len(times) < 2:
        raise PlanError(f"a grid is a vector of at least two times, got shape {times.shape}")
    try:
        schedule.half_log_snr(times)
    except ValueError as error:
        raise PlanError(str(error)) from None
    steps = np.diff(times)
    if not (np.all(steps < 0) or np.all(steps > 0)):
        where = int(np.flatnonzero(np.sign(steps) != np.sign(times[-1] - times[0]))[0]) if times[-1] != times[0] else 0
        raise PlanError(
            f"times must fall (or, to encode, rise) strictly: {times[where]} is followed by {times[where + 1]} at index {where}"
        )
