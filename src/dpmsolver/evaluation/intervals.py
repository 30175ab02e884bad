"""Bootstrap intervals of measured figures: samples are resampled with replacement.

All are 95 % intervals by default: of a hundred such intervals, from a hundred sets of samples, about 95 contain the figure that infinitely
many samples have on average (for distances between distributions: infinitely many sets of as many samples).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Interval",
    "centred_interval",
    "resampled_rows",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A measured value with the ends of its confidence interval.

    Raises:
        ValueError: low > high, or a number is NaN.

    Examples:
        >>> print(Interval(1.5, 1.25, 1.75))
        1.5 (1.25 to 1.75)
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high or np.isnan(self.value):
            raise ValueError(f"an interval goes from low to high, got {self.value} between {self.low} and {self.high}")

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def resampled_rows(num: int, resamples: int, seed: int = 0, strata: int = 1) -> Iterator[NDArray[np.int64]]:
    """Draw `num` rows with replacement, repeatedly. Equal arguments give equal rows, so samples from the same noise stay in pairs.

    Args:
        strata: rows i, i + strata, i + 2 strata, … are drawn among themselves, so that classes that take turns keep their shares. If a
            stratum has fewer than two rows, all rows are drawn among all.

    Returns:
        `resamples` arrays of indices (num,).

    Raises:
        ValueError: there are fewer than two rows or resamples, or strata is below 1.

    Examples:
        >>> [rows % 2 for rows in resampled_rows(4, 2, strata=2)]
        [array([0, 1, 0, 1]), array([0, 1, 0, 1])]
    """
    if num < 2:
        raise ValueError(f"rows to resample must be at least 2, got {num}")
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2, got {resamples}")
    if strata < 1:
        raise ValueError(f"strata must be at least 1, got {strata}")
    strata = strata if num >= 2 * strata else 1
    first = np.arange(num) % strata
    sizes = (num - first + strata - 1) // strata
    rng = np.random.default_rng(seed)
    return (rng.integers(sizes) * strata + first for _ in range(resamples))


def centred_interval(value: float, drawn: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the interval of a value from the values of resampled sets, without the bias of resampling.

    A resampled set has repeated samples. Its distance to other data is therefore larger on average, and the percentiles of such distances
    lie above the value. They are shifted by the difference between the mean of the resampled values and the value.

    Args:
        value: the value of the samples.
        drawn: the values of resampled sets, (resamples,), at least 2.

    Raises:
        ValueError: there are too few values, or they are not finite.

    Examples:
        >>> print(centred_interval(1.0, [2.0, 3.0, 4.0], confidence=0.8))
        1 (0.2 to 1.8)
    """
    _check_confidence(confidence)
    values = np.asarray(drawn, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"drawn must be at least 2 finite values (resamples,), got shape {values.shape}")
    low, high = np.quantile(values - values.mean(), [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence])
    return Interval(float(value), float(value + low), float(value + high))


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
