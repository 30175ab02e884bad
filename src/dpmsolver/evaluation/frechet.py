"""The Frechet distance between two sets of features, each described by its mean and covariance.

For two Gaussians N(mu_a, C_a) and N(mu_b, C_b) the squared 2-Wasserstein distance is

    d^2 = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})

(Dowson & Landau 1982). For Inception features d^2 is the FID (Heusel et al. 2017). As there, d^2 itself is called the distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from dpmsolver.evaluation.intervals import Interval, centred_interval, resampled_rows

__all__ = [
    "feature_statistics",
    "frechet_bias",
    "frechet_distance",
    "frechet_distance_between",
    "frechet_distance_to",
    "frechet_interval",
    "frechet_replicates",
]

Floats = NDArray[np.float64]


def feature_statistics(features: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the unbiased covariance of features, in float64.

    Args:
        features: real numbers (n, d): n >= 2 samples of d >= 1 features.

    Returns:
        The mean (d,), in the unit of the features, and the covariance (d, d), in that unit squared, divided by n - 1.

    Raises:
        ValueError: the shape is wrong, there are fewer than two rows, or entries are not finite real numbers.

    Examples:
        >>> mean, covariance = feature_statistics([[0.0, 1.0], [2.0, 1.0]])
        >>> mean.tolist(), covariance.tolist()
        ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])

    Source: Heusel et al. 2017, arXiv 1706.08500, eq. 6 (its m and C).
    """
    return _moments(_validated(features, "features"))


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Return the Frechet distance d^2 between two sets of features. It is symmetric, never negative, and 0 for a set and itself.

    It is biased upwards, by an amount that falls as the sets grow: compare only distances between sets of equal sizes.

    Args:
        features_a: real numbers (n, d), n >= 2.
        features_b: real numbers (m, d), m >= 2; m may differ from n.

    Returns:
        d^2, in the unit of the features squared.

    Raises:
        ValueError: `feature_statistics` refuses a set, or the sets have different widths d.

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
    return _distance(mean_a, covariance_a, mean_b, _square_root(covariance_b))


