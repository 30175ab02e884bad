"""NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import array_api_compat.numpy as xp
import numpy as np
from numpy.typing import NDArray

from dpmsolver.backends import Autograd
from dpmsolver.backends.arrays import require_state
from dpmsolver.backends.keys import Keys, require_host_keys, standard_normals

__all__ = ["BACKEND", "NumpyBackend"]


class NumpyBackend:
    """See `dpmsolver.backends.Backend`."""

    xp = xp
    array = np.ndarray
    autograd = Autograd()
    scan = None

    @property
    def current(self) -> NumpyBackend:
        return self

    def kept(self, make: Callable[..., Any], *given: Any) -> Any:
        return make(*given)

    def state(self, x: Any) -> Any:
        require_state(self, x)
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(
                "the state must be an ordinary array, got a masked one: fill it first, with x.filled(value)"
            )
        return np.array(x, dtype=np.float64 if x.dtype.itemsize >= 8 else np.float32, order="C")

    def place(self, x: Any) -> Literal["host", "device", "nowhere"]:
        return "host"

    def finite(self, x: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(x.sum(dtype=np.float64))) or bool(np.isfinite(x).all())

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

    def copy_to(self, x: Any, out: Any = None) -> Any:
        if out is None:
            return x.copy()
        out[...] = x
        return out

    def version(self, x: Any) -> int | None:
        return None

    def from_numpy(self, values: NDArray[Any], like: Any, dtype: Any = None) -> Any:
        return values.astype(like.dtype if dtype is None else dtype)

    def unseeded(self, generator: Any, noise: str) -> bool:
        return False

    def keys(self, keys: Keys) -> Any:
        return require_host_keys(keys)

    def normals(self, keys: Any, interval: Any, shape: Sequence[int], like: Any) -> Any:
        return self.from_numpy(standard_normals(keys, interval, shape), like)

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype == "bfloat16":
            raise TypeError("NumPy has no bfloat16: give dtype='float16' or 'float32', or sample with torch")
        return None if dtype is None else np.dtype(dtype)


BACKEND = NumpyBackend()
