"""Noise schedules: how much signal and how much noise a state holds at each time.

The forward process is x_t = alpha(t) x_0 + sigma(t) eps. What solvers use is the half-log-SNR lambda(t) = log(alpha/sigma), which
falls with t; `time` is its inverse. All of it is float64 on the host, in forms that keep their digits at both ends (the naive
log(alpha) - log(sqrt(1 - alpha^2)) in float32 is off by 6e-3 at t = 1e-5).

Every schedule is frozen and knows its range: network evaluations lie in [t_min, t_max]. Time 0 is the clean data (alpha = 1,
sigma = 0, lambda = inf) for every schedule and is accepted beside the range: a run may end there. A schedule may start at pure noise
(alpha = 0, lambda = -inf); both are limits that the solvers take, not NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpmsolver.phi import polynomial_weights

__all__ = ["EDM", "CosineVP", "Custom", "Discrete", "Flow", "LinearVP", "NoiseSchedule", "SubVP", "scaled_linear_betas"]

Floats: TypeAlias = NDArray[np.float64]

_TOLERANCE = 1e-9  # relative: how far outside its range a time may lie from rounding alone


def _log_alpha_vp(half_log_snr: Floats) -> Floats:
    """log alpha of a variance-preserving process: -log(1 + e^{-2 lambda}) / 2, to full precision at both ends."""
    return -0.5 * np.logaddexp(0.0, -2.0 * half_log_snr)


def _log_sigma_vp(log_alpha: Floats) -> Floats:
    """log sigma of a variance-preserving process: sigma^2 = 1 - alpha^2, to full precision where alpha is close to 1."""
    return 0.5 * np.log(-np.expm1(2.0 * log_alpha))


class NoiseSchedule(ABC):
    """alpha, sigma and half-log-SNR as functions of time, for times of any array shape.

    A schedule of your own: `Custom(alpha=…, sigma=…)`, or a subclass with `_log_alpha`, `_log_sigma` and `_time`.
    """

    t_min: float
    t_max: float

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
        """Signal coefficient at time t (same shape as t). ValueError for a time outside the schedule."""
        return _shaped(np.exp(self._at(t, self._log_alpha, 0.0)))

    def sigma(self, t: ArrayLike) -> Any:
        """Noise standard deviation at time t (same shape as t). ValueError for a time outside the schedule."""
        return _shaped(np.exp(self._at(t, self._log_sigma, -math.inf)))

    def half_log_snr(self, t: ArrayLike) -> Any:
        """lambda(t) = log(alpha/sigma) (same shape as t): +inf at t = 0, -inf where alpha = 0."""
        return _shaped(self._at(t, lambda s: self._log_alpha(s) - self._log_sigma(s), math.inf))

    def time(self, half_log_snr: ArrayLike) -> Any:
        """The time at which the half-log-SNR has the given value: the inverse of `half_log_snr`, to 1e-10 relative.

        +inf gives 0. ValueError for a value that the schedule does not reach.
        """
        lam = np.asarray(half_log_snr, dtype=np.float64)
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
        """d log alpha/dt and d lambda/dt at a time, to about 1e-10: f(t), and -g(t)^2 / (2 sigma^2) (DPM-Solver, eq. 2.3).

        From the polynomial through nine values around t, on the side of t where the schedule is smooth.

        Examples:
            >>> [round(rate, 6) for rate in LinearVP(beta_min=0.1, beta_max=20.0).rates(0.5)]
            [-5.025, -5.456404]
        """
        low, high = self._smooth_around(t)
        width = 0.02 * t
        low, high = max(low, t - width), min(high, t + width)
        nodes = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(np.pi * np.arange(9) / 8)
        derivative = np.array(polynomial_weights(((nodes - t) / width).tolist(), [0.0, 1.0 / width, *[0.0] * 7]))
        log_alpha = self._log_alpha(nodes)
        return float(derivative @ log_alpha), float(derivative @ (log_alpha - self._log_sigma(nodes)))

    def _smooth_around(self, t: float) -> tuple[float, float]:
        """An interval around t, or with t at its end, on which alpha and sigma are smooth."""
        return self.t_min, self.t_max

    def label(self, t: float) -> float:
        """What networks of this schedule are given as time. By default t itself."""
        return t

    def time_from_label(self, label: float) -> float:
        """The inverse of `label`."""
        return label

    def default_start(self) -> float:
        """Where sampling starts unless told otherwise: t_max."""
        return self.t_max

    def last_time(self, nfe: int) -> float:
        """The last time worth an evaluation: t = 1e-3 up to 15 evaluations, 1e-4 above (DPM-Solver, section 5.1)."""
        return max(self.t_min, 1e-3 if nfe <= 15 else 1e-4)

    def default_end(self, nfe: int) -> float:
        """Where sampling ends unless told otherwise: at `last_time`."""
        return self.last_time(nfe)

    def _at(self, t: ArrayLike, function: Callable[[Floats], Floats], clean: float) -> Floats:
        t = np.asarray(t, dtype=np.float64)
        slack = _TOLERANCE * self.t_max
        inside = (t >= self.t_min - slack) & (t <= self.t_max + slack)
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


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def scaled_linear_betas(beta_start: float = 0.00085, beta_end: float = 0.012, num: int = 1000) -> Floats:
    """The betas of Stable Diffusion 1 and XL: linear in their square root. Returns float64 (num,)."""
    return np.linspace(beta_start**0.5, beta_end**0.5, num) ** 2


@dataclass(frozen=True, repr=False, eq=False)
class Discrete(NoiseSchedule):
    """A model trained on steps n = 0 … N-1, from its betas or its alphas_cumprod, each an array of shape (N,).

    Step n is time t_n = (n + 1)/N; between steps log alpha is linear in t (DPM-Solver, appendix D.2). Networks get the label
    t N - 1, a float that is the step's number on the knots. Betas that end in 1, or alphas_cumprod that end in 0 (zero terminal SNR,
    Lin et al. 2024), are ordinary input: alpha is then linear in t on the last interval.

    Raises:
        ValueError: both or none given, betas outside (0, 1), alphas_cumprod not strictly decreasing inside (0, 1).

    Examples:
        >>> schedule = Discrete(betas=np.linspace(1e-4, 0.02, 1000))
        >>> schedule.label(schedule.t_max), round(schedule.alpha(1.0), 6)
        (999.0, 0.006353)
    """

    betas: ArrayLike | None = None
    alphas_cumprod: ArrayLike | None = None
    _log_alphas: Floats = field(init=False)
    _times: Floats = field(init=False)

    def __post_init__(self) -> None:
        _require((self.betas is None) != (self.alphas_cumprod is None), "give exactly one of betas and alphas_cumprod")
        if self.betas is not None:
            betas = _vector("betas", self.betas)
            bad = ~((betas > 0) & (betas < 1))
            bad[-1] &= betas[-1] != 1.0
            _require(
                not bad.any(),
                f"betas must lie in (0, 1) (the last may be 1), got {betas[bad][:1]} at step {np.flatnonzero(bad)[:1]}",
            )
            with np.errstate(divide="ignore"):
                log_alphas = 0.5 * np.cumsum(np.log1p(-betas))
        else:
            products = _vector("alphas_cumprod", self.alphas_cumprod)
            ok = (products > 0) & (products < 1)
            ok[-1] |= products[-1] == 0.0
            _require(bool(ok.all()), f"alphas_cumprod must lie in (0, 1) (the last may be 0), got {products[~ok][:1]}")
            _require(
                bool((np.diff(products) < 0).all()),
                "alphas_cumprod must decrease strictly: it is the product of (1 - beta)",
            )
            with np.errstate(divide="ignore"):
                log_alphas = 0.5 * np.log(products)
        object.__setattr__(self, "_log_alphas", log_alphas)
        object.__setattr__(self, "_times", np.arange(1, len(log_alphas) + 1) / len(log_alphas))
        object.__setattr__(self, "t_min", 1.0 / len(log_alphas))
        object.__setattr__(self, "t_max", 1.0)

    @property
    def num_steps(self) -> int:
        """N, the number of training steps."""
        return len(self._log_alphas)

    def _log_alpha(self, t: Floats) -> Floats:
        if np.isfinite(self._log_alphas[-1]):
            return np.interp(t, self._times, self._log_alphas)
        inner = np.interp(t, self._times[:-1], self._log_alphas[:-1])
        last = np.exp(self._log_alphas[-2]) * np.maximum(1.0 - t, 0.0) * self.num_steps
        return np.where(t > self._times[-2], np.log(last), inner)

    def _log_sigma(self, t: Floats) -> Floats:
        return _log_sigma_vp(self._log_alpha(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        log_alpha = _log_alpha_vp(half_log_snr)
        finite = slice(None) if np.isfinite(self._log_alphas[-1]) else slice(None, -1)
        t = np.interp(log_alpha, self._log_alphas[finite][::-1], self._times[finite][::-1])
        if finite == slice(None):
            return t
        last = 1.0 - np.exp(log_alpha - self._log_alphas[-2]) / self.num_steps
        return np.where(log_alpha < self._log_alphas[-2], last, t)

    def _smooth_around(self, t: float) -> tuple[float, float]:
        """Between two knots; below t where t is one, because runs go there."""
        k = max(1, math.ceil(t * self.num_steps - 1e-6) - 1)
        return float(self._times[k - 1]), float(self._times[k])

    def label(self, t: float) -> float:
        """The step's number t N - 1, a float between the knots and exact on them."""
        label = t * self.num_steps - 1.0
        return float(round(label)) if abs(label - round(label)) < 1e-9 * self.num_steps else label

    def time_from_label(self, label: float) -> float:
        return (label + 1.0) / self.num_steps

    def last_time(self, nfe: int) -> float:
        """The first training step, t = 1/N: below it the network was never trained."""
        return self.t_min

    def __repr__(self) -> str:
        return f"Discrete(N={self.num_steps}, half_log_snr from {self.half_log_snr(1.0):.4g} to {self.half_log_snr(self.t_min):.4g})"


