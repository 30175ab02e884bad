"""Whole trajectories against diffusers' solvers that add noise to a state of variance 1, the noise being ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.plans import Combination
from dpmsolver.solvers import unipc
from peers import LINEAR, SCHEDULE, STEPS, doubled, drawn, error, follow, ours, run, start, times_of

# diffusers deprecates algorithm_type="sde-dpmsolver"; here it is what ours is compared with.
pytestmark = pytest.mark.filterwarnings("ignore:`algorithm_types:FutureWarning")


def sde_multistep(x: torch.Tensor, **config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The steps and the samples of DPMSolverMultistepScheduler."""
    scheduler = diffusers.DPMSolverMultistepScheduler(**LINEAR, **config)
    scheduler.set_timesteps(STEPS)
    result, noise = x, drawn(range(1, STEPS + 1), x)
    for t in scheduler.timesteps:
        result = follow(scheduler, [t], result, variance_noise=noise())
    return scheduler.timesteps, result


@pytest.mark.parametrize(("solver_type", "quadrature"), [("midpoint", "published"), ("heun", "exact")])
@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize(
    ("name", "algorithm", "order"),
    [("sde-dpm-1", "sde-dpmsolver", 1), ("sde-dpm-2", "sde-dpmsolver", 2), ("dpm++2m-sde", "sde-dpmsolver++", 2)],
)
def test_sde_multistep_trajectories_equal_those_of_diffusers(
    name: str, algorithm: str, order: int, lower_order_final: bool, solver_type: str, quadrature: str
) -> None:
    """sde-dpmsolver of order 1 and 2 to the first training step, sde-dpmsolver++ of order 2 to sigma = 0; both forms."""
    x = start()
    end = 0.0 if name == "dpm++2m-sde" else SCHEDULE.t_min
    labels, expected = sde_multistep(
        x,
        algorithm_type=algorithm,
        solver_order=order,
        solver_type=solver_type,
        lower_order_final=lower_order_final,
        final_sigmas_type="sigma_min" if end else "zero",
    )
    options = {"quadrature": quadrature, "lower_order_final": lower_order_final} if order > 1 else {}
    assert error(ours(name, labels, end, x, **options), expected) < 2e-5


def test_sde_multistep_of_order_1_is_ddim_with_eta_1() -> None:
    """sde-dpmsolver++ of order 1 is DDIM with eta = 1, that is DDPM's ancestral step."""
    x = start()
    labels, expected = sde_multistep(x, algorithm_type="sde-dpmsolver++", solver_order=1)
    assert error(ours("ddim", labels, 0.0, x, eta=1.0), expected) < 2e-5
    assert error(ours("ddpm", labels, 0.0, x), expected) < 2e-5


def test_sde_multistep_of_order_3_has_one_sign_wrong_in_diffusers() -> None:
    """Its weight of the second difference D2 has -1/2 where the published form (k-diffusion's too) has +1/2: theirs is ours - alpha_t D2.

    With that subtracted from every row of three outputs our plan is theirs, so nothing else differs. A weight that does not vanish
    with the step leaves it of order 1.
    """
    x = start()
    labels, expected = sde_multistep(x, algorithm_type="sde-dpmsolver++", solver_order=3)
    plan = dpm.make_plan("dpm++3m-sde", SCHEDULE, STEPS, times_of(labels, 0.0))
    assert error(run(plan, x), expected) > 1e-2
    points = [row.point for row in plan.rows] + [plan.end]
    rows = list(plan.rows)
    for k, row in enumerate(plan.rows):
        if row.advance is not None and len(row.advance.outputs) == 3:
            h, h0, h1 = np.diff([p.half_log_snr for p in points[k - 2 : k + 2]])[::-1]
            # D2 = (D1_0 - D1_1)/(r0 + r1), D1_0 = (m_0 - m_1)/r0, D1_1 = (m_1 - m_2)/r1 with r0 = h0/h, r1 = h1/h.
            r0, r1 = h0 / h, h1 / h
            second = np.array([1 / r0, -1 / r0 - 1 / r1, 1 / r1]) / (r0 + r1)
            outputs = np.array(row.advance.outputs) - points[k + 1].alpha * second
            rows[k] = replace(row, advance=replace(row.advance, outputs=tuple(outputs.tolist())))
    assert sum(row != other for row, other in zip(rows, plan.rows, strict=True)) == STEPS - 4
    assert error(run(replace(plan, rows=tuple(rows)), x), expected) < 2e-5


