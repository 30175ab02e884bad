"""Numbers that a caller hands over, brought to the host: no module of the core needs to know whose they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_host"]


def to_host(values: Any) -> NDArray[np.float64]:
    """Numbers as a float64 NumPy array: Python's, NumPy's, or tensors of any float type, on any device, with or without gradients.

    Examples:
        >>> to_host([1, 2.5])
        array([1. , 2.5])
    """
    if isinstance(values, (list, tuple)) and any(hasattr(value, "detach") for value in values):
        return np.array([to_host(value) for value in values])
    if hasattr(values, "detach"):
        try:
            values = values.numpy(force=True)
        except TypeError:  # NumPy has no bfloat16
            values = values.float().numpy(force=True)
    return np.array(values, dtype=np.float64)
