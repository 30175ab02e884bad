"""Cases: the networks and laws that plans are fitted to, and the judges, noises of them that no fit has seen."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dpmsolver as dpm
from dpmsolver.evaluation.samplers import Sampler
from dpmsolver.files import written_aside
from dpmsolver.models import trained
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.schedules import Floats
from dpmsolver.schedules.span import default_end, default_start
from dpmsolver.tuning.misses import Miss, Summary, end_errors, root_mean_squares
from dpmsolver.tuning.outcome import Tuned
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.selecting import first_noises
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import TEACHER_NFE, Lesson, Taught

__all__ = [
    "CASES",
    "RESULTS",
    "Case",
    "Judges",
    "case_of",
    "edition",
    "fitted",
    "halved",
    "known",
    "read",
    "said",
    "update",
]

ROOT = Path(__file__).parent.parent.parent
RESULTS, RUNS = ROOT / "benchmarks" / "results", ROOT / "runs" / "tuning"
FIRST_JUDGE = 100_000  # noises from here on are for judging
SEED = 0

Candidates = Sequence[tuple[str, Callable[[int], Floats]]]


@dataclass(frozen=True)
class Case:
    """A network or a law, with a guidance scale, and what is spent on it.

    Args:
        noises: that a fit is given. judges: that judge it. classes: the only ones, if any are chosen. device: of the network.
    """

    testbed: str
    effort: str = "seconds"
    noises: int = 160
    judges: int = 64
    guidance: float = 1.0
    classes: tuple[int, ...] = ()
    bfloat16: bool = False
    device: str | None = None

    @property
    def name(self) -> str:
        """The name in the figures and on the page."""
        return self.testbed if self.guidance == 1.0 else f"{self.testbed} guidance {self.guidance:g}"

    @property
    def pictures(self) -> bool:
        """Whether it is a network of pictures."""
        return self.testbed in ("digits", "cifar10") or self.testbed in trained.DIGITS

    @property
    def slow(self) -> bool:
        """Whether an evaluation costs so much that fewer candidates are tried on all judges."""
        return self.pictures or self.testbed in ("cifar10-mixture", "mixture-3072")

    def load(self) -> Testbed:
        """The testbed."""
        return load_testbed(self.testbed, device=self.device, bfloat16=self.bfloat16)

    def some(self, testbed: Testbed, first: int, count: int, seed: int = SEED) -> Noises:
        """So many noises of the testbed from a number on, with their denoiser; of its chosen classes only, where it has some."""
        part = range(first, first + count)
        labels = [self.classes[i % len(self.classes)] for i in part] if self.classes else testbed.labels(part)
        denoiser = testbed.denoiser(labels)
        if self.guidance != 1.0:
            wanted = denoiser.network_kwargs["class_labels"]
            condition, nothing = {"class_labels": wanted}, {"class_labels": 0 * wanted + testbed.num_classes}
            guidance = dpm.guidance.ClassifierFree(self.guidance, condition, nothing)
            denoiser = denoiser.replace(network_kwargs={}, guidance=guidance)
        return Noises(denoiser, testbed.initial_noise(part, seed))


_BETWEEN = "80000"  # evaluations, between "seconds" and "minutes"


def _quick(name: str) -> Case:
    return Case(name, "hours", 2048, 256)  # less than a minute


CASES = (
    *map(_quick, ("mixture-16", "moons-linear", "moons-flow", "moons-edm", "mixture-2", "gaussian", "empirical")),
    Case("cifar10-mixture", "minutes", 256),
    Case("mixture-3072", "minutes", 256),
    Case("cifar10-gaussian", "minutes", 256),
    Case("digits", _BETWEEN, 384),
    Case("digits", _BETWEEN, 384, guidance=2.0),
    Case("digits-flow", _BETWEEN, 384),
    Case("digits-edm", _BETWEEN, 384),
    Case("cifar10", noises=128),
    Case("cifar10", noises=128, guidance=2.0),
)


def case_of(name: str) -> Case:
    """The case of a name."""
    return next(case for case in CASES if case.name == name)


class Judges:
    """The judges of a case, with where their converged trajectories stand at each time at which some run ends.

    Args:
        count: how many of them; the case's own number by default. teacher_nfe: evaluations of a converged run.
    """

    def __init__(
        self, case: Case, count: int = 0, batch: int = 64, first: int = FIRST_JUDGE, teacher_nfe: int = TEACHER_NFE
    ) -> None:
        self.testbed = case.load()
        self.noises = case.some(self.testbed, first, count or case.judges)
        self.parts = self.noises.parts(range(len(self.noises)), batch)
        self.first, self.teacher_nfe = first, teacher_nfe
        self._known: dict[tuple[float, int], list[Taught]] = {}

    @property
    def denoiser(self) -> dpm.Denoiser:
        """That of the first part, for the schedule and the prediction."""
        return self.parts[0].denoiser

    def end(self, nfe: int) -> float:
        """The time at which plans of a budget end."""
        schedule = self.testbed.schedule
        return default_end(schedule, nfe, default_start(schedule, self.denoiser.predicts))

    def taught(self, end: float, count: int = 0) -> list[Taught]:
        """The first so many, or all, with their trajectories' ends."""
        if (end, 0) not in self._known:
            lessons = (Lesson.given(part, end, self.teacher_nfe, whole=False) for part in self.parts)
            self._known[end, 0] = [Taught(part, lesson) for part, lesson in zip(self.parts, lessons, strict=True)]
        if count and (end, count) not in self._known:
            self._known[end, count] = first_noises(self._known[end, 0], count)
        return self._known[end, count]

    def own_error(self, end: float, count: int = 8) -> float:
        """The mean distance of the converged runs from ones with twice as many evaluations."""
        errors = []
        for part, lesson in self.taught(end, count):
            finer = Lesson.given(part, end, 2 * self.teacher_nfe, whole=False)
            errors += _distances(part.flat(lesson.end), part.flat(finer.end)).tolist()
        return float(np.mean(errors))

    def of_table(self, table: Table, count: int = 0, end: float | None = None) -> Floats:
        """The error of each judge's run, to the time at which the table ends, or to the one said."""
        return end_errors(table, self.taught(table.points[-1].time if end is None else end, count), Miss())

    def of_sampler(self, sampler: Sampler, nfe: int, count: int = 0) -> Floats:
        """The error of each judge's run, to the time at which the sampler ends. PlanError for a budget that it cannot spend."""
        errors, at = [], self.first
        for part, lesson in self.taught(float(sampler.end_time(self.testbed.schedule, nfe)), count):
            x = sampler.draw(part.denoiser, part.x, nfe, self.testbed.keys(range(at, at + len(part)), SEED))
            errors.append(_distances(part.flat(x), part.flat(lesson.end)))
            at += len(part)
        return np.concatenate(errors)


