"""Distances of samples: to the exact trajectories from the same noise, and between the distributions of samples and data.

Samples are NumPy arrays or torch tensors (n, …). All computations are in float64, and values that are not finite are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from dpmsolver.host import to_host

__all__ = ["decibels", "energy_distance", "sliced_wasserstein", "trajectory_error"]

Floats = NDArray[np.float64]

_BLOCK = 2**22  # distances that are held at once: 32 MiB


def trajectory_error(samples: Any, reference: Any) -> Floats:
    """Return the error of each sample: the root mean square distance, over its coordinates, to a reference from the same noise.

    Args:
        samples, reference: arrays of one shape (n, …).

    Returns:
        The errors, float64 (n,), in the unit of the samples.

    Raises:
        ValueError: the shapes differ, there are no samples, or values are NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> trajectory_error(np.zeros((2, 4)), np.ones((2, 4)) * [[1.0], [2.0]])
        array([1., 2.])
    """
    a, b = _flat(samples, "samples"), _flat(reference, "reference")
    if np.shape(samples) != np.shape(reference):
        raise ValueError(
            f"samples and reference must have one shape, got {tuple(samples.shape)}, {tuple(reference.shape)}"
        )
    return np.asarray(np.sqrt(np.square(a - b).mean(axis=1)))


def decibels(errors: ArrayLike, peak: float = 2.0) -> Floats:
    """Return errors as signal-to-error ratios: 20 log10(peak / error), of the shape of the errors, infinite for an error of 0.

    Args:
        errors: RMS errors >= 0.
        peak: the size of the signal, in the unit of the errors. For pictures with pixels in [-1, 1] it is 2, from peak to peak, and the
            ratio is the PSNR. For other data, give their standard deviation.

    Raises:
        ValueError: an error is negative or NaN, or the peak is not positive.

    Examples:
        >>> decibels([0.2, 0.02])
        array([20., 40.])
    """
    values = np.asarray(errors, dtype=np.float64)
    if not (values >= 0.0).all():
        raise ValueError("errors must be >= 0 and not NaN")
    if not (np.isfinite(peak) and peak > 0.0):
        raise ValueError(f"peak must be positive, got {peak!r}")
    with np.errstate(divide="ignore"):
        return np.asarray(20.0 * np.log10(peak / values))


def sliced_wasserstein(a: Any, b: Any, projections: int = 128, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance of two sets: the root mean square, over directions, of W2 between their projections.

    In one dimension W2 is the root mean square distance of the quantile functions, computed exactly for sets of any two sizes. Directions
    are orthonormal in blocks, so that a shift by delta gives exactly |delta|/sqrt(D) if `projections` is a multiple of the dimension D.
    Like every distance between sets it is biased upwards: compare only distances between sets of equal sizes.

    Args:
        a, b: the sets, (n, …) and (m, …).
        projections: the number of directions.
        seed: the seed of the directions.

    Returns:
        The distance, in the unit of the points.

    Raises:
        ValueError: the points have different shapes, a set is empty, values are NaN or infinite, or there are no projections.

    Examples:
        >>> import numpy as np
        >>> points = np.random.default_rng(0).standard_normal((100, 2))
        >>> round(sliced_wasserstein(points, points + [3.0, 4.0]), 12) == round(5.0 / 2**0.5, 12)
        True

    Source: Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", J. Math. Imaging Vision 51 (2015); orthonormal
    directions: Rowland et al., "Orthogonal estimation of Wasserstein distances", AISTATS 2019.
    """
    first, second = _pair(a, b)
    if isinstance(projections, bool) or not isinstance(projections, (int, np.integer)) or projections < 1:
        raise ValueError(f"projections must be an integer >= 1, got {projections!r}")
    take_a, take_b, weights = _matched_quantiles(len(first), len(second))
    squares = [
        weights @ np.square(np.sort(first @ d, axis=0)[take_a] - np.sort(second @ d, axis=0)[take_b])
        for d in _directions(first.shape[1], int(projections), seed)
    ]
    return float(np.sqrt(np.concatenate(squares).mean()))


def energy_distance(a: Any, b: Any) -> float:
    """Return the energy distance of two sets, sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), which is 0 only for equal distributions.

    In one dimension it is scipy.stats.energy_distance. The means include the pairs of a point with itself, so that the distance is never
    negative and is biased upwards: compare only distances between sets of equal sizes.

    Args:
        a, b: the sets, (n, …) and (m, …). The time grows as (n + m)^2, the memory does not.

    Returns:
        The distance, in the root of the unit of the points.

    Raises:
        ValueError: the points have different shapes, a set is empty, or values are NaN or infinite.

    Examples:
        >>> energy_distance([[0.0, 0.0]], [[3.0, 4.0]]) == 10**0.5
        True

    Source: Szekely & Rizzo, "Energy statistics: a class of statistics based on distances", J. Stat. Plan. Inference 143 (2013).
    """
    first, second = _pair(a, b)
    squared = 2.0 * _mean_distance(first, second) - _mean_distance(first, first) - _mean_distance(second, second)
    return float(np.sqrt(max(0.0, squared)))


def _mean_distance(a: Floats, b: Floats) -> float:
    rows = max(1, _BLOCK // len(b))
    return sum(float(cdist(a[i : i + rows], b).sum()) for i in range(0, len(a), rows)) / (len(a) * len(b))


def _directions(dimensions: int, num: int, seed: int) -> Iterator[Floats]:
    """`num` unit vectors as columns of matrices (D, k), k <= D, orthonormal within each."""
    rng = np.random.default_rng(seed)
    for first in range(0, num, dimensions):
        yield np.linalg.qr(rng.standard_normal((dimensions, min(dimensions, num - first))))[0]


def _matched_quantiles(n: int, m: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Where the quantile functions of n and of m sorted points are constant: the index of either's point, and the length."""
    # Levels as multiples of 1/(n m), in integers: no rounding decides which point a level belongs to.
    ends = np.union1d(np.arange(1, n + 1, dtype=np.int64) * m, np.arange(1, m + 1, dtype=np.int64) * n)
    return (ends - 1) // m, (ends - 1) // n, np.diff(ends, prepend=0) / (n * m)


def _pair(a: Any, b: Any) -> tuple[Floats, Floats]:
    first, second = _flat(a, "a"), _flat(b, "b")
    if np.shape(a)[1:] != np.shape(b)[1:]:
        raise ValueError(f"a and b must hold points of one shape, got {np.shape(a)[1:]} and {np.shape(b)[1:]}")
    return first, second


def _flat(points: Any, name: str) -> Floats:
    """Points as float64 (n, D), or a ValueError that calls them `name`."""
    array = points if hasattr(points, "ndim") else np.asarray(points)
    values = np.asarray(to_host(array))
    if values.ndim < 2 or not values.size:
        raise ValueError(f"{name} must be (n, …) with n >= 1 and at least one coordinate, got shape {values.shape}")
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"{name} must be finite, got {int((~finite).sum())} entries that are NaN or infinite")
    return values.reshape(len(values), -1).astype(np.float64)
