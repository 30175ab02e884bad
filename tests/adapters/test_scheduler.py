"""PlanScheduler by itself, in the loop that every pipeline has: equal to diffusers' schedulers and to `dpm.sample`, and bad input told."""

from __future__ import annotations

import copy
import json
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import predicts_from_config, schedule_from_config
from tiny import tiny_unet

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from dpmsolver.adapters.diffusers import PlanScheduler  # noqa: E402 (it needs diffusers)

LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
VIDEO = {
    **{"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "timestep_type": "continuous"},
    **{"sigma_min": 0.002, "sigma_max": 700.0, "use_karras_sigmas": True},
}


def network(x: Any, t: Any) -> Any:
    """An arbitrary smooth network of the state and the timestep, whose samples stay small."""
    t = torch.as_tensor(t, dtype=torch.float32).reshape(-1, *[1] * (x.ndim - 1))
    return torch.sin(2.0 * x.float() + 0.001 * t).to(x.dtype)


def noise(*shape: int, seed: int = 0, dtype: Any = None) -> Any:
    return torch.randn(*(shape or (2, 3, 4, 4)), generator=torch.Generator().manual_seed(seed)).to(
        dtype or torch.float32
    )


def run(scheduler: Any, x: Any, nfe: int | None = None, timesteps: Any = None, **options: Any) -> Any:
    """The loop of a pipeline."""
    if nfe is not None:
        scheduler.set_timesteps(nfe)
    scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
    for t in scheduler.timesteps if timesteps is None else timesteps:
        x = scheduler.step(network(scale(x, t), t), t, x, **options, return_dict=False)[0]
    return x


def made(name: str, **config: Any) -> Any:
    """A scheduler of diffusers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers, name)(**config)


SAME = [
    ("DPMSolverMultistepScheduler", LATENT, "dpm++2m", 8, 8),
    ("DPMSolverMultistepScheduler", {**LATENT, "prediction_type": "v_prediction"}, "dpm++2m", 8, 8),
    (
        "DPMSolverMultistepScheduler",
        {**LATENT, "prediction_type": "sample", "timestep_spacing": "trailing"},
        "dpm++2m",
        8,
        8,
    ),
    ("DPMSolverMultistepScheduler", {**LATENT, "solver_order": 3}, "dpm++3m", 8, 8),
    ("UniPCMultistepScheduler", LATENT, "unipc-2", 8, 8),
    ("DEISMultistepScheduler", LATENT, "deis-logrho1", 8, 8),
    ("DDIMScheduler", {**LATENT, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}, "ddim", 8, 8),
    (
        "DDIMScheduler",
        {
            **{"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
            "clip_sample": False,
        },
        "ddim",
        8,
        8,
    ),
    ("EulerDiscreteScheduler", {**LATENT, "timestep_spacing": "leading"}, "euler", 8, 8),
    ("HeunDiscreteScheduler", {**LATENT, "timestep_spacing": "leading"}, "heun", 5, 9),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "ddim", 8, 8),
    ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "ddim", 8, 8),
    ("EDMEulerScheduler", {}, "euler", 8, 8),
    ("EDMDPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}, "dpm++2m", 8, 8),
    ("EulerDiscreteScheduler", VIDEO, "euler", 8, 8),
]


@pytest.mark.parametrize(("name", "config", "solver", "steps", "nfe"), SAME)
def test_a_run_ends_where_that_of_the_same_scheduler_of_diffusers_does(
    name: str, config: dict[str, Any], solver: str, steps: int, nfe: int
) -> None:
    """On the steps of the config's class. Theirs of Euler and Heun keep x/alpha, which begins larger and ends at the same data."""
    theirs = made(name, **config)
    ours = PlanScheduler.from_config(theirs, solver=solver, grid="config")
    theirs.set_timesteps(steps)
    ours.set_timesteps(nfe)
    x = noise()
    expected = run(theirs, x * float(getattr(theirs, "init_noise_sigma", 1.0)))
    # Theirs of EDM begins at sqrt(sigma_max^2 + 1) times a normal, ours at sigma_max.
    start = float(theirs.init_noise_sigma) if ours.config.get("sigma_max") else ours.init_noise_sigma
    torch.testing.assert_close(run(ours, x * start), expected, rtol=1e-4, atol=1e-4)
    assert len(ours.timesteps) == nfe


@pytest.mark.parametrize("solver", sorted(dpm.solvers()))
def test_every_solver_spends_the_budget_and_gives_the_samples_of_sample(solver: str) -> None:
    """One timestep for each evaluation, stages included; labels and states are those of `dpm.sample`."""
    if dpm.solvers.SOLVERS[solver].calibrated:
        pytest.skip("needs statistics of a network")
    nfe = next(n for n in (12, 13, 15) if spends(solver, n))
    scheduler = PlanScheduler(solver, noise="host", **LATENT)
    scheduler.set_timesteps(nfe)
    assert len(scheduler.timesteps) == nfe
    x = noise()
    ours = run(scheduler, x, generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)])
    schedule = schedule_from_config(scheduler.config)
    denoiser = dpm.Denoiser(network, schedule)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    plan = dpm.make_plan(solver, schedule, nfe, predicts="noise")
    expected = dpm.sample(denoiser, x, plan=plan, generator=generators, noise="host")
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def spends(solver: str, nfe: int) -> bool:
    """Whether a solver has a run of so many evaluations."""
    try:
        dpm.solvers.SOLVERS[solver].spend(nfe)
    except dpm.PlanError:
        return False
    return True


