"""JAX arrays, on any device, and what transformations put in their place: a run of a plan can be traced, mapped and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from numpy.typing import NDArray

from dpmsolver.backends import Autograd
from dpmsolver.backends.arrays import require_one_per_sample, require_state
from dpmsolver.backends.jax_keys import drawn, folded
from dpmsolver.backends.keys import Keys
from dpmsolver.errors import PlanError

__all__ = ["BACKEND", "JaxBackend"]


class JaxAutograd(Autograd):
    """See `dpmsolver.backends.Autograd`. A transformation records by itself."""

    differentiates = True

    def records(self, x: Any) -> bool:
        return isinstance(x, jax.Array)

    def checkpointed(self, function: Callable[[Any], Any], x: Any) -> Any:
        return jax.checkpoint(function)(x)

    def gradient(
        self, what: str, function: Callable[..., Any], x: Any, label: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        def total(x: Any) -> tuple[Any, Any]:
            found, more = function(x, label, **kwargs)
            require_one_per_sample(what, found, len(x))
            return found.sum(), more

        found: tuple[Any, Any] = jax.grad(total, has_aux=True)(x)
        return found


class JaxBackend:
    """See `dpmsolver.backends.Backend`. Arrays are immutable, so `out` is never used. Traced numbers are not tested for NaN."""

    xp = jnp
    array = jax.Array
    autograd = JaxAutograd()

    @property
    def current(self) -> JaxBackend:
        return self

    def kept(self, make: Callable[..., Any], *given: Any) -> Any:
        return make(*given)

    def state(self, x: Any) -> Any:
        require_state(self, x)
        # A copy, because all that is made inside a jitted function is traced, and a copy is made inside.
        return jnp.array(x, jnp.float64 if x.dtype == jnp.float64 else jnp.float32, copy=True)

    def place(self, x: Any) -> Literal["host", "device", "nowhere"]:
        if isinstance(x, jax.core.Tracer):
            return "nowhere"
        return "host" if next(iter(x.devices())).platform == "cpu" else "device"

    def finite(self, x: Any) -> Any:
        place = self.place(x)
        if place == "nowhere":
            return True
        flag = jnp.isfinite(x).all()
        return bool(flag) if place == "host" else flag

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Any], out: Any = None) -> Any:
        total = coefficients[0] * arrays[0]
        for coefficient, array in zip(coefficients[1:], arrays[1:], strict=True):
            if coefficient:
                total = total + coefficient * array
        return total

    def copy_to(self, x: Any, out: Any = None) -> Any:
        return x

    def version(self, x: Any) -> int | None:
        return 0  # nobody can write into it

    def from_numpy(self, values: NDArray[Any], like: Any, dtype: Any = None) -> Any:
        made = jnp.asarray(values, jax.dtypes.canonicalize_dtype(like.dtype if dtype is None else dtype))
        return made if self.place(like) == "nowhere" else jax.device_put(made, next(iter(like.devices())))

    def unseeded(self, generator: Any, noise: str) -> bool:
        return False

    def keys(self, keys: Keys) -> Any:
        return folded(keys) if isinstance(keys, list) else keys

    def normals(self, keys: Any, interval: Any, shape: Sequence[int], like: Any) -> Any:
        return drawn(keys, interval, tuple(shape), like.dtype)

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        if dtype == "float64" and not jnp.zeros(0, float).dtype == jnp.float64:
            raise PlanError(
                "dtype='float64' needs JAX's 64-bit numbers: jax.config.update('jax_enable_x64', True) at the start"
            )
        return None if dtype is None else jnp.dtype(dtype)

    def scan(self, body: Callable[[Any, Any], Any], carry: Any, rows: Any) -> Any:
        return jax.lax.scan(lambda carry, row: (body(carry, row), None), carry, rows)[0]


BACKEND = JaxBackend()
