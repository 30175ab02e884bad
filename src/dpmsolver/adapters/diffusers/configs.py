"""Scheduler configs as noise schedules, predictions and corrections of x_0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.adapters.diffusers.classes import BETA_FIELDS
from dpmsolver.adapters.diffusers.fields import Fields
from dpmsolver.networks import thresholding
from dpmsolver.plans.plan import Point
from dpmsolver.plans.targets import Predicts
from dpmsolver.schedules import EDM, Discrete, Floats, Flow, NoiseSchedule, scaled_linear_betas

__all__ = ["data_hook_from_config", "edm_scaling", "predicts_from_config", "schedule_from_config"]

_PREDICTS: dict[str, Predicts] = {
    "epsilon": "noise",
    "sample": "data",
    "v_prediction": "v",
    "flow_prediction": "velocity",
}
_OTHER_GRIDS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


def _sigmoid_betas(beta_start: float, beta_end: float, num: int) -> Floats:
    """A sigmoid over [-6, 6] (Xu et al. 2022, GeoDiff, arXiv 2203.02923)."""
    betas: Floats = beta_start + (beta_end - beta_start) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, num)))
    return betas


def _from_alpha_bar(alpha_bar: Callable[[Floats], Floats]) -> Callable[[float, float, int], Floats]:
    """Betas of at most 0.999 from the product of (1 - beta) as a function of t in [0, 1]; start and end play no part."""

    def betas(beta_start: float, beta_end: float, num: int) -> Floats:
        products = alpha_bar(np.arange(num + 1) / num)
        return np.minimum(1.0 - products[1:] / products[:-1], 0.999)

    return betas


def _laplace(t: Floats) -> Floats:
    """Hang et al. 2024, arXiv 2407.03297, with the square root of the signal's share that diffusers takes."""
    log_snr = -0.5 * np.copysign(1.0, 0.5 - t) * np.log(1.0 - 2.0 * np.abs(0.5 - t) + 1e-6)
    share: Floats = np.sqrt(1.0 / (1.0 + np.exp(-log_snr)))
    return share


_BETAS: dict[str, Callable[[float, float, int], Floats]] = {
    "linear": np.linspace,
    "scaled_linear": scaled_linear_betas,
    # Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17.
    "squaredcos_cap_v2": _from_alpha_bar(lambda t: np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2),
    "sigmoid": _sigmoid_betas,
    "exp": _from_alpha_bar(lambda t: np.exp(-12.0 * t)),
    "laplace": _from_alpha_bar(_laplace),
}


def schedule_from_config(config: Mapping[str, Any], *, mu: float | None = None) -> NoiseSchedule:
    """Return the noise schedule of a diffusers scheduler config, with the labels that its networks take.

    Args:
        config: `scheduler.config`, or the content of `scheduler_config.json`. Classes with betas give `Discrete`, flow matching gives
            `Flow`, EDM's classes give `EDM`. Missing fields and null have the defaults of the class. A config without `_class_name` is
            recognised by its fields.
        mu: the shift of a flow with `use_dynamic_shifting`, which pipelines compute from the size of the image.

    Raises:
        TypeError: the config is not a mapping.
        ValueError: the class or a field is unknown, the class does not read a field, a value is impossible, fields contradict each other,
            or a dynamic shift lacks mu. The message names the field.

    Examples:
        >>> schedule_from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
        Discrete(N=1000, half_log_snr from -2.682 to 3.535)
        >>> schedule_from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}).label(1.0)
        1000.0

    Source: zero terminal SNR (`rescale_betas_zero_snr`): Lin et al. 2024, arXiv 2305.08891, algorithm 1. Shift of the SNR
    (`snr_shift_scale`): Yang et al. 2024, CogVideoX, arXiv 2408.06072.
    """
    fields = Fields(config)
    _check_complete(fields)
    if edm_scaling(fields) is not None:
        low, high = _sigma_range(fields)
        return EDM(sigma_min=low, sigma_max=high)
    _prediction(fields)
    return _flow(fields, mu) if fields.is_flow else _discrete(fields)


def predicts_from_config(config: Mapping[str, Any]) -> Predicts:
    """Return what a network predicts according to its scheduler's config: "noise", "data", "v" or "velocity", as in `Denoiser`.

    For EDM's schedulers it is "data", whatever their prediction_type, because `network` preconditions their models.

    Raises:
        TypeError, ValueError: as `schedule_from_config`; also for an unknown prediction_type.

    Examples:
        >>> predicts_from_config({"prediction_type": "v_prediction"})
        'v'
    """
    fields = Fields(config)
    return "data" if edm_scaling(fields) is not None else _PREDICTS[_prediction(fields)]


