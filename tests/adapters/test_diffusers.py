"""diffusers' configs and models: the same betas as its own scheduler, the same predictions, the same denoised pictures."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import network, predicts_from_config, schedule_from_config

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012}


class Module(torch.nn.Module):
    """What a diffusers model looks like from outside: it records its inputs and returns x times its weight, in a tuple."""

    def __init__(self, dtype: Any = torch.float32, factor: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(factor, dtype=dtype))
        self.dtype = dtype
        self.seen: list[tuple[Any, Any]] = []

    def forward(self, x: Any, t: Any, return_dict: bool = True, **kwargs: Any) -> tuple[Any]:
        assert not return_dict
        self.seen.append((x, t))
        return (x * self.weight,)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "linear", "num_train_timesteps": 50, "beta_start": 0.001, "beta_end": 0.1},
        {"beta_schedule": "scaled_linear", **STABLE_DIFFUSION},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.01, 0.02, 0.05, 0.3], "num_train_timesteps": 4},
    ],
    ids=lambda config: "-".join(str(config.get(k, k)) for k in ("beta_schedule", "num_train_timesteps")),
)
def test_alphas_are_those_of_diffusers(config: dict[str, Any], zero_snr: bool) -> None:
    """alpha and sigma at every training step are DDPMScheduler's, to its float32 precision."""
    scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=zero_snr, **config)
    schedule = schedule_from_config(scheduler.config)
    num = scheduler.config.num_train_timesteps
    times = np.arange(1, num + 1) / num
    expected = scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(schedule.alpha(times) ** 2, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(schedule.sigma(times) ** 2, 1 - expected, rtol=1e-3, atol=3e-7)
    assert [schedule.label(t) for t in (times[0], times[-1])] == [0.0, num - 1.0]


def test_zero_terminal_snr_keeps_the_first_step_and_ends_in_noise() -> None:
    """Lin et al. 2024, algorithm 1: sqrt(alpha_bar) is shifted to end at exactly 0 and scaled to start where it did."""
    config = {"beta_schedule": "scaled_linear", **STABLE_DIFFUSION}
    plain, rescaled = (schedule_from_config({**config, "rescale_betas_zero_snr": flag}) for flag in (False, True))
    assert rescaled.alpha(1.0) == 0.0
    assert rescaled.half_log_snr(1.0) == -math.inf
    assert rescaled.alpha(0.001) == pytest.approx(plain.alpha(0.001), rel=1e-12)


def test_missing_fields_are_those_of_diffusers() -> None:
    """A config as old repositories have it: what it does not say is what diffusers assumes."""
    schedule = schedule_from_config({"beta_schedule": "linear"})
    reference = diffusers.DDPMScheduler().alphas_cumprod.double().numpy()
    assert schedule.alpha(1.0) ** 2 == pytest.approx(reference[-1], rel=1e-4)


def test_edm_configs_give_the_edm_schedule() -> None:
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.01, sigma_max=70.0)
    assert schedule_from_config(scheduler.config) == dpm.schedules.EDM(sigma_min=0.01, sigma_max=70.0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_configs_give_the_shifted_flow(shift: float) -> None:
    """The noise levels are those of FlowMatchEulerDiscreteScheduler, which counts them as sigma and hands out 1000 sigma."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule = schedule_from_config(scheduler.config)
    assert schedule == dpm.schedules.Flow(shift=shift)
    times = np.arange(1000, 0, -1) / 1000
    np.testing.assert_allclose(schedule.sigma(times), scheduler.sigmas.numpy(), rtol=1e-5)


def test_flow_prediction_of_other_schedulers_uses_their_flow_shift() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    assert schedule_from_config(scheduler.config) == dpm.schedules.Flow(shift=5.0)
    assert predicts_from_config(scheduler.config) == "velocity"


def test_dynamic_shift_needs_mu() -> None:
    config = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config
    with pytest.raises(ValueError, match="give mu"):
        schedule_from_config(config)
    assert schedule_from_config(config, mu=1.15) == dpm.schedules.Flow(shift=math.exp(1.15))
    linear = {**config, "time_shift_type": "linear"}
    assert schedule_from_config(linear, mu=1.15) == dpm.schedules.Flow(shift=1.15)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no betas .* its fields are none"),
        ({"num_train_timesteps": 10}, "its fields are num_train_timesteps"),
        ({"beta_schedule": "scaledlinear"}, "did you mean 'scaled_linear'.*accepted: linear, scaled_linear"),
        ({"beta_schedule": "linear", "timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ({"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_data": 1.0}, "accepted: EDMEulerScheduler"),
    ],
)
def test_other_configs_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule_from_config(config)


@pytest.mark.parametrize(
    ("name", "predicts"),
    [("epsilon", "noise"), ("sample", "data"), ("v_prediction", "v"), ("flow_prediction", "velocity")],
)
def test_predictions_have_one_name(name: str, predicts: str) -> None:
    assert predicts_from_config({"prediction_type": name}) == predicts


def test_predictions_that_a_config_does_not_name() -> None:
    assert predicts_from_config({"beta_schedule": "linear"}) == "noise"
    assert predicts_from_config(diffusers.FlowMatchEulerDiscreteScheduler().config) == "velocity"
    assert predicts_from_config(diffusers.EDMEulerScheduler().config) == "data"


def test_unknown_prediction_names_the_accepted_ones() -> None:
    with pytest.raises(ValueError, match=r"'epsilom' \(did you mean 'epsilon'\?\).*flow_prediction"):
        predicts_from_config({"prediction_type": "epsilom"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_half_network_gets_a_half_input_and_the_state_stays_float32(dtype: Any) -> None:
    module = Module(dtype)
    denoiser = dpm.Denoiser(network(module), dpm.schedules.LinearVP())
    x0 = dpm.sample(denoiser, torch.ones(2, 3), nfe=2)
    assert {x.dtype for x, _ in module.seen} == {dtype}
    assert x0.dtype == torch.float32


def test_flow_networks_get_sigma_in_training_steps() -> None:
    module, config = Module(), diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).config
    denoiser = dpm.Denoiser(network(module, config), schedule_from_config(config), predicts_from_config(config))
    plan = dpm.make_plan("dpm++2m", denoiser.schedule, nfe=3)
    dpm.sample(denoiser, torch.ones(1, 2), plan=plan)
    labels = [float(t[0]) for _, t in module.seen]
    assert labels == pytest.approx([1000 * row.point.sigma for row in plan.rows], rel=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_networks_are_preconditioned_as_diffusers_does(prediction: str) -> None:
    """The denoised picture is that of EDMEulerScheduler, for both signs of its c_out."""
    scheduler = diffusers.EDMEulerScheduler(prediction_type=prediction)
    module = Module(factor=0.7)
    x, sigma = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 0.1])
    denoised = network(module, scheduler.config)(x, sigma)
    each = sigma[:, None]
    expected = scheduler.precondition_outputs(x, 0.7 * scheduler.precondition_inputs(x, each), each)
    torch.testing.assert_close(denoised, expected)
    torch.testing.assert_close(module.seen[0][1], scheduler.precondition_noise(sigma))


def test_class_labels_must_fit_the_batch() -> None:
    call = network(Module())
    call(torch.ones(3, 2), torch.ones(3), class_labels=torch.tensor([1]))
    with pytest.raises(ValueError, match="3 samples, 2 classes"):
        call(torch.ones(3, 2), torch.ones(3), class_labels=torch.tensor([1, 2]))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a diffusers model is needed, such as pipeline\.unet, got dict"):
        network({})


def test_reading_a_config_imports_no_framework() -> None:
    program = (
        "import sys\n"
        "from dpmsolver.adapters.diffusers import predicts_from_config, schedule_from_config\n"
        "schedule_from_config({'beta_schedule': 'linear'})\n"
        "sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
