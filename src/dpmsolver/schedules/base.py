"""`NoiseSchedule`, the base class of the noise schedules, and formulas that several of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpmsolver.host import to_host
from dpmsolver.phi import polynomial_weights
from dpmsolver.schedules import shown

__all__ = ["Floats", "NoiseSchedule", "check_range", "log_alpha_vp", "log_sigma_vp", "require"]

Floats: TypeAlias = NDArray[np.float64]

_TOLERANCE = 1e-6  # relative: how far outside its range a time may lie from rounding alone, float32 included


class NoiseSchedule(ABC):
    """A noise schedule: alpha, sigma and the half-log-SNR as functions of time, for arrays of any shape.

    To write one of your own, use `Custom(alpha=…, sigma=…)`, or derive a class that has `_log_alpha`, `_log_sigma` and `_time`.

    Examples:
        >>> from dpmsolver.schedules import LinearVP
        >>> schedule = LinearVP()
        >>> round(schedule.time(schedule.half_log_snr(0.3)), 9)
        0.3
    """

    t_min: float
    t_max: float
    lambda_min: float = -math.inf
    """The half-log-SNR at which runs start by default where the schedule reaches lower ones."""

    def _repr_html_(self) -> str:
        return shown.html(self)

    @property
    def velocity_sign(self) -> float:
        """The sign of a velocity network's output: +1 for noise - data, the usual convention; -1 for data - noise."""
        return 1.0

    @abstractmethod
    def _log_alpha(self, t: Floats) -> Floats:
        """log alpha at 0 < t <= t_max."""

    @abstractmethod
    def _log_sigma(self, t: Floats) -> Floats:
        """log sigma at 0 < t <= t_max."""

    @abstractmethod
    def _time(self, half_log_snr: Floats) -> Floats:
        """The inverse of `half_log_snr`, for values that it takes."""

    def alpha(self, t: ArrayLike) -> Any:
        """Return the signal coefficient alpha at times t, of the same shape. Raise ValueError for a time outside the schedule."""
        return _shaped(np.exp(self._at(t, self._log_alpha, 0.0)))

    def sigma(self, t: ArrayLike) -> Any:
        """Return the noise standard deviation sigma at times t, of the same shape. Raise ValueError for a time outside the schedule."""
        return _shaped(np.exp(self._at(t, self._log_sigma, -math.inf)))

    def half_log_snr(self, t: ArrayLike) -> Any:
        """Return lambda(t) = log(alpha/sigma) at times t, of the same shape: +inf at t = 0, -inf where alpha = 0."""
        return _shaped(self._at(t, lambda s: self._log_alpha(s) - self._log_sigma(s), math.inf))

    def time(self, half_log_snr: ArrayLike) -> Any:
        """Return the time at which the half-log-SNR has the given value: the inverse of `half_log_snr`, to 1e-10 relative.

        The time of +inf is 0. Raise ValueError for a value that the schedule does not reach.
        """
        lam = to_host(half_log_snr)
        clean = np.isposinf(lam)
        top, bottom = float(self.half_log_snr(self.t_min)), float(self.half_log_snr(self.t_max))
        with np.errstate(invalid="ignore"):
            inside = (lam <= top + _TOLERANCE * max(1.0, abs(top))) & (
                lam >= bottom - _TOLERANCE * max(1.0, abs(bottom))
            )
        if np.isneginf(bottom):
            inside |= np.isneginf(lam)
        if not np.all(clean | inside):
            bad = lam[~(clean | inside)].flat[0]
            raise ValueError(
                f"half_log_snr {bad} is outside this schedule, which goes from {bottom:.6g} to {top:.6g}: {self!r}"
            )
        t = np.zeros_like(lam)
        with np.errstate(invalid="ignore", divide="ignore"):
            t[~clean] = self._time(np.clip(lam[~clean], bottom, top))
        return _shaped(np.where(clean, 0.0, np.clip(t, self.t_min, self.t_max)))

    def rates(self, t: float) -> tuple[float, float]:
        """Return d log alpha/dt and d lambda/dt at a time with alpha > 0, accurate to about 1e-10.

        In the notation of DPM-Solver, eq. 2.3, they are f(t) and -g(t)^2 / (2 sigma^2). They are derivatives of the polynomial through nine
        values around t, on the side of t where the schedule is smooth.

        Examples:
            >>> from dpmsolver.schedules import LinearVP
            >>> [round(rate, 6) for rate in LinearVP(beta_min=0.1, beta_max=20.0).rates(0.5)]
            [-5.025, -5.456404]
        """
        low, high = self._smooth_around(t)
        with np.errstate(divide="ignore"):
            to_noise = bool(np.isneginf(self._log_alpha(np.array([high]))[0]))
        # The logarithm of a falling alpha is no polynomial near alpha = 0.
        width = min(0.02 * t, 0.1 * (high - t)) if to_noise else 0.02 * t
        low, high = max(low, t - width), min(high, t + width)
        nodes = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(np.pi * np.arange(9) / 8)
        derivative = np.array(polynomial_weights(((nodes - t) / width).tolist(), [0.0, 1.0 / width, *[0.0] * 7]))
        log_alpha = self._log_alpha(nodes)
        return float(derivative @ log_alpha), float(derivative @ (log_alpha - self._log_sigma(nodes)))

    def _smooth_around(self, t: float) -> tuple[float, float]:
        """An interval around t, or with t at its end, on which alpha and sigma are smooth."""
        return self.t_min, self.t_max

    def label(self, t: float) -> float:
        """Return the time label that a network of this schedule takes at times t. By default it is t itself."""
        return t

    def time_from_label(self, label: float) -> float:
        """Return the times of time labels: the inverse of `label`."""
        return label

    def default_start(self) -> float:
        """Return the time where sampling starts by default: t_max, or the time of half-log-SNR `lambda_min` if t_max lies below that."""
        return self.t_max if self.half_log_snr(self.t_max) >= self.lambda_min else float(self.time(self.lambda_min))

    def last_time(self, nfe: int) -> float:
        """Return the last time worth an evaluation: t = 1e-3 for up to 15 evaluations, 1e-4 for more (DPM-Solver, section 5.1)."""
        return max(self.t_min, 1e-3 if nfe <= 15 else 1e-4)

    def leaves_noise(self, t: float) -> bool:
        """Return whether a run that ends at t leaves visible noise in data of standard deviation 1: sigma/alpha above 0.05.

        The bound is above the 0.029 of Stable Diffusion's first step, and below the 0.1 of 100 linear betas.
        """
        return bool(self.sigma(t) > 0.05 * self.alpha(t))

    def default_end(self, nfe: int) -> float:
        """Return the time where sampling ends by default: `last_time`."""
        return self.last_time(nfe)

    def _at(self, t: ArrayLike, function: Callable[[Floats], Floats], clean: float) -> Floats:
        t = to_host(t)
        inside = (t >= self.t_min * (1.0 - _TOLERANCE)) & (t <= self.t_max * (1.0 + _TOLERANCE))
        if not np.all(inside | (t == 0.0)):
            bad = t[~(inside | (t == 0.0))].flat[0]
            raise ValueError(
                f"time {bad} is outside this schedule: accepted are {self.t_min:.6g} <= t <= {self.t_max:.6g} and 0 (clean data): {self!r}"
            )
        result = np.full(t.shape, clean)
        with np.errstate(divide="ignore"):
            result[inside] = function(np.clip(t[inside], self.t_min, self.t_max))
        return result


def _shaped(values: Floats) -> Any:
    return float(values) if values.ndim == 0 else values


def log_alpha_vp(half_log_snr: Floats) -> Floats:
    """Return log alpha of a variance-preserving process, -log(1 + e^{-2 lambda}) / 2, to full precision at both ends."""
    return -0.5 * np.logaddexp(0.0, -2.0 * half_log_snr)


def log_sigma_vp(log_alpha: Floats) -> Floats:
    """Return log sigma of a variance-preserving process, sigma^2 = 1 - alpha^2, to full precision where alpha is close to 1."""
    return 0.5 * np.log(-np.expm1(2.0 * log_alpha))


def require(condition: bool, message: str) -> None:
    """Raise ValueError with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_range(t_min: float, t_max: float, highest: float = math.inf) -> None:
    """Raise ValueError unless 0 < t_min < t_max <= highest."""
    require(0 < t_min < t_max <= highest, f"0 < t_min < t_max <= {highest} is needed, got t_min={t_min}, t_max={t_max}")
