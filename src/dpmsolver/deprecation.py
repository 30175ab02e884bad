"""Deprecation: names that still work for one minor version and warn, so that code of users has time to change."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["deprecated", "renamed"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def deprecated(since: str, instead: str) -> Callable[[_Function], _Function]:
    """Return a decorator for a function that goes: each call warns with DeprecationWarning and names what replaces it.

    Args:
        since: the version that begins to warn.
        instead: what to write now.

    Examples:
        >>> @deprecated("0.4", instead="dpm.sample")
        ... def draw(x):
        ...     return x
        >>> import warnings
        >>> with warnings.catch_warnings(record=True, action="always") as seen:
        ...     _ = draw(1)
        >>> str(seen[0].message)
        'draw is deprecated since 0.4 and goes in the minor version after it: write dpm.sample'
    """

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            _warn(function.__name__, since, instead)
            return function(*args, **kwargs)

        return warning  # type: ignore[return-value]

    return decorate


def renamed(since: str, **names: str) -> Callable[[_Function], _Function]:
    """Return a decorator for a function with renamed keyword arguments: the old names still work, and warn with DeprecationWarning.

    Args:
        since: the version that begins to warn.
        names: old="new" for each argument.

    Raises:
        TypeError: at a call that gives both the old and the new name.

    Examples:
        >>> @renamed("0.4", steps="nfe")
        ... def plan(*, nfe):
        ...     return nfe
        >>> import warnings
        >>> with warnings.catch_warnings(record=True, action="always") as seen:
        ...     plan(steps=8)
        8
        >>> str(seen[0].message)
        'plan(steps=…) is deprecated since 0.4 and goes in the minor version after it: write nfe='
    """

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            for old, new in names.items():
                if old not in kwargs:
                    continue
                if new in kwargs:
                    raise TypeError(f"{function.__name__} got {new}= and its old name {old}=: give {new}= alone")
                _warn(f"{function.__name__}({old}=…)", since, f"{new}=")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return warning  # type: ignore[return-value]

    return decorate


def _warn(name: str, since: str, instead: str) -> None:
    said = f"{name} is deprecated since {since} and goes in the minor version after it: write {instead}"
    warnings.warn(said, DeprecationWarning, stacklevel=3)
