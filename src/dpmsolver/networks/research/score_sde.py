"""Networks of score_sde: model(x, labels). Their SDE determines the labels and the prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.research.attributes import attribute, class_named, require_callable
from dpmsolver.schedules import EDM, Discrete, LinearVP, SubVP

__all__ = ["GeometricSteps", "score_sde"]

_SDES = ("VPSDE", "subVPSDE", "VESDE")


@dataclass(frozen=True)
class GeometricSteps(EDM):
    """The variance-exploding process of a network trained on N noise levels in a geometric sequence. Its label is the number of a step.

    Step 0 is the noisiest, with sigma_max; step N - 1 has sigma_min. Between steps the label is a fraction.

    Examples:
        >>> schedule = GeometricSteps(0.01, 100.0, num_steps=5)
        >>> labels = [round(schedule.label(sigma), 6) for sigma in (100.0, 1.0, 0.01)]
        >>> labels, round(schedule.time_from_label(1.0), 6)
        ([0.0, 2.0, 4.0], 10.0)

    Source: Song & Ermon 2019, arXiv 1907.05600, section 4.3.
    """

    num_steps: int = 1000

    def label(self, t: float) -> float:
        """Return the number of the step, from 0 for sigma_max to N - 1 for sigma_min and for clean data."""
        share = math.log(self.sigma_max / max(t, self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)
        return (self.num_steps - 1) * share

    def time_from_label(self, label: float) -> float:
        return float(self.sigma_max * (self.sigma_min / self.sigma_max) ** (label / (self.num_steps - 1)))


def score_sde(model: Callable[..., Any], sde: Any, *, continuous: bool) -> Denoiser:
    """Return the denoiser of a network of score_sde: see `Denoiser.score_sde`."""
    require_callable(model, "model must be a network of score_sde, called as model(x, labels)")
    name = class_named(sde, _SDES)
    if name is None:
        raise PlanError(
            f"sde must be one of score_sde's {', '.join(_SDES)} or derived from it, got {type(sde).__name__}"
        )
    what = f"sde must have what score_sde's {name} has"
    if name == "VESDE":
        low, high = (float(attribute(sde, each, what)) for each in ("sigma_min", "sigma_max"))
        if continuous:
            return Denoiser(model, EDM(low, high), "score")
        steps = GeometricSteps(low, high, num_steps=int(attribute(sde, "N", what)))
        return Denoiser(model, steps, "score", time_label="round")
    first, last = (float(attribute(sde, each, what)) for each in ("beta_0", "beta_1"))
    if name == "subVPSDE" or continuous:
        process = SubVP if name == "subVPSDE" else LinearVP
        return Denoiser(model, process(beta_min=first, beta_max=last), "noise", time_label=_times_999)
    betas = getattr(sde, "discrete_betas", None)
    if betas is None:
        n = int(attribute(sde, "N", what))
        betas = np.linspace(first / n, last / n, n)
    return Denoiser(model, Discrete(betas=betas), "noise")


def _times_999(t: float) -> float:
    """The label of a network that was trained on continuous times up to 1."""
    return 999.0 * t