def test_auto_takes_what_measurements_recommend() -> None:
    scheduler = PlanScheduler(**LATENT)
    scheduler.set_timesteps(10)
    plan = dpm.make_plan("auto", schedule_from_config(LATENT), 10, predicts="noise")
    assert scheduler.plan == plan
    assert scheduler.plan.solver == plan.solver != "auto"


def test_a_budget_that_a_solver_cannot_spend_is_answered_with_the_nearest() -> None:
    scheduler = PlanScheduler("dpm-3", **LATENT)
    with pytest.raises(dpm.PlanError, match=r"cannot spend nfe=10: nearest is 9 or 12"):
        scheduler.set_timesteps(10)
    scheduler.set_timesteps(9)
    assert len(scheduler.timesteps) == 9


def test_a_config_flag_names_the_grid_unless_one_is_given() -> None:
    karras = PlanScheduler("dpm++2m", use_karras_sigmas=True, **LATENT)
    karras.set_timesteps(6)
    named = PlanScheduler("dpm++2m@karras", **LATENT)
    named.set_timesteps(6)
    assert karras.plan == named.plan
    karras = PlanScheduler("dpm++2m", grid="time", use_karras_sigmas=True, **LATENT)
    karras.set_timesteps(6)
    assert karras.plan.grid == "time"


def test_options_reach_the_solver_and_the_grid() -> None:
    scheduler = PlanScheduler("ddim", grid="karras", options={"rho": 5.0, "end": 0.0, "eta": 0.5}, **LATENT)
    scheduler.set_timesteps(6)
    assert scheduler.plan == dpm.make_plan("ddim", schedule_from_config(LATENT), 6, "karras", rho=5.0, end=0.0, eta=0.5)


