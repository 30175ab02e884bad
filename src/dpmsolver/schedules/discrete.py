"""`Discrete`: the schedule of a model that was trained on steps 0 … N-1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.host import to_host
from dpmsolver.schedules.base import Floats, NoiseSchedule, log_alpha_vp, log_sigma_vp, require

__all__ = ["Discrete", "scaled_linear_betas"]


def scaled_linear_betas(beta_start: float = 0.00085, beta_end: float = 0.012, num: int = 1000) -> Floats:
    """Return the betas of Stable Diffusion 1 and XL, float64 (num,). Their square roots are linear in the step.

    Examples:
        >>> scaled_linear_betas()[[0, -1]]
        array([0.00085, 0.012  ])
    """
    return np.linspace(beta_start**0.5, beta_end**0.5, num) ** 2


@dataclass(frozen=True, repr=False, eq=False)
class Discrete(NoiseSchedule):
    """The schedule of a model that was trained on steps n = 0 … N-1, from its betas or its alphas_cumprod.

    Step n is at time t_n = (n + 1)/N; between steps log alpha is linear in t (DPM-Solver, appendix D.2). The network's label is t N - 1:
    the step number at the steps, and a fraction between them. Betas that end in 1, or alphas_cumprod that end in 0 (zero terminal SNR,
    Lin et al. 2024), are accepted: alpha is then linear in t on the last interval.

    Args:
        betas, alphas_cumprod: arrays of shape (N,); give exactly one of the two.
        lambda_min: the lowest half-log-SNR at which runs start by default, like diffusers' lambda_min_clipped. The official DPM-Solver
            code uses -5.1.

    Raises:
        ValueError: both or neither are given, betas lie outside (0, 1), alphas_cumprod do not decrease strictly inside (0, 1), or the
            whole schedule lies below lambda_min.

    Examples:
        >>> import numpy as np
        >>> schedule = Discrete(betas=np.linspace(1e-4, 0.02, 1000))
        >>> schedule.label(schedule.t_max), round(schedule.alpha(1.0), 6)
        (999.0, 0.006353)
    """

    betas: ArrayLike | None = None
    alphas_cumprod: ArrayLike | None = None
    lambda_min: float = -math.inf
    _log_alphas: Floats = field(init=False)
    _times: Floats = field(init=False)

    def __post_init__(self) -> None:
        require((self.betas is None) != (self.alphas_cumprod is None), "give exactly one of betas and alphas_cumprod")
        if self.betas is not None:
            betas = _vector("betas", self.betas)
            bad = ~((betas > 0) & (betas < 1))
            bad[-1] &= betas[-1] != 1.0
            require(
                not bad.any(),
                f"betas must lie in (0, 1) (the last may be 1), got {betas[bad][:1]} at step {np.flatnonzero(bad)[:1]}",
            )
            with np.errstate(divide="ignore"):
                log_alphas = 0.5 * np.cumsum(np.log1p(-betas))
        else:
            products = _vector("alphas_cumprod", self.alphas_cumprod)
            ok = (products > 0) & (products < 1)
            ok[-1] |= products[-1] == 0.0
            require(bool(ok.all()), f"alphas_cumprod must lie in (0, 1) (the last may be 0), got {products[~ok][:1]}")
            require(
                bool((np.diff(products) < 0).all()),
                "alphas_cumprod must decrease strictly: it is the product of (1 - beta)",
            )
            with np.errstate(divide="ignore"):
                log_alphas = 0.5 * np.log(products)
        object.__setattr__(self, "_log_alphas", log_alphas)
        object.__setattr__(self, "_times", np.arange(1, len(log_alphas) + 1) / len(log_alphas))
        object.__setattr__(self, "t_min", 1.0 / len(log_alphas))
        object.__setattr__(self, "t_max", 1.0)
        top = self.half_log_snr(self.t_min)
        require(
            self.lambda_min < top,
            f"lambda_min={self.lambda_min} leaves nothing of this schedule, whose half-log-SNR is at most {top:.4g}: "
            "it must be lower, such as -5.1, or -inf for none",
        )

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
        return log_sigma_vp(self._log_alpha(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        log_alpha = log_alpha_vp(half_log_snr)
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
        """Return the step number t N - 1, a fraction between two steps."""
        label = t * self.num_steps - 1.0
        return float(round(label)) if abs(label - round(label)) < 1e-9 * self.num_steps else label

    def time_from_label(self, label: float) -> float:
        return (label + 1.0) / self.num_steps

    def last_time(self, nfe: int) -> float:
        """Return the time of the first training step, t = 1/N. The network was not trained below it."""
        return self.t_min

    def default_end(self, nfe: int) -> float:
        """Return the time of the first training step, or 0 (clean data) if that step leaves visible noise."""
        return 0.0 if self.leaves_noise(self.t_min) else self.t_min

    def __repr__(self) -> str:
        start = f", lambda_min={self.lambda_min:g}" if self.lambda_min > -math.inf else ""
        return (
            f"Discrete(N={self.num_steps}, half_log_snr from {self.half_log_snr(1.0):.4g} "
            f"to {self.half_log_snr(self.t_min):.4g}{start})"
        )


def _vector(name: str, values: ArrayLike | None) -> Floats:
    array = to_host(values)
    require(
        array.ndim == 1 and array.size >= 2, f"{name} must be a vector of at least 2 values, got shape {array.shape}"
    )
    require(bool(np.isfinite(array).all()), f"{name} must be finite")
    return array
