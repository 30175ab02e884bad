"""The keys of a run's noise on JAX, where seeds may be traced, and the numbers that they draw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dpmsolver.errors import PlanError

__all__ = ["drawn", "folded", "keys_from"]


def keys_from(generator: Any, batch: int) -> Any:
    """Return one JAX key per sample from JAX's keys or from traced seeds; None for seeds that the host can read.

    Raises:
        PlanError: traced numbers that are not integers, or another number of keys than samples.
    """
    is_key = jnp.issubdtype(generator.dtype, jax.dtypes.prng_key)
    if not is_key and not isinstance(generator, jax.core.Tracer):
        return None
    if not is_key and not jnp.issubdtype(generator.dtype, jnp.integer):
        raise PlanError(f"seeds must be integers, got {generator.dtype}")
    if generator.shape not in ((), (batch,)):
        raise PlanError(f"one seed per sample is needed: {batch} samples, seeds of shape {generator.shape}")
    if is_key:
        return generator if generator.ndim else jax.vmap(partial(jax.random.fold_in, generator))(jnp.arange(batch))
    high = generator >> 32 if generator.dtype.itemsize == 8 else jnp.zeros_like(generator)
    words = [generator, high] if generator.ndim else [generator, high, jnp.arange(batch), 0]
    return _streams(jnp.stack([jnp.broadcast_to(w, (batch,)).astype(jnp.uint32) for w in words], axis=1), len(words))


def _words(key: tuple[int, ...]) -> list[int]:
    """The parts of a key as words of 32 bits, two for each part or more."""
    return [part >> 32 * i & 0xFFFFFFFF for part in key for i in range(max(2, -(-part.bit_length() // 32)))]


def folded(keys: Sequence[tuple[int, ...]]) -> Any:
    """Return one JAX key per sample from keys of integers: the same that `keys_from` makes of traced ones."""
    words = [_words(key) for key in keys]
    longest = max(map(len, words))
    padded = np.array([each + [0] * (longest - len(each)) for each in words], dtype=np.uint32)
    return _streams(padded, np.array([len(each) for each in words]))


@jax.jit
def _streams(words: Any, lengths: Any) -> Any:
    """One JAX key per sample: its words (B, n), of which `lengths` count, folded into a key one after the other."""

    def one_more(keys: Any, word: tuple[Any, Any]) -> tuple[Any, None]:
        place, each = word
        return jnp.where(place < lengths, jax.vmap(jax.random.fold_in)(keys, each), keys), None

    start = jnp.broadcast_to(jax.random.key(0), (len(words),))
    return jax.lax.scan(one_more, start, (jnp.arange(words.shape[1]), words.T))[0]


@partial(jax.jit, static_argnums=(2, 3))
def drawn(keys: Any, interval: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Draw standard normals (len(keys), *shape), each sample's from its key and the interval."""
    streams = jax.vmap(jax.random.fold_in, (0, None))(keys, interval)
    return jax.vmap(lambda stream: jax.random.normal(stream, shape, dtype))(streams)
