"""The page of a fit, from results that nobody measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laws import SCHEDULE

import dpmsolver as dpm
from dpmsolver.tuning.misses import DIVERGED
from dpmsolver.tuning.outcome import Report, Stage, Tuned
from dpmsolver.tuning.page import results_of, write_tuned
from dpmsolver.tuning.table import Table

pytest.importorskip("jinja2")


def a_fit(nfe: int, winner: Any = "tuned", factor: float = 0.3) -> Tuned:
    draws = np.random.default_rng(nfe).lognormal(size=40)
    errors: Any = {"auto": draws, "selected": 0.8 * draws, "tuned": factor * draws}
    stages = (Stage("auto", 1.0, 100), Stage("refined", 0.3, 900))
    report = Report(nfe, winner, "ddim@karras", errors, stages, (30, 20, 40), 64, 1e-4, 1000, 1.5)
    auto, selected = (dpm.make_plan(name, SCHEDULE, nfe) for name in ("auto", "ddim@karras"))
    tuned = Table.of(auto).plan("tuned", repr(SCHEDULE), "fitted", {"network": "abc", "guidance": "none"})
    plans: Any = {"auto": auto, "selected": selected, "tuned": tuned}
    return Tuned(plans[winner], report, plans)


def test_results_are_plain_data() -> None:
    """JSON takes them, and each interval holds its figure."""
    results = results_of({5: a_fit(5), 6: a_fit(6)}, "a network", command="dpm.tune(…)")
    json.dumps(results, allow_nan=False)
    for fit in results["fits"]:
        for plan in fit["plans"]:
            assert all(each["low"] <= each["value"] <= each["high"] for each in plan["summary"].values())
            curve = plan["curve"]
            assert all(a <= b <= c for a, b, c in zip(curve["low"], curve["value"], curve["high"], strict=True))
            assert len(plan["times"]) == len(plan["rows"]) == fit["nfe"]
    assert (results["network"], results["guidance"]) == ("abc", "none")


@pytest.mark.parametrize(
    ("winner", "said"),
    [
        ("tuned", "The fitted plan is kept"),
        ("selected", "The best preset, ddim@karras, is kept"),
        ("auto", "auto is kept"),
    ],
)
def test_the_page_says_what_is_kept(winner: str, said: str, tmp_path: Path) -> None:
    page = write_tuned([a_fit(5, winner)], tmp_path, "a network").read_text()
    assert said in page
    assert ("the untuned plans are kept" in page) == (winner != "tuned")


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """No address, no script, and the pictures of every plan inside; names are text."""
    fit, rng = a_fit(4), np.random.default_rng(0)
    names = ("auto", "selected", "tuned", "converged")
    pictures = {(name, 4): rng.uniform(-1, 1, (3, 1, 4, 4)).astype(np.float32) for name in names}
    page = write_tuned([fit], tmp_path, "<b>network</b>", pictures)
    text = page.read_text()
    assert page == tmp_path / "tune.html"
    assert "<b>network</b>" not in text
    assert text.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=.https?:", text)
    assert "<script" not in text


def test_a_run_that_diverged_is_shown(tmp_path: Path) -> None:
    """On one noise of forty: the page is written, and says the mean that follows."""
    fit = a_fit(4, "selected")
    fit.report.errors["tuned"][3] = DIVERGED
    assert "2.50e28" in write_tuned([fit], tmp_path).read_text()


def test_points_of_the_plane_are_scatter_plots(tmp_path: Path) -> None:
    points = {(name, 4): np.eye(2, dtype=np.float32) for name in ("converged", "tuned")}
    assert write_tuned([a_fit(4)], tmp_path, samples=points).read_text().count("data:image/png;base64,") == 2


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out must be a folder that exists"):
        write_tuned([a_fit(4)], tmp_path / "none")
