"""Array frameworks. torch and JAX are imported only here; `of(x)` returns the backend of an array.

A backend holds what frameworks do differently. What they do alike is written once, in `arrays`, over the namespace of the array API that
each of them has. Nothing here depends on a schedule or a solver.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from dpmsolver.backends.keys import Keys, noise_keys, standard_normals, stream_seed
from dpmsolver.host import settled

__all__ = ["Autograd", "Backend", "noise_keys", "of", "standard_normals", "stream_seed"]


class Backend(Protocol):
    """The operations that the sampling loop needs of an array framework beyond the array API."""

    @property
    def xp(self) -> Any:
        """The framework's namespace of the array API, from array-api-compat."""

    @property
    def array(self) -> Any:
        """The type of its arrays."""

    @property
    def autograd(self) -> Autograd:
        """Its differentiation."""

    @property
    def current(self) -> Backend:
        """The backend to use now: this one, or a replacement while a compiler traces the running code."""

    def kept(self, make: Callable[..., Any], *given: Any) -> Any:
        """Return make(*given), an object of the host, which is made once and kept for good while a compiler traces."""

    @property
    def scan(self) -> Callable[[Callable[[Any, Any], Any], Any, Any], Any] | None:
        """A loop that is traced once, (body, carry, rows) -> carry with body(carry, row) -> carry; None if there is none."""

    def state(self, x: Any) -> Any:
        """Return a contiguous float32 or float64 copy of x, cut off from what made it.

        Raises:
            TypeError, ValueError: integers, other kinds of arrays, empty arrays.
        """

    def place(self, x: Any) -> Literal["host", "device", "nowhere"]:
        """Return where the numbers of x are: on the host, on a device (reading them waits), or nowhere yet, as in a traced function."""

    def finite(self, x: Any) -> Any:
        """Return whether all of x is finite: a bool, or a device scalar if the answer would have to wait. Traced numbers pass."""

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Any], out: Any = None) -> Any:
        """Return sum_i c_i a_i, written into `out` if the framework can; `out` may be arrays[0] and no other."""

    def copy_to(self, x: Any, out: Any = None) -> Any:
        """Return a copy of x, in `out` if the framework can; x itself if arrays are immutable."""

    def version(self, x: Any) -> int | None:
        """Return a number that changes whenever x is written to; None if nothing counts writes."""

    def from_numpy(self, values: NDArray[Any], like: Any, dtype: Any = None) -> Any:
        """Return a host array on the device of `like`, in its type or in another."""

    def unseeded(self, generator: Any, noise: str) -> bool:
        """Return whether `normals` needs no keys for this randomness and noise, because a compiled run draws new noise in every call.

        Raises:
            PlanError: tracing would use up the randomness of a compiled run.
        """

    def keys(self, keys: Keys) -> Any:
        """Return the keys of a run in the form that `normals` takes.

        Raises:
            PlanError: keys of another framework.
        """

    def normals(self, keys: Any, interval: Any, shape: Sequence[int], like: Any) -> Any:
        """Return standard normals (len(keys), *shape) in the type of `like`, drawn on its device.

        Sample i depends on its key and on the interval alone.
        """

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        """Return the float type that a network computes in: the named one, else that of its weights, else None (the state's)."""


class Autograd:
    """The differentiation of a framework; this one does not differentiate."""

    differentiates = False

    def no_grad(self) -> AbstractContextManager[Any]:
        """Return a context in which nothing is recorded for differentiation."""
        return nullcontext()

    def records(self, x: Any) -> bool:
        """Return whether what is computed from x is recorded for differentiation."""
        return False

    def checkpointed(self, function: Callable[[Any], Any], x: Any) -> Any:
        """Return function(x), computed again where its derivative is wanted, instead of kept."""
        return function(x)

    def gradient(
        self, what: str, function: Callable[..., Any], x: Any, label: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Return d/dx of sum(values), and more, for values (B,), more = function(x, label, **kwargs); errors call it by `what` it is."""
        raise TypeError(
            f"NumPy has no automatic differentiation, which {what} needs: give classifier guidance a `gradient` function, or sample with "
            "torch or JAX"
        )


_BACKENDS = {
    "numpy": "dpmsolver.backends.numpy",
    "torch": "dpmsolver.backends.torch",
    "jax": "dpmsolver.backends.jax",
    "jaxlib": "dpmsolver.backends.jax",
}


def of(x: Any) -> Backend:
    """Return the backend of an array. TypeError for anything that is not an array of NumPy, torch or JAX."""
    kind: type = type(x)
    _load(kind)
    return _LOADED[kind].current


_LOADED: dict[type, Backend] = {}


@settled
def _load(kind: type) -> None:
    if kind not in _LOADED:
        _LOADED[kind] = _found(kind)


def _found(kind: type) -> Backend:
    for base in kind.__mro__:
        name = base.__module__.split(".")[0]
        if name in _BACKENDS:
            backend: Backend = importlib.import_module(_BACKENDS[name]).BACKEND
            return backend
    if issubclass(kind, (tuple, dict)):
        raise TypeError(
            f"the state must be one array, got a {kind.__name__}: flatten and join its parts along one axis, and split them in the network"
        )
    raise TypeError(
        f"the state must be an array of NumPy, torch or JAX, got {kind.__module__}.{kind.__qualname__}: "
        "convert it first, with np.asarray(x) or torch.as_tensor(x)"
    )