def _distances(x: Floats, reference: Floats) -> Floats:
    """The root mean square distance of each sample."""
    return root_mean_squares(x - reference)


def halved(candidates: Candidates, rounds: Sequence[tuple[int, int]]) -> list[tuple[str, Floats]]:
    """The candidates that are left after rounds of (judges, how many go on), with the errors of the last, the best first.

    Args:
        candidates: names, and functions that return the errors of the first so many judges (0: all).
    """
    alive, found = list(candidates), []
    for count, kept in rounds:
        found = sorted(_measured(alive, count), key=lambda each: float(each[1].mean()))[:kept]
        names = {name for name, _ in found}
        alive = [each for each in alive if each[0] in names]
    return found


def _measured(candidates: Candidates, count: int) -> Iterator[tuple[str, Floats]]:
    for name, errors_of in candidates:
        try:
            errors = errors_of(count)
        except (dpm.PlanError, dpm.SamplingError):  # a budget that it cannot spend, or an overflow
            continue
        if np.isfinite(errors).all():
            yield name, errors


@cache
def edition() -> str:
    """A name for the fit as it is, whatever its words: figures of another one are measured again."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "src" / "dpmsolver" / "tuning").glob("*.py")):
        if path.stem != "page":
            total.update(ast.dump(_without_words(ast.parse(path.read_text()))).encode())
    return total.hexdigest()[:8]


def _without_words(tree: ast.AST) -> ast.AST:
    """The code without its docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Expr(ast.Constant(None))
    return tree


def fitted(case: Case, nfe: int, effort: str = "", noises: int = 0) -> Tuned:
    """The fit of a case to its first noises, from the folder of runs where it has been made, with the trajectories of all budgets."""
    effort, noises = effort or case.effort, noises or case.noises
    chosen = "".join(map(str, case.classes))
    folder = RUNS / edition() / "-".join(filter(None, [case.name.replace(" ", "-"), chosen, effort, str(noises)]))
    found = Tuned.load(folder, nfe)
    if found is None:
        given = case.some(case.load(), 0, noises)
        spent = int(effort) if effort.isdigit() else effort
        batch = 32 if case.device is None else 512
        found = dpm.tune(
            given.part(range(noises)).denoiser, given.x_T, nfe, effort=spent, batch=batch, seed=SEED, store=folder
        )
    assert isinstance(found, Tuned)
    return found


# Files ----------------------------------------------------------------------------------------------------------------------------


def said(errors: Floats) -> dict[str, float]:
    """The errors in four numbers of four digits."""
    return {key: float(f"{value:.4g}") for key, value in asdict(Summary.of(errors)).items()}


def read(part: str) -> dict[str, Any]:
    """The figures of a part."""
    path = RESULTS / f"tuning-{part}.json"
    empty: dict[str, Any] = {"command": f"python -m benchmarks.tuning --part {part}", "versions": {}, "cases": {}}
    return dict(json.loads(path.read_text())) if path.exists() else empty


def known(part: str, name: str, empty: Mapping[str, Any]) -> dict[str, Any]:
    """One case's figures so far; empty ones where there are none, or those of another edition of the fit."""
    found = read(part)["cases"].get(name, {})
    return dict(found) if found.get("fit") == edition() else {"fit": edition(), **empty}


def update(part: str, name: str, figures: Any) -> None:
    """Write one case's figures into the file of a part."""
    document = read(part)
    document["cases"][name] = figures
    document["versions"] = {"dpmsolver": dpm.__version__, "numpy": np.__version__}
    with written_aside(RESULTS / f"tuning-{part}.json") as aside:
        aside.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
