"""order_ramp: a plan at lower orders, against the methods of these orders, measured slopes, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import SCHEDULES, UNCALIBRATED, a_budget
from dpmsolver import PlanError, make_plan
from dpmsolver.evaluation import convergence
from dpmsolver.evaluation.convergence import BUDGETS, RUN, full_order, reference, short_first_steps, slope, start_states
from dpmsolver.plans import Combination, Plan, Point, Row
from dpmsolver.schedules import EDM, Flow, LinearVP, NoiseSchedule
from dpmsolver.solvers import SOLVERS, exponential_step
from dpmsolver.transforms import analytic_first_step, denoise_to_zero, order_ramp

VP = LinearVP()
# One output a step and no corrector: at order 1 each is DDIM.
ADAMS = [
    *(f"{form}{order}m{exact}" for form in ("dpm-", "dpm++") for order in (2, 3) for exact in ("", "-exact")),
    *("dpm-4m-exact", "dpm++4m-exact", "unip-2", "unip-3"),
    *(f"deis-{variable}{degree}" for variable in ("tab", "rhoab", "logrho") for degree in (1, 2, 3)),
    *("lms-2", "lms-4", "ipndm-v-3", "ipndm-2", "ipndm-4"),
]


def steps_of(plan: Plan) -> list[Combination]:
    return [c for row in plan.rows for c in (row.advance, row.predict) if c is not None]


def assert_same(one: Plan, other: Plan, tolerance: float = 1e-12) -> None:
    """Row by row the same points and, within the tolerance of the largest, the same coefficients."""
    assert [row.point for row in one.rows] == [row.point for row in other.rows]
    for a, b in zip(steps_of(one), steps_of(other), strict=True):
        assert len(a.outputs) == len(b.outputs)
        scale = max(map(abs, b.coefficients))
        np.testing.assert_allclose(a.coefficients, b.coefficients, rtol=0.0, atol=tolerance * scale)


@pytest.mark.parametrize(("high", "low", "order"), [("4m", "3m", 3), ("4m", "2m", 2), ("3m", "2m", 2)])
@pytest.mark.parametrize("form", ["dpm++{}-exact", "dpm-{}-exact"])
@pytest.mark.parametrize("grid", ["logsnr", "karras", "time"])
@pytest.mark.parametrize("schedule", [VP, EDM(), SCHEDULES["discrete-scaled-linear"]], ids=repr)
def test_exact_exponential_multistep_becomes_the_method_of_lower_order(
    schedule: NoiseSchedule, grid: str, form: str, high: str, low: str, order: int
) -> None:
    """Their weights integrate Lagrange polynomials in lambda: order p capped at q, row by row, is the method of order q."""
    run: dict[str, Any] = {"nfe": 12, "grid": grid, "lower_order_final": False}
    limits = [min(k, order) for k in range(1, 13)]
    ramped = order_ramp(make_plan(form.format(high), schedule, **run), limits)
    assert_same(ramped, make_plan(form.format(low), schedule, **run))
    assert ramped.history == order


@pytest.mark.parametrize("name", ADAMS)
@pytest.mark.parametrize("schedule", [VP, EDM()], ids=repr)
def test_multistep_plans_of_order_one_are_ddim(schedule: NoiseSchedule, name: str) -> None:
    """Published weights, other variables, fixed coefficients: the sum of a row's weights is what DDIM's one output has."""
    plan = make_plan(name, schedule, 9, end=schedule.t_min)
    points = [row.point for row in plan.rows] + [plan.end]
    ramped = order_ramp(plan, 1)
    assert ramped.history == 1
    for row, target in zip(ramped.rows, points[1:], strict=True):
        wanted = exponential_step(plan.prediction, row.point, target, [row.point])
        np.testing.assert_allclose(row.advance.coefficients, wanted.coefficients, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "orders"), [("dpm++3m-exact", [1, 1, 2, 3, 3, 2, 1]), ("deis-logrho3", [1, 2, 3, 4, 1, 2, 3])]
)
def test_the_option_ramp_says_the_same_for_exact_weights(name: str, orders: list[int]) -> None:
    """For polynomials in lambda with exact weights the solvers' own option and the transform are one thing."""
    whole = make_plan(name, VP, 7, lower_order_final=False)
    assert_same(order_ramp(whole, orders), make_plan(name, VP, 7, ramp=orders))