def frechet_distance_to(features: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> float:
    """Return the Frechet distance d^2 between a set of features and statistics, such as those of a training set.

    Args:
        features: real numbers (n, d), n >= 2.
        mean, covariance: the statistics (d,) and (d, d), from `feature_statistics`.

    Returns:
        d^2, in the unit of the features squared.

    Raises:
        ValueError: `feature_statistics` refuses the features, or the statistics are not finite, not symmetric or of another width.

    Examples:
        >>> frechet_distance_to([[-1.0], [1.0]], [3.0], [[2.0]])
        9.0
    """
    values = _validated(features, "features")
    centre, matrix = _validated_statistics(mean, covariance, values.shape[1])
    return _distance(*_moments(values), centre, _square_root(matrix))


def frechet_distance_between(
    mean_a: ArrayLike, covariance_a: ArrayLike, mean_b: ArrayLike, covariance_b: ArrayLike
) -> float:
    """Return the Frechet distance d^2 between two sets of features from their means (d,) and covariances (d, d).

    Returns:
        d^2, in the unit of the features squared.

    Raises:
        ValueError: the statistics are not finite, not symmetric, or of different widths.

    Examples:
        >>> frechet_distance_between([0.0], [[2.0]], [3.0], [[2.0]])
        9.0
    """
    width = len(np.asarray(mean_b))
    (centre_a, matrix_a), (centre_b, matrix_b) = (
        _validated_statistics(mean, covariance, width)
        for mean, covariance in ((mean_a, covariance_a), (mean_b, covariance_b))
    )
    return _distance(centre_a, matrix_a, centre_b, _square_root(matrix_b))


def frechet_replicates(
    features: ArrayLike, mean: ArrayLike, covariance: ArrayLike, *, resamples: int = 200, seed: int = 0, strata: int = 1
) -> Floats:
    """Return bootstrap replicates of the Frechet distance to statistics: values that it might have for other sets of as many samples.

    A resampled set differs from the statistics by the error of its set and by one more error of the same size. Its distance is therefore
    too large, by about the distance that a set of n samples has even from its own distribution. If that part dominates, the replicates also
    vary too much, with a variance V of up to three times the right one. With D the variance of the distances to the statistics of the set
    itself, which have only that part, V - 2 D is right. So the replicates are shifted, to have the distance of the set as their mean, and
    scaled, to have this variance.

    Sets of n samples each are resampled by the same rows, for the same n, resamples, seed and strata: what samples from the same noise have
    in common cancels from differences and ratios of their replicates.

    Args:
        features, mean, covariance: as in `frechet_distance_to`. strata: as in `resampled_rows`.
        resamples: the number of replicates. One takes milliseconds with 64 features and seconds with 2048; take 20 to 40 of the latter.

    Returns:
        The replicates, float64 (resamples,), with the distance of the set as their mean. Some may be negative if it is close to 0.

    Raises:
        ValueError: `frechet_distance_to` refuses the arguments, or there are fewer than two resamples.
    """
    values = _validated(features, "features")
    centre, matrix = _validated_statistics(mean, covariance, values.shape[1])
    value = frechet_distance_to(values, centre, matrix)
    away, within = (
        np.array([resampled(rows) for rows in resampled_rows(len(values), resamples, seed, strata)])
        for resampled in (_Resampled(values, centre, matrix), _Resampled(values, *_moments(values)))
    )
    spread, smallest = away.var(), within.var()
    right = max(spread - 2.0 * smallest, smallest)
    return np.asarray(value + (away - away.mean()) * np.sqrt(right / spread if spread else 0.0))


def frechet_bias(features: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> float:
    """Return the bias of a Frechet distance from the finite number of samples, estimated by the increase when that number is halved.

    The bias is nearly c/n, so halving the samples adds it once more. Samples of classes that take turns are cut into quarters of the whole,
    whose pairs are the halves, so that each has all classes.

    Args:
        features, mean, covariance: as in `frechet_distance_to`, of at least 8 rows.

    Raises:
        ValueError: `frechet_distance_to` refuses the arguments, or there are fewer rows.

    Examples:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).standard_normal((1000, 4))
        >>> [round(frechet_bias(features[:n], np.full(4, 0.5), np.eye(4)), 3) for n in (100, 1000)]
        [0.099, 0.007]

    Source: Chong & Forsyth 2020, arXiv 1911.07023, for the bias of order 1/n.
    """
    values = _validated(features, "features")
    if len(values) < 8:
        raise ValueError(f"features must have at least 8 rows to tell their bias, got {len(values)}")
    quarters = np.array_split(values, 4)
    halves = [
        np.concatenate([quarters[i] for i in chosen])
        for other in (1, 2, 3)
        for chosen in ((0, other), sorted({1, 2, 3} - {other}))
    ]
    whole = frechet_distance_to(values, mean, covariance)
    return float(np.mean([frechet_distance_to(half, mean, covariance) for half in halves]) - whole)


def frechet_interval(
    features: ArrayLike,
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    resamples: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return the Frechet distance to statistics, with the interval of `frechet_replicates`.

    It is the interval of the distance that sets of n samples have on average, which is larger than that of infinitely many samples.

    Args:
        features, mean, covariance, resamples, seed: as in `frechet_replicates`.

    Raises:
        ValueError: `frechet_replicates` refuses the arguments.

    Examples:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).standard_normal((500, 4))
        >>> print(frechet_interval(features, np.full(4, 0.5), np.eye(4)))
        1.133 (0.952 to 1.327)
    """
    value = frechet_distance_to(features, mean, covariance)
    drawn = frechet_replicates(features, mean, covariance, resamples=resamples, seed=seed)
    return centred_interval(value, drawn, confidence)


class _Resampled:
    """The Frechet distance to statistics of chosen rows of features, with all that does not depend on the choice made before."""

    def __init__(self, features: Floats, mean: Floats, covariance: Floats) -> None:
        self.values = features - mean
        # tr (C_a C_b)^{1/2} is the sum of the roots of the eigenvalues of R C_a R, the covariance of the features times R = C_b^{1/2}.
        self.turned = self.values @ _square_root(covariance)
        self.norms = np.square(self.values).sum(axis=1)
        self.trace = float(np.trace(covariance))

    def __call__(self, rows: NDArray[np.int64]) -> float:
        num, width = self.values.shape
        chosen, counts = np.unique(rows, return_counts=True)
        difference = counts @ self.values[chosen] / num
        own = (counts @ self.norms[chosen] - num * difference @ difference) / (num - 1)  # tr C_a
        turned = self.turned[chosen]
        middle = (turned - counts @ turned / num) * np.sqrt(counts / (num - 1))[:, None]
        # The eigenvalues that are not 0 are the same for both products.
        product = middle.T @ middle if len(chosen) >= width else middle @ middle.T
        overlap = np.sqrt(linalg.eigvalsh(product).clip(min=0.0)).sum()
        return float(difference @ difference + own + self.trace - 2.0 * overlap)


def _distance(mean_a: Floats, covariance_a: Floats, mean_b: Floats, root_b: Floats) -> float:
    """d^2, with the second covariance given by its square root."""
    # The eigenvalues of sqrt(C_a) C_b sqrt(C_a) are the squared singular values of sqrt(C_a) sqrt(C_b). Taking the
    # latter keeps the small ones: rounding of size eps in an eigenvalue would be sqrt(eps) in its root.
    overlap = linalg.svdvals(_square_root(covariance_a) @ root_b).sum()
    difference = mean_a - mean_b
    distance = difference @ difference + np.trace(covariance_a) + np.square(root_b).sum() - 2.0 * overlap
    return max(0.0, float(distance))


def _validated_statistics(mean: ArrayLike, covariance: ArrayLike, width: int) -> tuple[Floats, Floats]:
    """Float64 copies, or a ValueError."""
    centre, matrix = np.array(mean, dtype=np.float64), np.array(covariance, dtype=np.float64)
    if centre.shape != (width,) or matrix.shape != (width, width):
        raise ValueError(
            f"mean and covariance must be ({width},) and ({width}, {width}) as the features are, got {centre.shape}, {matrix.shape}"
        )
    if not (np.isfinite(centre).all() and np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)):
        raise ValueError("mean and covariance must be finite, and the covariance symmetric")
    return centre, matrix


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
