"""Attributes of other projects' objects, with errors that say what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dpmsolver.errors import PlanError

__all__ = ["attribute", "class_named", "require_callable", "word"]


def attribute(holder: Any, name: str, what: str) -> Any:
    """Return an attribute of an object. Raise PlanError, saying `what` the object should be, if it has none.

    Examples:
        >>> attribute(1.5, "betas", "diffusion must be guided-diffusion's")
        Traceback (most recent call last):
        ...
        dpmsolver.errors.PlanError: diffusion must be guided-diffusion's, got float without the attribute 'betas'
    """
    found = getattr(holder, name, None)
    if found is None:
        raise PlanError(f"{what}, got {type(holder).__name__} without the attribute {name!r}")
    return found


def require_callable(function: Any, what: str) -> None:
    """Raise TypeError, which says `what` was expected, unless `function` can be called."""
    if not callable(function):
        raise TypeError(f"{what}, got {type(function).__name__}")


def class_named(value: Any, names: Iterable[str]) -> str | None:
    """Return the first name of a value's class or its base classes that is among `names`, or None."""
    accepted = set(names)
    return next((kind.__name__ for kind in type(value).__mro__ if kind.__name__ in accepted), None)


def word(value: Any) -> str:
    """Return the name of a member of an enumeration, or a word unchanged."""
    return str(getattr(value, "name", value))
