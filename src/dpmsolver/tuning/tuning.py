"""tune: the plan that fits a network, and the gate that keeps it only where it is better."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from dpmsolver.backends import arrays
from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError, unknown
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import like_weights, said_of
from dpmsolver.plans.caution import warn_of_start
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.sampling.finite import require_finite
from dpmsolver.sampling.forward import initial_noise
from dpmsolver.solvers.solver import check_nfe
from dpmsolver.tuning.course import Course
from dpmsolver.tuning.fit import Fit, require_enough
from dpmsolver.tuning.judging import preferred
from dpmsolver.tuning.misses import Miss, judged_errors
from dpmsolver.tuning.outcome import Kept, Report, Tuned
from dpmsolver.tuning.parts import DenoiserOf, Noises, denoiser_of
from dpmsolver.tuning.selecting import Preset, presets, ranked
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import TEACHER_NFE

__all__ = ["EFFORTS", "Selection", "select", "tune"]

Progress = Callable[[int, int], object]
# Samples that the network evaluates for one plan, beside the teacher's.
EFFORTS: dict[str, int] = {"seconds": 20_000, "minutes": 250_000, "hours": 2_500_000}
_FEWEST = 16  # noises: six to fit, four to choose, six to judge
_PER_NOISE = 128  # evaluations to spend for each noise that is used


@dataclass(frozen=True, eq=False)
class Selection:
    """The presets that are nearest on a network.

    Args:
        ranking: the presets of the last round, the best first, each with the errors of its noises.
        evaluations: of single samples by the network, the teacher's included.
    """

    ranking: tuple[Preset, ...]
    evaluations: int

    __repr__ = brief_repr

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

    Every solver of the candidates is tried on every grid, 144 presets, by successive halving: all on four noises, twenty on 16, six on 32.

    Args:
        denoiser: the network as it will be sampled, see `tune`.
        noises: x_T as in `sample`, (N, …), or its shape; the first 32 are used.
        nfe: network evaluations of a run.
        end: time at which runs end; by default the plans' own.
        batch: samples that the network evaluates at once.

    Returns:
        A `Selection`, with the `name` and the `plan` of the best preset and the `ranking` of the last round.

    Raises:
        PlanError: there are fewer than four noises, two calls of the network differ, or the teacher has not converged.
        SamplingError: the network returned NaN or infinity.
        ValueError: a noise is NaN or infinite.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.5, -0.5], variance=[0.25, 0.01])
        >>> selection = dpm.select(model.denoiser(schedule), (32, 2), nfe=6)
        >>> x = dpm.sample(model.denoiser(schedule), dpm.initial_noise(schedule, (5, 2)), plan=selection.plan)
        >>> x.shape
        (5, 2)
    """
    check_nfe(nfe)
    _check_batch(batch)
    own = _noises(denoiser, noises)
    if len(own) < 4:
        raise PlanError(f"select needs at least 4 noises, got {len(own)}")
    _check_start(own)
    course = Course(own, end, batch, range(min(len(own), 32)))
    course.prepare(nfe)
    teacher = course.taught(course.order, nfe, whole=False)
    found = ranked(list(presets(course.denoiser, nfe, end)), teacher, Miss())
    return Selection(tuple(found), own.evaluations)


