"""diffusers' configs and models: the same betas as its own scheduler, the same predictions, the same denoised pictures."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import data_hook_from_config, network, predicts_from_config, schedule_from_config
from dpmsolver.adapters.diffusers.classes import FAMILIES

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
    assert schedule == dpm.schedules.Flow(shift=shift, label_scale=1000.0)
    times = np.arange(1000, 0, -1) / 1000
    np.testing.assert_allclose(schedule.sigma(times), scheduler.sigmas.numpy(), rtol=1e-5)


def test_flow_prediction_of_other_schedulers_uses_their_flow_shift() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    )
    assert schedule_from_config(scheduler.config) == dpm.schedules.Flow(shift=5.0, label_scale=1000.0)
    assert predicts_from_config(scheduler.config) == "velocity"


def test_dynamic_shift_needs_mu() -> None:
    config = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config
    with pytest.raises(ValueError, match="give mu"):
        schedule_from_config(config)
    assert schedule_from_config(config, mu=1.15) == dpm.schedules.Flow(shift=math.exp(1.15), label_scale=1000.0)
    linear = {**config, "time_shift_type": "linear"}
    assert schedule_from_config(linear, mu=1.15) == dpm.schedules.Flow(shift=1.15, label_scale=1000.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no betas .* its fields are none"),
        ({"num_train_timesteps": 10}, "its fields are num_train_timesteps"),
        ({"beta_schedule": "scaledlinear"}, "did you mean 'scaled_linear'.*accepted: linear, scaled_linear"),
        ({"beta_schedule": "linear", "timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ({"beta_schedule": "linear", "timestep_type": "steady"}, "unknown timestep_type 'steady'"),
        (
            {"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_data": 1.0},
            "CosineDPMSolverMultistepScheduler is not served",
        ),
        (
            {"_class_name": "FlowMapEulerDiscreteScheduler", "shift": 5.0},
            "FlowMapEulerDiscreteScheduler is not served: .* two times",
        ),
        ({"_class_name": "NeverHeardOf", "shift": 12.0}, "'NeverHeardOf' is unknown: make the schedule yourself"),
        ({"_class_name": "DDIMSheduler"}, "did you mean 'DDIMScheduler'"),
        (
            {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0195},
            "the field schedule='scaled_linear_beta'.*unknown",
        ),
        ({"beta_shedule": "linear", "beta_start": 0.1}, "did you mean 'beta_schedule'"),
        ({"beta_schedule": "linear", "num_train_timesteps": 1000.5}, "num_train_timesteps=1000.5.*whole number"),
        ({"beta_schedule": "linear", "num_train_timesteps": True}, "num_train_timesteps=True.*no number"),
        ({"beta_schedule": "linear", "beta_start": "1e-4"}, "beta_start='1e-4'.*no number"),
        ({"beta_schedule": "scaled_linear", "beta_start": -0.1}, "beta_start=-0.1.*positive"),
        ({"beta_schedule": "linear", "rescale_betas_zero_snr": "no"}, "rescale_betas_zero_snr='no'.*true or false"),
        ({"beta_schedule": "linear", "lambda_min_clipped": 9.0}, "lambda_min=9.0 leaves nothing"),
        ({"beta_schedule": "linear", "snr_shift_scale": 0.0}, "snr_shift_scale=0.0.*positive"),
        ({"beta_schedule": "linear", "predict_epsilon": False}, "predict_epsilon=False has no meaning"),
        ({"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 1000}, "trained_betas has 3 values"),
        (
            {"_class_name": "DDIMScheduler", "snr_shift_scale": 3.0},
            "snr_shift_scale=3.0 has no meaning in a config of DDIMScheduler",
        ),
        (
            {"_class_name": "DPMSolverSinglestepScheduler", "rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr=True has no meaning",
        ),
        ({"_class_name": "UniPCMultistepScheduler", "shift": 3.0, "use_flow_sigmas": True}, "shift=3.0 has no meaning"),
        ({"_class_name": "UniPCMultistepScheduler", "shift_terminal": 0.1}, "shift_terminal=0.1 needs use_flow_sigmas"),
        (
            {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"},
            "needs use_flow_sigmas=True",
        ),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "prediction_type": "epsilon"},
            "prediction_type='epsilon' has no meaning",
        ),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "beta_start": 0.1}, "beta_start=0.1 has no meaning"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 1.5}, "shift_terminal=1.5.*noise level"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "sigma_data": 1.0}, "sigma_data needs sigma_min"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "sigma_max": 80.0},
            "sigma_max=80.0 in a flow config acts with sigma_data alone",
        ),
        (
            {
                "_class_name": "UniPCMultistepScheduler",
                "use_flow_sigmas": True,
                "use_karras_sigmas": True,
                "rescale_betas_zero_snr": True,
            },
            "rescale_betas_zero_snr=True leaves no highest sigma",
        ),
        ({"trained_betas": [0.1, 2.0, 0.3]}, "trained_betas in the scheduler config are no betas: betas must lie"),
        ({"shift": 3.0}, "must say num_train_timesteps"),
        ({"sigma_data": 0.5}, "must say sigma_min and sigma_max"),
    ],
)
def test_other_configs_are_refused(config: dict[str, Any], message: str) -> None:
    """Each in one sentence that names the field or the class, and says what to do."""
    with pytest.raises(ValueError, match=message):
        schedule_from_config(config)


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a mapping such as pipeline\.scheduler\.config, got list"):
        schedule_from_config([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [[], {}, "x", "", -1, 0, 7, math.nan, math.inf, -math.inf, True, (1, 2), {3}], ids=repr
)
def test_any_value_of_any_field_is_served_or_refused_as_a_value_error(value: Any) -> None:
    """Whatever a file holds in a field: never a raw TypeError, and never a field that is silently not what it says."""
    for family in FAMILIES.values():
        for field in family.reads:
            for flow in ({}, {"use_flow_sigmas": True}):
                config = {
                    "_class_name": family.class_name,
                    **(flow if "use_flow_sigmas" in family.reads else {}),
                    field: value,
                }
                with contextlib.suppress(ValueError):
                    schedule_from_config(config, mu=1.0)
                with contextlib.suppress(ValueError):
                    data_hook_from_config(config)


def test_null_fields_and_whole_floats_are_accepted() -> None:
    """Null is the class's default, and a file may write 1000 as 1000.0."""
    plain = {"_class_name": "HeunDiscreteScheduler"}
    fields = (
        "beta_schedule",
        "beta_start",
        "beta_end",
        "trained_betas",
        "num_train_timesteps",
        "prediction_type",
        "use_karras_sigmas",
    )
    for config in ({**plain, **dict.fromkeys(fields)}, {**plain, "num_train_timesteps": 1000.0}):
        np.testing.assert_array_equal(
            schedule_from_config(config).alpha([0.3, 1.0]), schedule_from_config(plain).alpha([0.3, 1.0])
        )


