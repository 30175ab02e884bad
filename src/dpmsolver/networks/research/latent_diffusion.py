"""Networks of latent diffusion and Stable Diffusion: model.apply_model(x, t, cond)."""

from __future__ import annotations

from typing import Any

from dpmsolver.errors import PlanError, unknown
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.networks.research.attributes import attribute, require_callable
from dpmsolver.plans.targets import Predicts
from dpmsolver.schedules import Discrete

__all__ = ["latent_diffusion"]

_WHAT = "model must be a LatentDiffusion of CompVis's code"
_PREDICTS: dict[str, Predicts] = {"eps": "noise", "x0": "data", "v": "v"}


def latent_diffusion(model: Any, cond: Any, uncond: Any, scale: Any, *, batched: bool) -> Denoiser:
    """Return the denoiser of a latent diffusion model: see `Denoiser.latent_diffusion`."""
    network = attribute(model, "apply_model", _WHAT)
    require_callable(network, "model.apply_model must be a function of x, t and cond")
    schedule = Discrete(alphas_cumprod=attribute(model, "alphas_cumprod", _WHAT))
    kind = getattr(model, "parameterization", "eps")
    if kind not in _PREDICTS:
        raise PlanError(unknown("model.parameterization", kind, _PREDICTS))
    cond, uncond = (_learned(model, name, value) for name, value in (("cond", cond), ("uncond", uncond)))
    if uncond is None:
        if isinstance(scale, (int, float)) and scale != 1.0:
            raise PlanError(
                f"scale={scale} needs the condition of the unguided network: give uncond=…, such as empty texts"
            )
        return Denoiser(network, schedule, _PREDICTS[kind], network_kwargs={"cond": cond})
    guidance = ClassifierFree(scale, {"cond": cond}, {"cond": uncond}, batched=batched)
    return Denoiser(network, schedule, _PREDICTS[kind], guidance=guidance)


def _learned(model: Any, name: str, cond: Any) -> Any:
    """A condition as the network takes it: texts are encoded by the model, anything else is what the model has encoded."""
    if isinstance(cond, str):
        raise PlanError(f"{name} must be a list with one text per sample, got one text: give [{cond!r}] * batch")
    if isinstance(cond, (list, tuple)) and cond and all(isinstance(text, str) for text in cond):
        return attribute(model, "get_learned_conditioning", _WHAT)(list(cond))
    return cond