def data_hook_from_config(config: Mapping[str, Any], *, clip: bool = True) -> Callable[[Any, Point], Any] | None:
    """Return the correction of every predicted x_0 that a config requests, as a `data_hook` of `Denoiser`, or None.

    Args:
        config: as for `schedule_from_config`. `thresholding` gives `thresholding.dynamic`, `clip_sample` gives `thresholding.static`; if
            both are true, `dynamic` is taken.
        clip: False ignores `clip_sample`, like diffusers' own solvers of higher order.

    Raises:
        TypeError, ValueError: as `schedule_from_config`; also for an impossible range or ratio.

    Examples:
        >>> data_hook_from_config({"beta_schedule": "linear", "clip_sample": False}) is None
        True
    """
    fields = Fields(config)
    if fields.flag("thresholding"):
        return thresholding.dynamic(
            fields.number("dynamic_thresholding_ratio", 0.995), fields.number("sample_max_value", 1.0)
        )
    if clip and fields.flag("clip_sample"):
        return thresholding.static(fields.number("clip_sample_range", 1.0))
    return None


def edm_scaling(fields: Fields) -> tuple[float, float] | None:
    """Return (sigma_data, sign of the output) of networks with EDM's preconditioning, and None for all others.

    Stable Video Diffusion's config has betas, but its networks take ln(sigma)/4 and are scaled with sigma_data = 1.
    """
    if fields.family.kind == "edm":
        prediction = fields.name("prediction_type", ("epsilon", "v_prediction"))
        # diffusers' EDM schedulers give models with v_prediction the opposite sign of c_out.
        return fields.number("sigma_data"), -1.0 if prediction == "v_prediction" else 1.0
    if fields.name("timestep_type", ("discrete", "continuous"), "discrete") == "discrete":
        return None
    if fields.value("prediction_type") != "v_prediction":
        raise ValueError(
            f"timestep_type 'continuous' needs prediction_type 'v_prediction', got {fields.value('prediction_type')!r}: "
            "make the schedule yourself, as dpm.schedules.EDM(sigma_min=…, sigma_max=…)"
        )
    return 1.0, -1.0


def _prediction(fields: Fields) -> str:
    """The prediction_type, which must fit the kind of noise levels."""
    name = fields.name("prediction_type", _PREDICTS, "flow_prediction" if fields.is_flow else "epsilon")
    if name == "flow_prediction" and not fields.is_flow:
        raise ValueError(
            "prediction_type='flow_prediction' needs use_flow_sigmas=True: without it the scheduler config has the noise levels of betas"
        )
    if name == "v_prediction" and fields.is_flow:
        raise ValueError(
            "prediction_type='v_prediction' contradicts use_flow_sigmas=True: write 'flow_prediction', or make it false"
        )
    return name


def _check_complete(fields: Fields) -> None:
    """ValueError where a config without a class does not say what only its class could."""
    if fields.family.class_name:
        return
    if fields.is_flow and "num_train_timesteps" not in fields.given:
        raise ValueError(
            "a flow config without _class_name must say num_train_timesteps, which scales the network's labels "
            "(1000 for diffusers' flow models); or give its _class_name"
        )
    if fields.family.kind == "edm" and not {"sigma_min", "sigma_max"} <= set(fields.given):
        raise ValueError(
            "an EDM config without _class_name must say sigma_min and sigma_max, such as 0.002 and 80; or give its _class_name"
        )
    if fields.family.kind == "betas" and not fields.is_flow and not set(BETA_FIELDS) & set(fields.given):
        raise ValueError(
            "this is no scheduler config that can be read: it has no betas (beta_schedule or trained_betas), no sigma_data, no shift; "
            f"its fields are {', '.join(sorted(fields.given)) or 'none'}"
        )


def _sigma_range(fields: Fields) -> tuple[float, float]:
    """The lowest and the highest noise-to-signal ratio: sigma_min and sigma_max, each from the betas where it is not given."""
    given = [None if fields.value(name) is None else fields.number(name) for name in ("sigma_min", "sigma_max")]
    if None not in given:
        return given[0], given[1]  # type: ignore[return-value]
    discrete = _discrete(fields)
    low, high = np.exp(-discrete.half_log_snr([discrete.t_min, discrete.t_max])).tolist()
    if given[1] is None and math.isinf(high):
        raise ValueError(
            "rescale_betas_zero_snr=True leaves no highest sigma in this scheduler config: give sigma_max, or make it false"
        )
    return low if given[0] is None else given[0], high if given[1] is None else given[1]


def _discrete(fields: Fields) -> Discrete:
    if fields.value("shift_terminal") is not None and not fields.is_flow:
        raise ValueError(
            f"shift_terminal={fields.value('shift_terminal')!r} needs use_flow_sigmas=True: give that, or leave shift_terminal away"
        )
    lambda_min = fields.number("lambda_min_clipped", -math.inf)
    scale, zero_snr = _positive(fields, "snr_shift_scale", 1.0), fields.flag("rescale_betas_zero_snr")
    betas = _betas(fields)
    if scale == 1.0 and not zero_snr:
        return Discrete(betas=betas, lambda_min=lambda_min)
    plain = Discrete(betas=betas)
    products = plain.alpha(np.arange(1, plain.num_steps + 1) / plain.num_steps) ** 2
    products = products / (scale + (1.0 - scale) * products)
    if zero_snr:
        # Some classes put 2^-24 in the place of the last 0, so that their sigma stays finite; the network was trained at 0.
        alphas = np.sqrt(products)
        products = ((alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))) ** 2
    return Discrete(alphas_cumprod=products, lambda_min=lambda_min)


