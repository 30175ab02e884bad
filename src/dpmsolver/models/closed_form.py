"""Data distributions whose optimal network is known in closed form: what proves a solver right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.denoiser import Denoiser
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.targets import conversion

__all__ = ["Empirical", "Gaussian", "Mixture"]

_CHUNK = 2**24  # numbers of a block of distances: 128 MiB


class ClosedForm(ABC):
    """A data distribution whose optimal network is known."""

    @abstractmethod
    def predict_data(self, x: Any, alpha: float, sigma: float) -> Any:
        """E[x_0 | x_t = x], the optimal data prediction, of x's shape and framework."""

    def denoiser(self, schedule: NoiseSchedule, predicts: str = "data") -> Denoiser:
        """The optimal network of this distribution under a schedule; `predicts` as in `Denoiser`."""

        def network(x: Any, label: Any) -> Any:
            levels = np.unique(backends.of(x).to_numpy(label))
            out = backends.of(x).copy_to(x)
            for level in levels:
                time = min(max(schedule.time_from_label(float(level)), schedule.t_min), schedule.t_max)
                alpha, sigma = schedule.alpha(time), schedule.sigma(time)
                rows = backends.of(x).to_numpy(label) == level
                sign = schedule.velocity_sign if predicts == "velocity" else 1.0
                a, b = (sign * number for number in conversion("data", predicts, alpha, sigma))
                out[rows] = a * x[rows] + b * self.predict_data(x[rows], alpha, sigma)
            return out

        return Denoiser(network, schedule, predicts)  # type: ignore[arg-type]


class Mixture(ClosedForm):
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
        self._basis: Any = (
            None  # orthonormal columns in which the covariances are diagonal; None: those of the coordinates
        )

    def predict_data(self, x: Any, alpha: float, sigma: float) -> Any:
        """E[x_0 | x_t = x], the optimal data prediction; x (B, D), NumPy (float64 inside) or torch (through the host)."""
        backend = backends.of(x)
        centre = self.weights @ self.means  # products lose the fewest digits about it
        gap, means = self._into_basis(backend.to_numpy(x)) - alpha * centre, self.means - centre
        total = alpha**2 * self.variances + sigma**2
        # |gap - alpha means|^2 / total and the means, multiplied out: matrix products of (B, D) and (D, K), no array (B, K, D).
        squares = gap**2 @ (1.0 / total).T - gap @ (2.0 * alpha * means / total).T
        constant = np.log(self.weights) - 0.5 * ((alpha * means) ** 2 / total + np.log(total)).sum(axis=1)
        log_likelihood = constant - 0.5 * squares
        responsibility = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        responsibility /= responsibility.sum(axis=1, keepdims=True)
        gain = alpha * self.variances / total
        data = centre + responsibility @ (means - alpha * gain * means) + gap * (responsibility @ gain)
        return backend.from_numpy(self._from_basis(data), x)

    def sample(self, num: int, seed: int = 0) -> Any:
        """Exact samples, float64 (num, D)."""
        rng = np.random.default_rng(seed)
        which = rng.choice(len(self.means), size=num, p=self.weights)
        normals = rng.standard_normal((num, self.means.shape[1]))
        return self._from_basis(self.means[which] + np.sqrt(self.variances[which]) * normals)

    def _into_basis(self, x: Any) -> Any:
        return x if self._basis is None else x @ self._basis

    def _from_basis(self, x: Any) -> Any:
        return x if self._basis is None else x @ self._basis.T


