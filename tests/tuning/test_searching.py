"""The search over times: never worse than its start, by whatever is the judge."""

from __future__ import annotations

from laws import END, SCHEDULE

from dpmsolver.solvers import make_plan
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.searching import searched
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught


def test_the_result_is_never_worse(peaks: list[Taught]) -> None:
    """And better here, where the start has not been fitted."""
    table = Table.of(make_plan("dpm++2m", SCHEDULE, 4, end=END))

    def judged(each: Table) -> float:
        return float(end_errors(each, peaks[1:], Miss()).mean())

    found = searched(table, peaks[:1], SCHEDULE, Miss(), judged, 1e-4, 12)
    assert judged(found) < judged(table)
    assert (found.points[0], found.points[-1]) == (table.points[0], table.points[-1])


def test_a_start_that_nothing_beats_is_kept(peaks: list[Taught]) -> None:
    table = Table.of(make_plan("dpm++2m", SCHEDULE, 4, end=END))
    assert searched(table, peaks, SCHEDULE, Miss(), lambda each: float(each is not table), 1e-4, 8) is table