def test_start_and_end_limit_the_first_and_the_last_rows() -> None:
    """Where limits meet the lowest holds; `end=(2, 1)` is lower_order_final, for exact weights."""
    whole = make_plan("dpm++3m-exact", VP, 6, lower_order_final=False)
    assert_same(order_ramp(whole, end=(2, 1)), make_plan("dpm++3m-exact", VP, 6))

    def outputs(plan: Plan) -> list[int]:
        return [len(row.advance.outputs) for row in plan.rows]

    assert outputs(whole) == [1, 2, 3, 3, 3, 3]
    assert outputs(order_ramp(whole, start=(1, 1, 1))) == [1, 1, 1, 3, 3, 3]
    assert outputs(order_ramp(whole, 2, start=(1, 1), end=(3, 1))) == [1, 1, 2, 2, 2, 1]
    assert outputs(order_ramp(whole, np.array([1, 2, 2, 1, 3, 3]), end=[2])) == [1, 2, 2, 1, 3, 2]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        *((name, 2) for name in ("unipc-3", "unipc-3-noise", "deis-tab3", "deis-rhoab3", "dpm++4m-exact")),
        *((name, 3) for name in ("unipc-3", "deis-tab3", "dpm++4m-exact")),
    ],
)
def test_a_plan_falls_to_exactly_the_order_it_is_given(name: str, order: int) -> None:
    """Measured on the mixture, for correctors too (UniPC-3's have four outputs), and for polynomials in t and rho.

    Each has order 4 itself (`test_every_solver`). At q = 3 with more budget than there: what the lower order adds is small beside the rest
    of the error up to some 300 evaluations, and for polynomials in rho up to more than 600.
    """
    budgets, errors = (BUDGETS if order == 2 else (576, 1152)), []
    for nfe in budgets:
        plan = make_plan(name, VP, nfe, short_first_steps(4), **RUN, **full_order(SOLVERS[name]))
        x = dpm.sample(convergence.MIXTURE.denoiser(VP), start_states("mixture"), plan=order_ramp(plan, order))
        errors.append(float(np.sqrt(np.mean((x - reference("mixture")) ** 2))))
    assert 1e-11 < errors[1] < errors[0] < 0.1, errors
    assert slope(errors, budgets) == pytest.approx(order, abs=0.15), errors


@pytest.mark.parametrize("name", UNCALIBRATED)
@pytest.mark.parametrize("order", [1, 2])
def test_every_plan_keeps_its_sums_and_its_noise(name: str, order: int) -> None:
    """Any solver, with noise or without, to sigma = 0, from alpha = 0 where it can: marginals are checked as the plan is made."""
    schedule = Flow() if SOLVERS[name].prediction == "data" else EDM()
    plan = make_plan(name, schedule, a_budget(SOLVERS[name], 9), **full_order(SOLVERS[name]))
    ramped = order_ramp(plan, order)
    assert (ramped.nfe, ramped.keeps_marginals, ramped.end) == (plan.nfe, plan.keeps_marginals, plan.end)
    for before, after in zip(steps_of(plan), steps_of(ramped), strict=True):
        assert sum(after.outputs) == pytest.approx(sum(before.outputs), rel=1e-9, abs=1e-9)
        assert sum(map(bool, after.outputs)) <= order or after is before
        assert (after.state, after.noise, after.constant) == (before.state, before.noise, before.constant)
    assert Plan.from_json(ramped.to_json()) == ramped


