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
from dpmsolver.tuning.teacher import Lazy, Lesson, Taught

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


@pytest.mark.parametrize("end", [END, 0.0])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "ends"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_lesson_is_kept_by_a_file(noise: Any, tmp_path: Path, end: float, whole: bool, dtype: Any) -> None:
    """What is read is what the run held, bit for bit, with the states' own type."""
    part = Noises(LAW.denoiser(SCHEDULE), noise.astype(dtype)).part(range(5))
    lesson = Lesson.given(part, end, 12, whole=whole)
    Lesson.write(tmp_path / "a.npz", part, end, 12, whole=whole)
    read = Lesson.load(tmp_path / "a.npz", part)
    assert read.points == lesson.points
    for held, kept in ((lesson.states, read.states), (lesson.outputs, read.outputs)):
        assert len(kept) == len(held)
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(held, kept, strict=True))
    assert np.array_equal(read.end, lesson.end)
    if whole:
        for t in TIMES:
            point = Point.at(SCHEDULE, t)
            assert np.array_equal(read.at(part, point), lesson.at(part, point))


def test_a_lesson_in_a_file_holds_no_states(taught: Taught, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state between two points reads the states and outputs of these alone; the first samples read nothing until they are asked for."""
    part = taught.part
    Lesson.write(tmp_path / "a.npz", part, END, 12)
    read: list[Any] = []
    backend = type(part.backend)
    made = backend.from_numpy
    monkeypatch.setattr(backend, "from_numpy", lambda self, *args: read.append(args[0]) or made(self, *args))
    lesson = Lesson.load(tmp_path / "a.npz", part)
    first = Taught(part, lesson).first(3)
    assert isinstance(lesson.states, Lazy)
    assert isinstance(first.lesson.states, Lazy)
    assert read == []
    between = Point.at(SCHEDULE, 0.5 * (lesson.points[3].time + lesson.points[4].time))
    state = lesson.at(part, between)
    assert len(read) == 4
    assert np.array_equal(first.lesson.at(first.part, between), state[:3])


def test_the_file_is_one_that_numpy_reads(taught: Taught, tmp_path: Path) -> None:
    """States and outputs in turn, and the points."""
    part, lesson = taught
    Lesson.write(tmp_path / "a.npz", part, END)
    with np.load(tmp_path / "a.npz") as file:
        assert np.array_equal(file["trajectory"][::2], np.array(lesson.states))
        assert np.array_equal(file["trajectory"][1::2], np.array(lesson.outputs))
        assert file["points"].tolist() == [[p.time, p.label, p.alpha, p.sigma] for p in lesson.points]


def test_a_file_that_is_cut_short_or_changed_is_named(taught: Taught, tmp_path: Path) -> None:
    """Wherever it is cut, and a changed byte among the numbers; and a file that ends while it is in use."""
    part, path = taught.part, tmp_path / "a.npz"
    Lesson.write(path, part, END, 12)
    whole, lesson = path.read_bytes(), Lesson.load(path, part)
    changed = bytes([*whole[:3000], whole[3000] ^ 1, *whole[3001:]])
    for broken in (b"", whole[:1], whole[:1000], whole[:-1], whole[:-30], whole[1:], changed):
        path.write_bytes(broken)
        with pytest.raises(dpm.PlanError, match=r"a\.npz holds no trajectories .*: delete it, and they are made again"):
            Lesson.load(path, part)
    path.write_bytes(whole[:1000])
    with pytest.raises(dpm.PlanError, match=r"a\.npz holds no trajectories"):
        lesson.end  # noqa: B018


def test_a_run_that_fails_leaves_no_file(noise: Any, tmp_path: Path) -> None:
    network = LAW.denoiser(SCHEDULE).network
    broken = LAW.denoiser(SCHEDULE).replace(network=lambda x, t: network(x, t) if t[0] > 0.5 else np.nan * x)
    with pytest.raises(dpm.SamplingError, match="the trajectories of the teacher cannot be followed"):
        Lesson.write(tmp_path / "a.npz", Noises(broken, noise).part(range(4)), END, 12)
    assert list(tmp_path.iterdir()) == []


def test_the_first_samples_of_a_part_have_their_trajectories(taught: Taught) -> None:
    some = taught.first(3)
    assert len(some.part) == 3
    assert np.array_equal(some.lesson.end, taught.lesson.end[:3])
