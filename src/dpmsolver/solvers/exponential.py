"""One step of the exact solution, for a network output that is a polynomial in half-log-SNR: what every exponential solver is made of.

With h = lambda_t - lambda_s the diffusion ODE is solved exactly by (DPM-Solver, eq. 3.4; DPM-Solver++, eq. 8)

    noise:  x_t = (alpha_t/alpha_s) x_s - alpha_t int e^{-lambda} m dlambda = (alpha_t/alpha_s) x_s - sigma_t h int_0^1 e^{ h(1-c)} m dc
    data:   x_t = (sigma_t/sigma_s) x_s + sigma_t int e^{+lambda} m dlambda = (sigma_t/sigma_s) x_s + alpha_t h int_0^1 e^{-h(1-c)} m dc

and a solver replaces m by the polynomial through outputs it has. The `published` quadratures of DPM-Solver(++)-2 and -3M replace the
integrals of c and c^2, phi_2 and 2 phi_3, by phi_1/2 and by phi_3. The first keeps order 2, the second costs order 3 one order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpmsolver.errors import PlanError
from dpmsolver.phi import exponential_moments, polynomial_weights
from dpmsolver.plan import Combination, Point, Prediction

__all__ = ["exponential_step"]


def exponential_step(
    prediction: Prediction, source: Point, target: Point, nodes: Sequence[Point | None], *, published: bool = False
) -> Combination:
    """The step from `source` to `target` with the outputs at `nodes` (newest first; None: an output that is not used).

    A step to sigma = 0 or from alpha = 0 has h = inf. Its limit is of first order: it takes the newest output that lies at a finite
    lambda (or the only one), because every other node is infinitely far away in units of the step. A step of no length changes nothing.

    Raises:
        PlanError: noise prediction from alpha = 0, where the noise determines nothing; data prediction from sigma = 0.
    """
    state, total = _first_order(prediction, source, target)
    h = target.half_log_snr - source.half_log_snr
    places = [i for i, node in enumerate(nodes) if node is not None]
    finite = [i for i in places if math.isfinite(_at(nodes, i))]
    if h == 0.0 or not math.isfinite(h) or len(finite) < 2:
        weights = {(finite or places)[0]: total}
    else:
        sign = 1.0 if prediction == "data" else -1.0
        scale = sign * h * (target.alpha if prediction == "data" else target.sigma)
        moments = exponential_moments(-sign * h, len(finite))
        if published:
            moments = _published(moments)
        solved = polynomial_weights([(_at(nodes, i) - source.half_log_snr) / h for i in finite], moments)
        weights = {i: scale * w for i, w in zip(finite, solved, strict=True)}
    return Combination(state, tuple(weights.get(i, 0.0) for i in range(max(weights) + 1)))


def _first_order(prediction: Prediction, source: Point, target: Point) -> tuple[float, float]:
    """The coefficient of the state, and of an output that is constant over the step (DDIM)."""
    h = target.half_log_snr - source.half_log_snr
    if prediction == "data":
        if source.sigma == 0.0:
            raise PlanError(
                "a data-prediction step cannot leave sigma = 0: start at schedule.t_min, or take a noise-prediction solver"
            )
        state = target.sigma / source.sigma
        return state, -target.alpha * math.expm1(-h) if math.isfinite(h) else target.alpha - source.alpha * state
    if source.alpha == 0.0:
        raise PlanError(
            "a noise-prediction solver cannot start at alpha = 0 (zero terminal SNR): take a data-prediction one, as dpm++2m"
        )
    state = target.alpha / source.alpha
    return state, -target.sigma * math.expm1(h) if math.isfinite(h) else target.sigma - source.sigma * state


def _published(moments: list[float]) -> list[float]:
    return [moments[0], 0.5 * moments[0]] if len(moments) == 2 else [moments[0], moments[1], 0.5 * moments[2]]


def _at(nodes: Sequence[Point | None], index: int) -> float:
    node = nodes[index]
    assert node is not None
    return node.half_log_snr
