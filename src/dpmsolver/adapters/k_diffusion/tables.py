"""Plans on given sigmas, which are k-diffusion's steps as a table, and the sigmas of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import EDM, Floats, Flow, NoiseSchedule
from dpmsolver.solvers import SOLVERS, Solver, make_plan
from dpmsolver.transforms import denoise_to_zero

__all__ = [
    "checked_sigmas",
    "is_flow",
    "level",
    "places_of",
    "plan_on_sigmas",
    "schedule_of",
    "sigmas_of",
    "spent_on",
    "steps_on_sigmas",
]

_LAST_WITH_SIGNAL = 0.999  # the sigma of a flow at which solvers start that have no limit at sigma = 1
_SAME_FLOW = 1e-9


def checked_sigmas(sigmas: ArrayLike, flow: bool = False) -> Floats:
    """Return a caller's sigmas as float64 (n + 1,), after checks.

    Raises:
        PlanError: the sigmas are not a vector, not finite, negative or not strictly falling, or those of a flow are above 1.
    """
    levels = to_host(sigmas)
    if levels.ndim != 1:
        raise PlanError(f"sigmas must be a vector of n + 1 noise levels for n steps, got shape {levels.shape}")
    if not np.isfinite(levels).all() or (levels < 0).any():
        bad = levels[~(np.isfinite(levels) & (levels >= 0))][0]
        raise PlanError(
            f"sigmas must be finite and >= 0, got {bad}: give those of a scheduler, with 0 for clean data at the end"
        )
    steps = np.diff(levels)
    if (steps >= 0).any():
        k = int(np.flatnonzero(steps >= 0)[0])
        raise PlanError(
            f"sigmas must fall strictly, from noise to data, but sigmas[{k}]={levels[k]:.6g} is followed by {levels[k + 1]:.6g}: "
            "take out what repeats, and to go from data to noise use dpm.encode"
        )
    if flow and len(levels) and levels[0] > 1.0:
        raise PlanError(
            f"the sigmas of a flow lie between 0 and 1, got {levels[0]:.6g}: take a scheduler of this model"
        )
    return levels


def schedule_of(levels: Floats, flow: bool) -> NoiseSchedule:
    """Return a schedule whose times are these sigmas, for states x_0 + sigma eps, or (1 - sigma) x_0 + sigma eps for a flow."""
    lowest = float(levels[levels > 0].min())
    if flow:
        return Flow(t_min=min(1e-4, lowest))
    highest = float(levels.max())
    return EDM(sigma_min=lowest if lowest < highest else 0.5 * lowest, sigma_max=highest)


def spent_on(solver: Solver, steps: int, to_zero: bool) -> tuple[int, ...]:
    """Return the evaluations of each step of a run. The last step, if it goes to sigma = 0, has one if the solver allows it.

    Examples:
        >>> from dpmsolver.solvers.registry import SOLVERS
        >>> heun, dpm_2 = SOLVERS["heun"], SOLVERS["dpm-2"]
        >>> spent_on(heun, 3, True), spent_on(heun, 3, False), spent_on(dpm_2, 3, True)
        ((2, 2, 1), (2, 2, 2), (2, 2, 1))
    """
    if solver.evaluations is None:
        each = solver.evaluations_per_step
        if to_zero and solver.takes_evaluations:
            return (*[each] * (steps - 1), 1)
        return (each,) * steps
    fitting = [spent for spent in map(_budget(solver), range(1, 5 * steps + 13)) if len(spent) == steps]
    if not fitting:
        raise PlanError(f"{solver.name} cannot take {steps} steps: give it more sigmas, or fewer")
    ending_in_one = [spent for spent in fitting if spent[-1] == 1]
    return (ending_in_one or fitting)[-1] if to_zero else fitting[-1]


def plan_on_sigmas(solver: str | Solver, sigmas: ArrayLike, *, flow: bool = False, **options: Any) -> Plan:
    """Return a solver's plan on exactly these sigmas, the plan of `sample_NAME`.

    Args:
        solver: one of our names, or a `Solver`.
        sigmas: n + 1 falling noise levels; the last may be 0.
        flow: True for states (1 - sigma) x_0 + sigma eps, False for x_0 + sigma eps.
        options: options of the solver.

    Raises:
        PlanError: sigmas do not fall strictly, there are fewer than two or more than the solver can take, or a name or option is unknown.

    Examples:
        >>> plan = plan_on_sigmas("heun", [80.0, 10.0, 1.0, 0.0])
        >>> plan.nfe, [row.point.time for row in plan.rows]
        (5, [80.0, 10.0, 10.0, 1.0, 1.0])
    """
    found = SOLVERS.get(solver) if isinstance(solver, str) else solver
    if not isinstance(found, Solver):
        raise PlanError(f"solver must be a name of dpm.solvers() or a dpm.Solver, got {solver!r}")
    levels = checked_sigmas(sigmas, flow)
    if len(levels) < 2:
        raise PlanError(f"a run needs two sigmas or more, got {len(levels)}")
    return steps_on_sigmas(found, levels, flow, options)[0]


def steps_on_sigmas(
    solver: Solver, levels: Floats, flow: bool, options: Mapping[str, Any], ends_in_prediction: bool = False
) -> tuple[Plan, tuple[int, ...]]:
    """Return the plan on checked sigmas, and the number of evaluations of each step.

    Args:
        ends_in_prediction: True replaces the solver's step to sigma = 0 by the newest predicted x_0.
    """
    if flow and levels[0] == 1.0 and (solver.finite or solver.prediction == "noise"):
        levels = np.append(max(_LAST_WITH_SIGNAL, 0.5 * (1.0 + levels[1])), levels[1:])
    if levels[-1] == 0.0 and (ends_in_prediction or _has_no_short_last_step(solver)):
        return _ending_in_a_prediction(solver, levels, flow, options)
    return _made(solver, levels, flow, options)


def sigmas_of(plan: Plan) -> Floats:
    """Return the sigmas of a plan's own points, for a model of its kind: sigma/alpha, or sigma for the plan of a flow.

    The network is evaluated at each of them except the last, where the run ends. A sigma with several evaluations occurs once.

    Raises:
        PlanError: the plan starts at pure noise and is not that of a flow, so that sigma/alpha is infinite.

    Examples:
        >>> from dpmsolver.solvers.registry import make_plan
        >>> from dpmsolver.schedules import EDM
        >>> sigmas_of(make_plan("heun", EDM(), 5, [80.0, 10.0, 1.0, 0.0]))
        array([80., 10.,  1.,  0.])
    """
    return places_of(plan)[0]


def places_of(plan: Plan) -> tuple[Floats, dict[int, int]]:
    """Return the sigmas of a plan, and the number of the sigma for each evaluation that is the first one at it."""
    flow, found, first = is_flow(plan), list[float](), dict[int, int]()
    for number, point in enumerate((plan.start, *(row.point for row in plan.rows), plan.end), start=-1):
        sigma = level(point, flow)
        if not found or sigma < found[-1] * (1.0 - 1e-12):
            found.append(sigma)
            first[number] = len(found) - 1
    if not math.isfinite(found[0]):
        raise PlanError(
            "this plan starts at alpha = 0, where sigma/alpha is infinite: make it with a start just below (start=…)"
        )
    begins = {max(number, 0): place for number, place in first.items() if number < plan.nfe}
    return np.array(found), begins


def is_flow(plan: Plan) -> bool:
    """Return whether a plan's states are those of a flow: alpha + sigma = 1 at every point."""
    points = (plan.start, *(row.point for row in plan.rows), plan.end)
    return all(abs(p.alpha + p.sigma - 1.0) < _SAME_FLOW for p in points)


