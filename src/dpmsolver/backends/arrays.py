"""Operations that are the same in every framework, written once over the namespace of the array API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.backends import Backend
from dpmsolver.host import settled, to_host

__all__ = [
    "cast",
    "combine_each",
    "concatenate",
    "deviation",
    "error_norm",
    "first_false",
    "is_float_array",
    "label_dtype",
    "labels",
    "linear",
    "moved_to",
    "not_finite",
    "per_sample",
    "quantile",
    "require_one_per_sample",
    "require_state",
    "where",
]


def is_float_array(backend: Backend, x: Any) -> bool:
    """Return whether x is a floating-point array of the backend's framework."""
    return isinstance(x, backend.array) and _is_float(backend.xp, x.dtype)


@settled
def _is_float(xp: Any, dtype: Any) -> bool:
    return _known_as_float(xp, dtype)


@cache
def _known_as_float(xp: Any, dtype: Any) -> bool:
    try:
        return bool(xp.isdtype(dtype, "real floating"))
    except TypeError:  # NumPy knows no kind of types that are not numbers
        return False


def require_state(backend: Backend, x: Any) -> None:
    """Raise ValueError for an array without samples, and TypeError for one that is not floating point."""
    if not x.shape or 0 in x.shape:
        raise ValueError(f"the state must have a batch axis and at least one element, got shape {tuple(x.shape)}")
    if not is_float_array(backend, x):
        raise TypeError(f"the state must be floating point, got {x.dtype}: convert it first")


def require_one_per_sample(what: str, found: Any, batch: int) -> None:
    """Raise ValueError unless a function that is to be differentiated returned one number per sample."""
    if tuple(found.shape) != (batch,):
        raise ValueError(f"{what} must return one number per sample, shape {(batch,)}, got {tuple(found.shape)}")


def cast(x: Any, dtype: Any) -> Any:
    """Return x in a float type; None leaves it as it is."""
    return x if dtype is None or x.dtype == dtype else _xp(x).astype(x, dtype)


def moved_to(backend: Backend, x: Any, like: Any) -> Any:
    """Return numbers of any kind as an array on the device and in the type of `like`."""
    if not isinstance(x, backend.array):
        return backend.from_numpy(to_host(x), like)
    if "nowhere" not in (backend.place(x), backend.place(like)):
        from array_api_compat import device  # not at the import of the package; NumPy's arrays have none before NumPy 2

        if device(x) != device(like):
            x = backend.xp.asarray(x, device=device(like))
    return cast(x, like.dtype)


def per_sample(backend: Backend, values: NDArray[Any], like: Any, dtype: Any = None) -> Any:
    """Return one number per sample, (B,), as an array (B, 1, …) beside `like`."""
    return backend.from_numpy(values.reshape(-1, *[1] * (like.ndim - 1)), like, dtype)


def linear(backend: Backend, coefficients: Sequence[Any], arrays: Sequence[Any]) -> Any:
    """Return a linear combination with coefficients that are floats, or float64 arrays with one value per sample."""
    for coefficient in coefficients:
        if isinstance(coefficient, np.ndarray) and coefficient.ndim:
            return combine_each(
                backend, [np.array(np.broadcast_to(c, coefficient.shape)) for c in coefficients], arrays
            )
    return backend.combine(coefficients, arrays)


def combine_each(backend: Backend, coefficients: Sequence[NDArray[np.float64]], arrays: Sequence[Any]) -> Any:
    """Return sum_i c_i a_i with a coefficient per sample: each c_i has shape (B,)."""
    first, *rest = (per_sample(backend, c, array) * array for c, array in zip(coefficients, arrays, strict=True))
    return sum(rest, start=first)


def where(backend: Backend, mask: NDArray[np.bool_], x: Any, y: Any) -> Any:
    """Return sample i of x where mask[i], else of y."""
    return backend.xp.where(per_sample(backend, mask, x, backend.xp.bool), x, y)


