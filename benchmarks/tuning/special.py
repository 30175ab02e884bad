"""Special: fitted plans against recipes that fit the times alone, with the same teacher and the same judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import dpmsolver as dpm
from benchmarks.tuning.cases import Case, Judges, fitted, known, said, update
from benchmarks.tuning.recipes import gits_times, on_times, optimal_times, searched_times
from dpmsolver.schedules import Floats
from dpmsolver.tuning.misses import Miss
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.selecting import presets, ranked
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Lesson, Taught

__all__ = ["NFES", "measure"]

NFES = tuple(range(3, 11))
# Noises: of a fit, of the recipes, and of dynamic programming with the student's states.
FITTED, SHOWN, PROBED = 160, 64, 16
SOLVERS = ("ddim", "ipndm-4")
_SEARCHED = 20_000  # evaluations of single samples for a search of times


def measure(case: Case, nfes: Sequence[int] = ()) -> None:
    """Measure a case, at some budgets or all, and write its figures down after each."""
    figures = known("special", case.name, {"noises": SHOWN, "probed": PROBED, "nfe": {}})
    left = [nfe for nfe in nfes or NFES if str(nfe) not in figures["nfe"]]
    if not left:
        return
    judges = Judges(case)
    figures["judges"] = case.judges
    shown = case.some(judges.testbed, 0, SHOWN)
    end = judges.end(max(NFES))
    taught = [Taught(part, Lesson.given(part, end)) for part in shown.parts(range(SHOWN), 32)]
    optimal = optimal_times(taught[0].first(PROBED), max(NFES))
    for nfe in left:
        figures["nfe"][str(nfe)] = _measured(case, judges, shown, taught, optimal[nfe], nfe)
        update("special", case.name, figures)
        print(case.name, nfe, {k: v["mean"] for k, v in figures["nfe"][str(nfe)].items()}, flush=True)


def _measured(
    case: Case, judges: Judges, shown: Noises, taught: list[Taught], optimal: Floats, nfe: int
) -> dict[str, Any]:
    schedule, predicts = judges.testbed.schedule, judges.denoiser.predicts
    best = ranked(list(presets(judges.denoiser, nfe, None)), taught, Miss())
    tables: dict[str, Table] = {
        "tuned": Table.of(fitted(case, nfe, "seconds", FITTED).plan),
        "selected": best[0].table,
    }
    whole = shown.part(range(SHOWN))
    grids = {"GITS": gits_times(schedule, Taught(whole, _joined(taught)), nfe), "optimal steps": optimal}
    for name, times in grids.items():
        for solver in SOLVERS:
            try:
                tables[f"{name}, {solver}"] = on_times(solver, schedule, times, predicts)
            except dpm.PlanError:  # a solver without a limit where the grid starts or ends
                continue
    usual = next((p for p in best if p.name != "auto" and not p.name.startswith("dpm++fast")), None)
    if usual is not None:
        tables[f"times searched, {usual.name.rsplit('@', 1)[0]}"] = searched_times(
            usual, taught, schedule, _SEARCHED // (nfe * SHOWN)
        )
    return {name: said(judges.of_table(table)) for name, table in tables.items()}


def _joined(taught: list[Taught]) -> Lesson:
    """The trajectories of several parts as one, on the host."""

    def joined(field: str) -> tuple[Any, ...]:
        every = [getattr(lesson, field) for _, lesson in taught]
        return tuple(np.concatenate([np.asarray(x) for x in arrays]) for arrays in zip(*every, strict=True))

    return Lesson(taught[0].lesson.points, joined("states"), joined("outputs"))
