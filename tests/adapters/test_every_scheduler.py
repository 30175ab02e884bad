"""Every scheduler class of the installed diffusers, each field turned: the same alpha, sigma, label and sign, or a refusal by name.

diffusers itself is the truth: its betas, its tables after `set_timesteps`, and its own step. It computes in float32, whose cumulative
product of 1000 factors is off by several 1e-6. So alpha and sigma are held to 1e-6 against its betas multiplied up in float64, and
alpha^2 to 1e-5 against its own product.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dpmsolver import Denoiser
from dpmsolver.adapters.diffusers import network, predicts_from_config, schedule_from_config
from dpmsolver.schedules import EDM, Discrete, Flow

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

MU = 0.7
GRIDS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
NOISE_ALGORITHMS = ("dpmsolver", "sde-dpmsolver", "noise_prediction", "deis")
FLOWS = (
    diffusers.FlowMatchEulerDiscreteScheduler,
    diffusers.FlowMatchHeunDiscreteScheduler,
    diffusers.FlowMatchLCMScheduler,
)
ORDER_2 = (
    diffusers.HeunDiscreteScheduler,
    diffusers.KDPM2DiscreteScheduler,
    diffusers.KDPM2AncestralDiscreteScheduler,
    diffusers.DPMSolverSDEScheduler,
)
IN_SIGMAS = (
    diffusers.EulerDiscreteScheduler,
    diffusers.EulerAncestralDiscreteScheduler,
    diffusers.LMSDiscreteScheduler,
    *ORDER_2,
)
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "exp", "laplace")
VALUES: dict[str, tuple[Any, ...]] = {
    "beta_schedule": BETA_SCHEDULES,
    "prediction_type": ("epsilon", "sample", "v_prediction", "flow_prediction", "trigflow"),
    "time_shift_type": ("exponential", "linear"),
    "timestep_type": ("discrete", "continuous"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "interpolation_type": ("linear", "log_linear"),
    "num_train_timesteps": (100, 1000.0),
    "beta_start": (0.0005,),
    "beta_end": (0.03,),
    "trained_betas": (np.linspace(1e-3, 0.03, 100),),
    "shift": (0.5, 3.0),
    "flow_shift": (0.5, 3.0),
    "shift_terminal": (0.1,),
    "snr_shift_scale": (1.0, 5.0),
    "lambda_min_clipped": (-3.0,),
    "sigma_min": (0.03,),
    "sigma_max": (50.0,),
    "sigma_data": (1.0,),
}
TOGETHER: tuple[dict[str, Any], ...] = (
    {"rescale_betas_zero_snr": True, "snr_shift_scale": 2.0},
    {"rescale_betas_zero_snr": True, "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
    {"timestep_type": "continuous", "prediction_type": "v_prediction"},
    {
        "timestep_type": "continuous",
        "prediction_type": "v_prediction",
        "use_karras_sigmas": True,
        "sigma_min": 0.002,
        "sigma_max": 700.0,
    },
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    {"use_dynamic_shifting": True, "shift_terminal": 0.1},
    {"invert_sigmas": True, "shift": 3.0},
    {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
    *(
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", name: value}
        for name, value in (
            ("flow_shift", 3.0),
            ("use_karras_sigmas", True),
            ("use_exponential_sigmas", True),
            ("use_beta_sigmas", True),
            ("use_lu_lambdas", True),
            ("use_dynamic_shifting", True),
            ("rescale_betas_zero_snr", True),
            ("shift_terminal", 0.1),
        )
    ),
    {
        "use_flow_sigmas": True,
        "prediction_type": "flow_prediction",
        "use_karras_sigmas": True,
        "sigma_min": 0.01,
        "sigma_max": 200.0,
    },
    {"use_flow_sigmas": True, "prediction_type": "epsilon"},
    {"use_flow_sigmas": True, "prediction_type": "sample"},
    {"use_flow_sigmas": True, "prediction_type": "v_prediction"},
)
SERVED = {
    *(
        "DDIMScheduler",
        "DDIMParallelScheduler",
        "DDIMInverseScheduler",
        "DDPMScheduler",
        "DDPMParallelScheduler",
        "PNDMScheduler",
    ),
    *(
        "LMSDiscreteScheduler",
        "RePaintScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "UnCLIPScheduler",
    ),
    *("HeunDiscreteScheduler", "DPMSolverSDEScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
    *("LCMScheduler", "TCDScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DEISMultistepScheduler"),
    *(
        "DPMSolverSinglestepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverMultistepInverseScheduler",
        "SASolverScheduler",
    ),
    *("UniPCMultistepScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"),
    *("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler", "FlowMatchHeunDiscreteScheduler"),
}
CLASSES = sorted(
    name for name in dir(diffusers) if name.endswith("Scheduler") and isinstance(getattr(diffusers, name), type)
)


class Module(torch.nn.Module):
    """A model that returns 0.3 times its input, and remembers the input and the label."""

    dtype = torch.float64

    def forward(self, x: Any, t: Any, return_dict: bool = True) -> tuple[Any]:
        self.x, self.label = x, float(t)
        return (0.3 * x,)


def variants(name: str) -> Iterator[dict[str, Any]]:
    """The defaults; each field flipped, null, and with other values; some fields together. Few steps keep all but the first fast."""
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    few = {"num_train_timesteps": 100} if "num_train_timesteps" in parameters else {}
    yield {}
    for field, parameter in parameters.items():
        if field == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        yield {**few, field: None}
        if isinstance(parameter.default, bool):
            yield {**few, field: not parameter.default}
        yield from ({**few, field: value} for value in VALUES.get(field, ()))
    yield from ({**few, **changes} for changes in TOGETHER if set(changes) <= set(parameters))


def built(name: str, changes: dict[str, Any]) -> Any:
    """diffusers' scheduler, or None where diffusers itself cannot make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(diffusers, name)(**changes)
        except Exception:
            return None


