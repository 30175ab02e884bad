"""Outcome: the result of a fit, the plan that is kept and the measurements, with its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from dpmsolver.brief import brief_repr, cut
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.intervals import Interval
from dpmsolver.files import written_aside
from dpmsolver.plans.plan import Plan
from dpmsolver.schedules import Floats
from dpmsolver.tuning.judging import ratio_of_means
from dpmsolver.tuning.misses import Summary

__all__ = ["Kept", "Report", "Stage", "Tuned"]

Kept: TypeAlias = Literal["auto", "selected", "tuned"]
_FORMAT = "dpmsolver-tuned-2"


@dataclass(frozen=True)
class Stage:
    """A stage of a fit: its name, the mean error on the choosing noises, and the evaluations of single samples so far."""

    name: str
    error: float
    evaluations: int


@dataclass(frozen=True, eq=False)
class Report:
    """The measurements of a fit.

    Args:
        nfe: the number of network evaluations.
        winner: "tuned", "selected" or "auto", chosen on noises to which nothing was fitted.
        selected: the best preset, `solver@grid`.
        errors: of "auto", "selected" and "tuned", each noise's, float64 (N,), on the noises that judge.
        stages: the record of the fit.
        noises: the numbers of noises for fitting, choosing and judging.
        teacher_nfe, teacher_error: evaluations of a converged run, and its own mean distance from one with twice as many.
        evaluations: the evaluations of single samples, those of the teacher included.
        seconds: the duration of the fit.
    """

    nfe: int
    winner: Kept
    selected: str
    errors: Mapping[Kept, Floats]
    stages: tuple[Stage, ...]
    noises: tuple[int, int, int]
    teacher_nfe: int
    teacher_error: float
    evaluations: int
    seconds: float

    __repr__ = brief_repr

    @property
    def summaries(self) -> dict[Kept, Summary]:
        """The errors in four numbers each."""
        return {name: Summary.of(errors) for name, errors in self.errors.items()}

    def gain(self, name: Kept = "selected") -> Interval:
        """The mean error of "selected" or "auto" over the tuned plan's, with its paired bootstrap interval."""
        return ratio_of_means(self.errors[name], self.errors["tuned"])

    def __str__(self) -> str:
        said: dict[Kept, str] = {"auto": "auto", "selected": f"selected ({self.selected})", "tuned": "tuned"}
        lines = [f"{self.nfe} evaluations: {said[self.winner]} is kept"]
        lines += [f"  {said[name]}: {summary}" for name, summary in self.summaries.items()]
        lines.append(f"  selected / tuned {self.gain('selected')}, auto / tuned {self.gain('auto')}")
        fit, choose, judge = self.noises
        lines.append(
            f"  {fit} noises fitted, {choose} chose, {judge} judged; teacher: {self.teacher_nfe} evaluations, off by "
            f"{self.teacher_error:.2g}; {self.evaluations} evaluations of single samples, {self.seconds:.0f} s"
        )
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Tuned:
    """The plan that is kept, and the measurements behind it.

    Args:
        plans: all plans that were judged, by their names in the report, including a fitted one that is not kept.
    """

    plan: Plan
    report: Report
    plans: Mapping[Kept, Plan]

    def __repr__(self) -> str:
        return cut(f"<Tuned for {self.report.nfe} evaluations: kept {self.report.winner!r} of {', '.join(self.plans)}>")

    def save(self, folder: str | Path, key: str = "") -> Path:
        """Write `plan-<nfe>.json`, which `Plan.from_json` reads, and `report-<nfe>.json` beside it, and return the plan's path.

        Args:
            key: the name of the fit, which `load` compares.
        """
        plan, report = _files(Path(folder), self.report.nfe)
        document = asdict(self.report) | {"errors": {name: each.tolist() for name, each in self.report.errors.items()}}
        document["plans"] = {name: each.to_json() for name, each in self.plans.items()}
        for path, text in (
            (report, json.dumps({"format": _FORMAT, "key": key, **document}, allow_nan=False)),
            (plan, self.plan.to_json()),
        ):
            with written_aside(path) as aside:
                aside.write_text(text + "\n")
        return plan

    @classmethod
    def load(cls, folder: str | Path, nfe: int, key: str | None = None) -> Tuned | None:
        """Read what `save` wrote, or return None where no fit has finished.

        Args:
            key: the name of the fit; None accepts any fit.

        Raises:
            PlanError: a file is cut short or changed, or the folder holds the result of another fit.
        """
        plan, report = _files(Path(folder), nfe)
        if not plan.exists():  # it is written last
            return None
        if not report.exists():
            raise PlanError(f"{plan} has no {report.name} beside it: take another folder, or move the plan away")
        again = f"delete {plan.name} and {report.name}, and they are made again"
        try:
            document = dict(json.loads(report.read_text()))
            found, known = document.pop("format"), document.pop("key")
            document["errors"] = {name: np.array(each) for name, each in document["errors"].items()}
            document["stages"] = tuple(Stage(**each) for each in document["stages"])
            plans = {name: Plan.from_json(text) for name, text in document.pop("plans").items()}
            made = Report(**{**document, "noises": tuple(document["noises"])})
            kept = plans[made.winner]
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"{report} holds no report of a fit ({error}): {again}") from None
        if found != _FORMAT or (key is not None and known != key):
            raise PlanError(
                f"{plan} was fitted to another network, to other noises or with other settings: take another folder, or {again}"
            )
        try:
            read = Plan.from_json(plan.read_text())
        except ValueError as error:  # PlanError, or bytes that are no text
            raise PlanError(f"{plan}: {error}; or {again}") from None
        if made.nfe != nfe or read != kept:
            raise PlanError(f"{plan} is not the plan that {report.name} says was kept: {again}")
        return cls(read, made, plans)

    def __str__(self) -> str:
        return str(self.report)


def _files(folder: Path, nfe: int) -> tuple[Path, Path]:
    return folder / f"plan-{nfe}.json", folder / f"report-{nfe}.json"
