"""A solver of your own, used by `dpm.sample` like any other, with its order of convergence measured.

    python own_solver.py

It takes half a step with the output at hand, evaluates there, and takes the whole step with a line through both outputs: a midpoint
rule whose integrals are exact (an exponential Runge-Kutta method of order two).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import dpmsolver as dpm
from dpmsolver.evaluation.convergence import order_of_convergence
from dpmsolver.plans import Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step


def midpoint(schedule: NoiseSchedule, times: Floats) -> dpm.Plan:
    """Two evaluations a step: at its start, and in its middle in half-log-SNR."""
    points = [Point.at(schedule, t) for t in times]
    rows = []
    for s, t in pairwise(points):
        middle = Point.at(schedule, schedule.time(0.5 * (s.half_log_snr + t.half_log_snr)))
        rows.append(Row(s, predict=exponential_step("data", s, middle, [s])))
        rows.append(Row(middle, advance=exponential_step("data", s, t, [middle, s])))
    return dpm.Plan("data", tuple(rows), points[-1])


MIDPOINT = dpm.Solver(
    name="midpoint",
    build=midpoint,
    prediction="data",
    order=2,
    description="exponential midpoint rule",
    source="this file",
    evaluations_per_step=2,
)


def main() -> float:
    schedule = dpm.schedules.LinearVP()
    denoiser = dpm.models.Gaussian(mean=[0.0, 1.0], variance=[0.25, 0.5]).denoiser(schedule)
    x0 = dpm.sample(denoiser, np.random.default_rng(0).standard_normal((2000, 2)), nfe=10, solver=MIDPOINT)
    order = order_of_convergence(MIDPOINT)
    print(f"10 evaluations: mean {x0.mean(axis=0).round(2)}, variance {x0.var(axis=0).round(2)}; order {order:.2f}")
    return order


if __name__ == "__main__":
    main()