class Gaussian(Mixture):
    """Gaussian data. Its ODE is solved in closed form by `trajectory`.

    Args:
        mean: (D,).
        variance: (D,), of independent coordinates. Or covariance: (D, D), symmetric and positive semidefinite. One of the two.

    `means[0]` and `variances[0]` are those along the principal axes, as `Plan.moments` wants them.

    Raises:
        ValueError: both or none given, shapes that do not fit, a covariance that is none.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> round(float(Gaussian(mean=[0.0], variance=[0.0]).trajectory(EDM(), np.ones((1, 1)), 64.0, 8.0)[0, 0]), 12)
        0.125
        >>> Gaussian(mean=[0.0, 0.0], covariance=[[2.0, 1.0], [1.0, 2.0]]).variances.round(6)
        array([[1., 3.]])
    """

    def __init__(
        self, mean: ArrayLike, variance: ArrayLike | None = None, *, covariance: ArrayLike | None = None
    ) -> None:
        if (variance is None) == (covariance is None):
            raise ValueError("give exactly one of variance (D,) and covariance (D, D)")
        if covariance is None:
            super().__init__([np.asarray(mean)], [np.asarray(variance)])
            return
        matrix, centre = np.array(covariance, dtype=np.float64), np.array(mean, dtype=np.float64)
        if matrix.shape != (*centre.shape, *centre.shape) or not np.allclose(matrix, matrix.T):
            raise ValueError(
                f"covariance must be symmetric of shape (D, D) for a mean (D,), got {matrix.shape}, {centre.shape}"
            )
        variances, basis = np.linalg.eigh(matrix)
        if variances[0] < -1e-9 * abs(variances[-1]):
            raise ValueError(f"covariance must be positive semidefinite, its smallest eigenvalue is {variances[0]:.4g}")
        super().__init__([centre @ basis], [variances.clip(min=0.0)])
        self._basis = basis

    def trajectory(self, schedule: NoiseSchedule, x: Any, start: float, end: float) -> Any:
        """Where the exact ODE takes x from time start to time end: (x - alpha mu)/sqrt(alpha^2 c + sigma^2) is constant along each axis."""

        def moments(t: float) -> tuple[Any, Any]:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            return alpha * self.means[0], np.sqrt(alpha**2 * self.variances[0] + sigma**2)

        (mean_s, std_s), (mean_t, std_t) = moments(start), moments(end)
        backend = backends.of(x)
        moved = mean_t + (self._into_basis(backend.to_numpy(x)) - mean_s) * std_t / std_s
        return backend.from_numpy(self._from_basis(moved), x)


class Empirical(ClosedForm):
    """The distribution of a finite data set: the ideal denoiser, a softmax-weighted mean of the data.

    E[x_0 | x] = sum_i w_i d_i with w = softmax(-|x - alpha d_i|^2 / (2 sigma^2)). It memorises: its samples are data. Of shape (B, …),
    any; distances are made block by block, so that memory stays bounded.

    Args:
        data: (N, …), at least one.

    Raises:
        ValueError: no data, or data that are not finite.

    Examples:
        >>> model = Empirical([[-1.0], [1.0]])
        >>> model.predict_data(np.array([[0.0], [3.0]]), alpha=1.0, sigma=0.1).ravel()
        array([0., 1.])

    Source: Karras et al. 2022, arXiv 2206.00364, appendix B.3.
    """

    def __init__(self, data: ArrayLike) -> None:
        self.data = np.array(data, dtype=np.float64)
        if self.data.ndim < 2 or not self.data.size or not np.isfinite(self.data).all():
            raise ValueError(f"data must be finite and of shape (N, …) with at least one, got shape {self.data.shape}")

    def predict_data(self, x: Any, alpha: float, sigma: float) -> Any:
        backend = backends.of(x)
        host = backend.to_numpy(x)
        if host.shape[1:] != self.data.shape[1:]:
            raise ValueError(f"states must have the data's shape {self.data.shape[1:]}, got {host.shape[1:]}")
        flat, points = host.reshape(len(host), -1), self.data.reshape(len(self.data), -1)
        norms = alpha**2 * np.square(points).sum(axis=1)
        rows = max(1, _CHUNK // len(points))
        parts = [self._mean(flat[i : i + rows], points, norms, alpha, sigma) for i in range(0, len(flat), rows)]
        return backend.from_numpy(np.concatenate(parts).reshape(host.shape), x)

    def sample(self, num: int, seed: int = 0) -> Any:
        """Draws from the data, with repetition: float64 (num, …)."""
        return self.data[np.random.default_rng(seed).integers(len(self.data), size=num)]

    @staticmethod
    def _mean(x: Any, points: Any, norms: Any, alpha: float, sigma: float) -> Any:
        logits = (2.0 * alpha * x @ points.T - norms) / (2.0 * sigma**2)  # |x|^2 is the same for all data
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights @ points / weights.sum(axis=1, keepdims=True)