@pytest.mark.parametrize(("solver", "variance_type"), [("ddpm", "fixed_small"), ("ddpm-large", "fixed_large")])
def test_ddpm_equals_that_of_diffusers(monkeypatch: pytest.MonkeyPatch, solver: str, variance_type: str) -> None:
    """DDPMScheduler with both of its fixed variances, on leading steps, whose last one to clean data has no noise."""
    scheduler = diffusers.DDPMScheduler(**LINEAR, clip_sample=False, variance_type=variance_type)
    scheduler.set_timesteps(STEPS)
    x, labels = start(), scheduler.timesteps
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", drawn(range(1, STEPS), x))
    expected = follow(scheduler, labels, x)
    assert error(ours(solver, labels, 0.0, x), expected) < 2e-5


def test_ddpm_of_diffusers_can_end_in_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """On trailing steps its fixed_large adds the last step's beta to the clean data; ours adds no noise in a step to sigma = 0."""
    scheduler = diffusers.DDPMScheduler(
        **LINEAR, clip_sample=False, variance_type="fixed_large", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(STEPS)
    x, labels = start(), scheduler.timesteps
    draws = drawn(range(1, STEPS + 1), x)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", draws)
    expected = follow(scheduler, labels, x)
    last = drawn([STEPS], x)() * SCHEDULE.sigma(times_of(labels, 0.0)[-2])
    assert float(last.std()) > 0.1
    assert error(ours("ddpm-large", labels, 0.0, x) + last, expected) < 2e-5


def sa_peer(
    monkeypatch: pytest.MonkeyPatch, x: torch.Tensor, tau: float, predictor: int, corrector: int, final: bool
) -> Any:
    """The steps and samples of SASolverScheduler, with tau in the middle of the steps as the paper has it, or everywhere if it is 0."""
    scheduler = diffusers.SASolverScheduler(
        **LINEAR,
        predictor_order=predictor,
        corrector_order=corrector,
        tau_func=lambda t: tau if 200 <= t <= 800 else 0.5 * tau,
        lower_order_final=final,
    )
    labels = doubled(scheduler, SCHEDULE.t_min)
    monkeypatch.setattr("diffusers.schedulers.scheduling_sasolver.randn_tensor", drawn(range(1, STEPS + 1), x))
    return labels, follow(scheduler, labels, x)


def sa_ours(labels: torch.Tensor, x: torch.Tensor, tau: float, predictor: int, corrector: int, final: bool) -> Any:
    strengths = [tau if 200 <= t <= 800 else 0.5 * tau for t in labels.tolist()]
    orders = {"predictor_order": predictor, "corrector_order": corrector}
    return ours("sa-solver", labels, SCHEDULE.t_min, x, eta=strengths, lower_order_final=final, **orders)


def two_nodes_as_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give steps through two outputs the weight that SASolverScheduler gives them: 1/2 for the slope's moment, which is UniPC's B_1."""
    exact = unipc.exponential_step

    def step(prediction: Any, source: Any, target: Any, nodes: Any, **options: Any) -> Combination:
        return exact(prediction, source, target, nodes, quadrature="bh1" if len(nodes) == 2 else "exact", **options)

    monkeypatch.setattr(unipc, "exponential_step", step)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_sa_solver_of_order_1_equals_that_of_diffusers(monkeypatch: pytest.MonkeyPatch, tau: float) -> None:
    """Predictor and corrector of one output each, with a tau that changes between steps."""
    x = start()
    labels, expected = sa_peer(monkeypatch, x, tau, 1, 1, True)
    assert error(sa_ours(labels, x, tau, 1, 1, True), expected) < 1e-9


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("tau", [0.0, 1.0])
@pytest.mark.filterwarnings("ignore:this plan multiplies")  # order 4 to the end extrapolates by factors of a thousand
@pytest.mark.parametrize(("predictor", "corrector"), [(2, 1), (2, 2), (2, 3), (3, 2), (3, 4), (4, 4)])
def test_sa_solver_differs_from_diffusers_in_steps_through_two_outputs_alone(
    monkeypatch: pytest.MonkeyPatch, predictor: int, corrector: int, tau: float, final: bool
) -> None:
    """diffusers replaces the slope's weight in steps of two outputs, int (lambda - lambda_s) e^{(1 + tau^2) lambda}, by e^{...} h^2/2.

    Its comment says that this does not change the order. Ours is the paper's (eq. 14 and 17). Such steps occur at higher orders too: at the
    start and, lowered, at the end. With their weight our plan is theirs, so nothing else differs.
    """
    x = start()
    labels, expected = sa_peer(monkeypatch, x, tau, predictor, corrector, final)
    assert error(sa_ours(labels, x, tau, predictor, corrector, final), expected) > 1e-4
    two_nodes_as_diffusers(monkeypatch)
    assert error(sa_ours(labels, x, tau, predictor, corrector, final), expected) < 1e-8
