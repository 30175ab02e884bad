"""Corrections of the predicted x_0: hooks (x0, point) -> x0 for `Denoiser(…, data_hook=…)`.

They are not linear, so a plan cannot contain them. By default none is applied: latents have no range to which they could be clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpmsolver.backends.arrays import quantile
from dpmsolver.plans.plan import Point

__all__ = ["Dynamic", "Static", "dynamic", "static"]


@dataclass(frozen=True)
class Dynamic:
    """The hook of dynamic thresholding; `dynamic` makes one."""

    ratio: float
    max_value: float

    def __call__(self, x0: Any, point: Point) -> Any:
        limit = quantile(x0, self.ratio).clip(self.max_value)
        return x0.clip(-limit, limit) * (self.max_value / limit)


@dataclass(frozen=True)
class Static:
    """The hook of static thresholding; `static` makes one."""

    max_value: float

    def __call__(self, x0: Any, point: Point) -> Any:
        return x0.clip(-self.max_value, self.max_value)


def dynamic(ratio: float = 0.995, max_value: float = 1.0) -> Dynamic:
    """Return a hook for dynamic thresholding, which scales every sample so that most of its values lie in the range of the data.

    With s = max(quantile_ratio |x0|, max_value) for each sample,

        x0 <- clip(x0, -s, s) / s * max_value.

    Args:
        ratio: the quantile, in (0, 1].
        max_value: the largest absolute value of the data (1 for pictures in [-1, 1]).

    Returns:
        A function (x0, point) -> x0 for `Denoiser(…, data_hook=…)`.

    Raises:
        ValueError: ratio lies outside (0, 1], or max_value is not positive.

    Examples:
        >>> import numpy as np
        >>> dynamic(ratio=1.0)(np.array([[0.5, -2.0]]), None)
        array([[ 0.25, -1.  ]])

    Source: Saharia et al. 2022 (Imagen), arXiv 2205.11487, section 2.3.
    """
    if not 0 < ratio <= 1 or not max_value > 0:
        raise ValueError(f"ratio must lie in (0, 1] and max_value be positive, got {ratio}, {max_value}")
    return Dynamic(ratio, max_value)


def static(max_value: float = 1.0) -> Static:
    """Return a hook for static thresholding, which clips every predicted x_0 to [-max_value, max_value].

    Args:
        max_value: the largest absolute value of the data (1 for pictures in [-1, 1]).

    Returns:
        A function (x0, point) -> x0 for `Denoiser(…, data_hook=…)`.

    Raises:
        ValueError: max_value is not positive.

    Examples:
        >>> import numpy as np
        >>> static()(np.array([[0.5, -2.0]]), None)
        array([[ 0.5, -1. ]])
    """
    if not max_value > 0:
        raise ValueError(f"max_value must be positive, got {max_value}")
    return Static(max_value)
