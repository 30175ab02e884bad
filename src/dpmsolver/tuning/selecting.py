"""Selecting: the presets measured on a network, by successive halving: many on a few noises, the best of them on more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Plan
from dpmsolver.schedules import Floats
from dpmsolver.solvers.auto import CANDIDATE_GRIDS, CANDIDATE_SOLVERS
from dpmsolver.solvers.registry import make_plan
from dpmsolver.tuning.misses import DIVERGED, Miss, Summary, end_errors, judged_errors
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught
from dpmsolver.typing import Written

__all__ = ["Preset", "first_noises", "presets", "ranked"]

# (noises, presets that stay): 144 presets of 8 evaluations cost 1,408 evaluations of a batch of at most 16.
_ROUNDS = ((4, 20), (16, 6), (32, 6))


@dataclass(frozen=True, eq=False)
class Preset:
    """A preset with its plan and, once measured, the error of each noise.

    Args:
        name: `solver@grid`, as `make_plan` takes it.
    """

    name: str
    plan: Plan
    table: Table
    errors: Floats

    @property
    def summary(self) -> Summary:
        """The errors in four numbers."""
        return Summary.of(self.errors)

    def __str__(self) -> str:
        return f"{self.name}: {self.summary}"

    def __repr__(self) -> str:
        return f"<Preset {self}>"


def presets(denoiser: Denoiser, nfe: int, end: float | None) -> Iterator[Preset]:
    """Yield the choice of `auto`, then every candidate solver on every grid that the budget and the schedule allow."""
    seen = set()
    names = ("auto", *(f"{solver}@{grid}" for solver in CANDIDATE_SOLVERS for grid in CANDIDATE_GRIDS))
    for name in names:
        try:
            plan = make_plan(Written(name), denoiser.schedule, nfe, end=end, predicts=denoiser.predicts)
            table = Table.of(plan, denoiser.predicts)
        except PlanError:  # a budget that the solver cannot spend, or a grid that this schedule has not
            continue
        key = tuple(number for row in table.rows for number in row.tolist())
        if key not in seen:
            seen.add(key)
            yield Preset(name, plan, table, np.empty(0))


def ranked(candidates: Sequence[Preset], taught: Sequence[Taught], miss: Miss) -> list[Preset]:
    """Return the candidates of the last round with their errors, the best first. The first candidate is never dropped."""
    alive, total = list(candidates), sum(len(part) for part, _ in taught)
    for noises, kept in _ROUNDS:
        some = first_noises(taught, min(noises, total))
        errors = judged_errors([p.table for p in alive], some, miss)
        alive = [Preset(p.name, p.plan, p.table, each) for p, each in zip(alive, errors, strict=True)]
        alive.sort(key=lambda preset: _mean(preset.errors))
        if candidates[0].name not in (p.name for p in alive[:kept]):
            alive = [*alive[: kept - 1], next(p for p in alive if p.name == candidates[0].name)]
        alive = alive[:kept]
        if noises >= total:
            break
    if alive[0].errors.max() >= DIVERGED:
        end_errors(alive[0].table, taught, miss)  # says why
        raise SamplingError("no preset ends at finite states: the network's output is too large, or the loss")
    return alive


def _mean(errors: Floats) -> float:
    mean = float(errors.mean())
    return mean if np.isfinite(mean) else np.inf


def first_noises(taught: Sequence[Taught], count: int) -> list[Taught]:
    """Return the first `count` noises, or all, in parts."""
    found: list[Taught] = []
    while count > 0 and len(found) < len(taught):
        each = taught[len(found)]
        found.append(each if len(each.part) <= count else each.first(count))
        count -= len(each.part)
    return found
