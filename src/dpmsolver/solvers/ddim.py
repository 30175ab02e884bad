"""DDIM with its eta (Song et al. 2021, arXiv 2010.02502), and ancestral sampling of DDPM (Ho et al. 2020, arXiv 2006.11239)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.options import ETA
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "ancestral_split", "ddim", "ddpm_large"]


def ddim(schedule: NoiseSchedule, times: Floats, *, eta: float = 0.0) -> Plan:
    """Return the plan of DDIM: x_t = alpha_t x0 + sqrt(sigma_t^2 - s^2) eps + s z with s = eta sigma_t sqrt(1 - e^{-2h}) (eq. 12 and 16).

    eta = 0 is the first-order solver of the ODE (DPM-Solver-1), eta = 1 the ancestral step of DDPM, any eta k-diffusion's Euler ancestral.
    It is written for data prediction, so that it can start at alpha = 0. Order 1.
    """
    points = [Point.at(schedule, t) for t in times]
    return Plan("data", tuple(Row(s, advance=_step(s, t, eta)) for s, t in pairwise(points)), points[-1])


def ddpm_large(schedule: NoiseSchedule, times: Floats) -> Plan:
    """Return the plan of DDPM's ancestral sampling with the larger of its two variances, that of the forward step (section 3.2).

    The mean is that of q(x_t | x_s, x_0) at the predicted x_0, as in `ddim` with eta = 1. The noise has the variance
    sigma_s^2 - (alpha_s/alpha_t)^2 sigma_t^2 (beta of the step), which is right for normal data and leaves the marginals. The variance with
    eta = 1 is that of the posterior, which is right for data of one point. A step to sigma = 0 adds no noise. Order 1 in law.
    """
    points = [Point.at(schedule, t) for t in times]
    rows = []
    for s, t in pairwise(points):
        step = _step(s, t, 1.0)
        if t.sigma:
            step = replace(step, noise=(math.sqrt(s.sigma**2 - (s.alpha / t.alpha * t.sigma) ** 2),))
        rows.append(Row(s, advance=step))
    return Plan("data", tuple(rows), points[-1], keeps_marginals=False)


def ancestral_split(source: Point, target: Point, eta: float) -> tuple[float, float]:
    """Return (sigma_down, sigma_up), the parts of the sigma of a target that the state brings and that is drawn.

    sigma_down = sigma_t sqrt(1 - eta^2 + eta^2 e^{-2h}), sigma_up = eta sigma_t sqrt(1 - e^{-2h}) (DDIM, eq. 16). Both are k-diffusion's
    of the same names times alpha_t.
    """
    if not 0.0 <= eta <= 1.0:
        raise PlanError(f"eta must lie in [0, 1], got {eta}")
    if not eta:
        return target.sigma, 0.0
    h = target.half_log_snr - source.half_log_snr
    if h < 0.0:
        raise PlanError("a solver with eta > 0 adds noise and cannot run backwards: encode with eta = 0")
    up = eta * target.sigma * math.sqrt(-math.expm1(-2.0 * h))
    return target.sigma * math.sqrt(1.0 - eta * eta + eta * eta * math.exp(-2.0 * h)), up


def _step(source: Point, target: Point, eta: float) -> Combination:
    down, noise = ancestral_split(source, target, eta)
    if not noise:
        return exponential_step("data", source, target, [source])
    state = down / source.sigma
    return Combination(state, (target.alpha - source.alpha * state,), (noise,))


_HO = "Ho et al. 2020, arXiv 2006.11239, section 3.2"
SOLVERS = (
    Solver(
        name="ddim",
        build=ddim,
        prediction="data",
        order=1,
        description="first order; eta > 0 adds noise",
        source="Song et al. 2021, arXiv 2010.02502, eq. 12",
        options=(ETA,),
        family="first order",
    ),
    Solver(
        name="ddpm",
        build=partial(ddim, eta=1.0),
        prediction="data",
        order=1,
        description="ancestral sampling with the smaller variance, the posterior's: ddim with eta=1",
        source=_HO,
        family="stochastic",
        stochastic=True,
    ),
    Solver(
        name="ddpm-large",
        build=ddpm_large,
        prediction="data",
        order=1,
        description="ancestral sampling with the larger variance, that of the forward step",
        source=_HO,
        family="stochastic",
        stochastic=True,
    ),
)
