"""Statistics kept during a run: number, mean and covariance of the features of each shard, in float64, merged in any grouping.

With n, the mean m and the scatter S = sum (x - m)(x - m)^T of two sets a and b,

    n = n_a + n_b,   m = m_a + (m_b - m_a) n_b / n,   S = S_a + S_b + (m_b - m_a)(m_b - m_a)^T n_a n_b / n

(Chan, Golub & LeVeque 1983, The American Statistician 37, 242-247, eq. 2.1), which does not cancel as raw moments do.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.brief import brief_repr
from dpmsolver.errors import unknown
from dpmsolver.generation.pictures import to_samples
from dpmsolver.generation.sources import Source
from dpmsolver.models import feature_networks

__all__ = ["FEATURES", "Eyes", "Moments", "ShardStatistics", "eyes_of", "merged"]

FEATURES = ("auto", "none", "samples", "digits", "cifar10", "efficientnet", "inception")
_SMALL = 64  # numbers of a sample up to which they are its features by themselves
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """The number of some features (n, d), their mean (d,) and their scatter (d, d), which is the covariance times n - 1.

    Examples:
        >>> import numpy as np
        >>> a, b = np.random.default_rng(0).standard_normal((2, 50, 3))
        >>> both = Moments.of(a) + Moments.of(b)
        >>> bool(np.allclose(both.covariance, np.cov(np.concatenate([a, b]).T)))
        True
    """

    num: int
    mean: Floats
    scatter: Floats

    __repr__ = brief_repr

    @classmethod
    def of(cls, features: NDArray[Any]) -> Moments:
        """Return the moments of features (n, d)."""
        values = np.asarray(features, dtype=np.float64)
        mean = values.mean(axis=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred)

    def __add__(self, other: Moments) -> Moments:
        num, between = self.num + other.num, other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(between, between) * (self.num * other.num / num)
        return Moments(num, self.mean + between * (other.num / num), scatter)

    @property
    def covariance(self) -> Floats:
        """The covariance, divided by n - 1."""
        return self.scatter / max(1, self.num - 1)


def merged(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all parts together."""
    total: Moments | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise ValueError("there are no statistics to merge")
    return total


@dataclass(frozen=True, eq=False)
class ShardStatistics:
    """The statistics of a shard's features.

    Args:
        moments: the moments of all samples.
        features: the features themselves as float32, if they are kept.
        right: the number of samples that are classified as the requested class, or None.
    """

    moments: Moments
    features: NDArray[np.float32] | None = None
    right: int | None = None

    def content(self) -> bytes:
        """Return the statistics as the content of a file."""
        width = len(self.moments.mean)
        upper = np.triu_indices(width)
        arrays: dict[str, Any] = {
            "num": self.moments.num,
            "mean": self.moments.mean,
            "scatter": self.moments.scatter[upper],
        }
        if self.features is not None:
            arrays["features"] = self.features
        if self.right is not None:
            arrays["right"] = self.right
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, content: bytes) -> ShardStatistics:
        """Read the content that `content` made."""
        with np.load(io.BytesIO(content)) as arrays:
            mean = arrays["mean"]
            scatter = np.zeros((len(mean), len(mean)))
            scatter[np.triu_indices(len(mean))] = arrays["scatter"]
            scatter += np.triu(scatter, 1).T
            features = arrays["features"] if "features" in arrays.files else None
            right = int(arrays["right"]) if "right" in arrays.files else None
            return cls(Moments(int(arrays["num"]), mean, scatter), features, right)


@dataclass(frozen=True, eq=False)
class Eyes:
    """A function from stored samples to features (n, d), and to classes if it knows any.

    Args:
        name: the name of the features.
        statistics: the statistics of the data that the network was trained on, if they are known.
    """

    name: str
    features: Callable[[NDArray[Any]], Floats]
    classify: Callable[[NDArray[Any]], NDArray[np.int64]] | None = None
    num_classes: int | None = None
    statistics: feature_networks.Statistics | None = None

    def of_shard(
        self, features: NDArray[Any], seen: NDArray[np.int64] | None, labels: Any, rows: bool
    ) -> ShardStatistics:
        """Return the statistics of a shard from the features, the recognised and the requested classes."""
        right = None if seen is None or labels is None else int(np.equal(seen, np.asarray(labels)).sum())
        return ShardStatistics(Moments.of(features), np.asarray(features, np.float32) if rows else None, right)


def network_eyes(name: str, shape: tuple[int, ...], device: Any = "cpu") -> Eyes:
    """Return the eyes of a feature network for pictures as bytes (n, height, width, channels); `shape` is (channels, height, width)."""
    network = feature_networks.load(name, shape, device)

    def seen(look: Callable[[Any], Any], pixels: NDArray[Any]) -> Any:
        import torch

        return look(torch.from_numpy(to_samples(pixels)).to(device))

    classify = None if network.classify is None else partial(seen, network.classify)
    return Eyes(name, partial(seen, network.features), classify, network.num_classes, network.statistics)


def plain_eyes() -> Eyes:
    """Return the values of a sample as its features."""
    return Eyes("samples", lambda values: np.asarray(values, np.float64).reshape(len(values), -1))


def eyes_of(source: Source, name: str, stored: tuple[int, ...]) -> Eyes | None:
    """Return the eyes of a job; None for features "none", and for "auto" if no features suit the samples.

    Args:
        stored: the shape of a stored sample: (height, width, channels) for pictures as bytes.

    Raises:
        ValueError: the name is unknown, or the network does not take such samples. ImportError: a package is missing.
    """
    if name not in FEATURES:
        raise ValueError(unknown("features", name, FEATURES))
    testbed, device = source.testbed, getattr(source.testbed.like, "device", "cpu")
    pictures = source.pictures and len(stored) == 3 and stored[-1] in (1, 3)
    if name == "auto":
        own = (
            testbed.name
            if testbed.name in feature_networks.CLASSIFIERS
            else "digits"
            if testbed.name.startswith("digits-")
            else ""
        )
        small = not source.pictures and int(np.prod(stored)) <= _SMALL
        name = own if own and feature_networks.has_weights(own) and pictures else "samples" if small else "none"
    if name == "none":
        return None
    if name == "samples":
        return plain_eyes()
    if not pictures:
        raise ValueError(
            f"features={name!r} sees pictures as bytes, and samples of this format are none: take 'none' or 'samples'"
        )
    return network_eyes(name, (stored[-1], *stored[:2]), device)
