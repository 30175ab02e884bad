"""Adaptive step size: DPM-Solver-12 and DPM-Solver-23, with a step size for each sample. This loop is the only one without a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.backends import Backend, arrays
from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError, SamplingError, in_samples
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Combination, Point, Prediction
from dpmsolver.sampling.calls import Calls
from dpmsolver.sampling.ends import run_ends
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.exponential import Quadrature, exponential_step
from dpmsolver.solvers.singlestep import block
from dpmsolver.typing import Array

__all__ = ["AdaptiveState", "sample_adaptive"]


@dataclass(frozen=True)
class AdaptiveState:
    """The state of an adaptive run after an attempted step.

    Args:
        nfe: the number of network evaluations of the batch so far.
        times: the time of each sample, float64 (B,).
        steps: the next step of each sample in half-log-SNR, float64 (B,).
        errors: the error estimate of each sample, float64 (B,); a step with an error up to 1 is accepted.
        accepted: whether the step of each sample was accepted, bool (B,).
        x: a copy of the state, (B, …).
    """

    nfe: int
    times: NDArray[np.float64]
    steps: NDArray[np.float64]
    errors: NDArray[np.float64]
    accepted: NDArray[np.bool_]
    x: Any

    __repr__ = brief_repr


def sample_adaptive(
    denoiser: Denoiser,
    x_T: Array,
    *,
    order: int = 3,
    prediction: Prediction = "noise",
    quadrature: Quadrature = "published",
    atol: float = 0.0078,
    rtol: float = 0.05,
    h_init: float = 0.05,
    theta: float = 0.9,
    t_err: float = 1e-5,
    start: float | None = None,
    end: float | None = None,
    max_nfe: int = 1000,
    callback: Callable[[AdaptiveState], object] | None = None,
) -> Array:
    """Draw samples with an adaptive step size, by DPM-Solver-12 (order=2) or DPM-Solver-23 (order=3).

    Each is an embedded pair: a step of the higher order and one of the order below share their evaluations, and their difference
    estimates the error. A step is accepted when

        E = RMS((x_high - x_low) / max(atol, rtol max(|x_low|, |x_prev|))) <= 1,    then h <- theta h E^(-1/order),

    where each x is divided by (alpha^2 + sigma^2)^(1/2) at its time. Every sample has a step size and an error of its own, so it does
    not depend on the rest of the batch. Finished samples wait for the others. With start < end the ODE is run backwards.

    Args:
        denoiser: the network with its schedule.
        x_T: the start, shape (B, …), NumPy, torch or JAX, with standard deviation sigma(t_max): see `initial_noise`. It is not changed.
        order: 2 for the orders 1 and 2, or 3 for the orders 2 and 3.
        prediction: "noise" as published, or "data".
        quadrature: how both solvers of the pair integrate: "published", or "exact" for exact phi-functions.
        atol, rtol: the tolerances of the formula above. 0.0078 is one grey level of 256 for data in [-1, 1].
        h_init: the first step in half-log-SNR.
        theta: the safety factor of the step size.
        t_err: a sample has arrived when its time is within t_err of the end.
        start, end: times. By default a run goes from the first time at which the network can be evaluated to the last time worth an
            evaluation. end=0 is clean data, which takes one more evaluation at the last time. The default end is also clean data where the
            noise of the last time would be visible.
        max_nfe: the largest number of evaluations.
        callback: called with an `AdaptiveState` after each attempted step.

    Returns:
        The samples: x_T's framework, shape and device; float64 if x_T is float64, else float32.

    Raises:
        PlanError: tolerances, an order or times that cannot be used. SamplingError: the network returned NaN or infinity, or the run used
            up max_nfe evaluations.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule = dpm.schedules.LinearVP()
        >>> denoiser = dpm.models.Gaussian(mean=[1.0], variance=[0.5]).denoiser(schedule)
        >>> x = dpm.sample_adaptive(denoiser, dpm.initial_noise(schedule, (4, 1)), order=3)
        >>> x.shape
        (4, 1)

    Source: DPM-Solver, arXiv 2206.00927, appendix C, algorithms 6 and 7, for variance-preserving processes. The published control takes
    the largest error of the batch.
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be dpm.Denoiser(network, schedule, …), got {type(denoiser).__name__}")
    _check(order, prediction, quadrature, atol=atol, rtol=rtol, h_init=h_init, theta=theta, t_err=t_err)
    schedule = denoiser.schedule
    ends = run_ends(denoiser, start, end)
    start, end, lams = ends.start, ends.end, ends.half_log_snr

    backend = backends.of(x_T)
    x = ends.state(backend, x_T)
    batch = len(x)
    calls = Calls(denoiser, backend, prediction, max_nfe)
    goal, sign = float(lams[1]), math.copysign(1.0, lams[1] - lams[0])
    points = [Point.at(schedule, start)] * batch
    steps = np.full(batch, min(h_init, abs(goal - lams[0])))
    low_before = x
    while any(active := [abs(p.time - end) > t_err for p in points]):
        pairs = [
            _Pair.of(schedule, p, h * sign, goal, order, prediction, quadrature) if a else _Pair.idle(p, order)
            for p, h, a in zip(points, steps, active, strict=True)
        ]
        with backend.autograd.no_grad():
            low, high = _attempt(calls, x, points, pairs)
        scaled = _of_unit_variance(backend, high, low, [pair.target for pair in pairs], low_before, points)
        errors = np.where(active, arrays.error_norm(*scaled, atol, rtol), 0.0)
        if not np.isfinite(errors).all():
            bad = in_samples(np.flatnonzero(~np.isfinite(errors)).tolist(), batch)
            raise SamplingError(f"the state became infinite after {calls.nfe} evaluations{bad}")
        accepted = np.array(active) & (errors <= 1.0)
        x, low_before = arrays.where(backend, accepted, high, x), arrays.where(backend, accepted, low, low_before)
        points = [pair.target if ok else p for pair, p, ok in zip(pairs, points, accepted, strict=True)]
        rest = np.array([abs(goal - p.half_log_snr) for p in points])
        steps = np.minimum(theta * steps * np.maximum(errors, 1e-10) ** (-1.0 / order), rest)
        if callback is not None:
            callback(
                AdaptiveState(
                    calls.nfe, np.array([p.time for p in points]), steps.copy(), errors, accepted, backend.copy_to(x)
                )
            )
    result: Array = ends.finished(calls, x)
    return result


