"""Least squares: the rows of a table fitted to trajectories, one after the other.

Row k is the ridge regression of the trajectory's next state on the run's own input and outputs so far, pulled to coefficients that are
known to be good. So each row corrects what the rows before it did wrong, and the last one leads to the end. The products of the
regressors, (k + 3) x (k + 3) numbers, are summed over the batches in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dpmsolver.schedules import Floats
from dpmsolver.tuning.misses import Miss
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught

__all__ = ["fit_rows", "mean_products", "pulled_least_squares"]


def fit_rows(table: Table, taught: Sequence[Taught], miss: Miss, ridge: float) -> Table:
    """Return the table with rows fitted on its points.

    Args:
        table: the rows are pulled towards its coefficients.
        ridge: the strength of the pull, in units of the mean square of each regressor.
    """
    states: list[Any] = [table.start(part) for part, _ in taught]
    outputs: list[tuple[Any, ...]] = [() for _ in taught]
    rows: list[Floats] = []
    for point, target, theory in zip(table.points, table.points[1:], table.rows, strict=False):
        noise = _noise_products(replace(table, rows=(*rows, theory)), len(rows)) if miss.plain else 0.0
        total: Any = np.zeros((len(theory) + 1, len(theory) + 1))
        for i, (part, lesson) in enumerate(taught):
            outputs[i] = (part(states[i], point), *outputs[i])
            vectors = miss.along(part, lesson.at(part, target), [states[i], *outputs[i]])
            total = sum(mean_products(vectors) + noise, start=total)
        row = theory + pulled_least_squares(total / sum(len(part) for part, _ in taught), theory, ridge)
        states = [part.combine(row, [x, *m]) for (part, _), x, m in zip(taught, states, outputs, strict=True)]
        rows.append(row)
    return replace(table, rows=tuple(rows))


def _noise_products(table: Table, k: int) -> Floats:
    """Return the mean products of the effects that output errors have on the regressors of row k; the target's is zero."""
    start = replace(table, points=table.points[: k + 2])
    state = start.noise()[k]
    outputs = [replace(start, rows=(*table.rows[:k], np.eye(k + 2)[1 + i])).noise()[-1] for i in range(k + 1)]
    vectors = np.stack([state, *outputs, np.zeros(k + 1)])
    found: Floats = vectors @ vectors.T
    return found


def mean_products(vectors: Floats) -> Floats:
    """Return the mean products (B, r, r) of each sample's r vectors, from (B, r, d)."""
    found: Floats = vectors @ vectors.transpose(0, 2, 1) / vectors.shape[-1]
    return found


def pulled_least_squares(products: Floats, theory: Floats, ridge: float) -> Floats:
    """Return the change of coefficients that brings sum_j theta_j r_j nearest to the last vector, in the mean square over samples.

    Args:
        products: (r + 1, r + 1), the mean over samples of the products of the regressors and, last, of the target.
        theory: (r,), the coefficients from which theta starts.
    """
    own: Any = products[:-1, :-1]
    wanted = products[:-1, -1] - own @ theory
    change: Floats = np.linalg.lstsq(own + ridge * np.diag(np.diag(own)), wanted, rcond=None)[0]
    return change
