"""DDIM with its eta (Song et al. 2021, arXiv 2010.02502)."""

from __future__ import annotations

import math
from itertools import pairwise

from dpmsolver.errors import PlanError
from dpmsolver.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step

__all__ = ["ddim"]


def ddim(schedule: NoiseSchedule, times: Floats, *, eta: float = 0.0) -> Plan:
    """x_t = alpha_t x0 + sqrt(sigma_t^2 - s^2) eps + s z with s = eta sigma_t sqrt(1 - e^{-2h}) (eq. 12 and 16).

    eta = 0 is the first-order solver of the ODE (DPM-Solver-1), eta = 1 is DDPM's ancestral step. Written for data prediction, so that
    it also starts at alpha = 0. Order 1.
    """
    if not 0.0 <= eta <= 1.0:
        raise PlanError(f"eta must lie in [0, 1], got {eta}")
    points = [Point.at(schedule, t) for t in times]
    if eta and points[0].half_log_snr > points[-1].half_log_snr:
        raise PlanError("ddim with eta > 0 cannot run backwards: encode with eta = 0")
    steps = (_step(source, target, eta) for source, target in pairwise(points))
    return Plan("data", tuple(Row(point, advance=step) for point, step in zip(points, steps, strict=False)), points[-1])


def _step(source: Point, target: Point, eta: float) -> Combination:
    if not eta:
        return exponential_step("data", source, target, [source])
    noise = eta * target.sigma * math.sqrt(-math.expm1(-2.0 * (target.half_log_snr - source.half_log_snr)))
    state = math.sqrt(target.sigma**2 - noise**2) / source.sigma
    return Combination(state, (target.alpha - source.alpha * state,), (noise,))
