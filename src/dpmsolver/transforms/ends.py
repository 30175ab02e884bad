"""Transforms of the first and the last evaluation of a plan: `analytic_first_step` saves one, `denoise_to_zero` adds one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.transforms.common import IDENTITY, named, older, require_generation, require_one_output

__all__ = ["analytic_first_step", "denoise_to_zero"]


def analytic_first_step(plan: Plan, variance: float = 1.0) -> Plan:
    """Return the plan with one evaluation less: its first output is computed in closed form.

    The output is that of the optimal network for normal data of mean 0 and variance c, a multiple of x_T: sigma x/(alpha^2 c + sigma^2) for
    noise, alpha c x/(alpha^2 c + sigma^2) for data. Wherever the plan used the output, the multiple of x_T replaces it, so that the result
    is exactly that of the plan for this output. Up to the last such row x_T stays the state; from there on the rows and the draws of noise
    are those of the plan.

    Args:
        plan: any plan from noise to data, with or without noise.
        variance: c, in the scale of the data. 1 is the published value: the score of x_T is that of a standard normal if alpha^2 + sigma^2
            = 1, and otherwise that of x_T for standard normal data.

    Returns:
        A plan with nfe - 1 evaluations, whose `begin` leads from x_T at the old start to its first evaluation. It leaves the marginals of
            data that are one point, for which the output is not that of the network.

    Raises:
        PlanError: the plan has fewer than two evaluations, starts with such a step already or runs backwards, or variance is not >= 0.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> plan = analytic_first_step(make_plan("dpm++2m", schedules.LinearVP(), nfe=11))
        >>> plan.nfe, plan.start.time
        (10, 1.0)

    Source: AFS of GENIE, Dockhorn et al. 2022, arXiv 2210.05475; the general variance is the optimal denoiser of normal data. Later
    implementations use eps = x/sqrt(alpha^2 + sigma^2), which differs by the relative amount alpha^2/(2 sigma^2).
    """
    if not (math.isfinite(variance) and variance >= 0.0):
        raise PlanError(f"variance must be a finite number >= 0, got {variance!r}")
    if plan.nfe < 2:
        raise PlanError(f"an analytic first step needs a plan with at least two evaluations, got {plan.nfe}")
    if plan.begin is not None:
        raise PlanError("the first evaluation does not see x_T: the plan already begins with a step of its own")
    require_generation(plan, "an analytic first step")
    require_one_output(plan, "an analytic first step")
    alpha, sigma = plan.start.alpha, plan.start.sigma
    guess = (sigma if plan.prediction == "noise" else alpha * variance) / (alpha**2 * variance + sigma**2)
    kept = plan.rows[0].output or Combination(0.0, (1.0,))
    known = _substituted(kept, 0, Combination(guess))
    commit = _commit_after_first_output(plan)
    x, inputs = IDENTITY, []
    for index, row in enumerate(plan.rows[:commit]):
        x = older(x) if row.advance is None else _substituted(row.advance.after(older(x)), index, known)
        inputs.append(x if row.predict is None else _substituted(row.predict.after(x), index, known))
    begin, *predicts = inputs
    last = plan.rows[commit]
    assert last.advance is not None
    rows = [replace(row, advance=None, predict=u) for row, u in zip(plan.rows[1:commit], predicts, strict=True)]
    rows.append(replace(last, advance=_substituted(last.advance.after(older(x)), commit, known)))
    return replace(
        plan,
        rows=(*rows, *plan.rows[commit + 1 :]),
        solver=named(plan, "analytic first step"),
        keeps_marginals=False,
        begin=begin,
        origin=plan.start,
    )


def denoise_to_zero(plan: Plan) -> Plan:
    """Return the plan with one more evaluation at its end, whose predicted x_0 is the result.

    Args:
        plan: any plan from noise to data that ends at sigma > 0, with or without noise.

    Returns:
        A plan with nfe + 1 evaluations that ends at time 0, alpha 1 and sigma 0.

    Raises:
        PlanError: the plan already ends at sigma = 0, or runs backwards.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> plan = denoise_to_zero(make_plan("heun", schedules.LinearVP(), nfe=10, end=1e-3))
        >>> plan.nfe, plan.end.sigma
        (11, 0.0)

    Source: Jolicoeur-Martineau et al. 2021, arXiv 2009.05475 (the expected denoised sample), and every code with `denoise_to_zero`.
    """
    if plan.end.sigma == 0.0:
        raise PlanError("the plan already ends at sigma = 0: there is nothing left to denoise")
    require_generation(plan, "denoising to zero")
    end = plan.end
    noise = Combination(1.0 / end.alpha, (-end.sigma / end.alpha,))
    last = noise if plan.prediction == "noise" else Combination(0.0, (1.0,))
    return replace(
        plan,
        rows=(*plan.rows, Row(end, advance=last)),
        end=Point(time=0.0, label=0.0, alpha=1.0, sigma=0.0),
        solver=named(plan, "denoised to zero"),
    )


def _substituted(step: Combination, index: int, first: Combination) -> Combination:
    """A step from x_T in row `index`, with `first`, a multiple of x_T and a constant, in the place of the first output."""
    if len(step.outputs) <= index:
        return step
    weight = step.outputs[index]
    state, constant = step.state + weight * first.state, step.constant + weight * first.constant
    return Combination(state, step.outputs[:index], step.noise, constant)


def _commit_after_first_output(plan: Plan) -> int:
    """The first row after row 0 that commits the state and behind whose commit nothing uses the first output."""

    def uses(c: Combination | None, index: int) -> bool:
        return c is not None and len(c.outputs) > index and bool(np.any(c.outputs[index]))

    rows = list(enumerate(plan.rows))
    last = max((k for k, row in rows if uses(row.advance, k) or uses(row.predict, k)), default=0)
    return next(k for k, row in rows if k >= max(last, 1) and row.advance is not None and not uses(row.predict, k))
