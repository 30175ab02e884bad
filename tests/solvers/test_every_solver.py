"""What proves a solver right, for every entry of the registry: a new one is picked up by itself.

Row invariants, exactness on polynomials, measured order of convergence, budgets, and messages.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dpmsolver as dpm
from cases import KEEP_MARGINALS, SCHEDULES, UNCALIBRATED, a_budget, budgets, pinned_grids
from dpmsolver.errors import PlanError
from dpmsolver.evaluation import convergence
from dpmsolver.evaluation.convergence import (
    BUDGETS,
    PROBLEMS,
    RUN,
    full_order,
    reference,
    slope,
    start_states,
    trajectory_errors,
)
from dpmsolver.plans.plan import Combination, Plan, Point
from dpmsolver.schedules import EDM, Flow, NoiseSchedule, SubVP
from dpmsolver.schedules.span import default_start
from dpmsolver.solvers import SOLVERS, Solver, make_plan

EVERY = pytest.mark.parametrize("solver", UNCALIBRATED.values(), ids=UNCALIBRATED.keys())
VP = convergence.SCHEDULE


def random_setting(data: st.DataObject, solver: Solver) -> tuple[NoiseSchedule, Plan]:
    """A plan with any schedule, grid, budget, direction and end that the solver accepts."""
    starts_anywhere = solver.prediction == "data"
    names = [n for n, s in SCHEDULES.items() if starts_anywhere or s.alpha(s.t_max) > 0]
    name = data.draw(st.sampled_from(names), label="schedule")
    schedule = SCHEDULES[name]
    grid = data.draw(st.sampled_from(pinned_grids(schedule)), label="grid")
    nfe = data.draw(st.sampled_from(budgets(solver, 32)), label="nfe")
    ends: dict[str, float] = {}
    if data.draw(st.booleans(), label="inside the range"):
        ends = {"start": 0.8 * schedule.t_max, "end": max(schedule.t_min, 0.02 * schedule.t_max)}
    return schedule, make_plan(
        solver, schedule, nfe, grid, **ends, **data.draw(st.sampled_from([{}, full_order(solver)]))
    )


@pytest.mark.parametrize("name", KEEP_MARGINALS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_every_row_preserves_the_marginals(name: str, data: st.DataObject) -> None:
    """Section 1 of the design, recomputed: whatever is evaluated, and the result, has the alpha and sigma of its point.

    The state is followed as its coefficient of x_0 and its variance; an exact network's outputs count as x_0 or as the state's own noise.
    Every committed state lies on the schedule too, at a point of the run.
    """
    _, plan = random_setting(data, SOLVERS[name])
    points = [row.point for row in plan.rows] + [plan.end]
    alpha, variance = points[0].alpha, points[0].sigma ** 2
    said = (1.0, 0.0) if plan.prediction == "data" else (0.0, 1.0)  # x_0 and noise in an exact network's output
    outputs: list[tuple[float, float]] = []  # pairs of numbers: arrays of two would take most of the time

    def follow(combination: Combination) -> tuple[float, float]:
        drawn = sum(c**2 for c in combination.noise)
        signal = sum(c * m[0] for c, m in zip(combination.outputs, outputs, strict=False))
        noise = sum(c * m[1] for c, m in zip(combination.outputs, outputs, strict=False))
        return combination.state * alpha + signal, (combination.state * math.sqrt(variance) + noise) ** 2 + drawn

    def close(reached: tuple[float, float], point: Point) -> bool:
        scale = math.hypot(point.alpha, point.sigma)
        return abs(reached[0] - point.alpha) < 1e-9 * scale and abs(math.sqrt(reached[1]) - point.sigma) < 1e-9 * scale

    for index, row in enumerate(plan.rows):
        if row.output is None:
            outputs.insert(0, said)
        else:
            of_u, of_m, u = row.output.state, row.output.outputs[0], (row.point.alpha, row.point.sigma)
            outputs.insert(0, (of_u * u[0] + of_m * said[0], of_u * u[1] + of_m * said[1]))
        if row.advance is not None:
            alpha, variance = follow(row.advance)
            assert any(close((alpha, variance), p) for p in points), f"row {index} commits a state off the schedule"
        reached = (alpha, variance) if row.predict is None else follow(row.predict)
        assert close(reached, points[index + 1]), f"row {index} reaches {reached}, not {points[index + 1]}"


@EVERY
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_every_plan_lies_on_its_schedule_and_spends_its_budget(solver: Solver, data: st.DataObject) -> None:
    """Points carry the schedule's own alpha, sigma and label; the run starts and ends where it was told; only known outputs are used."""
    schedule, plan = random_setting(data, solver)
    for point in [*(row.point for row in plan.rows), plan.end]:
        assert (point.alpha, point.sigma) == (schedule.alpha(point.time), schedule.sigma(point.time))
        assert point.label == schedule.label(point.time)
        assert point.time == 0.0 or schedule.t_min <= point.time <= schedule.t_max
    assert plan.solver == solver.name
    assert plan.prediction == solver.prediction
    assert plan.nfe == len(plan.rows) == sum(solver.spend(plan.nfe))
    late = default_start(schedule, needs_signal=solver.prediction == "noise" or solver.finite)
    assert plan.start.time in (late, 0.8 * schedule.t_max)
    for index, row in enumerate(plan.rows):
        for combination in filter(None, (row.advance, row.predict)):
            assert len(combination.outputs) <= index + 1
            assert all(math.isfinite(c) for c in (combination.state, *combination.outputs, *combination.noise))


