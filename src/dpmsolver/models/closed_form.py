"""Data distributions whose optimal network is known in closed form: what proves a solver right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.denoiser import Denoiser, conversion
from dpmsolver.schedules import NoiseSchedule

__all__ = ["Gaussian", "Mixture"]


class Mixture:
    """A mixture of Gaussians with diagonal covariances.

    Args:
        means: (K, D). variances: (K, D), >= 0. weights: (K,), positive; normalised. Uniform by default.

    Raises:
        ValueError: shapes that do not fit, negative variances, weights that are not positive.

    Examples:
        >>> model = Mixture(means=[[-1.0], [1.0]], variances=[[0.1], [0.1]])
        >>> float(model.predict_data(np.zeros((1, 1)), alpha=0.5, sigma=0.5)[0, 0])
        0.0
    """

    def __init__(self, means: ArrayLike, variances: ArrayLike, weights: ArrayLike | None = None) -> None:
        self.means = np.array(means, dtype=np.float64)
        self.variances = np.array(variances, dtype=np.float64)
        self.weights = np.ones(len(self.means)) if weights is None else np.array(weights, dtype=np.float64)
        if (
            self.means.ndim != 2
            or self.variances.shape != self.means.shape
            or self.weights.shape != self.means.shape[:1]
        ):
            raise ValueError(
                f"means and variances must be (K, D), weights (K,), got {self.means.shape}, {self.variances.shape}, {self.weights.shape}"
            )
        if (self.variances < 0).any() or not (self.weights > 0).all():
            raise ValueError("variances must be >= 0 and weights > 0")
        self.weights /= self.weights.sum()

    def predict_data(self, x: Any, alpha: float, sigma: float) -> Any:
        """E[x_0 | x_t = x], the optimal data prediction; x (B, D), NumPy (float64 inside) or torch (through the host)."""
        backend = backends.of(x)
        host = backend.to_numpy(x)[:, None, :]
        total = alpha**2 * self.variances + sigma**2
        gap = host - alpha * self.means
        log_likelihood = -0.5 * (gap**2 / total + np.log(total)).sum(axis=2) + np.log(self.weights)
        responsibility = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        responsibility /= responsibility.sum(axis=1, keepdims=True)
        means = self.means + alpha * self.variances / total * gap
        return backend.from_numpy((responsibility[:, :, None] * means).sum(axis=1), x)

    def denoiser(self, schedule: NoiseSchedule, predicts: str = "data") -> Denoiser:
        """The optimal network of this distribution under a schedule; `predicts` as in `Denoiser`."""

        def network(x: Any, label: Any) -> Any:
            levels = np.unique(backends.of(x).to_numpy(label))
            out = backends.of(x).copy_to(x)
            for level in levels:
                time = min(max(schedule.time_from_label(float(level)), schedule.t_min), schedule.t_max)
                alpha, sigma = schedule.alpha(time), schedule.sigma(time)
                rows = backends.of(x).to_numpy(label) == level
                a, b = conversion("data", predicts, alpha, sigma)
                out[rows] = a * x[rows] + b * self.predict_data(x[rows], alpha, sigma)
            return out

        return Denoiser(network, schedule, predicts)  # type: ignore[arg-type]

    def sample(self, num: int, seed: int = 0) -> Any:
        """Exact samples, float64 (num, D)."""
        rng = np.random.default_rng(seed)
        which = rng.choice(len(self.means), size=num, p=self.weights)
        return self.means[which] + np.sqrt(self.variances[which]) * rng.standard_normal((num, self.means.shape[1]))


class Gaussian(Mixture):
    """Gaussian data with mean (D,) and diagonal covariance (D,). Its ODE is solved in closed form by `trajectory`.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> round(float(Gaussian(mean=[0.0], variance=[0.0]).trajectory(EDM(), np.ones((1, 1)), 64.0, 8.0)[0, 0]), 12)
        0.125
    """

    def __init__(self, mean: ArrayLike, variance: ArrayLike) -> None:
        super().__init__([np.asarray(mean)], [np.asarray(variance)])

    def trajectory(self, schedule: NoiseSchedule, x: Any, start: float, end: float) -> Any:
        """Where the exact ODE takes x from time start to time end: (x - alpha mu)/sqrt(alpha^2 c + sigma^2) is constant."""

        def moments(t: float) -> tuple[Any, Any]:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            return alpha * self.means[0], np.sqrt(alpha**2 * self.variances[0] + sigma**2)

        (mean_s, std_s), (mean_t, std_t) = moments(start), moments(end)
        backend = backends.of(x)
        return backend.from_numpy(mean_t + (backend.to_numpy(x) - mean_s) * std_t / std_s, x)
