"""`calibrate` measures a network once, for the solvers that need its statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dpmsolver import backends
from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Point
from dpmsolver.sampling.calls import Calls
from dpmsolver.sampling.finite import require_finite
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.schedules.span import default_start
from dpmsolver.solvers.statistics import ModelStatistics

__all__ = ["calibrate"]

_PROBE_STEP = 0.05  # of sigma: how far the Jacobian's probe moves the state


def calibrate(
    denoiser: Denoiser,
    x0: Any,
    *,
    levels: int = 60,
    draws: int = 2,
    seed: int = 0,
    start: float | None = None,
    end: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ModelStatistics:
    """Measure the statistics of a network that the solvers dpm-v3, analytic-ddpm and analytic-ddim need.

    With x = alpha x_0 + sigma z, three statistics are estimated per coordinate, as means over the batch and the draws of noise:

        noise_power   E|eps|^2, over the coordinates too                    (Analytic-DPM, eq. 9)
        linear   l = E[sigma diag d eps/dx], by Rademacher probes           (DPM-Solver-v3, eq. 5)
        scale    s = (E[f F] - E[f] E[F]) / (E[f^2] - E[f]^2), bias b = E[F] - s E[f]       (eq. 11 and 12)

    where f = (sigma eps - l x)/alpha and F = df/dlambda along the ODE. All derivatives are central differences, so that any network can
    be measured, in any framework and in its own precision. Only sums are kept: the memory is that of a few batches.

    The network is evaluated on the whole batch 5 times for each level and draw, `5 levels draws` times in all.

    Args:
        denoiser: the network as it will be sampled, with its guidance and with conditions that fit the batch of x0.
        x0: data of the kind the network was trained on, (B, …): training pictures, or its own samples. A few hundred small pictures are
            enough.
        levels: the number of noise levels, spaced evenly in half-log-SNR from `start` to `end`.
        draws: the number of draws of noise for each x_0 at each level.
        seed: the seed of the draws.
        start, end: the times of the first and the last level. By default they are those of `sample` with many evaluations, restricted to
            alpha > 0.
        progress: called with (levels done, levels in all) after each level.

    Returns:
        The measurements: pass them as `statistics=` to `make_plan` or `sample`, or `save` them.

    Raises:
        PlanError: fewer than four levels, no draws, or a time with alpha = 0 or sigma = 0. SamplingError: the network returned NaN or
            infinity.

    Examples:
        >>> import dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.5], variance=[0.25])
        >>> measured = calibrate(model.denoiser(schedule), model.sample(50), levels=8)
        >>> x_T = dpm.initial_noise(schedule, (2, 1))
        >>> x = dpm.sample(model.denoiser(schedule), x_T, 5, solver="dpm-v3", statistics=measured)
        >>> x.shape
        (2, 1)

    Source: Bao et al. 2022, arXiv 2201.06503 (Analytic-DPM); Zheng et al. 2023, arXiv 2310.13268 (DPM-Solver-v3).
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be dpm.Denoiser(network, schedule, …), got {type(denoiser).__name__}")
    if levels < 4 or draws < 1:
        raise PlanError(f"calibrate needs at least 4 levels and 1 draw, got levels={levels}, draws={draws}")
    schedule, backend = denoiser.schedule, backends.of(x0)
    first = default_start(schedule, denoiser.predicts, needs_signal=True) if start is None else start
    last = schedule.last_time(1000) if end is None else end
    lams = schedule.half_log_snr(np.array([first, last]))
    if not np.isfinite(lams).all() or not lams[0] < lams[1]:
        raise PlanError(f"calibrate needs a start above the end, with 0 < alpha and 0 < sigma, got {first} and {last}")
    grid = np.linspace(lams[0], lams[1], levels)
    points = [Point.at(schedule, t) for t in schedule.time(grid)]
    data = backend.state(x0)
    require_finite(backend, data, "x0")
    calls = Calls(denoiser, backend, "noise", 10**9)
    keys = backends.noise_keys(seed, len(data))

    def evaluate(x: Any, point: Point) -> Any:
        return calls(x, [point] * len(data))

    power, linear = np.empty(levels), np.empty((levels, *data.shape[1:]))
    scale, bias = np.empty_like(linear), np.empty_like(linear)
    with backend.autograd.no_grad():
        for k, point in enumerate(points):
            noisy = [_noisy(backend, data, point, keys, k * draws + d) for d in range(draws)]
            power[k], linear[k] = _linear_part(backend, evaluate, noisy, point, keys, k * draws)
            if progress is not None:
                progress(k + 1, 2 * levels)
        for k, point in enumerate(points):
            noisy = [_noisy(backend, data, point, keys, k * draws + d) for d in range(draws)]
            scale[k], bias[k] = _rest(schedule, backend, evaluate, noisy, grid, linear, k)
            if progress is not None:
                progress(levels + k + 1, 2 * levels)
    return ModelStatistics.measured(schedule, grid, noise_power=power, linear=linear, scale=scale, bias=bias)


