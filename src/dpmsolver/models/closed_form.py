"""Data distributions whose optimal network is known in closed form. They are used to test and measure solvers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.brief import brief, cut
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.targets import conversion
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.typing import Predicts

__all__ = ["Basis", "Empirical", "Gaussian", "Mixture"]

_CHUNK = 2**24  # numbers of a block of distances: 128 MiB


class ClosedForm(ABC):
    """A data distribution whose optimal network is known."""

    def __repr__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None and not name.startswith("_")}
        return cut(f"{type(self).__name__}({', '.join(f'{name}={brief(value)}' for name, value in given.items())})")

    @abstractmethod
    def predict_data(self, x: Any, alpha: float, sigma: float) -> Any:
        """Return E[x_0 | x_t = x], the optimal prediction of the data, with x's shape and framework."""

    def denoiser(self, schedule: NoiseSchedule, predicts: Predicts = "data") -> Denoiser:
        """Return the optimal network of this distribution under a schedule, as a denoiser; `predicts` as in `Denoiser`.

        The network takes the further arguments of `predict_data`, one per sample, such as the `class_labels` of a `Mixture` with classes.
        """

        def network(x: Any, label: Any, **conditions: Any) -> Any:
            levels = np.unique(to_host(label))
            out = backends.of(x).copy_to(x)
            for level in levels:
                time = min(max(schedule.time_from_label(float(level)), schedule.t_min), schedule.t_max)
                alpha, sigma = schedule.alpha(time), schedule.sigma(time)
                rows = to_host(label) == level
                sign = schedule.velocity_sign if predicts == "velocity" else 1.0
                a, b = (sign * number for number in conversion("data", predicts, alpha, sigma))
                chosen = {name: to_host(value)[rows] for name, value in conditions.items()}
                out[rows] = a * x[rows] + b * self.predict_data(x[rows], alpha, sigma, **chosen)
            return out

        return Denoiser(network, schedule, predicts)


