"""PlanScheduler in use: reuse, threads, gradients, bad input, files and the interface that pipelines look for."""

from __future__ import annotations

import copy
import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import predicts_from_config, schedule_from_config
from scheduler_loop import LATENT, made, network, noise, run
from tiny import tiny_unet

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from dpmsolver.adapters.diffusers import PlanScheduler  # noqa: E402 (it needs diffusers)


def test_a_scheduler_serves_another_batch_and_shape() -> None:
    scheduler = PlanScheduler("unipc-3", **LATENT)
    first = run(scheduler, noise(), 6)
    assert run(scheduler, noise(1, 3, 8, 8), 6).shape == (1, 3, 8, 8)
    torch.testing.assert_close(run(scheduler, noise(), 6), first, rtol=0, atol=0)


def test_two_pipelines_share_a_config_in_threads() -> None:
    config = PlanScheduler("unipc-3", **LATENT).config
    inputs = [noise(seed=seed) for seed in range(4)]
    expected = [run(PlanScheduler.from_config(config), x, 12) for x in inputs]
    found: dict[int, Any] = {}

    def work(k: int) -> None:
        found[k] = run(PlanScheduler.from_config(config), inputs[k], 12)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        torch.testing.assert_close(found[k], expected[k], rtol=0, atol=0)


def test_a_copy_begins_a_run_of_its_own() -> None:
    """Pipelines of sound and pictures copy the scheduler after set_timesteps."""
    scheduler = PlanScheduler("dpm++2m-sde", **LATENT)
    scheduler.set_timesteps(4)
    x, t = noise(), scheduler.timesteps[0]
    scheduler.step(network(x, t), t, x)
    other = copy.deepcopy(scheduler)
    assert other.step_index is None
    assert torch.isfinite(run(other, x)).all()
    assert scheduler.step_index == 1


def test_gradients_flow_through_a_run() -> None:
    x = noise().requires_grad_(True)
    weight = torch.tensor(0.5, requires_grad=True)
    scheduler = PlanScheduler("dpm++2m", **LATENT)
    scheduler.set_timesteps(4)
    state = x
    for t in scheduler.timesteps:
        state = scheduler.step(weight * network(state, t), t, state).prev_sample
    state.square().sum().backward()
    assert float(x.grad.abs().sum()) > 0
    assert float(weight.grad.abs()) > 0


def test_a_network_with_nan_stops_the_run_where_it_was() -> None:
    scheduler, x = PlanScheduler("dpm++2m", **LATENT), noise()
    expected = run(scheduler, x, 4)
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        with pytest.raises(dpm.SamplingError, match="NaN or infinity at evaluation"):
            scheduler.step(torch.full_like(x, torch.nan), t, x)
        x = scheduler.step(network(x, t), t, x).prev_sample
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


