"""Singlestep exponential solvers: DPM-Solver-1/2/3 and -fast (noise prediction), DPM-Solver++(2S/3S) (data prediction)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dpmsolver.errors import PlanError
from dpmsolver.plan import Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step

__all__ = ["block", "fast_orders", "singlestep"]


def fast_orders(nfe: int) -> tuple[int, ...]:
    """The orders of DPM-Solver-fast's steps for a budget: as many of order 3 as fit, the rest at the end (DPM-Solver, appendix B, 3.4).

    Examples:
        >>> fast_orders(10), fast_orders(11), fast_orders(12)
        ((3, 3, 3, 1), (3, 3, 3, 2), (3, 3, 3, 2, 1))
    """
    steps = nfe // 3 + 1
    return {0: (3,) * (steps - 2) + (2, 1), 1: (3,) * (steps - 1) + (1,), 2: (3,) * (steps - 1) + (2,)}[nfe % 3]


def singlestep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    orders: Sequence[int],
    prediction: Prediction,
    published: bool,
    r1: float | None = None,
    r2: float | None = None,
) -> Plan:
    """Steps that stand alone, each of its own order and of as many evaluations.

    Args:
        orders: 1, 2 or 3 for each step; `len(times) == len(orders) + 1`.
        r1, r2: where the stages lie inside a step, in units of its log-SNR length; by default 1/2 for order 2, 1/3 and 2/3 for order 3.
            Order 3 holds at these; the published form of order 3 needs r2 = 2/3, the exact one r1 = 1/3 with r2 = 2/3.

    Source: DPM-Solver, algorithms 1, 2, 4 and 5 ("published"), appendix B.4 ("exact"); DPM-Solver++, algorithm 1.
    """
    if len(times) != len(orders) + 1:
        raise PlanError(f"{len(orders)} steps need {len(orders) + 1} times, got {len(times)}")
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    for source, target, order in zip(points, points[1:], orders, strict=False):
        rows.extend(
            block(schedule, source, target, order=order, prediction=prediction, published=published, r1=r1, r2=r2)
        )
    return Plan(prediction, tuple(rows), points[-1])


def block(
    schedule: NoiseSchedule,
    source: Point,
    target: Point,
    *,
    order: int,
    prediction: Prediction,
    published: bool,
    r1: float | None = None,
    r2: float | None = None,
) -> Iterator[Row]:
    """The rows of one step from `source` to `target`."""
    if order == 1:
        yield Row(source, advance=exponential_step(prediction, source, target, [source]))
        return
    first = (1 / 2 if order == 2 else 1 / 3) if r1 is None else r1
    second = 2 / 3 if r2 is None else r2
    if not 0 < first <= 1 or (order == 3 and not first < second <= 1):
        raise PlanError(f"stages need 0 < r1 < r2 <= 1, got r1={first}, r2={second}")
    one = _stage(schedule, source, target, first)
    yield Row(source, predict=exponential_step(prediction, source, one, [source]))
    if order == 2:
        yield Row(one, advance=exponential_step(prediction, source, target, [one, source], published=published))
        return
    two = _stage(schedule, source, target, second)
    yield Row(one, predict=exponential_step(prediction, source, two, [one, source]))
    yield Row(two, advance=exponential_step(prediction, source, target, [two, None if published else one, source]))


def _stage(schedule: NoiseSchedule, source: Point, target: Point, r: float) -> Point:
    """The point a fraction r of the way in log-SNR; in time where the way is infinite, but not below t_min."""
    h = target.half_log_snr - source.half_log_snr
    if math.isfinite(h):
        return Point.at(schedule, schedule.time(source.half_log_snr + r * h))
    return Point.at(schedule, max(source.time + r * (target.time - source.time), schedule.t_min))
