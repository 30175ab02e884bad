"""`model_wrapper`: a network with the conventions of the official code, as a `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver.compat.official.schedule import NoiseScheduleVP
from dpmsolver.errors import PlanError, unknown
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import like_weights
from dpmsolver.networks.guidance import Classifier, ClassifierFree
from dpmsolver.plans.targets import Predicts

__all__ = ["WrappedModel", "denoiser_of", "model_wrapper"]

_PREDICTS: dict[str, Predicts] = {"noise": "noise", "x_start": "data", "v": "v", "score": "score"}
_GUIDANCE = ("uncond", "classifier", "classifier-free")


@dataclass(frozen=True, eq=False)
class WrappedModel:
    """The result of `model_wrapper`: `model_fn(x, t_continuous) -> noise`, with the denoiser behind it."""

    denoiser: Denoiser
    noise_schedule: NoiseScheduleVP

    def __call__(self, x: Any, t_continuous: Any) -> Any:
        """Return the predicted noise, guidance included: an array like x, for one time or one per sample."""
        return self.denoiser.at(x, one_or_each(t_continuous), "noise")


def model_wrapper(
    model: Callable[..., Any],
    noise_schedule: NoiseScheduleVP,
    model_type: str = "noise",
    model_kwargs: Mapping[str, Any] | None = None,
    guidance_type: str = "uncond",
    condition: Any = None,
    unconditional_condition: Any = None,
    guidance_scale: Any = 1.0,
    classifier_fn: Callable[..., Any] | None = None,
    classifier_kwargs: Mapping[str, Any] | None = None,
) -> WrappedModel:
    """Return a network as the function `model_fn(x, t_continuous) -> noise` that `DPM_Solver` takes.

    Args:
        model: `model(x, t_input, **model_kwargs)`, or `model(x, t_input, cond, **model_kwargs)` for classifier-free guidance. t_input is
            1000/N times the step for a discrete schedule of N steps, and the time for a continuous one.
        noise_schedule: the schedule that the model was trained on.
        model_type: the target that it predicts: "noise", "x_start", "v" or "score".
        guidance_type: "uncond", "classifier" or "classifier-free".
        condition, unconditional_condition: arrays, or the dictionaries and lists of arrays that the model takes. If they differ in shape,
            the network is called twice.
        guidance_scale: a number, one per sample, or a function of the time.
        classifier_fn: `classifier_fn(x, t_input, condition, **classifier_kwargs)`: log p(condition | x), shape (B,).

    Raises:
        PlanError: a type is unknown, or classifier guidance lacks a classifier. TypeError: the schedule has another type.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.compat.official import NoiseScheduleVP
        >>> schedule = NoiseScheduleVP("linear")
        >>> model_fn = model_wrapper(lambda x, t: 0.0 * x, schedule, model_type="x_start")
        >>> model_fn(np.array([[2.0]]), np.array([1.0])).round(4)
        array([[2.]])
    """
    if not isinstance(noise_schedule, NoiseScheduleVP):
        raise TypeError(
            f"noise_schedule must be a NoiseScheduleVP of dpmsolver.compat.official, got {type(noise_schedule).__name__}"
        )
    if model_type not in _PREDICTS:
        raise PlanError(unknown("model_type", model_type, _PREDICTS))
    if guidance_type not in _GUIDANCE:
        raise PlanError(unknown("guidance_type", guidance_type, _GUIDANCE))
    own = dict(model_kwargs or {})
    denoiser = Denoiser(
        model,
        noise_schedule.ours,
        _PREDICTS[model_type],
        network_kwargs=own,
        time_label="float" if noise_schedule.label_scale == 1.0 else noise_schedule.network_label,
    )
    if guidance_type == "classifier":
        if classifier_fn is None:
            raise PlanError("classifier guidance needs classifier_fn(x, t_input, condition) -> log p(condition | x)")
        logarithm = _Classified(classifier_fn, condition)
        kwargs = dict(classifier_kwargs or {})
        denoiser = denoiser.replace(guidance=Classifier(guidance_scale, log_probability=logarithm, kwargs=kwargs))
    elif guidance_type == "classifier-free" and condition is not None:
        conditioned = denoiser.replace(network=_Conditioned(model), dtype=_weights_dtype(model))
        if unconditional_condition is None:
            denoiser = conditioned.replace(network_kwargs={**own, "condition": condition})
        else:
            alike = getattr(condition, "shape", None) == getattr(unconditional_condition, "shape", None)
            guidance = ClassifierFree(
                guidance_scale, {"condition": condition}, {"condition": unconditional_condition}, batched=alike
            )
            denoiser = conditioned.replace(guidance=guidance)
    return WrappedModel(denoiser, noise_schedule)


def denoiser_of(model_fn: Callable[..., Any], noise_schedule: NoiseScheduleVP) -> Denoiser:
    """Return the denoiser of any `model_fn(x, t_continuous) -> noise`: the wrapped one, or a new one around the function."""
    if isinstance(model_fn, WrappedModel) and model_fn.noise_schedule is noise_schedule:
        return model_fn.denoiser
    if not callable(model_fn):
        raise TypeError(f"model_fn must be callable as model_fn(x, t_continuous), got {type(model_fn).__name__}")
    return Denoiser(model_fn, noise_schedule.ours, "noise", time_label=noise_schedule.ours.time_from_label)


def one_or_each(t: Any) -> Any:
    """Return times as one number for all, or unchanged; an array of one element means its first element for all."""
    times = to_host(t)
    return float(times.reshape(())) if times.size == 1 else np.reshape(times, -1)


@dataclass(frozen=True, eq=False)
class _Conditioned:
    """A network that takes its condition by place, as one that takes it by name."""

    model: Callable[..., Any]

    def __call__(self, x: Any, t: Any, condition: Any, **kwargs: Any) -> Any:
        return self.model(x, t, condition, **kwargs)


@dataclass(frozen=True, eq=False)
class _Classified:
    """A classifier with its condition, as a function of the state and its label."""

    classifier: Callable[..., Any]
    condition: Any

    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any:
        return self.classifier(x, t, self.condition, **kwargs)


def _weights_dtype(model: Any) -> str | None:
    """The name of the float type of a model's weights, which a function around it hides."""
    like = like_weights(model)
    return None if like is None else str(like.dtype).rpartition(".")[2]
