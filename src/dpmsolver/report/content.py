"""The content of the page, made from the results: a sentence, tables, and the data for its script."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpmsolver.report.figures import figure, number, percent
from dpmsolver.report.pictures import png_size

__all__ = [
    "absent_figures",
    "budgets",
    "drawn",
    "reference_sentence",
    "skipped_runs",
    "summary",
    "table",
    "threshold_table",
]

_PIXELS = 64  # pictures up to so many pixels high are magnified, and then keep their pixels
_UNBOUNDED = (
    20.0  # a half-log-SNR beyond it, 9 decimal digits of alpha or sigma, is drawn at the edge, as an infinite one is
)
_NAMED = 2  # names in the summary before "and n others"


def budgets(results: Mapping[str, Any]) -> list[int]:
    """Return all measured numbers of evaluations, ascending: the stops of the slider."""
    return sorted({point["nfe"] for curve in results["curves"] for point in curve["points"]})


def summary(results: Mapping[str, Any]) -> str | None:
    """Return the finding in one sentence: which run comes near the limit first, and what DDIM needs; None if no run does."""
    thresholds = results.get("thresholds") or {"within": [], "rows": []}
    for column, within in sorted(enumerate(thresholds["within"]), key=lambda pair: pair[1]):
        reached = {
            row["name"]: row["needed"][column] for row in thresholds["rows"] if row["needed"][column] is not None
        }
        if not reached:
            continue
        fewest = min(reached.values())
        best = [name for name, needed in reached.items() if needed == fewest]
        verb = "comes" if len(best) == 1 else "come"
        share = f"within {percent(within)} of the limit" if _relative(thresholds) else _below(results, within)
        sentence = f"{_listed(best)} {verb} {share} with {_evaluations(fewest)}"
        ddim = _ddim(results, thresholds)
        if ddim is None or ddim["name"] in best:
            return f"{sentence}."
        if ddim["needed"][column] is not None:
            return f"{sentence}; {ddim['name']} needs {ddim['needed'][column]}."
        return f"{sentence}; {ddim['name']} does not with up to {_largest(results, ddim['name'])}."
    return None


def threshold_table(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the rows of the table of evaluations needed to come within x of the limit, the fastest first."""
    thresholds = results.get("thresholds")
    if not thresholds or not thresholds["rows"] or not thresholds["within"]:
        return None
    count = len(thresholds["within"])
    fewest = [
        min((row["needed"][i] for row in thresholds["rows"] if row["needed"][i] is not None), default=None)
        for i in range(count)
    ]
    rows = []
    for row in sorted(thresholds["rows"], key=lambda row: [math.inf if n is None else n for n in row["needed"]]):
        speedups = row.get("speedup") or [None] * count
        beyond = f"> {_largest(results, row['name'])}"
        cells = [
            {
                "needed": beyond if needed is None else str(needed),
                "best": needed is not None and needed == fewest[i],
                "reached": needed is not None,
                "speedup": _speedup(speedups[i]),
            }
            for i, needed in enumerate(row["needed"])
        ]
        rows.append({"name": row["name"], "cells": cells})
    measure = thresholds["measure"]
    limit = ((results.get("reference") or {}).get("measures") or {}).get(measure)
    return {
        "measure": results["measures"][measure]["title"],
        "limit": figure(limit)["text"] if limit else None,
        "bias": number(thresholds["bias"], 2) if thresholds.get("bias") else None,
        "relative": _relative(thresholds),
        "within": [
            f"within {percent(within)}" if _relative(thresholds) else f"≤\u202f{within:g}"
            for within in thresholds["within"]
        ],
        "faster": any(cell["speedup"] for row in rows for cell in row["cells"]),
        "rows": rows,
    }


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row for every run, with the best of each budget marked."""
    best: dict[tuple[int, str], float] = {}
    for curve in results["curves"]:
        for point in curve["points"]:
            for key, given in point["measures"].items():
                value = figure(given)["value"]
                if value is not None:
                    pick = min if results["measures"][key]["better"] == "lower" else max
                    place = (point["nfe"], key)
                    best[place] = pick(best.get(place, value), value)
    return [
        {
            "name": curve["name"],
            "nfe": point["nfe"],
            "evaluations": _counted(point),
            "num": point.get("num"),
            "seconds": point.get("seconds"),
            "cells": [
                (given := figure(point["measures"].get(key)))
                | {"best": given["value"] is not None and given["value"] == best.get((point["nfe"], key))}
                | {"why": (point.get("missing") or {}).get(key)}
                for key in results["measures"]
            ],
        }
        for curve in results["curves"]
        for point in sorted(curve["points"], key=lambda point: int(point["nfe"]))
    ]


def absent_figures(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the reasons for missing figures, each once, with its curves."""
    curves: dict[str, dict[str, None]] = {}
    for curve in results["curves"]:
        for point in curve["points"]:
            for why in (point.get("missing") or {}).values():
                curves.setdefault(why, {})[curve["name"]] = None
    return [{"names": ", ".join(names), "why": why} for why, names in curves.items()]


