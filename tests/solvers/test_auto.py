"""`solver="auto"`: it spends any budget on any schedule, and takes what the committed measurements recommend."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks import choice

import dpmsolver as dpm
from cases import SCHEDULES
from dpmsolver.errors import PlanError
from dpmsolver.solvers.auto import recommended


@pytest.mark.parametrize("nfe", [1, 2, 5, 8, 9, 12, 17, 24, 25, 100])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_budget_can_be_spent_on_every_schedule(name: str, nfe: int) -> None:
    """Exactly nfe evaluations, from noise to data, by the solver that it says."""
    schedule = SCHEDULES[name]
    plan = dpm.make_plan("auto", schedule, nfe)
    assert plan.nfe == nfe
    assert plan.solver == recommended(schedule, nfe)[0]
    assert plan.start.time > plan.end.time


def test_it_is_the_default() -> None:
    schedule = dpm.schedules.LinearVP()
    denoiser = dpm.models.Gaussian(mean=[0.0], variance=[0.25]).denoiser(schedule)
    x_T = np.ones((2, 1))
    solver, grid = recommended(schedule, 10)
    expected = dpm.sample(denoiser, x_T, nfe=10, solver=solver, grid=grid)
    np.testing.assert_array_equal(dpm.sample(denoiser, x_T, nfe=10), expected)
    np.testing.assert_array_equal(dpm.sample(denoiser, x_T, nfe=10, solver="auto"), expected)


def test_a_grid_and_times_of_the_callers_replace_its_own() -> None:
    schedule = dpm.schedules.LinearVP()
    solver = recommended(schedule, 6)[0]
    assert dpm.make_plan("auto", schedule, 6, "karras") == dpm.make_plan(solver, schedule, 6, "karras")
    times = np.linspace(0.8, 0.01, 7)
    assert dpm.make_plan("auto", schedule, 6, times) == dpm.make_plan(solver, schedule, 6, times)
    assert dpm.make_plan("auto", schedule, 6, start=0.5, end=0.0).start.time == 0.5


@pytest.mark.parametrize("nfe", [0, -1, 2.5, "10", True, None])
def test_budgets_that_are_none_are_refused(nfe: object) -> None:
    with pytest.raises(PlanError, match="nfe must be an integer >= 1"):
        dpm.make_plan("auto", dpm.schedules.LinearVP(), nfe)


def test_the_choice_is_what_the_figures_say() -> None:
    """Within a factor of 1.3 of the best score at every measured budget on every kind of schedule; and the page shows these figures."""
    document = json.loads(choice.RESULTS.read_text())
    assert set(document["errors"]) == set(choice.testbeds())
    assert not list(choice.deviations(document))
    assert choice.PAGE.read_text() == choice.render(document)


def test_a_figure_is_what_its_measurement_gives() -> None:
    """One testbed's figure, measured anew."""
    document = json.loads(choice.RESULTS.read_text())
    testbed, x_T = choice.load("gaussian EDM"), choice.load("gaussian EDM").initial_noise(range(100), choice.SEED)
    plan = dpm.make_plan("ipndm-3", testbed.schedule, 10, "logsnr")
    exact = testbed.gaussian.trajectory(testbed.schedule, x_T, testbed.schedule.t_max, plan.end.time)
    error = np.sqrt(np.mean((dpm.sample(testbed.denoiser(), x_T, plan=plan) - exact) ** 2, axis=1)).mean()
    assert document["errors"]["gaussian EDM"]["10"]["ipndm-3 logsnr"] == pytest.approx(error, rel=2e-2)