@overload
def tune(
    denoiser: Denoiser | DenoiserOf,
    noises: Any,
    nfe: int = ...,
    *,
    effort: Literal["seconds", "minutes", "hours"] | int = ...,
    end: float | None = ...,
    features: Callable[[Any], Any] | None = ...,
    loss: Callable[[Any, Any], Any] | None = ...,
    batch: int = ...,
    seed: int = ...,
    store: str | Path | None = ...,
    progress: Progress | None = ...,
) -> Tuned: ...
@overload
def tune(
    denoiser: Denoiser | DenoiserOf,
    noises: Any,
    nfe: Iterable[int],
    *,
    effort: Literal["seconds", "minutes", "hours"] | int = ...,
    end: float | None = ...,
    features: Callable[[Any], Any] | None = ...,
    loss: Callable[[Any, Any], Any] | None = ...,
    batch: int = ...,
    seed: int = ...,
    store: str | Path | None = ...,
    progress: Progress | None = ...,
) -> dict[int, Tuned]: ...
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
) -> Tuned | dict[int, Tuned]:
    """Fit a plan to a network: its coefficients and its times, from forward passes alone.

    Converged trajectories of the noises are the teacher. The presets are measured (`select`), rows are fitted to the trajectories by least
    squares, all numbers are refined for the end by Gauss-Newton, and with enough effort the times are searched for. Other noises judge:
    the fitted plan is kept only if it errs less than the best preset on them with 95 % confidence, and the best preset only if it errs
    less than `auto`. So the result is not worse than the default.

    Args:
        denoiser: the network as it will be sampled, with its guidance and conditions; arrays in them with as many rows as there are
            noises go with the noises. Or a function that returns the denoiser of some noises, given their numbers, an int64 array in which
            a number may stand several times.
        noises: x_T as in `sample`, (N, …), of which 100 or more are good and 16 are needed; or its shape, for normals drawn from `seed`.
            Fit with one guidance scale per noise for a plan that serves a range of scales.
        nfe: network evaluations of a run, 3 or more; several budgets share the teacher.
        effort: how much to spend on each budget beside the teacher: "seconds", "minutes" or "hours", for a small network on a CPU,
            or the number of single samples that the network evaluates (20,000, 250,000 and 2,500,000).
        end: time at which runs end; by default where untuned plans of the budget end.
        features: a function (B, …) -> (B, …), such as a network's features; these are compared instead of the states.
        loss: a function (x, reference) -> (B,), numbers >= 0, to minimise instead of the distance.
        batch: samples that the network evaluates at once.
        seed: of the noises where a shape is given, and of their division into parts.
        store: a folder for trajectories and finished plans. A second call finds them there, and an interrupted one resumes. Trajectories
            then stay on disk, and each state is read when it is needed; without a store they are held in memory, of each noise that is
            fitted to 129 states or more.
        progress: called with (evaluations so far, evaluations in all); the second is an estimate from above.

    Returns:
        A `Tuned`, with `plan` and `report`; for several budgets a dict of them. The plan is an ordinary one, deterministic.

    Raises:
        PlanError: nfe is below 3, there are too few noises, two calls of the network differ, the teacher has not converged, the features
            or the loss have another number of rows, a loss is negative, or the store holds the plan of another fit.
        SamplingError: the network, the features or the loss returned NaN or infinity.
        ValueError: a noise is NaN or infinite.
        TypeError: the denoiser is a network.

    Warns:
        ConventionWarning: the noises are far smaller or larger than those of the schedule's start.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.5, -0.5], variance=[0.25, 0.01])
        >>> tuned = dpm.tune(model.denoiser(schedule), (32, 2), nfe=4, effort=6000)
        >>> tuned.report.winner, tuned.plan.nfe
        ('tuned', 4)

    Source: the idea of fitting a sampler to trajectories is that of bespoke solvers (Shaul et al. 2023, arXiv 2310.19075), LD3 (Tong et al.
    2024, arXiv 2405.15506) and others, by gradients through the network; rows by least squares as in linear multistep methods.
    """
    budgets = list(nfe) if isinstance(nfe, Iterable) else [nfe]
    _check(budgets, effort, batch)
    spending = EFFORTS[effort] if isinstance(effort, str) else int(effort)
    own = _noises(denoiser, noises, seed)
    if len(own) < _FEWEST:
        raise PlanError(f"tune needs at least {_FEWEST} noises, to fit, to choose and to judge, got {len(own)}")
    _check_start(own)
    folder = None if store is None else Path(store)
    teacher = None if folder is None else folder / "teacher"
    if teacher is not None:
        teacher.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(own))[: max(_FEWEST, spending // _PER_NOISE)]
    course, miss = Course(own, end, batch, order.tolist(), teacher), Miss(features, loss)
    keys = {each: "" if folder is None else course.key(each, spending, features, loss) for each in budgets}
    known = {each: None if folder is None else Tuned.load(folder, each, key) for each, key in keys.items()}
    missing = [each for each, tuned in known.items() if tuned is None]
    watch = _Watch(own, TEACHER_NFE * len(order) + spending * len(missing), progress)
    if missing:
        _check_equations(course, miss, missing)
        own.told = watch.tell
        course.prepare(max(budgets))
        watch.total = course.teacher_nfe * len(order) + spending * len(missing)
    found = {}
    for each, key in keys.items():
        draft = None if teacher is None else teacher / f"draft-{key}.json"
        found[each] = known[each] or _tuned(course, each, spending, miss, seed, draft)
        if folder is not None and draft is not None and known[each] is None:
            found[each].save(folder, key)
            draft.unlink(missing_ok=True)
    watch.finish()
    return found if isinstance(nfe, Iterable) else found[budgets[0]]


def _tuned(course: Course, nfe: int, spending: int, miss: Miss, seed: Any, draft: Path | None) -> Tuned:
    """Fit a plan for one budget, and keep the plan that the judging noises prefer."""
    before, thirds = course.noises.evaluations, course.thirds()
    fit = Fit(course, nfe, spending, miss, draft)
    judges = course.taught(thirds.judge, nfe, whole=False)
    tables: dict[Kept, Table] = {"auto": fit.auto.table, "selected": fit.selected.table, "tuned": fit.table}
    errors = dict(zip(tables, judged_errors(list(tables.values()), judges, miss), strict=True))
    report = Report(
        nfe=nfe,
        winner=preferred(errors),
        selected=fit.selected.name,
        errors=errors,
        stages=tuple(fit.draft.stages),
        noises=(len(thirds.fit), len(thirds.choose), len(thirds.judge)),
        teacher_nfe=course.teacher_nfe,
        teacher_error=course.teacher_error,
        evaluations=course.noises.evaluations - before,
        seconds=time.perf_counter() - fit.begun,
    )
    fitted = fit.table.plan("tuned", repr(course.schedule), "fitted", _provenance(course, report, seed))
    plans: dict[Kept, Plan] = {"auto": fit.auto.plan, "selected": fit.selected.plan, "tuned": fitted}
    return Tuned(plans[report.winner], report, plans)


def _provenance(course: Course, report: Report, seed: Any) -> dict[str, Any]:
    """Return the provenance of a tuned plan, in plain values."""
    tuned, selected = report.summaries["tuned"], report.summaries["selected"]
    return {
        # Of all noises, which may differ in their scale of guidance.
        **said_of(course.noises.part(course.order).denoiser),
        "seed": int(seed) if isinstance(seed, (int, np.integer)) else "not said",
        "noises": list(report.noises),
        "evaluations": report.evaluations,
        "mean_error": float(f"{tuned.mean:.6g}"),
        "untuned": report.selected,
        "untuned_mean_error": float(f"{selected.mean:.6g}"),
    }


def _check(budgets: Sequence[Any], effort: Any, batch: Any) -> None:
    if not budgets:
        raise PlanError("say how many network evaluations to spend: nfe=6, or several budgets")
    for nfe in budgets:
        check_nfe(nfe)
        if nfe < 3:
            raise PlanError(f"a plan of {nfe} evaluations has too little to fit: tune needs nfe >= 3; take dpm.select")
    if isinstance(effort, str) and effort not in EFFORTS:
        raise PlanError(unknown("effort", effort, EFFORTS))
    if not isinstance(effort, str) and not _counts(effort):
        raise PlanError(f"effort must be 'seconds', 'minutes', 'hours' or a number of evaluations, got {effort!r}")
    _check_batch(batch)


def _check_batch(batch: Any) -> None:
    if not _counts(batch):
        raise PlanError(f"batch must be an integer >= 1, got {batch!r}")


def _counts(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 1


def _check_start(noises: Noises) -> None:
    """Raise ValueError for noises that are not finite, and warn of noises of another size than the schedule's start."""
    x, schedule = noises.backend.state(noises.x_T), noises.part([0]).denoiser.schedule
    require_finite(noises.backend, x, "x_T")
    warn_of_start(x, arrays.deviation(noises.backend, x), Point.at(schedule, schedule.default_start()))


def _check_equations(course: Course, miss: Miss, budgets: Iterable[int]) -> None:
    """Raise PlanError for features, a loss or too few noises that no budget can be fitted with, before the network is evaluated."""
    width = miss.width(course.noises.part(course.order[:2]))
    if width is not None:
        for nfe in budgets:
            require_enough(nfe, len(course.thirds().fit), width)


def _noises(denoiser: Denoiser | DenoiserOf, noises: Any, seed: int = 0) -> Noises:
    """Return the noises; draw them if a shape is given."""
    if not isinstance(denoiser, Denoiser) and not _takes_numbers(denoiser):
        raise TypeError(
            "denoiser must be dpm.Denoiser(network, schedule, …), or a function that returns one for the numbers of some noises, got "
            f"{type(denoiser).__name__}"
        )
    if isinstance(noises, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in noises):
        one = denoiser if isinstance(denoiser, Denoiser) else denoiser_of(denoiser, np.arange(1))
        noises = initial_noise(one.schedule, tuple(noises), seed, like=like_weights(one.network))
    return Noises(denoiser, noises)


def _takes_numbers(function: Any) -> bool:
    """Return whether something can be called with the numbers of noises alone: a network cannot."""
    if not callable(function) or hasattr(function, "parameters"):
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # of a function in C, which has no signature
        return True
    return True


@dataclass
class _Watch:
    """A watch that tells the caller the progress of a fit, in evaluations of single samples."""

    noises: Noises
    total: int
    progress: Progress | None

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(min(self.noises.evaluations, self.total), self.total)

    def finish(self) -> None:
        if self.progress is not None:
            self.progress(self.total, self.total)