def test_the_shift_of_the_snr_comes_before_zero_terminal_snr() -> None:
    """CogVideoX: the signal-to-noise ratio is divided by 3, then sqrt(alpha_bar) is moved to end at 0."""
    config = {"_class_name": "CogVideoXDDIMScheduler"}
    plain = schedule_from_config({**config, "snr_shift_scale": 1.0})
    shifted, ended = (schedule_from_config({**config, "rescale_betas_zero_snr": flag}) for flag in (False, True))
    times = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(shifted.half_log_snr(times), plain.half_log_snr(times) - 0.5 * math.log(3.0), atol=1e-12)
    assert ended.alpha(1.0) == 0.0
    assert ended.alpha(0.001) == pytest.approx(shifted.alpha(0.001), rel=1e-12)


def test_lambda_min_clipped_is_where_runs_start() -> None:
    """The default start is where the half-log-SNR has that value; a grid says otherwise, and -inf says nothing."""
    config = {
        "_class_name": "DPMSolverMultistepScheduler",
        "beta_schedule": "squaredcos_cap_v2",
        "lambda_min_clipped": -5.1,
    }
    schedule = schedule_from_config(config)
    assert schedule.half_log_snr(schedule.default_start()) == pytest.approx(-5.1, abs=1e-9)
    plan = dpm.make_plan("dpm++2m", schedule, nfe=10)
    assert plan.rows[0].point.half_log_snr == pytest.approx(-5.1, abs=1e-9)
    assert schedule_from_config({**config, "lambda_min_clipped": -math.inf}).default_start() == 1.0


