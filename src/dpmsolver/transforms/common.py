"""Functions that several transforms share."""

from __future__ import annotations

from dataclasses import replace

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Combination, Plan

__all__ = ["IDENTITY", "named", "older", "require_generation", "require_one_output", "require_plain"]

IDENTITY = Combination(1.0)


def older(c: Combination) -> Combination:
    """Return the same combination one evaluation later, when every output and every draw of noise is older by one."""
    outputs, noise = ((0.0, *values) if values else () for values in (c.outputs, c.noise))
    return replace(c, outputs=outputs, noise=noise)


def require_one_output(plan: Plan, what: str) -> None:
    if plan.answers != 1:
        raise PlanError(f"{what} takes plans whose evaluations give one output, got {plan.answers}")


def require_plain(plan: Plan, what: str) -> None:
    require_one_output(plan, what)
    if plan.elementwise or any(row.output is not None for row in plan.rows):
        raise PlanError(
            f"{what} takes plans whose coefficients are numbers and whose outputs are the network's, not calibrated ones"
        )


def require_generation(plan: Plan, what: str) -> None:
    if plan.end.time > plan.start.time:
        raise PlanError(f"{what} needs a plan from noise to data, got one that runs backwards")


def named(plan: Plan, what: str) -> str:
    return f"{plan.solver or 'plan'}, {what}"
