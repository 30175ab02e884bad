"""The Frechet distance against its closed forms, on sets whose sample mean and covariance are known exactly."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmsolver.evaluation.frechet import feature_statistics, frechet_distance

Array = NDArray[np.float64]


def cross(mean: list[float], variances: list[float]) -> Array:
    """The 2d points mean +- c_i e_i, whose sample covariance is diag(variances)."""
    arms = np.diag(np.sqrt(np.array(variances) * (2 * len(mean) - 1) / 2))
    return np.array(mean) + np.concatenate([arms, -arms])


def rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_statistics_are_the_mean_and_unbiased_covariance_of_the_construction() -> None:
    """`feature_statistics` divides by n - 1, and holds for features far from the origin."""
    mean, covariance = feature_statistics(cross([1e4, -2.0, 0.5], [4.0, 1.0, 0.0]))
    np.testing.assert_allclose(mean, [1e4, -2.0, 0.5], rtol=1e-14)
    np.testing.assert_allclose(covariance, np.diag([4.0, 1.0, 0.0]), atol=1e-10)


def test_diagonal_gaussians_have_the_closed_form() -> None:
    """d^2 = |mu_a - mu_b|^2 + sum (s_a - s_b)^2 for standard deviations s along the same axes."""
    a, b = cross([0.0, 1.0, 2.0], [4.0, 1.0, 9.0]), cross([3.0, 1.0, -2.0], [1.0, 0.25, 9.0])
    assert frechet_distance(a, b) == pytest.approx((9 + 16) + (1 + 0.25 + 0), rel=1e-13)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, 2.0])
def test_covariances_that_do_not_commute_have_the_closed_form_of_two_dimensions(angle: float) -> None:
    """In two dimensions tr M^{1/2} = sqrt(tr M + 2 sqrt(det M)), with M = C_a C_b, by Cayley and Hamilton."""
    a = cross([0.0, 0.0], [9.0, 0.01])
    b = cross([0.0, 0.0], [4.0, 0.25]) @ rotation(angle).T
    covariance_a, covariance_b = np.diag([9.0, 0.01]), rotation(angle) @ np.diag([4.0, 0.25]) @ rotation(angle).T
    product = covariance_a @ covariance_b
    trace_of_root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(covariance_a) + np.trace(covariance_b) - 2 * trace_of_root
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-12)


def test_orthogonal_subspaces_share_nothing() -> None:
    """Degenerate covariances on orthogonal axes: d^2 is the sum of both traces, and nothing warns."""
    a, b = cross([0.0, 0.0], [2.0, 0.0]), cross([0.0, 0.0], [0.0, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frechet_distance(a, b) == pytest.approx(5.0, rel=1e-14)


@pytest.mark.parametrize("rows", [2, 10, 500])
def test_distance_to_itself_is_zero(rows: int) -> None:
    """Also where rows are fewer than features, so that the covariance is singular."""
    a = np.random.default_rng(rows).normal(size=(rows, 64))
    assert 0.0 <= frechet_distance(a, a) < 1e-12
    assert 0.0 <= frechet_distance(a, a[::-1]) < 1e-12


def test_a_shift_costs_its_squared_length() -> None:
    a = np.random.default_rng(1).normal(size=(100, 3))
    assert frechet_distance(a, a + np.array([1.0, -2.0, 2.0])) == pytest.approx(9.0, rel=1e-12)


@pytest.mark.parametrize("rows", [5, 300])
def test_symmetric_and_quadratic_in_the_unit(rows: int) -> None:
    """d^2(a, b) = d^2(b, a), and features in a unit ten times smaller give a hundred times the distance."""
    random = np.random.default_rng(rows)
    a, b = random.normal(size=(rows, 16)), random.gamma(2.0, size=(200, 16)) @ random.normal(size=(16, 16))
    forward = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(forward, rel=1e-12)
    assert frechet_distance(10 * a, 10 * b) == pytest.approx(100 * forward, rel=1e-12)


def test_half_precision_and_integers_are_counted_in_float64() -> None:
    """Values whose squares float16 and int8 cannot hold."""
    values = np.array([[100, -100], [-100, 100], [50, 50]])
    wide = frechet_distance(values.astype(np.float64), values[:2].astype(np.float64))
    assert frechet_distance(values.astype(np.float16), values[:2].astype(np.int8)) == pytest.approx(wide, rel=1e-14)


GOOD = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros(3), GOOD, r"features_a must have shape \(samples, features\), got \(3,\)"),
        (GOOD, np.zeros((3, 2, 1)), r"features_b must have shape .* got \(3, 2, 1\)"),
        (np.zeros((3, 0)), GOOD, r"features_a must have shape .* got \(3, 0\)"),
        (GOOD, np.zeros((1, 2)), "features_b must have at least 2 rows for a covariance, got 1"),
        (np.full((3, 2), np.nan), GOOD, "features_a must be finite, got 6 entries"),
        (GOOD, np.array([[0.0, 0.0], [np.inf, 0.0]]), "features_b must be finite, got 1 entries"),
        (GOOD + 1j, GOOD, "features_a must be real numbers, got complex128"),
        (GOOD, np.zeros((3, 4)), "must have the same width, got 2 and 4"),
    ],
)
def test_wrong_features_are_refused(a: Array, b: Array, message: str) -> None:
    """The message names the argument and what was given."""
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)