def test_the_pipelines_sigmas_are_the_steps_of_a_flow() -> None:
    """Flux gives linspace(1, 1/n, n) and mu; a solver with two evaluations in a step takes every second of them."""
    theirs = made("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True, shift_terminal=0.1)
    sigmas = np.linspace(1.0, 1 / 8, 8)
    theirs.set_timesteps(sigmas=sigmas, mu=0.7)
    for solver, every in (("ddim", 1), ("heun", 2)):
        ours = PlanScheduler.from_config(theirs, solver=solver)
        ours.set_timesteps(8, sigmas=sigmas, mu=0.7)
        torch.testing.assert_close(ours.timesteps[::every][1:], theirs.timesteps[::every][1:], rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(ours.sigmas[:-1:every][1:], theirs.sigmas[:-1:every][1:], rtol=1e-5, atol=1e-6)
        # A solver of noise has no step from alpha = 0, and begins just above.
        assert float(ours.timesteps[0]) == pytest.approx(1000.0 if solver == "ddim" else 999.0, abs=0.01)
    assert theirs.config["use_dynamic_shifting"] == ours.config["use_dynamic_shifting"]
    before = dict(ours.config)
    ours.set_timesteps(8, sigmas=sigmas, mu=1.1)
    assert dict(ours.config) == before


def test_timesteps_and_sigmas_of_betas_are_taken_as_they_are() -> None:
    steps = diffusers.schedulers.scheduling_utils.AysSchedules
    scheduler = PlanScheduler("dpm++2m", **LATENT)
    scheduler.set_timesteps(timesteps=steps["StableDiffusionTimesteps"])
    assert scheduler.timesteps.tolist() == steps["StableDiffusionTimesteps"]
    assert float(scheduler.sigmas[-1]) == 0.0
    scheduler.set_timesteps(sigmas=steps["StableDiffusionSigmas"])
    torch.testing.assert_close(scheduler.sigmas, torch.tensor(steps["StableDiffusionSigmas"]), rtol=2e-3, atol=1e-4)


def test_both_given_the_model_gets_the_timesteps() -> None:
    """CogView4 says labels that are not those of its shifted sigmas."""
    scheduler = PlanScheduler("ddim", _class_name="FlowMatchEulerDiscreteScheduler", shift=3.0)
    given = [1000.0, 700.0, 400.0, 100.0]
    scheduler.set_timesteps(4, sigmas=[1.0, 0.7, 0.4, 0.1], timesteps=given)
    assert scheduler.timesteps.tolist() == given
    assert float(scheduler.sigmas[1]) == pytest.approx(3 * 0.7 / (1 + 2 * 0.7), abs=1e-6)


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "unipc-3", "ipndm-3"])
def test_a_later_start_is_a_plan_from_there(solver: str) -> None:
    """Image-to-image: the run on the steps that are left, without outputs of steps that were not taken."""
    x0, eps = noise(seed=1), noise(seed=2)
    scheduler = PlanScheduler(solver, **LATENT)
    scheduler.set_timesteps(8)
    whole = scheduler.plan
    timesteps = scheduler.timesteps[3:]
    scheduler.set_begin_index(3)
    assert scheduler.begin_index == 3
    x = scheduler.add_noise(x0, eps, timesteps[:1].repeat(2))
    schedule = schedule_from_config(LATENT)
    begin = whole.rows[3].point
    torch.testing.assert_close(x, float(begin.alpha) * x0 + float(begin.sigma) * eps)
    times = [*(row.point.time for row in whole.rows[3:]), whole.end.time]
    name = scheduler.plan.solver
    expected = dpm.sample(dpm.Denoiser(network, schedule), x, plan=dpm.make_plan(name, schedule, 5, times))
    torch.testing.assert_close(run(scheduler, x, timesteps=timesteps), expected, rtol=1e-4, atol=1e-4)


def test_a_pipeline_that_does_not_say_where_it_begins_is_understood() -> None:
    scheduler, other = (PlanScheduler("dpm++2m", **LATENT) for _ in range(2))
    for each in (scheduler, other):
        each.set_timesteps(8)
    other.set_begin_index(5)
    x = noise()
    torch.testing.assert_close(
        run(scheduler, x, timesteps=scheduler.timesteps[5:]), run(other, x, timesteps=other.timesteps[5:])
    )


def test_a_start_amid_a_step_has_steps_of_its_own() -> None:
    """The pipeline holds a view of the timesteps, in which those of the new plan then stand."""
    scheduler = PlanScheduler("dpm-2", **LATENT)
    scheduler.set_timesteps(8)
    view = scheduler.timesteps[4:]
    scheduler.set_begin_index(4)
    assert [row.point.label for row in scheduler.plan.rows] == pytest.approx(view.tolist(), abs=1e-3)
    assert scheduler.plan.nfe == 4
    with pytest.raises(dpm.PlanError, match="cannot begin at number 3, as this strength"):
        scheduler.set_begin_index(3)
    heun = PlanScheduler("heun", **LATENT)
    heun.set_timesteps(8)
    before, view = heun.timesteps.clone(), heun.timesteps[3:]
    heun.set_begin_index(3)
    assert view.tolist() == heun.timesteps[3:].tolist() != before[3:].tolist()
    assert torch.isfinite(run(heun, noise(), timesteps=view)).all()


def test_a_split_run_of_a_solver_without_history_is_the_whole_run() -> None:
    """SDXL's base and refiner: the second begins without the outputs of the first. DDIM needs none of them, 2M begins anew."""
    x = noise()
    for solver, same in (("ddim", True), ("dpm++2m", False)):
        base, refiner, whole = (PlanScheduler(solver, **LATENT) for _ in range(3))
        expected = run(whole, x, 10)
        base.set_timesteps(10)
        middle = run(base, x, timesteps=base.timesteps[:6])
        refiner.set_timesteps(10)
        refiner.set_begin_index(6)
        found = run(refiner, middle, timesteps=refiner.timesteps[6:])
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5) is same


