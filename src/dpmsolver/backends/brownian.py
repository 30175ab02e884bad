"""Brownian bridges: torchsde's dyadic tree, the only place that imports it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGITS", "Bridge", "bridges", "require_torchsde"]

Bridge: TypeAlias = Callable[[float, float], NDArray[np.float64]]

DIGITS = 6  # decimals to which the tree resolves its unit interval: a depth of 20
_CACHE = (
    24  # nodes kept of each tree: a way from the root to a leaf; with fewer they are computed again, more save nothing
)


def require_torchsde() -> Any:
    """Return the module torchsde. Raise ImportError, with the extra that installs it, if it is missing."""
    try:
        return importlib.import_module("torchsde")
    except ImportError:
        raise ImportError("noise='brownian' needs torchsde: pip install 'dpmsolver[brownian]'") from None


def bridges(increments: NDArray[np.float64], entropies: Sequence[int]) -> list[Bridge]:
    """Per sample, a Brownian motion on [0, 1] with a known value at 1, as (a, b) -> B(b) - B(a) in float64 on the host.

    A path depends on its increment and its entropy alone, not on where or in which order it is asked ("halfway_tree").

    Args:
        increments: B(1), shape (B, …).
        entropies: an integer >= 0 for each sample.

    The arguments of a bridge are multiples of 10^-DIGITS with 0 <= a < b <= 1: the tree does not end where it would have to round two
    times to one.
    """
    torchsde, torch = require_torchsde(), importlib.import_module("torch")

    def bridge(increment: NDArray[np.float64], entropy: int) -> Bridge:
        total = torch.from_numpy(np.array(increment))
        tree = torchsde.BrownianInterval(
            0.0,
            1.0,
            entropy=entropy,
            tol=10.0**-DIGITS,
            cache_size=_CACHE,
            halfway_tree=True,
            W=total,
            H=torch.zeros_like(total),
        )
        return lambda a, b: np.asarray(tree(a, b).numpy())

    return [bridge(increments[i], entropy) for i, entropy in enumerate(entropies)]
