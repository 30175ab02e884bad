"""The names of the grids, and the function that makes and checks the times of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids.diffusers_spacing import leading, linspace, trailing
from dpmsolver.grids.ends import AnyGrid, Grid
from dpmsolver.grids.formulas import (
    beta,
    cosine,
    karras,
    kl_optimal,
    linear_quadratic,
    logsnr,
    polyexponential,
    quadratic,
    rectified,
    sigma,
    time,
)
from dpmsolver.grids.published import ays_sd15, ays_sdxl, ays_svd
from dpmsolver.grids.shifts import dynamic_shift, shifted
from dpmsolver.grids.training_steps import normal, sgm_uniform, simple
from dpmsolver.host import to_host
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.schedules.span import LITTLE_SIGNAL, default_end, default_start, one_time

__all__ = [
    "GRIDS",
    "SOURCES",
    "AnyGrid",
    "Grid",
    "are_times",
    "check_times",
    "default_grid",
    "from_labels",
    "from_sigmas",
    "make_grid",
]

GRIDS: dict[str, Grid] = {
    "logsnr": logsnr,
    "exponential": logsnr,
    "polyexponential": polyexponential,
    "karras": karras,
    "sigma-polynomial": karras,
    "sigma": sigma,
    "rectified": rectified,
    "time": time,
    "quadratic": quadratic,
    "cosine": cosine,
    "beta": beta,
    "kl-optimal": kl_optimal,
    "linear-quadratic": linear_quadratic,
    "simple": simple,
    "normal": normal,
    "sgm-uniform": sgm_uniform,
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
    "shifted": shifted,
    "dynamic-shift": dynamic_shift,
    "ays-sd15": ays_sd15,
    "ays-sdxl": ays_sdxl,
    "ays-svd": ays_svd,
}

# Where a grid comes from, for `Plan.cite`; those without an author are not here.
_EDM, _AYS, _SD3 = (
    "Karras et al. 2022, arXiv 2206.00364, eq. 5",
    "Sabour et al. 2024, arXiv 2404.14507",
    "Esser et al. 2024, arXiv 2403.03206",
)
SOURCES: dict[str, str] = {
    **dict.fromkeys(("karras", "sigma-polynomial"), _EDM),
    "cosine": "Du et al. 2024, arXiv 2407.05407",
    "beta": "Lee et al. 2024, arXiv 2407.12173",
    "kl-optimal": _AYS,
    **dict.fromkeys(("shifted", "dynamic-shift"), _SD3),
    **dict.fromkeys(("ays-sd15", "ays-sdxl", "ays-svd"), f"{_AYS}, table 3"),
    **dict.fromkeys(("simple", "normal", "sgm-uniform"), "ComfyUI, comfy/samplers.py"),
    **dict.fromkeys(("trailing", "leading", "linspace"), "diffusers, timestep_spacing"),
}


def make_grid(
    schedule: NoiseSchedule,
    steps: int,
    grid: AnyGrid | None = None,
    start: float | None = None,
    end: float | None = None,
    *,
    nfe: int | None = None,
    **options: Any,
) -> Floats:
    """Return the times of a run: float64 of shape (steps + 1,), strictly monotone from `start` to `end`.

    If the grid of a run to clean data would go below the schedule's first time (many steps, or a short run), the last time before the end
    is the schedule's first time.

    Args:
        schedule: the noise schedule.
        steps: the number of steps, an integer >= 1.
        grid: a name of `GRIDS`, a function (schedule, steps, start, end) -> times, an array of steps + 1 times, or None for
            `default_grid`.
        start, end: times; by default the schedule's own start, and its end for the budget. start < end runs the ODE backwards.
        nfe: the budget of the run, which determines the default end; by default one evaluation a step.
        options: the options of the grid, by the names of its function's arguments: `rho` of karras, `a` and `b` of beta, `shift` of
            shifted, `image_seq_len` of dynamic-shift, `round` of trailing, `steps_offset` and `keep_last` of leading, …

    Raises:
        PlanError: the grid is unknown, or the times lie outside the schedule, are not strictly monotone, or are not steps + 1 in number.

    Examples:
        >>> from dpmsolver.schedules import Flow, LinearVP
        >>> make_grid(LinearVP(), 2, "time", start=1.0, end=0.5)
        array([1.  , 0.75, 0.5 ])
        >>> make_grid(Flow(), 3, "quadratic", start=5e-4)  # a network of this flow is not evaluated below 1e-4
        array([0.0005   , 0.0002618, 0.0001   , 0.       ])
    """
    if are_times(grid):
        if start is not None or end is not None or options:
            raise PlanError(
                "an array of times already says where the run starts and ends: drop start, end and grid options"
            )
        times = _snapped(schedule, to_host(grid))
        check_times(schedule, times)
    else:
        start = default_start(schedule) if start is None else one_time(schedule, "start", start)
        end = default_end(schedule, nfe or steps, start) if end is None else one_time(schedule, "end", end)
        if start == end:
            raise PlanError(f"a run needs two different times, got start={start:.6g} and end={end:.6g}")
        name = default_grid(schedule, start, end) if grid is None else grid
        if isinstance(name, str) and name not in GRIDS:
            raise PlanError(unknown("grid", name, GRIDS, "dpm.grids.GRIDS"))
        function: Any = GRIDS[name] if isinstance(name, str) else name
        if getattr(function, "takes_last", False):
            options["last"] = schedule.last_time(nfe or steps)
        times = _inside(schedule, function, steps, start, end, options)
        try:
            check_times(schedule, times)
        except PlanError as error:
            said = repr(name) if isinstance(name, str) else getattr(name, "__name__", "your own")
            raise PlanError(
                f"grid {said} cannot take {steps} steps from start={start:.6g} to end={end:.6g}: {error}"
            ) from None
    if len(times) != steps + 1:
        raise PlanError(f"{steps} steps need {steps + 1} times, the grid has {len(times)}")
    return times


def are_times(grid: object) -> bool:
    """Return whether a grid is an array of times, and not a name, a function or None."""
    return not (grid is None or isinstance(grid, str) or callable(grid))


def _inside(
    schedule: NoiseSchedule, grid: Grid, steps: int, start: float, end: float, options: dict[str, Any]
) -> Floats:
    """A grid's times. Where some lie between clean data and the schedule's first time, the grid ends at this one, and one step is left."""
    times = np.array(grid(schedule, steps, start, end, **options), dtype=np.float64)
    if 0.0 not in (start, end) or not ((times > 0.0) & (times < schedule.t_min * (1.0 - 1e-9))).any():
        return times
    first = schedule.t_min
    if steps > 1 and max(start, end) <= first:
        raise PlanError(
            f"a run between t={max(start, end):.6g} and clean data has room for one step, not {steps}: "
            f"this schedule's network is evaluated down to t={first:.6g}"
        )
    if end == 0.0:
        return np.append(grid(schedule, steps - 1, start, first, **options), 0.0)
    return np.append(0.0, grid(schedule, steps - 1, first, end, **options))


def _snapped(schedule: NoiseSchedule, times: Floats, tolerance: float = 1e-6) -> Floats:
    """Times of float32 or of a rounded table, with those that lie outside the schedule by rounding alone moved to its ends."""
    with np.errstate(invalid="ignore"):
        for end, outside in ((schedule.t_max, times > schedule.t_max), (schedule.t_min, times < schedule.t_min)):
            times = np.where(outside & (abs(times - end) <= tolerance * end), end, times)
    return times


def default_grid(schedule: NoiseSchedule, start: float, end: float) -> str:
    """Return the name of the grid that a run uses by default: "time" from or to very little signal (as in flows), else "logsnr"."""
    return "time" if min(schedule.alpha(start), schedule.alpha(end)) < LITTLE_SIGNAL else "logsnr"


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


_ROUNDED = 5e-3  # relative: three digits


def from_sigmas(schedule: NoiseSchedule, sigmas: ArrayLike) -> Floats:
    """Return the times of noise levels sigma/alpha, as k-diffusion and EDM count them; level 0 is clean data.

    Levels may be float32 or rounded to three digits: a level that rounds to an end of the schedule becomes that end.

    Raises:
        PlanError: a level is negative or lies outside the schedule.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> from_sigmas(EDM(), [80.0, 1.0, 0.0])
        array([80.,  1.,  0.])
    """
    levels = _numbers("sigmas", sigmas)
    top, bottom = (math.exp(-float(schedule.half_log_snr(t))) for t in (schedule.t_min, schedule.t_max))
    clean = levels == 0.0
    bad = ~clean & ~((levels >= top * (1.0 - _ROUNDED)) & (levels <= bottom * (1.0 + _ROUNDED)))
    if bad.any():
        raise PlanError(
            f"sigma {levels[bad][0]:.6g} is outside this schedule: accepted are {top:.6g} <= sigma <= {bottom:.6g} and 0: {schedule!r}"
        )
    with np.errstate(divide="ignore"):
        times: Floats = schedule.time(-np.log(np.where(clean, 0.0, np.clip(levels, top, bottom))))
    for end, level in ((schedule.t_min, top), (schedule.t_max, bottom)):
        times = np.where(np.isclose(np.clip(levels, top, bottom), level, rtol=1e-12, atol=0.0) & ~clean, end, times)
    return times


def from_labels(schedule: NoiseSchedule, labels: ArrayLike) -> Floats:
    """Return the times of network labels, such as the integer timesteps of diffusers. Append the end of the run yourself.

    Labels may be float32 or rounded to three digits: a label that rounds to an end of the schedule becomes that end.

    Raises:
        PlanError: a label lies outside the schedule.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.schedules import Discrete
        >>> from_labels(Discrete(betas=np.linspace(1e-4, 0.02, 1000)), [999, 499])
        array([1. , 0.5])
    """
    given = _numbers("labels", labels)
    times = _snapped(schedule, np.array([schedule.time_from_label(float(n)) for n in given]), _ROUNDED)
    bad = (times != 0.0) & ~((times >= schedule.t_min) & (times <= schedule.t_max))
    if bad.any():
        ends = sorted(schedule.label(t) for t in (schedule.t_min, schedule.t_max))
        raise PlanError(
            f"label {given[bad][0]:.6g} is outside this schedule: accepted are {ends[0]:.6g} to {ends[1]:.6g}: {schedule!r}"
        )
    return times


def _numbers(name: str, values: ArrayLike) -> Floats:
    """A vector of float64 from a caller's list, array or tensor, wherever it lies."""
    array = to_host(values)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise PlanError(f"{name} must be a vector of finite numbers, got shape {array.shape}")
    return array
