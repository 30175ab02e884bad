"""Adams steps in a velocity: multistep solvers in the quantity that networks of flows and of v-prediction predict.

A path writes the state as y = x/scale, a function of a position p, whose derivative, the velocity, is a combination of x_0 and eps. A
solver takes that velocity to be a polynomial through its newest values. There are two paths:

- The straight path: p = sigma/(alpha + sigma), y = x/(alpha + sigma), dy/dp = eps - x_0. In y every schedule is a rectified flow.
- The arc, for data of standard deviation sigma_data: p is the angle with tan p = sigma/(alpha sigma_data), y = x/sqrt((alpha sigma_data)^2
  + sigma^2), and dy/dp = cos(p) eps - sin(p) x_0/sigma_data is the v of v-prediction. It is 0 for normal data of that standard deviation,
  so that the linear part of their ODE is solved exactly, and v contains only the deviation of the data from normal data.

Positions are finite from alpha = 0 to sigma = 0, and polynomials in them have full order there. On the straight path the velocity of data
of one point is constant, so that steps keep the marginals; on the arc it is not, and they do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.phi import polynomial_weights
from dpmsolver.plans.plan import Combination, Plan, Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.multistep import adams_plan, orders_of_steps
from dpmsolver.solvers.options import LOWER_ORDER_FINAL, RAMP
from dpmsolver.solvers.solver import Solver
from dpmsolver.solvers.unipc import predictor_corrector

__all__ = ["SOLVERS", "arc_multistep", "velocity_multistep"]

Variable: TypeAlias = Literal["angle", "lambda"]
_QUADRATURE = np.polynomial.legendre.leggauss(64)


class _Path(NamedTuple):
    """A way to write the state: its scale, its place, and the velocity as a combination of the state and of x_0, each at a point."""

    scale: Callable[[Point], float]
    place: Callable[[Point], float]
    velocity: Callable[[Point], Combination]
    keeps_marginals: bool


def velocity_multistep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    order: int,
    corrector: bool = False,
    lower_order_final: bool = False,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return a plan that takes the velocity to be a polynomial of degree order - 1 in sigma/(alpha + sigma).

    Args:
        corrector: repeat each step but the last with the velocity at its predicted end, which the next step has evaluated.
        lower_order_final, ramp: see `orders_of_steps`.

    Source: the straight path and its velocity, Liu et al. 2022, arXiv 2209.03003, eq. 1; Adams-Bashforth methods for steps of any
    length, Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, III.5. Order 1 on any schedule is DDIM.
    """
    path = _Path(lambda p: p.alpha + p.sigma, _straight_place, _straight_velocity, keeps_marginals=True)
    return _on_path(schedule, times, path, partial(_in_place, path), order, corrector, lower_order_final, ramp)


def arc_multistep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    order: int,
    sigma_data: float = 1.0,
    variable: Variable = "lambda",
    corrector: bool = False,
    lower_order_final: bool = False,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return a plan that takes the v of v-prediction to be a polynomial of degree order - 1: exponential Adams-Bashforth.

    One step solves the ODE of normal data of standard deviation sigma_data around 0 exactly, whatever the variable. With few steps it
    extrapolates too far: below 8 evaluations on broad spectra, and below 15 on digits, other solvers are better (docs/solvers.md).

    Args:
        sigma_data: the standard deviation of the data, > 0.
        variable: the variable of the polynomial: "lambda" (the half-log-SNR), or "angle". A step to sigma = 0 or from alpha = 0, where
            lambda is infinite, has order 1 in lambda and full order in the angle.
        corrector: repeat each step but the last with the v at its predicted end, which the next step has evaluated. It adds one order.
        lower_order_final, ramp: see `orders_of_steps`.

    Raises:
        PlanError: sigma_data is not a finite number > 0, the variable is unknown, or the run starts at sigma = 0.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> plan = make_plan("arc-2m", schedules.EDM(), 1, sigma_data=0.5)
        >>> round(plan.wasserstein(0.0, 0.25, to="end"), 12)  # normal data of this deviation, in one step
        0.0

    Source: the exponential integrator whose linear part is that of normal data, azula, REABSampler; the
    angle and v: Salimans & Ho 2022, arXiv 2202.00512, appendix D; Lu & Song 2024, arXiv 2410.11081, section 3 (TrigFlow).
    """
    if not isinstance(sigma_data, (int, float)) or isinstance(sigma_data, bool) or not 0.0 < sigma_data < math.inf:
        raise PlanError(f"sigma_data must be a finite number > 0, got {sigma_data!r}")
    if variable not in ("angle", "lambda"):
        raise PlanError(f"variable must be 'angle' or 'lambda', got {variable!r}")
    path = _arc(float(sigma_data))
    step = partial(_in_place if variable == "angle" else _in_lambda, path)
    return _on_path(schedule, times, path, step, order, corrector, lower_order_final, ramp)


def _on_path(
    schedule: NoiseSchedule,
    times: Floats,
    path: _Path,
    step: Callable[[Point, Point, Sequence[Point]], Combination],
    order: int,
    corrector: bool,
    lower_order_final: bool,
    ramp: Sequence[int] | None,
) -> Plan:
    """The plan of `step(source, target, nodes)`: a predictor through as many nodes as each step's order, a corrector through one more."""
    keeps, output = path.keeps_marginals, path.velocity
    if not corrector:
        return adams_plan(schedule, times, step, "data", order, lower_order_final, ramp, keeps, output)
    points = [Point.at(schedule, t) for t in times]
    orders = orders_of_steps(len(points) - 1, order, lower_order_final, ramp)

    def predict(k: int) -> Combination:
        return step(points[k], points[k + 1], points[k::-1][: orders[k]])

    def correct(k: int) -> Combination:
        return step(points[k], points[k + 1], [points[k + 1], *points[k::-1][: orders[k]]])

    return predictor_corrector(points, predict, correct, "data", keeps, output)


