"""Plans as pictures: what is drawn is what the plan says."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.plans.drawn import coefficients
from dpmsolver.schedules import EDM, Flow, LinearVP
from dpmsolver.solvers import SOLVERS


@pytest.fixture(autouse=True)
def _figures_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without a screen, and no figure is left to the next test."""
    mpl.use("Agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.mark.parametrize("solver", [name for name, entry in SOLVERS.items() if not entry.calibrated])
def test_every_coefficient_is_in_the_table(solver: str) -> None:
    """The numbers of a column are those of its row, each under its own name, and there are no others."""
    plan = next(made for nfe in (8, 9, 12, 14, 20) if (made := _made(solver, nfe)) is not None)
    names, table = coefficients(plan)
    assert len(set(names)) == len(names)
    for column, row in zip(table.T, plan.all_rows, strict=True):
        wanted = [c for each in (row.output, row.advance, row.predict) if each for c in each.coefficients[:-1]]
        assert sorted(column[np.isfinite(column)]) == pytest.approx(sorted(wanted))


def _made(solver: str, nfe: int) -> dpm.Plan | None:
    try:
        return dpm.make_plan(solver, LinearVP(), nfe)  # type: ignore[arg-type]
    except dpm.PlanError:
        return None


def test_a_picture_has_a_mark_for_every_evaluation_and_the_end() -> None:
    """Above, the half-log-SNR of each point; below, a field for each coefficient with its number."""
    plan = dpm.make_plan("dpm++2m", LinearVP(), 6)
    above, below = plan.plot().axes
    drawn = above.lines[0].get_xydata()
    points = [*(row.point for row in plan.rows), plan.end]
    assert drawn == pytest.approx(np.array([(k, p.half_log_snr) for k, p in enumerate(points)]))
    low, high = above.get_xlim()
    assert low < 0
    assert high > 6
    names, table = coefficients(plan)
    assert below.images[0].get_array().shape == table.shape
    assert len(below.texts) == np.isfinite(table).sum()
    assert [label.get_text() for label in below.get_yticklabels()] == names
    assert [label.get_text() for label in below.get_xticklabels()][-2:] == ["5", "end"]


def test_infinite_ends_are_marked() -> None:
    """Pure noise below, clean data above; the others are as they are."""
    axes = dpm.make_plan("dpm++2m", Flow(), 5).plot().axes[0]
    assert [text.get_text() for text in axes.texts] == ["-∞", "∞"]
    assert all(math.isfinite(y) for line in axes.lines for y in line.get_ydata())
    assert [text.get_text() for text in dpm.make_plan("ddim", EDM(), 1).plot().axes[0].texts] == ["∞"]


def test_a_step_before_the_first_evaluation_has_its_own_column() -> None:
    """A plan whose x_T belongs to another point begins with it."""
    plan = dpm.transforms.analytic_first_step(dpm.make_plan("dpm-2m", LinearVP(), 5))
    assert plan.begin is not None
    above, below = plan.plot().axes
    assert below.get_xticklabels()[0].get_text() == "x_T"
    assert len(above.lines[0].get_xydata()) + len(above.texts) == plan.nfe + 2


def test_a_figure_of_your_own_is_drawn_into() -> None:
    """And returned."""
    from matplotlib.figure import Figure

    mine = Figure()
    assert dpm.make_plan("ddim", LinearVP(), 40).plot(mine) is mine
    assert len(mine.axes) == 2


def test_without_matplotlib_a_sentence_says_what_to_install() -> None:
    """And the rest of the library does not import it."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import dpmsolver as dpm\n"
        "plan = dpm.make_plan('ddim', dpm.schedules.LinearVP(), 3)\n"
        "try: plan.plot()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("pip install 'dpmsolver[plot]'")
