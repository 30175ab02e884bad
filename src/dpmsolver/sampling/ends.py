"""The start and the end of the runs without a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.backends import Backend, arrays
from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.caution import warn_of_start
from dpmsolver.plans.plan import Point
from dpmsolver.sampling.calls import Calls
from dpmsolver.sampling.finite import require_finite
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.schedules.span import default_start, one_time, scale_of_start
from dpmsolver.solvers.exponential import exponential_step

__all__ = ["RunEnds", "run_ends"]


@dataclass(frozen=True)
class RunEnds:
    """The start and the end of an adaptive run.

    Args:
        schedule: the noise schedule.
        start, end: the times.
        half_log_snr: the half-log-SNR of both.
        belongs: the time whose standard deviation x_T has.
        scale: the factor that gives x_T the standard deviation of `start`.
        to_zero: whether one more step leads from `end` to clean data.
    """

    schedule: NoiseSchedule
    start: float
    end: float
    half_log_snr: NDArray[np.float64]
    belongs: float
    scale: float
    to_zero: bool

    def state(self, backend: Backend, x_T: Any) -> Any:
        """Return the state at the start: x_T, checked and scaled to the standard deviation at the start."""
        x = backend.state(x_T)
        require_finite(backend, x, "x_T")
        if self.end < self.start:
            warn_of_start(x, arrays.deviation(backend, x), Point.at(self.schedule, self.belongs))
        return x if self.scale == 1.0 else backend.combine([self.scale], [x])

    def finished(self, calls: Calls, x: Any) -> Any:
        """Return the result of a run from its state at `end`, with one more evaluation and step where the run ends at clean data."""
        if not self.to_zero:
            return x
        source, target = (Point.at(self.schedule, t) for t in (self.end, 0.0))
        step = exponential_step(calls.prediction, source, target, [source])
        with calls.backend.autograd.no_grad():
            return calls.backend.combine([step.state, *step.outputs], [x, calls(x, [source] * len(x))])


def run_ends(denoiser: Denoiser, start: float | None, end: float | None) -> RunEnds:
    """Return the start and the end of a run.

    The defaults are those of plans, except that a run ends at the last time worth an evaluation if little noise is left there.
    """
    schedule, last = denoiser.schedule, denoiser.schedule.last_time(20)
    belongs, scale = start, 1.0
    if start is None:
        belongs, start = schedule.default_start(), default_start(schedule, denoiser.predicts, needs_signal=True)
        scale = scale_of_start(schedule, start)
    start = one_time(schedule, "start", start)
    belongs = start if belongs is None else float(belongs)
    if end is None:
        end = last if start > last and not schedule.leaves_noise(last) else 0.0
    end = one_time(schedule, "end", end)
    to_zero = end == 0.0
    if to_zero:
        end = last if start > last else schedule.t_min
    lams: NDArray[np.float64] = schedule.half_log_snr(np.array([start, end]))
    if not np.isfinite(lams).all() or (lams[0] == lams[1] and not to_zero):
        raise PlanError(
            f"an adaptive run needs two different times with 0 < alpha and 0 < sigma, got start={start}, end={end}"
        )
    return RunEnds(schedule, start, end, lams, belongs, scale, to_zero)
