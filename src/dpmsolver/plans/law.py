"""The exact law of the result of a plan for Gaussian data and the optimal network: the loop, run on coefficients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.plans.loop import run, steps
from dpmsolver.schedules import Floats

if TYPE_CHECKING:
    from dpmsolver.plans.plan import Plan
    from dpmsolver.plans.rows import Point

__all__ = ["moments", "wasserstein"]

Begins = Literal["marginal", "noise"]


def moments(plan: Plan, mean: ArrayLike, variance: ArrayLike, begins: Begins) -> tuple[Floats, Floats]:
    """Return mean and variance of the result of a plan for Gaussian data and the optimal network, exactly and without sampling.

    The optimal network of Gaussian data is affine in the state. Therefore the result is an affine function of independent normals, the
    start and each draw of noise. The loop runs on arrays of its coefficients: of the constant 1, of the start's normal, and of each draw.
    If an evaluation gives several outputs, all of them are those of the optimal network.

    Args:
        mean, variance: of independent coordinates, shape (D,) or numbers. For data with a covariance, give its eigenvalues and the mean
            in its eigenbasis: every linear solver acts on each coordinate separately.
        begins: "marginal": the run begins with the data's marginal at `start`, so the result has no error of the start. "noise": the
            run begins with normals of standard deviation sigma, as `initial_noise` draws them.

    Returns:
        mean and variance of the result, each float64 (D,).

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> mean, variance = make_plan("ddim", schedules.EDM(), nfe=500).moments(1.0, 0.25)
        >>> mean.round(6), variance.round(2)
        (array([1.]), array([0.25]))
    """
    mean, variance = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (mean, variance))
    # Where a row hands on nothing but its state, the normals so far are merged into one: the law is the same.
    merged = plan.begin is None and plan.history == plan.answers and all(row.predict is None for row in plan.rows)
    draws = 0 if not plan.noise_history else 1 if merged else plan.draws
    x = np.zeros((draws + 2, *np.broadcast_shapes(mean.shape, variance.shape)))
    signal = plan.start.alpha if begins == "marginal" else 0.0
    x[0] = signal * mean
    x[1] = np.sqrt(signal**2 * variance + plan.start.sigma**2)
    one = np.zeros((len(x), *[1] * (x.ndim - 1)))
    one[0] = 1.0
    normals = repeat(next(_unit_vectors(x, 1))) if merged and draws else _unit_vectors(x, draws)

    def optimal(u: Floats, point: Point) -> tuple[Floats, ...]:
        if merged:
            u[1] = np.sqrt(np.square(u[1:]).sum(axis=0))
            u[2:] = 0.0
        alpha, sigma = point.alpha, point.sigma
        gap = u / (alpha**2 * variance + sigma**2)
        gap[0] -= alpha * mean / (alpha**2 * variance + sigma**2)
        m = (sigma if plan.prediction == "noise" else alpha * variance) * gap
        if plan.prediction == "data":
            m[0] += mean
        return (m,) * plan.answers

    reached: Floats = run(steps(plan, x, normals if draws else None, one=one), optimal)
    return reached[0], np.square(reached[1:]).sum(axis=0)


def wasserstein(plan: Plan, mean: ArrayLike, variance: ArrayLike, to: Literal["data", "end"], begins: Begins) -> float:
    """Return the 2-Wasserstein distance between the result of a plan and Gaussian data, exactly (see `moments`).

    It measures the quality of a plan within a millisecond.

    Args:
        to: "data", or "end" for the data's marginal at the end of the run, so that only the error of the solver counts.
        begins: as in `moments`.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> good, poor = (make_plan(s, schedules.EDM(), nfe=10).wasserstein(0.0, 0.25) for s in ("dpm++2m", "ddim"))
        >>> good < poor
        True
    """
    reached, spread = moments(plan, mean, variance, begins)
    alpha, sigma = (1.0, 0.0) if to == "data" else (plan.end.alpha, plan.end.sigma)
    deviation = np.sqrt(alpha**2 * np.asarray(variance, dtype=np.float64) + sigma**2)
    gaps = np.square(reached - alpha * np.asarray(mean)) + np.square(np.sqrt(spread) - deviation)
    return float(np.sqrt(gaps.sum()))


def _unit_vectors(like: Floats, draws: int) -> Iterator[Floats]:
    """Each draw's coefficients: 1 in its own place, which stands behind the constant's and the start's."""
    for place in range(2, draws + 2):
        unit = np.zeros_like(like)
        unit[place] = 1.0
        yield unit
