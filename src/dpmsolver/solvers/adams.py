"""Adams-Bashforth steps in rho = sigma/alpha for noise prediction: DEIS, LMS, and the fixed-coefficient forms of PNDM.

With y = x/alpha the ODE is dy/drho = eps (Song et al. 2021, eq. 14; Karras et al. 2022, eq. 1). The methods differ in the variable in
which eps is taken to be a polynomial: rho (LMS, DEIS's rhoAB), time (tAB), or lambda = -log rho (DEIS as in diffusers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from dpmsolver.phi import polynomial_weights
from dpmsolver.plans.plan import Combination, Plan, Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.multistep import adams_plan
from dpmsolver.solvers.options import LOWER_ORDER_FINAL, RAMP
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "adams", "rho_step", "time_step"]

Variable: TypeAlias = Literal["lambda", "rho", "time"]
_QUADRATURE = np.polynomial.legendre.leggauss(64)


def adams(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    variable: Variable,
    order: int,
    lower_order_final: bool = True,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return a plan that takes the noise to be a polynomial of degree order - 1 in a variable, and integrates it over rho.

    Source: DEIS (Zhang & Chen 2023, arXiv 2204.13902), eq. 11 and 15: tAB-q and rhoAB-q are order = q + 1; in lambda it is exponential
    Adams-Bashforth.
    """
    steps: dict[str, Callable[[Point, Point, Sequence[Point]], Combination]] = {
        "lambda": partial(exponential_step, "noise"),
        "rho": rho_step,
        "time": partial(time_step, schedule),
    }
    return adams_plan(schedule, times, steps[variable], "noise", order, lower_order_final, ramp)


def rho_step(source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
    """Return the exact step for outputs that are a polynomial in rho through `nodes`, at full order even to rho = 0."""
    first = exponential_step("noise", source, target, [source])
    if len(nodes) < 2 or target.alpha == 0.0:  # into pure noise the limit is of first order
        return first
    width = target.rho - source.rho
    moments = [target.alpha * width / (j + 1) for j in range(len(nodes))]
    return Combination(first.state, tuple(polynomial_weights([(p.rho - source.rho) / width for p in nodes], moments)))


def time_step(schedule: NoiseSchedule, source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
    """Return the step for outputs that are a polynomial in time through `nodes`, by Gauss-Legendre quadrature with 64 points.

    The quadrature is over lambda, where the integrand is smooth; for a step to sigma = 0 it is over rho.
    """
    first = exponential_step("noise", source, target, [source])
    if len(nodes) < 2 or target.alpha == 0.0:
        return first
    places, weights = 0.5 * (1.0 + _QUADRATURE[0]), 0.5 * _QUADRATURE[1]
    if math.isfinite(target.half_log_snr):
        h = target.half_log_snr - source.half_log_snr
        rho = source.rho * np.exp(-places * h)
        measure = -target.alpha * weights * rho * h
    else:
        rho = source.rho * (1.0 - places)
        measure = -target.alpha * weights * source.rho
    top = float(schedule.half_log_snr(schedule.t_min))
    width = target.time - source.time
    positions = (schedule.time(np.minimum(-np.log(rho), top)) - source.time) / width
    moments = [float((measure * positions**j).sum()) for j in range(len(nodes))]
    return Combination(first.state, tuple(polynomial_weights([(p.time - source.time) / width for p in nodes], moments)))


def _entries() -> list[Solver]:
    deis = "Zhang & Chen 2023, arXiv 2204.13902"
    forms: tuple[tuple[str, Variable, str], ...] = (
        ("deis-tab{}", "time", f"{deis}, eq. 15"),
        ("deis-rhoab{}", "rho", f"{deis}, eq. 18"),
        ("deis-logrho{}", "lambda", f"{deis}; diffusers, DEISMultistepScheduler"),
    )
    table = [
        Solver(
            name=pattern.format(degree),
            build=partial(adams, variable=variable, order=degree + 1),
            prediction="noise",
            order=degree + 1,
            description=f"DEIS: the noise as a polynomial of degree {degree} in {variable}",
            source=source,
            options=(LOWER_ORDER_FINAL, RAMP),
            family="DEIS",
        )
        for pattern, variable, source in forms
        for degree in (1, 2, 3)
    ]
    for pattern, orders, what, source in (
        ("lms-{}", (1, 2, 3, 4), "linear multistep in sigma through {} outputs", "k-diffusion, sample_lms"),
        (
            "ipndm-v-{}",
            (2, 3, 4),
            "iPNDM with variable steps, {} outputs",
            f"{deis}; Zhou et al. 2024, arXiv 2312.00094, diff-solvers",
        ),
    ):
        table += [
            Solver(
                name=pattern.format(order),
                build=partial(adams, variable="rho", order=order),
                prediction="noise",
                order=order,
                description=what.format(order),
                source=source,
                options=(LOWER_ORDER_FINAL, RAMP) if order > 1 else (),
                family="classical",
            )
            for order in orders
        ]
    return table


SOLVERS = tuple(_entries())