def _noisy(backend: Backend, data: Any, point: Point, keys: Any, draw: int) -> Any:
    normals = backend.from_numpy(backends.standard_normals(keys, (0, draw), tuple(data.shape[1:])), data)
    return backend.combine([point.alpha, point.sigma], [data, normals])


def _linear_part(
    backend: Backend, evaluate: Callable[[Any, Point], Any], noisy: list[Any], point: Point, keys: Any, draw: int
) -> tuple[float, Floats]:
    """E|eps|^2 and l at a level. eps at the state is the mean of the two probes', up to the square of the probe."""
    power, diagonal = 0.0, 0.0
    step = _PROBE_STEP * point.sigma
    for d, x in enumerate(noisy):
        signs = np.sign(backends.standard_normals(keys, (1, draw + d), tuple(x.shape[1:])))
        probe = backend.from_numpy(signs, x)
        up, down = (to_host(evaluate(backend.combine([1.0, move], [x, probe]), point)) for move in (step, -step))
        power += float(np.mean((0.5 * (up + down)) ** 2)) / len(noisy)
        diagonal = diagonal + (signs * (up - down)).mean(axis=0) * point.sigma / (2.0 * step * len(noisy))
    return power, np.asarray(diagonal)


def _rest(
    schedule: NoiseSchedule,
    backend: Backend,
    evaluate: Callable[[Any, Point], Any],
    noisy: list[Any],
    lams: Floats,
    linear: Floats,
    k: int,
) -> tuple[Floats, Floats]:
    """s and b at level k: the line through (f, df/dlambda) by least squares. The derivative reaches half a level to both sides."""
    here, half = Point.at(schedule, schedule.time(lams[k])), 0.5 * (lams[1] - lams[0])
    sides = [
        Point.at(schedule, schedule.time(lam)) for lam in np.clip(lams[k] + np.array([-half, half]), *lams[[0, -1]])
    ]
    width = sides[1].half_log_snr - sides[0].half_log_snr

    def remainder(x: Any, noise: Any, point: Point) -> Floats:
        low = min(max(int(np.searchsorted(lams, point.half_log_snr)) - 1, 0), len(lams) - 2)
        weight = (point.half_log_snr - lams[low]) / (lams[1] - lams[0])
        part = (1.0 - weight) * linear[low] + weight * linear[low + 1]
        return np.asarray((point.sigma * to_host(noise) - part * to_host(x)) / point.alpha)

    total: Any = 0.0
    for x in noisy:
        noise = evaluate(x, here)
        ends = []
        for side in sides:  # DDIM's step along the ODE: y = x/alpha moves by eps times the step in rho
            moved = backend.combine([side.alpha / here.alpha, side.alpha * (side.rho - here.rho)], [x, noise])
            ends.append(remainder(moved, evaluate(moved, side), side))
        f, slope = remainder(x, noise, here), (ends[1] - ends[0]) / width
        total = total + np.stack([v.mean(axis=0) for v in (f, slope, f * f, f * slope)]) / len(noisy)
    f, slope, square, product = total
    spread = square - f * f
    # Where f does not vary (a pixel that is always black) nothing is known, and s = 0 asks nothing.
    known = spread > 1e-6 * np.maximum(square, 1e-12)
    scale = np.where(known, (product - f * slope) / np.where(known, spread, 1.0), 0.0)
    return scale, slope - scale * f
