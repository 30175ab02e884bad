"""Networks of guided-diffusion and improved-diffusion: model(x, timesteps, **model_kwargs) with a GaussianDiffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import Classifier
from dpmsolver.networks.research.attributes import attribute, require_callable, word
from dpmsolver.plans.targets import Predicts
from dpmsolver.schedules import Discrete

__all__ = ["StepLabel", "guided_diffusion"]

_WHAT = "diffusion must be a GaussianDiffusion or SpacedDiffusion of guided-diffusion"
_PREDICTS: dict[str, Predicts] = {"EPSILON": "noise", "START_X": "data"}


@dataclass(frozen=True)
class StepLabel:
    """The time label for a step of a diffusion that may leave out steps of the training.

    Args:
        steps: the training step of each step; labels are linear between two of them.
        scale: the factor of a training step, 1000/N if the diffusion rescales timesteps, else 1.

    Examples:
        >>> StepLabel((0, 4, 9), 0.5)(1.5)
        3.25
    """

    steps: tuple[float, ...]
    scale: float

    def __call__(self, label: float) -> float:
        return self.scale * float(np.interp(label, np.arange(len(self.steps)), self.steps))


def guided_diffusion(
    model: Callable[..., Any],
    diffusion: Any,
    *,
    model_kwargs: Mapping[str, Any] | None,
    cond_fn: Callable[..., Any] | None,
    classifier: Callable[..., Any] | None,
    classifier_scale: float,
) -> Denoiser:
    """Return the denoiser of a network of guided-diffusion: see `Denoiser.guided_diffusion`."""
    require_callable(
        model, "model must be a network of guided-diffusion, called as model(x, timesteps, **model_kwargs)"
    )
    schedule = Discrete(betas=attribute(diffusion, "betas", _WHAT))
    mean, variance = (word(attribute(diffusion, f"model_{each}_type", _WHAT)) for each in ("mean", "var"))
    if mean not in _PREDICTS:
        raise PlanError(
            f"diffusion.model_mean_type is {mean}, and only networks that predict EPSILON or START_X have an ODE to solve"
        )
    kwargs = dict(model_kwargs or {})
    if getattr(model, "num_classes", None) is not None and kwargs.get("y") is None:
        raise PlanError(
            "this model is conditional on classes: give them as model_kwargs={'y': classes}, an array of integers (B,)"
        )
    denoiser = Denoiser(
        model,
        schedule,
        _PREDICTS[mean],
        network_kwargs=kwargs,
        time_label=_label(diffusion, schedule.num_steps),
        learned_variance=variance in ("LEARNED", "LEARNED_RANGE"),
    )
    return denoiser.replace(guidance=_guidance(kwargs, cond_fn, classifier, classifier_scale))


def _label(diffusion: Any, kept: int) -> StepLabel:
    """The labels of a diffusion: its own steps, or the training's where it leaves some out."""
    steps = to_host(getattr(diffusion, "timestep_map", None) or np.arange(kept))
    if steps.shape != (kept,):
        raise PlanError(
            f"diffusion.timestep_map must have one training step for each of {kept} betas, got {len(steps)}"
        )
    trained = int(getattr(diffusion, "original_num_steps", kept))
    scale = 1000.0 / trained if getattr(diffusion, "rescale_timesteps", False) else 1.0
    return StepLabel(tuple(steps.tolist()), scale)


def _guidance(
    kwargs: Mapping[str, Any],
    cond_fn: Callable[..., Any] | None,
    classifier: Callable[..., Any] | None,
    scale: float,
) -> Classifier | None:
    """Guidance by their function of a gradient, which has its scale inside, or by a classifier that returns logits."""
    if cond_fn is not None and classifier is not None:
        raise PlanError("give cond_fn, which returns a gradient, or classifier, which returns logits, and not both")
    if cond_fn is not None:
        return Classifier(1.0, gradient=cond_fn, kwargs=kwargs)
    if classifier is None:
        return None
    if kwargs.get("y") is None:
        raise PlanError(
            "a classifier needs the classes to guide to: give them as model_kwargs={'y': classes}, integers (B,)"
        )
    return Classifier(scale, log_probability=_OfClass(classifier), kwargs={"y": kwargs["y"]})


@dataclass(frozen=True, eq=False)
class _OfClass:
    """log p(y | x) of a classifier that returns logits (B, classes), as torch tensors."""

    classifier: Callable[..., Any]

    def __call__(self, x: Any, label: Any, y: Any) -> Any:
        logits = self.classifier(x, label)
        return logits.log_softmax(-1).gather(-1, y.reshape(-1, 1))[:, 0]
