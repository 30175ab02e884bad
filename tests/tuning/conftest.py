"""Small noises with their converged trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from laws import END, LAW, PEAKS, SCHEDULE

import dpmsolver as dpm
from dpmsolver.tuning import selecting
from dpmsolver.tuning.parts import Noises, Part
from dpmsolver.tuning.teacher import Lesson, Taught


@pytest.fixture(scope="session")
def noise() -> Any:
    """Sixteen noises of the Gaussian law's three coordinates."""
    return dpm.initial_noise(SCHEDULE, (16, 3), seed=1)


@pytest.fixture(scope="session")
def part(noise: Any) -> Part:
    return Noises(LAW.denoiser(SCHEDULE), noise).part(range(16))


@pytest.fixture(scope="session")
def taught(part: Part) -> Taught:
    return Taught(part, Lesson.given(part, END))


@pytest.fixture(scope="session")
def peaks() -> list[Taught]:
    """Two parts of twelve noises each, of a mixture in the plane."""
    noises = Noises(PEAKS.denoiser(SCHEDULE), dpm.initial_noise(SCHEDULE, (24, 2), seed=2))
    return [Taught(each, Lesson.given(each, END)) for each in noises.parts(range(24), 12)]


@pytest.fixture(scope="module")
def few_presets() -> Iterator[None]:
    """Four presets instead of 144, which would take most of a small fit's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "CANDIDATE_SOLVERS", ("dpm++2m", "unipc-2"))
        patch.setattr(selecting, "CANDIDATE_GRIDS", ("logsnr", "quadratic"))
        yield
