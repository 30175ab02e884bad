"""Rows: the network evaluations of a plan, each at a point of the schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpmsolver.plans import shown
from dpmsolver.plans.combination import Combination
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["Point", "Row", "columns"]


@dataclass(frozen=True)
class Point:
    """A point of the schedule.

    Args:
        time: the schedule's time.
        label: the network's label for that time.
        alpha, sigma: the signal coefficient and the noise standard deviation.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> Point.at(Flow(), 0.5)
        Point(time=0.5, label=0.5, alpha=0.5, sigma=0.5)
    """

    time: float
    label: float
    alpha: float
    sigma: float

    @classmethod
    def at(cls, schedule: NoiseSchedule, time: float) -> Point:
        """Return the point of a schedule at a time. Raise ValueError for a time outside the schedule."""
        time = float(time)
        return cls(time, schedule.label(time), float(schedule.alpha(time)), float(schedule.sigma(time)))

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha/sigma), the half-log-SNR."""
        if self.sigma == 0.0:
            return math.inf
        return -math.inf if self.alpha == 0.0 else math.log(self.alpha) - math.log(self.sigma)

    @property
    def rho(self) -> float:
        """sigma/alpha, the noise level in the units of EDM and k-diffusion."""
        return math.inf if self.alpha == 0.0 else self.sigma / self.alpha


def columns(points: Sequence[Point]) -> dict[str, Floats]:
    """Return time, label, alpha and sigma of points, each as a float64 vector."""
    return {name: np.array([getattr(p, name) for p in points]) for name in ("time", "label", "alpha", "sigma")}


@dataclass(frozen=True)
class Row:
    """One network evaluation of a plan.

    Args:
        point: where the network is evaluated.
        advance: the step that replaces the state x; None leaves x as it is.
        predict: the step that computes the next input u from the new x; None: the next input is x.
        output: what the run keeps of the evaluation in place of m, a combination of the network's input u and of m. Calibrated solvers use
            it.

    Examples:
        >>> from dpmsolver.plans import Combination
        >>> from dpmsolver.schedules import Flow
        >>> Row(Point.at(Flow(), 0.8), advance=Combination(0.5, (0.5,)))
        <Row t=0.8: x <- +0.5 x +0.5 m>
    """

    point: Point
    advance: Combination | None = None
    predict: Combination | None = None
    output: Combination | None = None

    def __repr__(self) -> str:
        return shown.row_line(self)
