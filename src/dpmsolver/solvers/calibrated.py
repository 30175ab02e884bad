"""Solvers that use measurements of the network (`dpmsolver.calibrate`): DPM-Solver-v3, Analytic-DPM and Analytic-DDIM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.polynomial import legendre

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.ddim import ancestral_split
from dpmsolver.solvers.exponential import require_finite
from dpmsolver.solvers.multistep import orders_of_steps
from dpmsolver.solvers.options import LOWER_ORDER_FINAL, RAMP, STATISTICS
from dpmsolver.solvers.solver import Solver
from dpmsolver.solvers.statistics import ModelStatistics
from dpmsolver.solvers.unipc import predictor_corrector

__all__ = ["SOLVERS", "analytic", "dpm_v3"]

_NODES, _WEIGHTS = (0.5 * (1.0 + legendre.leggauss(24)[0]), 0.5 * legendre.leggauss(24)[1])


def analytic(schedule: NoiseSchedule, times: Floats, *, eta: float, statistics: ModelStatistics | None = None) -> Plan:
    """Return a plan of DDIM's steps with the variance that is optimal for the network: the uncertainty of x_0 given x_s is added as noise.

    With the noise s of DDIM's eta and the weight c of the predicted x_0, the variance of a step is
    s^2 + c^2 (sigma_s/alpha_s)^2 (1 - Gamma_s), where Gamma = E|eps|^2 per coordinate. eta = 1 is Analytic-DDPM, eta = 0 Analytic-DDIM.
    A step to sigma = 0 gives the predicted x_0.

    Source: Bao et al. 2022, arXiv 2201.06503, theorem 1, eq. 8 and 9. Order 1 in law.
    """
    measured = _required(statistics, schedule)
    points = [Point.at(schedule, t) for t in times]
    rows = []
    for s, t in pairwise(points):
        if t.half_log_snr < s.half_log_snr:
            raise PlanError("a solver that adds noise cannot run backwards: encode with an ODE solver")
        down, up = ancestral_split(s, t, eta)
        state = down / s.sigma
        weight, noise = t.alpha - s.alpha * state, up
        if s.alpha and t.sigma:
            open_part = max(0.0, 1.0 - measured.noise_power_at(s.half_log_snr))
            noise = math.hypot(up, weight * s.rho * math.sqrt(open_part))
        rows.append(Row(s, advance=Combination(state, (weight,), (noise,) if noise else ())))
    return Plan("data", tuple(rows), points[-1], keeps_marginals=False)


def dpm_v3(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    statistics: ModelStatistics | None = None,
    order: int = 3,
    corrector: bool = True,
    lower_order_final: bool = True,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return the plan of DPM-Solver-v3: the measured linear part of the network is integrated exactly, the rest as a polynomial.

    With l, s and b of `ModelStatistics`, f = (sigma eps - l x)/alpha, L(u) = int_{lambda_s}^u l and S, B(u) = int e^{-S} b likewise,

        x_t = alpha_t e^{-L(lambda_t)} (x_s/alpha_s - int e^{L + S} (g + B) dlambda),     g = e^{-S} f - B,

    is exact, and g is replaced by the polynomial through `order` of its values. If the network is affine in x with the measured
    coefficients, g is constant and any step is exact. Coefficients are arrays, one element per coordinate of the state.

    Args:
        statistics: measurements on this schedule whose levels include those of the run.
        order: the number of outputs that the predictor uses, 1 to 3.
        corrector: use each output to correct the step that led to it as well, like UniPC.

    Source: Zheng et al. 2023, arXiv 2310.13268, eq. 8, 9 and algorithm 1. Order as UniPC's: order + 1 with the corrector.
    """
    if not 1 <= order <= 3:
        raise PlanError(f"order must be 1, 2 or 3, got {order}")
    measured = _required(statistics, schedule)
    points = [Point.at(schedule, t) for t in times]
    require_finite(points)
    measured.check_levels([p.half_log_snr for p in points])
    flow = _Flow(measured)
    orders = orders_of_steps(len(points) - 1, order, lower_order_final, ramp)

    def correct(k: int) -> Combination | None:
        if not corrector:
            return None
        return flow.step(points[k], points[k + 1], [points[k + 1], *points[k::-1][: orders[k]]])

    plan = predictor_corrector(
        points,
        lambda k: flow.step(points[k], points[k + 1], points[k::-1][: orders[k]]),
        correct,
        "noise",
        keeps_marginals=False,
    )
    return replace(plan, rows=tuple(replace(row, output=flow.remainder(row.point)) for row in plan.rows))


