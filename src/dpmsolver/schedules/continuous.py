"""Schedules in closed form: variance preserving (linear, cosine), sub-VP, variance exploding (EDM) and rectified flow."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from dpmsolver.schedules.base import Floats, NoiseSchedule, check_range, log_alpha_vp, log_sigma_vp, require

__all__ = ["EDM", "CosineVP", "Flow", "LinearVP", "SubVP"]


@dataclass(frozen=True)
class LinearVP(NoiseSchedule):
    """The continuous variance-preserving process with linear beta(t) = beta_min + t (beta_max - beta_min):

        log alpha(t) = -t^2 (beta_max - beta_min)/4 - t beta_min/2,    sigma^2 = 1 - alpha^2.

    The inverse has a closed form (DPM-Solver, appendix D.4). Networks take t itself as their label. ScoreSDE's networks take 999 t: give
    their denoiser `time_label=lambda t: 999 * t`.

    Examples:
        >>> LinearVP().half_log_snr([1e-3, 1.0]).round(4)
        array([ 4.5577, -5.025 ])
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        require(
            0 < self.beta_min < self.beta_max < math.inf,
            f"0 < beta_min < beta_max is needed, got {self.beta_min}, {self.beta_max}",
        )
        check_range(self.t_min, self.t_max)

    def _log_alpha(self, t: Floats) -> Floats:
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def _log_sigma(self, t: Floats) -> Floats:
        return log_sigma_vp(self._log_alpha(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        return self._time_from_log_alpha(log_alpha_vp(half_log_snr))

    def _time_from_log_alpha(self, log_alpha: Floats) -> Floats:
        # The root of the quadratic in t in the form that does not cancel for small t.
        root = np.sqrt(self.beta_min**2 - 4.0 * (self.beta_max - self.beta_min) * log_alpha)
        return -4.0 * log_alpha / (root + self.beta_min)


@dataclass(frozen=True)
class SubVP(LinearVP):
    """The sub-VP process: alpha of `LinearVP`, and sigma = 1 - alpha^2 (Song et al. 2021, arXiv 2011.13456, appendix C).

    Examples:
        >>> SubVP().sigma([0.5, 1.0]).round(4)  # 1 - alpha^2
        array([0.9209, 1.    ])
    """

    def _log_sigma(self, t: Floats) -> Floats:
        return np.log(-np.expm1(2.0 * self._log_alpha(t)))

    def _time(self, half_log_snr: Floats) -> Floats:
        # alpha^2 + k alpha - 1 = 0 with k = e^{-lambda}: alpha = e^{-asinh(k/2)}.
        return self._time_from_log_alpha(-np.arcsinh(0.5 * np.exp(-half_log_snr)))


@dataclass(frozen=True)
class CosineVP(NoiseSchedule):
    """The cosine variance-preserving process: alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)) (Nichol & Dhariwal 2021).

    By default it ends at t_max = 0.9946, as in the code of DPM-Solver; t_max = 1 (alpha = 0) is accepted.

    Examples:
        >>> CosineVP().alpha([0.0, 0.5]).round(4)
        array([1.    , 0.7027])
    """

    s: float = 0.008
    t_min: float = 1e-5
    t_max: float = 0.9946

    def __post_init__(self) -> None:
        require(0 < self.s < 1, f"0 < s < 1 is needed, got {self.s}")
        check_range(self.t_min, self.t_max, highest=1.0)

    def _log_alpha(self, t: Floats) -> Floats:
        # cos(a + d) / cos(a) with the angle's increment d: 1 - 2 sin^2(d/2) - tan(a) sin(d), which is exact near t = 0.
        start = 0.5 * math.pi * self.s / (1.0 + self.s)
        d = 0.5 * math.pi * t / (1.0 + self.s)
        near_end = np.sin(0.5 * math.pi * np.maximum(1.0 - t, 0.0) / (1.0 + self.s)) / math.cos(start)
        small = np.log1p(np.minimum(-2.0 * np.sin(0.5 * d) ** 2 - math.tan(start) * np.sin(d), 0.0).clip(min=-0.9))
        return np.where(t < 0.5, small, np.log(near_end))

    def _log_sigma(self, t: Floats) -> Floats:
        return log_sigma_vp(self._log_alpha(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        log_alpha = log_alpha_vp(half_log_snr)
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
    """The variance-exploding process of EDM: alpha = 1, sigma = t (Karras et al. 2022). The label of its networks is sigma.

    x_T has standard deviation sigma_max. By default runs end at sigma = 0, like those of EDM.

    Examples:
        >>> schedule = EDM()
        >>> schedule.half_log_snr([0.002, 1.0, 80.0]).round(3), schedule.label(2.0)
        (array([ 6.215,  0.   , -4.382]), 2.0)
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        require(
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
        """Return sigma_min, the last time worth an evaluation."""
        return self.t_min

    def default_end(self, nfe: int) -> float:
        """Return 0, the time of clean data."""
        return 0.0


_ALWAYS = ("shift", "t_min", "t_max")


@dataclass(frozen=True, repr=False)
class Flow(NoiseSchedule):
    """Rectified flow: alpha = 1 - sigma, sigma = shift t / (1 + (shift - 1) t).

    At t = 1 the state is pure noise (alpha = 0), and runs end at sigma = 0. Here time always grows towards the noise. For a network whose
    time grows towards the data, set `reversed`: its label is then 1 - sigma instead of sigma, and its velocity data - noise.

    Source: Liu et al. 2023, arXiv 2209.03003; the shift: Esser et al. 2024, arXiv 2403.03206, eq. 23.

    Args:
        shift: moves the times towards the noise. The noise levels that a network knows stay the same.
        label_scale: the network's label is label_scale times sigma: 1 for the papers' code, 1000 for diffusers' SD3, Flux and Wan.
        reversed: the network counts t = 0 for noise and t = 1 for data, so its label is label_scale (1 - sigma).
        last_sigma: the noise level of the last evaluation of a default run, like diffusers' shift_terminal. 0 sets none.

    Raises:
        ValueError: a shift or label_scale is not positive, times lie outside (0, 1], or last_sigma lies outside [0, 1).

    Examples:
        >>> Flow(shift=3.0, label_scale=1000.0).label(0.5)
        750.0
        >>> Flow(reversed=True).label(1.0)
        0.0
    """

    shift: float = 1.0
    t_min: float = 1e-4
    t_max: float = 1.0
    label_scale: float = 1.0
    reversed: bool = False
    last_sigma: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.shift < math.inf, f"shift must be positive, got {self.shift}")
        require(0 < self.label_scale < math.inf, f"label_scale must be positive, got {self.label_scale}")
        require(0 <= self.last_sigma < 1, f"0 <= last_sigma < 1 is needed, got {self.last_sigma}")
        check_range(self.t_min, self.t_max, highest=1.0)

    def __repr__(self) -> str:
        """The fields of every flow, and of the others those that are not as usual."""
        shown = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if f.name in _ALWAYS or getattr(self, f.name) != f.default
        ]
        return f"Flow({', '.join(shown)})"

    @property
    def velocity_sign(self) -> float:
        """+1 for networks whose velocity is noise - data, -1 for reversed ones."""
        return -1.0 if self.reversed else 1.0

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
        """Return label_scale sigma(t), or label_scale (1 - sigma(t)) for a reversed flow."""
        return self.label_scale * float(self.alpha(t) if self.reversed else self.sigma(t))

    def time_from_label(self, label: float) -> float:
        level = label / self.label_scale
        return self._time_at(1.0 - level if self.reversed else level)

    def _time_at(self, sigma: float) -> float:
        return sigma / (self.shift - (self.shift - 1.0) * sigma)

    def last_time(self, nfe: int) -> float:
        """Return the time of last_sigma if it is set; else t = 1e-3 for up to 15 evaluations and 1e-4 for more."""
        return max(self.t_min, self._time_at(self.last_sigma)) if self.last_sigma else super().last_time(nfe)

    def default_end(self, nfe: int) -> float:
        """Return 0, the time of clean data."""
        return 0.0
