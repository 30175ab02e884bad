"""Runs of one stochastic solver along one Brownian path with increasing numbers of steps, which show its strong order, and its weak order.

A plan of N steps and one of 2N share the start and the path (its clock is that of `dpmsolver.sampling.noise`). The root mean square
distance of their results falls as N^-p for a solver of strong order p, and the distance of their moments as N^-p for one of weak order p.
Neither needs a reference, and the noise that two runs share cancels from the small difference of their means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.evaluation.convergence import GAUSSIAN, RUN, SCHEDULE, affordable, full_order, slope
from dpmsolver.models.closed_form import Mixture
from dpmsolver.plans import loop
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.sampling.noise import intervals
from dpmsolver.schedules import Floats
from dpmsolver.solvers import Solver, make_plan

__all__ = ["BIMODAL", "Coupled", "coupled_plans", "coupled_runs", "path_weights", "strong_order"]

BIMODAL = Mixture(means=[[-1.0], [0.8]], variances=[[0.15], [0.2]], weights=[0.4, 0.6])
_DIGITS = 9  # of half-log-SNR: points of nested grids are the same but for rounding


def coupled_plans(solver: Solver, steps: Sequence[int], **options: Any) -> list[Plan]:
    """Return plans with the given numbers of steps, over the range in which convergence is measured, uniform in half-log-SNR."""
    settings: dict[str, Any] = {"grid": "logsnr", **RUN, **full_order(solver), **options}
    return [make_plan(solver, SCHEDULE, affordable(solver, n * solver.evaluations_per_step), **settings) for n in steps]


def path_weights(plans: Sequence[Plan]) -> list[list[Floats]]:
    """Return the normals of each plan as combinations of J independent normals of the path, one between any two neighbouring draws.

    With the clock c = (alpha/sigma)^2, the draw from a to b is the sum of sqrt(dc/(c_b - c_a)) times the normals in between.

    Returns:
        The weights of each draw of each plan, float64 (J,) of norm 1, or zeros for a draw that is not used.

    Examples:
        >>> from dpmsolver.solvers import SOLVERS
        >>> coarse, fine = path_weights(coupled_plans(SOLVERS["dpm++2m-sde"], [1, 2]))
        >>> [w.round(2).tolist() for w in coarse], [w.tolist() for w in fine]
        ([[0.12, 0.99]], [[1.0, 0.0], [0.0, 1.0]])
    """
    ends = [{k: (_place(a), _place(b)) for k, (a, b) in intervals(plan).items()} for plan in plans]
    edges = np.unique([lam for each in ends for pair in each.values() for lam in pair])
    lengths = np.diff(np.exp(2.0 * edges))

    def weights(pair: tuple[float, float] | None) -> Floats:
        inside = (
            np.zeros_like(lengths) if pair is None else lengths * ((edges[:-1] >= pair[0]) & (edges[1:] <= pair[1]))
        )
        return np.asarray(np.sqrt(inside / max(inside.sum(), np.finfo(float).tiny)))

    draws = [plan.draws for plan in plans]
    return [[weights(each.get(k)) for k in range(n)] for each, n in zip(ends, draws, strict=True)]


def strong_order(solver: Solver, steps: Sequence[int] = (64, 128, 256), **options: Any) -> float:
    """Return the strong order of a solver on Gaussian data, exactly and without sampling.

    The optimal network of Gaussian data is affine. Therefore each result is an affine function of the start and of the path's normals, and
    the root mean square distance of two results is that of their coefficients.

    Args:
        solver: a solver that adds noise.
        steps: numbers of steps, each twice the one before.
        options: options of the solver.

    Raises:
        PlanError: the solver adds no noise.

    Examples:
        >>> from dpmsolver.solvers import SOLVERS
        >>> round(strong_order(SOLVERS["dpm++2m-sde"]), 1)
        1.0
    """
    plans = coupled_plans(solver, steps, **options)
    _require_noise(plans, solver)
    weights = path_weights(plans)
    results = [_coefficients(plan, each) for plan, each in zip(plans, weights, strict=True)]
    distances = [float(np.linalg.norm(b - a)) for a, b in pairwise(results)]
    return slope(distances, list(steps[:-1]))


def _coefficients(plan: Plan, weights: Sequence[Floats]) -> Floats:
    """The result as coefficients of 1, of the start's normal and of the path's, float64 (2 + J, D)."""
    mean, variance = GAUSSIAN.means[0], GAUSSIAN.variances[0]
    size = 2 + len(weights[0])
    one = np.zeros((size, 1))
    one[0] = 1.0
    x = np.zeros((size, len(mean)))
    x[0] = plan.start.alpha * mean
    x[1] = np.sqrt(plan.start.alpha**2 * variance + plan.start.sigma**2)

    def network(u: Floats, point: Point) -> tuple[Floats, ...]:
        gap = (u - point.alpha * mean * one) / (point.alpha**2 * variance + point.sigma**2)
        m = np.asarray(point.sigma * gap if plan.prediction == "noise" else mean * one + point.alpha * variance * gap)
        return (m,) * plan.answers

    normals = [np.concatenate([np.zeros(2), w])[:, None] for w in weights]
    return np.asarray(loop.run(loop.steps(plan, x, iter(normals), one=one), network))


@dataclass(frozen=True)
class Coupled:
    """Batches of coupled runs on one-dimensional data, from which weak and strong orders are estimated.

    Args:
        steps: the numbers of steps of the runs, each twice the one before, (R,).
        moments: the means of x and of x^2 of each batch and run, (batches, R, 2).
        squares: the mean square distances between the runs of N and 2N steps, (batches, R - 1).
        exact: the means of x and of x^2 of the data's marginal at the end, (2,).
    """

    steps: tuple[int, ...]
    moments: Floats
    squares: Floats
    exact: Floats

    def weak_order(self) -> tuple[float, float, float]:
        """Return the slope of the distance in (E x, E x^2) between N and 2N steps, for the two largest N, and the ends of its interval."""
        return self._interval(lambda chosen: np.linalg.norm(self._changes[chosen].mean(axis=0), axis=1))

    def strong_order(self) -> tuple[float, float, float]:
        """Return the slope of the root mean square distance between N and 2N steps, for the two largest N, and the ends of its interval."""
        return self._interval(lambda chosen: np.sqrt(self.squares[chosen].mean(axis=0)))

    def resolved(self, errors: float = 10.0) -> Coupled:
        """Return the runs without the finest ones whose distance in (E x, E x^2) is below `errors` standard errors; three remain."""
        last = len(self.steps)
        distances, noise = self.distances()
        while last > 3 and distances[last - 2] < errors * noise[last - 2]:
            last -= 1
        return replace(
            self, steps=self.steps[:last], moments=self.moments[:, :last], squares=self.squares[:, : last - 1]
        )

    def distances(self) -> tuple[list[float], list[float]]:
        """Return the distances in (E x, E x^2) behind `weak_order`, and the standard error of each."""
        errors = self._changes.std(axis=0, ddof=1) / np.sqrt(len(self.moments))
        changes = np.linalg.norm(self._changes.mean(axis=0), axis=1)
        return changes.tolist(), np.linalg.norm(errors, axis=1).tolist()

    @property
    def _changes(self) -> Floats:
        return np.asarray(np.diff(self.moments, axis=1))

    def gap(self) -> tuple[float, float]:
        """Return the distance of (E x, E x^2) of the finest runs from the exact law, and its standard error."""
        finest = self.moments[:, -1]
        error = finest.std(axis=0, ddof=1) / np.sqrt(len(finest))
        return float(np.linalg.norm(finest.mean(axis=0) - self.exact)), float(np.linalg.norm(error))

    def _interval(self, distances: Callable[[Any], Floats], resamples: int = 2000) -> tuple[float, float, float]:
        """Of all batches, and the percentiles of a bootstrap over them."""
        rng, num = np.random.default_rng(0), len(self.moments)
        drawn = [self._slope(distances(rng.integers(num, size=num))) for _ in range(resamples)]
        low, high = np.percentile(drawn, [2.5, 97.5])
        return self._slope(distances(slice(None))), float(low), float(high)

    def _slope(self, distances: Floats) -> float:
        return slope(distances[-2:].tolist(), self.steps[-3:-1])


def coupled_runs(
    solver: Solver,
    model: Mixture = BIMODAL,
    steps: Sequence[int] = (16, 32, 64, 128),
    *,
    batches: int = 50,
    size: int = 8000,
    seed: int = 0,
    **options: Any,
) -> Coupled:
    """Draw samples of one-dimensional data by runs with several numbers of steps that share their start and their path.

    Args:
        solver: a solver that adds noise.
        model: data with one coordinate. The start is drawn from their marginal.
        steps: numbers of steps, each twice the one before.
        batches, size: the number of batches, and the samples of each.
        seed: the seed of all draws.
        options: options of the solver.

    Raises:
        PlanError: the solver adds no noise, or the model has several coordinates.
    """
    plans = coupled_plans(solver, steps, **options)
    _require_noise(plans, solver)
    if model.means.shape[1] != 1:
        raise PlanError(f"model must have one coordinate, got {model.means.shape[1]}")
    weights = path_weights(plans)
    rng = np.random.default_rng(seed)
    moments, squares = np.zeros((batches, len(plans), 2)), np.zeros((batches, len(plans) - 1))
    for batch in range(batches):
        data = model.sample(size, seed=int(rng.integers(2**63)))
        x = plans[0].start.alpha * data[:, 0] + plans[0].start.sigma * rng.standard_normal(size)
        path = rng.standard_normal((len(weights[0][0]), size))
        results = [
            loop.run(loop.steps(plan, x, (_normal(w, path) for w in each)), _network(plan, model))
            for plan, each in zip(plans, weights, strict=True)
        ]
        moments[batch] = [(r.mean(), (r**2).mean()) for r in results]
        squares[batch] = [np.mean((b - a) ** 2) for a, b in pairwise(results)]
    return Coupled(tuple(steps), moments, squares, _marginal_moments(model, plans[0].end))


def _normal(weights: Floats, path: Floats) -> Floats:
    """The combination of the path's normals: only those of the draw's own interval, which are a few."""
    used = np.flatnonzero(weights)
    return np.asarray(weights[used] @ path[used[0] : used[-1] + 1] if len(used) else np.zeros(path.shape[1]))


def _network(plan: Plan, model: Mixture) -> Callable[[Floats, Point], tuple[Floats, ...]]:
    """`Mixture.predict_data` for states (size,) of one coordinate, component by component: several times as fast."""
    means, variances = model.means[:, 0], model.variances[:, 0]

    def network(u: Floats, point: Point) -> tuple[Floats, ...]:
        totals = point.alpha**2 * variances + point.sigma**2
        gaps = [u - point.alpha * mean for mean in means]
        logs = [np.log(w / np.sqrt(v)) - (0.5 / v) * g * g for w, v, g in zip(model.weights, totals, gaps, strict=True)]
        largest = np.maximum.reduce(logs)
        parts = [np.exp(each - largest) for each in logs]
        total, data = sum(parts), 0.0
        for part, mean, variance, v, g in zip(parts, means, variances, totals, gaps, strict=True):
            data = data + part * (mean + point.alpha * variance / v * g)
        data = data / total
        m = np.asarray(data if plan.prediction == "data" else (u - point.alpha * data) / point.sigma)
        return (m,) * plan.answers

    return network


def _marginal_moments(model: Mixture, end: Point) -> Floats:
    means, variances = end.alpha * model.means[:, 0], end.alpha**2 * model.variances[:, 0] + end.sigma**2
    return np.array([model.weights @ means, model.weights @ (means**2 + variances)])


def _place(point: Point) -> float:
    return round(point.half_log_snr, _DIGITS)


def _require_noise(plans: Sequence[Plan], solver: Solver) -> None:
    if not all(plan.stochastic for plan in plans):
        raise PlanError(f"{solver.name} adds no noise with these options: see evaluation.convergence")
