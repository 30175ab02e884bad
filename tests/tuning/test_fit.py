"""A fit's memory: what it holds of the trajectories, with a store and without one, and how many noises a stage takes at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laws import PEAKS, SCHEDULE

import dpmsolver as dpm
import dpmsolver.tuning.fit
from dpmsolver.tuning.course import Course
from dpmsolver.tuning.fit import Fit
from dpmsolver.tuning.misses import Miss
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.selecting import first_noises
from dpmsolver.tuning.teacher import Lazy, Taught

pytestmark = pytest.mark.usefixtures("few_presets")
X = dpm.initial_noise(SCHEDULE, (64, 2), seed=0).astype(np.float32)


def fitted(store: Path | None = None, spending: int = 9000) -> Fit:
    course = Course(Noises(PEAKS.denoiser(SCHEDULE), X), None, 16, range(64), store)
    course.prepare(3)
    return Fit(course, 3, spending, Miss())


def count(taught: Sequence[Taught]) -> int:
    return sum(len(part) for part, _ in taught)


def test_a_store_holds_the_trajectories_in_place_of_memory(tmp_path: Path) -> None:
    """They are read when they are asked for, also those of the first noises; and the fit is the same, bit for bit."""
    plain, stored = fitted(), fitted(tmp_path)
    for part, lesson in [*stored.fit, *stored.choose, *first_noises(stored.fit, 5)]:
        assert isinstance(lesson.states, Lazy)
        assert isinstance(lesson.outputs, Lazy)
        assert lesson.end.shape == part.x.shape
    assert not any(isinstance(lesson.states, Lazy) for _, lesson in plain.fit)
    assert plain.draft.stages == stored.draft.stages
    assert [stage.name for stage in plain.draft.stages][-1].startswith("refined")
    assert plain.table.points == stored.table.points
    assert all(np.array_equal(a, b) for a, b in zip(plain.table.rows, stored.table.rows, strict=True))


def test_a_fit_holds_no_trajectories_of_the_noises_that_choose(tmp_path: Path) -> None:
    """Their ends alone; of the noises that fit, the whole trajectories."""
    for fit in (fitted(), fitted(tmp_path)):
        assert {(len(lesson.states), len(lesson.outputs)) for _, lesson in fit.choose} == {(1, 0)}
        assert {(len(lesson.states), len(lesson.outputs)) for _, lesson in fit.fit} == {(65, 64)}


@pytest.mark.parametrize(("largest", "steps", "rows"), [(2**30, 24, 24), (8 * 12 * 2 * 23, 23, 24), (1, 22, 22)])
def test_arrays_of_all_noises_have_a_limit(
    monkeypatch: pytest.MonkeyPatch, largest: int, steps: int, rows: int
) -> None:
    """Fewer noises are taken where more would not fit, and never fewer than the numbers need: 11 numbers, 12 arrays of 2 numbers each."""
    seen: dict[str, list[int]] = {"refined": [], "fit_rows": []}

    def counting(name: str) -> Any:
        function = getattr(dpmsolver.tuning.fit, name)

        def counted(table: Any, taught: Sequence[Taught], *args: Any, **options: Any) -> Any:
            seen[name].append(count(taught))
            return function(table, taught, *args, **options)

        return counted

    for name in seen:
        monkeypatch.setattr(dpmsolver.tuning.fit, name, counting(name))
    monkeypatch.setattr(dpmsolver.tuning.fit, "_LARGEST", largest)
    fitted(spending=30_000)
    assert max(seen["refined"]) == steps
    assert max(seen["fit_rows"]) == rows