def test_what_a_pipeline_makes_of_the_state_takes_its_place() -> None:
    """Inpainting without a model for it: the same as a state hook of `dpm.sample`, for solvers with stages too."""
    schedule, mask = schedule_from_config(LATENT), (noise(seed=5) > 0).float()
    x0, eps, x = noise(seed=1), noise(seed=2), noise()
    for solver in ("dpm++2m", "dpm-2", "heun"):
        scheduler = PlanScheduler(solver, **LATENT)
        scheduler.set_timesteps(8)
        plan = scheduler.plan
        points = [*(row.point for row in plan.rows), plan.end]

        def known(x: Any, point: Any) -> Any:
            return mask * (point.alpha * x0 + point.sigma * eps) + (1.0 - mask) * x

        state = known(x, points[0])
        for k, t in enumerate(scheduler.timesteps):
            state = known(scheduler.step(network(state, t), t, state)[0], points[k + 1])
        expected = dpm.sample(dpm.Denoiser(network, schedule), x, plan=plan, state_hook=known)
        torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_state_is_kept_in_float32(dtype: Any) -> None:
    """The model sees the cast copy: the result differs from float32 no more than diffusers' own in this type."""
    theirs = made("DPMSolverMultistepScheduler", **LATENT)
    ours = PlanScheduler.from_config(theirs, solver="dpm++2m", grid="config")
    x = noise(8, 4, 8, 8)
    exact = run(ours, x, 20)
    half, peer = (run(scheduler, x.to(dtype), 20) for scheduler in (ours, theirs))
    assert half.dtype == dtype
    errors = [float((found.float() - exact).square().mean()) for found in (half, peer)]
    assert errors[0] <= errors[1]


def test_a_changed_state_in_half_precision_keeps_the_digits_of_what_was_not_changed() -> None:
    scheduler, plain = (PlanScheduler("dpm++2m", **LATENT) for _ in range(2))
    x = noise(dtype=torch.bfloat16)
    expected = run(plain, x, 10)
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, return_dict=False)[0].clone()
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


def test_x0_stands_beside_the_next_sample() -> None:
    for solver in ("dpm++2m", "dpm-2", "ddpm"):
        scheduler = PlanScheduler(solver, **LATENT)
        scheduler.set_timesteps(6)
        x = noise()
        for k, t in enumerate(scheduler.timesteps):
            point, eps = scheduler.plan.rows[k].point, network(x, t)
            result = scheduler.step(eps, t, x)
            expected = (x - point.sigma * eps) / point.alpha
            torch.testing.assert_close(result.pred_original_sample, expected, rtol=1e-4, atol=1e-4)
            x = result.prev_sample


def test_learned_variance_is_passed_over() -> None:
    scheduler = PlanScheduler("dpm++2m", **LATENT)
    scheduler.set_timesteps(4)
    t, x = scheduler.timesteps[0], noise()
    doubled = torch.cat([network(x, t), torch.full_like(x, 9.0)], dim=1)
    found = scheduler.step(doubled, t, x).prev_sample
    scheduler.set_timesteps(4)
    torch.testing.assert_close(found, scheduler.step(network(x, t), t, x).prev_sample)


def test_noise_belongs_to_the_sample_and_the_seed() -> None:
    """A list of generators gives each sample its own noise, whatever the batch; the default generator of torch is followed."""
    scheduler, x = PlanScheduler("dpm++2m-sde", **LATENT), noise()
    both = run(scheduler, x, 6, generator=[torch.Generator().manual_seed(s) for s in (1, 2)])
    one = run(scheduler, x[1:], 6, generator=[torch.Generator().manual_seed(2)])
    torch.testing.assert_close(both[1:], one)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(run(scheduler, x, 6))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert not torch.equal(found[0], both)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    run(PlanScheduler("dpm++2m", **LATENT), x, 6, generator=generator)
    assert torch.equal(generator.get_state(), before), "a solver without noise draws nothing"


