"""Conditions: the arguments of a network with and without its condition, joined for one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError

__all__ = ["joined", "one_sided"]


def one_sided(condition: Any, unconditional: Any) -> bool:
    """Return True if somewhere one side has None or no value and the other has a value."""
    if isinstance(condition, Mapping) and isinstance(unconditional, Mapping):
        return condition.keys() != unconditional.keys() or any(
            one_sided(value, unconditional[name]) for name, value in condition.items()
        )
    if isinstance(condition, (list, tuple)) and isinstance(unconditional, (list, tuple)):
        return any(map(one_sided, condition, unconditional))
    return (condition is None) != (unconditional is None)


def joined(path: str, unconditional: Any, condition: Any, batch: int, join: Callable[[Sequence[Any]], Any]) -> Any:
    """Return both sides as one value for a call of twice the batch.

    Arrays go through `join`; mappings, lists and tuples are rebuilt around them. Raise PlanError for two sides that do not fit.
    """
    if isinstance(condition, Mapping) and isinstance(unconditional, Mapping):
        return {
            name: joined(f"{path}.{name}" if path else str(name), unconditional[name], value, batch, join)
            for name, value in condition.items()
        }
    if isinstance(condition, (list, tuple)) and isinstance(unconditional, (list, tuple)):
        if len(condition) == len(unconditional):
            pairs = enumerate(zip(unconditional, condition, strict=True))
            items = [joined(f"{path}[{i}]", a, b, batch, join) for i, (a, b) in pairs]
            if isinstance(condition, list):
                return items
            return type(condition)(*items) if hasattr(condition, "_fields") else tuple(items)
    elif _is_array(condition) and _is_array(unconditional):
        if condition is unconditional and condition.shape[:1] != (batch,):
            return condition
        if _kind(condition) == _kind(unconditional) and condition.shape[:1] == (batch,):
            return join([unconditional, condition])
    elif _same(condition, unconditional):
        return condition
    raise PlanError(
        f"guidance: {path!r} needs two arrays of equal shape with {batch} rows for one batched call, got {_kind(condition)} as condition "
        f"and {_kind(unconditional)} as unconditional: give batched=False for two calls"
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and not isinstance(value, np.generic)


def _kind(value: Any) -> str:
    """Return a description of a value without its contents."""
    if _is_array(value):
        where = str(getattr(value, "device", "cpu"))
        return f"{type(value).__name__} of shape {tuple(value.shape)}" + ("" if where == "cpu" else f" on {where}")
    return type(value).__name__ + (f" of length {len(value)}" if isinstance(value, (list, tuple)) else "")


def _same(one: Any, other: Any) -> bool:
    """Return True if two values that are no arrays are one object or equal."""
    if one is other:
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except (RuntimeError, TypeError, ValueError):  # arrays somewhere inside do not say whether they are equal
        return False
