"""Grids that count training steps like ComfyUI: simple, normal and sgm-uniform.

They work for `Discrete` schedules, whose N steps they count, and for `Flow`, where ComfyUI counts 1000 steps. All of them end in a step
from above the first training step. ComfyUI rounds the sigmas to float32 and interpolates log sigma between training steps, where `Discrete`
interpolates log alpha.

Source: ComfyUI, comfy/samplers.py: simple_scheduler, normal_scheduler.
"""

from __future__ import annotations

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.grids.ends import either_way, pinned
from dpmsolver.schedules import Discrete, Floats, Flow, NoiseSchedule

__all__ = ["normal", "sgm_uniform", "simple"]

_STEPS_OF_A_FLOW = 1000


@either_way
def simple(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return training steps at even distances, from the last one down, each rounded towards the last one, and the end.

    Raises:
        PlanError: the schedule has no training steps or too few of them, or the end does not lie below the last chosen one.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> (simple(Flow(), 3, 1.0, 0.0)).round(4)
        array([1.   , 0.667, 0.334, 0.   ])
    """
    count = _training_steps(schedule, "simple")
    most = round(start * count)
    return _ended((most - np.floor(np.arange(steps) * (most / steps) + 1e-9)) / count, start, end, "simple")


@either_way
def normal(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times with even steps from the start to the first training step, and one more step to the end. Raise as `simple`.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> normal(Flow(), 3, 1.0, 0.0).round(4)
        array([1.    , 0.5005, 0.001 , 0.    ])
    """
    return _ended(np.linspace(start, _first(schedule, "normal"), steps), start, end, "normal")


@either_way
def sgm_uniform(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times with even steps from the start to the first training step, which the end replaces. Raise as `simple`.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> sgm_uniform(Flow(), 3, 1.0, 0.0).round(4)
        array([1.   , 0.667, 0.334, 0.   ])
    """
    first = _first(schedule, "sgm-uniform")
    return _ended(np.linspace(start, first, steps + 1)[:-1], start, end, "sgm-uniform")


def _training_steps(schedule: NoiseSchedule, grid: str) -> int:
    if isinstance(schedule, Discrete):
        return schedule.num_steps
    if isinstance(schedule, Flow):
        return _STEPS_OF_A_FLOW
    raise PlanError(
        f"{grid} counts training steps and needs a Discrete schedule or a Flow, not {schedule!r}: take grid='time'"
    )


def _first(schedule: NoiseSchedule, grid: str) -> float:
    """The time of the first training step; of a flow ComfyUI takes its sigma for the time, which a shift tells apart."""
    first = 1.0 / _training_steps(schedule, grid)
    return float(schedule.sigma(first)) if isinstance(schedule, Flow) else first


def _ended(times: Floats, start: float, end: float, grid: str) -> Floats:
    times = np.append(times, end)
    if not (np.diff(times) < 0).all():
        raise PlanError(
            f"grid {grid!r} has no room for {len(times) - 1} steps from t={start:.6g} to t={end:.6g}, with a training step above the end: "
            "take fewer, end=0.0, or grid='time'"
        )
    return pinned(times, start, end)
