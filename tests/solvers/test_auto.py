"""`solver="auto"`: it spends any budget on any schedule, and takes what the committed measurements recommend."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.choice import measuring, ranking, text
from benchmarks.choice.cases import CASES, KINDS, in_edm
from benchmarks.choice.cases import SCHEDULES as CHOICE_SCHEDULES

import dpmsolver as dpm
from cases import SCHEDULES
from dpmsolver.errors import PlanError
from dpmsolver.models.testbeds import load_testbed
from dpmsolver.solvers.auto import _CHOICES, kind_of, recommended


@pytest.mark.parametrize("nfe", [1, 2, 5, 8, 9, 12, 17, 24, 25, 100])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_budget_can_be_spent_on_every_schedule(name: str, nfe: int) -> None:
    """Exactly nfe evaluations, from noise to data, by the solver that it says."""
    schedule = SCHEDULES[name]
    plan = dpm.make_plan("auto", schedule, nfe)
    assert plan.nfe == nfe
    assert plan.solver == recommended(schedule, nfe)[0].partition(":")[0]
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


@pytest.mark.parametrize("nfe", [5, 10, 20, 50])
def test_a_start_without_a_signal_may_be_said(nfe: int) -> None:
    """On flows "auto" takes noise prediction, which starts just above alpha = 0: start=1 says no more than the default; given times do."""
    schedule = dpm.schedules.Flow()
    assert dpm.make_plan("auto", schedule, nfe, start=1.0) == dpm.make_plan("auto", schedule, nfe)
    times = np.linspace(1.0, 0.0, nfe + 1)
    assert dpm.make_plan("auto", schedule, nfe, times).start.time == 1.0
    with pytest.raises(PlanError, match="does not determine data at alpha=0"):
        dpm.make_plan("auto", schedule, nfe, start=1.0, predicts="noise")


@pytest.mark.parametrize("nfe", [0, -1, 2.5, "10", True, None])
def test_budgets_that_are_none_are_refused(nfe: object) -> None:
    with pytest.raises(PlanError, match="nfe must be an integer >= 1"):
        dpm.make_plan("auto", dpm.schedules.LinearVP(), nfe)


def test_the_choice_is_what_the_figures_say() -> None:
    """Near the best score at every measured budget on every kind of schedule; and the page shows these figures."""
    document = measuring.known_figures()
    assert set(document["cases"]) == {case.name for case in CASES}
    assert {case["kind"] for case in document["cases"].values()} == {*KINDS}
    assert not list(ranking.deviations(document))
    assert text.PAGE.read_text() == text.render(document)


def test_a_figure_is_what_its_measurement_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """One case measured again, at one budget."""
    document, name = measuring.known_figures(), "mixture-16 LinearVP"
    monkeypatch.setattr(measuring, "NFES", (10,))
    (case,) = (each for each in CASES if each.name == name)
    testbed, candidate = case.load(), "ipndm-3@logsnr"
    assert kind_of(testbed.schedule, testbed.predicts) == document["cases"][name]["kind"]
    found = measuring.measure(case, testbed, measuring.missing(testbed, [candidate], {}))
    known = document["cases"][name]["errors"]["10"][candidate]
    assert found["errors"]["10"][candidate] == pytest.approx(known, rel=1e-3)


def test_what_has_a_figure_is_not_measured_again() -> None:
    """A new candidate alone is missing, at the budgets that it can spend."""
    testbed, known = load_testbed("mixture-2"), measuring.known_figures()["cases"]["digits"]["errors"]
    assert not any(measuring.missing(testbed, measuring.CANDIDATES, known).values())
    new = measuring.missing(testbed, [*measuring.CANDIDATES, "heun@karras"], known)
    assert {nfe: [*plans] for nfe, plans in new.items()} == {n: ["heun@karras"] if n > 2 else [] for n in ranking.NFES}


def test_a_network_is_the_same_as_one_of_edm() -> None:
    """A law that predicts noise under linear betas, and its predictions as those of EDM: one trajectory, up to the scale of the state."""
    own = load_testbed("mixture-2", schedule=CHOICE_SCHEDULES["linear"])
    other = in_edm(own)
    denoiser, edm = own.denoiser(None), other.denoiser(None)
    sigma, last = 20.0, own.schedule.half_log_snr(own.schedule.t_min)
    x, start = sigma * np.random.default_rng(0).standard_normal((4, 2)), float(own.schedule.time(-np.log(sigma)))
    there = dpm.sample(edm, x, nfe=8, solver="dpm++2m", grid="logsnr", start=sigma, end=float(np.exp(-last)))
    scaled = x * own.schedule.alpha(start)
    here = dpm.sample(denoiser, scaled, nfe=8, solver="dpm++2m", grid="logsnr", start=start, end=own.schedule.t_min)
    np.testing.assert_allclose(there, here / own.schedule.alpha(own.schedule.t_min), rtol=0, atol=1e-6)


def test_a_choice_far_from_the_figures_is_found() -> None:
    """The figures with two candidates exchanged."""
    document, (solver, grid) = measuring.known_figures(), recommended(dpm.schedules.LinearVP(), 10)
    for case in ranking.measured(document, "variance preserving", judges=False):
        errors = document["cases"][case.name]["errors"]["10"]
        errors[f"{solver}@{grid}"], errors["ddim@time"] = errors["ddim@time"], errors[f"{solver}@{grid}"]
    assert any(line.startswith("variance preserving, 10 evaluations") for line in ranking.deviations(document))


@pytest.mark.parametrize("kind", _CHOICES)
def test_every_choice_is_a_solver_and_a_grid(kind: str) -> None:
    for _, solver, grid in _CHOICES[kind]:
        assert dpm.make_plan(solver, dpm.schedules.EDM(), 8, grid).nfe == 8
