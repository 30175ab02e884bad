"""The forward process: noise to start from, noise added to data, and known data kept at the noise level of every evaluation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.errors import ConventionWarning, PlanError
from dpmsolver.plan import Point
from dpmsolver.schedules import NoiseSchedule

__all__ = ["StateHook", "add_noise", "far_deviation", "initial_noise", "inpaint", "warn_of_start"]

StateHook = Callable[[Any, Point], Any]
_FEWEST = 100  # numbers whose deviation is known to about 7 %
_CONSTANT = 1e-6  # times sigma: the deviation that rounding gives a constant


def initial_noise(schedule: NoiseSchedule, shape: Sequence[int], seed: Any = 0, *, like: Any = None) -> Any:
    """x_T: normal with standard deviation sigma(t_max). Sample i depends on the seed and on i alone, whatever the batch.

    Args:
        shape: (B, …).
        seed: an int, one int per sample, or a numpy or torch Generator.
        like: an array whose framework, type and device the result takes; float64 NumPy by default.

    Examples:
        >>> import dpmsolver as dpm
        >>> a, b = (dpm.initial_noise(dpm.schedules.EDM(), (n, 2)) for n in (3, 5))
        >>> bool((a == b[:3]).all())
        True
    """
    if not isinstance(shape, Sequence) or not shape or min(shape) < 1:
        raise PlanError(f"shape must be (B, …) with at least one sample, got {shape!r}")
    keys = backends.noise_keys(seed, int(shape[0]))
    normals = backends.standard_normals(keys, 0, shape[1:]) * schedule.sigma(schedule.default_start())
    return normals if like is None else backends.of(like).from_numpy(normals, like)


def far_deviation(shape: tuple[int, ...], deviation: float, point: Point) -> str | None:
    """A sentence, where the standard deviation of a start of this shape is far from that of a state at a point.

    A state alpha x_0 + sigma eps varies by sigma at least: far is less than half of it. How much more it varies depends on the data, of
    which a deviation of up to 10 is taken for usual: far is more than twice sigma + 10 alpha. Fewer than 100 numbers are not judged,
    nor are constant states, which nobody takes for noise.
    """
    if math.prod(shape) < _FEWEST or deviation <= _CONSTANT * point.sigma:
        return None
    if 0.5 * point.sigma <= deviation <= 2.0 * (point.sigma + 10.0 * point.alpha):
        return None
    return (
        f"x_T has a standard deviation of {deviation:.3g}, and a state at t={point.time:.4g} has sigma={point.sigma:.4g}: "
        "start from dpm.initial_noise(schedule, shape), which is sigma times standard normals."
    )


def warn_of_start(x: Any, deviation: Any, point: Point, stacklevel: int) -> None:
    """A ConventionWarning where `far_deviation` has something to say; `deviation` as `Backend.deviation` gives it."""
    far = None if deviation is None else far_deviation(tuple(x.shape), float(deviation), point)
    if far is not None:
        warnings.warn(far, ConventionWarning, stacklevel=stacklevel + 1)


def add_noise(schedule: NoiseSchedule, x0: Any, noise: Any, time: ArrayLike) -> Any:
    """alpha(t) x_0 + sigma(t) noise: the forward process, and nothing else.

    Args:
        x0, noise: arrays of one shape (B, …).
        time: a float, or one per sample; the schedule's time, not an index (`schedule.time_from_label` converts a step number).
    """
    backend, times = backends.of(x0), np.asarray(time, dtype=np.float64)
    if tuple(noise.shape) != tuple(x0.shape):
        raise ValueError(f"noise must have the data's shape {tuple(x0.shape)}, got {tuple(noise.shape)}")
    if not (backend.is_float_array(x0) and backend.is_float_array(noise)):
        raise TypeError(f"x0 and noise must be floating point, got {x0.dtype} and {noise.dtype}: convert them first")
    if times.ndim == 0:
        return backend.combine([schedule.alpha(times), schedule.sigma(times)], [x0, noise])
    if times.shape != (len(x0),):
        raise ValueError(f"time must be one float or one per sample ({len(x0)}), got shape {times.shape}")
    return backend.combine_each([schedule.alpha(times), schedule.sigma(times)], [x0, noise])


def inpaint(x0: Any, mask: Any, noise: Any) -> StateHook:
    """A `state_hook` that keeps x0 where mask is 1, at every point at the noise level it has there, stages included.

    Args:
        x0: the known data, of the state's shape.
        mask: 1 (or True) where x0 is known, broadcastable to the state.
        noise: standard normals of the state's shape, one draw for the whole run.

    Source: Song et al. 2021, arXiv 2011.13456, appendix I.2, with one draw of noise.
    """

    def hook(x: Any, point: Point) -> Any:
        known = backends.of(x).combine([point.alpha, point.sigma], [x0, noise])
        return x * (1 - 1 * mask) + known * (1 * mask)

    return hook
