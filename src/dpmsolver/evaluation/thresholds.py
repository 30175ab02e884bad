"""The evaluations needed to come within a share of the limit, and the resulting speed-up, each with the values of resampled samples.

Arrays here have a column for the value, and one more for each resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Figure", "excess", "from_which_on", "interval", "ratio"]

Floats = NDArray[np.float64]


class Figure:
    """A measured value, with its values for resampled samples.

    The samples are resampled with replacement, by the same rows for every run of a comparison. Ratios and differences of two runs therefore
    have narrow intervals, because both start from the same noise.
    """

    def __init__(self, value: float, drawn: Floats) -> None:
        self.value, self.drawn = value, drawn

    def interval(self) -> dict[str, float]:
        low, high = np.percentile(self.drawn, [2.5, 97.5]) if len(self.drawn) else (self.value, self.value)
        return {"value": self.value, "low": float(low), "high": float(high)}


def excess(figure: Figure, limit: Figure | None, off: float = 0.0) -> Floats:
    """Return the relative distance from the limit, less `off`; without a limit, the figure itself."""
    own = np.concatenate([[figure.value], figure.drawn])
    if limit is None:
        return own
    whole = np.concatenate([[limit.value], limit.drawn])
    # So few samples that the distance is all bias tell nothing, and nothing is then within a share of it.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > off, (own - whole) / (whole - off), np.inf))


def from_which_on(budgets: Sequence[float], missed: Floats, within: float) -> Floats:
    """Return the smallest budget from which on all rows are within the share, for each column; infinity if the largest is not.

    Examples:
        >>> import numpy as np
        >>> from_which_on([10, 20, 40], np.array([[0.02, 0.9], [0.2, 0.04], [0.01, 0.01]]), 0.05).tolist()
        [40.0, 20.0]
    """
    inside = np.logical_and.accumulate((missed <= within)[::-1], axis=0)[::-1]
    first = inside.argmax(axis=0)
    return np.where(inside.any(axis=0), np.asarray(budgets, dtype=np.float64)[first], np.inf)


def ratio(base: Floats, own: Floats, largest: float) -> dict[str, Any] | None:
    """Return the ratio of DDIM's evaluations to those of a family, with its interval. "at_least": DDIM missed it at its largest budget.

    Examples:
        >>> import numpy as np
        >>> ratio(np.array([100.0, 100.0, np.inf]), np.array([10.0, 20.0, 10.0]), 200.0)
        {'value': 10.0, 'low': 5.0, 'high': 20.0, 'at_least': False, 'high_at_least': True}
    """
    if not np.isfinite(own[0]):
        return None
    ratios = np.where(np.isfinite(base), base, largest) / own
    beyond = bool(np.mean(np.isinf(base)) > 0.025)
    return interval(ratios) | {"at_least": bool(np.isinf(base[0])), "high_at_least": beyond}


def interval(values: Floats) -> dict[str, Any]:
    """Return the value and the bounds of 95 % of its resamples. The bounds occur among the resamples; None: not reached."""
    drawn = values[1:] if len(values) > 1 else values
    low, high = (float(v) for v in np.percentile(drawn, [2.5, 97.5], method="inverted_cdf"))
    return {"value": float(values[0]), "low": low, "high": high if np.isfinite(high) else None}
