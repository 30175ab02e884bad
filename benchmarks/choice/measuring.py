"""Measuring: the errors of candidates on a case, and the file that keeps them by candidate, so that only new candidates are measured."""

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

__all__ = ["CANDIDATES", "REFERENCE", "RESULTS", "extended", "known_figures", "measure", "missing", "write"]

RESULTS = Path(__file__).parent.parent / "results" / "choice.json"
REFERENCE, REFERENCE_NFE = "unipc-3", 200
CANDIDATES = tuple(f"{solver}@{grid}" for solver, grid in itertools.product(CANDIDATE_SOLVERS, CANDIDATE_GRIDS))


def plan_of(candidate: str, schedule: NoiseSchedule, nfe: int, end: float, predicts: str) -> dpm.Plan | None:
    """Return the plan of a candidate; None if it cannot spend the budget, or does not fit the schedule."""
    solver, grid = candidate.split("@")
    try:
        return dpm.make_plan(solver, schedule, nfe, grid, end=end, predicts=predicts)
    except dpm.PlanError:
        return None


def missing(testbed: Testbed, candidates: Sequence[str], known: Mapping[str, Any]) -> dict[int, dict[str, dpm.Plan]]:
    """Return a plan by budget and candidate, for the candidates that can spend the budget and have no figure among the known ones."""
    schedule, predicts = testbed.schedule, testbed.predicts
    found = {}
    for nfe in NFES:
        end = dpm.make_plan("ddim", schedule, nfe, predicts=predicts).end.time
        new = [candidate for candidate in candidates if candidate not in known.get(str(nfe), {})]
        plans = {candidate: plan_of(candidate, schedule, nfe, end, predicts) for candidate in new}
        found[nfe] = {candidate: plan for candidate, plan in plans.items() if plan is not None}
    return found


def measure(case: Case, testbed: Testbed, plans: Mapping[int, Mapping[str, dpm.Plan]]) -> dict[str, Any]:
    """Return the reference's own error, and the errors by budget and candidate."""
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
    """Return the root mean square distance over samples and coordinates, to four digits."""
    return float(f"{float(np.sqrt(np.square(trajectory_error(samples, reference)).mean())):.4g}")


def known_figures() -> dict[str, Any]:
    """Return the content of the file of figures."""
    if not RESULTS.exists():
        return {"command": "python -m benchmarks.choice", "versions": {}, "cases": {}, "frechet": {}}
    document: dict[str, Any] = json.loads(RESULTS.read_text())
    return document


def write(document: Mapping[str, Any]) -> None:
    """Write the file of figures."""
    with written_aside(RESULTS) as aside:
        aside.write_text(json.dumps(document, indent=1) + "\n")


def extended(document: dict[str, Any], case: Case, again: bool) -> dict[str, Any]:
    """Measure the candidates without a figure on a case, or all of them again; write the file, and return its content."""
    import torch

    begin, known = time.perf_counter(), {} if again else document["cases"].get(case.name, {})
    testbed, errors = case.load(), known.get("errors", {})
    kind = kind_of(testbed.schedule, testbed.predicts)
    plans = missing(testbed, CANDIDATES if case.chooses_among_all else finalists(document, kind), errors)
    if not any(plans.values()):
        return document
    new = measure(case, testbed, plans)
    new["own_error"] = max(new["own_error"], known.get("own_error", 0.0))
    new["errors"] = {str(nfe): {**errors.get(str(nfe), {}), **new["errors"][str(nfe)]} for nfe in NFES}
    seconds = round(known.get("seconds", 0) + time.perf_counter() - begin)
    document = known_figures()  # again, since other processes may have written to it
    document["cases"][case.name] = {"seconds": seconds, "kind": kind, **new}
    document["versions"] = {"dpmsolver": dpm.__version__, "torch": torch.__version__}
    write(document)
    return document
