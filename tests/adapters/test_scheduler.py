"""PlanScheduler by itself, in the loop that every pipeline has: equal to diffusers' schedulers and to `dpm.sample`, and bad input told."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import schedule_from_config
from dpmsolver.adapters.diffusers.classes import FAMILIES
from scheduler_loop import LATENT, made, network, noise, run

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from dpmsolver.adapters.diffusers import PlanScheduler  # noqa: E402 (it needs diffusers)

VIDEO = {
    **{"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "timestep_type": "continuous"},
    **{"sigma_min": 0.002, "sigma_max": 700.0, "use_karras_sigmas": True},
}

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
    if dpm.solvers.SOLVERS[solver].answers > 1:
        pytest.skip(
            "wants two outputs of an evaluation, which a pipeline does not hand over: refused, see solvers/test_cfgpp.py"
        )
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


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"}))
def test_the_config_of_every_class_runs(name: str) -> None:
    """As it is written by the class, with the solver that measurements recommend and with one that predicts data."""
    for solver in ("auto", "unipc-3"):
        scheduler = PlanScheduler.from_config(made(name), solver=solver)
        scheduler.set_timesteps(8)
        assert torch.isfinite(run(scheduler, noise() * scheduler.init_noise_sigma)).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers makes its sigmas with NumPy
def test_a_class_with_stages_has_no_steps_to_take_over() -> None:
    scheduler = PlanScheduler.from_config(made("KDPM2DiscreteScheduler"), solver="ddim", grid="config")
    with pytest.raises(dpm.PlanError, match="levels of KDPM2DiscreteScheduler are not the ends of 8 steps"):
        scheduler.set_timesteps(8)


def test_a_calibrated_plan_runs() -> None:
    """Its coefficients are arrays, and fit states of one shape."""
    schedule = schedule_from_config({"beta_schedule": "linear"})
    denoiser = dpm.models.Gaussian(mean=[0.3] * 4, variance=[0.2] * 4).denoiser(schedule)
    data = np.random.default_rng(0).normal(0.3, 0.45, (64, 4))
    plan = dpm.make_plan("dpm-v3", schedule, 6, statistics=dpm.calibrate(denoiser, data, levels=5))
    scheduler = PlanScheduler("auto", plan=None, beta_schedule="linear")
    scheduler = PlanScheduler.from_config(scheduler.config, plan=plan)
    x = noise(3, 4)
    expected = dpm.sample(dpm.Denoiser(network, schedule), x, plan=plan)
    torch.testing.assert_close(run(scheduler, x, 6), expected, rtol=1e-4, atol=1e-5)
    scheduler.set_timesteps(6)
    with pytest.raises(dpm.PlanError, match="calibrated for states of shape"):
        scheduler.step(noise(3, 5), scheduler.timesteps[0], noise(3, 5))


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
