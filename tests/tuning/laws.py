"""Networks with a closed form for the tests of fits."""

from __future__ import annotations

from typing import Any

import numpy as np

import dpmsolver as dpm

SCHEDULE = dpm.schedules.LinearVP()
LAW = dpm.models.Gaussian(mean=[0.5, -0.5, 0.2], variance=[0.25, 0.01, 0.6])
PEAKS = dpm.models.Mixture(means=[[-1.0, 0.3], [1.0, 0.0], [0.2, 1.0]], variances=[[0.05, 0.02]] * 3, classes=[0, 1, 2])
END = 0.01


def labels(num: int) -> Any:
    """Classes in turn, as the mixture has them."""
    return np.arange(num) % 3
