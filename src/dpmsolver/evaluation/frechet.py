"""The Frechet distance between two sets of features, each summed up by its mean and covariance.

For two Gaussians N(mu_a, C_a) and N(mu_b, C_b) the squared 2-Wasserstein distance is

    d^2 = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})

(Dowson & Landau 1982). On Inception features d^2 is the FID (Heusel et al. 2017); as there, d^2 is what is called the
distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

__all__ = ["feature_statistics", "frechet_distance"]


def feature_statistics(features: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and unbiased covariance of features, in float64.

    Args:
        features: real numbers (n, d): n >= 2 samples of d >= 1 features.

    Returns:
        The mean (d,), in the unit of the features, and the covariance (d, d), in that unit squared, divided by n - 1.

    Raises:
        ValueError: another shape, fewer than two rows, NaN or infinity, or entries that are not real numbers.

    Examples:
        >>> mean, covariance = feature_statistics([[0.0, 1.0], [2.0, 1.0]])
        >>> mean.tolist(), covariance.tolist()
        ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])

    Source: Heusel et al. 2017, arXiv 1706.08500, eq. 6 (its m and C).
    """
    return _moments(_validated(features, "features"))


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """The Frechet distance d^2 between two sets of features: symmetric, never negative, 0 for a set and itself.

    It is biased upwards, by an amount that falls as the sets grow: compare only distances between sets of equal sizes.

    Args:
        features_a: real numbers (n, d), n >= 2.
        features_b: real numbers (m, d), m >= 2; m may differ from n.

    Returns:
        d^2, in the unit of the features squared.

    Raises:
        ValueError: what `feature_statistics` refuses, or sets of different width d.

    Examples:
        >>> frechet_distance([[-1.0], [1.0]], [[2.0], [4.0]])
        9.0

    Source: Dowson & Landau, "The Frechet distance between multivariate normal distributions", J. Multivariate Anal. 12
    (1982) 450-455; Heusel et al. 2017, arXiv 1706.08500, eq. 6.
    """
    mean_a, covariance_a = _moments(_validated(features_a, "features_a"))
    mean_b, covariance_b = _moments(_validated(features_b, "features_b"))
    if mean_a.shape != mean_b.shape:
        raise ValueError(f"features_a and features_b must have the same width, got {len(mean_a)} and {len(mean_b)}")
    # The eigenvalues of sqrt(C_a) C_b sqrt(C_a) are the squared singular values of sqrt(C_a) sqrt(C_b). Taking the
    # latter keeps the small ones: rounding of size eps in an eigenvalue would be sqrt(eps) in its root.
    overlap = linalg.svdvals(_square_root(covariance_a) @ _square_root(covariance_b)).sum()
    difference = mean_a - mean_b
    distance = difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * overlap
    return max(0.0, float(distance))


def _validated(features: ArrayLike, name: str) -> NDArray[np.float64]:
    """A float64 copy of the features, or a ValueError that calls them `name`."""
    given = np.asarray(features)
    if given.ndim != 2 or given.shape[1] < 1:
        raise ValueError(f"{name} must have shape (samples, features), got {given.shape}")
    if given.shape[0] < 2:
        raise ValueError(f"{name} must have at least 2 rows for a covariance, got {given.shape[0]}")
    if given.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be real numbers, got {given.dtype}")
    values = given.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"{name} must be finite, got {int((~finite).sum())} entries that are NaN or infinite")
    return values


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean: NDArray[np.float64] = values.mean(axis=0)
    # Centred first: the difference of raw moments would lose the digits of a mean far from zero.
    centred = values - mean
    return mean, centred.T @ centred / (len(values) - 1)


def _square_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric square root; eigenvalues within rounding of zero, of either sign, count as zero."""
    eigenvalues, vectors = linalg.eigh(covariance)
    # Where samples are fewer than features, the null directions come out as +-eps, whose roots would be sqrt(eps).
    rounding = len(eigenvalues) * np.finfo(np.float64).eps * max(0.0, eigenvalues[-1])
    root: NDArray[np.float64] = (vectors * np.sqrt(np.where(eigenvalues > rounding, eigenvalues, 0.0))) @ vectors.T
    return root
