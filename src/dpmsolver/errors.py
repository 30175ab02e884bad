"""How the library says no: the cause, what was given, and what to do instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["PlanError", "SamplingError", "in_samples", "unknown"]


class PlanError(ValueError):
    """A plan, a grid or a solver that cannot be: the message names the argument and what is accepted."""


class SamplingError(RuntimeError):
    """A run that cannot go on: the network returned NaN, or an adaptive run used up its evaluations."""


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


def in_samples(indices: Sequence[int], batch: int) -> str:
    """The words that name some samples of a batch; nothing where there are none.

    Examples:
        >>> in_samples([1], 3), in_samples([0, 2], 3), in_samples([0, 1, 2], 3)
        (' in sample 1 of 3', ' in samples 0, 2 of 3', ' in all 3 samples')
    """
    if not indices:
        return ""
    if len(indices) == batch > 1:
        return f" in all {batch} samples"
    names = ", ".join(map(str, indices[:8])) + (", …" if len(indices) > 8 else "")
    return f" in sample{'s' if len(indices) > 1 else ''} {names} of {batch}"
