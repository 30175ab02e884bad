"""Stepper: the run of `sample`, driven from outside; saved in the middle, and resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import UNCALIBRATED, a_budget, answering
from dpmsolver.evaluation.convergence import some_statistics
from dpmsolver.plans import Point
from dpmsolver.solvers import SOLVERS

SCHEDULE = dpm.schedules.LinearVP()
MEAN, VARIANCE = [1.0, -0.5, 0.25], [0.25, 0.5, 0.01]
MODEL = dpm.models.Gaussian(MEAN, VARIANCE)
MIXTURE = dpm.models.Mixture([MEAN], [VARIANCE])
X_T = np.random.default_rng(0).standard_normal((4, 3))


def network(schedule: dpm.schedules.NoiseSchedule, predicts: Any = "noise") -> Callable[[Any, Point], Any]:
    """What a user's network says at a point, from the denoiser of the same data."""
    raw = MODEL.denoiser(schedule, predicts).network
    return lambda x, point: raw(x, np.full(len(x), point.label))


def driven(stepper: dpm.Stepper, network: Callable[[Any, Point], Any], until: int | None = None) -> Any:
    while not stepper.done and stepper.index != until:
        stepper.step(network(stepper.x, stepper.point))
    return stepper.x


def a_plan(name: str) -> dpm.Plan:
    options = {"statistics": some_statistics(MIXTURE)} if SOLVERS[name].calibrated else {}
    return dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), **options)


