"""benchmarks.tuning: the page is what the figures say, recipes are what their papers describe, and a bar is counted as it is written."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from benchmarks.tuning import gain, recipes, text
from benchmarks.tuning.__main__ import main
from benchmarks.tuning.cases import Case, Judges, case_of, halved, said

import dpmsolver as dpm
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.selecting import presets
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Lesson, Taught

SCHEDULE = dpm.schedules.LinearVP()
MODEL = dpm.models.Gaussian(mean=[0.5, -0.5], variance=[0.25, 0.01])


def taught(nfe: int = 12) -> Taught:
    noises = Noises(MODEL.denoiser(SCHEDULE), dpm.initial_noise(SCHEDULE, (6, 2)))
    part = noises.part(range(6))
    return Taught(part, Lesson.given(part, 1e-3, nfe))


TAUGHT = taught()
KNOTS = np.array([p.time for p in TAUGHT.lesson.points])


def test_the_page_is_what_the_figures_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    assert main(["--check"]) == 0
    other = tmp_path / "tuned.md"
    other.write_text(text.render() + "changed by hand\n")
    monkeypatch.setattr(text, "PAGE", other)
    assert main(["--check"]) == 1


def test_optimal_steps_are_the_best_of_all_grids_for_two_jumps() -> None:
    """With two jumps nothing is cut off: every grid of the teacher's knots by brute force, run with DDIM itself."""

    def miss(inner: tuple[int, ...]) -> float:
        run = recipes.on_times("ddim", SCHEDULE, KNOTS[[0, *inner, -1]], "noise").run(TAUGHT.part)
        return float(np.square(run - TAUGHT.lesson.end).mean())

    best = min(itertools.combinations(range(1, len(KNOTS) - 1), 1), key=miss)
    found = recipes.optimal_times(TAUGHT, 4)
    np.testing.assert_array_equal(found[1], KNOTS[[0, -1]])
    np.testing.assert_array_equal(found[2], KNOTS[[0, *best, -1]])
    assert [len(found[n]) for n in (3, 4)] == [4, 5]
    errors = [
        end_errors(recipes.on_times("ddim", SCHEDULE, found[n], "noise"), [TAUGHT], Miss()).mean() for n in (1, 2, 3, 4)
    ]
    assert errors == sorted(errors, reverse=True)


def test_gits_takes_the_knots_that_cost_least() -> None:
    """By brute force over the costs of one jump that the teacher's states give: c[0, i] + gamma (c[i, j] + …)."""
    states, outputs = np.stack(TAUGHT.lesson.states), np.stack(TAUGHT.lesson.outputs)
    costs = dpm.grids.gits_costs(SCHEDULE, KNOTS, states, outputs)

    def total(inner: tuple[int, ...]) -> float:
        jumps = itertools.pairwise([0, *inner, len(KNOTS) - 1])
        return sum(recipes.GAMMA**k * costs[i, j] for k, (i, j) in enumerate(jumps))

    best = min(itertools.combinations(range(1, len(KNOTS) - 1), 2), key=total)
    np.testing.assert_array_equal(recipes.gits_times(SCHEDULE, TAUGHT, 3), KNOTS[[0, *best, -1]])


def test_a_search_of_times_keeps_the_solver_and_comes_nearer() -> None:
    preset = next(p for p in presets(TAUGHT.part.denoiser, 4, 1e-3) if p.name == "dpm++2m@logsnr")
    found = recipes.searched_times(preset, [TAUGHT], SCHEDULE, 40)
    before, after = (end_errors(table, [TAUGHT], Miss()).mean() for table in (preset.table, found))
    assert after < 0.9 * before
    times = np.array([p.time for p in found.points])
    again = Table.of(dpm.make_plan("dpm++2m", SCHEDULE, 4, times))
    assert all((a == b).all() for a, b in zip(again.rows, found.rows, strict=True))


def test_judges_measure_a_sampler_as_they_measure_its_table() -> None:
    """The same plan as a sampler and as a table, at the end to which it runs, for the first few judges and for all."""
    from dpmsolver.evaluation.samplers import Sampler, plan_sampler

    judges = Judges(Case("gaussian", judges=6), batch=4, teacher_nfe=20)
    sampler, plan = plan_sampler("ddim"), dpm.make_plan("ddim", judges.testbed.schedule, 5)
    whole = judges.of_sampler(Sampler("x", sampler.draw), 5)
    np.testing.assert_allclose(whole, judges.of_table(Table.of(plan)), rtol=1e-9)
    np.testing.assert_allclose(judges.of_sampler(sampler, 5, 3), whole[:3], rtol=1e-9)


def test_halving_leaves_the_best_and_drops_what_fails() -> None:
    def fails(count: int) -> np.ndarray:
        raise dpm.PlanError("a budget that it cannot spend")

    candidates = [(str(k), lambda count, k=k: np.full(count or 9, float(k))) for k in (3, 1, 2)]
    left = halved([*candidates, ("nothing", fails)], ((2, 2), (0, 1)))
    assert [(name, len(errors)) for name, errors in left] == [("1", 9)]


def test_a_bar_is_the_mean_error_against_the_best_of_any_package() -> None:
    errors = said(np.array([0.1, 0.3]))
    untuned = {"8": {"ours": {"mean": 0.3}, "azula": {"mean": 0.16}}, "12": {"ours": {"mean": 0.3}}}
    found = gain.bars(case_of("gaussian"), {"tuned": {"5": errors, "8": errors}, "untuned": untuned})
    assert [(bar["few"], bar["many"], bar["met"]) for bar in found] == [(5, 8, False), (8, 12, True)]
    assert found[0]["ratio"] == pytest.approx(0.2 / 0.16)
