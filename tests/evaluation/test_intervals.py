"""Intervals: their formulas, and that they hold what they say they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from dpmsolver.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    centred_interval,
    mean_interval,
    proportion_interval,
    resampled_rows,
)


def test_the_mean_has_students_interval() -> None:
    """Mean -+ t(0.975, n - 1) s/sqrt(n)."""
    values = np.array([1.0, 4.0, 2.0, 8.0])
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2.0
    found = mean_interval(values)
    assert (found.value, found.low, found.high) == pytest.approx((3.75, 3.75 - half, 3.75 + half))


def test_equal_values_have_an_interval_of_no_length() -> None:
    assert mean_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (98, 100), (10, 10)])
def test_a_share_has_wilsons_interval(k: int, n: int) -> None:
    """(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    p, z = k / n, stats.norm.ppf(0.975)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    found = proportion_interval(k, n)
    assert (found.value, found.low, found.high) == pytest.approx((p, low, high), abs=1e-12)


def test_a_bias_of_resampling_is_taken_off() -> None:
    """Values drawn with any bias give the same interval."""
    drawn = np.random.default_rng(0).standard_normal(500)
    here, there = centred_interval(1.0, drawn), centred_interval(1.0, drawn + 7.0)
    assert (here.low, here.high) == pytest.approx((there.low, there.high))
    assert (here.low, here.high) == pytest.approx((1 - 1.96, 1 + 1.96), abs=0.15)


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The mean of an exponential law, 300 times 60 samples: 80 % intervals hold it in 80 % of them, within three standard errors."""
    rng = np.random.default_rng(1)
    found = [bootstrap_interval(np.mean, rng.exponential(size=60), seed=i, confidence=0.8) for i in range(300)]
    share = np.mean([each.low <= 1.0 <= each.high for each in found])
    assert abs(share - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 300)


def test_rows_are_drawn_alike_for_alike_arguments() -> None:
    """So that samples of one noise stay in pairs; another seed draws others."""
    first, again, other = (list(resampled_rows(9, 4, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(other)).any()
    assert all(rows.shape == (9,) and rows.min() >= 0 and rows.max() < 9 for rows in first)


BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    (mean_interval, ([1.0],), r"n >= 2 for an interval, got shape \(1,\)"),
    (mean_interval, ([[1.0, 2.0]],), "got shape"),
    (mean_interval, ([1.0, np.nan],), "must be finite, got 1"),
    (mean_interval, ([1.0, 2.0], 95), "confidence must lie between 0 and 1, got 95"),
    (proportion_interval, (3, 2), "got 3 of 2"),
    (proportion_interval, (0, 0), "trials be >= 1"),
    (centred_interval, (1.0, [2.0]), "at least 2 finite values"),
    (centred_interval, (1.0, [2.0, np.inf]), "at least 2 finite values"),
    (resampled_rows, (1, 10), "rows to resample must be at least 2, got 1"),
    (resampled_rows, (10, 1), "resamples must be at least 2, got 1"),
    (Interval, (1.0, 2.0, 1.0), "goes from low to high"),
    (Interval, (np.nan, 1.0, 2.0), "goes from low to high"),
]


@pytest.mark.parametrize(("function", "arguments", "message"), BAD)
def test_wrong_input_is_refused(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    """The message names the argument and what was given."""
    with pytest.raises(ValueError, match=message):
        function(*arguments)