@EVERY
def test_encoding_preserves_the_marginals_too(solver: Solver) -> None:
    """The run backwards, from small to large times, up to alpha = 0 where the schedule has it: making the plan checks every row.

    A solver that adds noise has no inverse and says so.
    """
    nfe = a_budget(solver)
    for schedule in SCHEDULES.values():
        backwards = {"start": schedule.last_time(nfe), "end": schedule.t_max}
        if make_plan(solver, VP, nfe).stochastic:
            with pytest.raises(PlanError, match="backwards"):
                make_plan(solver, schedule, nfe, **backwards)
            continue
        if solver.finite and schedule.alpha(schedule.t_max) == 0.0:
            continue  # no limits, see `test_solvers_without_limits_say_so`
        plan = make_plan(solver, schedule, nfe, **backwards)
        assert plan.start.time < plan.end.time
        assert plan.end == Point.at(schedule, schedule.t_max)


def execute(plan: Plan, x: Any, output: Callable[[Point], Any]) -> Any:
    """The loop of the design for outputs that depend on the point alone, and drawn noise of zero."""
    outputs: list[Any] = []
    u = x
    for row in plan.rows:
        m = output(row.point)
        outputs.insert(0, m if row.output is None else apply(row.output, u, [m]))
        x = x if row.advance is None else apply(row.advance, x, outputs)
        u = x if row.predict is None else apply(row.predict, x, outputs)
    return x


def apply(combination: Combination, x: Any, outputs: list[Any]) -> Any:
    return combination.state * x + sum(c * m for c, m in zip(combination.outputs, outputs, strict=False))


def exact_step(prediction: str, x: Any, source: Point, target: Point, output: Callable[[Any], Any]) -> Any:
    """The exact solution over a step for outputs that depend on lambda alone, its integral by Gauss-Legendre quadrature.

    noise: x_t = (alpha_t/alpha_s) x_s - alpha_t int e^{-lambda} m dlambda
    data:  x_t = (sigma_t/sigma_s) x_s + sigma_t int e^{lambda} m dlambda
    """
    nodes, weights = np.polynomial.legendre.leggauss(50)
    low, high = source.half_log_snr, target.half_log_snr
    lam = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    weights = 0.5 * (high - low) * weights
    if prediction == "data":
        return target.sigma / source.sigma * x + target.sigma * float((weights * np.exp(lam) * output(lam)).sum())
    return target.alpha / source.alpha * x - target.alpha * float((weights * np.exp(-lam) * output(lam)).sum())


