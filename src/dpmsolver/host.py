"""Bring numbers of a caller to the host, and mark functions of the host that compilers must not trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["settled", "to_host"]

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def settled(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Mark a function of the host, whose arguments are plain values and immutable objects, as one that a compiler does not trace.

    `torch.compile` calls such a function once, while it traces a run, and treats what it returned as a constant. It does what
    `torch.compiler.assume_constant_result` does, in modules that must not import torch.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def to_host(values: Any) -> NDArray[np.float64]:
    """Return numbers as a float64 NumPy array. They may be numbers, NumPy arrays, or tensors of any float type on any device.

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