def spaced(scheduler: Any) -> bool:
    """Set five timesteps. False where diffusers itself cannot."""
    parameters = inspect.signature(scheduler.set_timesteps).parameters
    mu = {"mu": MU} if "mu" in parameters and scheduler.config.get("use_dynamic_shifting") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scheduler.set_timesteps(5, **mu)
        except Exception:
            return False
    return True


def products_in_float64(name: str, changes: dict[str, Any], scheduler: Any) -> Any:
    """alphas_cumprod from the scheduler's betas in float64, with the shift of the SNR and the zero terminal SNR by their formulas."""
    rescaled = scheduler.config.get("rescale_betas_zero_snr")
    plain = built(name, {**changes, "rescale_betas_zero_snr": False}) if rescaled else scheduler
    products = np.cumprod(1.0 - plain.betas.double().numpy())
    scale = scheduler.config.get("snr_shift_scale") or 1.0
    products = products / (scale + (1.0 - scale) * products)
    if rescaled:
        roots = np.sqrt(products)
        products = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return products


def check_betas(name: str, changes: dict[str, Any], scheduler: Any, schedule: Discrete) -> None:
    """The whole table. Some classes have 2^-24 where zero terminal SNR has 0, to keep their sigma finite; in alpha^2 that is nothing."""
    num = len(scheduler.alphas_cumprod)
    times = np.arange(1, num + 1) / num
    exact, rounded = products_in_float64(name, changes, scheduler), scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(schedule.alpha(times), np.sqrt(exact), rtol=0, atol=1e-6)
    np.testing.assert_allclose(schedule.sigma(times), np.sqrt(1.0 - exact), rtol=0, atol=1e-6)
    np.testing.assert_allclose(schedule.alpha(times) ** 2, rounded, rtol=0, atol=1e-5)
    assert [schedule.label(t) for t in times] == list(range(num))
    clipped = scheduler.config.get("lambda_min_clipped") or -math.inf
    assert schedule.half_log_snr(schedule.default_start()) == pytest.approx(max(schedule.half_log_snr(1.0), clipped))


def check_flow(scheduler: Any, schedule: Flow) -> None:
    """The levels of a flow before any timesteps are set, and how its shift spaces them."""
    if not scheduler.config.get("use_dynamic_shifting"):
        num = scheduler.config.num_train_timesteps
        np.testing.assert_allclose(
            schedule.sigma(np.arange(num, 0, -1) / num), scheduler.sigmas.numpy(), rtol=0, atol=1e-6
        )


