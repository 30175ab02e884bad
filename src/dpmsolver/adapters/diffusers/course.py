"""The course of a pipeline's run: the plan that spends exactly the requested evaluations, from the run's start or from a later one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpmsolver.adapters.diffusers.reading import Reading
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.plans.rows import Row
from dpmsolver.schedules import Discrete, Floats, Flow
from dpmsolver.schedules.span import default_end, default_start
from dpmsolver.solvers.auto import run_of
from dpmsolver.solvers.names import resolved
from dpmsolver.solvers.registry import SOLVERS, make_plan
from dpmsolver.solvers.solver import Solver

__all__ = ["Choice", "Course", "course_of", "fitted"]

OF_CONFIG = "config"
_FLAGS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "logsnr",
    "use_lu_lambdas": "logsnr",
    "use_beta_sigmas": "beta",
}


@dataclass(frozen=True)
class Choice:
    """A user's choice: a solver with its grid and options, or a plan."""

    solver: str = "auto"
    plan: Plan | None = None
    grid: Any = None
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Course:
    """A plan, and what is needed to make one from a later start.

    Args:
        solver, options, grid, end: how the plan was made; a plan from the user has no solver.
        evaluations: the evaluations of each step.
        given: the times from the pipeline, one for each evaluation, and the end.
    """

    reading: Reading
    plan: Plan
    solver: Solver | None = None
    options: Mapping[str, Any] | None = None
    grid: Any = None
    evaluations: tuple[int, ...] = ()
    given: Floats | None = None

    def after(self, index: int) -> Plan:
        """Return the plan of a run that begins at evaluation `index`, made without the outputs before it.

        It has the steps of the whole run if one of them begins at that evaluation, else steps of its own.

        Raises:
            PlanError: the plan is from the user, there is no such evaluation, or the solver cannot spend the remaining ones.
        """
        if not 0 <= index < self.plan.nfe:
            raise PlanError(f"a run of {self.plan.nfe} evaluations cannot begin at number {index}")
        if index == 0:
            return self.plan
        if self.solver is None:
            raise PlanError(
                f"this plan is one whole run of {self.plan.nfe} evaluations, so it cannot begin at number {index} (image-to-image, or a "
                "split run): take a plan that was made for that start, or a solver"
            )
        left, starts = self.plan.nfe - index, [0, *np.cumsum(self.evaluations).tolist()]
        try:
            own = self.solver.accepted_options()
            options = {name: value for name, value in (self.options or {}).items() if name in own}
            if index in starts:
                points = [self.plan.rows[k].point.time for k in starts[starts.index(index) : -1]]
                times: Any = np.array([*points, self.plan.end.time])
            elif self.given is not None:
                times = _knots(self.given[index:], self.solver.spend(left))
            else:
                grid = None if self.grid == OF_CONFIG else self.grid
                begin, end, both = self.plan.rows[index].point.time, self.plan.end.time, self.options or {}
                return make_plan(self.solver, self.reading.schedule, left, grid, start=begin, end=end, **both)
            return make_plan(self.solver, self.reading.schedule, left, times, **options)
        except PlanError as error:
            raise PlanError(
                f"a run of {self.plan.nfe} evaluations cannot begin at number {index}, as this strength or denoising_start asks: {error}"
            ) from None


