"""Ablation: what each stage of a fit brings, how many noises and how much ridge it takes, and runs that a plan was not made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from benchmarks.tuning.cases import Case, Judges, fitted, halved, known, said, update
from dpmsolver.schedules import Floats
from dpmsolver.tuning.course import Course
from dpmsolver.tuning.fitting import fit_rows
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.refining import refined
from dpmsolver.tuning.searching import searched
from dpmsolver.tuning.selecting import presets, ranked
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Lesson, Taught

__all__ = ["RIDGES", "measure", "refit"]

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
COUNTS = (4, 8, 16, 32, 64, 128, 256, 512)
_UNIT = COUNTS[0]  # noises in a part
_MISS = Miss()
_STEPS = 3  # derivatives at most for one refinement


def measure(case: Case, nfes: Sequence[int] = ()) -> None:
    """Measure a case, at some budgets or all, and write its figures down after each part."""
    case = case if case.slow else replace(case, effort="minutes", noises=512)  # what a stage brings shows with less
    figures = known("ablation", case.name, {"judges": case.judges, "noises": case.noises})
    judges = Judges(case)

    def once(key: str, nfe: int, made: Callable[[], Any]) -> None:
        of_key = figures.setdefault(key, {})
        if str(nfe) not in of_key:
            of_key[str(nfe)] = made()
            update("ablation", case.name, figures)
            print(case.name, nfe, key, of_key[str(nfe)], flush=True)

    for nfe in nfes or ((5,) if case.pictures else (5, 8)):
        once("stages", nfe, lambda nfe=nfe: _stages(case, judges, nfe))  # type: ignore[misc]
        if judges.testbed.num_classes is not None:
            once("classes", nfe, lambda nfe=nfe: _classes(case, nfe))  # type: ignore[misc]
            once("guidance", nfe, lambda nfe=nfe: _guidance(case, nfe))  # type: ignore[misc]
        if case.pictures:
            once("bfloat16", nfe, lambda nfe=nfe: _bfloat16(case, nfe))  # type: ignore[misc]
        elif nfe == 5 and "mixture" in case.name:
            once("counts", nfe, lambda nfe=nfe: _counts(case, judges, nfe))  # type: ignore[misc]


def _stages(case: Case, judges: Judges, nfe: int) -> dict[str, Any]:
    """Each stage alone and together; each with the evaluations of single samples that it took beside the teacher."""
    noises = case.some(judges.testbed, 0, case.noises)
    course = Course(noises, None, 32, range(case.noises))
    course.prepare(nfe)
    thirds = course.thirds()
    fit, choose = (course.taught(numbers, nfe) for numbers in (thirds.fit, thirds.choose))
    schedule, found, begin = judges.testbed.schedule, {}, noises.evaluations

    judged, judged_all = _judges(choose)

    def note(name: str, table: Table) -> Table:
        nonlocal begin
        found[name] = {**said(judges.of_table(table)), "evaluations": noises.evaluations - begin}
        begin = noises.evaluations
        return table

    best = ranked(list(presets(judges.denoiser, nfe, None)), [*choose, *fit], _MISS)
    selected = note("selected preset", best[0].table)
    ridges = {ridge: fit_rows(selected, fit, _MISS, ridge) for ridge in RIDGES}
    rows = note("rows by least squares", min(ridges.values(), key=judged))
    at = searched(rows, fit, schedule, _MISS, judged, RIDGES[0], 20_000 // (nfe * len(thirds.fit)) + 30)
    note("rows by least squares, times searched", at)
    note("rows refined, times fixed", _last(refined(rows, fit, schedule, _MISS, judged_all, times=False), rows))
    note("rows and times refined", _last(refined(rows, fit, schedule, _MISS, judged_all, times=True), rows))
    note("times searched, then all refined", _last(refined(at, fit, schedule, _MISS, judged_all, times=True), at))
    tuned = fitted(case, nfe)
    found["tune"] = {**said(judges.of_table(Table.of(tuned.plan))), "evaluations": tuned.report.evaluations}
    ridge = {f"{r:g}": said(judges.of_table(table)) for r, table in ridges.items()}
    return {"stages": found, "ridge": ridge}


def _judges(
    choose: Sequence[Taught],
) -> tuple[Callable[[Table], float], Callable[[Sequence[Table]], list[float]]]:
    """The mean error of a table on noises, and of several."""

    def judged(table: Table) -> float:
        return float(end_errors(table, choose, _MISS).mean())

    return judged, lambda tables: [judged(table) for table in tables]


def _last(tables: Any, start: Table, most: int = _STEPS) -> Table:
    found = start
    for found in islice(tables, most):  # noqa: B007
        pass
    return found


def _counts(case: Case, judges: Judges, nfe: int) -> dict[str, Any]:
    """Rows by least squares, and refined with times, by the number of noises that they are fitted to; half as many more choose."""
    counts = COUNTS[:6] if case.slow else COUNTS
    noises = case.some(judges.testbed, 0, counts[-1] + counts[-1] // 2)
    end, schedule = judges.end(nfe), judges.testbed.schedule
    every = [Taught(part, Lesson.given(part, end)) for part in noises.parts(range(counts[-1]), _UNIT)]
    others = [
        Taught(part, Lesson.given(part, end)) for part in noises.parts(range(counts[-1], len(noises)), _UNIT // 2)
    ]
    base = ranked(list(presets(judges.denoiser, nfe, None)), every, _MISS)[0].table
    found = {}
    for count in counts:
        fit, choose = every[: count // _UNIT], others[: count // _UNIT]
        rows, final = refit(base, fit, choose, schedule)
        found[str(count)] = {"rows": said(judges.of_table(rows)), "refined": said(judges.of_table(final))}
    return found


def refit(table: Table, fit: Sequence[Taught], choose: Sequence[Taught], schedule: Any) -> tuple[Table, Table]:
    """Rows fitted on a table's points, pulled to its own coefficients, and all refined; each the best by the noises that choose."""

    judged, judged_all = _judges(choose)

    rows = min((table, *(fit_rows(table, fit, _MISS, ridge) for ridge in RIDGES[::2])), key=judged)
    return rows, _last(refined(rows, fit, schedule, _MISS, judged_all, times=True), rows)


