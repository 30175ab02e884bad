"""The gate: one plan takes another's place only where it is better for certain."""

from __future__ import annotations

import numpy as np
import pytest

from dpmsolver.tuning.judging import preferred, ratio_of_means
from dpmsolver.tuning.misses import DIVERGED

ERRORS = np.random.default_rng(0).lognormal(size=60)


@pytest.mark.parametrize(
    ("auto", "selected", "tuned", "kept"),
    [
        (ERRORS, ERRORS, ERRORS, "auto"),
        (ERRORS, 0.5 * ERRORS, 0.25 * ERRORS, "tuned"),
        (ERRORS, 0.5 * ERRORS, 0.5 * ERRORS, "selected"),
        (ERRORS, 0.5 * ERRORS, ERRORS, "selected"),
        (ERRORS, 1.1 * ERRORS, 2.0 * ERRORS, "auto"),
        (ERRORS, 1.1 * ERRORS, 0.9 * ERRORS, "tuned"),
        (ERRORS, ERRORS, np.where(np.arange(60) == 0, DIVERGED, 0.1 * ERRORS), "auto"),
    ],
)
def test_in_doubt_the_earlier_plan_is_kept(auto: object, selected: object, tuned: object, kept: str) -> None:
    """Equal plans, worse ones, and one that diverges on a single noise take nobody's place."""
    assert preferred({"auto": auto, "selected": selected, "tuned": tuned}) == kept


def test_a_gain_by_chance_is_no_gain() -> None:
    """Noise of mean zero on top of the errors: kept out in about 19 of 20 draws."""
    draws = np.random.default_rng(1)
    won = [preferred({"auto": ERRORS, "tuned": ERRORS + 0.1 * draws.standard_normal(60)}) == "tuned" for _ in range(12)]
    assert sum(won) <= 3


def test_a_ratio_of_means_is_paired() -> None:
    """Two plans that differ by a factor have exactly that ratio, whatever the spread of the errors."""
    found = ratio_of_means(2.0 * ERRORS, ERRORS)
    assert np.allclose([found.value, found.low, found.high], 2.0)


def test_plans_without_an_error_are_alike() -> None:
    """Errors of zero, on all noises or on most: ratios are numbers, and print."""
    none = np.zeros(60)
    assert str(ratio_of_means(none, none)) == "1 (1 to 1)"
    assert ratio_of_means(ERRORS, none).low > 1e6
    few = np.where(np.arange(60) == 0, 1.0, 0.0)
    assert str(ratio_of_means(few, few)) == "1 (1 to 1)"
    assert preferred({"auto": none, "tuned": none}) == "auto"
