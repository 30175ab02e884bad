"""Presets: measured by successive halving, with what `auto` takes among them to the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from laws import END, LAW, PEAKS, SCHEDULE

import dpmsolver as dpm
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.selecting import first_noises, presets, ranked
from dpmsolver.tuning.teacher import Taught


def test_auto_is_the_first_and_stays_to_the_end(peaks: list[Taught]) -> None:
    """Even where every other preset is nearer."""
    every = list(presets(PEAKS.denoiser(SCHEDULE), 4, END))
    assert every[0].name == "auto"
    worst = replace(every[0], table=replace(every[0].table, rows=tuple(1.5 * row for row in every[0].table.rows)))
    found = ranked([worst, *every[1:]], peaks, Miss())
    assert [preset.name for preset in found].count("auto") == 1
    assert len(found) == 6


def test_the_ranking_is_by_the_mean_error(peaks: list[Taught]) -> None:
    found = ranked(list(presets(PEAKS.denoiser(SCHEDULE), 4, END)), peaks, Miss())
    means = [preset.errors.mean() for preset in found]
    assert means == sorted(means)
    assert np.array_equal(found[0].errors, end_errors(found[0].table, peaks, Miss()))


def test_a_preset_that_diverges_loses_and_ends_nothing(peaks: list[Taught]) -> None:
    """Infinite states are the last, and no exception."""
    every = list(presets(PEAKS.denoiser(SCHEDULE), 4, END))[:12]
    wild = replace(every[3], table=replace(every[3].table, rows=tuple(1e200 * row for row in every[3].table.rows)))
    with np.errstate(all="ignore"):
        found = ranked([*every[:3], wild, *every[4:]], peaks, Miss())
    assert wild.name not in (preset.name for preset in found)


def test_no_two_presets_are_the_same_plan() -> None:
    tables = [tuple(np.concatenate(preset.table.rows)) for preset in presets(LAW.denoiser(SCHEDULE), 5, None)]
    assert len(tables) == len(set(tables)) > 60


def test_first_noises_are_taken_over_parts(peaks: list[Taught]) -> None:
    assert [len(each.part) for each in first_noises(peaks, 5)] == [5]
    assert [len(each.part) for each in first_noises(peaks, 20)] == [12, 8]
    assert [len(each.part) for each in first_noises(peaks, 100)] == [12, 12]


def test_select_is_the_nearest_preset_and_says_its_name() -> None:
    """Its plan is the one that its name makes, and no preset of the last round is nearer."""
    denoiser = PEAKS.denoiser(SCHEDULE)
    found = dpm.select(denoiser, (16, 2), nfe=5)
    assert found.plan.nfe == 5
    name: Any = found.name
    assert found.plan == dpm.make_plan(name, SCHEDULE, 5, predicts=denoiser.predicts)
    assert found.ranking[0].summary.mean == min(preset.summary.mean for preset in found.ranking)
    assert str(found).splitlines()[0].startswith(found.name)


def test_select_wants_four_noises() -> None:
    with pytest.raises(dpm.PlanError, match="select needs at least 4 noises, got 3"):
        dpm.select(PEAKS.denoiser(SCHEDULE), (3, 2), nfe=5)


@pytest.mark.parametrize("batch", [0, 2.5, True])
def test_select_wants_a_batch(batch: Any) -> None:
    with pytest.raises(dpm.PlanError, match="batch must be an integer >= 1, got"):
        dpm.select(PEAKS.denoiser(SCHEDULE), (8, 2), batch=batch)
