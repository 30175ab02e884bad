"""Network calls of the runs without a plan, in which every sample may be at a point of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.lending import Lending
from dpmsolver.networks.reading import evaluate
from dpmsolver.plans.combination import Prediction
from dpmsolver.plans.rows import Point, columns
from dpmsolver.sampling.finite import require_finite_output

__all__ = ["Calls"]


@dataclass
class Calls:
    """A network whose evaluations are counted and checked for NaN, with one point for each sample of the batch.

    Args:
        denoiser, backend: the network, and the framework of the states.
        prediction: the form, "noise" or "data".
        max_nfe: the largest number of evaluations; one more raises SamplingError.

    Attributes:
        nfe: evaluations of the batch so far.
    """

    denoiser: Denoiser
    backend: Backend
    prediction: Prediction
    max_nfe: int
    nfe: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.dtype = self.backend.network_dtype(self.denoiser.network, self.denoiser.dtype)
        self.lending = Lending(self.backend)

    def __call__(self, x: Any, points: list[Point]) -> Any:
        """Evaluate the network on x, whose sample i is at points[i]."""
        if self.nfe >= self.max_nfe:
            raise SamplingError(
                f"the adaptive run used up max_nfe={self.max_nfe} evaluations: loosen atol and rtol, or allow more"
            )
        each: dict[str, Any] = columns(points)
        times = each["time"]
        if self.nfe == 0 and self.denoiser.guidance is not None:
            rule = getattr(self.denoiser.guidance, "rule", None)
            if rule is not None and (rule.remembers or rule.zero):
                raise PlanError(
                    f"{rule} depends on the evaluations before, of which an adaptive run makes some in vain: take a plan, with dpm.sample"
                )
            self.denoiser.guidance.check(len(x), [times])
        here = Point(**each)
        raw, steer = self.denoiser.call(self.backend, x, here, self.dtype, self.lending)
        self.nfe += 1
        where = f"at evaluation {self.nfe}, at times {times.min():.6g} to {times.max():.6g}"
        require_finite_output(self.backend, raw, where)
        coefficients = self.denoiser.conversion(self.prediction, here.alpha, here.sigma)
        return evaluate(self.denoiser, self.backend, self.prediction, x, raw, steer, here, coefficients)
