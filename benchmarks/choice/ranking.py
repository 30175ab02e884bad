"""Ranking: the candidates of a budget by their scores, the finalists, and the ratios of the choice on the judges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.choice.cases import CASES, KINDS, Case
from dpmsolver.solvers.auto import choice_of

__all__ = ["FINALISTS", "NEAR", "NFES", "chosen", "deviations", "finalists", "judged", "measured", "ranked", "ratios"]

NFES = (5, 6, 8, 10, 12, 15, 20)
TRAINED_WEIGHT = 2.0 / 3.0
# A choice may be worse than the best by this factor: one solver for neighbouring budgets is worth something.
NEAR = 1.2
FINALISTS = 12


def measured(document: Mapping[str, Any], kind: str, judges: bool) -> list[Case]:
    """Return the cases of a kind that have figures: those that judge, or those that choose."""
    of_kind = [case for case in CASES if document["cases"].get(case.name, {}).get("kind") == kind]
    return [case for case in of_kind if case.judges == judges]


def ratios(document: Mapping[str, Any], case: Case, nfe: int) -> dict[str, float]:
    """Return for each candidate its error over the smallest on the case."""
    errors = document["cases"][case.name]["errors"][str(nfe)]
    best = min(errors.values())
    return {candidate: error / best for candidate, error in errors.items()}


@dataclass(frozen=True)
class Rank:
    """A candidate at one budget: its score, and its ratio on each choosing case."""

    score: float
    candidate: str
    ratios: tuple[float, ...]


def ranked(document: Mapping[str, Any], cases: Sequence[Case], nfe: int) -> list[Rank]:
    """Return the candidates at a budget, best first, by their worst ratios over trained networks and over laws."""
    of_case = [ratios(document, case, nfe) for case in cases]
    found = []
    for candidate in set.intersection(*({*each} for each in of_case)):
        own = [each[candidate] for each in of_case]
        worst = [
            max((r for r, c in zip(own, cases, strict=True) if c.trained == t), default=None) for t in (True, False)
        ]
        logs = [None if w is None else float(np.log(w)) for w in worst]
        score = _weighted(logs)
        found.append(Rank(float(np.exp(score)), candidate, tuple(own)))
    return sorted(found, key=lambda rank: (rank.score, rank.candidate))


def _weighted(logs: Sequence[float | None]) -> float:
    """Return two thirds of the first and one third of the second; all of the one if the other is missing."""
    pairs = [(w, log) for w, log in zip((TRAINED_WEIGHT, 1.0 - TRAINED_WEIGHT), logs, strict=True) if log is not None]
    return sum(w * log for w, log in pairs) / sum(w for w, _ in pairs)


def finalists(document: Mapping[str, Any], kind: str) -> list[str]:
    """Return the candidates that all cases of a kind measure.

    They are the best of each budget by the cases that choose among all, the best of each of these cases, the choice, and DDIM.
    """
    found = {"ddim@logsnr", "ddim@time"}
    cases = [case for case in measured(document, kind, judges=False) if case.chooses_among_all]
    for nfe in NFES:
        found |= {chosen(kind, nfe), *(rank.candidate for rank in ranked(document, cases, nfe)[:FINALISTS])}
        for case in cases:
            own = ratios(document, case, nfe)
            found.add(min(own, key=lambda key: own[key]))
    return sorted(found)


def chosen(kind: str, nfe: int) -> str:
    """Return the candidate that the library chooses."""
    return "@".join(choice_of(kind, nfe))


def deviations(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each choice of the library whose score is not near the best."""
    for kind, nfe in itertools.product(KINDS, NFES):
        found, choice = ranked(document, measured(document, kind, judges=False), nfe), chosen(kind, nfe)
        score = next((rank.score for rank in found if rank.candidate == choice), np.inf)
        if score > NEAR * found[0].score:
            yield f"{kind}, {nfe} evaluations: {choice} has {score:.3f}, {found[0].candidate} has {found[0].score:.3f}"


def judged(document: Mapping[str, Any], kind: str) -> dict[str, list[float]]:
    """Return for each judging case the ratio of the choice to the best, at each budget."""
    cases = measured(document, kind, judges=True)
    return {case.name: [ratios(document, case, nfe)[chosen(kind, nfe)] for nfe in NFES] for case in cases}
