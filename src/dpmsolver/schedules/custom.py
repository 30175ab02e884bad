"""`Custom`: a schedule from functions of your own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpmsolver.brief import brief, cut
from dpmsolver.schedules.base import Floats, NoiseSchedule, check_range, require

__all__ = ["Custom"]


@dataclass(frozen=True)
class Custom(NoiseSchedule):
    """A schedule from your own functions alpha(t) and sigma(t). The inverse is computed numerically, by Brent's method.

    Args:
        alpha, sigma: functions of a float that return a float; alpha/sigma must fall strictly with t on [t_min, t_max].
        t_min, t_max: the range of times at which the network may be evaluated.

    Raises:
        ValueError: alpha or sigma is negative, or the half-log-SNR does not fall with t.

    Examples:
        >>> import math
        >>> schedule = Custom(alpha=lambda t: math.cos(t), sigma=lambda t: math.sin(t), t_min=1e-3, t_max=1.5)
        >>> round(schedule.time(schedule.half_log_snr(0.7)), 12)
        0.7
    """

    alpha_function: Callable[[float], float]
    sigma_function: Callable[[float], float]
    t_min: float
    t_max: float

    def __init__(
        self, alpha: Callable[[float], float], sigma: Callable[[float], float], *, t_min: float, t_max: float
    ) -> None:
        for name, value in (("alpha_function", alpha), ("sigma_function", sigma), ("t_min", t_min), ("t_max", t_max)):
            object.__setattr__(self, name, value)
        check_range(t_min, t_max)
        probe = np.linspace(t_min, t_max, 257)
        for name, function in (("alpha", alpha), ("sigma", sigma)):
            values = np.array([function(float(t)) for t in probe])
            require(
                bool((values >= 0).all() and np.isfinite(values).all()),
                f"{name}(t) must be finite and >= 0 on [t_min, t_max]",
            )
        with np.errstate(divide="ignore"):
            require(
                bool((np.diff(self.half_log_snr(probe)) < 0).all()),
                "alpha(t)/sigma(t) must fall strictly from t_min to t_max",
            )

    def __repr__(self) -> str:
        """Return the functions by their names and the range; one value in its middle tells schedules of lambdas apart."""
        named = ", ".join(f"{name}={brief(getattr(self, f'{name}_function'))}" for name in ("alpha", "sigma"))
        middle = 0.5 * (self.t_min + self.t_max)
        return cut(
            f"Custom({named}, t_min={self.t_min:g}, t_max={self.t_max:g}, half_log_snr({middle:g})={self.half_log_snr(middle):.6g})"
        )

    def _log_alpha(self, t: Floats) -> Floats:
        return _log_of(self.alpha_function, t)

    def _log_sigma(self, t: Floats) -> Floats:
        return _log_of(self.sigma_function, t)

    def _time(self, half_log_snr: Floats) -> Floats:
        from scipy.optimize import brentq  # here, because it is slow to import

        ends = self.half_log_snr(np.array([self.t_min, self.t_max]))

        def solve(lam: float) -> float:
            if lam >= ends[0] or lam <= ends[1]:
                return self.t_min if lam >= ends[0] else self.t_max

            def miss(t: float) -> float:  # in plain floats, as it is evaluated thousands of times for one plan
                return _log(self.alpha_function(t)) - _log(self.sigma_function(t)) - lam

            return float(
                brentq(miss, self.t_min, self.t_max, xtol=1e-15 * self.t_max, rtol=4 * np.finfo(float).eps, maxiter=500)
            )

        return np.array([solve(float(lam)) for lam in half_log_snr.flat]).reshape(half_log_snr.shape)


def _log_of(function: Callable[[float], float], t: Floats) -> Floats:
    values: Floats = np.log(np.array([function(float(s)) for s in t.flat]).reshape(t.shape))
    return values


def _log(value: float) -> float:
    """Return the logarithm, -inf at 0."""
    return math.log(value) if value else -math.inf
