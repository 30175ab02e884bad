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
    """A place on the schedule: its time, the network's label for it, alpha and sigma."""

    time: float
    label: float
    alpha: float
    sigma: float

    @classmethod
    def at(cls, schedule: NoiseSchedule, time: float) -> Point:
        """The point of a schedule at a time. ValueError outside the schedule."""
        time = float(time)
        return cls(time, schedule.label(time), float(schedule.alpha(time)), float(schedule.sigma(time)))

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha/sigma)."""
        if self.sigma == 0.0:
            return math.inf
        return -math.inf if self.alpha == 0.0 else math.log(self.alpha) - math.log(self.sigma)

    @property
    def rho(self) -> float:
        """sigma/alpha, the noise level as EDM and k-diffusion count it."""
        return math.inf if self.alpha == 0.0 else self.sigma / self.alpha


def columns(points: Sequence[Point]) -> dict[str, Floats]:
    """time, label, alpha and sigma of points, each as a float64 vector."""
    return {name: np.array([getattr(p, name) for p in points]) for name in ("time", "label", "alpha", "sigma")}


@dataclass(frozen=True)
class Row:
    """One network evaluation: where (`point`), the step that commits the state, and the one that makes the next evaluation's input.

    `output` is what a calibrated solver keeps of the evaluation instead of m: a combination of the network's input u and of m.
    """

    point: Point
    advance: Combination | None = None
    predict: Combination | None = None
    output: Combination | None = None

    def __repr__(self) -> str:
        return shown.row_line(self)