def _betas(fields: Fields) -> ArrayLike:
    num = fields.whole("num_train_timesteps")
    trained: ArrayLike | None = fields.value("trained_betas")
    if trained is not None:
        try:
            steps = Discrete(betas=trained).num_steps
        except (TypeError, ValueError) as error:
            raise ValueError(f"trained_betas in the scheduler config are no betas: {error}") from None
        if "num_train_timesteps" in fields.given and steps != num:
            raise ValueError(
                f"trained_betas has {steps} values, but num_train_timesteps={num} in the scheduler config: there must be one per step"
            )
        return trained
    name = fields.name("beta_schedule", _BETAS)
    if fields.family.class_name == "UnCLIPScheduler" and name != "squaredcos_cap_v2":
        raise ValueError(
            f"beta_schedule={name!r} cannot be in a config of UnCLIPScheduler, which has 'squaredcos_cap_v2': leave it away"
        )
    return _BETAS[name](_positive(fields, "beta_start", 1e-4), _positive(fields, "beta_end", 0.02), num)


def _positive(fields: Fields, name: str, default: float) -> float:
    value = fields.number(name, default)
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} in the scheduler config must be positive and finite")
    return value


def _flow(fields: Fields, mu: float | None) -> Flow:
    scale = float(fields.whole("num_train_timesteps"))
    if fields.value("sigma_data") is not None:
        return _cosmos(fields)
    if fields.family.kind == "flow":
        for name in ("sigma_min", "sigma_max"):
            if fields.value(name) is not None:
                raise ValueError(
                    f"{name}={fields.value(name)!r} in a flow config acts with sigma_data alone: leave it away"
                )
    if fields.family.kind != "flow":
        _check_flow_grid(fields)
        if fields.flag("use_karras_sigmas"):
            # The levels are those of sigma/(1 + sigma), and neither the shift nor its stretching plays a part.
            low, high = (sigma / (1.0 + sigma) for sigma in _sigma_range(fields))
            return Flow(t_min=low, t_max=high, label_scale=scale)
    terminal = fields.number("shift_terminal", 0.0) if fields.value("shift_terminal") is not None else 0.0
    if not 0 <= terminal < 1:
        raise ValueError(f"shift_terminal={terminal} in the scheduler config must lie in [0, 1): it is a noise level")
    return Flow(
        shift=_flow_shift(fields, mu),
        label_scale=scale,
        reversed=fields.flag("invert_sigmas"),
        last_sigma=terminal,
    )


def _check_flow_grid(fields: Fields) -> None:
    """ValueError where diffusers mixes the noise levels of betas with those of a flow: everywhere but with UniPC's Karras levels."""
    converts = "use_karras_sigmas" if fields.family.class_name == "UniPCMultistepScheduler" else ""
    for name in _OTHER_GRIDS:
        if name != converts and fields.flag(name):
            raise ValueError(
                f"{name}=True contradicts use_flow_sigmas=True in {fields.place}: make one of them false, "
                "and choose the noise levels by the grid of dpm.sample, such as grid='karras'"
            )


def _cosmos(fields: Fields) -> Flow:
    """Cosmos-Predict2: its state is x_0 + sigma eps, and its network takes x/(1 + sigma), which is a flow at sigma/(1 + sigma).

    The pipeline gives the network that level as its label, and reads its output as noise - data.
    """
    missing = [name for name in ("sigma_min", "sigma_max") if fields.value(name) is None]
    if missing or not fields.flag("use_karras_sigmas"):
        lacks = missing[0] if missing else "use_karras_sigmas=True"
        raise ValueError(
            f"a flow config with sigma_data needs {lacks}, as Cosmos-Predict2's pipeline has: give it, or drop sigma_data"
        )
    for name in ("invert_sigmas", "use_dynamic_shifting"):
        if fields.flag(name):
            raise ValueError(f"{name}=True contradicts sigma_data in a flow config: make it false, or drop sigma_data")
    low, high = (fields.number(name) for name in ("sigma_min", "sigma_max"))
    return Flow(t_min=low / (1.0 + low), t_max=high / (1.0 + high))


def _flow_shift(fields: Fields, mu: float | None) -> float:
    kind = fields.name("time_shift_type", ("exponential", "linear"), "exponential")
    name = "flow_shift" if "flow_shift" in fields.reads else "shift"
    if not fields.flag("use_dynamic_shifting"):
        return _positive(fields, name, 1.0)
    if mu is None:
        raise ValueError(
            "this config shifts by the size of the image (use_dynamic_shifting): give mu, as the pipeline's calculate_shift does"
        )
    return float(mu) if kind == "linear" else math.exp(mu)
