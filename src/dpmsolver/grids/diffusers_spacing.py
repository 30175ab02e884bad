"""The timestep spacings of diffusers (Lin et al. 2024, table 2): trailing, leading and linspace.

`trailing` without rounding works for every schedule. The others, and `trailing` with round=True, count whole training steps of a
`Discrete` schedule and give the integer timesteps of diffusers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError
from dpmsolver.grids.ends import either_way, pinned
from dpmsolver.option import Option, takes
from dpmsolver.schedules import Discrete, Floats, NoiseSchedule

__all__ = ["leading", "linspace", "trailing"]

_KEEP_LAST = Option("keep_last", "True or False", "whether the network is evaluated at the last point too")


@takes(Option("round", "True or False", "whether times are whole training steps"))
@either_way
def trailing(schedule: NoiseSchedule, steps: int, start: float, end: float, round: bool = False) -> Floats:
    """Return times uniform between `start` and 0, with the last one moved to `end` ("trailing" of Lin et al. 2024, arXiv 2305.08891).

    A rising grid is the falling one in reverse order.

    Args:
        round: round to whole training steps, like diffusers with timestep_spacing="trailing"; `Discrete` schedules only.

    Raises:
        PlanError: the steps do not fit between start and end, or round=True with a schedule without training steps.

    Examples:
        >>> from dpmsolver.schedules import LinearVP
        >>> trailing(LinearVP(), 4, 1.0, 0.001)
        array([1.   , 0.75 , 0.5  , 0.25 , 0.001])
    """
    most = steps  # to an end above 0 the last step must begin above it; to clean data, where the network may still be evaluated
    if steps > 1 and end > 0.0 and start <= steps * end * (1 + 1e-12):
        most = max(1, math.ceil(start / end - 1e-6) - 1)
    if steps > 1 and end == 0.0 and start < steps * schedule.t_min * (1 - 1e-12):
        most = max(1, math.floor(start / schedule.t_min + 1e-6))
    if most < steps:
        raise PlanError(
            f"a trailing grid from t={start} to t={end} has room for {most} steps, not {steps}: take fewer, or grid='time'"
        )
    if not round:
        return pinned(np.linspace(start, 0.0, steps + 1), start, end)
    discrete = _discrete(schedule, "trailing with round=True")
    count = discrete.label(start) + 1.0
    return _on_whole_steps(discrete, (count - np.arange(steps + 1) * (count / steps)).round() - 1.0, start, end)


@takes(_KEEP_LAST)
@either_way
def linspace(schedule: NoiseSchedule, steps: int, start: float, end: float, keep_last: bool = False) -> Floats:
    """Return times uniform over the training steps, from `start` down to the first step, rounded to whole steps.

    This is timestep_spacing="linspace" of diffusers, for `Discrete` schedules. The schedulers of diffusers treat the last point, step 0, in
    two ways: see `keep_last`.

    Args:
        keep_last: False: `end` replaces the last point (DPMSolverMultistep, UniPC, DEIS). True: the network is evaluated at the last
            point too, and one more step leads to `end`, which must lie below it: end=0.0 (DDIM, Euler, Heun, PNDM).

    Raises:
        PlanError: the schedule is not `Discrete`, there are more steps than training steps, or `end` does not lie below the last point.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.schedules import Discrete
        >>> schedule = Discrete(betas=np.linspace(1e-4, 0.02, 1000))
        >>> [schedule.label(t) for t in linspace(schedule, 4, 1.0, schedule.t_min)]
        [999.0, 749.0, 500.0, 250.0, 0.0]
    """
    discrete = _discrete(schedule, "linspace")
    highest = discrete.label(start)
    if keep_last:
        _check_below(discrete, end, 0)
        labels = np.append(np.linspace(0.0, highest, steps).round()[::-1], -1.0)
    else:
        labels = np.linspace(max(discrete.label(end), 0.0), highest, steps + 1).round()[::-1]
    return _on_whole_steps(discrete, labels, start, end)


@takes(Option("steps_offset", "a whole number", "added to every training step"), _KEEP_LAST)
@either_way
def leading(
    schedule: NoiseSchedule, steps: int, start: float, end: float, steps_offset: int = 0, keep_last: bool = False
) -> Floats:
    """Return every n-th training step counted from the first one, n = floor(N/points): timestep_spacing="leading" of diffusers.

    This grid alone does not begin at `start`: it leaves out the noisiest steps (10 points of 1000 begin at step 900), which Lin et al. 2024
    call a flaw. Use it to reproduce runs of diffusers, whose initial noise is that of the last training step nevertheless. It is for
    `Discrete` schedules and whole runs: start must be t_max.

    Args:
        steps_offset: added to every step; 1 for Stable Diffusion.
        keep_last: as in `linspace`. True requires an `end` below step `steps_offset`.

    Raises:
        PlanError: the schedule is not `Discrete`, start is not t_max, the offset is not an integer >= 0 or leads past the last training
            step, there are more steps than training steps, or `end` does not lie below the last point.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.schedules import Discrete
        >>> schedule = Discrete(betas=np.linspace(1e-4, 0.02, 1000))
        >>> [schedule.label(t) for t in leading(schedule, 4, 1.0, schedule.t_min, steps_offset=1, keep_last=True)]
        [751.0, 501.0, 251.0, 1.0, 0.0]
    """
    discrete = _discrete(schedule, "leading")
    if steps_offset != int(steps_offset) or steps_offset < 0:
        raise PlanError(f"steps_offset must be an integer >= 0, got {steps_offset}")
    if start != discrete.t_max:
        raise PlanError(
            f"leading spacing chooses its own start and serves whole runs only (t={discrete.t_max}), not t={start}: take grid='linspace'"
        )
    points = steps if keep_last else steps + 1
    labels = np.arange(points)[::-1] * float(discrete.num_steps // points) + steps_offset
    if labels[0] > discrete.num_steps - 1:
        raise PlanError(
            f"{steps} steps with steps_offset={steps_offset} lead past the last training step, {discrete.num_steps - 1}"
        )
    if keep_last:
        _check_below(discrete, end, steps_offset)
        labels = np.append(labels, -1.0)
    return _on_whole_steps(discrete, labels, discrete.time_from_label(float(labels[0])), end)


def _discrete(schedule: NoiseSchedule, spacing: str) -> Discrete:
    if not isinstance(schedule, Discrete):
        raise PlanError(
            f"{spacing} counts training steps and needs a Discrete schedule, not {schedule!r}: take grid='time'"
        )
    return schedule


def _check_below(schedule: Discrete, end: float, last: int) -> None:
    if schedule.label(end) >= last:
        raise PlanError(
            f"keep_last=True evaluates at step {last}, so the run must end below it: give end=0.0, not {end} (step {schedule.label(end):g})"
        )


def _on_whole_steps(schedule: Discrete, labels: ArrayLike, start: float, end: float) -> Floats:
    times = pinned((np.asarray(labels, dtype=np.float64) + 1.0) / schedule.num_steps, start, end)
    if not (np.diff(times) < 0).all():
        raise PlanError(
            f"{len(times) - 1} steps from t={start} to t={end} do not fall on different training steps: take fewer, or grid='time'"
        )
    return times
