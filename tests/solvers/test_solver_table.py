"""The table of solvers in the documentation agrees with the registry and with the measured figures; no order without its slope."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dpmsolver.evaluation.convergence import order_of_convergence
from dpmsolver.solvers import SOLVERS

ROOT = Path(__file__).parents[2]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("solver_table", ROOT / "benchmarks" / "solvers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = script()
DOCUMENT: dict[str, Any] = json.loads(TABLE.RESULTS.read_text())
PAGE: str = TABLE.PAGE.read_text()


def cells(name: str) -> list[str]:
    """The row of a solver in the page."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_registry_figures_and_page_agree() -> None:
    """Every solver has its row, with the claims of the registry and the measured figures, and there are no other rows."""
    assert TABLE.problems(DOCUMENT, PAGE) == []


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_every_row_shows_the_claims_and_the_slopes(solver: Any) -> None:
    """Read from the page itself: prediction, order, both slopes, source."""
    row, figures = cells(solver.name), DOCUMENT["solvers"][solver.name]
    assert row[1:3] == [solver.prediction, str(solver.order)]
    assert row[3].strip("*") == f"{figures['gaussian']:.2f}"
    mixture = figures["mixture"][0] if figures["stochastic"] else figures["mixture"]
    assert row[4].strip("*").startswith((f"{mixture:.2f}", "below noise"))
    assert row[-1].replace("&nbsp;", " ") == solver.source


def test_every_slope_on_the_gaussian_is_the_claim_and_others_are_discussed() -> None:
    """Without sampling noise: within 0.15. A slope on the mixture that is further away is named below the tables."""
    for name, figures in DOCUMENT["solvers"].items():
        assert figures["gaussian"] == pytest.approx(figures["order"], abs=0.15), name
        if not figures["stochastic"]:
            assert figures["mixture"] == pytest.approx(figures["order"], abs=0.15), name
        assert (f"- `{name}` claims" in PAGE) == bool(TABLE.deviations(figures))


def test_a_solver_without_figures_or_with_another_claim_is_found() -> None:
    """What the first test guards against: a new solver, a removed one, a changed order, an edited page."""
    new = replace(SOLVERS["dpm++2m"], name="new")
    (found,) = TABLE.problems(DOCUMENT, PAGE, {**SOLVERS, "new": new})
    assert found.startswith("new has no measured slope")
    less = {name: solver for name, solver in SOLVERS.items() if name != "unipc-2"}
    assert TABLE.problems(DOCUMENT, PAGE, less) == ["unipc-2 has figures and is not in the registry"]
    changed = {**SOLVERS, "dpm++2m": replace(SOLVERS["dpm++2m"], order=3)}
    assert TABLE.problems(DOCUMENT, PAGE, changed) == ["dpm++2m claims order 3 and was measured when it claimed 2"]
    resourced = {**SOLVERS, "dpm++2m": replace(SOLVERS["dpm++2m"], source="hearsay")}
    assert TABLE.problems(DOCUMENT, PAGE, resourced)
    assert TABLE.problems(DOCUMENT, PAGE.replace("dpm++2m", "dpm++2n"))


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "unipc-2", "dpm++2m-sde"])
def test_the_figures_are_what_the_measurement_gives(name: str) -> None:
    """Measured again, for a few: the slope on the Gaussian to the third digit."""
    assert order_of_convergence(SOLVERS[name]) == pytest.approx(DOCUMENT["solvers"][name]["gaussian"], abs=2e-3)


def test_the_law_on_the_mixture_is_the_right_one() -> None:
    """A weak order says nothing of the limit: it is the data's law, up to the finest run's own error and four standard errors.

    With order p the error left at the finest is the last distance over 2^p - 1; doubled, as these steps are few. What claims order 0 has
    another limit.
    """
    for name, figures in DOCUMENT["solvers"].items():
        if figures["stochastic"] and figures["order"] == 0:
            assert figures["mixture_gap"] > 20 * figures["mixture_gap_noise"], name
        elif figures["stochastic"]:
            left = figures["mixture_distances"][-1] / (2 ** figures["order"] - 1)
            assert figures["mixture_gap"] < 2 * left + 4 * figures["mixture_gap_noise"], name


def test_the_figures_beneath_the_velocity_solvers_are_of_the_cases_that_are_measured() -> None:
    """The file has the solvers, budgets and samples of `benchmarks.velocity`, and the page shows every figure of it."""
    from benchmarks import velocity

    document = json.loads(velocity.RESULTS.read_text())
    assert list(document) == list(velocity.CASES)
    for model, case in velocity.CASES.items():
        errors = document[model]["errors"]
        assert (tuple(errors), document[model]["num"]) == (case.solvers, case.num)
        for name, by_budget in errors.items():
            assert tuple(map(int, by_budget)) == case.budgets
            values = [f"{each['value']:.3g}" for each in by_budget.values()]
            rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |") and values[0] in line]
            assert any(all(value in row for value in values) for row in rows), (model, name)
