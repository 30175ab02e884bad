"""What `benchmarks.peers` found, as Markdown: what it prints, and what the pages hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.paper.text import markdown

__all__ = ["PACKAGES", "Interval", "overview", "package", "text"]

PACKAGES = ("diffusers", "k-diffusion", "azula")
Interval = Mapping[str, float]


def package(name: str) -> str:
    """Whose sampler it is."""
    return next((each for each in PACKAGES if name.startswith(f"{each} ")), "dpmsolver")


def text(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as tables in Markdown, one for each measure and package, each with the count of budgets where ours is at least equal."""
    parts = [f"{results['title']}, {results['num']} samples, seed {results['seed']}.\n"]
    for key, end in dict.fromkeys((row["measure"], row["end"]) for row in rows):
        title = results["measures"][key]["title"]
        for who in PACKAGES:
            chosen = [row for row in rows if (row["measure"], row["end"]) == (key, end) and who in row]
            if chosen:
                equal = sum(row[who]["at_least_equal"] for row in chosen)
                where = "" if end is None else f" at t = {end:g}" if end else " at sigma = 0"
                head = f"**{title}{where}: against {who}, at least equal at {equal} of {len(chosen)} budgets.**\n"
                parts.append(f"{head}\n{_table(chosen, who)}")
    return "\n".join(parts)


def _table(rows: Sequence[Mapping[str, Any]], who: str) -> str:
    cells = []
    for row in rows:
        theirs = row[who]
        verdict = "equal" if theirs["equal"] else "yes" if theirs["at_least_equal"] else "no"
        cells.append(
            (
                str(row["nfe"]),
                _named(row["ours"], row["nfe"]),
                _said(row["ours"]),
                _named(theirs, row["nfe"]),
                _said(theirs),
                _said(theirs["ratio"]),
                verdict if theirs["resolved"] or theirs["equal"] else f"{verdict}, within the interval",
            )
        )
    return markdown(["NFE", "ours", "", f"best of {who}", "", "ours / theirs", "at least equal"], cells)


def _named(cell: Mapping[str, Any], nfe: int) -> str:
    """A run's name without its package's, with what it spent where that is less."""
    name = str(cell["name"]).removeprefix(f"{package(cell['name'])} ")
    return name if cell["evaluations"] == nfe else f"{name} ({cell['evaluations']:g})"


def _said(interval: Interval) -> str:
    return f"{interval['value']:.4g} ({interval['low']:.4g} to {interval['high']:.4g})"


def overview(documents: Sequence[Mapping[str, Any]]) -> str:
    """The ratios of errors, ours over the best of each package, a row for each testbed, end and package that has runs there."""
    nfes = sorted({row["nfe"] for document in documents for row in document["table"]})
    rows = []
    for document in documents:
        found = {(row["end"], row["nfe"]): row for row in document["table"] if row["measure"] == "error"}
        for end in sorted({end for end, _ in found}):
            for who in PACKAGES:
                cells = [found.get((end, nfe), {}).get(who) for nfe in nfes]
                where = f"t = {end:g}" if end else "sigma = 0"
                if not any(cells):
                    continue
                rows.append([f"`{document['title']}`", where, who, *("" if c is None else _ratio(c) for c in cells)])
    return markdown(["model", "runs end at", "best of", *map(str, nfes)], rows)


def _ratio(cell: Mapping[str, Any]) -> str:
    """A ratio in two digits; one that is ours to lose in bold."""
    value = "1.00" if cell["equal"] else f"{cell['ratio']['value']:.2g}"
    return value if cell["at_least_equal"] else f"**{value}**"
