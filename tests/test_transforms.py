"""Transforms of plans: what they promise of any plan, measured orders of convergence, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dpmsolver as dpm
from cases import SCHEDULES, a_budget
from dpmsolver import PlanError, make_plan
from dpmsolver.plans import Combination, Plan, Point, Row
from dpmsolver.schedules import EDM, Discrete, Flow, LinearVP, NoiseSchedule
from dpmsolver.solvers import SOLVERS
from dpmsolver.transforms import analytic_first_step, denoise_to_zero, extrapolate, richardson

VP = LinearVP()
RUN = {"start": 0.7, "end": 0.05}
MEAN, VARIANCE = np.array([0.5, -0.3, 1.0, 0.0]), np.array([0.5, 0.1, 1.5, 0.02])

# Multistep, singlestep, correctors, Runge-Kutta, and noise: every way in which later rows use the first output.
NAMES = [
    "dpm++2m",
    "dpm++3m",
    "unipc-2",
    "unipc-3",
    "heun",
    "dpm-3",
    "dpm++3s",
    "pndm",
    "rk3-t",
    "sa-solver",
    "dpm++2m-sde",
    "dpm++sde",
]
ANY_PLAN = pytest.mark.parametrize(
    ("solver", "options"),
    [*((name, {}) for name in NAMES), ("ddim", {"eta": 1.0}), ("heun", {"s_churn": 20.0}), ("sa-solver", {"eta": 0.0})],
    ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values())),
)


def plan_of(solver: str, schedule: NoiseSchedule = VP, **options: Any) -> Plan:
    return make_plan(solver, schedule, a_budget(SOLVERS[solver], 9), **options)


def states(dimension: int = 3) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((2, dimension))


def network(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """No optimum of anything: what holds for it holds for any network."""
    return np.tanh(x + 0.3 * x[:, ::-1]) * (1.0 + 0.1 * t[:, None])


def run(plan: Plan, schedule: NoiseSchedule, net: Callable[..., Any], x: Any) -> Any:
    return dpm.sample(dpm.Denoiser(net, schedule, predicts=plan.prediction), x, plan=plan, generator=3, noise="host")


def slope(plans: Callable[[int], Plan], steps: tuple[int, int]) -> float:
    """The measured order, from the exact distance between the result and the ODE's solution for normal data."""
    errors = [plans(n).wasserstein(MEAN, VARIANCE, to="end") for n in steps]
    assert 1e-11 < errors[1] < errors[0] < 0.1, errors
    return math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0])


# The analytic first step.


