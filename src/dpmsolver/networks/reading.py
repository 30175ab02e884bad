"""Reading the output of a network: select the prediction, convert it to the plan's output, steer it and correct it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.backends import Backend, arrays
from dpmsolver.backends.arrays import is_float_array, linear
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.plans.combination import Prediction
from dpmsolver.plans.rows import Point, columns
from dpmsolver.plans.targets import Predicts, conversion
from dpmsolver.schedules import NoiseSchedule

if TYPE_CHECKING:
    from dpmsolver.networks.denoiser import Denoiser

__all__ = ["evaluate", "evaluated_at", "prediction_of", "recorded_state"]


def prediction_of(backend: Backend, raw: Any, inputs: Any, learned_variance: bool) -> Any:
    """Return the prediction in what a network returned for `inputs`: all channels, or the first half of them.

    Raises:
        TypeError: the output is not a floating-point array. ValueError: the shape of the output does not fit that of the input.
    """
    if not is_float_array(backend, raw):
        what = f"{type(raw).__module__}.{type(raw).__qualname__}"
        kind = f" of type {raw.dtype}" if hasattr(raw, "dtype") else ""
        hint = (
            "; pass network=lambda x, t, **k: network(x, t, **k).sample" if hasattr(raw, "sample") and not kind else ""
        )
        raise TypeError(f"the network must return a floating-point array like its input, got {what}{kind}{hint}")
    if raw.shape == inputs.shape and not learned_variance:
        return raw
    expected, shape = tuple(inputs.shape), tuple(raw.shape)
    doubled = len(expected) > 1 and shape == (expected[0], 2 * expected[1], *expected[2:])
    if doubled and learned_variance:
        return raw[:, : expected[1]]
    hint = ": a network with learned variance? then pass learned_variance=True" if doubled else ""
    wanted = f"2C channels for an input of shape {expected}" if learned_variance else f"shape {expected}"
    raise ValueError(f"the network must return {wanted}, got shape {shape}{hint}")


def evaluate(
    denoiser: Denoiser,
    backend: Backend,
    prediction: Prediction,
    x: Any,
    raw: Any,
    steer: tuple[Any, Any] | None,
    point: Point,
    coefficients: tuple[Any, Any],
) -> Any:
    """Turn the network's answer into the plan's output: convert it, steer it, apply the hook. A point's numbers may be one per sample."""
    converted = linear(backend, coefficients, (x, raw))
    if steer is not None:
        # A gradient adds to the score, so it moves eps by -sigma and x_0 by sigma^2/alpha.
        push = point.sigma**2 / point.alpha if prediction == "data" else -point.sigma
        converted = linear(backend, (1.0, steer[0] * push), (converted, steer[1]))
    if denoiser.data_hook is None:
        return converted
    if prediction == "data":
        return _corrected(backend, denoiser.data_hook, converted, point)
    x0 = linear(backend, conversion("noise", "data", point.alpha, point.sigma), (x, converted))
    x0 = _corrected(backend, denoiser.data_hook, x0, point)
    return linear(backend, conversion("data", "noise", point.alpha, point.sigma), (x, x0))


def _corrected(backend: Backend, hook: Callable[[Any, Point], Any], x0: Any, point: Point) -> Any:
    """What a hook makes of x_0, as a copy: the run writes into its outputs, and a hook may keep what it returned."""
    corrected = hook(x0, point)
    if not is_float_array(backend, corrected):
        raise TypeError(
            f"data_hook must return the corrected x0, an array like its input, got {type(corrected).__name__}"
        )
    corrected = backend.copy_to(corrected)
    if corrected.shape != x0.shape:
        raise ValueError(f"data_hook must return x0's shape {tuple(x0.shape)}, got {tuple(corrected.shape)}")
    return arrays.cast(corrected, x0.dtype)


def evaluated_at(denoiser: Denoiser, x: Any, t: ArrayLike, wanted: Predicts) -> Any:
    """Evaluate a denoiser once, on a state at a time: see `Denoiser.at`."""
    backend = backends.of(x)
    state, recorded = backend.state(x), backend.autograd.records(x)
    here = _point(denoiser.schedule, t, len(state))
    plain = denoiser.data_hook is None and not denoiser.steers
    through = wanted if plain else "noise" if denoiser.data_hook is None and wanted in ("noise", "score") else "data"
    if through == "data" and denoiser.steers and np.any(np.asarray(here.alpha) == 0.0):
        raise PlanError(f"guidance of a data prediction by a gradient is not defined at alpha = 0, got t={here.time}")
    inner = denoiser.conversion(through, here.alpha, here.sigma)
    outer = conversion(through, wanted, here.alpha, here.sigma)
    state = recorded_state(backend, x, state)
    with nullcontext() if recorded else backend.autograd.no_grad():
        raw, steer = denoiser.call(backend, state, here, backend.network_dtype(denoiser.network, denoiser.dtype))
        if plain:
            return linear(backend, inner, (state, raw))
        found = evaluate(denoiser, backend, cast(Prediction, through), state, raw, steer, here, inner)
        return found if through == wanted else linear(backend, outer, (state, found))


def _point(schedule: NoiseSchedule, t: ArrayLike, batch: int) -> Point:
    """The point at a time. With one time per sample, its numbers are arrays."""
    times = to_host(t)
    if times.shape not in ((), (batch,)):
        raise PlanError(f"t must be one time, or one per sample ({batch}), got shape {times.shape}")
    if np.any(times == 0.0):
        raise PlanError(
            f"t=0 is clean data, where the network is not evaluated: its smallest time is {schedule.t_min:.6g}"
        )
    try:
        if times.ndim == 0:
            return Point.at(schedule, float(times))
        each: dict[str, Any] = columns([Point.at(schedule, time) for time in times.tolist()])
    except ValueError as error:
        raise PlanError(str(error)) from None
    return Point(**each)


def recorded_state(backend: Backend, x: Any, state: Any) -> Any:
    """Return the state of x; if gradients of x are recorded, a copy in the state's type that passes them on."""
    return backend.copy_to(arrays.cast(x, state.dtype)) if backend.autograd.records(x) else state
