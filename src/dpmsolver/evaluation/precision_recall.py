"""Precision and recall of samples: how many samples lie among the data, and how many data lie among the samples.

Each set is represented by the union of balls around its points. The radius of a ball is the distance to the k-th neighbour in the same set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["precision_recall"]

_BLOCK = 2**24  # distances of a block: 128 MiB


def precision_recall(data: ArrayLike, samples: ArrayLike, neighbours: int = 3) -> tuple[float, float]:
    """Return the precision, the share of samples in the balls of the data, and the recall, the share of data in those of the samples.

    Args:
        data, samples: features (n, d) and (m, d), both with more rows than `neighbours`. The time grows as (n + m)^2 d.
        neighbours: k, usually 3.

    Raises:
        ValueError: the shapes do not fit, or there are too few rows.

    Examples:
        >>> import numpy as np
        >>> data = np.random.default_rng(0).standard_normal((500, 2))
        >>> precision_recall(data, 0.01 * data)[1] < 0.1 < precision_recall(data, 0.01 * data)[0]
        True

    Source: Kynkäänniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2.
    """
    sets = [np.asarray(each, dtype=np.float64) for each in (data, samples)]
    if any(each.ndim != 2 for each in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(f"data and samples are features (n, d) of one width, got {sets[0].shape} and {sets[1].shape}")
    if min(map(len, sets)) <= neighbours or neighbours < 1:
        raise ValueError(f"{neighbours} neighbours need more rows than that, got {len(sets[0])} and {len(sets[1])}")
    known, made = sets
    return _share_within(known, made, neighbours), _share_within(made, known, neighbours)


def _share_within(balls: NDArray[Any], points: NDArray[Any], neighbours: int) -> float:
    """The share of points that lie in a ball around one of `balls`."""
    radii = np.concatenate(
        [np.partition(block, neighbours, axis=1)[:, neighbours] for block in _distances(balls, balls)]
    )
    return float(np.mean(np.concatenate([(block <= radii).any(axis=1) for block in _distances(points, balls)])))


def _distances(rows: NDArray[Any], columns: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Squared distances of rows to columns, block by block."""
    own, others = np.square(rows).sum(axis=1), np.square(columns).sum(axis=1)
    step = max(1, _BLOCK // len(columns))
    for at in range(0, len(rows), step):
        part = slice(at, at + step)
        yield np.maximum(own[part, None] - 2.0 * rows[part] @ columns.T + others, 0.0)