def test_shift_terminal_is_the_level_of_the_last_evaluation() -> None:
    """LTX-Video: the last level that the network sees has sigma = 0.1, and the run then ends at sigma = 0, as diffusers' does."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift_terminal=0.1)
    scheduler.set_timesteps(10)
    schedule = schedule_from_config(scheduler.config)
    plan = dpm.make_plan("dpm++2m", schedule, nfe=10, grid="logsnr")
    assert plan.rows[-1].point.sigma == pytest.approx(float(scheduler.sigmas[-2]), abs=1e-6)
    assert plan.end.sigma == float(scheduler.sigmas[-1]) == 0.0


class Straight(torch.nn.Module):
    """The velocity of a flow whose data are all 0.7, as Mochi's networks give it: label 0 is noise, label 1000 is data."""

    dtype = torch.float64

    def forward(self, x: Any, t: Any, return_dict: bool = True) -> tuple[Any]:
        return ((0.7 - x) / (1 - t / 1000).clamp_min(1e-9).reshape(-1, 1),)


def test_an_inverted_flow_runs_as_diffusers_runs_it() -> None:
    """invert_sigmas: labels and the sign of the velocity are right in sample, iterate, encode, adaptive and RK45 runs."""
    config = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, shift=3.0).config
    schedule = schedule_from_config(config)
    assert (schedule.label(1.0), schedule.label(0.0)) == (0.0, 1000.0)
    denoiser = dpm.Denoiser(network(Straight(), config), schedule, predicts_from_config(config))
    noise = dpm.initial_noise(schedule, (3, 2), like=torch.empty(0, dtype=torch.float64))
    data = torch.full_like(noise, 0.7)
    torch.testing.assert_close(dpm.sample(denoiser, noise, nfe=8), data)
    torch.testing.assert_close(list(dpm.iterate(denoiser, noise, nfe=8))[2].denoised, data)
    late = {"start": 0.99, "end": 0.01}
    sigma = schedule.sigma(0.01)
    expected = (1 - sigma) * data + sigma / schedule.sigma(0.99) * (noise - schedule.alpha(0.99) * data)
    torch.testing.assert_close(dpm.sample_adaptive(denoiser, noise, **late), expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(dpm.sample_rk45(denoiser, noise, **late).x, expected, rtol=1e-3, atol=1e-3)
    back = dpm.encode(denoiser, expected, nfe=5, start=0.01, end=0.99)
    torch.testing.assert_close(back, noise, rtol=1e-6, atol=1e-6)


def test_cosmos_predict2_is_the_flow_that_its_pipeline_runs() -> None:
    """The pipeline's state is x_0 + sigma eps, its label sigma/(1 + sigma), and its x_0 is x/(1 + sigma) - label output."""
    config = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "use_karras_sigmas": True,
        "sigma_data": 1.0,
        "sigma_max": 80.0,
        "sigma_min": 0.002,
        "final_sigmas_type": "sigma_min",
    }
    schedule = schedule_from_config(config)
    denoiser = dpm.Denoiser(network(Module(), config), schedule, predicts_from_config(config))
    assert schedule.half_log_snr(schedule.default_start()) == pytest.approx(-math.log(80.0))
    assert schedule.half_log_snr(schedule.t_min) == pytest.approx(-math.log(0.002))
    for level in (80.0, 3.0, 0.002):
        time, state, output = schedule.time(-math.log(level)), 1.3, 0.4
        label = level / (1 + level)
        assert schedule.label(time) == pytest.approx(label)
        a, b = denoiser.conversion("data", schedule.alpha(time), schedule.sigma(time))
        assert a * state / (1 + level) + b * output == pytest.approx(state / (1 + level) - label * output)


