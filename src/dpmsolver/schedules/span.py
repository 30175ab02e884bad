"""The default start and end of a run.

Two rules apply to every solver. First, a network that predicts noise or score is not evaluated below half-log-SNR -5.1: the predicted
x_0 is (x - sigma eps)/alpha, so that an error of 0.01 in eps becomes 0.01 e^5.1 = 1.6 in x_0 there, and 200 at the last step of 1000
cosine betas. Second, a solver that has no limit at alpha = 0 starts just above it.

Source of -5.1: the official code of DPM-Solver (Lu et al. 2022, arXiv 2206.00927), which ends cosine schedules there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.schedules import NoiseSchedule

__all__ = [
    "LARGEST_FACTOR",
    "LITTLE_SIGNAL",
    "default_end",
    "default_start",
    "has_little_signal",
    "one_time",
    "scale_of_start",
]

LARGEST_FACTOR = 1e3  # by which a network's output may be multiplied without a warning
LITTLE_SIGNAL = (
    2.5e-3  # alpha below which a schedule counts as one that starts from pure noise: 0.006 are 1000 linear betas
)
_LOWEST_FOR_NOISE = -5.1
_JUST_ABOVE = -math.log(LARGEST_FACTOR)  # alpha/sigma = 1e-3, where solvers start that have no limit at alpha = 0


def default_start(schedule: NoiseSchedule, predicts: str | None = None, *, needs_signal: bool = False) -> float:
    """Return the time at which a run starts by default: the schedule's own start, or the first time after it that can be used.

    Args:
        schedule: the noise schedule.
        predicts: what the network predicts; None if that is not known.
        needs_signal: the solver has no limit at alpha = 0; it starts where alpha/sigma is 1e-3.

    Examples:
        >>> from dpmsolver.schedules import Flow, LinearVP
        >>> default_start(LinearVP(), "noise"), default_start(Flow(), "velocity")
        (1.0, 1.0)
        >>> round(default_start(Flow(), "noise"), 4), round(default_start(Flow(), "velocity", needs_signal=True), 4)
        (0.9939, 0.999)
    """
    start = schedule.default_start()
    here = float(schedule.half_log_snr(start))
    lowest = _LOWEST_FOR_NOISE if predicts in ("noise", "score") else -math.inf
    if needs_signal:
        lowest = max(lowest, _JUST_ABOVE)
    if here >= lowest or schedule.half_log_snr(schedule.t_min) <= lowest:
        return start
    return float(schedule.time(lowest))


def scale_of_start(schedule: NoiseSchedule, start: float) -> float:
    """Return the factor that x_T, drawn for the schedule's own start, needs in a run that starts at another time.

    The factor is 1 if both standard deviations agree within 1 %, as they do unless the variance explodes. Otherwise it is their ratio: x_T
    is scaled as if the network had predicted, between the two times, that all of x_T is noise.

    Examples:
        >>> from dpmsolver.schedules import EDM, CosineVP
        >>> round(scale_of_start(EDM(sigma_max=700.0), 70.0), 6), scale_of_start(CosineVP(t_max=1.0), 0.99)
        (0.1, 1.0)
    """
    factor = float(schedule.sigma(start) / schedule.sigma(schedule.default_start()))
    return factor if abs(factor - 1.0) > 0.01 else 1.0


def default_end(schedule: NoiseSchedule, nfe: int, start: float, *, needs_noise: bool = False) -> float:
    """Return the time at which a run from `start` ends by default. The end is never noisier than the start.

    Args:
        nfe: the budget of the whole run, so that all solvers end at one time.
        needs_noise: the solver has no step to sigma = 0.

    Raises:
        PlanError: the run would start at its end.
    """
    end = schedule.last_time(nfe) if needs_noise else schedule.default_end(nfe)
    if start > end:
        return end
    if not needs_noise and start >= schedule.t_min:
        return 0.0
    if start > schedule.t_min:
        return schedule.t_min
    raise PlanError(
        f"there is nothing to be done from start={start:.6g}: this schedule's network is evaluated down to t={schedule.t_min:.6g}"
    )


def has_little_signal(schedule: NoiseSchedule) -> bool:
    """Return whether runs of this schedule start at pure noise or very near it, like those of flows and of zero terminal SNR."""
    return float(schedule.alpha(schedule.default_start())) < LITTLE_SIGNAL


def one_time(schedule: NoiseSchedule, name: str, value: Any) -> float:
    """Return a caller's `start` or `end` as a float. Raise PlanError unless it is one time inside the schedule."""
    if np.ndim(value) or isinstance(value, (bool, str, bytes)):
        shape = f" of shape {tuple(np.shape(value))}" if np.ndim(value) else ""
        raise PlanError(f"{name} must be one time for the whole batch, a number, got {type(value).__name__}{shape}")
    time = float(to_host(value))
    try:
        schedule.half_log_snr(time)
    except ValueError:
        raise PlanError(
            f"{name}={time:.6g} is outside this schedule: accepted are {schedule.t_min:.6g} <= {name} <= {schedule.t_max:.6g} "
            f"and 0 (clean data): {schedule!r}"
        ) from None
    return time