def test_the_callers_noise_takes_the_place_of_the_runs() -> None:
    x, schedule = noise(), schedule_from_config(LATENT)
    scheduler = PlanScheduler("ddim", options={"eta": 1.0, "end": 0.0}, **LATENT)
    scheduler.set_timesteps(1)
    scheduler.set_timesteps(2)
    z = noise(seed=9)
    (a, b), t = scheduler.plan.rows, scheduler.timesteps[0]
    found = scheduler.step(network(x, t), t, x, variance_noise=z).prev_sample
    step = a.advance or a.predict
    plain = scheduler_mean(scheduler, x, t)
    torch.testing.assert_close(found - plain, step.noise[0] * z, rtol=1e-4, atol=1e-4)
    assert b.point.time < schedule.t_max


def scheduler_mean(scheduler: Any, x: Any, t: Any) -> Any:
    """The step with no noise."""
    scheduler.set_timesteps(2)
    return scheduler.step(network(x, t), t, x, variance_noise=torch.zeros_like(x)).prev_sample


def test_thresholding_and_clipping_act_as_the_config_says() -> None:
    """Dynamic thresholding has a ceiling above 1 only if the config says so; a test in which it acts."""
    config = {**LATENT, "thresholding": True, "sample_max_value": 3.0, "dynamic_thresholding_ratio": 0.9}
    scheduler = PlanScheduler("dpm++2m", **config)
    scheduler.set_timesteps(6)
    x = 4.0 * noise()
    hook = dpm.thresholding.dynamic(0.9, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dpm.ConventionWarning)
        expected = dpm.sample(
            dpm.Denoiser(network, schedule_from_config(LATENT), data_hook=hook), x, plan=scheduler.plan
        )
    torch.testing.assert_close(run(scheduler, x), expected, rtol=1e-4, atol=1e-5)
    clipped = {"_class_name": "DDIMScheduler", "clip_sample": True, "clip_sample_range": 0.5, **LATENT}
    for clip, hook in ((True, dpm.thresholding.static(0.5)), (False, None)):
        ours = PlanScheduler.from_config(clipped, solver="ddim", clip=clip)
        ours.set_timesteps(6)
        expected = dpm.sample(
            dpm.Denoiser(network, schedule_from_config(LATENT), data_hook=hook), x / 4.0, plan=ours.plan
        )
        torch.testing.assert_close(run(ours, x / 4.0), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(dpm.PlanError, match="clip=True needs a config with clip_sample"):
        PlanScheduler("ddim", clip=True, **LATENT)


def test_noise_is_added_as_diffusers_does() -> None:
    """alpha x + sigma eps at any timesteps, before a run and in it (DPM's own looks for the timestep among those of the run)."""
    theirs, scheduler = made("DDPMScheduler", **LATENT), PlanScheduler("dpm++2m", **LATENT)
    x, eps, timesteps = noise(), noise(seed=1), torch.tensor([999, 100])
    expected = theirs.add_noise(x, eps, timesteps)
    torch.testing.assert_close(scheduler.add_noise(x, eps, timesteps), expected, rtol=1e-5, atol=1e-5)
    scheduler.set_timesteps(7)
    torch.testing.assert_close(scheduler.add_noise(x, eps, timesteps), expected, rtol=1e-5, atol=1e-5)
    assert scheduler.add_noise(x.half(), eps.half(), timesteps[:1]).dtype == torch.float16
    flow = PlanScheduler("ddim", _class_name="FlowMatchEulerDiscreteScheduler", shift=3.0)
    flow.set_timesteps(4)
    torch.testing.assert_close(
        flow.scale_noise(x, flow.timesteps[1:2], eps),
        (1 - flow.sigmas[1]) * x + flow.sigmas[1] * eps,
        rtol=1e-5,
        atol=1e-5,
    )


def test_many_steps_near_one_training_step_are_told_apart() -> None:
    """diffusers looks a timestep up, and rounds it: duplicates drift. Here it is counted, and fractional."""
    scheduler = PlanScheduler("dpm++2m", grid="karras", **LATENT)
    scheduler.set_timesteps(400)
    assert len(set(scheduler.timesteps.round().tolist())) < 400
    assert torch.isfinite(run(scheduler, noise())).all()


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


def test_a_tuned_plan_of_digits_draws_in_its_pipeline_what_sample_draws() -> None:
    """The model that comes with the package, from its folder, unconditional through its null label."""
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