class _Flow:
    """The exact solution around the measured l, s and b, as smooth functions of lambda."""

    def __init__(self, measured: ModelStatistics) -> None:
        from scipy.interpolate import CubicSpline  # here, because it is slow to import

        self.linear, scale, self.bias = (
            CubicSpline(measured.half_log_snr, getattr(measured, name)) for name in ("linear", "scale", "bias")
        )
        self.linear_integral, self.scale_integral = self.linear.antiderivative(), scale.antiderivative()

    def remainder(self, point: Point) -> Combination:
        """f = (sigma eps - l x)/alpha as a combination of x and eps."""
        return Combination(-self.linear(point.half_log_snr) / point.alpha, (point.rho,))

    def step(self, source: Point, target: Point, nodes: Sequence[Point]) -> Combination:
        start, h = source.half_log_snr, target.half_log_snr - source.half_log_snr
        lams = start + h * _NODES
        shape = (-1, *[1] * (self.bias(start).ndim))
        grown = np.exp(
            self._between(self.linear_integral, start, lams) + self._between(self.scale_integral, start, lams)
        )
        measure = h * _WEIGHTS.reshape(shape) * grown
        positions = [(p.half_log_snr - start) / h for p in nodes]
        decay = target.alpha * np.exp(-self._between(self.linear_integral, start, target.half_log_snr))
        weights, constant = [], (measure * np.stack([self._bias(start, lam) for lam in lams])).sum(axis=0)
        for i, node in enumerate(nodes):
            unit = [float(j == i) for j in range(len(nodes))]
            cardinal = np.polynomial.Polynomial(np.linalg.solve(np.vander(positions, increasing=True), unit))(_NODES)
            integral = (measure * cardinal.reshape(shape)).sum(axis=0)
            weights.append(-decay * integral * np.exp(-self._between(self.scale_integral, start, node.half_log_snr)))
            constant = constant - integral * self._bias(start, node.half_log_snr)
        return Combination(decay / source.alpha, tuple(weights), (), -decay * constant)

    def _bias(self, start: float, stop: float) -> Floats:
        """B: int_start^stop e^{-S} b."""
        lams = start + (stop - start) * _NODES
        values = np.exp(-self._between(self.scale_integral, start, lams)) * self.bias(lams)
        return np.asarray((stop - start) * np.tensordot(_WEIGHTS, values, axes=1))

    @staticmethod
    def _between(integral: object, start: float, stop: object) -> Floats:
        return np.asarray(integral(stop) - integral(start))  # type: ignore[operator]


def _required(statistics: ModelStatistics | None, schedule: NoiseSchedule) -> ModelStatistics:
    """The statistics, checked: before any plan is made."""
    if not isinstance(statistics, ModelStatistics):
        raise PlanError(
            f"this solver wants statistics of the network: statistics=dpm.calibrate(denoiser, x0), got {type(statistics).__name__}"
        )
    statistics.check_schedule(schedule)
    return statistics


_BAO = "Bao et al. 2022, arXiv 2201.06503, theorem 1"
SOLVERS = (
    Solver(
        name="dpm-v3",
        build=dpm_v3,
        prediction="noise",
        order=4,
        description="DPM-Solver-v3: around the network's measured statistics",
        source="Zheng et al. 2023, arXiv 2310.13268, algorithm 1",
        options=(
            STATISTICS,
            Option("order", "a whole number", "outputs of the predictor, 1 to 3"),
            Option("corrector", "True or False", "whether each output also corrects the step that led to it"),
            LOWER_ORDER_FINAL,
            RAMP,
        ),
        family="calibrated",
        finite=True,
        calibrated=True,
    ),
    *(
        Solver(
            name=f"analytic-{name}",
            build=partial(analytic, eta=eta),
            prediction="data",
            order=1,
            description=f"{name.upper()} with the variance that the network's measured noise power makes optimal",
            source=_BAO,
            options=(STATISTICS,),
            family="calibrated",
            stochastic=True,
            calibrated=True,
        )
        for name, eta in (("ddpm", 1.0), ("ddim", 0.0))
    ),
)
