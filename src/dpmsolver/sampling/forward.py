"""The forward process: draw the noise that a run starts from, add noise to data, and keep known data during a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.backends import arrays
from dpmsolver.backends.keys import require_host_keys
from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError, in_samples, unknown
from dpmsolver.host import to_host
from dpmsolver.plans.plan import Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.typing import Array, ArrayOf

__all__ = ["StateHook", "add_noise", "initial_noise", "inpaint"]

StateHook = Callable[[Any, Point], Any]


@overload
def initial_noise(
    schedule: NoiseSchedule,
    shape: Sequence[int],
    seed: Any = 0,
    *,
    like: None = None,
    noise: Literal["independent", "host"] = "independent",
) -> Floats: ...


@overload
def initial_noise(
    schedule: NoiseSchedule,
    shape: Sequence[int],
    seed: Any = 0,
    *,
    like: Array,
    noise: Literal["independent", "host"] = "independent",
) -> Array: ...


def initial_noise(
    schedule: NoiseSchedule,
    shape: Sequence[int],
    seed: Any = 0,
    *,
    like: Any = None,
    noise: Literal["independent", "host"] = "independent",
) -> Any:
    """Draw x_T, the start of a run: normals with the standard deviation sigma of the schedule's start.

    Sample i depends only on the seed and on i, whatever the size of the batch.

    Args:
        schedule: the noise schedule of the network.
        shape: (B, …), the shape of the batch.
        seed: an int; a numpy or torch Generator; a sequence with one int or Generator per sample; a tensor of ints; under JAX also a traced
            int, or JAX keys (one, or B of them).
        like: an array whose framework, type and device the result has. By default the result is a float64 NumPy array.
        noise: "independent": the framework of `like` draws the normals on its device. "host": NumPy draws them, the same numbers for every
            framework and device.

    Returns:
        An array of the given shape.

    Raises:
        PlanError: a shape without samples, an unknown `noise`, or a seed that does not fit the batch.

    Examples:
        >>> import dpmsolver as dpm
        >>> a, b = (dpm.initial_noise(dpm.schedules.EDM(), (n, 2)) for n in (3, 5))
        >>> bool((a == b[:3]).all())
        True
    """
    if not isinstance(shape, Sequence) or not shape or min(shape) < 1:
        raise PlanError(f"shape must be (B, …) with at least one sample, got {shape!r}")
    if noise not in ("independent", "host"):
        raise PlanError(unknown("noise", noise, ("independent", "host")))
    keys, sigma = backends.noise_keys(seed, int(shape[0])), float(schedule.sigma(schedule.default_start()))
    if like is not None and noise == "independent":
        backend = backends.of(like)
        drawn: Any = backend.normals(backend.keys(keys), 0, shape[1:], like)
        return sigma * drawn
    normals = sigma * backends.standard_normals(require_host_keys(keys), 0, shape[1:])
    return normals if like is None else backends.of(like).from_numpy(normals, like)


def add_noise(schedule: NoiseSchedule, x0: Array, noise: Array, time: ArrayLike) -> Array:
    """Add noise to data: alpha(t) x_0 + sigma(t) noise.

    Args:
        schedule: the noise schedule.
        x0: the data, floating point, (B, …), NumPy, torch or JAX.
        noise: standard normals of x0's shape.
        time: the schedule's time, one float for all samples or an array (B,). It is not a step number: `schedule.time_from_label` converts
            one.

    Returns:
        The state at that time, of x0's shape, framework and device.

    Raises:
        ValueError: noise of another shape, a number of times other than 1 or B, or a time outside the schedule.
        TypeError: x0 or noise are not floating point.

    Examples:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> dpm.add_noise(dpm.schedules.Flow(), np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]]), 0.5)
        array([[0.5, 3. ]])
    """
    backend, times = backends.of(x0), to_host(time)
    if tuple(noise.shape) != tuple(x0.shape):
        raise ValueError(f"noise must have the data's shape {tuple(x0.shape)}, got {tuple(noise.shape)}")
    if not (arrays.is_float_array(backend, x0) and arrays.is_float_array(backend, noise)):
        raise TypeError(f"x0 and noise must be floating point, got {x0.dtype} and {noise.dtype}: convert them first")
    numbers, noisy = [schedule.alpha(times), schedule.sigma(times)], [x0, noise]
    made: Array
    if times.ndim == 0:
        made = backend.combine(numbers, noisy)
        return made
    if times.shape != (len(x0),):
        raise ValueError(f"time must be one float or one per sample ({len(x0)}), got shape {times.shape}")
    made = arrays.combine_each(backend, numbers, noisy)
    return made


def inpaint(x0: ArrayOf, mask: ArrayOf, noise: ArrayOf) -> Inpainting:
    """Make a `state_hook` for `sample` that keeps the known data x0 where mask is 1.

    At every network evaluation, stages of a step included, the hook replaces the known part of the state by the noised data:

        x <- (1 - mask) x + mask (alpha x0 + sigma noise)

    Args:
        x0: the known data, floating point, of the state's shape and range. Values where mask is 0 are not used and may be NaN.
        mask: 1 (or True) where x0 is known and 0 where it is not; values between blend both. It must be broadcastable to the state.
        noise: standard normals of the state's shape, the same ones for the whole run.

    Returns:
        A function (x, point) -> x.

    Raises:
        TypeError: x0 or noise are not floating point, such as pictures of bytes.
        ValueError: a mask that is not in [0, 1], shapes that do not fit, NaN or infinity where mask is above 0.

    Examples:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> schedule, model = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.0, 0.0], variance=[0.25, 0.25])
        >>> x_T, noise = (dpm.initial_noise(schedule, (1, 2), seed) for seed in (0, 1))
        >>> keep = inpaint(np.array([[0.5, np.nan]]), np.array([[True, False]]), noise)
        >>> x = dpm.sample(model.denoiser(schedule), x_T, nfe=20, end=0.0, state_hook=keep)
        >>> float(x[0, 0])
        0.5

    Source: Song et al. 2021, arXiv 2011.13456, appendix I.2, with one draw of noise.
    """
    backend = backends.of(x0)
    if not (arrays.is_float_array(backend, x0) and arrays.is_float_array(backend, noise)):
        got = " and ".join(str(getattr(value, "dtype", type(value).__name__)) for value in (x0, noise))
        raise TypeError(
            f"inpaint: x0 and noise must be floating point, in the data's range and of one framework, got {got}: "
            "bring pictures of bytes to the network's range first, as x0 / 127.5 - 1"
        )
    known = backend.state(x0)
    normals, weights = (arrays.moved_to(backend, values, known) for values in (noise, mask))
    # Numbers that are nowhere yet, in a traced function, are nobody's to test.
    tested = "nowhere" not in map(backend.place, (known, normals, weights))
    if tested and not bool(((weights >= 0) & (weights <= 1)).all()):
        given = to_host(mask)
        raise ValueError(
            f"inpaint: mask must be bool or lie in [0, 1], got {getattr(mask, 'dtype', type(mask).__name__)} from {given.min():.4g} to "
            f"{given.max():.4g}: divide it by its largest value, or compare it (mask > 0)"
        )
    shapes = [tuple(values.shape) for values in (known, weights, normals)]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            f"inpaint: x0, mask and noise must fit each other, got shapes {shapes[0]}, {shapes[1]} and {shapes[2]}"
        ) from None
    seen = backend.xp.broadcast_to(weights > 0, shape)
    # Where nothing is known, numbers that cannot spoil a product.
    known, normals = (backend.xp.where(seen, values, backend.xp.zeros_like(values)) for values in (known, normals))
    for name, values in (("x0", known), ("noise", normals)) if tested else ():
        if bad := arrays.not_finite(values):
            raise ValueError(
                f"inpaint: {name} has NaN or infinity where mask is above 0{in_samples(bad, len(values))}: set mask to 0 there"
            )
    return Inpainting(known, backend.copy_to(weights), normals)


@dataclass(frozen=True, eq=False)
class Inpainting:
    """The hook that `inpaint` returns. It holds the known data, the mask and the noise of the run."""

    x0: Any
    mask: Any
    noise: Any

    __repr__ = brief_repr

    def __call__(self, x: Any, point: Point) -> Any:
        state, own = tuple(x.shape), tuple(self.x0.shape)
        if len(own) > len(state) or any(o not in (1, s) for o, s in zip(own[::-1], state[::-1], strict=False)):
            raise ValueError(f"inpaint: x0, mask and noise must have the state's shape {state}, got {own}")
        known = backends.of(x).combine([point.alpha, point.sigma], [self.x0, self.noise])
        return x * (1 - self.mask) + known * self.mask
