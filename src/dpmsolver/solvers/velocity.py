"""Adams-Bashforth steps in the velocity of the straight path: multistep solvers in what networks of flows predict.

With s = sigma/(alpha + sigma) every schedule is a rectified flow of y = x/(alpha + sigma), and the diffusion ODE is dy/ds = eps - x_0. A
solver of this family takes the velocity eps - x_0 to be a polynomial in s. It has its full order from alpha = 0 and to sigma = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dpmsolver.errors import PlanError
from dpmsolver.phi import polynomial_weights
from dpmsolver.plans.plan import Combination, Plan, Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.multistep import adams_plan
from dpmsolver.solvers.options import LOWER_ORDER_FINAL, RAMP
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "velocity_multistep"]


def velocity_multistep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    order: int,
    lower_order_final: bool = False,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """The velocity as a polynomial of degree order - 1 in sigma/(alpha + sigma), through the newest `order` velocities.

    Args:
        lower_order_final, ramp: see `orders_of_steps`.

    Source: the straight path and its velocity, Liu et al. 2022, arXiv 2209.03003, eq. 1; Adams-Bashforth methods for steps of any
    length, Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, III.5. Order 1 on any schedule is DDIM.
    """
    return adams_plan(schedule, times, _step, "data", order, lower_order_final, ramp, output=_velocity)


def _place(point: Point) -> float:
    """s = sigma/(alpha + sigma): 0 at clean data, 1 at pure noise."""
    return point.sigma / (point.alpha + point.sigma)


def _velocity(point: Point) -> Combination:
    """eps - x_0 = (y - x_0)/s from the state and the data."""
    if point.sigma == 0.0:
        raise PlanError(
            "a velocity cannot be had at sigma = 0: start at schedule.t_min, or take a noise-prediction solver"
        )
    return Combination(1.0 / point.sigma, (-1.0 / _place(point),))


def _step(source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
    place, width = _place(source), _place(target) - _place(source)
    scale = target.alpha + target.sigma
    moments = [scale * width / (j + 1) for j in range(len(nodes))]
    weights = polynomial_weights([(_place(node) - place) / width for node in nodes], moments)
    return Combination(scale / (source.alpha + source.sigma), tuple(weights))


SOLVERS = tuple(
    Solver(
        name=f"velocity-{order}m",
        build=partial(velocity_multistep, order=order),
        prediction="data",
        order=order,
        description=f"multistep in the velocity of the straight path, through {order} outputs",
        source="Liu et al. 2022, arXiv 2209.03003, eq. 1; Hairer, Norsett & Wanner, III.5",
        options=(LOWER_ORDER_FINAL, RAMP),
        family="velocity",
    )
    for order in (2, 3)
)
