"""`order_ramp`: the same plan with fewer outputs in some of its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.plans.combination import Coefficient, Combination
from dpmsolver.plans.plan import Plan
from dpmsolver.transforms.common import named, require_one_output

__all__ = ["order_ramp"]

_SAME_PLACE = 1e-9  # of half-log-SNR: two evaluations at one point, but for rounding


def order_ramp(
    plan: Plan, orders: int | Sequence[int] | None = None, *, start: Sequence[int] = (), end: Sequence[int] = ()
) -> Plan:
    """Return the plan with a limit on the number of outputs that each row uses: a multistep solver has a lower order in these rows.

    The newest q outputs stay. A dropped output is replaced by the value at its node of the polynomial in half-log-SNR lambda through those
    q outputs. So the new weights c_j, j < q, of nodes lambda_j have the moments of the old ones, sum c_j lambda_j^i = sum b_j lambda_j^i
    for i < q. For weights that are integrals of Lagrange polynomials in lambda, as in the exact exponential multistep solvers, this is the
    method of order q itself: dpm++3m-exact becomes dpm++2m-exact, and any multistep solver becomes DDIM at q = 1. Other methods fall to
    order q.

    The limit of a row holds for both of its combinations, in UniPC the corrector of one step and the predictor of the next. The sum of the
    outputs' weights and the noise are unchanged, so marginals are kept. Of two evaluations at one point the newer one counts. An output at
    alpha = 0 or sigma = 0, where lambda is infinite, has no node: if it is dropped, the newest output replaces it. Runge-Kutta steps that
    reach a high order with few outputs, such as those of dpm-3, may keep it.

    The option `ramp` of the multistep solvers sets the order of every step too, in the form of each method: published weights, UniPC's
    B(h), polynomials in rho or time. For exact weights in lambda both are the same. Apply a ramp before an analytic first step, which joins
    several steps in one combination.

    Args:
        plan: any plan.
        orders: the limit of each row, integers >= 1, or one limit for all rows. None: only the limits of start and end.
        start, end: limits of the first and of the last rows, such as (1, 2) and (2, 1). If a row has several limits, the lowest holds.

    Returns:
        A plan with the same evaluations; the plan itself if no row has more outputs than its limit.

    Raises:
        PlanError: there is no limit, the number of orders differs from that of the rows, start or end are longer than the plan, or an
            order is not an integer >= 1.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> plan = make_plan("dpm++3m", schedules.LinearVP(), nfe=6, lower_order_final=False)
        >>> [len(row.advance.outputs) for row in order_ramp(plan, end=(2, 1)).rows]
        [1, 2, 3, 3, 2, 1]

    Source: Lagrange interpolation; lower orders at the end are `lower_order_final` of DPM-Solver++, arXiv 2211.01095.
    """
    require_one_output(plan, "order_ramp")
    limits = _limits(plan.nfe, orders, start, end)
    places = [row.point.half_log_snr for row in plan.rows]
    rows = []
    for k, (row, most) in enumerate(zip(plan.rows, limits, strict=True)):
        advance, predict = (c and _lowered(c, places[k::-1], most) for c in (row.advance, row.predict))
        rows.append(replace(row, advance=advance, predict=predict))
    if all(a.advance is b.advance and a.predict is b.predict for a, b in zip(rows, plan.rows, strict=True)):
        return plan
    return replace(plan, rows=tuple(rows), solver=named(plan, "order ramp"))


def _lowered(step: Combination, places: Sequence[float], most: float) -> Combination:
    """The combination with at most so many of its outputs, which lie at `places`."""
    used = [i for i, weight in enumerate(step.outputs) if np.any(weight)]
    if len(used) <= most:
        return step
    kept: list[int] = []
    for i in used:
        apart = all(abs(places[i] - places[j]) > _SAME_PLACE for j in kept)
        if len(kept) < most and math.isfinite(places[i]) and apart:
            kept.append(i)
    kept = kept or used[:1]
    weights: list[Coefficient] = [step.outputs[i] if i in kept else 0.0 for i in range(max(kept) + 1)]
    for i in set(used) - set(kept):
        for j, share in zip(kept, _lagrange(places[i], [places[j] for j in kept]), strict=True):
            weights[j] = weights[j] + share * step.outputs[i]
    return replace(step, outputs=tuple(weights))


def _lagrange(place: float, nodes: Sequence[float]) -> list[float]:
    """The Lagrange polynomials of the nodes at a place; at an infinite one, the newest node alone."""
    if not math.isfinite(place):
        return [1.0, *[0.0] * (len(nodes) - 1)]
    others = [[n for k, n in enumerate(nodes) if k != j] for j in range(len(nodes))]
    return [math.prod((place - n) / (node - n) for n in rest) for node, rest in zip(nodes, others, strict=True)]


def _limits(rows: int, orders: int | Sequence[int] | None, start: Sequence[int], end: Sequence[int]) -> list[float]:
    """The lowest limit of each row, infinity where there is none."""
    first, last = _checked("start", start), _checked("end", end)
    if orders is None and not first + last:
        raise PlanError("order_ramp needs orders, start or end: without them no row has a limit")
    for name, values in (("start", first), ("end", last)):
        if len(values) > rows:
            raise PlanError(f"{name} must have no more orders than the plan has rows, {rows}, got {values}")
    limits: list[float] = [math.inf] * rows
    if orders is not None:
        each = isinstance(orders, (Sequence, np.ndarray))
        limits = _checked("orders", orders) if each else _checked("orders", [orders]) * rows
    if len(limits) != rows:
        raise PlanError(f"orders must be one order for each of {rows} rows, or one for all, got {orders}")
    ends = [*first, *[math.inf] * (rows - len(first))], [*[math.inf] * (rows - len(last)), *last]
    return [min(each) for each in zip(limits, *ends, strict=True)]


def _checked(name: str, orders: object) -> list[float]:
    given: list[Any] = list(orders) if isinstance(orders, (Sequence, np.ndarray)) else [None]
    for order in given:
        if not isinstance(order, (int, np.integer)) or isinstance(order, bool) or order < 1:
            raise PlanError(f"{name} must be integers >= 1, one for a row, got {orders!r}")
    return given
