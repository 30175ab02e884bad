"""NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.backends import standard_normals

__all__ = ["BACKEND", "NumpyBackend"]


class NumpyBackend:
    """See `dpmsolver.backends.Backend`."""

    differentiates = False

    def state(self, x: Any) -> Any:
        if x.size == 0 or x.ndim == 0:
            raise ValueError(f"the state must have a batch axis and at least one element, got shape {x.shape}")
        if x.dtype.kind != "f":
            raise TypeError(f"the state must be floating point, got {x.dtype}: convert it first")
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                "the state must be an ordinary array, got a masked one: fill it first, with x.filled(value)"
            )
        return np.array(x, dtype=np.float64 if x.dtype.itemsize >= 8 else np.float32, order="C")

    def is_float_array(self, x: Any) -> bool:
        return isinstance(x, np.ndarray) and x.dtype.kind == "f"

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Any], out: Any = None) -> Any:
        used = [(c, a) for c, a in zip(coefficients, arrays, strict=True) if c] or [(0.0, arrays[0])]
        (scale, first), done = used[0], 1
        if scale == 1.0 and len(used) > 1:
            result, done = np.add(first, used[1][0] * used[1][1], out=out), 2
        else:
            result = np.multiply(first, scale, out=out)
        for coefficient, array in used[done:]:
            result += coefficient * array
        return result

    def combine_each(self, coefficients: Sequence[NDArray[np.float64]], arrays: Sequence[Any]) -> Any:
        total = 0
        for coefficient, array in zip(coefficients, arrays, strict=True):
            total = total + coefficient.astype(array.dtype).reshape(-1, *[1] * (array.ndim - 1)) * array
        return total

    def labels(self, values: NDArray[np.float64], x: Any, dtype: Any) -> Sequence[Any]:
        # An array of its own for each: a network may write into its label.
        each = np.broadcast_to(values, (len(values), len(x)))
        return list(each.astype(np.int64 if dtype is None else dtype))

    def label_dtype(self, network_dtype: Any, x: Any) -> Any:
        return np.float64 if (x.dtype if network_dtype is None else network_dtype) == np.float64 else np.float32

    def cast(self, x: Any, dtype: Any) -> Any:
        return x if dtype is None else x.astype(dtype, copy=False)

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype == "bfloat16":
            raise TypeError("NumPy has no bfloat16: give dtype='float16' or 'float32', or sample with torch")
        return None if dtype is None else np.dtype(dtype)

    def concatenate(self, arrays: Sequence[Any]) -> Any:
        return np.concatenate(arrays)

    def finite(self, x: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(x.sum(dtype=np.float64))) or bool(np.isfinite(x).all())

    def not_finite(self, x: Any) -> list[int]:
        return np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1)).tolist()

    def version(self, x: Any) -> int | None:
        return None

    def first_false(self, flags: Sequence[Any]) -> int | None:
        return next((i for i, flag in enumerate(flags) if not flag), None)

    def from_numpy(self, values: NDArray[np.float64], like: Any) -> Any:
        return values.astype(like.dtype)

    def normals(self, keys: Sequence[tuple[int, ...]], interval: int, like: Any) -> Any:
        return self.from_numpy(standard_normals(keys, interval, like.shape[1:]), like)

    def to_numpy(self, x: Any) -> NDArray[np.float64]:
        return np.array(x, dtype=np.float64)

    def copy_to(self, x: Any, out: Any = None) -> Any:
        if out is None:
            return x.copy()
        out[...] = x
        return out

    def quantile(self, x: Any, q: float) -> Any:
        flat = np.quantile(np.abs(x).reshape(len(x), -1), q, axis=1)
        return flat.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)

    def clip(self, x: Any, limit: Any) -> Any:
        return np.clip(x, -limit, limit)

    def deviation(self, x: Any) -> Any:
        flat = x.reshape(-1)
        return float(flat[:: 1 + flat.size // 1024].std(dtype=np.float64))

    def where(self, mask: NDArray[np.bool_], x: Any, y: Any) -> Any:
        return np.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    def error_norm(self, high: Any, low: Any, before: Any, atol: float, rtol: float) -> NDArray[np.float64]:
        scale = np.maximum(atol, rtol * np.maximum(np.abs(low), np.abs(before)))
        ratio = ((high - low) / scale).reshape(len(high), -1).astype(np.float64)
        return np.asarray(np.sqrt(np.mean(ratio**2, axis=1)))

    def gradient(
        self, what: str, function: Callable[..., Any], x: Any, label: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        raise TypeError(
            f"NumPy has no automatic differentiation, which {what} needs: give classifier guidance a `gradient` function, or sample with "
            "torch or JAX"
        )

    def records(self, x: Any) -> bool:
        return False

    def checkpointed(self, function: Callable[[Any], Any], x: Any) -> Any:
        return function(x)

    def no_grad(self) -> AbstractContextManager[Any]:
        return nullcontext()


BACKEND = NumpyBackend()