def _vector(name: str, values: ArrayLike | None) -> Floats:
    array = np.array(values, dtype=np.float64)
    _require(
        array.ndim == 1 and array.size >= 2, f"{name} must be a vector of at least 2 values, got shape {array.shape}"
    )
    _require(bool(np.isfinite(array).all()), f"{name} must be finite")
    return array


@dataclass(frozen=True)
class LinearVP(NoiseSchedule):
    """The continuous VP process with beta(t) = beta_min + t (beta_max - beta_min): log alpha = -t^2 (beta_max - beta_min)/4 - t beta_min/2.

    The inverse is closed-form (DPM-Solver, appendix D.4). Networks get t itself; ScoreSDE's networks want 999 t:
    `Denoiser(…, time_label=lambda t: 999 * t)`.

    Examples:
        >>> LinearVP().half_log_snr([1e-3, 1.0]).round(4)
        array([ 4.5577, -5.025 ])
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _require(
            0 < self.beta_min < self.beta_max < math.inf,
            f"0 < beta_min < beta_max is needed, got {self.beta_min}, {self.beta_max}",
        )
        _check_range(self.t_min, self.t_max)

    def _log_alpha(self, t: Floats) -> Floats:
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def _log_sigma(self, t: Floats) -> Floats:
        return _log_sigma_vp(self._log_alpha(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        return self._time_from_log_alpha(_log_alpha_vp(half_log_snr))

    def _time_from_log_alpha(self, log_alpha: Floats) -> Floats:
        # The root of the quadratic in t in the form that does not cancel for small t.
        root = np.sqrt(self.beta_min**2 - 4.0 * (self.beta_max - self.beta_min) * log_alpha)
        return -4.0 * log_alpha / (root + self.beta_min)


@dataclass(frozen=True)
class SubVP(LinearVP):
    """The sub-VP process: alpha as `LinearVP`, sigma = 1 - alpha^2 (Song et al. 2021, appendix C)."""

    def _log_sigma(self, t: Floats) -> Floats:
        return np.log(-np.expm1(2.0 * self._log_alpha(t)))

    def _time(self, half_log_snr: Floats) -> Floats:
        # alpha^2 + k alpha - 1 = 0 with k = e^{-lambda}: alpha = e^{-asinh(k/2)}.
        return self._time_from_log_alpha(-np.arcsinh(0.5 * np.exp(-half_log_snr)))


@dataclass(frozen=True)
class CosineVP(NoiseSchedule):
    """The cosine VP process: alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)) (Nichol & Dhariwal 2021).

    t_max = 0.9946 is where DPM-Solver's code ends it; t_max = 1 (alpha = 0) is accepted.
    """

    s: float = 0.008
    t_min: float = 1e-5
    t_max: float = 0.9946

    def __post_init__(self) -> None:
        _require(0 < self.s < 1, f"0 < s < 1 is needed, got {self.s}")
        _check_range(self.t_min, self.t_max, highest=1.0)

    def _log_alpha(self, t: Floats) -> Floats:
        # cos(a + d) / cos(a) with the angle's increment d: 1 - 2 sin^2(d/2) - tan(a) sin(d), which is exact near t = 0.
        start = 0.5 * math.pi * self.s / (1.0 + self.s)
        d = 0.5 * math.pi * t / (1.0 + self.s)
        near_end = np.sin(0.5 * math.pi * np.maximum(1.0 - t, 0.0) / (1.0 + self.s)) / math.cos(start)
        small = np.log1p(np.minimum(-2.0 * np.sin(0.5 * d) ** 2 - math.tan(start) * np.sin(d), 0.0).clip(min=-0.9))
        return np.where(t < 0.5, small, np.log(near_end))

    def _log_sigma(self, t: Floats) -> Floats:
        return _log_sigma_vp(self._log_alpha(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        log_alpha = _log_alpha_vp(half_log_snr)
        start = 0.5 * math.pi * self.s / (1.0 + self.s)
        # tan of the increment d from alpha (1 + tan^2): solve cos(d) - tan(a) sin(d) = alpha by R cos(d + a), in a form exact for small d.
        loss = -np.expm1(log_alpha)
        cos_end = math.cos(start) * np.exp(log_alpha)
        sin_end = np.sqrt((1.0 - cos_end) * (1.0 + cos_end))
        # sin(d) = sin(end - start) with end = arccos(cos_end); 2 sin(d/2) sin((end + start)/2) = cos(start) - cos(end) = cos(start) loss
        end = np.arctan2(sin_end, cos_end)
        half = math.cos(start) * loss / (2.0 * np.sin(0.5 * (end + start)))
        d = 2.0 * np.arcsin(np.clip(half, -1.0, 1.0))
        near_end = 1.0 - 2.0 / math.pi * (1.0 + self.s) * np.arcsin(np.clip(cos_end, 0.0, 1.0))
        return np.where(d < 0.25 * math.pi, 2.0 / math.pi * (1.0 + self.s) * d, near_end)


@dataclass(frozen=True)
class EDM(NoiseSchedule):
    """The variance-exploding process of EDM: alpha = 1, sigma = t (Karras et al. 2022). Networks get sigma.

    x_T has standard deviation sigma_max. Runs end at sigma = 0 by default, as EDM's do.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _require(
            0 < self.sigma_min < self.sigma_max < math.inf,
            f"0 < sigma_min < sigma_max is needed, got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}",
        )
        object.__setattr__(self, "t_min", self.sigma_min)
        object.__setattr__(self, "t_max", self.sigma_max)

    def _log_alpha(self, t: Floats) -> Floats:
        return np.zeros_like(t)

    def _log_sigma(self, t: Floats) -> Floats:
        return np.log(t)

    def _time(self, half_log_snr: Floats) -> Floats:
        return np.exp(-half_log_snr)

    def last_time(self, nfe: int) -> float:
        """sigma_min."""
        return self.t_min

    def default_end(self, nfe: int) -> float:
        """sigma = 0."""
        return 0.0


