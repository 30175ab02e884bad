"""Checks of a plan: its rows can be executed, and they keep the marginals. Each failure is a `PlanError` that names the row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.plans.combination import Combination

if TYPE_CHECKING:
    from dpmsolver.plans.plan import Plan

__all__ = ["check_marginals", "check_rows"]

_TOLERANCE = 1e-8  # of hypot(alpha, sigma): far above rounding (1e-13 over 1000 rows), far below any wrong coefficient


def check_rows(plan: Plan) -> None:
    """Check that the rows lead to a result, that coefficients are finite, and that each step uses only what exists by then."""
    if not plan.rows:
        raise PlanError("a plan needs at least one row")
    if plan.rows[-1].advance is None:
        raise PlanError("the last row must advance the state, or its evaluation is lost")
    if plan.rows[-1].predict is not None:
        raise PlanError("the last row must not predict: no evaluation follows it")
    if (plan.begin is None) != (plan.origin is None):
        raise PlanError("begin and origin go together: the step that no network is asked for, and the point of x_T")
    before = plan.draws - plan.nfe  # the draw of `begin`
    if plan.begin is not None:
        _check_combination(plan.begin, "begin", 0, before)
    for index, row in enumerate(plan.rows):
        for combination in (row.advance, row.predict, row.output):
            if combination is not None:
                _check_combination(combination, f"row {index}", plan.answers * (index + 1), before + index + 1)


def check_marginals(plan: Plan) -> None:
    """Follow alpha and sigma of the state through the rows, and compare them with every point at which the network is evaluated."""
    exact = (1.0, 0.0) if plan.prediction == "data" else (0.0, 1.0)
    state = reached = (plan.start.alpha, plan.start.sigma)
    outputs: list[tuple[float, float]] = []
    rows = plan.all_rows
    targets = [*(row.point for row in rows[1:]), plan.end]
    for index, (row, target) in enumerate(zip(rows, targets, strict=True), start=plan.nfe - len(rows)):
        output = exact if row.output is None else row.output.marginal(reached, [exact])
        outputs = [*[output] * plan.answers, *outputs][: plan.history]
        if row.advance is not None:
            state = row.advance.marginal(state, outputs)
        reached = state if row.predict is None else row.predict.marginal(state, outputs)
        miss = math.hypot(reached[0] - target.alpha, reached[1] - target.sigma)
        if not miss <= _TOLERANCE * math.hypot(target.alpha, target.sigma):
            where = f"row {index}" if index >= 0 else "begin"
            raise PlanError(
                f"{where} leaves the marginals: it reaches alpha={reached[0]:.9g}, sigma={reached[1]:.9g} where the schedule has "
                f"alpha={target.alpha:.9g}, sigma={target.sigma:.9g} (t={target.time:.6g})"
            )


def _check_combination(combination: Combination, where: str, outputs: int, draws: int) -> None:
    """Check a combination against the numbers of outputs and of draws of noise that exist when it is made."""
    if not all(
        np.isfinite(c).all() if isinstance(c, np.ndarray) else math.isfinite(c) for c in combination.coefficients
    ):
        raise PlanError(f"{where} has a coefficient that is not finite: {combination}")
    for what, used, known in (
        ("outputs", len(combination.outputs), outputs),
        ("draws of noise", len(combination.noise), draws),
    ):
        if used > known:
            raise PlanError(f"{where} uses {used} {what} but only {known} exist by then: {combination}")
