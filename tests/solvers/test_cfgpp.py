"""CFG++: plans of two outputs, against ComfyUI's own results, against the plain solvers, and run with classifier-free guidance."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.evaluation.convergence import order_of_convergence
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans import Point
from dpmsolver.plans.loop import run, steps
from dpmsolver.schedules import EDM, Flow, LinearVP
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.cfgpp import cfgpp
from dpmsolver.solvers.names import understood

torch = pytest.importorskip("torch")
from dpmsolver.adapters.k_diffusion import plan_on_sigmas  # noqa: E402
from goldens import comfyui  # noqa: E402

GOLDENS: dict[str, Any] = json.loads((Path(comfyui.__file__).with_suffix(".json")).read_text())
NAMES = [name for name, solver in SOLVERS.items() if solver.answers == 2]
PLAIN = {name: name.removesuffix("-cfg++") for name in NAMES}
VP = LinearVP()
X_T = dpm.initial_noise(VP, (3, 2), seed=1)
CONDITION = np.array([1.0, -0.5, 0.3])


def network(x: Any, t: Any, y: Any) -> Any:
    """Predicts clean data from a condition."""
    tanh = torch.tanh if isinstance(x, torch.Tensor) else np.tanh
    return 0.5 * tanh(x + y[:, None]) + 0.2 * y[:, None]


def guided(scale: Any, array: Any = np.asarray, **options: Any) -> dpm.Denoiser:
    guidance = ClassifierFree(scale, {"y": array(CONDITION)}, {"y": array(0.0 * CONDITION)}, **options)
    return dpm.Denoiser(network, VP, "data", guidance=guidance)


# ComfyUI -------------------------------------------------------------------------------------------------------------------------


def draws_of(plan: dpm.Plan, flow: bool) -> Iterator[Any]:
    """The normals that ComfyUI's samplers draw: one for each step, at the evaluation that ends it."""
    noise, since = comfyui.noise_of_path(flow), plan.rows[0].point
    ends = [*(row.point for row in plan.rows[1:]), plan.end]
    for row, end in zip(plan.rows, ends, strict=True):
        last = row.advance is not None
        yield noise(since.sigma, end.sigma) if last and end.sigma else torch.zeros(2, 3, dtype=torch.float64)
        since = end if last else since


def of_plan(plan: dpm.Plan, flow: bool = False) -> Any:
    """The result of a plan with the guided and the unconditional denoiser of the goldens."""

    def both(u: Any, point: Point) -> Any:
        sigma = torch.full((2,), point.sigma, dtype=torch.float64)
        found = comfyui.denoised(u, sigma), comfyui.undirected(u, sigma)
        return found if plan.prediction == "data" else tuple((u - point.alpha * m) / point.sigma for m in found)

    return run(steps(plan, comfyui.start(plan.start.sigma), draws_of(plan, flow)), both)


@pytest.mark.parametrize("to_zero", [True, False])
@pytest.mark.parametrize(
    ("name", "flow"),
    [
        *((name, False) for name in comfyui.CFG_PP if "2s" not in name),
        ("euler_cfg_pp", True),
        ("euler_ancestral_cfg_pp", True),
    ],
)
def test_plans_are_comfyuis_samplers(name: str, flow: bool, to_zero: bool) -> None:
    """The result of ComfyUI 0.3.64, to 1e-12; on a flow its Euler's alone, since the others know no alpha."""
    levels = [*(comfyui.FLOW_SIGMAS if flow else comfyui.SIGMAS), *([0.0] * to_zero)]
    spec = understood(name, SOLVERS)
    result = of_plan(plan_on_sigmas(spec.solver, levels, flow=flow, **spec.options), flow)
    kind = f"{'flow' if flow else 'edm'} {'to 0' if to_zero else 'above 0'}"
    np.testing.assert_allclose(result.numpy(), GOLDENS[kind][name], rtol=1e-12, atol=1e-13)


def as_comfyui(plan: dpm.Plan) -> dpm.Plan:
    """The plan of 2S with the stage's unconditional output in place of the state's, in the last combination of each step."""
    rows = []
    for row in plan.rows:
        if row.advance is not None and len(row.advance.outputs) > 2:
            g, u, before, u_before = row.advance.outputs
            row = replace(row, advance=replace(row.advance, outputs=(g, u + u_before, before, 0.0)))
        rows.append(row)
    return replace(plan, rows=tuple(rows))


