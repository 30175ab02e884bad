"""Refining: Gauss-Newton with damping on all coefficients and times of a table, for the end of the run.

The derivative of the end by each number is a forward difference: the run is repeated from where the number acts, with the number moved.
No gradient of the network is needed, and a difference costs half a run on average. The same differences serve for several steps while
these improve the table: a further step costs one run.

Moving a time moves the network's label with it. A label apart from its time would add nothing: what the network returns is made the
predicted x_0 by two numbers, and the coefficients, which are free, absorb those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dpmsolver.plans.rows import Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.tuning.fitting import mean_products
from dpmsolver.tuning.misses import Miss, root_mean_square
from dpmsolver.tuning.parts import Part
from dpmsolver.tuning.table import Table, abreast
from dpmsolver.tuning.teacher import Taught

__all__ = ["jacobian_cost", "refined"]

_MOVE = 1e-3  # of the state's size: how far a coefficient's regressor moves the state for its difference
_TIME_MOVE = 1e-2  # in half-log-SNR
_LARGEST = 0.4  # in half-log-SNR: how far a time goes at once
_ROUNDS = 8  # of reweighting
# In units of each number's own mean square: all of them at first, then the neighbours.
_DAMPINGS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_WORTH = 0.995  # a step has to bring this much


class _Number(NamedTuple):
    """A number that is fitted: a coefficient of row `row`, or (place -1) the time of its point."""

    row: int
    place: int


def jacobian_cost(nfe: int) -> int:
    """Return the network evaluations that all derivatives of a sample take, with the run that they start from."""
    coefficients = sum((k + 2) * (nfe - k - 1) for k in range(nfe))
    return nfe + coefficients + sum(nfe - k for k in range(1, nfe))


def refined(
    table: Table,
    taught: Sequence[Taught],
    schedule: NoiseSchedule,
    miss: Miss,
    judged: Callable[[Sequence[Table]], Sequence[float]],
    *,
    times: bool,
) -> Iterator[Table]:
    """Yield improved tables, each from new derivatives, until these bring no improvement.

    Args:
        judged: the error by which a step is accepted, on noises to which nothing is fitted.
        times: whether times move too.
    """
    (best,), tried = judged([table]), range(len(_DAMPINGS))
    while True:
        numbers, every = _derivatives(table, taught, schedule, miss, times)
        noise = _noise(table, schedule, numbers) if miss.plain else np.zeros((len(numbers) + 1, 1))
        started = best
        while True:
            products = np.concatenate([mean_products(vectors) for vectors in every]) + noise @ noise.T
            moved = {i: _moved(table, schedule, numbers, _step(products, _DAMPINGS[i])) for i in tried}
            error, nearest = min(zip(judged(list(moved.values())), moved, strict=True))
            if not error < _WORTH * best:
                break
            table, best = moved[nearest], error
            tried = range(max(nearest - 1, 0), min(nearest + 2, len(_DAMPINGS)))
            for vectors, (part, lesson) in zip(every, taught, strict=True):
                vectors[:, -1] = -miss(part, table.run(part), lesson.end)
            noise[-1] = -table.noise()[-1] if miss.plain else 0.0
        if best == started:
            return
        yield table


def _derivatives(
    table: Table, taught: Sequence[Taught], schedule: NoiseSchedule, miss: Miss, times: bool
) -> tuple[list[_Number], list[Floats]]:
    """Return the fitted numbers, and for each part the end's derivatives by them and, last, the miss to remove: (B, numbers + 1, d)."""
    every = [_differences(table, part, lesson.end, schedule, miss, times) for part, lesson in taught]
    return every[0][0], [vectors for _, vectors in every]