def test_stochastic_multistep_of_lower_order() -> None:
    """SDE weights are integrals of Lagrange polynomials as well: exact 3M-SDE capped at 2 is exact 2M-SDE, at 1 SA-Solver of order 1."""
    run: dict[str, Any] = {"nfe": 8, "quadrature": "exact", "lower_order_final": False}
    plan = make_plan("dpm++3m-sde", VP, **run)
    assert_same(order_ramp(plan, 2), make_plan("dpm++2m-sde", VP, **run))
    sa = make_plan("sa-solver", VP, 8, predictor_order=1, corrector_order=0)
    assert_same(order_ramp(plan, 1), sa)
    assert order_ramp(plan, 1).stochastic


def test_moments_are_kept_up_to_the_order() -> None:
    """The definition: sum c_j lambda_j^i = sum b_j lambda_j^i for i < q, and not for i = q."""
    plan = make_plan("deis-tab3", VP, 8, "karras", lower_order_final=False)
    nodes = [row.point.half_log_snr for row in plan.rows]
    for q in (1, 2, 3):
        for k, (row, lowered) in enumerate(zip(plan.rows, order_ramp(plan, q).rows, strict=True)):
            if len(row.advance.outputs) <= q:
                assert lowered is row or lowered == row
                continue
            for power in range(q + 1):
                before, after = (
                    sum(w * (nodes[k - i] - nodes[k]) ** power for i, w in enumerate(r.advance.outputs))
                    for r in (row, lowered)
                )
                assert (before == pytest.approx(after, rel=1e-9, abs=1e-10)) == (power < q)


def test_calibrated_coefficients_are_lowered_element_by_element() -> None:
    """Arrays as weights, outputs of their own, a constant: each element as a plan of its own has it."""
    scale = np.array([0.5, 1.0, 2.0])
    plan = make_plan("dpm++3m-exact", VP, 6, lower_order_final=False)
    output = Combination(0.1, (scale,), (), -scale)

    def with_(factor: Any, constant: Any) -> Plan:
        rows = tuple(
            Row(row.point, replace(row.advance, outputs=tuple(factor * w for w in row.advance.outputs), constant=constant), None, output)
            for row in plan.rows
        )  # fmt: skip
        return replace(plan, rows=rows, keeps_marginals=False)

    ramped = order_ramp(with_(scale, scale), 2)
    assert [len(row.advance.outputs) for row in ramped.rows] == [1, 2, 2, 2, 2, 2]
    for element, factor in enumerate(scale):
        single = order_ramp(with_(float(factor), float(factor)), 2)
        for row, other in zip(ramped.rows, single.rows, strict=True):
            np.testing.assert_allclose([w[element] for w in row.advance.outputs], other.advance.outputs, rtol=1e-12)
            assert row.output is output
            assert row.advance.constant is scale


def test_plans_that_begin_without_a_network_or_end_in_the_data() -> None:
    """A beginning stays; before denoising to zero or after it a ramp is the same; the analytic step comes last."""
    plan = make_plan("dpm++3m", VP, 8, end=0.01, lower_order_final=False)
    begun = analytic_first_step(plan)
    ramped = order_ramp(begun, 2)
    assert (ramped.begin, ramped.origin, ramped.nfe) == (begun.begin, begun.origin, 7)
    assert order_ramp(denoise_to_zero(plan), 2).rows == denoise_to_zero(order_ramp(plan, 2)).rows