@ANY_PLAN
@pytest.mark.parametrize("variance", [1.0, 0.2])
def test_analytic_first_step_is_the_plan_with_its_first_output_replaced(
    solver: str, options: dict[str, Any], variance: float
) -> None:
    """With any network and the same draws of noise: the plan run by hand, its first output the optimum of normal data."""
    plan = plan_of(solver, **options)
    alpha, sigma = plan.start.alpha, plan.start.sigma
    total = alpha**2 * variance + sigma**2
    guess = sigma / total if plan.prediction == "noise" else alpha * variance / total
    calls = 0

    def guessed(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return guess * x if calls == 1 else network(x, t)

    x = states()
    wanted = run(plan, VP, guessed, x)
    cheaper = analytic_first_step(plan, variance)
    assert (cheaper.nfe, cheaper.start, cheaper.end) == (plan.nfe - 1, plan.start, plan.end)
    assert cheaper.rows[0].point == plan.rows[1].point
    np.testing.assert_allclose(run(cheaper, VP, network, x), wanted, rtol=1e-9, atol=1e-9 * abs(wanted).max())
    assert calls == plan.nfe


@pytest.mark.parametrize(
    "solver",
    # Of plans with two outputs an evaluation the first step is not analytic: it is refused.
    [name for name in SOLVERS if "statistics" not in SOLVERS[name].accepted_options() and not name.endswith("cfg++")],
)
@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_analytic_first_step_is_exact_for_normal_data(solver: str, variance: float) -> None:
    """For data of mean 0 and the guess's variance the first output is the optimal one, so mean and variance of the result are equal."""
    for schedule in (VP, EDM()):
        plan = plan_of(solver, schedule)
        (mean, spread), (wanted_mean, wanted) = (
            p.moments(0.0, variance) for p in (analytic_first_step(plan, variance), plan)
        )
        np.testing.assert_allclose(spread, wanted, rtol=1e-11)
        np.testing.assert_allclose(mean, wanted_mean, atol=1e-12)


def test_analytic_first_step_of_a_plan_with_its_own_outputs() -> None:
    """What a calibrated plan keeps of an evaluation, u/10 + 0.9 m + a constant per element, follows from the guess too."""
    plan = make_plan("dpm++2m", VP, 6)
    output = Combination(0.1, (np.array([0.9, 0.8, 0.7]),), (), np.array([0.1, -0.2, 0.3]))
    plan = replace(plan, rows=tuple(replace(row, output=output) for row in plan.rows), keeps_marginals=False)
    guess = plan.start.alpha / (plan.start.alpha**2 + plan.start.sigma**2)
    calls: list[int] = []

    def guessed(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        calls.append(0)
        return guess * x if len(calls) == 1 else network(x, t)

    wanted = run(plan, VP, guessed, states())
    np.testing.assert_allclose(run(analytic_first_step(plan), VP, network, states()), wanted, rtol=1e-12)
    for refused in (lambda: richardson(plan, plan, 1, ratio=2.0), lambda: extrapolate(plan)):
        with pytest.raises(PlanError, match="not calibrated ones"):
            refused()


def test_analytic_first_step_is_wrong_for_other_data() -> None:
    """The test above can fail: data of another variance, or with a mean, give another result."""
    plan = plan_of("dpm++2m")
    cheaper = analytic_first_step(plan, 1.0)
    assert abs(cheaper.moments(0.0, 0.3)[1] / plan.moments(0.0, 0.3)[1] - 1) > 1e-6
    assert abs(cheaper.moments(1.0, 1.0)[0] - plan.moments(1.0, 1.0)[0]) > 1e-6


def test_analytic_first_step_of_the_publication_is_the_score_of_a_standard_normal() -> None:
    """DDIM in VP with eps = sigma_T x_T (score -x_T): x_1 = alpha_1 (x_T - sigma_T eps)/alpha_T + sigma_1 eps, written out."""
    plan = make_plan("dpm-1", VP, 5)
    first, second = plan.rows[0].point, plan.rows[1].point
    eps = first.sigma
    wanted = second.alpha * (1.0 - first.sigma * eps) / first.alpha + second.sigma * eps
    begin = analytic_first_step(plan).begin
    assert begin is not None
    assert begin.state == pytest.approx(wanted, rel=1e-9)
    assert begin.outputs == ()


def test_analytic_first_step_at_pure_noise_guesses_the_mean() -> None:
    """At alpha = 0 the optimum for data of mean 0 is x_0 = 0, whatever the variance."""
    x = states()
    plan = make_plan("dpm++2m", Flow(), 6)
    begin = analytic_first_step(plan, 0.7).begin
    assert begin == Combination(plan.rows[0].advance.state)
    assert np.isfinite(run(analytic_first_step(plan), Flow(), network, x)).all()


@pytest.mark.parametrize(("solver", "history"), [("ddim", 1), ("dpm++2m", 2), ("dpm++3m", 3), ("dpm-3", 3)])
def test_analytic_first_step_keeps_no_more_outputs_than_the_plan(solver: str, history: int) -> None:
    """The state is committed as soon as nothing uses the first output: memory does not grow with the length of the run."""
    plan = make_plan(solver, VP, 30)
    assert plan.history == history
    assert analytic_first_step(plan).history <= history
    assert analytic_first_step(plan).rows[6:] == plan.rows[7:]


def test_analytic_first_step_runs_on_torch() -> None:
    """The same numbers on torch as on NumPy, from a seed."""
    torch = pytest.importorskip("torch")
    plan = analytic_first_step(make_plan("ddim", VP, 6, eta=1.0))
    x = states()
    on_torch = run(plan, VP, lambda x, t: torch.tanh(x) * (1 + 0.1 * t[:, None]), torch.from_numpy(x.copy()))
    on_numpy = run(plan, VP, lambda x, t: np.tanh(x) * (1 + 0.1 * t[:, None]), x.copy())
    np.testing.assert_allclose(on_torch.numpy(), on_numpy, rtol=1e-12, atol=1e-12)


def test_a_run_with_an_analytic_first_step_does_not_change_x_T() -> None:
    """The caller's array is left alone."""
    x = states()
    before = x.copy()
    run(analytic_first_step(plan_of("dpm++2m")), VP, network, x)
    np.testing.assert_array_equal(x, before)


# `begin` and `origin` of a plan.


def test_a_plan_that_begins_without_a_network_is_checked() -> None:
    """begin and origin come together; begin has no outputs, one draw of noise, finite numbers, and keeps the marginals."""
    start, middle, end = (Point.at(VP, t) for t in (1.0, 0.5, 0.1))
    (last,) = make_plan("ddim", VP, 1, [0.5, 0.1]).rows
    step = Combination(middle.alpha / start.alpha, (), ())
    noise = (
        math.sqrt(middle.sigma**2 - (step.state * start.sigma) ** 2) if step.state * start.sigma < middle.sigma else 0.0
    )
    whole = Plan("data", (last,), end, keeps_marginals=False, begin=Combination(0.5, (), (noise,)), origin=start)
    assert (whole.start, whole.nfe) == (start, 1)
    for begin, origin, keeps, message in [
        (step, None, False, "begin and origin go together"),
        (None, start, False, "begin and origin go together"),
        (Combination(1.0, (1.0,)), start, False, "begin uses 1 outputs but only 0 exist"),
        (Combination(1.0, (), (0.1, 0.1)), start, False, "begin uses 2 draws of noise but only 1 exist"),
        (Combination(math.nan), start, False, "begin has a coefficient that is not finite"),
        (Combination(0.5), start, True, "begin leaves the marginals"),
    ]:
        with pytest.raises(PlanError, match=message):
            Plan("data", (last,), end, keeps_marginals=keeps, begin=begin, origin=origin)


def test_a_begin_that_adds_noise_keeps_the_marginals_from_less_noise_to_more() -> None:
    """The forward process as the beginning: from (alpha_s, sigma_s) to (alpha_t, sigma_t), then a run from there; its moments are exact."""
    start, middle, end = (Point.at(VP, t) for t in (0.2, 0.5, 0.1))
    ratio = middle.alpha / start.alpha
    raised = Combination(ratio, (), (math.sqrt(middle.sigma**2 - (ratio * start.sigma) ** 2),))
    # x stays x_T: the row adds nothing to it but what leads from start to end by DDIM at the output of the middle.
    ddim = make_plan("ddim", VP, 1, [0.2, 0.1]).rows[0].advance
    plan = Plan("data", (Row(middle, advance=ddim),), end, begin=raised, origin=start)
    mean, variance = plan.moments(0.5, 0.3)
    # u = ratio x + n z and x_0 = c alpha u / v + (1 - c alpha^2 / v) mean at the middle, with v its marginal variance.
    v = middle.alpha**2 * 0.3 + middle.sigma**2
    gain = 0.3 * middle.alpha / v
    on_x, on_z = ddim.state + ddim.outputs[0] * gain * ratio, ddim.outputs[0] * gain * raised.noise[0]
    assert variance == pytest.approx(on_x**2 * (start.alpha**2 * 0.3 + start.sigma**2) + on_z**2, rel=1e-12)
    assert mean == pytest.approx(end.alpha * 0.5, rel=1e-12)


@ANY_PLAN
def test_transformed_plans_survive_json(solver: str, options: dict[str, Any]) -> None:
    """Every digit, the beginning and the origin too; the table shows them."""
    plan = plan_of(solver, end=0.01, **options)
    for other in (analytic_first_step(plan), denoise_to_zero(plan), denoise_to_zero(analytic_first_step(plan))):
        assert Plan.from_json(other.to_json()) == other
    assert "x_T" in analytic_first_step(plan).table()
    assert "x_T" not in plan.table()


# Denoising to zero.


@ANY_PLAN
def test_denoise_to_zero_is_the_predicted_data_at_the_end(solver: str, options: dict[str, Any]) -> None:
    """The plan, then by hand one network call on its result: x_0 is the output, or (x - sigma eps)/alpha."""
    plan = plan_of(solver, end=0.01, **options)
    x = states()
    reached = run(plan, VP, network, x)
    output = network(reached, np.full(len(x), plan.end.label))
    wanted = output if plan.prediction == "data" else (reached - plan.end.sigma * output) / plan.end.alpha
    longer = denoise_to_zero(plan)
    assert (longer.nfe, longer.end.alpha, longer.end.sigma) == (plan.nfe + 1, 1.0, 0.0)
    assert longer.keeps_marginals == plan.keeps_marginals
    np.testing.assert_allclose(run(longer, VP, network, x), wanted, rtol=1e-9, atol=1e-9 * abs(wanted).max())


@pytest.mark.parametrize("name", SCHEDULES)
def test_denoise_to_zero_fits_every_schedule(name: str) -> None:
    """Its end is time 0 with alpha 1 and sigma 0 on all of them: the run is accepted, and keeps the marginals."""
    schedule = SCHEDULES[name]
    end = max(schedule.t_min, 0.02 * schedule.t_max)
    plan = denoise_to_zero(make_plan("dpm++2m", schedule, 5, end=end))
    assert plan.keeps_marginals
    assert np.isfinite(run(plan, schedule, network, states())).all()


def test_transforms_compose() -> None:
    """An analytic first step and denoising to zero commute, and together cost nothing."""
    plan = make_plan("dpm++2m", VP, 8, end=0.01)
    one, other = denoise_to_zero(analytic_first_step(plan)), analytic_first_step(denoise_to_zero(plan))
    assert one.nfe == other.nfe == plan.nfe
    assert (one.rows, one.begin, one.origin, one.end) == (other.rows, other.begin, other.origin, other.end)


# Extrapolation of two plans.


def double(solver: str, order: int, n: int, **options: Any) -> Plan:
    each = SOLVERS[solver].evaluations_per_step
    fine, coarse = (make_plan(solver, VP, each * k, "logsnr", **RUN, **options) for k in (2 * n, n))
    return richardson(fine, coarse, order)


@pytest.mark.parametrize(
    ("solver", "options", "order"),
    [
        ("ddim", {}, 1),
        ("euler", {}, 1),
        ("dpm++2m", {"lower_order_final": False}, 2),
        ("dpm-2m-exact", {"lower_order_final": False}, 2),
        ("dpm++2s", {}, 2),
        ("heun", {}, 2),
    ],
)
def test_richardson_raises_the_order_by_one(solver: str, options: dict[str, Any], order: int) -> None:
    """Measured on the exact result for normal data, with 2n and n steps: from order p to p + 1."""
    each = SOLVERS[solver].evaluations_per_step
    steps = (48 // each, 96 // each)
    assert slope(lambda n: make_plan(solver, VP, each * n, "logsnr", **RUN, **options), steps) == pytest.approx(
        order, abs=0.15
    )
    assert slope(lambda n: double(solver, order, n, **options), steps) == pytest.approx(order + 1, abs=0.15)


def test_richardson_on_a_grid_that_is_not_uniform() -> None:
    """Grids of one kind are enough: Karras grids of 2n and n steps give order 2, and so do 3n and n with their ratio."""
    for many in (2, 3):
        pairs = lambda n, many=many: [make_plan("ddim", VP, k, "karras", **RUN) for k in (many * n, n)]  # noqa: E731
        assert slope(lambda n, pairs=pairs: richardson(*pairs(n), 1), (24, 48)) == pytest.approx(2, abs=0.15)


def test_richardson_twice_is_of_order_three_and_shares_its_evaluations() -> None:
    """Romberg's table: 4n, 2n and n steps of DDIM; the 2n steps are evaluated once, and all three share the first evaluation."""

    def romberg(n: int) -> Plan:
        return richardson(double("ddim", 1, 2 * n), double("ddim", 1, n), 2, ratio=2)

    assert romberg(5).nfe == (20 + 10 + 5) - 2
    assert slope(romberg, (12, 24)) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("schedule", [VP, EDM(), Flow(), Discrete(betas=np.linspace(1e-4, 0.02, 1000))], ids=repr)
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpm++2m", 2), ("unipc-2", 2), ("dpm++2s", 2)])
def test_richardson_is_the_two_runs_combined(solver: str, order: int, schedule: NoiseSchedule) -> None:
    """With any network: x_fine + (x_fine - x_coarse)/(2^p - 1) of two separate runs, at one evaluation less than their sum."""
    fine, coarse = (make_plan(solver, schedule, n, end=0.05 * schedule.t_max) for n in (12, 6))
    both = richardson(fine, coarse, order)
    assert both.nfe == 17
    assert both.keeps_marginals
    x = states()
    high, low = (run(p, schedule, network, x) for p in (fine, coarse))
    np.testing.assert_allclose(
        run(both, schedule, network, x), high + (high - low) / (2**order - 1), rtol=1e-9, atol=1e-9
    )
    assert Plan.from_json(both.to_json()) == both


def test_richardson_of_plans_with_an_analytic_first_step() -> None:
    """Their beginnings differ, and so do their first evaluations: the result is still that of two runs."""
    fine, coarse = (analytic_first_step(make_plan("dpm++2m", VP, n)) for n in (12, 6))
    both = richardson(fine, coarse, 2, ratio=2)
    x = states()
    high, low = (run(p, VP, network, x) for p in (fine, coarse))
    assert both.nfe == 16
    np.testing.assert_allclose(run(both, VP, network, x), high + (high - low) / 3, rtol=1e-9, atol=1e-9)


# Extrapolation over windows.


MIXTURE = dpm.models.Mixture(means=[[-1.0, 0.5], [0.8, -0.2]], variances=[[0.15, 0.3], [0.4, 0.1]], weights=[0.4, 0.6])


@cache
def mixture_reference() -> np.ndarray:
    """The ODE in rho = sigma/alpha, d(x/alpha)/drho = eps, by an explicit Runge-Kutta method of order 8 at rtol 1e-12."""
    source, target = (Point.at(VP, RUN[end]) for end in ("start", "end"))

    def rate(rho: float, y: np.ndarray) -> np.ndarray:
        t = float(VP.time(-math.log(rho)))
        alpha, sigma = VP.alpha(t), VP.sigma(t)
        x = alpha * y.reshape(2, 2)
        return ((x - alpha * MIXTURE.predict_data(x, alpha, sigma)) / sigma).ravel()

    x = states(2).ravel() / source.alpha
    solution = solve_ivp(rate, (source.rho, target.rho), x, method="DOP853", rtol=1e-12, atol=1e-12)
    return target.alpha * solution.y[:, -1].reshape(2, 2)


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpm-1"])
@pytest.mark.parametrize("grid", ["logsnr", "time", "karras"])
@pytest.mark.parametrize(("window", "steps"), [(2, (60, 120)), (3, (61, 121))])
def test_extrapolated_first_order_plans_are_of_order_two(
    solver: str, grid: str, window: int, steps: tuple[int, int]
) -> None:
    """RX-DPM's claim, on grids that are uniform and that are not, with no step left over and with one; the plain plans have order 1."""

    def order(transform: Callable[[Plan], Plan]) -> float:
        plans = [transform(make_plan(solver, VP, n, grid, **RUN)) for n in steps]
        results = [dpm.sample(MIXTURE.denoiser(VP), states(2), plan=plan) for plan in plans]
        errors = [float(np.sqrt(np.mean((x - mixture_reference()) ** 2))) for x in results]
        assert 1e-8 < errors[1] < errors[0] < 0.1, errors
        return math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0])

    assert order(lambda plan: plan) == pytest.approx(1, abs=0.15)
    assert order(lambda plan: extrapolate(plan, window)) == pytest.approx(2, abs=0.15)
    plan = make_plan(solver, VP, steps[0], grid, **RUN)
    longer = extrapolate(plan, window)
    assert (longer.nfe, longer.keeps_marginals, longer.history) == (plan.nfe, True, window)


def test_extrapolation_of_two_steps_gains_two_orders_on_normal_data() -> None:
    """There it is of order 3: the midpoint rule's error y'''/24 + f_y y''/8 is 0 for y = sqrt(c + rho^2), f_y = rho/(c + rho^2)."""
    assert slope(lambda n: extrapolate(make_plan("ddim", VP, n, **RUN)), (48, 96)) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(("steps", "window"), [(8, 2), (9, 2), (9, 3), (10, 4), (5, 5)])
def test_extrapolate_is_the_published_algorithm(steps: int, window: int) -> None:
    """RX-Euler on EDM's schedule, by hand, to sigma = 0: Euler in sigma, the long step from the window's first slope, weights by h_i."""
    plan = make_plan("euler", EDM(), steps)
    sigmas = [*(row.point.sigma for row in plan.rows), plan.end.sigma]
    x = wanted = states()
    for first in range(0, steps, window):
        part = sigmas[first : first + window + 1]
        start, slopes = wanted, []
        for s, t in pairwise(part):
            slopes.append(network(wanted, np.full(len(x), s)))
            wanted = wanted + (t - s) * slopes[-1]
        if len(part) == window + 1:
            long = start + (part[-1] - part[0]) * slopes[0]
            share = sum(((t - s) / (part[-1] - part[0])) ** 2 for s, t in pairwise(part))
            wanted = (wanted - share * long) / (1 - share)
    np.testing.assert_allclose(run(extrapolate(plan, window), EDM(), network, x), wanted, rtol=1e-10, atol=1e-10)


def test_two_equal_steps_extrapolated_are_the_midpoint_rule() -> None:
    """2 (x + h m_0 + h m_1) - (x + 2h m_0) = x + 2h m_1: with steps of one length in sigma the first output has no weight."""
    plan = extrapolate(make_plan("euler", EDM(), 4, [9.0, 7.0, 5.0, 3.0, 1.0]))
    for row in plan.rows[1::2]:
        assert row.advance.state == pytest.approx(1.0, rel=1e-14)
        assert row.advance.outputs == pytest.approx((-4.0, 0.0), abs=1e-13)


def test_a_window_at_pure_noise_is_left_alone() -> None:
    """sigma/alpha is infinite at alpha = 0: the first window keeps its plain steps, the next is extrapolated."""
    plan = make_plan("ddim", Flow(), 6)
    assert extrapolate(plan).rows[:2] == plan.rows[:2]
    assert extrapolate(plan).rows[2:4] != plan.rows[2:4]


def test_an_extrapolated_plan_takes_an_analytic_first_step() -> None:
    """In this order; moments of normal data are those of the extrapolated plan."""
    plan = extrapolate(make_plan("ddim", VP, 8))
    np.testing.assert_allclose(analytic_first_step(plan).moments(0.0, 1.0)[1], plan.moments(0.0, 1.0)[1], rtol=1e-12)


# What is refused.

DDIM, BACKWARDS = make_plan("ddim", VP, 6), make_plan("ddim", VP, 6, start=0.01, end=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analytic_first_step(DDIM, -1.0), "variance must be a finite number >= 0, got -1.0"),
        (lambda: analytic_first_step(DDIM, math.inf), "variance must be a finite number"),
        (lambda: analytic_first_step(make_plan("ddim", VP, 1)), "at least two evaluations, got 1"),
        (lambda: analytic_first_step(analytic_first_step(DDIM)), "already begins with a step of its own"),
        (lambda: analytic_first_step(BACKWARDS), "needs a plan from noise to data, got one that runs backwards"),
        (lambda: denoise_to_zero(BACKWARDS), "needs a plan from noise to data, got one that runs backwards"),
        (lambda: denoise_to_zero(denoise_to_zero(make_plan("ddim", VP, 6, end=0.01))), "already ends at sigma = 0"),
        (lambda: richardson(make_plan("ddim", VP, 12, eta=1.0), DDIM, 1), "plans that add noise have none"),
        (lambda: richardson(make_plan("dpm-1", VP, 12), DDIM, 1), "same prediction, got noise and data"),
        (lambda: richardson(make_plan("ddim", VP, 12, start=0.5), DDIM, 1), "same start, got Point"),
        (lambda: richardson(make_plan("ddim", VP, 12, end=0.5), DDIM, 1), "same end, got Point"),
        (lambda: richardson(DDIM, DDIM, 1), "ratio must be > 1.*got 1"),
        (
            lambda: richardson(make_plan("ddim", VP, 12, end=DDIM.end.time), DDIM, 0),
            "order must be an integer >= 1, got 0",
        ),
        (
            lambda: richardson(make_plan("ddim", VP, 12, end=DDIM.end.time), DDIM, 1.0),
            "order must be an integer >= 1, got 1.0",
        ),
        (lambda: extrapolate(DDIM, 1), "window must be an integer between 2 and nfe=6, got 1"),
        (lambda: extrapolate(DDIM, 7), "window must be an integer between 2 and nfe=6, got 7"),
        (lambda: extrapolate(make_plan("dpm++2m", VP, 6)), "row 1 of dpm..2m is another: richardson"),
        (lambda: extrapolate(make_plan("heun", VP, 6)), "row 0 of heun is another"),
        (lambda: extrapolate(make_plan("ddim", VP, 6, eta=1.0)), "row 0 of ddim is another"),
        (lambda: extrapolate(extrapolate(DDIM)), "row 0 of ddim, extrapolated over 2 is another"),
        (lambda: extrapolate(analytic_first_step(DDIM)), "extrapolate first"),
        (
            lambda: extrapolate(
                replace(DDIM, rows=(replace(DDIM.rows[0], advance=None), *DDIM.rows[1:]), keeps_marginals=False)
            ),
            "row 0",
        ),
    ],
)
def test_what_a_transform_cannot_do_is_refused_with_its_cause(call: Callable[[], Plan], message: str) -> None:
    """A PlanError that names the argument, what was given and what is accepted."""
    with pytest.raises(PlanError, match=message):
        call()
