"""JAX arrays, on any device, and what transformations put in their place: a run of a plan can be traced, mapped and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dpmsolver.backends import stream_seed
from dpmsolver.errors import PlanError

__all__ = ["BACKEND", "JaxBackend"]


def _traced(*arrays: Any) -> bool:
    """Whether these are abstract: nobody can then ask for their numbers."""
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


class JaxBackend:
    """See `dpmsolver.backends.Backend`. Arrays are immutable, so `out` is never used. Traced numbers are not tested for NaN."""

    differentiates = True

    def state(self, x: Any) -> Any:
        if x.size == 0 or x.ndim == 0:
            raise ValueError(f"the state must have a batch axis and at least one element, got shape {tuple(x.shape)}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"the state must be floating point, got {x.dtype}: convert it first")
        return x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)

    def is_float_array(self, x: Any) -> bool:
        return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Any], out: Any = None) -> Any:
        total = coefficients[0] * arrays[0]
        for coefficient, array in zip(coefficients[1:], arrays[1:], strict=True):
            if coefficient:
                total = total + coefficient * array
        return total

    def combine_each(self, coefficients: Sequence[NDArray[np.float64]], arrays: Sequence[Any]) -> Any:
        def wide(coefficient: Any, like: Any) -> Any:
            return jnp.asarray(coefficient, like.dtype).reshape(-1, *[1] * (like.ndim - 1))

        return sum(wide(c, array) * array for c, array in zip(coefficients, arrays, strict=True))

    def labels(self, values: NDArray[np.float64], x: Any, dtype: Any) -> Sequence[Any]:
        rows = jnp.asarray(values, dtype if dtype is not None else int)
        return list(jnp.broadcast_to(rows, (len(values), len(x))))

    def label_dtype(self, network_dtype: Any, x: Any) -> Any:
        return jnp.float64 if (network_dtype or x.dtype) == jnp.float64 else jnp.float32

    def cast(self, x: Any, dtype: Any) -> Any:
        return x if dtype is None or x.dtype == dtype else x.astype(dtype)

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype == "float64" and not jnp.zeros(0, float).dtype == jnp.float64:
            raise PlanError(
                "dtype='float64' needs JAX's 64-bit numbers: jax.config.update('jax_enable_x64', True) at the start"
            )
        return None if dtype is None else jnp.dtype(dtype)

    def concatenate(self, arrays: Sequence[Any]) -> Any:
        return jnp.concatenate(list(arrays))

    def finite(self, x: Any) -> Any:
        if _traced(x):
            return True
        flag = jnp.isfinite(x).all()
        return bool(flag) if next(iter(x.devices())).platform == "cpu" else flag

    def not_finite(self, x: Any) -> list[int]:
        if _traced(x):
            return []
        finite = np.isfinite(np.asarray(x)).reshape(len(x), -1).all(axis=1)
        return [int(i) for i in np.flatnonzero(~finite)]

    def version(self, x: Any) -> int | None:
        return 0  # nobody can write into it

    def first_false(self, flags: Sequence[Any]) -> int | None:
        return next((i for i, flag in enumerate(np.asarray(flags).tolist()) if not flag), None)

    def from_numpy(self, values: NDArray[np.float64], like: Any) -> Any:
        made = jnp.asarray(values, like.dtype)
        return made if _traced(like) else jax.device_put(made, next(iter(like.devices())))

    def normals(self, keys: Sequence[tuple[int, ...]], interval: int, like: Any) -> Any:
        seeds = np.array([stream_seed(key, interval) for key in keys], dtype=np.uint64)
        high, low = (seeds >> np.uint64(32)).astype(np.uint32), seeds.astype(np.uint32)
        streams = jax.vmap(lambda a, b: jax.random.fold_in(jax.random.key(a), b))(high, low)
        return jax.vmap(lambda stream: jax.random.normal(stream, like.shape[1:], like.dtype))(streams)

    def to_numpy(self, x: Any) -> NDArray[np.float64]:
        return np.asarray(x, dtype=np.float64)

    def copy_to(self, x: Any, out: Any = None) -> Any:
        return x

    def quantile(self, x: Any, q: float) -> Any:
        return jnp.quantile(jnp.abs(x).reshape(len(x), -1), q, axis=1).reshape(-1, *[1] * (x.ndim - 1))

    def clip(self, x: Any, limit: Any) -> Any:
        return jnp.clip(x, -limit, limit)

    def deviation(self, x: Any) -> Any:
        if _traced(x):
            return None
        return float(np.asarray(x.reshape(-1)[:: 1 + x.size // 1024], dtype=np.float64).std())

    def where(self, mask: NDArray[np.bool_], x: Any, y: Any) -> Any:
        return jnp.where(jnp.asarray(mask).reshape(-1, *[1] * (x.ndim - 1)), x, y)

    def error_norm(self, high: Any, low: Any, before: Any, atol: float, rtol: float) -> NDArray[np.float64]:
        scale = jnp.maximum(atol, rtol * jnp.maximum(jnp.abs(low), jnp.abs(before)))
        ratio = np.asarray((high - low) / scale, dtype=np.float64).reshape(len(high), -1)
        return np.asarray(np.sqrt(np.square(ratio).mean(axis=1)))

    def gradient(
        self, what: str, function: Callable[..., Any], x: Any, label: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        def total(x: Any) -> tuple[Any, Any]:
            found, more = function(x, label, **kwargs)
            if tuple(found.shape) != (len(x),):
                raise ValueError(
                    f"{what} must return one number per sample, shape {(len(x),)}, got {tuple(found.shape)}"
                )
            return found.sum(), more

        found: tuple[Any, Any] = jax.grad(total, has_aux=True)(x)
        return found

    def no_grad(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def records(self, x: Any) -> bool:
        return isinstance(x, jax.Array)

    def checkpointed(self, function: Callable[[Any], Any], x: Any) -> Any:
        return jax.checkpoint(function)(x)


BACKEND = JaxBackend()
