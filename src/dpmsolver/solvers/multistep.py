"""Multistep exponential solvers: DPM-Solver-2M/3M (noise prediction) and DPM-Solver++(2M/3M) (data prediction)."""

from __future__ import annotations

from dpmsolver.plan import Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step

__all__ = ["multistep"]


def multistep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    prediction: Prediction,
    order: int,
    published: bool,
    lower_order_final: bool = True,
) -> Plan:
    """One evaluation a step: the polynomial through the newest `order` outputs, integrated exactly (or as published).

    The first steps have fewer outputs and are of order 1, 2, …. With `lower_order_final` the last ones are too (…, 2, 1), which
    is what keeps few-step runs stable: extrapolation is worst where the log-SNR step is followed by nothing. The official code does so
    below 10 steps, diffusers below 15; here it is this option, whatever the number of steps.

    Source: DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), algorithm 2 and appendix; the exact weights follow from its eq. 8.
    """
    points = [Point.at(schedule, t) for t in times]
    steps = len(points) - 1
    rows = []
    for k in range(steps):
        kept = min(order, k + 1, steps - k if lower_order_final else order)
        nodes = points[k::-1][:kept]
        rows.append(
            Row(points[k], advance=exponential_step(prediction, points[k], points[k + 1], nodes, published=published))
        )
    return Plan(prediction, tuple(rows), points[-1])
