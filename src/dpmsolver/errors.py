"""Errors and warnings of the library. A message says what is wrong, what was given, and what to do instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["ConventionWarning", "PlanError", "SamplingError", "in_samples", "unknown"]

_LISTED = 12  # more names than these are not read: a message then has the nearest ones only
_NEAR = 5


class PlanError(ValueError):
    """Raised if a plan, a grid or a solver cannot be made. The message names the argument and what is accepted."""


class SamplingError(RuntimeError):
    """Raised if a run cannot continue.

    The network returned NaN, an adaptive run used up its evaluations, or workers of `generate` died again and again.
    """


class ConventionWarning(UserWarning):
    """Warns about a run that was probably not intended, such as one from a start of the wrong size. The message names the remedy."""


def unknown(what: str, given: object, accepted: Iterable[str], all_of_them: str = "") -> str:
    """Return the message for an unknown name, with the nearest accepted name, and with all of them if they are few.

    Args:
        what, given: the kind of name, and the name.
        accepted: the names that exist.
        all_of_them: how to list them, for a message that shows the nearest ones only.

    Examples:
        >>> unknown("solver", "dimm", ["ddim", "dpm-1"])
        "unknown solver 'dimm' (did you mean 'ddim'?); accepted: ddim, dpm-1"
        >>> unknown("solver", "x7", [f"x-{k}" for k in range(20)], "dpm.solvers()")
        "unknown solver 'x7' (did you mean 'x-7'?); near: x-17; all of them: dpm.solvers()"
    """
    names = list(accepted)
    by_lower = {name.lower(): name for name in names}
    near = [by_lower[n] for n in difflib.get_close_matches(str(given).lower(), by_lower, n=_NEAR, cutoff=0.5)]
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if len(names) <= _LISTED:
        return f"unknown {what} {given!r}{hint}; accepted: {', '.join(names)}"
    others = f"; near: {', '.join(near[1:])}" if near[1:] else ""
    return f"unknown {what} {given!r}{hint}{others}; all of them: {all_of_them or ', '.join(names)}"


def in_samples(indices: Sequence[int], batch: int) -> str:
    """Return the words that name some samples of a batch; an empty text for no samples.

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