def skipped_runs(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs that were not possible: the curve, the evaluations and the reason; equal reasons of a curve together."""
    runs: dict[tuple[str, str], list[int]] = {}
    for curve in results["curves"]:
        for skipped in curve.get("skipped") or ():
            runs.setdefault((curve["name"], skipped["why"]), []).append(skipped["nfe"])
    return [{"name": name, "nfes": ", ".join(map(str, sorted(nfes))), "why": why} for (name, why), nfes in runs.items()]


def reference_sentence(results: Mapping[str, Any]) -> str | None:
    """Return a sentence about the run that serves as the limit, and its own error."""
    reference = results.get("reference")
    if not reference:
        return None
    words = [str(reference["name"])]
    if reference.get("nfe"):
        words.append(f"with {_evaluations(reference['nfe'])}")
    if reference.get("description"):
        words.append(f"({reference['description']})")
    sentence = f"{' '.join(words)}."
    if reference.get("own_error"):
        sentence += f" Its own error: {figure(reference['own_error'])['text']}."
    return sentence


def drawn(results: Mapping[str, Any], pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    """Return the data for the page's script, without NaN, infinity or other values that JSON lacks."""
    stops = budgets(results)
    return {
        "measures": [_measure(key, results) for key in results["measures"]],
        "budgets": stops,
        "start": stops.index(10) if 10 in stops else len(stops) // 2,
        "curves": [_curve(curve, pictures) for curve in results["curves"]],
        "reference": _reference_picture(pictures),
        "layout": _layout(pictures),
    }


def _measure(key: str, results: Mapping[str, Any]) -> dict[str, Any]:
    measure, reference = results["measures"][key], results.get("reference") or {}
    lines = []
    limit = (reference.get("measures") or {}).get(key)
    if limit:
        lines.append({"title": "reference", **figure(limit)})
    if key == "error" and reference.get("own_error"):
        lines.append({"title": "error of the reference itself", **figure(reference["own_error"])})
    yardstick = (results.get("yardsticks") or {}).get(key)
    if yardstick:
        lines.append({"title": yardstick.get("title", "yardstick"), **figure(yardstick)})
    unit = f" ({measure['unit']})" if measure.get("unit") else ""
    return {
        "key": key,
        "title": f"{measure['title']}{unit}",
        "better": measure["better"],
        "log": bool(measure.get("log")),
        "lines": [line for line in lines if line["value"] is not None],
    }


def _curve(curve: Mapping[str, Any], pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    points = sorted(curve["points"], key=lambda point: int(point["nfe"]))
    return {
        "name": curve["name"],
        "points": [
            {
                "nfe": point["nfe"],
                "evaluations": _counted(point),
                "measures": {key: figure(given) for key, given in point["measures"].items()},
                "missing": dict(point.get("missing") or {}),
            }
            for point in points
        ],
        "skipped": {str(skipped["nfe"]): skipped["why"] for skipped in curve.get("skipped") or ()},
        "grids": {str(nfe): _grid(grid) for nfe, grid in (curve.get("grids") or {}).items()},
        "pictures": {str(nfe): _uri(png) for (name, nfe), png in pictures.items() if name == curve["name"]},
    }


def _grid(grid: Mapping[str, Any]) -> dict[str, Any]:
    """Where a plan calls the network. A half-log-SNR without bound (no data left, no noise left) is 'low' or 'high'."""
    places = [
        float(at) if abs(at) < _UNBOUNDED else "high" if at > 0 else "low"
        for at in (math.nan if at is None else at for at in grid["half_log_snr"])
    ]
    return {"places": places, "times": [number(time) for time in grid.get("time") or ()]}


def _layout(pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    """How wide a strip is in squares, and whether its pixels are to be seen."""
    sizes = [png_size(picture) for picture in pictures.values()]
    if not sizes:
        return {"squares": 0, "pixels": False}
    width, height = max(sizes, key=lambda size: size[0] / size[1])
    return {"squares": max(1, round(width / height)), "pixels": height <= _PIXELS}


def _reference_picture(pictures: Mapping[tuple[str, int], bytes]) -> str | None:
    own = {nfe: picture for (name, nfe), picture in pictures.items() if name == "reference"}
    return _uri(own[max(own)]) if own else None


def _uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _speedup(given: Mapping[str, Any] | float | None) -> str | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        given = {"value": given}
    text = f"{number(given['value'], 2)}×"
    if given.get("at_least"):  # DDIM did not get there at all
        text = f"≥\u202f{text}"
    if given.get("low") is not None and given.get("high") is not None:
        text += f" [{number(given['low'], 2)}, {number(given['high'], 2)}]"
    return text


def _relative(thresholds: Mapping[str, Any]) -> bool:
    """Whether the thresholds are shares of the limit; those of the trajectory's error, whose limit is 0, are errors themselves."""
    return bool(thresholds.get("relative", thresholds["measure"] != "error"))


def _below(results: Mapping[str, Any], within: float) -> str:
    return f"to {within:g} or less in {results['measures'][results['thresholds']['measure']]['title']}"


def _counted(point: Mapping[str, Any]) -> float:
    counted = point.get("evaluations")
    counted = point["nfe"] if counted is None else counted
    return int(counted) if counted == int(counted) else float(counted)


def _ddim(results: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of DDIM; with several grids the one called plainly so, else the first."""
    solvers = {curve["name"]: curve.get("solver", curve["name"]) for curve in results["curves"]}
    rows = [row for row in thresholds["rows"] if solvers.get(row["name"], row["name"]) == "ddim"]
    return next((row for row in rows if row["name"] == "ddim"), rows[0] if rows else None)


def _largest(results: Mapping[str, Any], name: str) -> int:
    own = [point["nfe"] for curve in results["curves"] if curve["name"] == name for point in curve["points"]]
    return max(own or budgets(results))


def _evaluations(count: int) -> str:
    return f"{count} evaluation" if count == 1 else f"{count} evaluations"


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _NAMED + 1:
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} others"
