"""Judging: the choice between plans on noises to which none of them was fitted and on which none was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from dpmsolver.evaluation.intervals import Interval, resampled_rows
from dpmsolver.schedules import Floats

__all__ = ["preferred", "ratio_of_means"]

Name = TypeVar("Name", bound=str)
_RESAMPLES = 2000
_NONE = 1e-30  # an error of zero, as a divisor: two plans without an error have the ratio 1


def ratio_of_means(errors: Floats, others: Floats, confidence: float = 0.95) -> Interval:
    """Return the ratio of two mean errors of the same noises, with its paired bootstrap interval."""
    drawn = [_ratio(errors[rows], others[rows]) for rows in resampled_rows(len(errors), _RESAMPLES)]
    low, high = np.quantile(drawn, [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence])
    value = _ratio(errors, others)
    return Interval(value, min(float(low), value), max(float(high), value))


def _ratio(errors: Floats, others: Floats) -> float:
    return max(float(errors.mean()), _NONE) / max(float(others.mean()), _NONE)


def preferred(errors: Mapping[Name, Floats], confidence: float = 0.95) -> Name:
    """Return the plan to keep: a plan replaces those before it if its mean error is smaller with the given confidence.

    Args:
        errors: of each plan on the same noises, float64 (N,). In doubt the earlier plan is kept.
        confidence: of the paired bootstrap that the mean error is smaller.
    """
    names = list(errors)
    best = names[0]
    for name in names[1:]:
        gains = errors[best] - errors[name]
        means = [float(gains[rows].mean()) for rows in resampled_rows(len(gains), _RESAMPLES)]
        if np.quantile(means, 1.0 - confidence) > 0.0:
            best = name
    return best
