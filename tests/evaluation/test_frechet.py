"""The Frechet distance against its closed forms, on sets whose sample mean and covariance are known exactly."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmsolver.evaluation.frechet import (
    _Resampled,
    feature_statistics,
    frechet_bias,
    frechet_distance,
    frechet_distance_to,
    frechet_interval,
    frechet_replicates,
)
from dpmsolver.models.digits_classifier import FEATURES, load_classifier

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


def test_the_distance_to_statistics_is_that_to_the_set_they_are_of() -> None:
    a, b = np.random.default_rng(2).standard_normal((2, 100, 5)) * [[[1.0]], [[1.5]]]
    assert frechet_distance_to(a, *feature_statistics(b)) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_torchmetrics_counts_the_same_distance_in_the_classifiers_features() -> None:
    """FrechetInceptionDistance with the embedded classifier, in float64, for its network."""
    torch = pytest.importorskip("torch")
    fid = pytest.importorskip("torchmetrics.image.fid")
    classifier = load_classifier()
    network = torch.nn.Sequential(classifier.body)
    network.num_features = FEATURES
    metric = fid.FrechetInceptionDistance(network, normalize=True)
    metric.set_dtype(torch.float64)
    draws = torch.Generator().manual_seed(0)
    real, drawn = (
        torch.nn.functional.interpolate(torch.randn(150, 1, 7, 7, generator=draws).double() * scale, (28, 28))
        for scale in (0.6, 0.8)
    )
    metric.update(real, real=True)
    metric.update(drawn, real=False)
    own = frechet_distance(*(classifier.features(images).numpy() for images in (drawn, real)))
    assert own == pytest.approx(float(metric.compute()), rel=1e-8)


# Resampling: what a set of samples leaves open. The law is one in which everything is known by drawing many sets.
SKEW = np.linspace(0.5, 2.0, 16)
TRUE = np.zeros(16), np.diag(SKEW**2)


def draw(random: np.random.Generator, num: int, off: float) -> Array:
    """Samples of a skewed law with mean `off` and covariance diag(SKEW^2)."""
    return (random.gamma(2.0, size=(num, len(SKEW))) - 2.0) / np.sqrt(2.0) * SKEW + off


def distances_of_sets(off: float, num: int, sets: int = 600) -> Array:
    random = np.random.default_rng(99)
    return np.array([frechet_distance_to(draw(random, num, off), *TRUE) for _ in range(sets)])


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_replicates_vary_as_much_as_sets_do(off: float) -> None:
    """Their mean is the set's own distance, and their standard deviation that over many sets, with and without a distance in the limit.

    Plain resampling has neither: its mean is larger, and so is its spread where the laws agree.
    """
    random, true = np.random.default_rng(0), distances_of_sets(off, 150)
    means, spreads = [], []
    for seed in range(12):
        features = draw(random, 150, off)
        drawn = frechet_replicates(features, *TRUE, resamples=60, seed=seed)
        means.append(drawn.mean() - frechet_distance_to(features, *TRUE))
        spreads.append(drawn.std())
    assert np.abs(means).max() < 1e-10
    assert np.mean(spreads) == pytest.approx(true.std(), rel=0.3)


def test_the_resampled_distance_is_that_of_the_resampled_set() -> None:
    """What is made in advance for all resamples changes nothing: many rows, and fewer rows than features."""
    random = np.random.default_rng(4)
    for num, width in ((60, 5), (6, 12)):
        features, root = random.standard_normal((num, width)), random.standard_normal((width, width))
        mean, covariance = random.standard_normal(width), root @ root.T
        rows = random.integers(num, size=num)
        found = _Resampled(features, mean, covariance)(rows)
        assert found == pytest.approx(frechet_distance_to(features[rows], mean, covariance), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("off", [0.0, 0.2, 1.0])
def test_intervals_hold_the_expected_distance_as_often_as_they_say(off: float) -> None:
    """95 % intervals of 300 sets hold the distance that sets of as many samples have on average, in 91 to 99 % of the cases."""
    random, expected = np.random.default_rng(1), distances_of_sets(off, 150).mean()
    found = [frechet_interval(draw(random, 150, off), *TRUE, resamples=100, seed=seed) for seed in range(300)]
    assert 0.91 <= np.mean([each.low <= expected <= each.high for each in found]) <= 0.99


@pytest.mark.parametrize(
    ("features", "mean", "covariance", "message"),
    [
        (np.zeros((1, 2)), np.zeros(2), np.eye(2), "features must have at least 2 rows"),
        (np.full((3, 2), np.nan), np.zeros(2), np.eye(2), "features must be finite"),
        (GOOD, np.zeros(3), np.eye(3), r"must be \(2,\) and \(2, 2\) as the features are, got \(3,\), \(3, 3\)"),
        (GOOD, np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (GOOD, np.full(2, np.nan), np.eye(2), "must be finite"),
    ],
)
def test_wrong_statistics_are_refused(features: Array, mean: Array, covariance: Array, message: str) -> None:
    """By the distance and by its interval."""
    for function in (frechet_distance_to, frechet_interval):
        with pytest.raises(ValueError, match=message):
            function(features, mean, covariance)


def balanced(random: np.random.Generator, num: int) -> Array:
    """Two classes that take turns, far apart in the first feature, of unequal spread."""
    classes = np.arange(num) % 2
    return random.standard_normal((num, 3)) * (1.0 + classes)[:, None] + classes[:, None] * [6.0, 0.0, 0.0]


@pytest.mark.parametrize("num", [80, 400])
def test_the_bias_is_what_more_samples_take_away(num: int) -> None:
    """The law of the statistics itself, in balanced sets: all of the distance is bias, and is told as such, within a fifth on average."""
    random = np.random.default_rng(0)
    statistics = feature_statistics(balanced(random, 2_000_000))
    sets = [balanced(random, num) for _ in range(60)]
    whole = np.mean([frechet_distance_to(each, *statistics) for each in sets])
    told = np.mean([frechet_bias(each, *statistics) for each in sets])
    assert told == pytest.approx(whole, rel=0.2)


def test_replicates_of_balanced_sets_vary_as_balanced_sets_do() -> None:
    """Drawing all rows among all would let the classes' shares vary, which they do not: that gives several times the spread."""
    random = np.random.default_rng(1)
    mean, covariance = feature_statistics(balanced(random, 200_000))
    mean = mean + np.array([1.0, 0.0, 0.0])  # where the share of a class matters
    spread = np.std([frechet_distance_to(balanced(random, 200), mean, covariance) for _ in range(400)])
    sets = [balanced(random, 200) for _ in range(10)]
    with_strata = np.mean([frechet_replicates(each, mean, covariance, strata=2).std() for each in sets])
    without = np.mean([frechet_replicates(each, mean, covariance).std() for each in sets])
    assert with_strata == pytest.approx(spread, rel=0.2)
    assert without > 1.3 * spread


def test_a_bias_of_too_few_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 rows to tell their bias, got 7"):
        frechet_bias(np.zeros((7, 2)), np.zeros(2), np.eye(2))