def test_stable_video_diffusion_is_scaled_as_its_scheduler_scales_it() -> None:
    """timestep_type "continuous": labels ln(sigma)/4, sigma from 0.002 to 700, and the sign of v."""
    scheduler = diffusers.EulerDiscreteScheduler(
        timestep_type="continuous",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    )
    assert schedule_from_config(scheduler.config) == dpm.schedules.EDM(sigma_min=0.002, sigma_max=700.0)
    assert predicts_from_config(scheduler.config) == "data"


@pytest.mark.parametrize(
    "leftover",
    [
        {"skip_prk_steps": True, "set_alpha_to_one": False, "clip_sample": False, "steps_offset": 1},
        {"_use_default_values": ["beta_start"], "_diffusers_version": "0.6.0"},
        {"shift": 1.0, "flow_shift": 1.0, "invert_sigmas": False, "snr_shift_scale": 1.0, "timestep_values": None},
    ],
)
def test_fields_of_other_classes_that_do_nothing_are_accepted(leftover: dict[str, Any]) -> None:
    """A pipeline's scheduler is often made from another's config, and keeps its fields."""
    config = {"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", **STABLE_DIFFUSION}
    assert repr(schedule_from_config({**config, **leftover})) == repr(schedule_from_config(config))


def test_a_flow_made_from_another_flows_config_keeps_its_shift() -> None:
    """Wan's UniPC config in a flow-matching class, and SD3's config in a DPM-Solver class: served where the shifts agree."""
    wan = {
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
    }
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", **wan, "shift": 3.0, "flow_shift": 3.0}
    solver = {"_class_name": "DPMSolverMultistepScheduler", **wan, "shift": 3.0, "flow_shift": 3.0, "base_shift": 0.5}
    for config in (flow, solver):
        assert schedule_from_config(config) == dpm.schedules.Flow(shift=3.0, label_scale=1000.0)
        assert predicts_from_config(config) == "velocity"
    with pytest.raises(ValueError, match=r"flow_shift=5\.0 has no meaning in a config of FlowMatchEuler"):
        schedule_from_config({**flow, "flow_shift": 5.0})


def test_corrections_of_x0_that_a_config_asks_for() -> None:
    """thresholding and clip_sample as hooks, with their ranges; a missing clip_sample is the class's own default."""
    x0, point = np.array([[3.0, -0.5, 0.1, 0.2]]), dpm.make_plan("ddim", dpm.schedules.LinearVP(), nfe=1).rows[0].point
    ddpm, dpm2m = {"_class_name": "DDPMScheduler"}, {"_class_name": "DPMSolverMultistepScheduler"}
    for config, highest in (
        (ddpm, 1.0),
        ({**ddpm, "clip_sample_range": 2.0}, 2.0),
        ({**dpm2m, "thresholding": True, "sample_max_value": 0.5}, 0.5),
        ({**ddpm, "thresholding": True, "dynamic_thresholding_ratio": 0.9}, 1.0),
    ):
        hook = data_hook_from_config(config)
        assert hook is not None
        assert hook(x0, point).max() == pytest.approx(highest)
    assert data_hook_from_config(dpm2m) is None
    assert data_hook_from_config({**ddpm, "clip_sample": False}) is None
    assert data_hook_from_config(ddpm, clip=False) is None
    with pytest.raises(ValueError, match="ratio must lie"):
        data_hook_from_config({**dpm2m, "thresholding": True, "dynamic_thresholding_ratio": 2.0})


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
