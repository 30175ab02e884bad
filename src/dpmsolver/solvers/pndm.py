"""PNDM, iPNDM and gradient estimation: Adams-Bashforth with the coefficients of equal steps, and DDIM's transfer between points.

Every step is DDIM's with a combined noise e' in place of one output. The weights of e' sum to 1, so the marginals are kept. On steps that
are not equal in rho the coefficients are not those of the polynomial, and order 2 remains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.multistep import adams_plan
from dpmsolver.solvers.options import LOWER_ORDER_FINAL, RAMP
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "gradient_estimation", "ipndm", "pndm"]

# Adams-Bashforth on equal steps (Hairer, Norsett & Wanner, III.1), newest output first.
_ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def transfer(source: Point, target: Point, weights: Sequence[float]) -> Combination:
    """Return DDIM's step with the noise sum_i weights[i] m_{k-i} (PNDM, eq. 11)."""
    step = exponential_step("noise", source, target, [source])
    return Combination(step.state, tuple(step.outputs[0] * w for w in weights))


def ipndm(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    order: int,
    lower_order_final: bool = False,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return the plan of iPNDM: PNDM's linear multistep, started at order 1, 2, … (Zhang & Chen 2023, arXiv 2204.13902, appendix H.2)."""

    def step(source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
        return transfer(source, target, _ADAMS[len(nodes) - 1])

    return adams_plan(schedule, times, step, "noise", order, lower_order_final, ramp)


def gradient_estimation(schedule: NoiseSchedule, times: Floats, *, gamma: float = 2.0) -> Plan:
    """Return the plan of DDIM with the noise gamma m_k + (1 - gamma) m_{k-1}, which reduces the error of the newest output.

    The first step and one to sigma = 0 use only the newest output. gamma = 3/2 is `ipndm-2`; any other value is of order 1.

    Source: Permenter & Yuan 2023, arXiv 2306.04848, algorithm 2.
    """
    if not math.isfinite(gamma):
        raise PlanError(f"gamma must be finite, got {gamma}")

    def step(source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
        two = len(nodes) > 1 and target.sigma > 0.0
        return transfer(source, target, (gamma, 1.0 - gamma) if two else (1.0,))

    return adams_plan(schedule, times, step, "noise", 2, False, None)


def pndm(schedule: NoiseSchedule, times: Floats, *, evaluations: Sequence[int], order: int) -> Plan:
    """Return the plan of the pseudo-numerical methods: Runge-Kutta steps until the linear multistep has enough outputs.

    F-PNDM (order 4) takes three steps of four evaluations, with the stages in the middle of a step in time, and then one evaluation a step
    with four outputs. S-PNDM (order 2) takes one step of two evaluations and then uses two outputs. The first output of a Runge-Kutta step
    enters the history.

    Source: Liu et al. 2022, arXiv 2202.09778, algorithms 2 and 3, eq. 12 and 13.
    """
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    history: list[int] = []  # rows of the outputs that the multistep uses
    for k, (source, target) in enumerate(pairwise(points)):
        history.insert(0, len(rows))
        if evaluations[k] == 4:
            rows += _runge_kutta(schedule, source, target)
        elif evaluations[k] == 2:
            stage = _inside(schedule, target)
            rows.append(Row(source, predict=transfer(source, stage, (1.0,))))
            rows.append(Row(stage, advance=transfer(source, target, (0.5, 0.5))))
        else:
            adams = _ADAMS[min(order, len(history)) - 1]
            weights = [0.0] * (history[0] - history[len(adams) - 1] + 1)
            for position, weight in zip(history, adams, strict=False):
                weights[history[0] - position] = weight
            rows.append(Row(source, advance=transfer(source, target, weights)))
    return Plan("noise", tuple(rows), points[-1])


def _runge_kutta(schedule: NoiseSchedule, source: Point, target: Point) -> list[Row]:
    """The pseudo Runge-Kutta step of order 4 (eq. 13): stages at the middle, the middle and the end."""
    end = _inside(schedule, target)
    middle = Point.at(schedule, max(0.5 * (source.time + target.time), min(source.time, schedule.t_min)))
    return [
        Row(source, predict=transfer(source, middle, (1.0,))),
        Row(middle, predict=transfer(source, middle, (1.0,))),
        Row(middle, predict=transfer(source, end, (1.0,))),
        Row(end, advance=transfer(source, target, (1 / 6, 2 / 6, 2 / 6, 1 / 6))),
    ]


def _inside(schedule: NoiseSchedule, point: Point) -> Point:
    """The point, or the nearest at which the noise is defined: a network is not asked at sigma = 0."""
    return point if point.sigma else Point.at(schedule, schedule.t_min)


def _f_pndm_steps(nfe: int) -> tuple[int, ...]:
    if nfe < 13:
        raise PlanError(
            f"pndm spends 12 evaluations on its first three steps, so it cannot spend nfe={nfe}: nearest is 13"
        )
    return (4, 4, 4) + (1,) * (nfe - 12)


def _two_first(name: str, nfe: int) -> tuple[int, ...]:
    if nfe < 2:
        raise PlanError(f"{name} spends 2 evaluations on its first step, so it cannot spend nfe={nfe}: nearest is 2")
    return (2,) + (1,) * (nfe - 2)


_LIU = "Liu et al. 2022, arXiv 2202.09778"
SOLVERS = (
    Solver(
        name="pndm",
        build=partial(pndm, order=4),
        prediction="noise",
        order=2,
        description="F-PNDM: pseudo Runge-Kutta start, then four outputs",
        source=f"{_LIU}, algorithm 2",
        evaluations=_f_pndm_steps,
        takes_evaluations=True,
        family="classical",
    ),
    Solver(
        name="s-pndm",
        build=partial(pndm, order=2),
        prediction="noise",
        order=2,
        description="S-PNDM: two evaluations first, then two outputs",
        source=f"{_LIU}, algorithm 3",
        evaluations=partial(_two_first, "s-pndm"),
        takes_evaluations=True,
        family="classical",
    ),
    Solver(
        name="plms",
        build=partial(pndm, order=4),
        prediction="noise",
        order=2,
        description="PNDM without its Runge-Kutta steps: two evaluations first, then up to four outputs",
        source=f"{_LIU}; the first sampler of Stable Diffusion, diffusers' PNDMScheduler(skip_prk_steps=True)",
        evaluations=partial(_two_first, "plms"),
        takes_evaluations=True,
        family="classical",
    ),
    Solver(
        name="gradient-estimation",
        build=gradient_estimation,
        prediction="noise",
        order=1,
        description="DDIM with gamma times the newest output, and the rest of the one before",
        source="Permenter & Yuan 2023, arXiv 2306.04848, algorithm 2",
        options=(Option("gamma", "a number", "the weight of the newest output; 1 is DDIM, 3/2 is ipndm-2"),),
        family="classical",
    ),
    *(
        Solver(
            name=f"ipndm-{order}",
            build=partial(ipndm, order=order),
            prediction="noise",
            order=min(order, 2),
            description=f"iPNDM through {order} outputs, one evaluation a step",
            source="Zhang & Chen 2023, arXiv 2204.13902, appendix H.2",
            options=(LOWER_ORDER_FINAL, RAMP) if order > 1 else (),
            family="classical",
        )
        for order in (1, 2, 3, 4)
    ),
)
