"""Fit: the stages that lead from the presets to the nearest table for one budget, within a given number of evaluations."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.tuning.course import Course
from dpmsolver.tuning.draft import Draft
from dpmsolver.tuning.fitting import fit_rows
from dpmsolver.tuning.misses import Miss, judged_errors
from dpmsolver.tuning.outcome import Stage
from dpmsolver.tuning.refining import jacobian_cost, refined
from dpmsolver.tuning.searching import searched
from dpmsolver.tuning.selecting import Preset, first_noises, presets, ranked
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught

__all__ = ["Fit", "require_enough"]

_RIDGES = (1e-6, 1e-4, 1e-2)
_USUAL_RIDGE = 1e-4
_GRIDS = 4  # on which rows are fitted
_STEP = 1 / 6  # of what a stage may spend: the largest that the derivatives of one step may cost
_LARGEST = 2**30  # bytes that the arrays of all noises of a stage may take
_FEW = 8  # noises that a step takes at least
_PER_NUMBER = 4  # equations for each number that a step fits, at least
_SEARCHED, _FEWEST_SEARCHED = 80, 24  # noises that a search fits and judges with
_CANDIDATES = 12  # for each evaluation of a run: fewer are no search
_SEARCH, _REFINE, _OTHER = 0.3, 0.5, 0.4  # of what is left when the stage begins


class Fit:
    """The fit of a budget.

    Args:
        course: the noises and their teacher. spending: evaluations of single samples beside the teacher. miss: the error to minimise.
        draft: the file that keeps the draft of the fit after each stage; a fit that finds one there resumes after its last stage.

    Attributes:
        auto, selected: the default and the best preset.
        draft: the results and the cost of the finished stages.
        begun: the time of the beginning by `time.perf_counter`; for a fit that resumes, so long ago as its finished stages took.
    """

    def __init__(self, course: Course, nfe: int, spending: int, miss: Miss, draft: Path | None = None) -> None:
        self.course, self.nfe, self.miss = course, nfe, miss
        self.draft = Draft.kept(draft, course.denoiser.predicts)
        self.begun = time.perf_counter() - self.draft.seconds
        noises, thirds = course.noises, course.thirds()
        self._first = noises.evaluations
        noises.evaluations += self.draft.taught
        self.fit, self.choose = course.taught(thirds.fit, nfe), course.taught(thirds.choose, nfe, whole=False)
        self.draft.taught = noises.evaluations - self._first
        self._until = noises.evaluations + spending
        noises.evaluations += self.draft.spent
        self.noises = len(thirds.fit) + len(thirds.choose)
        require_enough(nfe, len(thirds.fit), self._width())
        self.presets = list(presets(course.denoiser, nfe, course.wanted_end))
        self.auto = self.presets[0]
        stages = (
            self._start,
            self._search,
            partial(self._refine, "refined", _REFINE),
            partial(self._refine, "refined from the second best", _OTHER, rank=1),
            partial(self._refine, "refined again", 1.0),
        )
        for stage in stages[self.draft.finished :]:
            stage()
            self._finish()
        self.selected = next(preset for preset in self.presets if preset.name == self.draft.selected)

    def _finish(self) -> None:
        """Count a finished stage, and keep the draft."""
        self.draft.finished += 1
        self.draft.spent = self._spent() - self.draft.taught
        self.draft.seconds = time.perf_counter() - self.begun
        self.draft.keep()

    @property
    def table(self) -> Table:
        """The table with the smallest error on the choosing noises."""
        return self._ranked(0)

    def judged(self, tables: Sequence[Table], noises: Sequence[Taught] | None = None) -> list[float]:
        """Return the mean errors on the choosing noises, or on the given ones, including the effect of errors in the network's outputs."""
        found = []
        for table, errors in zip(tables, judged_errors(tables, noises or self.choose, self.miss), strict=True):
            # A plan that multiplies errors of the network is no good one.
            amplified = np.linalg.norm(table.noise()[-1]) if self.miss.plain else 0.0
            error = float(np.hypot(errors, amplified).mean())
            found.append(error if math.isfinite(error) else math.inf)
        return found

    def _best(self, tables: Sequence[Table], noises: Sequence[Taught] | None = None) -> Table:
        errors = self.judged(tables, noises)
        return tables[errors.index(min(errors))]

    def _spent(self) -> int:
        return self.course.noises.evaluations - self._first

    def _left(self) -> int:
        return self._until - self.course.noises.evaluations

    def _ranked(self, rank: int) -> Table:
        return sorted(self.draft.tables, key=lambda pair: pair[0])[rank][1]

    def _note(self, name: str, table: Table, *, instead: Table | None = None) -> None:
        """Keep a table, in place of the one that it improves on, and record the stage."""
        (error,) = self.judged([table])
        self.draft.tables = [pair for pair in self.draft.tables if pair[1] is not instead] + [(error, table)]
        self.draft.stages.append(Stage(name, error, self._spent()))

    def _start(self) -> None:
        """Rank the presets, and fit rows on the grids of the best."""
        best = ranked(self.presets, [*self.choose, *self.fit], self.miss)
        self.draft.selected = best[0].name
        self._note("auto", self.auto.table)
        self._note(f"selected: {best[0].name}", best[0].table)
        self._rows(_bases(best, self.presets))

    def _rows(self, bases: Sequence[Table], name: str = "rows by least squares") -> None:
        """Choose the base whose rows, fitted on half of the noises, err least; then fit its rows on all noises with every ridge.

        Of noises whose states and outputs would not fit into `_LARGEST` the first are taken.
        """
        most = _fitting((self.nfe + 1) * math.prod(self.fit[0].part.like.shape[1:]))
        every = first_noises(self.fit, max(self._fewest(), most))
        fit, choose = (first_noises(each, _count(each) // 2) for each in (every, self.choose))
        base = bases[0]
        if len(bases) > 1:
            base = self._best([fit_rows(each, fit, self.miss, _USUAL_RIDGE) for each in bases], choose)
        self._note(name, self._best([fit_rows(base, every, self.miss, ridge) for ridge in _RIDGES]))

    def _refine(self, name: str, share: float, rank: int = 0) -> None:
        """Take Gauss-Newton steps from one of the best tables while they improve it and a share of the budget lasts."""
        table, until = self._ranked(rank), self.course.noises.evaluations + share * self._left()
        numbers, width = _numbers(self.nfe), self._width()
        each = jacobian_cost(self.nfe)
        affordable = min(int(_STEP * share * self._left()) // each, _fitting((numbers + 1) * width))
        count = min(_count(self.fit), max(self._fewest(), affordable))
        some = first_noises(self.fit, count)
        found = table
        if self.course.noises.evaluations + count * each > until:
            return
        for better in refined(
            table,
            some,
            self.course.schedule,
            self.miss,
            self.judged,
            times=self.course.denoiser.time_label != "round",
        ):
            found = better
            if self.course.noises.evaluations + count * each > until:
                break
        if found is not table:
            self._note(name, found, instead=table)

    def _search(self) -> None:
        """Search for better times, from those of the best table, on so few noises that enough candidates fit; then fit rows on all."""
        most = int(_SEARCH * self._left()) // self.nfe
        count = min(_SEARCHED, self.noises, most // (_CANDIDATES * self.nfe))
        if count < _FEWEST_SEARCHED:
            return
        fit, choose = first_noises(self.fit, 3 * count // 5), first_noises(self.choose, 2 * count // 5)

        def judged(table: Table) -> float:
            return self.judged([table], choose)[0]

        found = searched(self.table, fit, self.course.schedule, self.miss, judged, _RIDGES[0], most // count)
        self._rows([found], "times searched")

    def _fewest(self) -> int:
        """Return the fewest noises that all numbers are fitted to at once."""
        return max(_FEW, math.ceil(_PER_NUMBER * _numbers(self.nfe) / self._width()))

    def _width(self) -> int:
        part, lesson = self.fit[0]
        return int(self.miss(part, lesson.end, lesson.end).shape[1])


def require_enough(nfe: int, noises: int, width: int) -> None:
    """Raise PlanError if the noises that fit, with `width` numbers each, give fewer equations than there are numbers to fit."""
    numbers = _numbers(nfe)
    if noises * width < numbers:
        raise PlanError(
            f"{nfe} evaluations have {numbers} numbers to fit, and the {noises} noises that fit give {noises * width}: "
            "take more noises, and a larger effort, which says how many are used"
        )


def _fitting(each: int) -> int:
    """Return the number of noises that fit into `_LARGEST`, with `each` numbers in float64 for a noise."""
    return _LARGEST // (8 * each)


def _count(taught: Sequence[Taught]) -> int:
    """Return the number of noises in some parts."""
    return sum(len(part) for part, _ in taught)


def _numbers(nfe: int) -> int:
    """Return the number of fitted numbers, coefficients and times."""
    return sum(k + 2 for k in range(nfe)) + nfe - 1


def _bases(best: Sequence[Preset], every: Sequence[Preset]) -> list[Table]:
    """Return tables with decreasing times, on the grids of the best presets and on two common ones."""
    usual = [preset for preset in every if preset.name in ("dpm++2m@quadratic", "dpm++2m@logsnr")]
    found: dict[tuple[float, ...], Table] = {}
    for preset in [*best, *usual]:
        times = tuple(point.time for point in preset.table.points)
        if all(a > b for a, b in pairwise(times)):
            found.setdefault(times, preset.table)
    return list(found.values())[:_GRIDS]