def _check(order: int, prediction: str, quadrature: str, **positive: float) -> None:
    if order not in (2, 3):
        raise PlanError(f"order must be 2 (DPM-Solver-12) or 3 (DPM-Solver-23), got {order!r}")
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise PlanError(f"{name} must be positive and finite, got {value}")
    if prediction not in ("noise", "data"):
        raise PlanError(f"prediction must be 'noise' or 'data', got {prediction!r}")
    if quadrature not in ("published", "exact"):
        raise PlanError(f"quadrature must be 'published' or 'exact', got {quadrature!r}")


@dataclass(frozen=True)
class _Pair:
    """One sample's attempt: where its stages lie, how their inputs are made, and the two results."""

    stages: tuple[Point, ...]
    inputs: tuple[Combination, ...]
    low: Combination
    high: Combination
    target: Point

    @classmethod
    def of(
        cls,
        schedule: NoiseSchedule,
        source: Point,
        h: float,
        goal: float,
        order: int,
        prediction: Prediction,
        quadrature: Quadrature,
    ) -> _Pair:
        to = source.half_log_snr + h
        target = Point.at(schedule, schedule.time(goal if abs(goal - to) < 1e-9 * (1 + abs(goal)) else to))
        rows = list(block(schedule, source, target, order=order, prediction=prediction, quadrature=quadrature))
        stages = tuple(row.point for row in rows[1:])
        # The lower order does without the newest stage.
        low = exponential_step(
            prediction, source, target, [None, *reversed(stages[:-1]), source], quadrature=quadrature
        )
        inputs = tuple(row.predict for row in rows[:-1] if row.predict is not None)
        assert rows[-1].advance is not None
        return cls(stages, inputs, low, rows[-1].advance, target)

    @classmethod
    def idle(cls, point: Point, order: int) -> _Pair:
        stay = Combination(1.0)
        return cls((point,) * (order - 1), (stay,) * (order - 1), stay, stay, point)


def _attempt(calls: Calls, x: Any, points: list[Point], pairs: list[_Pair]) -> tuple[Any, Any]:
    """The lower- and higher-order results of every sample."""
    outputs = [calls(x, points)]
    for index in range(len(pairs[0].stages)):
        u = _combine(calls.backend, [pair.inputs[index] for pair in pairs], x, outputs)
        outputs.insert(0, calls(u, [pair.stages[index] for pair in pairs]))
    low = _combine(calls.backend, [pair.low for pair in pairs], x, outputs)
    return low, _combine(calls.backend, [pair.high for pair in pairs], x, outputs)


def _of_unit_variance(
    backend: Backend, high: Any, low: Any, targets: list[Point], before: Any, points: list[Point]
) -> tuple[Any, Any, Any]:
    """The results of an attempt, and the one before, on the scale where alpha^2 + sigma^2 = 1, for which the tolerances are meant.

    A process whose variance explodes has states of size sigma: against the state that a long step leaves, every error would be small.
    """
    there, here = (np.array([math.hypot(p.alpha, p.sigma) for p in each]) for each in (targets, points))
    if np.allclose([there, here], 1.0, rtol=0.0, atol=1e-9):
        return high, low, before
    high, low = (arrays.combine_each(backend, [1.0 / there], [x]) for x in (high, low))
    return high, low, arrays.combine_each(backend, [1.0 / here], [before])


def _combine(backend: Backend, combinations: list[Combination], x: Any, outputs: list[Any]) -> Any:
    table = np.zeros((1 + len(outputs), len(combinations)))
    for i, combination in enumerate(combinations):
        table[: 1 + len(combination.outputs), i] = (combination.state, *combination.outputs)
    return arrays.combine_each(backend, list(table), [x, *outputs])
