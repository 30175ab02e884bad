"""Refining: only what brings something is accepted, and derivatives are those of the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from laws import END, SCHEDULE

from dpmsolver.solvers import make_plan
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.refining import jacobian_cost, refined
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught


def means(tables: Sequence[Table], taught: list[Taught]) -> list[float]:
    """The mean error of each table."""
    return [float(end_errors(each, taught, Miss()).mean()) for each in tables]


def test_every_table_is_better_than_the_one_before(peaks: list[Taught]) -> None:
    """By the noises that judge steps, which the derivatives do not know."""
    fit, choose = peaks[:1], peaks[1:]
    table = Table.of(make_plan("dpm++2m", SCHEDULE, 4, end=END))
    errors = [end_errors(table, choose, Miss()).mean()]
    for better in refined(table, fit, SCHEDULE, Miss(), lambda tables: means(tables, choose), times=True):
        errors.append(end_errors(better, choose, Miss()).mean())
        falling = [point.time for point in better.points]
        assert falling == sorted(falling, reverse=True)
        if len(errors) > 3:
            break
    assert len(errors) > 1
    assert all(later < earlier for earlier, later in pairwise(errors))


def test_nothing_is_accepted_where_nothing_is_better(peaks: list[Taught]) -> None:
    """A judge that likes the first table best ends the search without another."""
    table = Table.of(make_plan("dpm++2m", SCHEDULE, 4, end=END))
    found = list(
        refined(
            table, peaks, SCHEDULE, Miss(), lambda tables: [float(each is not table) for each in tables], times=False
        )
    )
    assert found == []


def test_times_stay_where_they_shall_stay(peaks: list[Taught]) -> None:
    """A network that takes whole steps keeps its grid."""
    table = Table.of(make_plan("dpm++2m", SCHEDULE, 4, end=END))
    better = next(refined(table, peaks, SCHEDULE, Miss(), lambda tables: means(tables, peaks), times=False))
    assert better.points == table.points
    assert not all(np.array_equal(a, b) for a, b in zip(better.rows, table.rows, strict=True))


def test_derivatives_cost_what_is_said(peaks: list[Taught]) -> None:
    """Evaluations of a sample: counted, up to the runs that try steps."""
    part = peaks[0].part
    table = Table.of(make_plan("dpm++2m", SCHEDULE, 4, end=END))
    before = part._noises.evaluations
    list(
        refined(
            table, peaks[:1], SCHEDULE, Miss(), lambda tables: [float(each is not table) for each in tables], times=True
        )
    )
    assert part._noises.evaluations - before == jacobian_cost(4) * len(part)
