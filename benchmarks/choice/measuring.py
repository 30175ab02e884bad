"""Measuring: the errors of candidates on a case, and the file that keeps them by candidate, so that a new one costs what it costs alone."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dpmsolver as dpm
from benchmarks.choice.cases import Case
from benchmarks.choice.ranking import NFES, finalists
from dpmsolver.evaluation.distances import trajectory_error
from dpmsolver.evaluation.measures import host
from dpmsolver.files import written_aside
from dpmsolver.models.testbeds import Testbed
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.auto import CANDIDATE_GRIDS, CANDIDATE_SOLVERS, kind_of

__all__ = ["CANDIDATES", "RESULTS", "extended", "measure", "missing", "update"]

RESULTS = Path(__file__).parent.parent / "results" / "choice.json"
REFERENCE, REFERENCE_NFE = "unipc-3", 200
CANDIDATES = tuple(f"{solver}@{grid}" for solver, grid in itertools.product(CANDIDATE_SOLVERS, CANDIDATE_GRIDS))


def run_of(candidate: str, schedule: NoiseSchedule, nfe: int, end: float, predicts: str) -> dpm.Plan | None:
    """The plan of a candidate; None where it cannot be: a budget, a limit or a grid that it does not have."""
    solver, grid = candidate.split("@")
    try:
        return dpm.make_plan(solver, schedule, nfe, grid, end=end, predicts=predicts)
    except dpm.PlanError:
        return None


def missing(testbed: Testbed, candidates: Sequence[str], known: Mapping[str, Any]) -> dict[int, dict[str, dpm.Plan]]:
    """Budget -> candidate -> its plan, of those that can spend the budget and have no figure among the known ones."""
    schedule, predicts = testbed.schedule, testbed.predicts
    found = {}
    for nfe in NFES:
        end = dpm.make_plan("ddim", schedule, nfe, predicts=predicts).end.time
        new = [candidate for candidate in candidates if candidate not in known.get(str(nfe), {})]
        plans = {candidate: run_of(candidate, schedule, nfe, end, predicts) for candidate in new}
        found[nfe] = {candidate: plan for candidate, plan in plans.items() if plan is not None}
    return found


def measure(case: Case, testbed: Testbed, plans: Mapping[int, Mapping[str, dpm.Plan]]) -> dict[str, Any]:
    """The reference's own error, and budget -> candidate -> error."""
    seed = 0 if case.chooses_among_all else 1
    denoiser, x_T = case.denoiser(testbed), testbed.initial_noise(range(case.num), seed)
    ends = {plan.end.time for of_budget in plans.values() for plan in of_budget.values()}

    def converged(end: float, nfe: int) -> Any:
        return host(dpm.sample(denoiser, x_T, nfe=nfe, solver=REFERENCE, grid="logsnr", end=end))

    references = {end: converged(end, REFERENCE_NFE) for end in ends}
    own = max(distance(converged(end, REFERENCE_NFE // 2), reference) for end, reference in references.items())
    errors: dict[str, dict[str, float]] = {}
    for nfe, of_budget in plans.items():
        errors[str(nfe)] = {
            candidate: distance(host(dpm.sample(denoiser, x_T, plan=plan)), references[plan.end.time])
            for candidate, plan in of_budget.items()
        }
        print(case.name, nfe, sorted((e, k) for k, e in errors[str(nfe)].items())[:3], flush=True)
    return {"own_error": own, "errors": errors}


def distance(samples: Any, reference: Any) -> float:
    """The root mean square distance over samples and coordinates, to four digits."""
    return float(f"{float(np.sqrt(np.square(trajectory_error(samples, reference)).mean())):.4g}")


def update(name: str, figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write one case's figures into the file, beside what other processes wrote, and return all of them."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "cases" not in document:
        document = {"command": "python -m benchmarks.choice", "versions": {}, "cases": {}}
    if figures is not None:
        import torch

        document["cases"][name] = dict(figures)
        document["versions"] = {"dpmsolver": dpm.__version__, "torch": torch.__version__}
        with written_aside(RESULTS) as aside:
            aside.write_text(json.dumps(document, indent=1) + "\n")
    return document


def extended(document: Mapping[str, Any], case: Case, again: bool) -> Mapping[str, Any]:
    """Measure what a case has no figures for, and return all figures; a candidate that is new costs what it costs alone."""
    begin, known = time.perf_counter(), {} if again else document["cases"].get(case.name, {})
    testbed, errors = case.load(), known.get("errors", {})
    kind = kind_of(testbed.schedule, testbed.predicts)
    plans = missing(testbed, CANDIDATES if case.chooses_among_all else finalists(document, kind), errors)
    if not any(plans.values()):
        return document
    new = measure(case, testbed, plans)
    new["errors"] = {str(nfe): {**errors.get(str(nfe), {}), **new["errors"][str(nfe)]} for nfe in NFES}
    seconds = round(known.get("seconds", 0) + time.perf_counter() - begin)
    return update(case.name, {"seconds": seconds, "kind": kind, **new})