def _differences(
    table: Table, part: Part, reference: Any, schedule: NoiseSchedule, miss: Miss, times: bool
) -> tuple[list[_Number], Floats]:
    states = [table.start(part)]
    outputs: list[tuple[Any, ...]] = [()]
    for point, row in zip(table.points, table.rows, strict=False):
        outputs.append((part(states[-1], point), *outputs[-1]))
        states.append(part.combine(row, [states[-1], *outputs[-1]]))
    end = miss(part, states[-1], reference)
    numbers: list[_Number] = []
    vectors = np.empty((len(part), sum(map(len, table.rows)) + table.nfe, end.shape[1]))  # as many as there may be
    for k in range(table.nfe):
        target, size = states[k + 1], root_mean_square(part.flat(states[k + 1]))
        arrays = (states[k], *outputs[k + 1])
        moves = [_MOVE * size / max(root_mean_square(part.flat(array)), 1e-30) for array in arrays]
        starts = [part.combine([1.0, move], [target, array]) for move, array in zip(moves, arrays, strict=True)]
        count = len(arrays)
        ends = abreast(part, [table] * count, k + 1, starts, [outputs[k + 1]] * count)
        for at, (moved, move) in enumerate(zip(ends, moves, strict=True)):
            vectors[:, len(numbers)] = (miss(part, moved, reference) - end) / move
            numbers.append(_Number(k, at))
        if times and k > 0:
            other, move = _later(table, schedule, k, _TIME_MOVE)
            if move:
                moved = other.resume(part, k, states[k], outputs[k])
                vectors[:, len(numbers)] = (miss(part, moved, reference) - end) / move
                numbers.append(_Number(k, -1))
    vectors[:, len(numbers)] = -end
    return numbers, vectors[:, : len(numbers) + 1]


def _noise(table: Table, schedule: NoiseSchedule, numbers: Sequence[_Number]) -> Floats:
    """Return the same for the effect of output errors on the end, which is minimised too: (numbers + 1, nfe)."""
    here = table.noise()[-1]
    found = []
    for number in numbers:
        move = np.array([_TIME_MOVE if each is number else 0.0 for each in numbers])
        found.append((_moved(table, schedule, numbers, move).noise()[-1] - here) / _TIME_MOVE)
    return np.stack([*found, -here])


def _later(table: Table, schedule: NoiseSchedule, k: int, move: float) -> tuple[Table, float]:
    """Return the table with point k moved in half-log-SNR as far as its neighbours allow, and the distance moved."""
    here = table.points[k].half_log_snr
    low, high = table.points[k - 1].half_log_snr, table.points[k + 1].half_log_snr
    highest = float(schedule.half_log_snr(schedule.t_min))
    wanted = here + float(np.clip(move, -_LARGEST, _LARGEST))
    reached = min(
        max(wanted, low + 0.1 * (here - low)) if np.isfinite(low) else wanted, here + 0.9 * (high - here), highest
    )
    points = list(table.points)
    points[k] = Point.at(schedule, float(schedule.time(reached)))
    return replace(table, points=tuple(points)), reached - here


def _step(products: Floats, damping: float) -> Floats:
    """Return the change of all numbers that minimises the mean error of the samples to first order, by reweighted least squares."""
    errors = np.sqrt(products[:, -1, -1])
    change = np.zeros(products.shape[1] - 1)
    for _ in range(_ROUNDS):
        weights = 1.0 / np.maximum(errors, 0.1 * np.median(errors) + 1e-30)
        total = np.einsum("b,bij->ij", weights / weights.sum(), products)
        own = total[:-1, :-1]
        change = np.linalg.lstsq(own + damping * np.diag(np.diag(own)), total[:-1, -1], rcond=None)[0]
        rest = np.append(-change, 1.0)
        errors = np.sqrt(np.maximum(np.einsum("i,bij,j->b", rest, products, rest), 0.0))
    return change


def _moved(table: Table, schedule: NoiseSchedule, numbers: Sequence[_Number], change: Floats) -> Table:
    rows = [row.copy() for row in table.rows]
    for (k, place), move in zip(numbers, change.tolist(), strict=True):
        if place < 0:
            table, _ = _later(table, schedule, k, move)
        else:
            rows[k][place] += move
    return replace(table, rows=tuple(rows))
