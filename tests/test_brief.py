"""What people see when they type a name: a short repr for everything public, and tables in notebooks."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from cases import SCHEDULES
from dpmsolver import brief
from dpmsolver.grids import GRIDS
from dpmsolver.plans import Combination
from dpmsolver.plans.plan import Plan
from dpmsolver.schedules import EDM, CosineVP, Flow, LinearVP, SubVP
from dpmsolver.solvers import SOLVERS

_PAGES = re.compile(r"dpmsolver\.(report|evaluation|cli|compat|adapters)\b")


def examples() -> Iterator[doctest.DocTest]:
    """The examples of the docstrings that a user of `dpm` reads."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for found in pkgutil.walk_packages(dpm.__path__, "dpmsolver."):
        if _PAGES.match(found.name) or found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        yield from (test for test in finder.find(module, found.name) if test.examples)


def is_ours(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "dpmsolver"


def made_by_the_examples() -> Iterator[tuple[str, Any]]:
    """Every object of ours that the examples make, their last results and what generators yield included."""
    for test in examples():
        names = dict(test.globs)
        for example in test.examples:
            if example.exc_msg is not None:  # an example of an error makes nothing
                continue
            try:
                value = eval(compile(example.source.strip(), test.name, "eval"), names)
            except SyntaxError:
                exec(compile(example.source, test.name, "exec"), names)
                value = None
            if is_ours(value):
                yield test.name, value
        yield from ((f"{test.name}: {name}", value) for name, value in names.items() if is_ours(value))


def test_everything_that_the_examples_make_has_a_short_repr(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """At most 200 characters on one line, for every object of ours that an example makes."""
    monkeypatch.chdir(tmp_path)
    kinds = set()
    for where, value in made_by_the_examples():
        shown = repr(value)
        assert len(shown) <= 200, (where, shown)
        assert "\n" not in shown, (where, shown)
        kinds.add(type(value).__name__)
    assert {"Plan", "Denoiser", "Combination", "LinearVP", "Discrete", "Gaussian", "Stepper", "Diagnosis"} <= kinds


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_short(name: str) -> None:
    """A thousand betas are not printed, and a notebook shows the range and two curves."""
    schedule = SCHEDULES[name]
    assert len(repr(schedule)) <= 200
    assert " at 0x" not in repr(schedule)
    page = schedule._repr_html_()
    assert page.count("<polyline") == 2
    assert "nan" not in page


@pytest.mark.parametrize(
    "schedule", [LinearVP(), SubVP(beta_max=12.0), CosineVP(t_max=1.0), EDM(0.01, 50.0), Flow(shift=3.0)]
)
def test_a_schedule_in_closed_form_can_be_made_again_from_its_repr(schedule: Any) -> None:
    """What is printed is the expression that makes it."""
    assert eval(repr(schedule)) == schedule


def test_two_schedules_of_lambdas_are_told_apart() -> None:
    """Functions without a name have the same one: a value in the middle differs."""
    one, other = (dpm.schedules.Custom(lambda t: 1.0, lambda t, p=p: t**p, t_min=0.01, t_max=1.0) for p in (1.0, 2.0))
    assert repr(one) != repr(other)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_plan_row_and_solver_is_short(solver: str) -> None:
    """Plans of every solver, their rows and combinations; the line of a plan names the solver and counts evaluations."""
    entry = SOLVERS[solver]
    assert len(repr(entry)) <= 200
    if entry.calibrated:
        return
    plan = next(iter(_plans(solver)))
    assert repr(plan).startswith(f"<Plan {solver}@")
    assert f"{plan.nfe} evaluations" in repr(plan)
    assert max(map(len, map(repr, [plan, *plan.rows, *plan.combinations()]))) <= 200
    assert plan._repr_html_().count("<tr>") == plan.nfe + 2 + (plan.begin is not None)


def _plans(solver: str) -> Iterator[Plan]:
    for nfe in (8, 9, 12, 14, 20):
        try:
            yield dpm.make_plan(solver, dpm.schedules.LinearVP(), nfe)  # type: ignore[arg-type]
        except dpm.PlanError:
            continue


def test_a_short_combination_can_be_made_again_from_its_repr() -> None:
    """With every digit."""
    made = Combination(1 / 3, (0.1, -2.0), (0.7,))
    assert eval(repr(made), {"Combination": Combination}) == made


def test_networks_and_conditions_are_named_and_not_printed() -> None:
    """A torch module is shown by its class, arrays by type and shape, functions by name; what is as by default is left out."""
    module = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(50)))
    guidance = dpm.guidance.ClassifierFree(3.0, {"text": np.zeros((2, 77, 768))}, None)
    denoiser = dpm.Denoiser(module, LinearVP(), "v", guidance=guidance)
    assert repr(denoiser) == (
        "Denoiser(<Sequential>, schedule=LinearVP(beta_min=0.1, beta_max=20.0, t_min=1e-05, t_max=1.0), predicts='v', "
        "guidance=ClassifierFree(3.0, condition={'text': <float64 (2, 77, 768)>}))"
    )
    page = denoiser._repr_html_()
    assert "&lt;Sequential&gt;" in page
    assert len(page) < 2000


def test_a_long_plan_shows_its_first_and_last_rows_in_a_notebook() -> None:
    """A thousand rows are not sent to a browser; print shows all of them."""
    plan = dpm.make_plan("ddim", LinearVP(), 500)
    assert plan._repr_html_().count("<tr>") == 43
    assert len(str(plan).splitlines()) > 500


def test_states_of_a_run_show_their_shapes() -> None:
    """Of a batch of pictures not the pixels."""
    denoiser = dpm.Denoiser(lambda x, t: 0.0 * x, LinearVP())
    state = next(dpm.iterate(denoiser, np.random.default_rng(0).normal(size=(2, 3, 8, 8)), 5))
    assert repr(state).startswith("State(0, time=1.0, x=<float64 (2, 3, 8, 8)>, ")


def test_long_texts_are_cut_and_grids_are_named() -> None:
    """The limit holds whatever is in an object."""
    assert len(brief.cut("x" * 1000)) == 200
    assert all(len(brief.brief(grid)) < 40 for grid in GRIDS.values())
    assert inspect.getdoc(brief.brief_repr)