def committed_steps(plan: Plan) -> list[tuple[int, Point, Point]]:
    """(row, source, target) of every step that commits a state, for plans whose commits end at the next evaluation."""
    rows = [i for i, row in enumerate(plan.rows) if row.advance is not None]
    points = [plan.start] + [plan.rows[i + 1].point for i in rows[:-1]] + [plan.end]
    return list(zip(rows, points[:-1], points[1:], strict=True))


@EVERY
@pytest.mark.parametrize("schedule", [VP, EDM(), SubVP()], ids=["vp", "ve", "sub-vp"])
def test_a_constant_output_is_integrated_exactly(solver: Solver, schedule: NoiseSchedule) -> None:
    """Order 1 at least, in every solver: a network that always says the same is followed to 1e-12."""
    ends = {"start": 0.7 * schedule.t_max, "end": 0.05 * schedule.t_max}
    plan = make_plan(solver, schedule, a_budget(solver), "logsnr", **ends)
    if plan.stochastic or not plan.keeps_marginals:
        pytest.skip("adds noise, or is not exact in the linear part")
    reached = execute(plan, 1.25, lambda point: 0.75)
    exact = exact_step(plan.prediction, 1.25, plan.start, plan.end, lambda lam: 0.75 + 0.0 * lam)
    assert reached == pytest.approx(exact, rel=1e-12)


EXACT = [s for s in SOLVERS.values() if s.name.endswith("-exact")]