def _classes(case: Case, nfe: int) -> dict[str, Any]:
    """Plans fitted on all classes and on the classes 0 to 4, on those from 5 on."""
    low, high = (replace(case, classes=tuple(part)) for part in (range(5), range(5, 10)))
    judges = Judges(high)
    plans = {"fitted on all classes": fitted(case, nfe), "fitted on 0 to 4": fitted(low, nfe)}
    found: dict[str, Any] = {name: said(judges.of_table(Table.of(each.plan))) for name, each in plans.items()}
    return {**found, "best preset": _best(judges, nfe, case)}


def _guidance(case: Case, nfe: int) -> dict[str, Any]:
    """Plans fitted at guidance 1 and at 2, run at 2."""
    guided = replace(case, guidance=2.0)
    judges = Judges(guided)
    plans = {"fitted at 1": fitted(case, nfe), "fitted at 2": fitted(guided, nfe)}
    found: dict[str, Any] = {name: said(judges.of_table(Table.of(each.plan))) for name, each in plans.items()}
    return {**found, "best preset": _best(judges, nfe, case)}


def _bfloat16(case: Case, nfe: int) -> dict[str, Any]:
    """A plan fitted in float32, run in bfloat16, against that network's own converged runs."""
    judges = Judges(replace(case, bfloat16=True))
    found: dict[str, Any] = {"fitted in float32": said(judges.of_table(Table.of(fitted(case, nfe).plan)))}
    return {**found, "best preset": _best(judges, nfe, case)}


def _best(judges: Judges, nfe: int, case: Case) -> dict[str, Any]:
    def of_table(table: Table, count: int) -> Floats:
        return judges.of_table(table, count)

    rounds = ((4, 12), (16, 4), (0, 1)) if case.pictures else ((8, 12), (0, 1))
    ours = [(p.name, partial(of_table, p.table)) for p in presets(judges.denoiser, nfe, None)]
    name, errors = halved(ours, rounds)[0]
    return {"name": name, **said(errors)}
