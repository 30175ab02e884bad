"""The teacher: trajectories that are the exact ones, at every time, and that a file keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laws import END, LAW, SCHEDULE

import dpmsolver as dpm
from dpmsolver.plans.rows import Point
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.teacher import Lesson, Taught

TIMES = [0.9, 0.5001, 0.3, 0.1, 0.02, END]


@pytest.mark.parametrize("t", TIMES)
def test_a_lesson_is_the_closed_form_between_its_points(t: float, taught: Taught, noise: Any) -> None:
    """Gaussian data: Hermite's cubics through 64 points are within 5e-5 of the exact trajectory at any time."""
    part, lesson = taught
    exact = LAW.trajectory(SCHEDULE, noise, SCHEDULE.default_start(), t)
    assert abs(lesson.at(part, Point.at(SCHEDULE, t)) - exact).max() < 5e-5


@pytest.mark.parametrize("end", [END, 0.0])
@pytest.mark.parametrize("schedule", [SCHEDULE, dpm.schedules.EDM(), dpm.schedules.Flow()], ids=repr)
def test_straight_trajectories_are_exact(schedule: Any, end: float) -> None:
    """All data are one point: trajectories are straight in the teacher's coordinates, and clean data are reached."""
    law = dpm.models.Gaussian(mean=[0.7, -0.3], variance=[0.0, 0.0])
    x_T = dpm.initial_noise(schedule, (5, 2), seed=0)
    part = Noises(law.denoiser(schedule, "data"), x_T).part(range(5))
    lesson = Lesson.given(part, end, 16)
    start = lesson.points[0]
    for t in np.geomspace(max(end, 2e-3), 0.9 * start.time, 7):
        here = Point.at(schedule, float(t))
        exact = here.alpha * law.means[0] + here.sigma / start.sigma * (x_T - start.alpha * law.means[0])
        assert np.allclose(lesson.at(part, here), exact, rtol=0, atol=1e-10)
    if end == 0.0:
        assert np.allclose(lesson.end, law.means[0], rtol=0, atol=1e-12)


def test_a_lesson_is_kept_by_a_file(taught: Taught, tmp_path: Path) -> None:
    part, lesson = taught
    lesson.save(tmp_path / "a.npz", part)
    read = Lesson.load(tmp_path / "a.npz", part)
    assert read.points == lesson.points
    assert all(np.array_equal(a, b) for a, b in zip(read.states, lesson.states, strict=True))
    ended = lesson.ended()
    ended.save(tmp_path / "b.npz", part)
    assert np.array_equal(Lesson.load(tmp_path / "b.npz", part).end, lesson.end)


def test_a_file_that_is_cut_short_is_named(taught: Taught, tmp_path: Path) -> None:
    part, lesson = taught
    path = tmp_path / "a.npz"
    lesson.save(path, part)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(dpm.PlanError, match=r"a\.npz holds no trajectories .*: delete it, and they are made again"):
        Lesson.load(path, part)


def test_the_first_samples_of_a_part_have_their_trajectories(taught: Taught) -> None:
    some = taught.first(3)
    assert len(some.part) == 3
    assert np.array_equal(some.lesson.end, taught.lesson.end[:3])
