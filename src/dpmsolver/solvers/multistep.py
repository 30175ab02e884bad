"""Multistep exponential solvers: one evaluation a step, and the polynomial through the newest outputs is integrated.

DPM-Solver-2M/3M (noise prediction), DPM-Solver++(2M/3M) (data prediction), their SDE forms, and exponential Adams-Bashforth of order 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.ddim import ancestral_split
from dpmsolver.solvers.exponential import Quadrature, exponential_step, scale_noise
from dpmsolver.solvers.options import ETA, LOWER_ORDER_FINAL, LOWER_QUADRATURE, QUADRATURE, RAMP, S_NOISE
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "adams_plan", "multistep", "multistep_ancestral", "orders_of_steps"]


def multistep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    prediction: Prediction,
    order: int,
    quadrature: Quadrature,
    eta: float = 0.0,
    lower_quadrature: Quadrature | None = None,
    lower_order_final: bool = True,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return a plan that integrates the polynomial in half-log-SNR through the newest `order` outputs, exactly or as published.

    Args:
        lower_quadrature: the quadrature of the steps with fewer outputs than `order`, the first and the last ones; None: that of the
            others.
        eta: the strength of the noise; 0 is the ODE, 1 the reverse SDE. The eta of k-diffusion's SDE solvers is the square of this one.
        lower_order_final, ramp: see `orders_of_steps`.

    Source: DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), algorithm 2 and appendix; the exact weights follow from its eq. 8, those
    with noise from `exponential_step`. At eta = 0 the exact form is exponential Adams-Bashforth (Hochbruck & Ostermann 2010, eq. 2.47).
    """
    if not eta >= 0:
        raise PlanError(f"eta must be >= 0, got {eta}")

    def step(source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
        form = quadrature if lower_quadrature is None or len(nodes) == order else lower_quadrature
        return exponential_step(prediction, source, target, nodes, quadrature=form, eta=eta)

    keeps = prediction == "data" or eta == 0.0
    return adams_plan(schedule, times, step, prediction, order, lower_order_final, ramp, keeps)


def adams_plan(
    schedule: NoiseSchedule,
    times: Floats,
    step: Callable[[Point, Point, Sequence[Point]], Combination],
    prediction: Prediction,
    order: int,
    lower_order_final: bool,
    ramp: Sequence[int] | None,
    keeps_marginals: bool = True,
    output: Callable[[Point], Combination] | None = None,
) -> Plan:
    """Return the plan of an Adams-like method: `step(source, target, nodes)`, with as many of the newest nodes as the order of the step.

    Args:
        output: what the steps combine in place of the network's output, as a combination of both at a point.
    """
    points = [Point.at(schedule, t) for t in times]
    orders = orders_of_steps(len(points) - 1, order, lower_order_final, ramp)
    rows = (
        Row(points[k], step(points[k], points[k + 1], points[k::-1][:kept]), output=output and output(points[k]))
        for k, kept in enumerate(orders)
    )
    return Plan(prediction, tuple(rows), points[-1], keeps_marginals=keeps_marginals)


def orders_of_steps(steps: int, order: int, lower_order_final: bool, ramp: Sequence[int] | None = None) -> list[int]:
    """Return the order of each step of a multistep method.

    The first steps have fewer outputs and are of order 1, 2, …. With `lower_order_final` the last steps fall to …, 2, 1 too, which keeps
    runs with few steps stable: extrapolation is worst in the last step. The official code does so below 10 steps, diffusers below 15; here
    the option decides, whatever the number of steps. `ramp` gives the order of every step instead.

    Examples:
        >>> orders_of_steps(6, 3, True), orders_of_steps(6, 3, False), orders_of_steps(4, 3, True, [1, 2, 2, 1])
        ([1, 2, 3, 3, 2, 1], [1, 2, 3, 3, 3, 3], [1, 2, 2, 1])
    """
    if ramp is None:
        return [min(order, k + 1, steps - k if lower_order_final else order) for k in range(steps)]
    if len(ramp) != steps or any(not 1 <= p <= min(k + 1, order) for k, p in enumerate(ramp)):
        raise PlanError(
            f"ramp must give {steps} orders, the k-th between 1 and min(k, {order}): so many outputs exist by then, got {list(ramp)}"
        )
    return list(ramp)


_DPM, _PLUS = "Lu et al. 2022, arXiv 2206.00927", "Lu et al. 2022, arXiv 2211.01095"
_FORMS: tuple[tuple[Prediction, str, str], ...] = (("noise", "dpm-", _DPM), ("data", "dpm++", _PLUS))

_QUADRATURES: tuple[Quadrature, ...] = ("published", "exact")
# At order 2 the steps of lower order have one output, for which all forms are one; at order 1 all steps are alike.
_MULTISTEP = (LOWER_QUADRATURE, LOWER_ORDER_FINAL, RAMP)
_STOCHASTIC = {
    1: (ETA, S_NOISE),
    2: (QUADRATURE, ETA, S_NOISE, LOWER_ORDER_FINAL, RAMP),
    3: (QUADRATURE, ETA, S_NOISE, *_MULTISTEP),
}


def _entries() -> list[Solver]:
    table = []
    for prediction, prefix, source in _FORMS:
        for order in (2, 3, 4):
            for form in _QUADRATURES[order == 4 :]:
                # The published 3M halves the second difference: order 2 in the limit, often better than the exact one at 10-20 steps.
                slope = 2 if form == "published" else order
                what = "as published" if form == "published" else "exact: exponential Adams-Bashforth"
                table.append(
                    Solver(
                        name=f"{prefix}{order}m" + ("-exact" if form == "exact" else ""),
                        build=partial(multistep, prediction=prediction, order=order, quadrature=form),
                        prediction=prediction,
                        order=slope,
                        description=f"multistep through {order} outputs, {what}",
                        source=source,
                        options=_MULTISTEP if order > 2 else (LOWER_ORDER_FINAL, RAMP),
                        family="DPM-Solver",
                    )
                )
    return table


def multistep_sde(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    prediction: Prediction,
    order: int,
    quadrature: Quadrature = "published",
    eta: float = 1.0,
    s_noise: float = 1.0,
    lower_quadrature: Quadrature | None = None,
    lower_order_final: bool = True,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return the plan of `multistep` for the reverse SDE: quadrature="published" is k-diffusion's "midpoint", "exact" its "heun".

    With published weights the second step of 3M is that of 2M, as in diffusers; k-diffusion integrates the line exactly there, which is
    lower_quadrature="exact". Both have the same order, and on Gaussian data neither is better: the W2 distances of 5 to 320 steps differ by
    less than 2 %, in either direction, and mostly by less than 0.1 %.

    Args:
        s_noise: a factor of the noise, >= 0; values other than 1 leave the marginals.
    """
    plan = multistep(
        schedule,
        times,
        prediction=prediction,
        order=order,
        quadrature=quadrature,
        eta=eta,
        lower_quadrature=lower_quadrature,
        lower_order_final=lower_order_final,
        ramp=ramp,
    )
    return scale_noise(plan, s_noise)


def multistep_ancestral(schedule: NoiseSchedule, times: Floats, *, eta: float = 1.0, s_noise: float = 1.0) -> Plan:
    """Return the plan of ancestral sampling with `dpm++2m-exact`: steps to less noise than the target has, and noise back.

    The previous output lies behind by the length of the last step, which went to less noise than the state has now. eta and s_noise are
    those of `ancestral_split`; a step to sigma = 0 adds no noise.

    Source: ComfyUI, sample_res_multistep_ancestral; the step: Zhang et al. 2023, arXiv 2308.02157.
    """
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    length = 0.0  # of the last step, in half-log-SNR
    for k, (source, target) in enumerate(pairwise(points)):
        sigma, noise = ancestral_split(source, target, eta)
        down = Point(target.time, target.label, target.alpha, sigma)
        nodes = [source]
        if k and math.isfinite(length):
            nodes.append(Point(source.time, source.label, 1.0, math.exp(length - source.half_log_snr)))
        step = exponential_step("data", source, down, nodes)
        rows.append(Row(source, advance=replace(step, noise=(noise,) if noise else ())))
        length = down.half_log_snr - source.half_log_snr
    return scale_noise(Plan("data", tuple(rows), points[-1]), s_noise)


def _stochastic() -> list[Solver]:
    rows: tuple[tuple[str, Prediction, int, str, str], ...] = (
        ("dpm++2m-sde", "data", 2, "multistep SDE solver", "appendix; k-diffusion, sample_dpmpp_2m_sde"),
        (
            "dpm++3m-sde",
            "data",
            3,
            "multistep SDE solver through 3 outputs; its second step is that of 2M",
            "k-diffusion, sample_dpmpp_3m_sde",
        ),
        ("sde-dpm-1", "noise", 1, "first order SDE solver, noise prediction", "eq. 17"),
        ("sde-dpm-2", "noise", 2, "multistep SDE solver, noise prediction", "eq. 18"),
    )
    return [
        Solver(
            name=name,
            build=partial(multistep_sde, prediction=prediction, order=order),
            prediction=prediction,
            order=min(order, 2),
            description=what,
            source=f"{_PLUS}, {where}",
            options=_STOCHASTIC[order],
            family="stochastic",
            stochastic=True,
        )
        for name, prediction, order, what, where in rows
    ]


_ANCESTRAL = Solver(
    name="dpm++2m-ancestral",
    build=multistep_ancestral,
    prediction="data",
    order=2,
    description="multistep through 2 outputs, exact, with ancestral noise",
    source="ComfyUI, sample_res_multistep_ancestral; Zhang et al. 2023, arXiv 2308.02157",
    options=(ETA, S_NOISE),
    family="stochastic",
    stochastic=True,
)
SOLVERS = (*_entries(), *_stochastic(), _ANCESTRAL)