def test_2s_of_comfyui_has_the_stages_unconditional_output_for_the_states() -> None:
    """With that one coefficient moved our plan gives its result, which does not converge where both outputs are equal; ours does."""
    plan = plan_on_sigmas("dpm++2s-ancestral-cfg++", [*comfyui.SIGMAS, 0.0])
    expected = GOLDENS["edm to 0"]["dpmpp_2s_ancestral_cfg_pp"]
    np.testing.assert_allclose(of_plan(as_comfyui(plan)).numpy(), expected, rtol=1e-12, atol=1e-13)
    assert abs(of_plan(plan).numpy() - expected).max() > 1e-3
    fine = plan_on_sigmas("dpm++2s-ancestral-cfg++", np.geomspace(40.0, 0.05, 400), eta=0.0)
    assert fine.wasserstein(0.0, 0.25, to="end") < 1e-4
    assert as_comfyui(fine).wasserstein(0.0, 0.25, to="end") > 0.05
    with pytest.raises(dpm.PlanError, match=r"the nearest is 'dpm\+\+2s-ancestral-cfg\+\+'"):
        understood("dpmpp_2s_ancestral_cfg_pp", SOLVERS)


# Plain solvers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [VP, EDM(), Flow()], ids=repr)
@pytest.mark.parametrize("name", NAMES)
def test_equal_outputs_make_the_plain_solver(name: str, schedule: Any) -> None:
    """Scale 0, or one condition on both sides: the run of the solver without CFG++, noise included."""
    low = 0.02 if isinstance(schedule, Flow) else schedule.last_time(10)
    options = {"start": 0.9 * schedule.t_max, "end": low, "generator": 3}
    data = dpm.models.Gaussian(mean=[0.3, -1.0], variance=[0.2, 0.7]).denoiser(schedule)
    x = dpm.initial_noise(schedule, (3, 2), seed=0)
    expected = dpm.sample(data, x, 10, solver=PLAIN[name], grid="logsnr", **options)
    for scale in (0.0, 0.7, [0.0, 1.0, 5.0]):
        both = data.replace(guidance=ClassifierFree(scale, {}))
        given = dpm.sample(both, x, 10, solver=name, grid="logsnr", **options)
        np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_is_meant_for_equal_outputs(name: str) -> None:
    assert order_of_convergence(SOLVERS[name]) == pytest.approx(SOLVERS[PLAIN[name]].order, abs=0.15)


def test_every_plan_keeps_the_marginals_to_the_ends() -> None:
    """From alpha = 0 in data prediction, and to sigma = 0."""
    for name in NAMES:
        for schedule in (VP, EDM(), Flow()):
            plan = dpm.make_plan(name, schedule, 8, end=0.0)
            assert plan.answers == 2
            assert plan.keeps_marginals
            late = plan.prediction == "noise" and isinstance(schedule, Flow)
            assert (plan.start.time == schedule.default_start()) != late


# Runs ----------------------------------------------------------------------------------------------------------------------------


def by_hand(scale: Any, name: str, plan: dpm.Plan) -> Any:
    """DDIM and 2M as formulas, with g and u by hand."""
    x, old = X_T, None
    points = [*(row.point for row in plan.rows), plan.end]
    for k, (s, t) in enumerate(pairwise(points)):
        time = np.full(3, s.time)
        u = network(x, time, 0.0 * CONDITION)
        g = u + scale * (network(x, time, CONDITION) - u)
        ratio, correction = t.sigma / s.sigma, 0.0
        if name.startswith("dpm++2m") and k:
            h, last = t.half_log_snr - s.half_log_snr, s.half_log_snr - points[k - 1].half_log_snr
            correction = -t.alpha * math.expm1(-h) * h / (2.0 * last) * (g - old)
        x = t.alpha * g + ratio * (x - s.alpha * u) + correction
        old = u
    return x


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("name", ["ddim-cfg++", "dpm++2m-cfg++"])
def test_sample_gives_both_outputs_of_classifier_free_guidance(name: str, scale: float) -> None:
    """In one batched call and in two, NumPy and torch; at scale 1 the unconditional output still is the noise."""
    options = {"lower_order_final": False} if "2m" in name else {}
    plan = dpm.make_plan(name, VP, 6, **options)
    expected = by_hand(scale, name, plan)
    for batched in (True, False):
        np.testing.assert_allclose(dpm.sample(guided(scale, batched=batched), X_T, plan=plan), expected, rtol=1e-9)
        made = dpm.sample(guided(scale, torch.from_numpy, batched=batched), torch.from_numpy(X_T), plan=plan)
        np.testing.assert_allclose(made.numpy(), expected, rtol=1e-9)
    assert abs(dpm.sample(guided(scale), X_T, 6, solver=PLAIN[name], **options) - expected).max() > 1e-3


def test_samples_have_their_own_scales() -> None:
    plan = dpm.make_plan("ddim-cfg++", VP, 5)
    scales = np.array([0.2, 1.0, 1.7])
    np.testing.assert_allclose(
        dpm.sample(guided(scales), X_T, plan=plan), by_hand(scales[:, None], "ddim-cfg++", plan), rtol=1e-9
    )