def course_of(reading: Reading, choice: Choice, nfe: int, *, sigmas: Any = None, timesteps: Any = None) -> Course:
    """Return the course of a run of `nfe` evaluations, on the pipeline's steps or on those of the chosen grid.

    Raises:
        PlanError: the solver cannot spend nfe, the plan has another budget or schedule or several outputs per evaluation, or sigmas or
            timesteps do not form a run.
    """
    if choice.plan is not None:
        _require_one_answer(choice.plan)
        if choice.plan.nfe != nfe:
            raise PlanError(
                f"this plan makes {choice.plan.nfe} evaluations, and the pipeline asks for {nfe}: "
                f"call it with num_inference_steps={choice.plan.nfe}"
            )
        return Course(reading, fitted(choice.plan, reading))
    schedule, given = reading.schedule, None
    grid = choice.grid if choice.grid is not None or choice.solver == "auto" else _grid_of_flags(reading)
    named = None if isinstance(grid, str) and grid == OF_CONFIG else grid
    written = choice.options or {}
    solver, named, start, end, options = resolved(SOLVERS, choice.solver, named, None, None, written)
    if sigmas is not None or timesteps is not None:
        given = reading.times_from_sigmas(sigmas) if sigmas is not None else _from_timesteps(reading, timesteps, end)
    if solver == "auto":
        solver, named, start = run_of(schedule, nfe, reading.predicts, named if given is None else given, start)
        named = None if given is not None else named
        solver, named, start, end, options = resolved(SOLVERS, solver, named, start, end, options)
    entry = SOLVERS[solver] if isinstance(solver, str) else solver
    evaluations = entry.spend(nfe)
    times: Any = None
    if given is not None:
        if len(given) != nfe + 1:
            raise PlanError(
                f"{nfe} evaluations were asked for, and steps given for {len(given) - 1}: give one for each evaluation"
            )
        times = _knots(given, evaluations)
    elif isinstance(grid, str) and grid == OF_CONFIG:
        times = _times_of_class(reading, len(evaluations))
        if len(times) != len(evaluations) + 1:
            raise PlanError(
                f"the noise levels of {reading.fields.family.class_name} are not the ends of {len(evaluations)} steps, because it has "
                "stages of its own or repeats a level: name a grid, such as grid='karras'"
            )
    if times is None:
        plan = make_plan(entry, schedule, nfe, named, start=start, end=end, predicts=reading.predicts, **options)
    else:
        if (
            schedule.alpha(float(times[0])) == 0.0
        ):  # where a run begins that names no times, as those of pipelines do here
            late = entry.prediction == "noise" or entry.finite
            times[0] = default_start(schedule, reading.predicts, needs_signal=late)
        own = {name: value for name, value in options.items() if name in entry.accepted_options()}
        plan = make_plan(entry, schedule, nfe, times, **own)
    _require_one_answer(plan)
    return Course(reading, plan, entry, options, named, evaluations, given)


def _require_one_answer(plan: Plan) -> None:
    """PlanError for a plan that wants the guided and the unconditional output apart."""
    if plan.answers > 1:
        raise PlanError(
            f"a pipeline hands its scheduler one output, and {plan.solver or 'this plan'} wants {plan.answers} of each evaluation: "
            "sample dpm.from_diffusers(pipe, prompt) with dpm.sample"
        )


def _knots(given: Floats, evaluations: tuple[int, ...]) -> Floats:
    """The ends of the steps, where there is a time for each evaluation: a step of two evaluations takes every second one."""
    knots: Floats = given[np.append(0, np.cumsum(evaluations))]
    return knots


def _from_timesteps(reading: Reading, timesteps: Any, end: float | None) -> Floats:
    """Times from a pipeline's timesteps: they end at clean data, or where the options or the config say."""
    schedule = reading.schedule
    if end is None:
        end = 0.0
        last = float(reading.times_of(timesteps)[-1])
        if not reading.clean and last > schedule.t_min:
            end = default_end(schedule, len(timesteps), last, needs_noise=True)
    return reading.times_from_timesteps(timesteps, end)


def _grid_of_flags(reading: Reading) -> str | None:
    """The grid that a config names by a flag, such as use_karras_sigmas."""
    return next((grid for flag, grid in _FLAGS.items() if reading.fields.flag(flag)), None)


