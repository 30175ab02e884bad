"""Heun++: an Euler step with a slope that looks one and two steps ahead."""

from __future__ import annotations

from collections.abc import Sequence

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.adams import rho_step
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "heunpp2"]


def heunpp2(schedule: NoiseSchedule, times: Floats) -> Plan:
    """Return the plan of Heun++: steps in rho = sigma/alpha with the slope w_1 eps(s) + w_2 eps(t) + w_3 eps(u).

    s, t and u are successive points of the grid; Euler steps reach t and u. w_2 and w_3 are rho_t and rho_u over three times the largest
    rho of the run, its first, and w_1 is the rest: a rule of thumb, of order 1. The step before the last has no u, and its w_2 is rho_t
    over twice the largest rho. The last step is Euler's.

    Source: sd-webui-samplers-scheduler (Carzit); ComfyUI, sample_heunpp2. Unlike there, no churn is available here.
    """
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    largest = max(point.rho for point in points[:-1])
    for k in range(len(points) - 1):
        rows += _step(points[k : k + 3], largest, remaining=len(points) - 1 - k)
    return Plan("noise", tuple(rows), points[-1])


def _step(points: Sequence[Point], largest: float, remaining: int) -> list[Row]:
    """The rows of the step from the first of these points to the second."""
    source, target = points[0], points[1]
    euler = rho_step(source, target, [source])
    if remaining == 1:
        return [Row(source, advance=euler)]
    if remaining == 2:
        weight = target.rho / (2.0 * largest)
        return [Row(source, predict=euler), Row(target, advance=_weighted(euler, (weight, 1.0 - weight)))]
    beyond = points[2]
    second, third = target.rho / (3.0 * largest), beyond.rho / (3.0 * largest)
    ahead = rho_step(target, beyond, [target])
    # From the state of the step's start: both Euler steps in one, each with its own output.
    both = Combination(ahead.state * euler.state, (ahead.outputs[0], ahead.state * euler.outputs[0]))
    return [
        Row(source, predict=euler),
        Row(target, predict=both),
        Row(beyond, advance=_weighted(euler, (third, second, 1.0 - second - third))),
    ]


def _weighted(euler: Combination, weights: Sequence[float]) -> Combination:
    return Combination(euler.state, tuple(euler.outputs[0] * weight for weight in weights))


def _three_two_one(nfe: int) -> tuple[int, ...]:
    """Three evaluations a step, two in the one before the last, and one in the last."""
    if nfe == 1:
        return (1,)
    if nfe % 3:
        below, above = nfe - nfe % 3 or 1, nfe + 3 - nfe % 3
        raise PlanError(
            f"heunpp2 spends 3 evaluations a step, 2 and 1 on the last two, so it cannot spend nfe={nfe}: nearest is {below} or {above}"
        )
    return (*[3] * (nfe // 3 - 1), 2, 1)


SOLVERS = (
    Solver(
        name="heunpp2",
        build=heunpp2,
        prediction="noise",
        order=1,
        description="Euler in sigma with slopes of the next two points, by a rule of thumb",
        source="ComfyUI, sample_heunpp2; sd-webui-samplers-scheduler (Carzit)",
        evaluations_per_step=3,
        evaluations=_three_two_one,
        family="classical",
    ),
)
