"""The names of the grids, and the one function that makes and checks the times of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids.diffusers_spacing import leading, linspace, trailing
from dpmsolver.grids.ends import Grid
from dpmsolver.grids.formulas import beta, cosine, karras, logsnr, polyexponential, quadratic, sigma, time
from dpmsolver.grids.published import ays_sd15, ays_sdxl, ays_svd
from dpmsolver.grids.shifts import dynamic_shift, shifted
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["GRIDS", "Grid", "check_times", "default_grid", "from_labels", "from_sigmas", "make_grid"]

GRIDS: dict[str, Grid] = {
    "logsnr": logsnr,
    "exponential": logsnr,
    "polyexponential": polyexponential,
    "karras": karras,
    "sigma-polynomial": karras,
    "sigma": sigma,
    "time": time,
    "quadratic": quadratic,
    "cosine": cosine,
    "beta": beta,
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "shifted": shifted,
    "dynamic-shift": dynamic_shift,
    "ays-sd15": ays_sd15,
    "ays-sdxl": ays_sdxl,
    "ays-svd": ays_svd,
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
        options: of the grid, named as the arguments of its function: `rho` of karras, `a` and `b` of beta, `shift` of shifted,
            `image_seq_len` of dynamic-shift, `round` of trailing, `steps_offset` and `keep_last` of leading, …

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
            grid = default_grid(schedule, start, end)
        if isinstance(grid, str):
            if grid not in GRIDS:
                raise PlanError(unknown("grid", grid, GRIDS, "dpm.grids.GRIDS"))
            grid = GRIDS[grid]
        assert callable(grid)
        times = np.asarray(grid(schedule, steps, start, end, **options), dtype=np.float64)
    check_times(schedule, times)
    if len(times) != steps + 1:
        raise PlanError(f"{steps} steps need {steps + 1} times, the grid has {len(times)}")
    return times


def default_grid(schedule: NoiseSchedule, start: float, end: float) -> str:
    """The name of the grid of a run that names none: "logsnr", and "time" from or to alpha = 0."""
    return "time" if -math.inf in (schedule.half_log_snr(start), schedule.half_log_snr(end)) else "logsnr"


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
