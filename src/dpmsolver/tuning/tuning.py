"""tune: the plan that fits a network, and the gate that keeps it only where it is better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dpmsolver.errors import PlanError, unknown
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import like_weights, said_of
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.forward import initial_noise
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.solver import check_nfe
from dpmsolver.tuning.course import Course
from dpmsolver.tuning.fitting import fit_rows
from dpmsolver.tuning.judging import preferred
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.outcome import Kept, Report, Stage, Tuned
from dpmsolver.tuning.parts import DenoiserOf, Noises
from dpmsolver.tuning.refining import jacobian_cost, refined
from dpmsolver.tuning.searching import searched
from dpmsolver.tuning.selecting import Preset, first_noises, presets, ranked
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught

__all__ = ["EFFORTS", "Selection", "select", "tune"]

Progress = Callable[[int, int], object]
# Samples that the network evaluates for one plan, beside the teacher's.
EFFORTS: dict[str, int] = {"seconds": 20_000, "minutes": 250_000, "hours": 2_500_000}
_RIDGES = (1e-6, 1e-4, 1e-2)
_FEWEST = 16  # noises: six to fit, four to choose, six to judge
_PER_NOISE = 128  # evaluations to spend for each noise that is used
_SHARE = 1 / 8  # of what is left to spend: the largest that a Jacobian may cost


@dataclass(frozen=True, eq=False)
class Selection:
    """The presets that are nearest on a network.

    Args:
        ranking: those of the last round, the best first, each with the errors of its noises.
        evaluations: of single samples by the network, the teacher's included.
    """

    ranking: tuple[Preset, ...]
    evaluations: int

    @property
    def plan(self) -> Plan:
        """The plan of the best preset."""
        return self.ranking[0].plan

    @property
    def name(self) -> str:
        """The best preset, as `make_plan` and `sample` take it: `solver@grid`."""
        return self.ranking[0].name

    def __str__(self) -> str:
        return "\n".join(map(str, self.ranking))


def select(
    denoiser: Denoiser | DenoiserOf, noises: Any, nfe: int = 8, *, end: float | None = None, batch: int = 16
) -> Selection:
    """Measure the presets on a network and rank them by their distance from its converged trajectories.

    Every solver of the candidates is tried on every grid, 128 presets, by successive halving: all on four noises, twenty on 16, six on 32.

    Args:
        denoiser: the network as it will be sampled, see `tune`.
        noises: x_T as in `sample`, (N, …), or its shape; the first 32 are used.
        nfe: network evaluations of a run.
        end: time at which runs end; by default the plans' own.
        batch: samples that the network evaluates at once.

    Raises:
        PlanError: fewer than four noises, a network whose calls differ, a teacher that has not converged.
        SamplingError: NaN or infinity from the network.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.5, -0.5], variance=[0.25, 0.01])
        >>> selection = dpm.select(model.denoiser(schedule), (32, 2), nfe=6)
        >>> x = dpm.sample(model.denoiser(schedule), dpm.initial_noise(schedule, (5, 2)), plan=selection.plan)
        >>> x.shape
        (5, 2)
    """
    check_nfe(nfe)
    own = _noises(denoiser, noises)
    if len(own) < 4:
        raise PlanError(f"select needs at least 4 noises, got {len(own)}")
    course = Course(own, end, batch, range(min(len(own), 32)))
    course.prepare(nfe)
    teacher = course.taught(course.order, nfe, whole=False)
    found = ranked(list(presets(course.denoiser, nfe, end)), teacher, Miss())
    return Selection(tuple(found), own.evaluations)


def tune(
    denoiser: Denoiser | DenoiserOf,
    noises: Any,
    nfe: int | Iterable[int] = 6,
    *,
    effort: Literal["seconds", "minutes", "hours"] | int = "seconds",
    end: float | None = None,
    features: Callable[[Any], Any] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    batch: int = 32,
    seed: int = 0,
    store: str | Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """Fit a plan to a network: its coefficients and its times, from forward passes alone.

    Converged trajectories of the noises are the teacher. The presets are measured (`select`), rows are fitted to the trajectories by least
    squares, all numbers are refined for the end by Gauss-Newton, and with enough effort the times are searched for. A part of the noises
    is never fitted to: by these the fitted plan has to be better than the best preset, and that than `auto`, with 95 % confidence, or
    it is not kept. So the result is not worse than the default.

    Args:
        denoiser: the network as it will be sampled, with its guidance and conditions; arrays in them with as many rows as there are
            noises go with the noises. Or a function that returns the denoiser of some noises, given their numbers, an int64 array.
        noises: x_T as in `sample`, (N, …), of which 100 or more are good and 16 are needed; or its shape, for normals drawn from `seed`.
            Fit with one guidance scale per noise for a plan that serves a range of scales.
        nfe: network evaluations of a run, 3 or more; several budgets share the teacher.
        effort: how much to spend on each budget beside the teacher: "seconds", "minutes" or "hours", for a small network on a CPU,
            or the number of single samples that the network evaluates (20,000, 250,000 and 2,500,000).
        end: time at which runs end; by default where untuned plans of the budget end.
        features: what is compared of two ends instead of the states, (B, …) -> (B, …), such as a network's features.
        loss: what is to be small, (x, reference) -> (B,), numbers >= 0.
        batch: samples that the network evaluates at once.
        seed: of the noises where a shape is given, and of their division into parts.
        store: a folder for trajectories and finished plans. A second call finds them there, and an interrupted one resumes.
        progress: called with (evaluations so far, evaluations in all); the second is an estimate from above.

    Returns:
        A `Tuned`, with `plan` and `report`; for several budgets a dict of them. The plan is an ordinary one, deterministic.

    Raises:
        PlanError: nfe below 3, too few noises, a network whose calls differ, a teacher that has not converged, features of another
            kind. SamplingError: NaN or infinity from the network or the features.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.5, -0.5], variance=[0.25, 0.01])
        >>> tuned = dpm.tune(model.denoiser(schedule), (32, 2), nfe=4, effort=6000)
        >>> tuned.report.winner, tuned.plan.nfe
        ('tuned', 4)

    Source: the idea of fitting a sampler to trajectories is that of bespoke solvers (Shaul et al. 2023, arXiv 2310.19075), LD3 (Tong et al.
    2024, arXiv 2405.15506) and others, by gradients through the network; rows by least squares as in linear multistep methods.
    """
    budgets = [nfe] if isinstance(nfe, (int, np.integer)) else list(nfe)
    _check(budgets, effort, batch)
    spending = EFFORTS[effort] if isinstance(effort, str) else int(effort)
    own = _noises(denoiser, noises, seed)
    if len(own) < _FEWEST:
        raise PlanError(f"tune needs at least {_FEWEST} noises, to fit, to choose and to judge, got {len(own)}")
    folder = None if store is None else Path(store)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(own))[: max(_FEWEST, spending // _PER_NOISE)]
    course = Course(own, end, batch, order.tolist(), folder)
    course.prepare(max(budgets))
    total = course.teacher_nfe * len(order) + spending * len(budgets)
    watch = _Watch(own, total, progress)
    found = {}
    for each in budgets:
        key = course.key(each, spending, features, loss)
        known = None if folder is None else Tuned.load(folder, each, key)
        found[each] = known or _tuned(course, each, spending, Miss(features, loss), watch)
        if folder is not None and known is None:
            found[each].save(folder, key)
    return found[budgets[0]] if isinstance(nfe, (int, np.integer)) else found


def _tuned(course: Course, nfe: int, spending: int, miss: Miss, watch: _Watch) -> Tuned:
    """The fit of one budget."""
    began, before = time.perf_counter(), course.noises.evaluations
    thirds, schedule = course.thirds(), course.schedule
    fit, choose = (course.taught(numbers, nfe) for numbers in (thirds.fit, thirds.choose))
    until = course.noises.evaluations + spending  # the teacher is beside
    stages: list[Stage] = []

    def judged(table: Table) -> float:
        watch.tell()
        error = float(end_errors(table, choose, miss).mean())
        return error if math.isfinite(error) else math.inf

    def noted(name: str, table: Table) -> tuple[float, Table]:
        error = judged(table)
        stages.append(Stage(name, error, course.noises.evaluations - before))
        return error, table

    candidates = list(presets(course.denoiser, nfe, course.wanted_end))
    best = ranked(candidates, [*choose, *fit], miss)
    auto, selected = candidates[0], best[0]
    noted("auto", auto.table)
    tables = [noted(f"selected: {selected.name}", selected.table)]
    fitted = [fit_rows(base, fit, miss, ridge) for base in _bases(best, candidates) for ridge in _RIDGES]
    tables.append(noted("rows by least squares", min(fitted, key=judged)))
    _require_enough(nfe, fit, miss)
    tables.sort(key=lambda pair: pair[0])
    for name, table in (("refined", tables[0][1]), ("refined from the other start", tables[1][1])):
        tables.append(noted(name, _refined(table, fit, schedule, miss, judged, until, course)))
    tables.sort(key=lambda pair: pair[0])
    candidates_left = (until - course.noises.evaluations) // (2 * nfe * (len(thirds.fit) + len(thirds.choose)))
    if candidates_left >= 4 * nfe:
        start = tables[0][1]
        found = searched(start, fit, schedule, miss, judged, _RIDGES[0], candidates_left)
        noted("times searched", found)
        tables.append(noted("refined after the search", _refined(found, fit, schedule, miss, judged, until, course)))
    table = min(tables, key=lambda pair: pair[0])[1]
    return _gated(course, nfe, auto, selected, table, miss, stages, before, began, watch)


def _bases(best: Sequence[Preset], every: Sequence[Preset]) -> list[Table]:
    """Tables with times that fall, on the grids of the best presets and on two that are usual."""
    usual = [preset for preset in every if preset.name in ("dpm++2m@quadratic", "dpm++2m@logsnr")]
    found: dict[tuple[float, ...], Table] = {}
    for preset in [*best, *usual]:
        times = tuple(point.time for point in preset.table.points)
        if all(a > b for a, b in pairwise(times)):
            found.setdefault(times, preset.table)
    return list(found.values())[:4]


def _refined(
    table: Table,
    fit: Sequence[Taught],
    schedule: NoiseSchedule,
    miss: Miss,
    judged: Callable[[Table], float],
    until: int,
    course: Course,
) -> Table:
    """The table after as many steps of Gauss-Newton as the rest of the budget allows, or as bring anything."""
    left, each = until - course.noises.evaluations, jacobian_cost(table.nfe)
    count = min(sum(len(part) for part, _ in fit), max(8, int(_SHARE * left) // each))
    some = first_noises(fit, count)
    if sum(len(part) for part, _ in some) * each > left:
        return table
    times = course.denoiser.time_label != "round"
    for better in refined(table, some, schedule, miss, judged, steps=100, times=times):
        table = better
        if until - course.noises.evaluations < each * count:
            break
    return table


def _gated(
    course: Course,
    nfe: int,
    auto: Preset,
    selected: Preset,
    table: Table,
    miss: Miss,
    stages: Sequence[Stage],
    before: int,
    began: float,
    watch: _Watch,
) -> Tuned:
    """The plan that the noises prefer which were not used so far."""
    thirds = course.thirds()
    judges = course.taught(thirds.judge, nfe, whole=False)
    tables: dict[Kept, Table] = {"auto": auto.table, "selected": selected.table, "tuned": table}
    errors = {name: end_errors(each, judges, miss) for name, each in tables.items()}
    winner = preferred(errors)
    watch.tell()
    evaluations = course.noises.evaluations - before
    report = Report(
        nfe,
        winner,
        selected.name,
        errors,
        tuple(stages),
        (len(thirds.fit), len(thirds.choose), len(thirds.judge)),
        course.teacher_nfe,
        course.teacher_error,
        evaluations,
        time.perf_counter() - began,
    )
    if winner != "tuned":
        return Tuned({"auto": auto, "selected": selected}[winner].plan, report)
    return Tuned(table.plan("tuned", repr(course.schedule), "fitted", _provenance(course, report)), report)


def _provenance(course: Course, report: Report) -> dict[str, Any]:
    """What a tuned plan says of its making, in plain values."""
    tuned, selected = report.summaries["tuned"], report.summaries["selected"]
    return {
        **said_of(course.denoiser),
        "noises": list(report.noises),
        "evaluations": report.evaluations,
        "mean_error": float(f"{tuned.mean:.6g}"),
        "untuned": report.selected,
        "untuned_mean_error": float(f"{selected.mean:.6g}"),
    }


def _require_enough(nfe: int, fit: Sequence[Taught], miss: Miss) -> None:
    """PlanError where the noises say less than there is to be fitted."""
    part, lesson = fit[0]
    numbers = sum(len(part) for part, _ in fit) * miss(part, lesson.end, lesson.end).shape[1]
    wanted = sum(k + 2 for k in range(nfe)) + nfe - 1
    if numbers < wanted:
        raise PlanError(
            f"{nfe} evaluations have {wanted} numbers to fit, and the noises that fit give {numbers}: take more noises"
        )


def _check(budgets: Sequence[Any], effort: Any, batch: Any) -> None:
    if not budgets:
        raise PlanError("say how many network evaluations to spend: nfe=6, or several budgets")
    for nfe in budgets:
        check_nfe(nfe)
        if nfe < 3:
            raise PlanError(f"a plan of {nfe} evaluations has too little to fit: tune needs nfe >= 3; take dpm.select")
    if isinstance(effort, str) and effort not in EFFORTS:
        raise PlanError(unknown("effort", effort, EFFORTS))
    if not isinstance(effort, str) and not (isinstance(effort, (int, np.integer)) and effort > 0):
        raise PlanError(f"effort must be 'seconds', 'minutes', 'hours' or a number of evaluations, got {effort!r}")
    if not (isinstance(batch, (int, np.integer)) and batch >= 1):
        raise PlanError(f"batch must be an integer >= 1, got {batch!r}")


def _noises(denoiser: Denoiser | DenoiserOf, noises: Any, seed: int = 0) -> Noises:
    """The noises, drawn here where a shape is given."""
    if not callable(denoiser) and not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be dpm.Denoiser(…) or a function of noises, got {type(denoiser).__name__}")
    if isinstance(noises, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in noises):
        one = denoiser if isinstance(denoiser, Denoiser) else denoiser(np.arange(1))
        noises = initial_noise(one.schedule, tuple(noises), seed, like=like_weights(one.network))
    return Noises(denoiser, noises)


@dataclass
class _Watch:
    """Tells the caller how far a fit is, in evaluations of single samples."""

    noises: Noises
    total: int
    progress: Progress | None

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(min(self.noises.evaluations, self.total), self.total)