@pytest.mark.parametrize("solver", EXACT, ids=lambda s: s.name)
@pytest.mark.parametrize("schedule", [VP, EDM(), SubVP()], ids=["vp", "ve", "sub-vp"])
@pytest.mark.parametrize("grid", ["logsnr", "time", "karras"])
@pytest.mark.parametrize("seed", range(3))
def test_exact_solvers_integrate_polynomials_of_their_order_exactly(
    solver: Solver, schedule: NoiseSchedule, grid: str, seed: int
) -> None:
    """Order k reproduces outputs that are polynomials of degree k - 1 in lambda to 1e-12, in every step of full order.

    The first k - 1 steps of a multistep solver have too few outputs and are left out; each later step starts from the exact state.
    """
    rng = np.random.default_rng(seed)
    ends = {"start": 0.7 * schedule.t_max, "end": 0.05 * schedule.t_max}
    plan = make_plan(solver, schedule, 12, grid, **ends, **full_order(solver))
    middle = 0.5 * (plan.start.half_log_snr + plan.end.half_log_snr)
    polynomial = np.polynomial.Polynomial(rng.standard_normal(solver.order))

    def output(lam: Any) -> Any:
        return polynomial(lam - middle)

    outputs: list[Any] = []
    steps = {row: (source, target) for row, source, target in committed_steps(plan)}
    startup = solver.order - 1 if solver.evaluations_per_step == 1 else 0
    checked = 0
    for index, row in enumerate(plan.rows):
        outputs.insert(0, output(row.point.half_log_snr))
        if row.advance is None or index < startup:
            continue
        source, target = steps[index]
        x = float(rng.standard_normal())
        exact = exact_step(plan.prediction, x, source, target, output)
        terms = [row.advance.state * x, *(c * m for c, m in zip(row.advance.outputs, outputs, strict=False))]
        assert abs(math.fsum(terms) - exact) <= 1e-12 * max(abs(t) for t in (*terms, exact)), f"row {index}"
        checked += 1
    assert checked == (12 - startup if startup else 12 // solver.evaluations_per_step)


@pytest.mark.parametrize("solver", EXACT, ids=lambda s: s.name)
def test_exact_solvers_do_no_more_than_they_claim(solver: Solver) -> None:
    """The test above can fail: polynomials of degree k are not reproduced by order k."""
    plan = make_plan(solver, VP, 12, "logsnr", start=0.7, end=0.05, **full_order(solver))
    outputs: list[float] = []
    for row in plan.rows:
        outputs.insert(0, row.point.half_log_snr**solver.order)
    _, source, target = committed_steps(plan)[-1]
    exact = exact_step(plan.prediction, 0.0, source, target, lambda lam: lam**solver.order)
    assert abs(apply(plan.rows[-1].advance, 0.0, outputs) - exact) > 1e-5 * abs(exact)


@EVERY
@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_measured_order_of_convergence_is_the_claimed_one(solver: Solver, problem: str) -> None:
    """Within 0.15 of `Solver.order`, on Gaussian data (closed form) and on a mixture (order-8 reference at rtol 1e-12).

    A solver that adds noise is measured in law, on the Gaussian. One that claims order 0 has a limit, which is not the data.
    """
    if solver.stochastic:
        problem = "gaussian"
    measured = convergence.errors(solver, problem)
    if solver.order == 0:
        assert slope(measured, convergence.error_budgets(solver)) == pytest.approx(0, abs=0.15), measured
        assert measured[-1] > 0.01
        return
    assert 1e-11 < measured[-1] < measured[0] < 0.1, measured
    assert slope(measured, convergence.error_budgets(solver)) == pytest.approx(solver.order, abs=0.15), measured


def test_mixture_reference_is_converged() -> None:
    """Two methods that share nothing agree: DOP853 in lambda, and 3000 evaluations of the solver of order 3, to 1e-9."""
    denoiser = convergence.MIXTURE.denoiser(VP)
    x = dpm.sample(denoiser, start_states("mixture"), nfe=3000, solver="dpm++3s-exact", grid="logsnr", **RUN)
    np.testing.assert_allclose(x, reference("mixture"), atol=1e-9)


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_dpm_fast_is_of_order_three_where_no_step_is_of_order_one(problem: str) -> None:
    """Its claimed order 2 is that of the last step of order 1; budgets with n % 3 = 2 end in a step of order 2 and reach order 3."""
    spent = (146, 290)
    assert slope(trajectory_errors(SOLVERS["dpm-fast"], problem, spent), spent) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise_converges_in_law_with_order_one(eta: float) -> None:
    """Mean and variance of the result on Gaussian data, followed exactly through the plan: their error falls as 1/nfe."""
    errors = [make_plan("ddim", VP, nfe, **RUN, eta=eta).wasserstein(0.5, 0.25, to="end") for nfe in BUDGETS]
    assert slope(errors, BUDGETS) == pytest.approx(1, abs=0.15), errors


@pytest.mark.parametrize("form", ["dpm-{}m-exact", "dpm++{}m-exact"])
def test_a_uniform_start_costs_the_third_order_multistep_solvers_one_order(form: str) -> None:
    """Why they are measured with a short first step: from a uniform grid they converge with order 2, as their first step does."""
    solver = SOLVERS[form.format(3)]
    errors = []
    for nfe in (1000, 2000):
        plan = make_plan(solver, VP, nfe, "logsnr", **RUN, lower_order_final=False)
        x = dpm.sample(convergence.GAUSSIAN.denoiser(VP), start_states("gaussian"), plan=plan)
        errors.append(float(np.sqrt(np.mean((x - reference("gaussian")) ** 2))))
    assert slope(errors, (1000, 2000)) < 2.4, errors


@pytest.mark.parametrize(
    ("variance", "grids"),
    [(0.01, ("logsnr", "time")), (0.25, ("logsnr", "time")), (0.5, ("logsnr", "time")), (1.0, ("logsnr",))],
)
def test_dpm_3_with_30_evaluations_beats_ddim_with_1000(variance: float, grids: tuple[str, ...]) -> None:
    """The paper's claim on data with a known solution: LinearVP from t = 1 to 1e-3, Gaussian data with mean 0.

    Errors of a state that starts at 1: at variance 0.25 (images in [-1, 1]) 9.5e-4 for dpm-3, 1.20e-3 for DDIM uniform in log-SNR as dpm-3
    and 1.41e-3 for DDIM uniform in time. At variance 1 they are 1.93e-3, 2.39e-3 and 1.82e-3: that of dpm-3 grows faster with the
    variance, and from about 0.75 on DDIM-1000 uniform in time is ahead; below about 0.002 the one uniform in log-SNR is.
    """
    model = dpm.models.Gaussian(mean=[0.0], variance=[variance])
    x = np.array([[1.0]])

    def error(solver: str, nfe: int, grid: str) -> float:
        y = dpm.sample(model.denoiser(VP), x, nfe=nfe, solver=solver, grid=grid, start=1.0, end=1e-3)
        return float(np.abs(y - model.trajectory(VP, x, 1.0, 1e-3)).max())

    assert error("dpm-3", 30, "logsnr") < min(error("ddim", 1000, grid) for grid in grids)


@EVERY
@pytest.mark.filterwarnings("ignore:this plan multiplies")  # Runge-Kutta in one or two steps, where data become noise
def test_every_budget_is_spent_exactly_or_refused_with_the_nearest_ones(solver: Solver) -> None:
    """nfe = 1 … 25: exactly that many network calls, or a PlanError that names the nearest budgets below and above."""
    accepted = budgets(solver, 60)
    calls = 0

    def network(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return 0.0 * x

    denoiser = dpm.Denoiser(network, VP, predicts="data")
    for nfe in range(1, 26):
        calls = 0
        if nfe in accepted:
            dpm.sample(denoiser, np.ones((1, 1)), nfe=nfe, solver=solver.name, generator=0)
            assert calls == nfe
            continue
        with pytest.raises(
            PlanError, match=f"{solver.name.replace('+', '.')} .*cannot spend nfe={nfe}: nearest is"
        ) as error:
            dpm.sample(denoiser, np.ones((1, 1)), nfe=nfe, solver=solver.name)
        assert calls == 0
        nearest = [str(max(n for n in accepted if n < nfe))] if nfe > min(accepted) else []
        nearest.append(str(min(n for n in accepted if n > nfe)))
        assert str(error.value).endswith(" or ".join(nearest))


@pytest.mark.parametrize("nfe", [0, -3, 2.0, "10", None, True, math.nan])
def test_what_is_no_budget_is_refused(nfe: Any) -> None:
    """A budget is an integer >= 1, and nothing that looks like one."""
    for solver in SOLVERS.values():
        with pytest.raises(PlanError, match="nfe must be an integer >= 1, got"):
            make_plan(solver, VP, nfe)


@EVERY
def test_every_solver_is_described_and_sourced(solver: Solver) -> None:
    """The registry says what it is and where it comes from, under the key of its name; options are keywords with defaults."""
    assert SOLVERS[solver.name] is solver
    assert dpm.solvers()[solver.name] == solver.description
    assert solver.description
    assert solver.source
    assert solver.order >= (0 if solver.family == "distilled" else 1)
    parameters = inspect.signature(solver.build).parameters
    assert all(parameters[name].default is not inspect.Parameter.empty for name in solver.accepted_options())


@EVERY
def test_a_misspelt_solver_is_refused_with_its_right_name(solver: Solver) -> None:
    """A name with one letter dropped: the message suggests near ones, a few, and says how to list all."""
    misspelt = solver.name[:-1]
    if misspelt in SOLVERS:
        misspelt = solver.name + "x"
    with pytest.raises(PlanError, match=f"unknown solver '{misspelt.replace('+', '.')}' .did you mean '") as error:
        make_plan(misspelt, VP, 6)
    assert "dpmsolver solvers" in str(error.value)
    assert len(str(error.value)) < 250


@EVERY
def test_an_unknown_option_is_refused_with_the_accepted_ones(solver: Solver) -> None:
    """An option that neither the solver nor the grid has is an error that names the solver."""
    nfe = a_budget(solver)
    with pytest.raises(PlanError, match="unknown option 'nonsense'") as error:
        make_plan(solver, VP, nfe, nonsense=1.0)
    assert f"for solver {solver.name}" in str(error.value)
    assert all(option in str(error.value) for option in solver.accepted_options())


@pytest.mark.parametrize("name", [name for name, s in SOLVERS.items() if "s_noise" in s.accepted_options()])
@pytest.mark.parametrize("s_noise", [0.0, 1.003])
def test_s_noise_scales_every_noise_and_nothing_else(name: str, s_noise: float) -> None:
    """The plan says that it leaves the marginals; it is the plan itself where there is nothing to scale."""
    churn = {"s_churn": 20.0} if "s_churn" in SOLVERS[name].accepted_options() else {}
    plan, scaled = (make_plan(name, VP, a_budget(SOLVERS[name]), **churn, s_noise=s) for s in (1.0, s_noise))
    assert plan.stochastic
    assert not scaled.keeps_marginals
    assert "leaves the marginals" in scaled.table()
    for row, other in zip(plan.rows, scaled.rows, strict=True):
        for before, after in ((row.advance, other.advance), (row.predict, other.predict)):
            assert (before is None) == (after is None)
            if before is not None:
                assert after.noise == tuple(s_noise * z for z in before.noise)
                assert (after.state, after.outputs) == (before.state, before.outputs)
    none = {"s_churn": 0.0} if churn else {"eta": 0.0}
    without, with_ = (make_plan(name, VP, a_budget(SOLVERS[name]), **none, **o) for o in ({}, {"s_noise": s_noise}))
    assert with_ == without


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        ("dpm++2m", {"lower_order_finel": True}, "did you mean 'lower_order_final'"),
        ("ddim", {"etta": 1.0}, "did you mean 'eta'"),
        ("ddim", {"grid": "karras", "roh": 5.0}, "did you mean 'rho'"),
        ("ddim", {"rho": 5.0}, "unknown option 'rho'"),
        ("dpm++2m", {"order": 3}, "unknown option 'order'"),
        ("dpm++2m", {"prediction": "noise"}, "unknown option 'prediction'"),
        ("ddim", {"eta": 1.5}, r"eta must lie in \[0, 1\], got 1.5"),
        ("ddim", {"eta": 1.0, "start": 0.1, "end": 0.9}, "eta > 0 adds noise and cannot run backwards"),
        ("ddim", {"start": 0.0, "end": 0.9, "grid": "time"}, "cannot leave sigma = 0"),
        ("dpm++2m", {"start": 0.0, "end": 0.9}, "cannot leave sigma = 0"),
        ("dpm-2", {"r1": 0.0}, "stages need 0 < r1"),
        ("dpm-3", {"r1": 0.7}, "stages need 0 < r1 < r2 <= 1, got r1=0.7"),
        ("ddim", {"eta": -0.1}, r"eta must lie in \[0, 1\], got -0.1"),
        ("euler-ancestral", {"eta": 2.0}, r"eta must lie in \[0, 1\], got 2"),
        ("ddpm", {"variance": "large"}, "unknown option 'variance'"),
        ("heun", {"s_churn": -1.0}, "churn needs s_churn >= 0"),
        ("euler", {"s_churn": 5.0, "s_tmin": 3.0, "s_tmax": 1.0}, "0 <= s_tmin <= s_tmax, got 5.0, 3.0, 1.0"),
        ("heun", {"s_churn": 5.0, "start": 0.1, "end": 0.9}, "adds noise and cannot run backwards"),
        ("heun", {"s_churn": 5.0, "s_noise": -0.1}, "s_noise must be a finite number >= 0, got -0.1"),
        ("euler-ancestral", {"s_noise": math.nan}, "s_noise must be a finite number >= 0, got nan"),
        ("dpm2-ancestral", {"s_noise": math.inf}, "s_noise must be a finite number >= 0, got inf"),
        ("dpm++2m-sde", {"s_noise": True}, "s_noise must be a number, got True"),
        ("dpm++sde", {"s_noise": "1.003"}, "s_noise must be a number, got '1.003'"),
        ("dpm++3m-sde", {"lower_quadrature": "2m"}, "quadrature must be 'exact', 'published' or 'bh1', got '2m'"),
        ("dpm++2m-sde", {"eta": -1.0}, "eta must be >= 0, got -1"),
        ("dpm++sde", {"eta": -1.0}, "eta must be >= 0, got -1"),
        ("dpm++2m-sde", {"start": 0.1, "end": 0.9}, "cannot run backwards"),
        ("dpm++3m-sde", {"quadrature": "midpoint"}, "quadrature must be 'exact', 'published' or 'bh1', got 'midpoint'"),
        ("sa-solver", {"eta": [1.0, 0.5]}, r"one value for each of 6 steps, got shape \(2,\)"),
        ("sa-solver", {"eta": [[1.0]]}, r"got shape \(1, 1\)"),
        ("sa-solver", {"eta": lambda rho: -rho}, "eta must be finite and >= 0"),
        ("sa-solver", {"predictor_order": 5}, "predictor_order must be 1 to 4, got 5"),
        ("sa-solver", {"corrector_order": -1}, "corrector_order must be 0 to 4, got -1"),
        ("unipc-2", {"variant": "bh3"}, "variant must be 'bh1' or 'bh2', got 'bh3'"),
        ("unipc-2", {"corrector_from": 0}, "corrector_from must be >= 1"),
        ("dpm++3m", {"ramp": [1, 2, 3]}, r"ramp must give 6 orders.*got \[1, 2, 3\]"),
        ("dpm++3m", {"ramp": [2, 2, 3, 3, 2, 1]}, "the k-th between 1 and min"),
        ("dpm++3m", {"ramp": [1, 2, 3, 4, 2, 1]}, "the k-th between 1 and min"),
        ("er-sde-2", {"noise_scale": lambda rho: rho**0.5}, "must not fall more slowly than sigma"),
        ("er-sde-2", {"start": 0.1, "end": 0.9}, "cannot run backwards"),
        ("euler-maruyama", {"eta": -0.5}, "eta must be >= 0, got -0.5"),
        ("euler-maruyama", {"end": 0.0, "grid": "time"}, "no step to or from sigma = 0"),
        ("rk3-lambda", {"end": 0.0, "grid": "time"}, "no step to or from sigma = 0"),
        ("unipc-7", {}, "unknown solver 'unipc-7' .did you mean 'unipc-"),
        ("deis-tab4", {}, "unknown solver 'deis-tab4' .did you mean 'deis-tab"),
    ],
)
def test_wrong_options_are_refused_with_their_cause(solver: str, options: dict[str, Any], message: str) -> None:
    """Misspelt options get the nearest name, impossible values say what is accepted."""
    with pytest.raises(PlanError, match=message):
        make_plan(solver, VP, 6, **options)


@pytest.mark.parametrize("solver", [s for s in UNCALIBRATED.values() if s.prediction == "noise"], ids=lambda s: s.name)
def test_noise_prediction_starts_just_above_pure_noise(solver: Solver) -> None:
    """At alpha = 0 the noise determines nothing: by default such a solver starts at alpha/sigma = 1e-3. Told to start at alpha = 0 it
    names the ways out."""
    plan = make_plan(solver, Flow(), a_budget(solver))
    assert plan.start.alpha / plan.start.sigma == pytest.approx(1e-3)
    with pytest.raises(PlanError, match=r"cannot start at alpha = 0.*leave start out.*take a data-prediction solver"):
        make_plan(solver, Flow(), a_budget(solver), start=1.0)