def level(point: Point, flow: bool) -> float:
    """Return the sigma that a model of k-diffusion, or a flow, takes at a point."""
    return point.sigma / (point.alpha + point.sigma) if flow else point.rho


def _budget(solver: Solver) -> Callable[[int], tuple[int, ...]]:
    def spent(nfe: int) -> tuple[int, ...]:
        try:
            return solver.spend(nfe)
        except PlanError:
            return ()

    return spent


def _has_no_short_last_step(solver: Solver) -> bool:
    """Whether a solver's own step to sigma = 0 is none, or has stages that ask the network twice at one place."""
    same_each = solver.evaluations is None and not solver.takes_evaluations
    return solver.finite or (same_each and solver.evaluations_per_step > 1)


def _ending_in_a_prediction(
    solver: Solver, levels: Floats, flow: bool, options: Mapping[str, Any]
) -> tuple[Plan, tuple[int, ...]]:
    """The solver's steps to the last sigma above 0, and there the predicted x_0 for the result."""
    if len(levels) == 2:
        return _made(SOLVERS["ddim"], levels, flow, {})
    plan, spent = _made(solver, levels[:-1], flow, options)
    return replace(denoise_to_zero(plan), solver=solver.name), (*spent, 1)


def _made(solver: Solver, levels: Floats, flow: bool, options: Mapping[str, Any]) -> tuple[Plan, tuple[int, ...]]:
    spent = spent_on(solver, len(levels) - 1, to_zero=bool(levels[-1] == 0.0))
    if solver.takes_evaluations:
        solver = replace(solver, evaluations=lambda nfe: spent)
    raised = _raised(levels, options) if not flow else levels[0]
    times = np.append(raised, levels[1:])
    schedule = schedule_of(times, flow)
    plan = make_plan(solver, schedule, sum(spent), times, **options)
    if raised == levels[0]:
        return plan, spent
    added = float(options.get("s_noise", 1.0)) * math.sqrt(raised**2 - levels[0] ** 2)
    return _begun_with_noise(plan, Point.at(schedule, float(levels[0])), added), spent


def _raised(levels: Floats, options: Mapping[str, Any]) -> float:
    """The first sigma after EDM's churn, which k-diffusion has before every step, and our plans before all but the first."""
    churn, first = float(options.get("s_churn", 0.0)), float(levels[0])
    inside = options.get("s_tmin", 0.0) <= first <= options.get("s_tmax", math.inf)
    return first * (1.0 + min(churn / (len(levels) - 1), math.sqrt(2.0) - 1.0)) if churn > 0.0 and inside else first


def _begun_with_noise(plan: Plan, origin: Point, noise: float) -> Plan:
    """The plan for an x_T at `origin`, to which noise is added before the first evaluation.

    x_T stays the state until the first step commits another, so that the marginals cannot be followed from row to row.
    """
    rows = list(plan.rows)
    for index, row in enumerate(rows):
        # The draw of `begin` is as many draws old as there were rows since.
        begun = Combination(1.0, (), (*[0.0] * (index + 1), noise))
        if row.advance is not None:
            rows[index] = replace(row, advance=row.advance.after(begun))
            break
        rows[index] = Row(row.point, predict=row.predict and row.predict.after(begun), output=row.output)
    first = Combination(1.0, (), (noise,))
    return replace(plan, rows=tuple(rows), begin=first, origin=origin, keeps_marginals=False)
