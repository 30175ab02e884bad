"""Results as Markdown tables: what the commands print, and what the pages hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["by_tolerance", "main_measures", "markdown", "number", "table", "tables"]

_TITLES = {"wasserstein": "2-Wasserstein distance to the data, exact"}


def main_measures(results: dict[str, Any]) -> list[str]:
    """What the paper's FID stands for here: the Frechet distance. Without features: the error of trajectories, and a distance of laws."""
    measured = {key for curve in results["curves"] for point in curve["points"] for key in point["measures"]}
    if "frechet" in measured:
        return ["frechet"]
    law = [key for key in ("wasserstein", "sliced_wasserstein", "energy") if key in measured][:1]
    return [key for key in ("error", *law) if key in measured]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table.

    Examples:
        >>> print(markdown(["a", "b"], [["1", "2"]]), end="")
        | a | b |
        |-|-|
        | 1 | 2 |
    """
    lines = [f"| {' | '.join(head)} |", f"|{'-|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def number(interval: dict[str, float] | None) -> str:
    """A value and half the width of its interval, with as many digits as that deserves.

    Examples:
        >>> number({"value": 0.2561, "low": 0.24, "high": 0.27}), number({"value": 31.2, "low": 30.0, "high": 33.0}), number(None)
        ('0.256 ± 0.015', '31.2 ± 1.5', '')
    """
    if interval is None:
        return ""
    half = 0.5 * (interval["high"] - interval["low"])
    value = _plain(interval["value"], 3)
    if not half:
        return value
    decimals = len(value.partition(".")[2])
    return f"{value} ± {half:.{decimals}f}" if round(half, decimals) else f"{value} ± {_plain(half, 1)}"


def _plain(value: float, digits: int) -> str:
    """That many significant digits, without an exponent unless there are many zeros."""
    if value and not 1e-5 <= abs(value) < 1e4:
        return f"{value:.{max(0, digits - 1)}e}"
    return f"{float(f'{value:.{digits}g}'):.{max(0, digits - 1 - _exponent(value))}f}"


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2]) if value else 0


def tables(results: dict[str, Any]) -> str:
    """A table for each of the main measures."""
    return "\n".join(table(results, key) for key in main_measures(results))


def table(results: dict[str, Any], key: str) -> str:
    """A measure: samplers down, budgets across; then those that have tolerances instead; then the limit."""
    measured = [curve for curve in results["curves"] if any(key in point["measures"] for point in curve["points"])]
    fixed = [curve for curve in measured if not _has_tolerances(curve)]
    budgets = sorted({point["nfe"] for curve in fixed for point in curve["points"]})
    rows = []
    for curve in fixed:
        found = {point["nfe"]: point["measures"].get(key) for point in curve["points"]}
        rows.append([f"`{curve['name']}`", *(number(found.get(nfe)) for nfe in budgets)])
    title = _TITLES.get(key) or results["measures"][key]["title"]
    parts = [f"{title}; {_samples(measured)} samples, ± half of a 95 % interval.\n"]
    if rows:
        parts.append(markdown(["evaluations", *map(str, budgets)], rows))
    free = by_tolerance([curve for curve in measured if _has_tolerances(curve)], key)
    if free:
        parts.append(markdown(["sampler", "tolerance", "evaluations", "measured"], free))
    return "\n".join([*parts, _limit(results, key)])


def _samples(curves: Sequence[dict[str, Any]]) -> str:
    """The samples of a run: of an interrupted comparison some runs may have more of them than others."""
    counts = sorted({point["num"] for curve in curves for point in curve["points"]})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _limit(results: dict[str, Any], key: str) -> str:
    """A line on the converged runs."""
    reference = results["reference"]
    if key == "error":
        own = reference["own_error"]
        far = "exact" if own is None or not own["value"] else f"itself off by about {_plain(own['value'], 2)}"
        return f"The exact trajectory: {reference['name']}, {far}.\n"
    limit = reference["measures"].get(key)
    return "" if limit is None else f"The limit of the ODE, {reference['name']}: {number(limit)}.\n"


def by_tolerance(curves: Sequence[dict[str, Any]], measure: str) -> list[list[str]]:
    """The rows of samplers that choose their own steps."""
    return [
        [
            f"`{curve['name']}`",
            f"{point['setting']:g}",
            f"{point['evaluations']:.0f}",
            number(point["measures"].get(measure)),
        ]
        for curve in curves
        for point in curve["points"]
    ]


def _has_tolerances(curve: dict[str, Any]) -> bool:
    return any(point["setting"] != point["nfe"] for point in curve["points"])