def _straight_place(point: Point) -> float:
    """s = sigma/(alpha + sigma): 0 at clean data, 1 at pure noise."""
    return point.sigma / (point.alpha + point.sigma)


def _straight_velocity(point: Point) -> Combination:
    """eps - x_0 = (y - x_0)/s from the state and the data."""
    _require_noise(point)
    return Combination(1.0 / point.sigma, (-1.0 / _straight_place(point),))


def _arc(sigma_data: float) -> _Path:
    """The arc of data of this deviation."""

    def scale(point: Point) -> float:
        return math.hypot(sigma_data * point.alpha, point.sigma)

    def place(point: Point) -> float:
        return math.atan2(point.sigma, sigma_data * point.alpha)

    def velocity(point: Point) -> Combination:
        """cos(p) eps - sin(p) x_0/sigma_data, with eps = (x - alpha x_0)/sigma."""
        _require_noise(point)
        width = scale(point)
        return Combination(sigma_data * point.alpha / (width * point.sigma), (-width / (sigma_data * point.sigma),))

    return _Path(scale, place, velocity, keeps_marginals=False)


def _require_noise(point: Point) -> None:
    if point.sigma == 0.0:
        raise PlanError(
            "a velocity cannot be had at sigma = 0: start at schedule.t_min, or take a noise-prediction solver"
        )


def _in_place(path: _Path, source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
    """The step for a velocity that is a polynomial in the place."""
    place, width, scale = path.place(source), path.place(target) - path.place(source), path.scale(target)
    moments = [scale * width / (j + 1) for j in range(len(nodes))]
    weights = polynomial_weights([(path.place(node) - place) / width for node in nodes], moments)
    return Combination(scale / path.scale(source), tuple(weights))


def _in_lambda(path: _Path, source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
    """The step for a velocity that is a polynomial in half-log-SNR, integrated over the angle by Gauss-Legendre quadrature of 64 points.

    With tan p = e^(l_0 - lambda) the measure is dp = -sin(p) cos(p) dlambda, which is smooth.
    """
    h = target.half_log_snr - source.half_log_snr
    finite = [math.isfinite(node.half_log_snr) for node in nodes]
    if not math.isfinite(h) or sum(finite) < 2:
        first = finite.index(True) if any(finite) else 0
        step = _in_place(path, source, target, [source])
        return Combination(step.state, (*[0.0] * first, *step.outputs))
    used = [node for node, seen in zip(nodes, finite, strict=True) if seen]
    places, weights = 0.5 * (1.0 + _QUADRATURE[0]), 0.5 * _QUADRATURE[1]
    angles = np.arctan(math.tan(path.place(source)) * np.exp(-places * h))
    scale = path.scale(target)
    measure = -0.5 * scale * h * weights * np.sin(2.0 * angles)
    moments = [float((measure * places**j).sum()) for j in range(len(used))]
    solved = polynomial_weights([(node.half_log_snr - source.half_log_snr) / h for node in used], moments)
    found = dict(zip([i for i, seen in enumerate(finite) if seen], solved, strict=True))
    return Combination(scale / path.scale(source), tuple(found.get(i, 0.0) for i in range(max(found) + 1)))


_CORRECTOR = Option(
    "corrector",
    "True or False",
    "whether each step is done again with the velocity at its predicted end: one order more",
)
_SIGMA_DATA = Option("sigma_data", "a number", "the deviation of the data, > 0")
_VARIABLE = Option("variable", "a word", "what v is a polynomial in: 'lambda', the half-log-SNR, or 'angle'")
_ADAMS = "Hairer, Norsett & Wanner, III.5"


def _entry(
    name: str, build: Callable[..., Plan], order: int, what: str, source: str, options: tuple[Option, ...]
) -> Solver:
    return Solver(
        name=f"{name}-{order}m",
        build=partial(build, order=order),
        prediction="data",
        order=order,
        description=f"multistep in {what}, through {order} outputs",
        source=source,
        options=(*options, _CORRECTOR, LOWER_ORDER_FINAL, RAMP),
        family="velocity",
    )


_STRAIGHT = ("the velocity of the straight path", f"Liu et al. 2022, arXiv 2209.03003, eq. 1; {_ADAMS}")
_ARC = ("v, exact for normal data", "azula, REABSampler; Salimans & Ho 2022, arXiv 2202.00512, appendix D")
SOLVERS = (
    *(_entry("velocity", velocity_multistep, order, *_STRAIGHT, ()) for order in (2, 3)),
    *(_entry("arc", arc_multistep, order, *_ARC, (_SIGMA_DATA, _VARIABLE)) for order in (2, 3)),
)
