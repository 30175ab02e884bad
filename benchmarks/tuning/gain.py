"""Gain: fitted plans against the best untuned preset and the best sampler of each other package, on the same judges."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.peer_samplers import peer_samplers
from benchmarks.peers_text import PACKAGES, package
from benchmarks.tuning.cases import RESULTS, Candidates, Case, Judges, edition, fitted, halved, read, said, update
from dpmsolver.evaluation.samplers import Sampler
from dpmsolver.schedules import Floats
from dpmsolver.tuning.judging import ratio_of_means
from dpmsolver.tuning.selecting import presets
from dpmsolver.tuning.table import Table

__all__ = ["NFES", "TUNED", "bars", "measure"]

TUNED, NFES = (5, 8, 6, 10), (5, 6, 8, 10, 12, 15)
_ROUNDS = ((8, 12), (0, 12))  # judges (0: all), and how many go on
_ROUNDS_OF_SLOW = ((4, 12), (16, 4), (0, 4))


def measure(case: Case, nfes: Sequence[int] = ()) -> None:
    """Measure a case, at some budgets or all, and write its figures down after each; what is known already is not measured again."""
    figures: dict[str, Any] = read("gain")["cases"].get(case.name) or {
        "effort": case.effort,
        "noises": case.noises,
        "judges": case.judges,
        "tuned": {},
        "untuned": {},
        "seconds": 0.0,
    }
    figures |= {"effort": case.effort, "noises": case.noises}
    figures["tuned"] = {nfe: found for nfe, found in figures["tuned"].items() if found["fit"] == edition()}
    judges = Judges(case)
    begin = time.perf_counter()

    def note() -> None:
        nonlocal begin
        now = time.perf_counter()
        figures["seconds"], begin = round(figures["seconds"] + now - begin, 1), now
        update("gain", case.name, figures)

    if "own_error" not in figures:
        figures["own_error"] = float(f"{judges.own_error(judges.end(5)):.2g}")
        note()
    for nfe in nfes or (5, 8, 12, 6, 10, 15):
        if nfe in TUNED and str(nfe) not in figures["tuned"]:
            figures["tuned"][str(nfe)] = _tuned(case, judges, nfe)
            note()
            print(case.name, nfe, "tuned", figures["tuned"][str(nfe)], flush=True)
        known = figures["untuned"].setdefault(str(nfe), {})
        if "ours" not in known:
            figures["untuned"][str(nfe)] = {**_untuned(case, judges, nfe, peers=not known), **known}
            note()
            best = {who: (each["name"], each["mean"]) for who, each in figures["untuned"][str(nfe)].items()}
            print(case.name, nfe, "untuned", best, flush=True)


def _tuned(case: Case, judges: Judges, nfe: int) -> dict[str, Any]:
    """The plan that a fit keeps, on the judges, and what the fit said of itself."""
    tuned = fitted(case, nfe)
    errors, report = judges.of_table(Table.of(tuned.plan), end=judges.end(nfe)), tuned.report
    found: dict[str, Any] = {
        "fit": edition(),
        "on": "the CPU" if case.device is None else case.device,
        "kept": report.winner,
        **said(errors),
        "of_noises": list(report.noises),
        "evaluations": report.evaluations,
        "fit_seconds": round(report.seconds, 1),
        "selected": report.selected,
    }
    every = {p.name: p for p in presets(judges.denoiser, nfe, None)}
    for name, preset in (("selected", report.selected), ("auto", "auto")):
        others = judges.of_table(every[preset].table)
        ratio = ratio_of_means(others, errors)
        found[f"of_{name}"] = {
            **said(others),
            "ratio": [float(f"{v:.3g}") for v in (ratio.value, ratio.low, ratio.high)],
        }
    return found


def _untuned(case: Case, judges: Judges, nfe: int, *, peers: bool) -> dict[str, Any]:
    """The best of ours and, if wanted, of each package, with how many were tried."""
    rounds = _ROUNDS_OF_SLOW if case.slow else _ROUNDS

    def of_table(table: Table, count: int) -> Floats:
        return judges.of_table(table, count)

    def of_sampler(sampler: Sampler, count: int) -> Floats:
        return judges.of_sampler(sampler, nfe, count)

    fields: dict[str, Candidates] = {
        "ours": [(p.name, partial(of_table, p.table)) for p in presets(judges.denoiser, nfe, None)]
    }
    if peers:
        theirs = [(s.name, partial(of_sampler, s)) for s in _peers(case, judges)]
        fields |= {who: [each for each in theirs if package(each[0]) == who] for who in PACKAGES}
    found = {}
    for who, candidates in fields.items():
        left = halved(candidates, rounds)
        if left:
            name, errors = left[0]
            found[who] = {"name": name.removeprefix(f"{who} "), "tried": len(candidates), **said(errors)}
    return found


def _peers(case: Case, judges: Judges) -> list[Sampler]:
    """The peers without noise; of digits those that are the best of their package somewhere in its comparison."""
    found = [s for s in peer_samplers(judges.testbed.schedule) if not s.stochastic and s.settings is None]
    if case.testbed == "digits":
        table = json.loads((RESULTS / "peers-digits.json").read_text())["table"]
        best = {row[who]["name"] for row in table for who in PACKAGES if row["measure"] == "error" and who in row}
        found = [s for s in found if s.name in best]
    return found


def bars(case: Case, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The bars of a case: its tuned plan's mean error is at most the best untuned one's with more evaluations."""
    pairs = ((5, 6), (6, 8), (8, 10), (10, 12)) if case.pictures else ((5, 8), (8, 12))
    aims = ((5, 8), (8, 15)) if case.pictures else ()
    found = []
    for kind, of_kind in (("bar", pairs), ("aim", aims)):
        for few, many in of_kind:
            tuned, untuned = figures["tuned"].get(str(few)), figures["untuned"].get(str(many))
            if tuned and untuned:
                best = min(each["mean"] for each in untuned.values())
                met = tuned["mean"] <= best
                found.append({"kind": kind, "few": few, "many": many, "ratio": tuned["mean"] / best, "met": met})
    return found
