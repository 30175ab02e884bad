"""Intervals: no bias of resampling, the same rows for the same arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dpmsolver.evaluation.intervals import (
    Interval,
    centred_interval,
    resampled_rows,
)


def test_a_bias_of_resampling_is_taken_off() -> None:
    """Values drawn with any bias give the same interval."""
    drawn = np.random.default_rng(0).standard_normal(500)
    here, there = centred_interval(1.0, drawn), centred_interval(1.0, drawn + 7.0)
    assert (here.low, here.high) == pytest.approx((there.low, there.high))
    assert (here.low, here.high) == pytest.approx((1 - 1.96, 1 + 1.96), abs=0.15)


def test_rows_are_drawn_alike_for_alike_arguments() -> None:
    """So that samples of one noise stay in pairs; another seed draws others."""
    first, again, other = (list(resampled_rows(9, 4, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(other)).any()
    assert all(rows.shape == (9,) and rows.min() >= 0 and rows.max() < 9 for rows in first)


@pytest.mark.parametrize(("num", "strata"), [(20, 5), (23, 5), (9, 5)])
def test_strata_keep_their_shares(num: int, strata: int) -> None:
    """Row i is drawn from rows of its own class, whichever of them; where a class has one row alone, all are drawn among all."""
    draws = np.array(list(resampled_rows(num, 300, strata=strata)))
    assert draws.min() == 0
    assert draws.max() == num - 1
    kept = bool((draws % strata == np.arange(num) % strata).all())
    assert kept is (num >= 2 * strata)
    if kept:
        counts = np.bincount(draws.ravel(), minlength=num) / 300
        assert abs(counts - 1).max() < 0.3


BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    (centred_interval, (1.0, [2.0]), "at least 2 finite values"),
    (centred_interval, (1.0, [2.0, np.inf]), "at least 2 finite values"),
    (resampled_rows, (1, 10), "rows to resample must be at least 2, got 1"),
    (resampled_rows, (10, 1), "resamples must be at least 2, got 1"),
    (resampled_rows, (10, 10, 0, 0), "strata must be at least 1, got 0"),
    (Interval, (1.0, 2.0, 1.0), "goes from low to high"),
    (Interval, (np.nan, 1.0, 2.0), "goes from low to high"),
]


@pytest.mark.parametrize(("function", "arguments", "message"), BAD)
def test_wrong_input_is_refused(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    """The message names the argument and what was given."""
    with pytest.raises(ValueError, match=message):
        function(*arguments)
