"""Runs along one Brownian path: the coupling is exact, the laws are right, and known orders are found."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.convergence import GAUSSIAN, MIXTURE, RUN, SCHEDULE, errors, some_statistics
from dpmsolver.evaluation.coupling import BIMODAL, Coupled, coupled_plans, coupled_runs, path_weights, strong_order
from dpmsolver.evaluation.coupling import _coefficients as coefficients
from dpmsolver.sampling.noise import intervals
from dpmsolver.solvers import SOLVERS

STOCHASTIC = [n for n, s in SOLVERS.items() if s.stochastic]


@pytest.mark.parametrize("name", [n for n in STOCHASTIC if not SOLVERS[n].calibrated])
def test_every_draw_is_a_standard_normal_and_draws_of_a_run_are_independent(name: str) -> None:
    """The law of every run is its own: weights of norm 1, orthogonal within a plan. Those of a draw lie in its interval."""
    plans = coupled_plans(SOLVERS[name], (4, 8))
    for plan, weights in zip(plans, path_weights(plans), strict=True):
        used = np.stack([weights[k] for k in intervals(plan)])
        np.testing.assert_allclose(used @ used.T, np.eye(len(used)), atol=1e-12)


def test_coarse_increments_are_sums_of_the_fine_ones() -> None:
    """W(c_b) - W(c_a) of a step is the sum over its two halves, with c = (alpha/sigma)^2, written out."""
    coarse, fine = coupled_plans(SOLVERS["dpm++2m-sde"], (4, 8))
    first, second = path_weights([coarse, fine])

    def increment(plan: dpm.Plan, k: int) -> float:
        a, b = [*(row.point for row in plan.rows), plan.end][k : k + 2]
        return math.sqrt((b.alpha / b.sigma) ** 2 - (a.alpha / a.sigma) ** 2)

    for k in range(4):
        halves = sum(increment(fine, j) * second[j] for j in (2 * k, 2 * k + 1))
        # Points of nested grids are told apart by nine digits.
        np.testing.assert_allclose(increment(coarse, k) * first[k], halves, rtol=1e-8)


@pytest.mark.parametrize("name", ["dpm++sde", "sde-dpm-2", "er-sde-3", "dpm2-ancestral"])
def test_coefficients_have_the_moments_of_the_plan(name: str) -> None:
    """Two ways to the law of a result: the coefficients of the path's normals, and `Plan.moments`."""
    (plan,) = coupled_plans(SOLVERS[name], (8,))
    found = coefficients(plan, path_weights([plan])[0])
    mean, variance = plan.moments(GAUSSIAN.means[0], GAUSSIAN.variances[0])
    np.testing.assert_allclose(found[0], mean, atol=1e-12)
    np.testing.assert_allclose((found[1:] ** 2).sum(axis=0), variance, atol=1e-12)


def test_strong_order_of_ddpm_in_closed_form() -> None:
    """Data of one point at 0: the optimal network says 0, every ancestral step is exact, and runs of any step number agree."""
    plans = coupled_plans(SOLVERS["ddpm"], (4, 8))
    weights = path_weights(plans)
    results = []
    for plan, each in zip(plans, weights, strict=True):
        x = np.zeros_like(each[0])
        for row, w in zip(plan.rows, each, strict=True):
            x = row.advance.state * x + row.advance.noise[0] * w
        results.append(x)
    np.testing.assert_allclose(results[0], results[1], atol=1e-12)


def test_strong_order_is_one_with_exact_steps_and_a_half_where_noise_of_its_own_is_added() -> None:
    """Additive noise: order 1. Analytic-DDIM adds noise of variance h^2 a step, in sum h, to what converges to the ODE: order 1/2."""
    assert strong_order(SOLVERS["dpm++2m-sde"]) == pytest.approx(1, abs=0.1)
    statistics = some_statistics(GAUSSIAN)
    assert strong_order(SOLVERS["analytic-ddim"], statistics=statistics) == pytest.approx(0.5, abs=0.1)


def test_coupled_runs_find_the_law_and_the_orders() -> None:
    """On the mixture, a few samples: moments of the marginal, weak and strong order 1 of DDPM inside (or near) their intervals."""
    runs = coupled_runs(SOLVERS["ddpm"], steps=(16, 32, 64), batches=20, size=1000)
    alpha, sigma = SCHEDULE.alpha(RUN["end"]), SCHEDULE.sigma(RUN["end"])
    x = alpha * BIMODAL.sample(400_000, seed=1) + sigma * np.random.default_rng(2).standard_normal((400_000, 1))
    np.testing.assert_allclose(runs.exact, [x.mean(), (x**2).mean()], atol=0.01)
    for value, low, high in (runs.weak_order(), runs.strong_order()):
        assert low <= value <= high
        assert value == pytest.approx(1, abs=0.25)
    gap, error = runs.gap()
    distances, _ = runs.distances()
    assert gap < 2 * distances[-1] + 4 * error


@pytest.mark.slow
def test_intervals_hold_what_they_say() -> None:
    """Made data of weak order 2 and strong order 1 with known noise: the 95 % intervals hold the truth in most of 30 repetitions."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(30):
        means = np.array([0.16, 0.04, 0.01]) / 3  # of N, so that changes are 0.04 and 0.01
        moments = means[None, :, None] + 0.002 * rng.standard_normal((40, 3, 2))
        runs = Coupled((8, 16, 32), moments, np.ones((40, 2)) * [0.04, 0.01], np.zeros(2))
        _, low, high = runs.weak_order()
        hits += low <= 2 <= high
        assert runs.strong_order() == pytest.approx((1, 1, 1))
    assert hits >= 25


def test_what_cannot_be_measured_is_refused() -> None:
    """A solver that adds no noise has no path; a mixture in two dimensions has no such runs; its law is not known exactly."""
    with pytest.raises(PlanError, match=r"dpm\+\+2m adds no noise"):
        strong_order(SOLVERS["dpm++2m"])
    with pytest.raises(PlanError, match=r"dpm\+\+2m adds no noise"):
        coupled_runs(SOLVERS["dpm++2m"], batches=1, size=1)
    with pytest.raises(PlanError, match="one coordinate, got 2"):
        coupled_runs(SOLVERS["ddpm"], MIXTURE, batches=1, size=1)
    with pytest.raises(PlanError, match=r"unknown problem 'gausian' .did you mean 'gaussian'"):
        errors(SOLVERS["ddpm"], "gausian")
    with pytest.raises(PlanError, match="law of ddpm, which adds noise, is known exactly on problem 'gaussian' alone"):
        errors(SOLVERS["ddpm"], "mixture")
