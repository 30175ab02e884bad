"""How the library says no: the cause, what was given, and what to do instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ConventionWarning", "PlanError", "SamplingError", "unknown"]


class PlanError(ValueError):
    """A plan, a grid or a solver that cannot be: the message names the argument and what is accepted."""


class SamplingError(RuntimeError):
    """A run that cannot go on: the network returned NaN, or an adaptive run used up its evaluations."""


class ConventionWarning(UserWarning):
    """Something runs that is hardly meant, such as a start of the wrong size: the message says what is usual and how to get it."""


def unknown(what: str, given: object, accepted: Iterable[str]) -> str:
    """The message for a name that does not exist, with the nearest one that does.

    Examples:
        >>> unknown("solver", "dimm", ["ddim", "dpm-1"])
        "unknown solver 'dimm' (did you mean 'ddim'?); accepted: ddim, dpm-1"
    """
    names = list(accepted)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {what} {given!r}{hint}; accepted: {', '.join(names)}"
