"""Searching: a derivative-free search for the times of a table, which refits the rows for each candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dpmsolver.errors import SamplingError
from dpmsolver.plans.rows import Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.tuning.fitting import fit_rows
from dpmsolver.tuning.misses import Miss
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught

__all__ = ["searched"]

_BOTTOM = -7.0  # where half-log-SNR is lower, as at alpha = 0, the search measures gaps from here
_FIRST_MOVE = 0.35  # in the logs of the gaps


def searched(
    table: Table,
    taught: Sequence[Taught],
    schedule: NoiseSchedule,
    miss: Miss,
    judged: Callable[[Table], float],
    ridge: float,
    candidates: int,
) -> Table:
    """Return the best of `candidates` tables, found by Nelder and Mead's simplex over the logs of the gaps between times in half-log-SNR.

    Args:
        table: where the search starts, and whose coefficients the rows of all candidates are pulled to.
        judged: the error by which candidates are compared, on noises to which nothing is fitted.
    """
    from scipy.optimize import minimize  # here, because it is slow to import

    top = float(schedule.half_log_snr(schedule.t_min))
    places = np.clip([p.half_log_snr for p in table.points], _BOTTOM, top + 1.0)
    gaps = np.log(np.diff(places))
    best = [(judged(table), table)]

    def error(logs: Floats) -> float:
        shares = np.cumsum(np.exp(logs - logs.max()))
        inner = places[0] + (places[-1] - places[0]) * shares[:-1] / shares[-1]
        times = schedule.time(np.minimum(inner, top))
        points = (table.points[0], *(Point.at(schedule, t) for t in times.tolist()), table.points[-1])
        if len({p.time for p in points}) < len(points):
            return 10.0 * best[0][0]
        try:
            fitted = fit_rows(replace(table, points=points), taught, miss, ridge)
        except SamplingError:  # times on which the fitted rows diverge
            return 10.0 * best[0][0]
        found = judged(fitted)
        if found < best[0][0]:
            best[0] = (found, fitted)
        return found

    simplex = np.vstack([gaps, gaps + _FIRST_MOVE * np.eye(len(gaps))])
    minimize(error, gaps, method="Nelder-Mead", options={"maxfev": candidates, "initial_simplex": simplex})
    return best[0][1]