def test_steps_out_of_order_are_told(tmp_path: Path) -> None:
    """Every message says what to do, and the scheduler stays usable."""
    scheduler, x = PlanScheduler("dpm++2m", **LATENT), noise()
    with pytest.raises(dpm.PlanError, match=r"call scheduler\.set_timesteps"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(4)
    first, second = scheduler.timesteps[:2]
    with pytest.raises(dpm.PlanError, match=r"timestep 5 is out of order: the run's number 0 is 999"):
        scheduler.step(x, 5, x)
    with pytest.raises(dpm.PlanError, match=r"eta=0\.5 is an option of the solver"):
        scheduler.step(x, first, x, eta=0.5)
    y = scheduler.step(network(x, first), first, x).prev_sample
    with pytest.raises(dpm.PlanError, match="out of order"):
        scheduler.step(y, first, y)
    with pytest.raises(dpm.PlanError, match=r"states of shape \(2, 3, 4, 4\) on cpu, got \(1, 3, 4, 4\)"):
        scheduler.step(y[:1], second, y[:1])
    with pytest.raises(dpm.PlanError, match=r"states of shape .* got .* on meta"):
        scheduler.step(y.to("meta"), second, y.to("meta"))
    with pytest.raises(ValueError, match="must return shape"):
        scheduler.step(y[:1], second, y)
    with pytest.raises(TypeError, match="floating-point"):
        scheduler.step(y.long(), second, y)
    for t in scheduler.timesteps[1:]:
        y = scheduler.step(network(y, t), float(t), y).prev_sample
    with pytest.raises(dpm.PlanError, match="the run is over: its 4 evaluations are made"):
        scheduler.step(y, second, y)
    torch.testing.assert_close(y, run(scheduler, x, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs num_inference_steps >= 1, sigmas or timesteps"),
        ({"num_inference_steps": 0}, "needs num_inference_steps >= 1"),
        ({"sigmas": [1.0, 2.0, 0.0]}, r"sigmas must fall strictly, but it rises at index 1: 1 is followed by 2; sort"),
        ({"sigmas": [3.0, 1.0, 1.0, 0.0]}, r"repeats at index 2: 1 is followed by 1"),
        ({"sigmas": [99.0, 1.0, 0.0]}, "sigma 99 is outside this schedule"),
        ({"sigmas": [2.0]}, "must name the end"),
        ({"timesteps": [10, 500]}, "timesteps must fall strictly"),
        ({"timesteps": [2000, 500]}, "label 2000 is outside"),
        ({"num_inference_steps": 3, "timesteps": [900, 500]}, "num_inference_steps=3, but the steps of 2"),
    ],
)
def test_steps_that_are_no_run_are_told(arguments: dict[str, Any], message: str) -> None:
    scheduler = PlanScheduler("dpm++2m", **LATENT)
    scheduler.set_timesteps(4)
    with pytest.raises(dpm.PlanError, match=message):
        scheduler.set_timesteps(**arguments)
    with pytest.raises(dpm.PlanError, match="set_timesteps"):
        scheduler.step(noise(), 999, noise())
    assert torch.isfinite(run(scheduler, noise(), 4)).all()


def test_sigmas_of_a_flow_are_levels() -> None:
    scheduler = PlanScheduler("ddim", _class_name="FlowMatchEulerDiscreteScheduler")
    with pytest.raises(dpm.PlanError, match=r"sigmas of a flow must lie in \[0, 1\]"):
        scheduler.set_timesteps(sigmas=[14.0, 1.0])
    with pytest.raises(dpm.PlanError, match="rises at index 1"):
        scheduler.set_timesteps(sigmas=[0.5, 1.0])
    with pytest.raises(ValueError, match="give mu"):
        PlanScheduler("ddim", _class_name="FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True).set_timesteps(4)


def test_configs_that_nobody_can_serve_are_refused() -> None:
    for config, message in (
        ({"_class_name": "IPNDMScheduler"}, "IPNDMScheduler is not served"),
        ({"_class_name": "FooScheduler"}, "'FooScheduler' is unknown"),
        ({**LATENT, "beta_strat": 1}, r"beta_strat=1 .*did you mean 'beta_start'"),
        ({"_class_name": "DDIMInverseScheduler"}, r"dpm\.encode"),
        (
            {
                **{"_class_name": "FlowMatchEulerDiscreteScheduler", "sigma_data": 1.0, "sigma_min": 0.002},
                **{"sigma_max": 80.0, "use_karras_sigmas": True},
            },
            "Cosmos-Predict2",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            PlanScheduler.from_config(config)
    with pytest.raises(TypeError, match="must be a mapping"):
        PlanScheduler.from_config([1])
    for arguments, message in (
        ({"solver": "dimm"}, "did you mean 'ddim'"),
        ({"solver": "ddim", "grid": "karas"}, "karras"),
        ({"solver": "ddim", "plan": {}}, "not both"),
        ({"plan": "nowhere.json"}, "cannot be read"),
        ({"plan": 3}, "path of a JSON file"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            PlanScheduler.from_config(LATENT, **arguments)
    with pytest.raises(dpm.PlanError, match="this config names none: name a grid"):
        PlanScheduler("ddim", grid="config", **LATENT).set_timesteps(4)


def test_a_plan_for_another_schedule_is_refused(tmp_path: Path) -> None:
    """At once, with both schedules named; a plan for this one runs, and says how many evaluations it makes."""
    schedule = schedule_from_config(LATENT)
    plan = dpm.make_plan("dpm++2m", schedule, 6, "karras")
    path = tmp_path / "tuned.json"
    path.write_text(plan.to_json())
    for other in (
        {"beta_schedule": "linear"},
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
        {"_class_name": "EDMEulerScheduler"},
    ):
        with pytest.raises(dpm.PlanError, match="does not fit this config's schedule"):
            PlanScheduler.from_config(other, plan=path)
    scheduler = PlanScheduler.from_config(LATENT, plan=str(path))
    with pytest.raises(dpm.PlanError, match="call it with num_inference_steps=6"):
        scheduler.set_timesteps(8)
    x = noise()
    torch.testing.assert_close(run(scheduler, x, 6), dpm.sample(dpm.Denoiser(network, schedule), x, plan=plan))
    with pytest.raises(dpm.PlanError, match="one whole run of 6 evaluations"):
        scheduler.set_begin_index(2)
    assert len(scheduler.plan.rows) == 6
    path.write_text("{")
    with pytest.raises(dpm.PlanError, match="holds no plan in JSON"):
        PlanScheduler.from_config(LATENT, plan=path)


def test_a_plan_of_a_flow_fits_every_shift() -> None:
    """A shift moves times and not noise levels, so a plan runs whatever shift the pipeline computes."""
    plan = dpm.make_plan("dpm++2m", dpm.schedules.Flow(shift=3.0, label_scale=1000.0), 6)
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    scheduler = PlanScheduler.from_config(config, plan=plan)
    scheduler.set_timesteps(6, mu=0.9)
    assert scheduler.timesteps.tolist() == pytest.approx([row.point.label for row in plan.rows])
    assert torch.isfinite(run(scheduler, noise())).all()


def test_it_saves_and_loads(tmp_path: Path) -> None:
    """The folder holds the choice and the config; another scheduler of diffusers reads the config from it, and back."""
    plan = dpm.make_plan("dpm++2m", schedule_from_config(LATENT), 6)
    for chosen in ({"solver": "unipc-2@karras:rho=5"}, {"solver": "ddim", "options": {"eta": 0.3}}, {"plan": plan}, {}):
        scheduler = PlanScheduler.from_config(made("PNDMScheduler", **LATENT), **chosen)
        scheduler.save_pretrained(tmp_path)
        loaded = PlanScheduler.from_pretrained(tmp_path)
        for each in (scheduler, loaded, PlanScheduler.from_config(loaded.config)):
            each.set_timesteps(6)
        assert scheduler.plan == loaded.plan
        assert {k: v for k, v in scheduler.config.items() if k != "_use_default_values"} == dict(loaded.config)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == "PlanScheduler"
    theirs = diffusers.DPMSolverMultistepScheduler.from_config(loaded.config)
    assert theirs.config.beta_start == 0.00085
    back = PlanScheduler.from_config(theirs.config, solver="ddim")
    assert back.config["_dpmsolver"]["class"] == "DPMSolverMultistepScheduler"
    changed = PlanScheduler.from_config(loaded.config, prediction_type="v_prediction")
    assert predicts_from_config(changed.config) == "v"
    assert diffusers.DDIMScheduler in scheduler.compatibles


def test_edm_states_and_inputs_are_those_of_the_class() -> None:
    theirs = made("EDMEulerScheduler")
    ours = PlanScheduler.from_config(theirs, solver="euler", grid="config")
    theirs.set_timesteps(5)
    ours.set_timesteps(5)
    x = noise()
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-4, atol=1e-4)
    t = ours.timesteps[0]
    torch.testing.assert_close(
        ours.scale_model_input(x, t), theirs.scale_model_input(x, theirs.timesteps[0]), rtol=1e-4, atol=1e-6
    )
    assert ours.init_noise_sigma == pytest.approx(80.0)


def test_the_signature_is_what_pipelines_look_for() -> None:
    scheduler = PlanScheduler("ddim", **LATENT)
    assert scheduler.order == 1
    assert scheduler.init_noise_sigma == 1.0
    assert len(scheduler) == scheduler.config.num_train_timesteps == 1000
    assert scheduler.betas.tolist() == pytest.approx(made("DDIMScheduler", **LATENT).betas.tolist(), rel=1e-3)
    scheduler.set_timesteps(5)
    assert scheduler.num_inference_steps == 5
    assert scheduler.index_for_timestep(scheduler.timesteps[2]) == 2
    with pytest.raises(dpm.PlanError, match="none of the run's"):
        scheduler.index_for_timestep(3)


def test_a_fitted_plan_is_taken_without_a_word_about_a_network_that_nobody_sees() -> None:
    """The pipeline has the network: the scheduler cannot tell whether it is another one, and does not warn of it."""
    made_plan = dpm.make_plan("dpm++2m", schedule_from_config(LATENT), 6)
    fitted = dataclasses.replace(
        made_plan, keeps_marginals=False, options={"network": "5c37426c08a54987", "guidance": "none"}
    )
    found, expected = (run(PlanScheduler(plan=plan, **LATENT), noise(), 6) for plan in (fitted, made_plan))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
def test_a_tuned_plan_of_digits_in_a_pipeline_draws_the_pictures_of_sample(tmp_path: Path) -> None:
    """A plan that `dpm.tune` fitted to sevens, from its file, in diffusers' own DDPMPipeline: to 1e-5 of the range."""

    class Sevens(diffusers.UNet2DModel):
        def forward(self, sample: Any, timestep: Any, **kwargs: Any) -> Any:
            labels = torch.full((len(sample),), 7, device=sample.device)
            return super().forward(sample, timestep, class_labels=labels, **kwargs)

    folder, model = Path(dpm.models.__file__).parent / "weights" / "digits", dpm.models.load("digits")
    tuned = dpm.tune(lambda numbers: model.denoiser([7] * len(numbers)), model.initial_noise(16, 1), nfe=4, effort=300)
    plan = tuned.plans["tuned"]
    assert not plan.keeps_marginals
    (tmp_path / "tuned.json").write_text(plan.to_json())
    unet = Sevens.from_pretrained(folder, subfolder="unet", low_cpu_mem_usage=False)
    config = diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler").config
    pipe = diffusers.DDPMPipeline(unet, PlanScheduler.from_config(config, plan=str(tmp_path / "tuned.json")))
    pipe.set_progress_bar_config(disable=True)
    found = pipe(3, torch.Generator().manual_seed(5), num_inference_steps=4, output_type="np").images
    x_T = torch.randn(3, *model.shape, generator=torch.Generator().manual_seed(5))
    expected = dpm.sample(model.denoiser([7] * 3), x_T, plan=plan)
    np.testing.assert_allclose(found, (expected / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1), rtol=0, atol=1e-5)


def test_a_plan_of_digits_draws_in_its_pipeline_what_sample_draws() -> None:
    """The model that comes with the package, from its folder, with a plan of its own."""
    folder = Path(dpm.models.__file__).parent / "weights" / "digits"
    model = dpm.models.load("digits")
    unet = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet", low_cpu_mem_usage=False)
    old = diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    plan = dpm.make_plan("ipndm-3", model.schedule, 8, "karras")
    scheduler = PlanScheduler.from_config(old.config, plan=dpm.Plan.from_json(plan.to_json()))
    labels = torch.tensor([3, 7])
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(8)
    with torch.no_grad():
        state = x
        for t in scheduler.timesteps:
            state = scheduler.step(unet(state, t, class_labels=labels).sample, t, state).prev_sample
        expected = dpm.sample(model.denoiser([3, 7]), x, plan=plan)
    torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-4)


def test_ddpm_pipeline_takes_it_and_saves_it(tmp_path: Path) -> None:
    """A pipeline of diffusers with this scheduler is saved as a folder, and loads from it."""
    pipe = diffusers.DDPMPipeline(tiny_unet().eval(), made("DDPMScheduler", clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = PlanScheduler.from_config(pipe.scheduler.config, solver="dpm-3")
    call = {"batch_size": 2, "num_inference_steps": 6, "output_type": "np"}
    first = pipe(**call, generator=torch.Generator().manual_seed(0)).images
    pipe.save_pretrained(tmp_path)
    loaded = diffusers.DDPMPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.scheduler, PlanScheduler)
    second = loaded(**call, generator=torch.Generator().manual_seed(0)).images
    np.testing.assert_allclose(first, second, atol=1e-5)
