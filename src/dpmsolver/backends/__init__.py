"""Array frameworks: the only place where torch and JAX are imported. `of(x)` picks the backend of an array.

A backend is a module's worth of small functions behind one protocol: state checks, linear combinations, time labels, normals. Nothing
in it knows a schedule or a solver.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dpmsolver.errors import PlanError

__all__ = ["Backend", "linear", "noise_keys", "of", "standard_normals", "stream_seed"]


class Backend(Protocol):
    """What the sampling loop needs of an array framework."""

    differentiates: bool  # whether the framework records derivatives

    def state(self, x: Any) -> Any:
        """A contiguous float32 or float64 copy of x, cut off from what made it.

        TypeError/ValueError for integers, other kinds and empty arrays.
        """

    def is_float_array(self, x: Any) -> bool:
        """Whether x is a floating-point array of this framework."""

    def combine(self, coefficients: Sequence[float], arrays: Sequence[Any], out: Any = None) -> Any:
        """sum_i c_i a_i, written into `out` where the framework can; `out` may be arrays[0] and no other."""

    def combine_each(self, coefficients: Sequence[NDArray[np.float64]], arrays: Sequence[Any]) -> Any:
        """The same with a coefficient per sample: each of shape (B,)."""

    def labels(self, values: NDArray[np.float64], x: Any, dtype: Any) -> Sequence[Any]:
        """Values (N, B) or (N, 1) as N labels of shape (B,) on x's device, in a float type; None: int64. One transfer."""

    def label_dtype(self, network_dtype: Any, x: Any) -> Any:
        """The float type of labels: float64 for a network that computes in it (None: in x's type), else float32, never half."""

    def cast(self, x: Any, dtype: Any) -> Any:
        """x in a float type; None: as it is."""

    def network_dtype(self, network: Any, dtype: str | None) -> Any:
        """The float type that a network computes in: the named one, else that of its weights, else None (the state's)."""

    def concatenate(self, arrays: Sequence[Any]) -> Any:
        """Along the batch."""

    def finite(self, x: Any) -> Any:
        """Whether all of x is finite: a bool, or a device scalar where asking would wait for the device."""

    def not_finite(self, x: Any) -> list[int]:
        """The samples of x that hold NaN or infinity."""

    def version(self, x: Any) -> int | None:
        """A number that another one follows whenever x is written to; None where nothing counts that."""

    def first_false(self, flags: Sequence[Any]) -> int | None:
        """The index of the first flag that is false: one transfer from the device."""

    def from_numpy(self, values: NDArray[np.float64], like: Any) -> Any:
        """A host array in the type and on the device of `like`."""

    def normals(self, keys: Sequence[tuple[int, ...]], interval: int, like: Any) -> Any:
        """Standard normals like a state, drawn by the framework on its device: sample i depends on its key and the interval alone."""

    def to_numpy(self, x: Any) -> NDArray[np.float64]:
        """A host copy in float64."""

    def copy_to(self, x: Any, out: Any = None) -> Any:
        """A copy of x, in `out` where the framework can."""

    def quantile(self, x: Any, q: float) -> Any:
        """The q-quantile of |x| per sample, shape (B, 1, …)."""

    def clip(self, x: Any, limit: Any) -> Any:
        """x between -limit and limit."""

    def deviation(self, x: Any) -> Any:
        """The standard deviation of some 1000 numbers of x: a float, a device scalar where asking would wait, or None in a graph."""

    def where(self, mask: NDArray[np.bool_], x: Any, y: Any) -> Any:
        """Sample i of x where mask[i], else of y."""

    def error_norm(self, high: Any, low: Any, before: Any, atol: float, rtol: float) -> NDArray[np.float64]:
        """Per sample, RMS((high - low) / max(atol, rtol max(|low|, |before|))), on the host."""

    def gradient(
        self, what: str, function: Callable[..., Any], x: Any, label: Any, kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """d/dx of sum(values) and more, for values (B,), more = function(x, label, **kwargs); errors call it by `what` it is."""

    def no_grad(self) -> AbstractContextManager[Any]:
        """Where nothing is recorded for differentiation."""

    def records(self, x: Any) -> bool:
        """Whether what is computed from x is recorded for differentiation."""

    def checkpointed(self, function: Callable[[Any], Any], x: Any) -> Any:
        """function(x), computed again where its derivative is wanted, instead of kept."""


_BACKENDS = {
    "numpy": "dpmsolver.backends.numpy",
    "torch": "dpmsolver.backends.torch",
    "jax": "dpmsolver.backends.jax",
    "jaxlib": "dpmsolver.backends.jax",
}


def of(x: Any) -> Backend:
    """Return the backend of an array. TypeError for anything that is not an array of NumPy, torch or JAX."""
    kind: type = type(x)
    return _of(kind)


@cache
def _of(kind: type) -> Backend:
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


def linear(backend: Backend, coefficients: Sequence[Any], arrays: Sequence[Any]) -> Any:
    """A linear combination with coefficients that are floats, or float64 arrays with one value per sample."""
    for coefficient in coefficients:
        if isinstance(coefficient, np.ndarray) and coefficient.ndim:
            each = (np.array(np.broadcast_to(c, coefficient.shape), dtype=np.float64) for c in coefficients)
            return backend.combine_each(list(each), arrays)
    return backend.combine(coefficients, arrays)


def noise_keys(generator: Any, batch: int) -> list[tuple[int, ...]]:
    """One key per sample from what a caller calls its randomness.

    Args:
        generator: an int (sample i gets the key (seed, i)); one of these per sample, in a sequence: an int, a tuple of ints, a numpy or
            torch Generator; a tensor or array of ints; one `numpy.random.Generator` or `torch.Generator` (drawn from once per sample,
            in order); or None (fresh entropy).

    Raises:
        PlanError: negative seeds, seeds that are not integers, or another number of them than samples.
    """
    if generator is None:
        generator = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if hasattr(generator, "tolist"):
        generator = generator.tolist()  # of an array or a tensor, wherever it lies: an int, or a list
    if _is_int(generator):
        keys: list[tuple[int, ...]] = [(int(generator), i) for i in range(batch)]
    elif isinstance(generator, Sequence) and not isinstance(generator, str):
        if len(generator) != batch:
            raise PlanError(f"one seed per sample is needed: {batch} samples, {len(generator)} seeds")
        found = [_key(seed) for seed in generator]
        keys = [key for key in found if key is not None]
        if len(keys) != batch:
            raise PlanError(f"seeds must be integers, got {list(generator)[:4]}")
    else:
        keys = _drawn(generator, batch)
    if any(part < 0 for key in keys for part in key):
        raise PlanError("seeds must be >= 0")
    return keys


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _key(seed: Any) -> tuple[int, ...] | None:
    """The key of one sample's seed; None for what is no seed."""
    seed = seed.tolist() if hasattr(seed, "tolist") else seed
    parts = seed if isinstance(seed, tuple) else (seed,)
    if parts and all(map(_is_int, parts)):
        return tuple(map(int, parts))
    return None if isinstance(seed, (bool, int, float, str, tuple, list)) else _drawn(seed, 1)[0]


def _drawn(generator: Any, batch: int) -> list[tuple[int, ...]]:
    """Keys drawn from a Generator of NumPy or torch."""
    if isinstance(generator, np.random.Generator):
        return [(int(s),) for s in generator.integers(2**63 - 1, size=batch)]
    if type(generator).__module__.split(".")[0] == "torch":
        keys: list[tuple[int, ...]] = importlib.import_module("dpmsolver.backends.torch").seeds_from(generator, batch)
        return keys
    raise PlanError(
        "generator must be an int, a numpy or torch Generator, or one of these per sample, "
        f"got {type(generator).__name__}"
    )


def standard_normals(
    keys: Sequence[tuple[int, ...]], interval: int | tuple[int, ...], shape: Sequence[int]
) -> NDArray[np.float64]:
    """Standard normals of shape (len(keys), *shape): sample i depends on its key and the interval, a number or several, alone.

    They are drawn on the host with a counter-based generator, so that they are the same on every framework and device.
    """
    # The interval apart from the key: SeedSequence takes (7, 3) and (7, 3, 0) for one, and so would key (7,) at 3 and key (7, 3) at 0.
    spawn_key = interval if isinstance(interval, tuple) else (interval,)
    sequences = (np.random.SeedSequence(key, spawn_key=spawn_key) for key in keys)
    streams = (np.random.Generator(np.random.Philox(sequence)) for sequence in sequences)
    return np.stack([stream.standard_normal(tuple(shape)) for stream in streams])


def stream_seed(key: tuple[int, ...], interval: int) -> int:
    """Return a seed of 63 bits for a sample's key and an interval; seeds of different pairs are as good as independent.

    Examples:
        >>> stream_seed((0, 1), 2) == stream_seed((0, 1), 2), stream_seed((0, 1), 2) == stream_seed((0, 12), 2)
        (True, False)

    Source: the finalizer of splitmix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom number generators, figure 17).
    """
    return _mixed(_folded(key) ^ (interval + 1)) >> 1


_WORD = 2**64 - 1


@lru_cache(maxsize=2**16)
def _folded(key: tuple[int, ...]) -> int:
    """One word from the parts of a key, of any size."""
    state = len(key)
    for part in key:
        state = _mixed(state ^ (part & _WORD))
        while part := part >> 64:
            state = _mixed(state ^ (part & _WORD) ^ 1)
    return state


def _mixed(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)
