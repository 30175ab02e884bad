"""A grid measured on the model itself: the times of a fine run that a few long steps follow best (GITS).

Record one fine run of a small batch, compute the cost of each jump between its times, and choose the jumps by dynamic programming.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError
from dpmsolver.grids.registry import check_times
from dpmsolver.host import to_host
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["gits", "gits_costs"]


def gits_costs(schedule: NoiseSchedule, times: ArrayLike, states: ArrayLike, denoised: ArrayLike) -> Floats:
    """Return the cost of one first-order jump (DDIM, Euler) between any two times of a recorded run.

        c[i, j] = mean over the batch of |x^_j - x_j| / alpha_j,
        x^_j = (sigma_j/sigma_i) x_i + (alpha_j - alpha_i sigma_j/sigma_i) x0_i

    with the Euclidean norm: the distance from the recorded state, in the units of the data. On and below the diagonal the cost is 0.

    Args:
        schedule: the noise schedule of the run.
        times: the times of the recorded run, falling, (K+1,).
        states: the states x at these times, (K+1, B, …).
        denoised: the predicted x_0 at all times except the last, (K, B, …).

    Returns:
        The costs, float64 (K+1, K+1).

    Raises:
        PlanError: times do not fall, shapes do not fit together, or values are not finite.

    Source: Chen et al. 2024 (arXiv 2405.11326), whose states are those of a variance-exploding process, x/alpha here.
    """
    knots = to_host(times)
    check_times(schedule, knots)
    if knots[-1] > knots[0]:
        raise PlanError(f"times must fall, as in sampling, got {knots[0]} to {knots[-1]}")
    x, x0 = to_host(states), to_host(denoised)
    if x.ndim < 2 or len(x) != len(knots) or x0.shape != (len(x) - 1, *x.shape[1:]):
        raise PlanError(
            f"{len(knots)} times need states ({len(knots)}, B, …) and denoised ({len(knots) - 1}, B, …), got {x.shape} and {x0.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(x0).all()):
        raise PlanError("states and denoised must be finite")
    x, x0 = (values.reshape(*values.shape[:2], -1) for values in (x, x0))
    alpha, sigma = np.asarray(schedule.alpha(knots)), np.asarray(schedule.sigma(knots))
    costs = np.zeros((len(knots), len(knots)))
    for i in range(len(knots) - 1):
        a, s = (values[i + 1 :, None, None] for values in (alpha, sigma / sigma[i]))
        jump = s * x[i] + (a - alpha[i] * s) * x0[i]
        costs[i, i + 1 :] = np.linalg.norm((jump - x[i + 1 :]) / a, axis=2).mean(axis=1)
    return costs


def gits(times: ArrayLike, costs: ArrayLike, steps: int, gamma: float = 1.15) -> Floats:
    """Return the times of the `steps` jumps from the first of `times` to the last that cost least in sum: a grid.

    The minimum is found by dynamic programming. The cost from time i with k jumps left is

        V_k(i) = min over j > i of c[i, j] + gamma V_(k-1)(j),  V_1(i) = c[i, last].

    Args:
        times: the fine grid, (K+1,).
        costs: the cost of the jump from time i to time j > i, (K+1, K+1), from `gits_costs`.
        steps: the number of jumps, 1 <= steps <= K.
        gamma: the weight of each jump relative to the one before it; 1 gives the plain sum.

    Returns:
        A selection of `times`, the first and the last included, float64 (steps + 1,).

    Raises:
        PlanError: costs have another shape, are negative or not finite, steps lie outside 1 … K, or gamma is not positive.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule = dpm.schedules.EDM()
        >>> denoiser = dpm.models.Mixture(means=[[-1.0], [1.0]], variances=[[0.01], [0.01]]).denoiser(schedule)
        >>> x_T = dpm.initial_noise(schedule, (64, 1))
        >>> fine = list(dpm.iterate(denoiser, x_T, nfe=40, solver="ddim", grid="karras"))
        >>> names = ("time", "x", "denoised")
        >>> times, states, denoised = ([getattr(state, name) for state in fine] for name in names)
        >>> costs = dpm.grids.gits_costs(schedule, times, states, denoised[:-1])
        >>> grid = dpm.grids.gits(times, costs, steps=5)
        >>> grid.round(2)
        array([80.  ,  2.82,  1.38,  0.82,  0.47,  0.  ])
        >>> dpm.sample(denoiser, x_T, nfe=5, grid=grid).shape
        (64, 1)

    Source: GITS, Chen et al. 2024 (arXiv 2405.11326); gamma is the coefficient of its published code.
    """
    knots, table = to_host(times), to_host(costs)
    if knots.ndim != 1 or table.shape != (len(knots), len(knots)):
        raise PlanError(f"times (K+1,) need costs (K+1, K+1), got {knots.shape} and {table.shape}")
    if isinstance(steps, bool) or steps != int(steps) or not 1 <= steps < len(knots):
        raise PlanError(f"steps must be an integer from 1 to {len(knots) - 1}, the steps of the fine grid, got {steps}")
    if not 0 < gamma < math.inf:
        raise PlanError(f"gamma must be positive, got {gamma}")
    forward = np.triu(np.ones_like(table, dtype=bool), 1)
    if not (np.isfinite(table[forward]).all() and (table[forward] >= 0).all()):
        raise PlanError("costs must be finite and >= 0 above the diagonal")
    jumps = np.where(forward, table, np.inf)
    value = jumps[:, -1]
    following = []
    for _ in range(int(steps) - 1):
        totals = jumps + gamma * value
        following.append(totals.argmin(axis=1))
        value = totals.min(axis=1)
    chosen = [0]
    for best in reversed(following):
        chosen.append(int(best[chosen[-1]]))
    return knots[[*chosen, len(knots) - 1]]