def concatenate(arrays: Sequence[Any]) -> Any:
    """Join arrays along the batch."""
    return _xp(arrays[0]).concat(list(arrays))


def label_dtype(backend: Backend, network_dtype: Any, like: Any) -> Any:
    """Return the float type of labels: float64 for a network in float64 (None: in the type of `like`), else float32, never half."""
    double = backend.xp.float64
    return double if (like.dtype if network_dtype is None else network_dtype) == double else backend.xp.float32


def labels(backend: Backend, values: NDArray[np.float64], like: Any, dtype: Any) -> Sequence[Any]:
    """Return values (N, B) or (N, 1) as N labels of shape (B,) on the device of `like`, in one transfer; a dtype of None means int64.

    Each has memory of its own, because a network may write into its label.
    """
    rows = backend.from_numpy(values, like, backend.xp.int64 if dtype is None else dtype)
    if rows.shape[1] != len(like):
        rows = backend.xp.repeat(rows, len(like), axis=1)
    # What is traced stays in one piece, for a scan.
    traced = backend.scan is not None and backend.place(like) == "nowhere"
    found: Sequence[Any] = rows if traced else backend.xp.unstack(rows)
    return found


def not_finite(x: Any) -> list[int]:
    """Return the samples of x that hold NaN or infinity."""
    xp = _xp(x)
    finite = xp.all(xp.isfinite(xp.reshape(x, (len(x), -1))), axis=1)
    return [int(i) for i in np.flatnonzero(to_host(finite) == 0.0)]


def first_false(flags: Sequence[Any]) -> int | None:
    """Return the index of the first flag of a device that is false, after one transfer."""
    values = _xp(flags[0]).stack(list(flags)).tolist()
    return next((i for i, flag in enumerate(values) if not flag), None)


def deviation(backend: Backend, x: Any) -> Any:
    """Return the standard deviation of x: on the host a float, of some 1000 of its numbers; a device scalar where asking would wait.

    Where the numbers are nowhere yet it is None.
    """
    place = backend.place(x)
    if place == "nowhere":
        return None
    if place == "device":
        return backend.xp.std(x)
    some = x.reshape(-1)[:: 1 + math.prod(x.shape) // 1024]
    # Two sums cost a fraction of a standard deviation; where they cancel, that has to tell.
    mean, power = (values.sum().item() / len(some) for values in (some, some * some))
    variance = power - mean * mean
    return math.sqrt(variance) if variance > 1e-3 * power else to_host(some).std().item()


def quantile(x: Any, q: float) -> Any:
    """Return the q-quantile of |x| per sample, shape (B, 1, …)."""
    # By sorting, because torch.quantile takes at most 2^24 numbers.
    xp = _xp(x)
    ordered = xp.sort(xp.reshape(xp.abs(x), (len(x), -1)), axis=1)
    place = q * (ordered.shape[1] - 1)
    low, high = ordered[:, math.floor(place)], ordered[:, math.ceil(place)]
    return xp.reshape(low + (high - low) * (place - math.floor(place)), (-1, *[1] * (x.ndim - 1)))


def error_norm(high: Any, low: Any, before: Any, atol: float, rtol: float) -> NDArray[np.float64]:
    """Return RMS((high - low) / max(atol, rtol max(|low|, |before|))) per sample, on the host."""
    xp = _xp(high)
    scale = (rtol * xp.maximum(xp.abs(low), xp.abs(before))).clip(atol)
    ratio = xp.reshape(xp.abs(high - low) / scale, (len(high), -1))
    # Relative to the largest, whose square float32 may not hold: not every device has float64.
    largest = xp.max(ratio, axis=1, keepdims=True).clip(float(xp.finfo(ratio.dtype).smallest_normal))
    return to_host(xp.sqrt(xp.mean((ratio / largest) ** 2, axis=1)) * largest[:, 0])


def _xp(x: Any) -> Any:
    return backends.of(x).xp