@dataclass(frozen=True)
class Flow(NoiseSchedule):
    """Rectified flow: alpha = 1 - sigma, sigma = shift t / (1 + (shift - 1) t) (Liu et al. 2023; shift: Esser et al. 2024, eq. 23).

    Networks get sigma as their label (diffusers' SD3 and Flux want 1000 sigma: `time_label=lambda s: 1000 * s`). At t = 1 the state is
    pure noise (alpha = 0); runs end at sigma = 0.
    """

    shift: float = 1.0
    t_min: float = 1e-4
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _require(0 < self.shift < math.inf, f"shift must be positive, got {self.shift}")
        _check_range(self.t_min, self.t_max, highest=1.0)

    def _sigma(self, t: Floats) -> Floats:
        return self.shift * t / (1.0 + (self.shift - 1.0) * t)

    def _log_alpha(self, t: Floats) -> Floats:
        return np.log(np.maximum(1.0 - t, 0.0)) - np.log1p((self.shift - 1.0) * t)

    def _log_sigma(self, t: Floats) -> Floats:
        return np.log(self._sigma(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        # (1 - t) / (shift t) = e^lambda
        return 1.0 / (1.0 + self.shift * np.exp(half_log_snr))

    def label(self, t: float) -> float:
        """sigma(t)."""
        return float(self.sigma(t))

    def time_from_label(self, label: float) -> float:
        return label / (self.shift - (self.shift - 1.0) * label)

    def default_end(self, nfe: int) -> float:
        """sigma = 0."""
        return 0.0


@dataclass(frozen=True)
class Custom(NoiseSchedule):
    """A schedule from your own functions alpha(t) and sigma(t), float64 in and out; the inverse is found numerically (Brent's method).

    Args:
        alpha, sigma: functions of a float; alpha/sigma must fall strictly with t on [t_min, t_max].
        t_min, t_max: the range in which the network may be evaluated.

    Raises:
        ValueError: alpha or sigma negative, or a half-log-SNR that does not fall with t.

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
        _check_range(t_min, t_max)
        probe = np.linspace(t_min, t_max, 257)
        for name, function in (("alpha", alpha), ("sigma", sigma)):
            values = np.array([function(float(t)) for t in probe])
            _require(
                bool((values >= 0).all() and np.isfinite(values).all()),
                f"{name}(t) must be finite and >= 0 on [t_min, t_max]",
            )
        with np.errstate(divide="ignore"):
            _require(
                bool((np.diff(self.half_log_snr(probe)) < 0).all()),
                "alpha(t)/sigma(t) must fall strictly from t_min to t_max",
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

            def miss(t: float) -> float:
                return float(self.half_log_snr(t)) - lam

            return float(
                brentq(miss, self.t_min, self.t_max, xtol=1e-15 * self.t_max, rtol=4 * np.finfo(float).eps, maxiter=500)
            )

        return np.array([solve(float(lam)) for lam in half_log_snr.flat]).reshape(half_log_snr.shape)


def _log_of(function: Callable[[float], float], t: Floats) -> Floats:
    values: Floats = np.log(np.array([function(float(s)) for s in t.flat]).reshape(t.shape))
    return values


def _check_range(t_min: float, t_max: float, highest: float = math.inf) -> None:
    _require(
        0 < t_min < t_max <= highest, f"0 < t_min < t_max <= {highest} is needed, got t_min={t_min}, t_max={t_max}"
    )
