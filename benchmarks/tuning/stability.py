"""Stability: fitted plans on many fresh noises, the largest error and the quantiles beside those of the best untuned preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.tuning.cases import Case, Judges, fitted, known, read, said, update
from dpmsolver.tuning.selecting import presets
from dpmsolver.tuning.table import Table

__all__ = ["NFES", "measure"]

NFES = (5, 8)
FIRST = 1_000_000
COUNTS = {"mixture-16": 10_000, "moons-flow": 10_000, "cifar10-mixture": 4_000, "digits": 500}
TEACHERS = {"cifar10-mixture": 32, "digits": 40}  # evaluations of a converged run, where it costs most
_AT_ONCE = 500


def measure(case: Case, nfes: Sequence[int] = ()) -> None:
    """Run a case's plans on its fresh noises, a few hundred at a time; a run that was stopped begins again."""
    figures = known("stability", case.name, {})
    if "noises" in figures:
        return
    best, total = read("gain")["cases"][case.name]["untuned"], COUNTS[case.name]
    teacher = TEACHERS.get(case.name, 64)
    errors: dict[str, dict[str, list[float]]] = {str(nfe): {"tuned": [], "untuned": []} for nfe in nfes or NFES}
    tables: dict[str, dict[str, Table]] = {}
    own = 0.0
    for first in range(FIRST, FIRST + total, _AT_ONCE):
        judges = Judges(case, min(_AT_ONCE, FIRST + total - first), 64 if "cifar" in case.name else 250, first, teacher)
        for nfe in nfes or NFES:
            if str(nfe) not in tables:
                name = best[str(nfe)]["ours"]["name"]
                preset = next(p for p in presets(judges.denoiser, nfe, None) if p.name == name)
                tables[str(nfe)] = {"tuned": Table.of(fitted(case, nfe).plan), "untuned": preset.table}
            for key, table in tables[str(nfe)].items():
                errors[str(nfe)][key] += judges.of_table(table, end=judges.end(nfe)).tolist()
        if first == FIRST:
            own = judges.own_error(judges.end(5))
        print(case.name, first, flush=True)
    figures |= {"noises": total, "teacher_nfe": teacher, "own_error": float(f"{own:.2g}")}
    for nfe in nfes or NFES:
        of_nfe = {key: _shape(np.array(each)) for key, each in errors[str(nfe)].items()}
        figures[str(nfe)] = {**of_nfe, "preset": best[str(nfe)]["ours"]["name"]}
    update("stability", case.name, figures)
    print(case.name, figures, flush=True)


def _shape(errors: Any) -> dict[str, float]:
    quantiles = {f"q{q:g}": float(f"{np.quantile(errors, q / 100):.4g}") for q in (99, 99.9)}
    return {**said(errors), **quantiles, "largest": float(f"{errors.max():.4g}")}