@pytest.mark.parametrize("name", SOLVERS)
def test_it_is_the_run_of_sample_and_resumes_from_its_middle(name: str) -> None:
    """Every solver: the result of `sample`; and the same from a state saved halfway, loaded into a new stepper with another seed."""
    plan, one = a_plan(name), network(SCHEDULE)

    def net(x: Any, point: Point) -> Any:
        return one(x, point) if plan.answers == 1 else [one(x, point)] * plan.answers

    expected = dpm.sample(answering(MODEL.denoiser(SCHEDULE), plan), X_T, plan=plan, generator=7)
    first = dpm.Stepper(plan, X_T, generator=7)
    driven(first, net, until=plan.nfe // 2)
    saved = first.state_dict()
    np.testing.assert_allclose(driven(first, net), expected, rtol=1e-11, atol=1e-12)
    second = dpm.Stepper(plan, 2.0 * X_T)
    second.load_state_dict(saved)
    assert second.index == plan.nfe // 2
    np.testing.assert_array_equal(driven(second, net), first.x)
    assert second.point == plan.end


@pytest.mark.parametrize("predicts", ["noise", "data", "v", "score", "velocity"])
def test_raw_outputs_are_read_as_what_the_network_predicts(predicts: Any) -> None:
    plan = dpm.make_plan("dpm++2m", SCHEDULE, 8)
    expected = dpm.sample(MODEL.denoiser(SCHEDULE, predicts), X_T, plan=plan)
    stepper = dpm.Stepper(plan, X_T, predicts)
    np.testing.assert_allclose(driven(stepper, network(SCHEDULE, predicts)), expected, rtol=1e-11)


def test_a_plan_with_an_analytic_start_begins_where_it_says() -> None:
    schedule = dpm.schedules.EDM(sigma_max=700.0)
    plan = dpm.make_plan("dpm++2m", schedule, 8, predicts="noise")
    assert plan.begin is not None
    x_T = 700.0 * X_T
    expected = dpm.sample(MODEL.denoiser(schedule), x_T, plan=plan)
    np.testing.assert_allclose(driven(dpm.Stepper(plan, x_T), network(schedule)), expected, rtol=1e-11)


def test_a_finished_run_can_be_saved() -> None:
    plan = dpm.make_plan("ddim", SCHEDULE, 3)
    done, other = dpm.Stepper(plan, X_T), dpm.Stepper(plan, X_T)
    driven(done, network(SCHEDULE))
    other.load_state_dict(done.state_dict())
    assert other.done
    np.testing.assert_array_equal(other.x, done.x)


def test_a_network_may_write_into_what_it_sees() -> None:
    plan, net = dpm.make_plan("unipc-2", SCHEDULE, 6), network(SCHEDULE)
    stepper, spoiled = dpm.Stepper(plan, X_T), dpm.Stepper(plan, X_T)
    expected = driven(stepper, net)
    while not spoiled.done:
        output = net(spoiled.x, spoiled.point)
        spoiled.x[:] = np.nan
        spoiled.step(output)
    np.testing.assert_array_equal(spoiled.x, expected)


def test_float32_stays_float32() -> None:
    stepper = dpm.Stepper(dpm.make_plan("dpm++2m-sde", SCHEDULE, 4), X_T.astype(np.float32), generator=0)
    assert driven(stepper, network(SCHEDULE)).dtype == np.float32


def test_gradients_flow_through_a_run_of_tensors() -> None:
    """Every ODE and SDE solver, float64: the derivative along a direction is that of finite differences, to 1e-6."""
    torch = pytest.importorskip("torch")
    direction = np.random.default_rng(1).standard_normal(X_T.shape)

    def net(x: Any, point: Point) -> Any:
        return 0.3 * torch.sin(x)

    def end(plan: dpm.Plan, x: Any) -> Any:
        return (driven(dpm.Stepper(plan, x, generator=3), net) ** 2).sum()

    for name in UNCALIBRATED:
        plan, x_T = a_plan(name), torch.tensor(X_T, requires_grad=True)
        (gradient,) = torch.autograd.grad(end(plan, x_T), x_T)
        ahead, behind = (end(plan, torch.tensor(X_T + s * 1e-6 * direction)) for s in (1.0, -1.0))
        along = float((gradient * torch.tensor(direction)).sum())
        assert along == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (np.ones((4, 2)), ValueError, r"output must have x's shape \(4, 3\), got \(4, 2\)"),
        (np.ones((4, 3), dtype=int), TypeError, "output must be a floating-point array like x, got ndarray"),
        (np.where(np.arange(4)[:, None] == 2, np.nan, X_T), dpm.SamplingError, "evaluation 1 of 5 .* sample 2"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_an_output_that_does_not_fit_leaves_the_run_where_it_was(output: Any, error: Any, message: str) -> None:
    plan = dpm.make_plan("dpm++2m", SCHEDULE, 5)
    stepper = dpm.Stepper(plan, X_T)
    with pytest.raises(error, match=message):
        stepper.step(output)
    assert stepper.index == 0
    np.testing.assert_array_equal(driven(stepper, network(SCHEDULE)), driven(dpm.Stepper(plan, X_T), network(SCHEDULE)))


def test_steps_after_the_end_are_refused() -> None:
    stepper = dpm.Stepper(dpm.make_plan("ddim", SCHEDULE, 2), X_T)
    driven(stepper, network(SCHEDULE))
    with pytest.raises(dpm.PlanError, match="the run is over: its 2 evaluations are made, and x is the result"):
        stepper.step(X_T)


def test_states_that_do_not_fit_are_refused() -> None:
    plan = dpm.make_plan("dpm++2m", SCHEDULE, 5)
    stepper, net = dpm.Stepper(plan, X_T), network(SCHEDULE)
    driven(stepper, net, until=3)
    state = stepper.state_dict()
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (dpm.make_plan("dpm++2m", SCHEDULE, 6), X_T, state, "the state of another plan"),
        (plan, X_T[:2], state, r"x of the state has shape \(4, 3\), this run's arrays \(2, 3\)"),
        (plan, X_T, {"x": X_T}, "it lacks plan, index, keys"),
        (plan, X_T, {k: v for k, v in state.items() if k != "outputs.1"}, "lacks outputs.1, which evaluation 4 needs"),
        (plan, X_T, {**state, "u": [1.0]}, "u of the state must be an array like x_T, got list"),
    ]
    for own, x_T, given, message in cases:
        other = dpm.Stepper(own, x_T)
        with pytest.raises((ValueError, TypeError), match=message):
            other.load_state_dict(given)
        assert other.index == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("dpm++2m", X_T), TypeError, "plan must be a Plan"),
        ((dpm.make_plan("ddim", SCHEDULE, 2), X_T, "eps"), dpm.PlanError, "prediction"),
        ((dpm.make_plan("ddim", SCHEDULE, 2), X_T * np.nan), ValueError, "x_T has NaN or infinity"),
        ((dpm.make_plan("ddim", SCHEDULE, 2), [1.0]), TypeError, "must be an array of NumPy, torch or JAX"),
        ((dpm.make_plan("dpm++2m", dpm.schedules.Flow(), 2), X_T, "noise"), dpm.PlanError, "does not determine data"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        dpm.Stepper(*arguments)
