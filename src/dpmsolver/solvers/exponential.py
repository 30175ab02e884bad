"""One step of the exact solution for a network output that is a polynomial. Every exponential solver consists of such steps.

With h = lambda_t - lambda_s the diffusion ODE is solved exactly by (DPM-Solver, eq. 3.4; DPM-Solver++, eq. 8)

    noise:  x_t = (alpha_t/alpha_s) x_s - alpha_t int e^{-lambda} m dlambda
    data:   x_t = (sigma_t/sigma_s) x_s + sigma_t int e^{+lambda} m dlambda

and a solver replaces m by the polynomial through outputs that it has. The reverse SDE with noise of strength eta (0: the ODE, 1: the
time reversal of the forward process) has the exact solution (SA-Solver, Xue et al. 2023, arXiv 2309.05019, prop. 4.1):

    noise:  x_t = (alpha_t/alpha_s) x_s - (1 + eta^2) alpha_t int e^{-lambda} m dlambda + alpha_t eta sqrt(rho_s^2 - rho_t^2) z
    data:   x_t = (sigma_t/sigma_s) e^{-eta^2 h} x_s + (1 + eta^2) sigma_t int e^{-eta^2 (lambda_t - lambda)} e^lambda m dlambda
                  + sigma_t sqrt(1 - e^{-2 eta^2 h}) z

with rho = sigma/alpha = e^{-lambda}. Noise prediction keeps the marginals only for eta = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.phi import exponential_moments, polynomial_weights
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction

__all__ = ["Quadrature", "exponential_step", "noise_left", "require_finite", "scale_noise"]

_AT_PURE_NOISE = (
    "this solver cannot start at alpha = 0, where noise says nothing of the data: leave start out, so that it starts just above, "
    "give such a start yourself (start=0.999 on a flow), or take a data-prediction solver, as dpm++2m"
)

Quadrature: TypeAlias = Literal["exact", "published", "bh1"]


def exponential_step(
    prediction: Prediction,
    source: Point,
    target: Point,
    nodes: Sequence[Point | None],
    *,
    quadrature: Quadrature = "exact",
    eta: float = 0.0,
) -> Combination:
    """Return the step from `source` to `target` that is exact if the network's output is a polynomial in half-log-SNR.

    Args:
        prediction: what the outputs are, "noise" or "data".
        source, target: the points between which the step goes.
        nodes: the points of the outputs that determine the polynomial, newest first; None for an output that is not used.
        quadrature: how the powers c and c^2 of the polynomial are integrated. "exact": by phi_2 and 2 phi_3. "published": by phi_1/2 and
            phi_3, as in DPM-Solver(++)-2 and -3M and UniPC's B_2; the second costs order 3 one order. "bh1": by 1/2 for two nodes, as in
            UniPC's B_1.
        eta: the strength of the noise: 0 is the ODE, 1 the reverse SDE.

    Returns:
        The step. With eta > 0 it uses one normal, which `noise_left` splits between the stages of a step.

    Raises:
        PlanError: noise prediction from alpha = 0, where the noise does not determine the data; data prediction from sigma = 0.

    A step to sigma = 0 or from alpha = 0 has h = inf. Its limit has order 1: it uses the newest output at a finite lambda (or the only
    output), because every other node is infinitely far away in units of the step. A step of length 0 changes nothing.

    Examples:
        >>> from dpmsolver.plans import Point
        >>> from dpmsolver.schedules import Flow
        >>> s, t = (Point.at(Flow(), time) for time in (0.8, 0.4))
        >>> print(exponential_step("data", s, t, [s]))  # DDIM
        +0.5 x +0.5 m

    Source: DPM-Solver, arXiv 2206.00927, eq. 3.4; DPM-Solver++, arXiv 2211.01095, eq. 8; with noise, SA-Solver, arXiv 2309.05019, prop.
    4.1.
    """
    if quadrature not in get_args(Quadrature):
        raise PlanError(f"quadrature must be 'exact', 'published' or 'bh1', got {quadrature!r}")
    if target.sigma == 0.0:  # the SDE and the ODE end in the predicted x_0
        eta = 0.0
    state, total = _first_order(prediction, source, target, eta)
    h = target.half_log_snr - source.half_log_snr
    places = {i: node for i, node in enumerate(nodes) if node is not None}
    finite = {i: node.half_log_snr for i, node in places.items() if math.isfinite(node.half_log_snr)}
    if h == 0.0 or not math.isfinite(h) or len(finite) < 2:
        weights = {next(iter(finite or places)): total}
    else:
        rate = 1.0 + eta * eta if prediction == "data" else 1.0
        sign = 1.0 if prediction == "data" else -1.0
        moments = _quadrature(exponential_moments(-sign * rate * h, len(finite)), quadrature)
        scale = total / moments[0]
        solved = polynomial_weights([(lam - source.half_log_snr) / h for lam in finite.values()], moments)
        weights = {i: scale * w for i, w in zip(finite, solved, strict=True)}
    noise = noise_left(prediction, source, target, target, eta)
    outputs = tuple(weights.get(i, 0.0) for i in range(max(weights) + 1))
    return Combination(state, outputs, (noise,) if noise else ())


def noise_left(prediction: Prediction, start: Point, stop: Point, target: Point, eta: float) -> float:
    """Return the standard deviation at `target` of the noise that the SDE adds between `start` and `stop`, earlier in the step."""
    if eta == 0.0 or target.sigma == 0.0:
        return 0.0
    if prediction == "noise":
        return target.alpha * eta * math.sqrt((start.sigma / start.alpha) ** 2 - (stop.sigma / stop.alpha) ** 2)
    left = -2.0 * eta * eta * (target.half_log_snr - stop.half_log_snr)
    return target.sigma * math.sqrt(
        -math.exp(left) * math.expm1(-2.0 * eta * eta * (stop.half_log_snr - start.half_log_snr))
    )


def scale_noise(plan: Plan, s_noise: float) -> Plan:
    """Return the plan with its noise multiplied by s_noise, >= 0. A factor other than 1 leaves the marginals if the plan adds noise.

    Source: S_noise of Karras et al. 2022, arXiv 2206.00364, algorithm 2. Its 1.003 and 1.007 make up for noise that a network removes in
    excess.
    """
    if not isinstance(s_noise, (float, int, np.number)) or isinstance(s_noise, bool) or not 0.0 <= s_noise < math.inf:
        raise PlanError(f"s_noise must be a finite number >= 0, got {s_noise!r}")
    if s_noise == 1.0 or not plan.stochastic:
        return plan

    def scaled(c: Combination | None) -> Combination | None:
        return c and replace(c, noise=tuple(s_noise * z for z in c.noise))

    rows = (replace(row, advance=scaled(row.advance), predict=scaled(row.predict)) for row in plan.rows)
    return replace(plan, rows=tuple(rows), keeps_marginals=False)


def require_finite(points: Sequence[Point]) -> None:
    """Raise PlanError for a run from alpha = 0 or to sigma = 0, in a method whose steps have no limit there."""
    if points[0].alpha == 0.0 or points[-1].alpha == 0.0:
        raise PlanError(_AT_PURE_NOISE)
    if points[0].sigma == 0.0 or points[-1].sigma == 0.0:
        raise PlanError(
            "this solver has no step to or from sigma = 0: give it schedule.t_min as that end, or take an exponential one"
        )


def _first_order(prediction: Prediction, source: Point, target: Point, eta: float) -> tuple[float, float]:
    """The coefficient of the state, and of an output that is constant over the step (DDIM)."""
    h = target.half_log_snr - source.half_log_snr
    if eta and h < 0.0:
        raise PlanError(
            "a solver that adds noise cannot run backwards: encode with an ODE solver, or without its noise"
        )
    if prediction == "data":
        if source.sigma == 0.0:
            raise PlanError(
                "a data-prediction step cannot leave sigma = 0: start at schedule.t_min, or take a noise-prediction solver"
            )
        state = target.sigma / source.sigma * (math.exp(-eta * eta * h) if eta else 1.0)
        finite = math.isfinite(h)
        return state, -target.alpha * math.expm1(
            -(1.0 + eta * eta) * h
        ) if finite else target.alpha - source.alpha * state
    if source.alpha == 0.0:
        raise PlanError(_AT_PURE_NOISE)
    state = target.alpha / source.alpha
    total = -target.sigma * math.expm1(h) if math.isfinite(h) else target.sigma - source.sigma * state
    return state, (1.0 + eta * eta) * total


def _quadrature(moments: list[float], quadrature: Quadrature) -> list[float]:
    if quadrature == "exact" or len(moments) > 3:
        return moments
    if len(moments) == 2:
        return [moments[0], 0.5 if quadrature == "bh1" else 0.5 * moments[0]]
    return moments if quadrature == "bh1" else [moments[0], moments[1], 0.5 * moments[2]]
