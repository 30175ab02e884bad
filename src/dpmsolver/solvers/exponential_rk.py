"""Exponential Runge-Kutta methods with the stiff order conditions: RES-2S and -3S, Krogstad's and Hochbruck & Ostermann's of order 4.

A tableau holds, for every stage and for the step, the coefficients of phi-functions of -p h c for fractions c of the step:

    u_i = (linear part) + p scale_i h sum_j [sum_(k, c) A_ij[k, c] phi_k(-p h c)] m_j
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from dpmsolver.phi import phi
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.singlestep import stage
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "Tableau", "exponential_rk"]

# The weight of an output: phi_k(-p h c) -> coefficient; the common factor h of the step is taken out.
Weight: TypeAlias = Mapping[tuple[int, float], float]


@dataclass(frozen=True)
class Tableau:
    """The coefficients of a method.

    nodes: c_2 … c_s. stages: for each node its weights on m_1 …; the last entry holds those of the step. The weights of m_1 follow from
    their sum.
    """

    nodes: tuple[float, ...]
    stages: tuple[tuple[Weight, ...], ...]


def _res_3s(c2: float = 0.5, c3: float = 1.0) -> Tableau:
    """RES-3S: stiff order 3 with b_2 = gamma b_3, gamma = (3 c_3^3 - 2 c_3)/(c_2 (2 - 3 c_2)) (arXiv 2308.02157, appendix B)."""
    gamma = (3 * c3**3 - 2 * c3) / (c2 * (2 - 3 * c2))
    a32 = {(2, c2): gamma * c2, (2, c3): c3**2 / c2}
    b3 = 1.0 / (gamma * c2 + c3)
    return Tableau((c2, c3), (({},), ({}, a32), ({}, {(2, 1.0): gamma * b3}, {(2, 1.0): b3})))


_KROGSTAD = Tableau(
    (0.5, 0.5, 1.0),
    (
        ({},),
        ({}, {(2, 0.5): 1.0}),
        ({}, {}, {(2, 1.0): 2.0}),
        ({}, {(2, 1.0): 2.0, (3, 1.0): -4.0}, {(2, 1.0): 2.0, (3, 1.0): -4.0}, {(2, 1.0): -1.0, (3, 1.0): 4.0}),
    ),
)

_A52 = {(2, 0.5): 0.5, (3, 1.0): -1.0, (2, 1.0): 0.25, (3, 0.5): -0.5}
_A54 = {(2, 0.5): -0.25, (3, 1.0): 1.0, (2, 1.0): -0.25, (3, 0.5): 0.5}  # phi_2(z/2)/4 - a_52
_HOCHBRUCK_OSTERMANN = Tableau(
    (0.5, 0.5, 1.0, 0.5),
    (
        ({},),
        ({}, {(2, 0.5): 1.0}),
        ({}, {(2, 1.0): 1.0}, {(2, 1.0): 1.0}),
        ({}, _A52, _A52, _A54),
        ({}, {}, {}, {(2, 1.0): -1.0, (3, 1.0): 4.0}, {(2, 1.0): 4.0, (3, 1.0): -8.0}),
    ),
)


def exponential_rk(
    schedule: NoiseSchedule, times: Floats, *, tableau: Tableau, prediction: Prediction = "data"
) -> Plan:
    """Return the plan of a tableau's steps. A step to sigma = 0 or from alpha = 0 is its limit: the newest output.

    Source: Hochbruck & Ostermann 2005, "Explicit exponential Runge-Kutta methods for semilinear parabolic problems", eq. 5.8 and 5.19;
    Krogstad 2005; RES: Zhang et al. 2023, arXiv 2308.02157.
    """
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    for source, target in pairwise(points):
        inside = [
            source,
            *(target if c == 1.0 and target.sigma else stage(schedule, source, target, c) for c in tableau.nodes),
        ]
        ends = [*inside[1:], target]
        for k, weights in enumerate(tableau.stages):
            step = _combination(prediction, source, ends[k], target, weights, inside)
            last = k + 1 == len(tableau.stages)
            rows.append(Row(inside[k], advance=step if last else None, predict=None if last else step))
    return Plan(prediction, tuple(rows), points[-1])


def _combination(
    prediction: Prediction, source: Point, end: Point, target: Point, weights: Sequence[Weight], inside: Sequence[Point]
) -> Combination:
    h = target.half_log_snr - source.half_log_snr
    first = exponential_step(prediction, source, end, [source])
    if not math.isfinite(h):
        return exponential_step(prediction, source, end, [inside[len(weights) - 1]])
    sign = 1.0 if prediction == "data" else -1.0
    scale = sign * h * (end.alpha if prediction == "data" else end.sigma)
    values = [scale * sum(v * phi(k, -sign * h * c) for (k, c), v in weight.items()) for weight in weights]
    # The first output takes what the sum of the weights leaves: the row sum is c phi_1(c z) h.
    values[0] = first.outputs[0] - math.fsum(values[1:])
    return Combination(first.state, tuple(values[::-1]))


_RES_2S = Tableau((0.5,), (({},), ({}, {(2, 1.0): 2.0})))
_RES = "Zhang et al. 2023, arXiv 2308.02157, appendix B"
SOLVERS = tuple(
    Solver(
        name=name,
        build=partial(exponential_rk, tableau=tableau),
        prediction="data",
        order=order,
        description=description,
        source=source,
        evaluations_per_step=len(tableau.stages),
        family="exponential Runge-Kutta",
    )
    for name, tableau, order, description, source in (
        ("res-2s", _RES_2S, 2, "refined exponential solver of 2 stages", _RES),
        ("res-3s", _res_3s(), 3, "refined exponential solver of 3 stages", _RES),
        (
            "etdrk4-krogstad",
            _KROGSTAD,
            4,
            "Krogstad's ETD Runge-Kutta of 4 stages",
            "Krogstad 2005, J. Comput. Phys. 203, eq. 51",
        ),
        (
            "etdrk4-ho",
            _HOCHBRUCK_OSTERMANN,
            4,
            "Hochbruck & Ostermann's exponential Runge-Kutta of 5 stages, stiff order 4",
            "Hochbruck & Ostermann 2005, SIAM J. Numer. Anal. 43, eq. 5.19",
        ),
    )
)
