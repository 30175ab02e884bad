"""Solvers of the reverse SDE that are not exponential steps: ER-SDE, Euler-Maruyama and the improved reverse SDE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import require_finite
from dpmsolver.solvers.options import ETA
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "er_sde", "euler_maruyama"]

_QUADRATURE = np.polynomial.legendre.leggauss(64)


def er_sde_5(rho: Floats) -> Floats:
    """Return the noise scale that the paper recommends, "ER SDE 5": rho (e^{rho^0.3} + 10)."""
    return rho * (np.exp(rho**0.3) + 10.0)


def er_sde(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    order: int,
    noise_scale: Callable[[Floats], Floats] = er_sde_5,
) -> Plan:
    """Return the plan of ER-SDE-Solver: the reverse SDE with a noise scale function phi of rho = sigma/alpha.

    phi(rho) = rho is the ODE, phi(rho) = rho^2 the SDE of DDPM. With r = phi(rho_t)/phi(rho_s) and Delta = rho_t - rho_s

        x_t/alpha_t = r x_s/alpha_s + (1 - r) x0 + (Delta + phi(rho_t) I_1) x0' + (Delta^2/2 + phi(rho_t) I_2) x0''
                      + sqrt(rho_t^2 - r^2 rho_s^2) z,

    where I_1 = int_{rho_t}^{rho_s} 1/phi, I_2 = int (rho - rho_s)/phi, and the derivatives are backward divided differences. In order 3,
    x0' is still of first order, as published.

    Args:
        noise_scale: phi, a function of float64 arrays. It must not fall more slowly than rho, because the noise would then have a negative
            variance.

    Source: Cui et al. 2023, arXiv 2309.06169, algorithms 1 to 3 and eq. 12.
    """
    points = [Point.at(schedule, t) for t in times]
    if points[0].half_log_snr > points[-1].half_log_snr:
        raise PlanError("a solver that adds noise cannot run backwards: encode with an ODE solver")
    rows = []
    for k, (s, t) in enumerate(pairwise(points)):
        nodes = points[k::-1][:order]
        rows.append(Row(s, advance=_er_step(s, t, [p for p in nodes if p.alpha], noise_scale)))
    return Plan("data", tuple(rows), points[-1])


def _er_step(s: Point, t: Point, nodes: Sequence[Point], phi: Callable[[Floats], Floats]) -> Combination:
    if not (s.alpha and t.sigma):  # h is infinite: all noise is drawn anew, or none
        return Combination(0.0, (t.alpha,), (t.sigma,) if t.sigma else ())
    ratio = float(phi(np.array(t.rho)) / phi(np.array(s.rho)))
    variance = t.rho**2 - (ratio * s.rho) ** 2
    if not variance > -1e-12 * t.rho**2:
        raise PlanError(
            f"noise_scale must not fall more slowly than sigma: from {s.rho:.4g} to {t.rho:.4g} it gives a negative variance"
        )
    # The integrals over log rho, where 1/phi is smooth.
    places, weights = 0.5 * (1.0 + _QUADRATURE[0]), 0.5 * _QUADRATURE[1]
    rho = t.rho * np.exp(places * math.log(s.rho / t.rho))
    measure = weights * rho * math.log(s.rho / t.rho) / phi(rho) * float(phi(np.array(t.rho)))
    delta = t.rho - s.rho
    moments = [1.0 - ratio, delta + float(measure.sum()), delta**2 + 2.0 * float((measure * (rho - s.rho)).sum())]
    powers = np.zeros((len(nodes), len(nodes)))  # divided differences: powers[j] acts on the outputs, newest first
    for j in range(len(nodes)):
        for i in range(j + 1):
            powers[j, i] = 1.0 / math.prod(nodes[i].rho - nodes[m].rho for m in range(j + 1) if m != i)
    outputs = t.alpha * np.array(moments[: len(nodes)]) @ powers
    noise = t.alpha * math.sqrt(max(variance, 0.0))
    return Combination(t.alpha / s.alpha * ratio, tuple(outputs.tolist()), (noise,) if noise else ())


def euler_maruyama(schedule: NoiseSchedule, times: Floats, *, improved: bool, eta: float = 1.0) -> Plan:
    """Return the plan of Euler-Maruyama for the reverse SDE in time, or of its improved form.

    The SDE is dx = [f x + (1 + eta^2)/2 g^2/sigma eps] dt + eta g dw. The improved step uses the mean of the drift at the step's start and
    at its predicted end, both with the same draw of noise (stochastic improved Euler); the evaluation at the end is used once and not kept.

    Source: Song et al. 2021, arXiv 2011.13456, eq. 6 and appendix E; Jolicoeur-Martineau et al. 2021, arXiv 2105.14080, algorithm 1.
    """
    if not eta >= 0:
        raise PlanError(f"eta must be >= 0, got {eta}")
    points = [Point.at(schedule, t) for t in times]
    if eta and times[0] < times[-1]:
        raise PlanError("a solver that adds noise cannot run backwards: encode with an ODE solver")
    require_finite(points)
    rows = []
    for s, t in pairwise(points):
        step = t.time - s.time
        linear, rate = schedule.rates(s.time)
        drift, noise = _drift(s, rate, eta), eta * s.sigma * math.sqrt(max(2.0 * rate * step, 0.0))
        euler = Combination(1.0 + step * linear, (step * drift,), (noise,) if noise else ())
        if not improved:
            rows.append(Row(s, advance=euler))
            continue
        # x + (k_1 + k_2)/2 with k_2 = step (linear_t u + drift_t m) at u = euler(x), and the noise of both ends' mean.
        linear_t, rate_t = schedule.rates(t.time)
        noise_t = eta * t.sigma * math.sqrt(max(2.0 * rate_t * step, 0.0))
        half = 0.5 * step * linear_t
        state = 1.0 + 0.5 * step * linear + half * euler.state
        outputs = (0.5 * step * _drift(t, rate_t, eta), 0.5 * step * drift + half * euler.outputs[0])
        both = (0.0, 0.5 * (noise + noise_t) + half * noise) if noise else ()
        rows += [Row(s, predict=euler), Row(t, advance=Combination(state, outputs, both))]
    return Plan("noise", tuple(rows), points[-1], keeps_marginals=False)


def _drift(point: Point, rate: float, eta: float) -> float:
    """The coefficient of eps: (1 + eta^2)/2 g^2/sigma with g^2 = -2 sigma^2 dlambda/dt."""
    return -(1.0 + eta * eta) * point.sigma * rate


_ER = "Cui et al. 2023, arXiv 2309.06169"
SOLVERS = (
    *(
        Solver(
            name=f"er-sde-{order}",
            build=partial(er_sde, order=order),
            prediction="data",
            order=min(order, 2),
            description=f"extended reverse-time SDE through {order} outputs",
            source=f"{_ER}, algorithm {order}",
            options=(
                Option("noise_scale", "a function", "phi of sigma/alpha: itself is the ODE, its square DDPM's SDE"),
            ),
            family="stochastic",
            stochastic=True,
        )
        for order in (1, 2, 3)
    ),
    Solver(
        name="euler-maruyama",
        build=partial(euler_maruyama, improved=False),
        prediction="noise",
        order=1,
        description="Euler-Maruyama for the reverse SDE in time",
        source="Song et al. 2021, arXiv 2011.13456, appendix E",
        options=(ETA,),
        family="stochastic",
        stochastic=True,
        finite=True,
    ),
    Solver(
        name="improved-reverse-sde",
        build=partial(euler_maruyama, improved=True),
        prediction="noise",
        order=2,
        description="stochastic improved Euler in time",
        source="Jolicoeur-Martineau et al. 2021, arXiv 2105.14080, algorithm 1",
        options=(ETA,),
        evaluations_per_step=2,
        family="stochastic",
        stochastic=True,
        finite=True,
    ),
)
