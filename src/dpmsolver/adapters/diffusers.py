"""diffusers: its scheduler configs as schedules, and its models as networks.

Three functions of one config make a denoiser of any diffusers model:

unet, config = pipeline.unet, pipeline.scheduler.config
denoiser = dpm.Denoiser(network(unet, config), schedule_from_config(config), predicts_from_config(config))

Importing this module imports neither torch nor diffusers, and configs are read without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver.denoiser import Predicts
from dpmsolver.errors import unknown
from dpmsolver.preconditioning import edm_preconditioned
from dpmsolver.schedules import EDM, Discrete, Floats, Flow, NoiseSchedule, scaled_linear_betas

__all__ = ["Network", "network", "predicts_from_config", "schedule_from_config"]

_PREDICTS: dict[str, Predicts] = {
    "epsilon": "noise",
    "sample": "data",
    "v_prediction": "v",
    "flow_prediction": "velocity",
}
_EDM_CLASSES = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")


def _cosine_betas(beta_start: float, beta_end: float, num: int) -> Floats:
    """Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17, with betas of at most 0.999; start and end play no part."""
    alpha_bar = np.cos((np.arange(num + 1) / num + 0.008) / 1.008 * math.pi / 2) ** 2
    betas: Floats = np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    return betas


_BETAS: dict[str, Callable[[float, float, int], Floats]] = {
    "linear": np.linspace,
    "scaled_linear": scaled_linear_betas,
    "squaredcos_cap_v2": _cosine_betas,
}


def schedule_from_config(config: Mapping[str, Any], *, mu: float | None = None) -> NoiseSchedule:
    """The noise schedule of a diffusers scheduler config.

    Args:
        config: `scheduler.config`, or what `scheduler_config.json` holds. Flow matching gives `Flow`, a config with sigma_data `EDM`,
            one with betas `Discrete`; fields that a config with betas lacks have diffusers' defaults (1000 linear betas, 1e-4 to 0.02).
        mu: the shift of a flow with `use_dynamic_shifting`, as pipelines compute it from the size of the image.

    Raises:
        ValueError: a config of another kind, an unknown beta_schedule, a dynamic shift without mu.

    Examples:
        >>> schedule_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
        Discrete(N=1000, half_log_snr from -2.682 to 3.535)
        >>> schedule_from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
        Flow(shift=3.0, t_min=0.0001, t_max=1.0)

    Source: zero terminal SNR (`rescale_betas_zero_snr`): Lin et al. 2024, arXiv 2305.08891, algorithm 1.
    """
    if _is_flow(config):
        return Flow(shift=_flow_shift(config, mu))
    if "sigma_data" in config:
        if config.get("_class_name", _EDM_CLASSES[0]) not in _EDM_CLASSES:
            raise ValueError(unknown("scheduler with sigma_data", config["_class_name"], _EDM_CLASSES))
        return EDM(sigma_min=config.get("sigma_min", 0.002), sigma_max=config.get("sigma_max", 80.0))
    if config.get("timestep_type", "discrete") != "discrete":
        raise ValueError(
            f"a scheduler config with timestep_type {config['timestep_type']!r} has no discrete steps: "
            "make its schedule yourself, as dpm.schedules.EDM(sigma_min=…, sigma_max=…)"
        )
    betas = _betas(config)
    if not config.get("rescale_betas_zero_snr"):
        return Discrete(betas=betas)
    alphas = np.exp(0.5 * np.cumsum(np.log1p(-betas)))
    rescaled = (alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))
    return Discrete(alphas_cumprod=rescaled**2)


def _betas(config: Mapping[str, Any]) -> Floats:
    if config.get("trained_betas") is not None:
        return np.asarray(config["trained_betas"], dtype=np.float64)
    if not {"beta_schedule", "beta_start", "beta_end"} & set(config):
        raise ValueError(
            "this is no scheduler config that can be read: it has no betas (beta_schedule or trained_betas), no sigma_data, no shift; "
            f"its fields are {', '.join(sorted(config)) or 'none'}"
        )
    name = config.get("beta_schedule", "linear")
    if name not in _BETAS:
        raise ValueError(unknown("beta_schedule", name, _BETAS))
    num = config.get("num_train_timesteps", 1000)
    return _BETAS[name](config.get("beta_start", 1e-4), config.get("beta_end", 0.02), num)


def _is_flow(config: Mapping[str, Any]) -> bool:
    return (
        str(config.get("_class_name", "")).startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or bool(config.get("use_flow_sigmas"))
        or ("shift" in config and "beta_schedule" not in config)
    )


def _flow_shift(config: Mapping[str, Any], mu: float | None) -> float:
    if not config.get("use_dynamic_shifting"):
        return float(config.get("shift", config.get("flow_shift", 1.0)) or 1.0)
    if mu is None:
        raise ValueError(
            "this config shifts by the size of the image (use_dynamic_shifting): give mu, as the pipeline's calculate_shift does"
        )
    return float(mu) if config.get("time_shift_type") == "linear" else math.exp(mu)


def predicts_from_config(config: Mapping[str, Any]) -> Predicts:
    """What a network predicts, from its scheduler's config: "noise", "data", "v" or "velocity", as `Denoiser` names them.

    "data" for EDM's schedulers, whatever their prediction_type: `network` preconditions their models.

    Raises:
        ValueError: an unknown prediction_type.

    Examples:
        >>> predicts_from_config({"prediction_type": "v_prediction"})
        'v'
    """
    name = config.get("prediction_type", "flow_prediction" if _is_flow(config) else "epsilon")
    if name not in _PREDICTS:
        raise ValueError(unknown("prediction_type", name, _PREDICTS))
    return "data" if "sigma_data" in config else _PREDICTS[name]


@dataclass(frozen=True)
class Network:
    """A diffusers model as a function (x, t, **kwargs) -> tensor. It casts x to the model's float type; see `network`.

    Args:
        module: the model. time_scale: what time labels are multiplied by.
    """

    module: Any
    time_scale: float = 1.0

    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any:
        labels = kwargs.get("class_labels")
        if labels is not None and len(labels) not in (1, len(x)):
            raise ValueError(f"class_labels needs one class per sample: {len(x)} samples, {len(labels)} classes")
        t = t if self.time_scale == 1.0 else t * self.time_scale
        return self.module(x.to(self.module.dtype), t, **kwargs, return_dict=False)[0]


@dataclass(frozen=True)
class _Negative:
    """A network with the opposite sign."""

    network: Network

    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any:
        return -self.network(x, t, **kwargs)


def network(module: Any, config: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """A diffusers model as the network of a `Denoiser`: network(x, t, **kwargs) -> tensor.

    Args:
        module: UNet2DModel, UNet2DConditionModel, a transformer: called as module(x, t, **kwargs, return_dict=False). A model in half
            precision gets its input in half precision; the sampler's state stays in float32.
        config: the config of its scheduler. With it, t is what `schedule_from_config(config)` calls a label: flow models get sigma times
            num_train_timesteps, and EDM's models are preconditioned, so that they predict data.

    Raises:
        TypeError: the module has no dtype: it is not a diffusers model.
        ValueError: on a call whose class_labels do not fit the batch.
    """
    if not callable(module) or not hasattr(module, "dtype"):
        raise TypeError(f"a diffusers model is needed, such as pipeline.unet, got {type(module).__name__}")
    config = config or {}
    if _is_flow(config):
        return Network(module, float(config.get("num_train_timesteps", 1000)))
    if "sigma_data" not in config:
        return Network(module)
    raw = Network(module)
    if config.get("prediction_type", "epsilon") != "v_prediction":
        return edm_preconditioned(raw, config["sigma_data"])
    # diffusers' EDM schedulers give models with v_prediction the opposite sign of c_out.
    return edm_preconditioned(_Negative(raw), config["sigma_data"])