def levels(scheduler: Any, schedule: Any) -> tuple[Any, Any]:
    """(alpha, sigma) of the levels that a scheduler has set, as its step reads them, where ours scales the state."""
    if not hasattr(scheduler, "sigmas"):
        alphas = np.sqrt(scheduler.alphas_cumprod.double().numpy()[scheduler.timesteps.numpy().astype(int)])
        return alphas, np.sqrt(1.0 - alphas**2)
    sigmas = scheduler.sigmas.double().numpy()[: len(scheduler.timesteps)]
    if isinstance(schedule, EDM):
        return np.ones_like(sigmas), sigmas
    if isinstance(schedule, Flow):
        sigmas = 1.0 - sigmas if scheduler.config.get("invert_sigmas") else sigmas
        return 1.0 - sigmas, sigmas
    return 1.0 / np.sqrt(1.0 + sigmas**2), sigmas / np.sqrt(1.0 + sigmas**2)


def step(scheduler: Any, index: int, x: Any, raw: Any) -> tuple[str, Any] | None:
    """What diffusers' own step reads from the network's output: ("data", x_0) or ("noise", eps). None where it shows neither."""
    scheduler._step_index, scheduler.dt, scheduler.sample = index, None, None
    scheduler.is_scale_input_called = True
    config, timestep = scheduler.config, scheduler.timesteps[index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if hasattr(scheduler, "convert_model_output"):
                noise = config.get("algorithm_type") in NOISE_ALGORITHMS or config.get("predict_x0", True) is not True
                return "noise" if noise else "data", scheduler.convert_model_output(raw, sample=x)
            if type(scheduler).__name__ == "CogVideoXDPMScheduler":
                return "data", scheduler.step(raw, None, timestep, None, x)[1]
            if type(scheduler).__name__ == "RePaintScheduler":
                result = scheduler.step(raw, timestep, x, x, torch.ones_like(x))
            else:
                result = scheduler.step(raw, timestep, x)
        except (ValueError, TypeError, NotImplementedError):
            return None  # A prediction_type that this class does not have, or a field that must not be null.
    if isinstance(scheduler, FLOWS):
        return ("data", result.prev_sample) if index == len(scheduler.timesteps) - 1 else None
    if isinstance(scheduler, diffusers.LCMScheduler):
        return "data", result.denoised
    x0 = getattr(result, "pred_original_sample", None)
    return None if x0 is None else ("data", x0)


def check_network(scheduler: Any, config: dict[str, Any], schedule: Any, predicts: Any) -> int:
    """At each noise level of the scheduler: the network's input and label, and what the step reads from its output.

    Returns at how many levels the step showed what it read.
    """
    module = Module()
    denoiser = Denoiser(network(module, config), schedule, predicts)
    ends = schedule.half_log_snr([schedule.t_max, schedule.t_min])
    scaled = hasattr(scheduler, "scale_model_input") and not isinstance(scheduler, diffusers.UnCLIPScheduler)
    seen = 0
    # Classes of order 2 repeat each level for their second stage.
    for i in range(0, len(scheduler.timesteps), 2 if isinstance(scheduler, ORDER_2) else 1):
        alpha, sigma = (float(values[i]) for values in levels(scheduler, schedule))
        time = schedule.time(np.clip(np.log(alpha / sigma) if alpha > 0 else -math.inf, *ends))
        assert abs(schedule.alpha(time) - alpha) < 1e-6 * max(1.0, sigma)
        assert abs(schedule.sigma(time) - sigma) < 1e-6 * max(1.0, sigma)
        x = torch.tensor([[[[0.02, -0.01]]]], dtype=torch.float64)
        denoised = denoiser.network(x, torch.tensor([schedule.label(time)], dtype=torch.float64))
        check_label(scheduler, schedule, float(scheduler.timesteps[i]), module.label)
        # Schedulers in the scale of sigma have the state x/alpha, and scale it down for the network.
        theirs = x / alpha if scaled and isinstance(scheduler, IN_SIGMAS) and isinstance(schedule, Discrete) else x
        if scaled and scheduler.config.get("sigma_data", 1.0) is not None:
            scheduler._step_index, scheduler.dt, scheduler.sample = i, None, None
            torch.testing.assert_close(
                scheduler.scale_model_input(theirs, scheduler.timesteps[i]), module.x, rtol=1e-5, atol=1e-7
            )
        shown = step(scheduler, i, theirs, 0.3 * module.x) if alpha > 0.02 else None
        if shown is not None and not isinstance(scheduler, diffusers.DDIMInverseScheduler):
            a, b = denoiser.conversion(shown[0], alpha, sigma)
            torch.testing.assert_close(shown[1].double(), a * x + b * denoised, rtol=1e-5, atol=1e-6)
            seen += 1
    return seen


def check_label(scheduler: Any, schedule: Any, timestep: float, label: float) -> None:
    """To 1e-6 of the range of labels; less where diffusers itself cuts or rounds them, or reads them from its float32 sigmas."""
    if isinstance(schedule, EDM):
        assert label == pytest.approx(timestep, abs=1e-6)
    elif isinstance(scheduler, FLOWS):
        assert label == pytest.approx(timestep, abs=1e-6 * schedule.label_scale)
    elif isinstance(schedule, Flow):
        assert timestep == int(timestep)
        assert -1e-4 * schedule.label_scale < label - timestep < 1.0 + 1e-6 * schedule.label_scale, (
            "cut to a whole number"
        )
    elif any(scheduler.config.get(name) for name in GRIDS):
        assert abs(label - timestep) < 1.0, "rounded or cut, and interpolated between two steps in ln(sigma)"
    elif timestep == int(timestep) and not scheduler.config.get("rescale_betas_zero_snr"):
        assert abs(label - timestep) < 2e-3
    else:
        assert abs(label - timestep) < 0.02, "interpolated in sigma, or at 2^-24"


def read(config: Any, *words: str) -> tuple[Any, Any] | None:
    """The schedule and what the network predicts; None for a refusal, which must hold one of the words."""
    try:
        return schedule_from_config(config, mu=MU), predicts_from_config(config)
    except ValueError as error:
        message = str(error)
    assert any(word in message for word in words), message
    return None


@pytest.mark.parametrize("name", sorted(SERVED))
def test_a_served_class_has_diffusers_tables_labels_and_signs_or_refuses_by_name(name: str) -> None:
    """No third outcome, for whole configs, for those that lack what is a default, and for those without their class."""
    served = seen = 0
    for changes in variants(name):
        scheduler = built(name, changes)
        config = {**(changes if scheduler is None else scheduler.config), "_class_name": name}
        found = read(config, *changes)
        if found is None or scheduler is None:
            continue
        schedule, predicts = found
        served += 1
        # A file of an old version lacks fields, which then have the class's defaults.
        check_same(read({**changes, "_class_name": name}), schedule, predicts)
        # A scheduler that was never saved has no _class_name in its config.
        found = read(scheduler.config, "without _class_name", *changes)
        if found is not None:
            check_same(found, schedule, predicts)
        if isinstance(schedule, Discrete):
            check_betas(name, changes, scheduler, schedule)
        if isinstance(scheduler, FLOWS):
            check_flow(scheduler, schedule)
        if spaced(scheduler):
            seen += check_network(scheduler, config, schedule, predicts)
    assert served > 3
    assert seen > 3 or name in ("PNDMScheduler", "TCDScheduler", "DDIMInverseScheduler")


def check_same(found: tuple[Any, Any] | None, schedule: Any, predicts: Any) -> None:
    """The same half-log-SNR, labels, ends, prediction and sign."""
    assert found is not None
    same, times = found[0], np.linspace(schedule.t_min, schedule.t_max, 7)
    assert (same.t_min, same.t_max, same.default_start()) == (schedule.t_min, schedule.t_max, schedule.default_start())
    np.testing.assert_array_equal(same.half_log_snr(times), schedule.half_log_snr(times))
    assert [same.label(t) for t in times] == [schedule.label(t) for t in times]
    assert (found[1], same.velocity_sign) == (predicts, schedule.velocity_sign)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - SERVED))
def test_every_other_class_is_refused_by_its_name(name: str) -> None:
    """Classes that are no Gaussian diffusion, or whose networks want what our denoisers do not give, each with the reason."""
    with pytest.raises(ValueError, match=f"{name} is not served: .*(use|no solver|stages|networks)"):
        schedule_from_config({"_class_name": name})
    for changes in variants(name):
        scheduler = built(name, changes)
        if not hasattr(scheduler, "config"):
            continue
        with pytest.raises(ValueError, match=name):
            schedule_from_config({**scheduler.config, "_class_name": name}, mu=MU)