@pytest.mark.parametrize("name", NAMES)
def test_outside_the_interval_it_is_the_plain_solver_with_the_condition(name: str) -> None:
    alone = guided(0.6, interval=(0.0, 1e-9))
    given = dpm.sample(alone, X_T, 8, solver=name, generator=0)
    np.testing.assert_allclose(
        given, dpm.sample(guided(1.0), X_T, 8, solver=PLAIN[name], generator=0), rtol=1e-9, atol=1e-12
    )


def test_iterate_shows_the_guided_data_and_hooks_see_both() -> None:
    """`State.denoised` is the guided prediction; a data_hook corrects every predicted x_0."""
    plan = dpm.make_plan("dpm++2m-cfg++", VP, 5)
    *states, last = dpm.iterate(guided(0.7), X_T, plan=plan)
    for state, row in zip(states, plan.rows, strict=True):
        time = np.full(3, row.point.time)
        u = network(state.x, time, 0.0 * CONDITION)
        np.testing.assert_allclose(state.denoised, u + 0.7 * (network(state.x, time, CONDITION) - u), rtol=1e-10)
    np.testing.assert_array_equal(last.x, dpm.sample(guided(0.7), X_T, plan=plan))
    seen = []

    def hook(x0: Any, point: Point) -> Any:
        seen.append(point.time)
        return 0.5 * x0

    halved = dpm.Denoiser(lambda x, t, y: 0.5 * network(x, t, y), VP, "data", guidance=guided(0.7).guidance)
    given = dpm.sample(guided(0.7).replace(data_hook=hook), X_T, plan=plan)
    np.testing.assert_allclose(given, dpm.sample(halved, X_T, plan=plan), rtol=1e-10)
    assert len(seen) == 2 * plan.nfe


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_flow_through_both_outputs(checkpoint: bool) -> None:
    """Against finite differences."""
    plan = dpm.make_plan("dpm++2m-cfg++", VP, 4)
    x = torch.from_numpy(X_T).requires_grad_()
    result = dpm.sample(guided(0.7, torch.from_numpy), x, plan=plan, differentiable=True, checkpoint=checkpoint)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    step = np.zeros_like(X_T)
    step[1, 0] = 1e-6
    values = [dpm.sample(guided(0.7), X_T + sign * step, plan=plan).sum() for sign in (1, -1)]
    assert float(gradient[1, 0]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("nfe", [6, 24])
def test_jax_traces_it(nfe: int) -> None:
    """Under jit, short runs unrolled and long ones as a scan."""
    jax = pytest.importorskip("jax")
    jnp, plan = jax.numpy, dpm.make_plan("dpm++2m-cfg++", VP, nfe)
    guidance = ClassifierFree(0.7, {"y": jnp.asarray(CONDITION)}, {"y": jnp.zeros(3)})
    denoiser = dpm.Denoiser(
        lambda x, t, y: 0.5 * jnp.tanh(x + y[:, None]) + 0.2 * y[:, None], VP, "data", guidance=guidance
    )
    made = jax.jit(lambda x: dpm.sample(denoiser, x, plan=plan))(jnp.asarray(X_T))
    np.testing.assert_allclose(made, dpm.sample(guided(0.7), X_T, plan=plan), rtol=2e-5, atol=1e-5)


def test_every_prediction_gives_the_same_run() -> None:
    """Networks of noise, v and data: the conversions of both outputs are folded into the coefficients."""
    model = dpm.models.Mixture([[0.0, 1.0], [1.0, -1.0]], [[0.1, 0.1], [0.2, 0.3]], [0.5, 0.5], classes=[0, 1])
    labels, nothing = np.array([0, 1, 0]), np.array([2, 2, 2])
    results = []
    for predicts in ("data", "noise", "v"):
        guidance = ClassifierFree(0.8, {"class_labels": labels}, {"class_labels": nothing}, batched=False)
        denoiser = model.denoiser(VP, predicts).replace(guidance=guidance)
        results.append(dpm.sample(denoiser, X_T, 8, solver="dpm++2m-cfg++", start=0.95))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-8)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-8)


# What it cannot do ---------------------------------------------------------------------------------------------------------------


def test_plans_that_have_no_form_are_refused() -> None:
    for name, message in (
        ("unipc-2", "got one that corrects and predicts"),
        ("velocity-2m", "takes a plan of one output an evaluation"),
        ("ddim-cfg++", "takes a plan of one output an evaluation"),
    ):
        with pytest.raises(dpm.PlanError, match=message):
            cfgpp(dpm.make_plan(name, VP, 5))


def test_a_pipeline_has_one_output_and_says_so() -> None:
    pytest.importorskip("diffusers")
    from dpmsolver.adapters.diffusers import PlanScheduler

    config = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear"}
    scheduler = PlanScheduler.from_config(config, solver="ddim-cfg++")
    with pytest.raises(dpm.PlanError, match=r"a pipeline hands its scheduler one output, and ddim-cfg\+\+ wants 2"):
        scheduler.set_timesteps(10)
