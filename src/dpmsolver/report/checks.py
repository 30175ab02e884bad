"""Checks of the results and pictures of a report, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpmsolver.errors import unknown
from dpmsolver.report.pictures import png_size

__all__ = ["check_pictures", "check_results"]

_NEEDED = ("title", "num", "seed", "command", "versions", "machine", "date", "measures", "curves")


def check_results(results: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the key at fault unless the page can show these results."""
    _need(results, _NEEDED, "results")
    measures, curves = results["measures"], results["curves"]
    if not isinstance(measures, Mapping) or not measures:
        raise ValueError("results['measures'] must name at least one measure")
    for key, measure in measures.items():
        _need(measure, ("title", "better"), f"results['measures'][{key!r}]")
        if measure["better"] not in ("lower", "higher"):
            raise ValueError(unknown(f"results['measures'][{key!r}]['better']", measure["better"], ("lower", "higher")))
    if not isinstance(curves, Sequence) or not curves:
        raise ValueError("results['curves'] must hold at least one curve")
    for index, curve in enumerate(curves):
        _check_curve(curve, measures, f"results['curves'][{index}]")
    names = [curve["name"] for curve in curves]
    if len(set(names)) < len(names):
        raise ValueError(f"results['curves'] must have names that differ, got {', '.join(map(repr, names))}")
    if not any(curve["points"] for curve in curves):
        raise ValueError("results['curves'] have no points: nothing was measured")
    if results.get("reference"):
        _need(results["reference"], ("name",), "results['reference']")
        _check_figures(results["reference"].get("measures") or {}, measures, "results['reference']['measures']")
    if results.get("thresholds"):
        _check_thresholds(results["thresholds"], measures)


def check_pictures(pictures: Mapping[tuple[str, int], bytes], results: Mapping[str, Any]) -> None:
    """Raise a ValueError for a picture that belongs to no curve or is not a PNG."""
    names = ["reference", *(curve["name"] for curve in results["curves"])]
    for key, picture in pictures.items():
        if not (isinstance(key, tuple) and len(key) == 2):
            raise ValueError(f"pictures must have keys (name of a curve or 'reference', nfe), got {key!r}")
        if key[0] not in names:
            raise ValueError(unknown(f"curve in pictures[{key!r}]:", key[0], names))
        try:
            png_size(picture)
        except ValueError as error:
            raise ValueError(f"pictures[{key!r}] must be the bytes of a PNG: {error}") from None


def _check_curve(curve: Any, measures: Mapping[str, Any], where: str) -> None:
    _need(curve, ("name", "points"), where)
    for number, point in enumerate(curve["points"]):
        here = f"{where}['points'][{number}]"
        _need(point, ("nfe", "measures"), here)
        if not isinstance(point["nfe"], int) or point["nfe"] < 1:
            raise ValueError(f"{here}['nfe'] must be a whole number of evaluations, at least 1, got {point['nfe']!r}")
        _check_figures(point["measures"], measures, f"{here}['measures']")
        for key in point.get("missing") or ():
            if key not in measures:
                raise ValueError(unknown(f"measure in {here}['missing']:", key, measures))
    for number, skipped in enumerate(curve.get("skipped") or ()):
        _need(skipped, ("nfe", "why"), f"{where}['skipped'][{number}]")
    for nfe, grid in (curve.get("grids") or {}).items():
        _need(grid, ("half_log_snr",), f"{where}['grids'][{nfe!r}]")


def _check_figures(figures: Mapping[str, Any], measures: Mapping[str, Any], where: str) -> None:
    for key, value in figures.items():
        if key not in measures:
            raise ValueError(unknown(f"measure in {where}:", key, measures))
        if value is not None:
            _need(value, ("value",), f"{where}[{key!r}]")


def _check_thresholds(thresholds: Any, measures: Mapping[str, Any]) -> None:
    _need(thresholds, ("measure", "within", "rows"), "results['thresholds']")
    if thresholds["measure"] not in measures:
        raise ValueError(unknown("measure in results['thresholds']:", thresholds["measure"], measures))
    for index, row in enumerate(thresholds["rows"]):
        where = f"results['thresholds']['rows'][{index}]"
        _need(row, ("name", "needed"), where)
        for key in ("needed", "speedup"):
            if key in row and len(row[key]) != len(thresholds["within"]):
                raise ValueError(f"{where}[{key!r}] must have one entry for each of {list(thresholds['within'])}")


def _need(given: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must be a mapping with {', '.join(keys)}, got {given!r}")
    missing = [key for key in keys if key not in given]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(map(repr, missing))}; needed: {', '.join(keys)}")
