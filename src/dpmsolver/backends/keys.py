"""The keys of a run's noise, one per sample, and the numbers that the host draws from them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpmsolver.errors import PlanError
from dpmsolver.host import settled

__all__ = ["Keys", "noise_keys", "require_host_keys", "standard_normals", "stream_seed"]

# One key per sample: tuples of integers, or an array of JAX's keys, which may be traced.
Keys: TypeAlias = Any


@settled
def noise_keys(generator: Any, batch: int) -> Keys:
    """One key per sample from what a caller calls its randomness.

    Args:
        generator: an int (sample i gets the key (seed, i)); one of these per sample, in a sequence: an int, a tuple of ints, a numpy or
            torch Generator; a tensor or array of ints; one `numpy.random.Generator` or `torch.Generator` (drawn from once per sample,
            in order); on JAX a traced int, or an array of one or of B of its keys; or None (fresh entropy).

    Returns:
        Tuples of integers, one per sample; for what JAX alone can read, an array of its keys.

    Raises:
        PlanError: negative seeds, seeds that are not integers, or another number of them than samples.
    """
    if generator is None:
        generator = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if _framework(generator) in ("jax", "jaxlib"):
        traced = importlib.import_module("dpmsolver.backends.jax_keys").keys_from(generator, batch)
        if traced is not None:
            return traced
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


def require_host_keys(keys: Keys) -> list[tuple[int, ...]]:
    """Return keys that the host can read.

    Raises:
        PlanError: keys of JAX, whose numbers it alone draws.
    """
    if isinstance(keys, list):
        return keys
    raise PlanError(
        "keys of JAX and traced seeds are for noise='independent' and states of JAX: give a seed that is an int, or another state"
    )


def _framework(value: Any) -> str:
    return type(value).__module__.split(".")[0]


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
    if _framework(generator) == "torch":
        keys: list[tuple[int, ...]] = importlib.import_module("dpmsolver.backends.torch").seeds_from(generator, batch)
        return keys
    raise PlanError(
        "generator must be an int, a numpy or torch Generator, or one of these per sample, "
        f"got {type(generator).__name__}"
    )


@settled
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