def test_outputs_at_pure_noise_have_no_place_on_a_polynomial() -> None:
    """At alpha = 0 lambda is infinite. Steps there are of order 1 already; a plan that weighs such an output more is given the newest."""
    plan = make_plan("dpm++3m-exact", Flow(), 8, lower_order_final=False)
    assert plan.rows[0].point.alpha == 0.0
    assert order_ramp(plan, 1).rows[0] == plan.rows[0]
    assert all(math.isfinite(c) for step in steps_of(order_ramp(plan, 1)) for c in step.coefficients)
    first, second, end = (Point.at(Flow(), t) for t in (1.0, 0.8, 0.5))
    to_second = exponential_step("data", first, second, [first])
    onward = exponential_step("data", second, end, [second])
    share = Combination(onward.state, (0.7 * onward.outputs[0], 0.3 * onward.outputs[0]))
    mixed = Plan("data", (Row(first, advance=to_second), Row(second, advance=share)), end)
    assert order_ramp(mixed, 2) is mixed
    lowered = order_ramp(mixed, 1).rows[1].advance
    assert lowered.outputs == pytest.approx(onward.outputs)


def test_of_two_evaluations_at_one_point_the_newer_counts() -> None:
    """Classical Runge-Kutta asks twice at the middle of a step: capped at two outputs, the second answer gets the weight of both."""
    plan = make_plan("rk4-lambda", VP, 4, start=0.7, end=0.5)
    newest, middle, twin, source = plan.rows[3].advance.outputs
    nodes = [row.point.half_log_snr for row in plan.rows][::-1]
    assert nodes[1] == nodes[2]
    lowered = order_ramp(plan, 3).rows[3].advance.outputs
    assert lowered == pytest.approx((newest, middle + twin, 0.0, source), rel=1e-12)
    # With two: the line through the newest and the second middle, at the source.
    slope_ = (nodes[3] - nodes[1]) / (nodes[0] - nodes[1])
    wanted = (newest + slope_ * source, middle + twin + (1 - slope_) * source)
    assert order_ramp(plan, 2).rows[3].advance.outputs == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", ["ddim", "dpm-1", "euler", "ddpm", "sde-dpm-1", "dpm-fast"])
def test_plans_with_nothing_to_lower_are_returned_as_they_are(name: str) -> None:
    """A limit that no row exceeds, as 1 for plans of one output: the very same plan."""
    plan = make_plan(name, VP, 6)
    assert order_ramp(plan, max(len(step.outputs) for step in steps_of(plan))) is plan
    high = make_plan("unipc-3", VP, 6)
    assert order_ramp(high, 4) is high
    assert order_ramp(high, 3) is not high
    assert "order ramp" in order_ramp(high, 3).solver


def call(*args: Any, **kwargs: Any) -> Callable[[], Plan]:
    return lambda: order_ramp(make_plan("dpm++3m", VP, 6), *args, **kwargs)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (call(), "needs orders, start or end"),
        (call([]), r"one order for each of 6 rows, or one for all, got \[\]"),
        (call([1, 2, 2]), r"one order for each of 6 rows, or one for all, got \[1, 2, 2\]"),
        (call(0), r"orders must be integers >= 1, one for a row, got \[0\]"),
        (call(-1), "orders must be integers >= 1"),
        (call(True), "orders must be integers >= 1"),
        (call(2.0), "orders must be integers >= 1"),
        (call(math.inf), "orders must be integers >= 1"),
        (call("222222"), "orders must be integers >= 1, one for a row, got '222222'"),
        (call([1, 2, 3, 3, 2, 0]), r"orders must be integers >= 1, one for a row, got \[1, 2, 3, 3, 2, 0\]"),
        (call([1, 2, 3, 3, 2, True]), "orders must be integers >= 1"),
        (call([1, 2, 3, 3, 2, 1.0]), "orders must be integers >= 1"),
        (call(start=2), "start must be integers >= 1, one for a row, got 2"),
        (call(end=(2, 0)), r"end must be integers >= 1, one for a row, got \(2, 0\)"),
        (call(end=(1,) * 7), "end must have no more orders than the plan has rows, 6"),
        (call(start=(1,) * 7), "start must have no more orders than the plan has rows, 6"),
    ],
)
def test_what_is_no_ramp_is_refused_with_its_cause(attempt: Callable[[], Plan], message: str) -> None:
    """A PlanError that names the argument, what was given and what is accepted."""
    with pytest.raises(PlanError, match=message):
        attempt()