def _times_of_class(reading: Reading, steps: int) -> Floats:
    """The steps that the config's own class takes, as that class itself makes them.

    Raises:
        PlanError: a config that does not say its class.
    """
    name, schedule = reading.fields.family.class_name, reading.schedule
    if not name:
        raise PlanError(
            f"grid={OF_CONFIG!r} takes the steps of the config's scheduler class, and this config names none: name a grid"
        )
    scheduler = getattr(importlib.import_module("diffusers"), name).from_config(dict(reading.config))
    scheduler.set_timesteps(steps, **({"mu": reading.mu} if reading.wants_mu else {}))
    flagged = any(reading.fields.flag(flag) for flag in _FLAGS)
    levels = to_host(scheduler.sigmas) if hasattr(scheduler, "sigmas") else None
    if levels is not None and (flagged or not isinstance(schedule, Discrete)):
        return _times_of_levels(reading, levels)
    labels = to_host(scheduler.timesteps)
    labels = np.array([label for k, label in enumerate(labels) if k == 0 or label < labels[k - 1]])
    if levels is not None:
        end = 0.0 if levels[-1] == 0.0 else schedule.t_min
    else:
        before = labels[-1] - schedule.num_steps // steps if isinstance(schedule, Discrete) else -1.0
        clean = before < 0 and (reading.fields.value("set_alpha_to_one", True) or labels[-1] <= 0)
        end = 0.0 if clean else float(schedule.time_from_label(max(before, 0.0)))
    return np.append(reading.times_of(labels), end)


def _times_of_levels(reading: Reading, levels: Floats) -> Floats:
    """The times of a class's sigmas, of which a class of second order has each twice."""
    schedule = reading.schedule
    ends = [float(schedule.half_log_snr(time)) for time in (schedule.t_max, schedule.t_min)]
    with np.errstate(divide="ignore"):
        if isinstance(schedule, Flow):
            levels = 1.0 - levels if schedule.reversed else levels
            levels = levels / (1.0 - levels)
        kept = np.array([level for k, level in enumerate(levels) if k == 0 or level != levels[k - 1]])
        half_log_snrs = np.clip(-np.log(kept), min(ends), max(ends))
    times: Floats = schedule.time(np.where(kept == 0.0, np.inf, half_log_snrs))
    return times


def fitted(plan: Plan, reading: Reading) -> Plan:
    """Return the plan in the times of the config's schedule.

    Raises:
        PlanError: the plan was made for another schedule.
    """
    schedule = reading.schedule
    if isinstance(schedule, Flow):
        plan = _retimed(plan, schedule)
    points = [*(row.point for row in plan.rows), plan.end]
    for number, point in enumerate(points):
        try:
            own = Point.at(schedule, point.time)
        except ValueError:
            own = None
        far = own is None or max(abs(own.alpha - point.alpha), abs(own.sigma - point.sigma)) > 1e-6 * (
            point.alpha + point.sigma
        )
        span = abs(schedule.label(schedule.t_max) - schedule.label(schedule.t_min))
        if far or own is None or (number < plan.nfe and abs(own.label - point.label) > 0.25 * span):
            made = f" (it was made for {plan.schedule})" if plan.schedule else ""
            raise PlanError(
                f"the plan does not fit this config's schedule, {schedule!r}{made}: they differ at t={point.time:.6g}; "
                "make the plan with schedule_from_config(pipe.scheduler.config), or take it to the pipeline that it was made for"
            )
    return plan


def _retimed(plan: Plan, flow: Flow) -> Plan:
    """The same plan in the times of a flow of another shift: all flows have the same noise levels, and labels that follow them."""

    def moved(point: Point) -> Point:
        if abs(point.alpha + point.sigma - 1.0) > 1e-6:
            return point
        try:
            return replace(point, time=float(flow.time(point.half_log_snr)))
        except ValueError:
            return point

    rows = tuple(Row(moved(row.point), row.advance, row.predict, row.output) for row in plan.rows)
    return replace(plan, rows=rows, end=moved(plan.end), origin=None if plan.origin is None else moved(plan.origin))