class Basis(Protocol):
    """An orthonormal change of coordinates. `shape` is the shape of one state."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def forward(self, states: Any) -> Any:
        """Return the coordinates (n, D), float64, of states (n, *shape)."""

    def inverse(self, coordinates: Any) -> Any:
        """Return the states (n, *shape), float64, of coordinates (n, D)."""


class _Axes:
    """The basis of the columns of an orthonormal matrix; of None, the coordinates themselves."""

    def __init__(self, dimensions: int, axes: Any = None) -> None:
        self.shape: tuple[int, ...] = (dimensions,)
        self._axes = axes

    def forward(self, states: Any) -> Any:
        return states if self._axes is None else states @ self._axes

    def inverse(self, coordinates: Any) -> Any:
        return coordinates if self._axes is None else coordinates @ self._axes.T


class Mixture(ClosedForm):
    """A mixture of Gaussians with diagonal covariances.

    Args:
        means: the mean of each component, (K, D).
        variances: the variances of each component, >= 0, (K, D).
        weights: the weights of the components, positive, (K,). They are normalised; by default they are equal.
        classes: the class of each component, 0 to C - 1, each at least once, (K,). The network then takes `class_labels`, one per sample,
            of which label C means "no class", so that classifier-free guidance has an exact network. By default there are no classes.
        basis: an orthonormal change of coordinates in which the covariances are diagonal, with `forward`, `inverse` and `shape`. States
            then have its shape. By default there is no change of coordinates.

    Raises:
        ValueError: shapes do not fit together, variances are negative, weights are not positive, or classes are not 0 to C - 1.

    Examples:
        >>> import numpy as np
        >>> model = Mixture(means=[[-1.0], [1.0]], variances=[[0.1], [0.1]], classes=[0, 1])
        >>> float(model.predict_data(np.zeros((1, 1)), alpha=0.5, sigma=0.5)[0, 0])
        0.0
        >>> predicted = model.predict_data(np.zeros((3, 1)), alpha=0.5, sigma=0.5, class_labels=[0, 1, 2])
        >>> predicted.round(3).ravel() + 0.0
        array([-0.909,  0.909,  0.   ])
    """

    def __init__(
        self,
        means: ArrayLike,
        variances: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
        basis: Basis | None = None,
    ) -> None:
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
        self.classes = None if classes is None else _checked_classes(classes, len(self.means))
        self.basis: Basis = _Axes(self.means.shape[1]) if basis is None else basis
        if math.prod(self.basis.shape) != self.means.shape[1]:
            raise ValueError(
                f"basis has states of shape {self.basis.shape}, means have {self.means.shape[1]} coordinates"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return tuple(self.basis.shape)

    @property
    def num_classes(self) -> int | None:
        """The number of classes, 0 to num_classes - 1; None for a mixture without classes."""
        return None if self.classes is None else int(self.classes.max()) + 1

    def predict_data(self, x: Any, alpha: float, sigma: float, class_labels: Any = None) -> Any:
        """Return E[x_0 | x_t = x], the optimal prediction of the data, with x's shape and framework. torch tensors pass through the host.

        Args:
            x: states (n, *shape).
            class_labels: the class of each sample, or `num_classes` for "no class", (n,). None means "no class" for all.

        Raises:
            ValueError: the mixture has no classes, or lacks one of the labels.
        """
        backend = backends.of(x)
        # Float64 for float32 states too: log-likelihoods of thousands of coordinates are large numbers whose small differences count.
        gap, centre = self._about_centre(x, alpha)
        logs, means, total = self._component_logs(gap, centre, alpha, sigma, class_labels)
        responsibility = np.exp(logs - logs.max(axis=1, keepdims=True))
        responsibility /= responsibility.sum(axis=1, keepdims=True)
        gain = alpha * self.variances / total
        data = centre + responsibility @ (means - alpha * gain * means) + gap * (responsibility @ gain)
        return backend.from_numpy(self.basis.inverse(data), x)

    def log_density(self, x: Any, alpha: float = 1.0, sigma: float = 0.0, class_labels: Any = None) -> Any:
        """Return the log density of x_t = alpha x_0 + sigma eps, float64 (n,); by default that of the data. Arguments as in `predict_data`.

        Examples:
            >>> import numpy as np
            >>> model = Gaussian(mean=[0.0], variance=[1.0])
            >>> model.log_density(np.zeros((1, 1))).round(4)
            array([-0.9189])
        """
        logs, *_ = self._component_logs(*self._about_centre(x, alpha), alpha, sigma, class_labels)
        return _logsumexp(logs) - 0.5 * self.means.shape[1] * math.log(2.0 * math.pi)

    def classify(self, x: Any, sigma: float = 0.01) -> Any:
        """Return the most probable class of each of the data, int64 (n,).

        Args:
            x: data (n, *shape).
            sigma: the noise that is left in them, as by a run that ends before sigma = 0. If it is not given, directions of little variance
                outweigh all others.

        Raises:
            ValueError: the mixture has no classes.
        """
        if self.num_classes is None:
            raise ValueError("this mixture has no classes to choose from: give it classes=")
        logs, *_ = self._component_logs(*self._about_centre(x, 1.0), 1.0, sigma, None)
        of_class = [_logsumexp(logs[:, self.classes == c]) for c in range(self.num_classes)]
        return np.argmax(of_class, axis=0)

    def sample(self, num: int, seed: int = 0, class_labels: Any = None) -> Any:
        """Draw exact samples, float64 (num, *shape), from all components or, with class labels, from those of each class."""
        rng = np.random.default_rng(seed)
        if class_labels is None:
            which = rng.choice(len(self.means), size=num, p=self.weights)
        else:
            shares = np.exp(self._log_weights(class_labels, num))
            shares /= shares.sum(axis=1, keepdims=True)
            which = np.array([rng.choice(len(self.means), p=share) for share in shares])
        normals = rng.standard_normal((num, self.means.shape[1]))
        return self.basis.inverse(self.means[which] + np.sqrt(self.variances[which]) * normals)

    def _about_centre(self, x: Any, alpha: float) -> tuple[Any, Any]:
        """The states about the mean of the mixture, where matrix products lose the fewest digits; and that mean."""
        host = to_host(x)
        if host.shape[1:] != self.shape:
            raise ValueError(f"states must have shape (n, {', '.join(map(str, self.shape))}), got {host.shape}")
        centre = self.weights @ self.means
        return self.basis.forward(host) - alpha * centre, centre

    def _component_logs(
        self, gap: Any, centre: Any, alpha: float, sigma: float, class_labels: Any
    ) -> tuple[Any, Any, Any]:
        """Log-likelihoods (n, K) times weights, but for a constant; means about the centre and variances of x_t, (K, D)."""
        means, total = self.means - centre, alpha**2 * self.variances + sigma**2
        # |gap - alpha means|^2 / total, multiplied out: matrix products of (n, D) and (D, K), no array (n, K, D).
        squares = gap**2 @ (1.0 / total).T - gap @ (2.0 * alpha * means / total).T
        constant = ((alpha * means) ** 2 / total + np.log(total)).sum(axis=1)
        return self._log_weights(class_labels, len(gap)) - 0.5 * (squares + constant), means, total

    def _log_weights(self, class_labels: Any, num: int) -> Any:
        """Logarithms of the weights, (1, K), or (num, K) given classes: those of other classes are zero, and each class sums to 1."""
        logs = np.log(self.weights)[None]
        if class_labels is None:
            return logs
        labels = to_host(class_labels)
        if self.num_classes is None:
            raise ValueError(
                "class_labels were given to a mixture without classes: leave them out, or give it classes="
            )
        if labels.shape != (num,) or not np.isin(labels, np.arange(self.num_classes + 1)).all():
            raise ValueError(
                f"class_labels must be one of 0 … {self.num_classes} for each of {num} samples ({self.num_classes}: no class), "
                f"got {class_labels!r}"
            )
        assert self.classes is not None
        own = (labels[:, None] == self.classes) | (labels[:, None] == self.num_classes)
        return np.where(own, logs - np.log(own @ self.weights)[:, None], -np.inf)


def _logsumexp(logs: Any) -> Any:
    """The logarithm of the sum of exponentials over the last axis."""
    from scipy.special import logsumexp  # here, because it is slow to import

    return np.asarray(logsumexp(logs, axis=1))


def _checked_classes(classes: ArrayLike, components: int) -> Any:
    found = np.asarray(classes)
    if found.shape != (components,) or not np.array_equal(np.unique(found), np.arange(len(np.unique(found)))):
        raise ValueError(f"classes must be 0 to C - 1, one for each of {components} components, got {classes!r}")
    return found.astype(np.int64)


class Gaussian(Mixture):
    """Normally distributed data. `trajectory` solves their ODE in closed form.

    Args:
        mean: the mean, (D,).
        variance: the variances of independent coordinates, (D,). Give either this or `covariance`.
        covariance: the covariance, symmetric and positive semidefinite, (D, D).
        basis: the coordinates of `variance`, as in `Mixture`.

    `means[0]` and `variances[0]` are those along the principal axes, which `Plan.moments` takes.

    Raises:
        ValueError: both of variance and covariance are given or neither is, shapes do not fit, or the matrix is not a covariance.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.schedules import EDM
        >>> point = Gaussian(mean=[0.0], variance=[0.0])
        >>> round(float(point.trajectory(EDM(), np.ones((1, 1)), 64.0, 8.0)[0, 0]), 12)
        0.125
        >>> Gaussian(mean=[0.0, 0.0], covariance=[[2.0, 1.0], [1.0, 2.0]]).variances.round(6)
        array([[1., 3.]])
    """

    def __init__(
        self,
        mean: ArrayLike,
        variance: ArrayLike | None = None,
        *,
        covariance: ArrayLike | None = None,
        basis: Basis | None = None,
    ) -> None:
        if (variance is None) == (covariance is None):
            raise ValueError("give exactly one of variance (D,) and covariance (D, D)")
        if covariance is None:
            super().__init__([np.asarray(mean)], [np.asarray(variance)], basis=basis)
            return
        if basis is not None:
            raise ValueError("a covariance has axes of its own: give basis with variance, or leave it out")
        matrix, centre = np.array(covariance, dtype=np.float64), np.array(mean, dtype=np.float64)
        if matrix.shape != (*centre.shape, *centre.shape) or not np.allclose(matrix, matrix.T):
            raise ValueError(
                f"covariance must be symmetric of shape (D, D) for a mean (D,), got {matrix.shape}, {centre.shape}"
            )
        variances, axes = np.linalg.eigh(matrix)
        if variances[0] < -1e-9 * abs(variances[-1]):
            raise ValueError(f"covariance must be positive semidefinite, its smallest eigenvalue is {variances[0]:.4g}")
        super().__init__([centre @ axes], [variances.clip(min=0.0)], basis=_Axes(len(axes), axes))

    def trajectory(self, schedule: NoiseSchedule, x: Any, start: float, end: float) -> Any:
        """Return the state to which the exact ODE takes x from time start to time end.

        Along each principal axis, with mean mu and variance c, (x - alpha mu)/sqrt(alpha^2 c + sigma^2) is constant.
        """

        def moments(t: float) -> tuple[Any, Any]:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            return alpha * self.means[0], np.sqrt(alpha**2 * self.variances[0] + sigma**2)

        (mean_s, std_s), (mean_t, std_t) = moments(start), moments(end)
        backend = backends.of(x)
        moved = mean_t + (self.basis.forward(to_host(x)) - mean_s) * std_t / std_s
        return backend.from_numpy(self.basis.inverse(moved), x)


class Empirical(ClosedForm):
    """The distribution of a finite data set. Its optimal network is the softmax-weighted mean of the data.

        E[x_0 | x] = sum_i w_i d_i,    w = softmax(-|x - alpha d_i|^2 / (2 sigma^2))

    It memorises: its samples are the data. States have any shape (B, …). Distances are computed block by block, so that memory stays
    bounded.

    Args:
        data: the data set, (N, …), at least one point.

    Raises:
        ValueError: there are no data, or they are not finite.

    Examples:
        >>> import numpy as np
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
        host = to_host(x)
        if host.shape[1:] != self.data.shape[1:]:
            raise ValueError(f"states must have the data's shape {self.data.shape[1:]}, got {host.shape[1:]}")
        flat, points = host.reshape(len(host), -1), self.data.reshape(len(self.data), -1)
        norms = alpha**2 * np.square(points).sum(axis=1)
        rows = max(1, _CHUNK // len(points))
        parts = [self._mean(flat[i : i + rows], points, norms, alpha, sigma) for i in range(0, len(flat), rows)]
        return backend.from_numpy(np.concatenate(parts).reshape(host.shape), x)

    def sample(self, num: int, seed: int = 0) -> Any:
        """Draw from the data, with replacement: float64 (num, …)."""
        return self.data[np.random.default_rng(seed).integers(len(self.data), size=num)]

    @staticmethod
    def _mean(x: Any, points: Any, norms: Any, alpha: float, sigma: float) -> Any:
        logits = (2.0 * alpha * x @ points.T - norms) / (2.0 * sigma**2)  # |x|^2 is the same for all data
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights @ points / weights.sum(axis=1, keepdims=True)
