"""Distances of samples against closed forms, brute force and scipy's one-dimensional ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from dpmsolver.evaluation import distances
from dpmsolver.evaluation.distances import decibels, energy_distance, sliced_wasserstein, trajectory_error

RNG = np.random.default_rng(0)


def test_the_trajectory_error_is_the_root_mean_square_of_each_sample() -> None:
    """Of samples of any shape, torch or NumPy."""
    samples, reference = RNG.standard_normal((2, 5, 3, 4, 4))
    expected = np.sqrt(((samples - reference) ** 2).reshape(5, -1).mean(axis=1))
    np.testing.assert_allclose(trajectory_error(samples, reference), expected, rtol=1e-14)
    np.testing.assert_allclose(trajectory_error(torch.tensor(samples), torch.tensor(reference)), expected, rtol=1e-14)


def test_decibels_are_the_peak_signal_to_noise_ratio_of_pictures() -> None:
    """An error of a hundredth of the range from -1 to 1 has 40 dB; ten times less error 20 dB more; none is infinite."""
    assert decibels([0.02, 0.002, 0.0]).tolist() == [40.0, 60.0, np.inf]
    assert decibels([0.1], peak=1.0).tolist() == pytest.approx([20.0])


@pytest.mark.parametrize("dimensions", [1, 2, 7, 64])
def test_a_shift_costs_its_length_over_the_root_of_the_dimension(dimensions: int) -> None:
    """Exactly, where the directions are complete bases: their squared projections of the shift add up to its squared length."""
    points, shift = RNG.standard_normal((50, dimensions)), RNG.standard_normal(dimensions)
    found = sliced_wasserstein(points, RNG.permutation(points + shift), projections=2 * dimensions)
    assert found == pytest.approx(np.linalg.norm(shift) / np.sqrt(dimensions), rel=1e-12)


def test_two_gaussians_have_their_known_distance() -> None:
    """N(0, I) and N(mu, 9 I) in the plane: W2^2 along theta is (theta mu)^2 + (3 - 1)^2, on average |mu|^2/2 + 4."""
    a, b = RNG.standard_normal((20000, 2)), [3.0, -1.0] + 3.0 * RNG.standard_normal((20000, 2))
    assert sliced_wasserstein(a, b) == pytest.approx(np.sqrt(10.0 / 2 + 4.0), rel=0.01)


@pytest.mark.parametrize(("n", "m"), [(6, 4), (5, 7), (12, 3), (1, 5)])
def test_sets_of_different_sizes_are_compared_by_their_quantiles(n: int, m: int) -> None:
    """On the line: the same as when every point is repeated until both sets have n m."""
    a, b = RNG.standard_normal(n), RNG.standard_normal(m)
    expected = np.sqrt(np.mean((np.repeat(np.sort(a), m) - np.repeat(np.sort(b), n)) ** 2))
    assert sliced_wasserstein(a[:, None], b[:, None]) == pytest.approx(expected, rel=1e-12)


def test_more_dimensions_than_projections_and_pictures() -> None:
    """Points of any shape are taken as vectors."""
    a, b = RNG.standard_normal((2, 10, 3, 8, 8))
    assert sliced_wasserstein(a, b, 16) == sliced_wasserstein(a.reshape(10, -1), torch.tensor(b.reshape(10, -1)), 16)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 7)])
def test_the_energy_distance_on_the_line_is_scipys(n: int, m: int) -> None:
    a, b = RNG.standard_normal(n), 0.5 + 2.0 * RNG.standard_normal(m)
    assert energy_distance(a[:, None], b[:, None]) == pytest.approx(stats.energy_distance(a, b), rel=1e-12)


def test_the_energy_distance_of_two_gaussians() -> None:
    """N(0, I) and N(0, s^2 I) in the plane: E|X - Y| = sqrt(pi/2) sqrt(1 + s^2), the mean of a Rayleigh law."""
    a, b = RNG.standard_normal((3000, 2)), 3.0 * RNG.standard_normal((3000, 2))
    expected = np.sqrt(np.sqrt(np.pi / 2) * (2 * np.sqrt(10.0) - np.sqrt(2.0) - np.sqrt(18.0)))
    assert energy_distance(a, b) == pytest.approx(expected, rel=0.03)


def test_the_energy_distance_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by taking some rows at a time."""
    a, b = RNG.standard_normal((2, 23, 3))
    whole = energy_distance(a, b + 1.0)
    monkeypatch.setattr(distances, "_BLOCK", 50)
    assert energy_distance(a, b + 1.0) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("distance", [sliced_wasserstein, energy_distance])
def test_symmetric_and_zero_for_a_set_and_itself(distance: Any) -> None:
    """Whatever the order of the points."""
    a, b = RNG.standard_normal((2, 30, 4))
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)
    assert distance(a, RNG.permutation(a)) < 1e-7


GOOD = np.zeros((3, 2))
BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    (trajectory_error, (GOOD, np.zeros((3, 4))), r"one shape, got \(3, 2\), \(3, 4\)"),
    (trajectory_error, (np.zeros((3, 2, 1)), GOOD), "one shape"),
    (trajectory_error, (np.full((3, 2), np.nan), GOOD), "samples must be finite, got 6 entries"),
    (trajectory_error, (GOOD, np.zeros((0, 2))), r"reference must be \(n, …\) .* got shape \(0, 2\)"),
    (decibels, ([-1.0],), "errors must be >= 0"),
    (decibels, ([np.nan],), "errors must be >= 0 and not NaN"),
    (decibels, ([1.0], 0.0), "peak must be positive, got 0.0"),
    (sliced_wasserstein, (GOOD, np.zeros((3, 4))), r"points of one shape, got \(2,\) and \(4,\)"),
    (sliced_wasserstein, (np.zeros(3), GOOD), r"a must be \(n, …\) .* got shape \(3,\)"),
    (sliced_wasserstein, (GOOD, GOOD, 0), "projections must be an integer >= 1, got 0"),
    (sliced_wasserstein, (GOOD, GOOD, 1.5), "projections must be an integer >= 1, got 1.5"),
    (energy_distance, (GOOD, GOOD + np.inf), "b must be finite"),
    (energy_distance, (GOOD, np.zeros((2, 3))), "points of one shape"),
]


@pytest.mark.parametrize(("function", "arguments", "message"), BAD)
def test_wrong_points_are_refused(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    """The message names the argument and what was given."""
    with pytest.raises(ValueError, match=message):
        function(*arguments)
