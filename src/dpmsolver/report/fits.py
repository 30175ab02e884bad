"""The page of a fit: for each budget the errors before and after, the tables side by side, the stages, and pictures of the same seeds."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpmsolver.report.figures import figure, number
from dpmsolver.report.pictures import png_size
from dpmsolver.report.templates import write_page

__all__ = ["write_fits"]

_PIXELS = 64  # pictures up to so many pixels high are magnified, and then keep their pixels
_MOST_TICKS = 7


def write_fits(results: Mapping[str, Any], pictures: Mapping[tuple[str, int], bytes], out: Path) -> Path:
    """Write the results of fits as one self-contained page, `tune.html`.

    Args:
        results: the result of `dpmsolver.tuning.page.results_of`.
        pictures: PNG bytes by (name of a plan, or "converged", nfe), with the same seeds in all; an empty mapping for a page without
            pictures.
        out: an existing folder.

    Returns:
        The path of the page, `out / "tune.html"`.
    """
    fits = [_shown(fit, pictures) for fit in results["fits"]]
    gains = [fit for fit in results["fits"] if fit["winner"] == "tuned"]
    return write_page(
        Path(out) / "tune.html",
        "tune.html",
        "page.css",
        "tune.css",
        results=results,
        summary=_summary(results["fits"], gains),
        fits=fits,
    )


def _summary(fits: Sequence[Mapping[str, Any]], gains: Sequence[Mapping[str, Any]]) -> str:
    """What the page finds, in one sentence."""
    if not gains:
        return "No fitted plan is better for certain than what there was: the untuned plans are kept."
    ratios = [fit["gains"]["selected"]["value"] for fit in gains]
    most = number(max(ratios), 2)
    times = f"{most} times" if len(ratios) == 1 else f"{number(min(ratios), 2)} to {most} times"
    kept = ", ".join(str(fit["nfe"]) for fit in gains)
    rest = "" if len(gains) == len(fits) else "; elsewhere no fitted plan is better for certain"
    return f"With {kept} evaluations the fitted plan ends {times} nearer to the exact trajectory than the best preset{rest}."


def _shown(fit: Mapping[str, Any], pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any]:
    """A fit as the template takes it."""
    largest = max((stage["error"] for stage in fit["stages"] if math.isfinite(stage["error"])), default=1.0)
    return {
        **fit,
        "said": _said(fit),
        "plans": [
            plan | {"cells": [figure(plan["summary"][name]) for name in fit["measures"]]} for plan in fit["plans"]
        ],
        "gains": {name: figure(gain) for name, gain in fit["gains"].items()},
        "curves": _curves(fit["plans"]),
        "tracks": _tracks(fit["plans"]),
        "rows": _rows(fit["plans"]),
        "stages": [
            stage | {"share": 100.0 * min(stage["error"], largest) / largest, "shown": number(stage["error"])}
            for stage in fit["stages"]
        ],
        "pictures": _pictures(fit, pictures),
    }


def _said(fit: Mapping[str, Any]) -> str:
    """Which plan is kept, and why, in one sentence."""
    selected, auto = (figure(fit["gains"][name]) for name in ("selected", "auto"))
    times = f"its mean error is {selected['text']} times smaller than that of the best preset, {auto['text']} times than auto's"
    if fit["winner"] == "tuned":
        return f"The fitted plan is kept: {times}."
    ratio = f"mean error of the best preset over the fitted plan's: {selected['text']}"
    if fit["winner"] == "selected":
        return f"The best preset, {fit['selected']}, is kept: the fitted plan is not better for certain ({ratio})."
    return f"auto is kept: neither the best preset nor the fitted plan is better for certain ({ratio})."


def _curves(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The distributions of the errors: lines and bands in per cent of the plot, and the ticks of its logarithmic axis."""
    positive = [
        e for plan in plans for key in ("value", "low", "high") for e in plan["curve"][key] if 0.0 < e < math.inf
    ]
    low, high = (math.log10(f(positive)) for f in (min, max)) if positive else (-1.0, 0.0)
    low, high = low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01

    def height(error: float) -> float:
        place = math.log10(error) if error > 0.0 else low
        return 100.0 * (high - min(max(place, low), high)) / (high - low)

    def line(shares: Sequence[float], errors: Sequence[float]) -> list[str]:
        return [f"{100 * p:.2f},{height(e):.2f}" for p, e in zip(shares, errors, strict=True)]

    lines = []
    for plan in plans:
        curve = plan["curve"]
        band = line(curve["share"], curve["low"]) + line(curve["share"], curve["high"])[::-1]
        lines.append(
            {"name": plan["name"], "line": " ".join(line(curve["share"], curve["value"])), "band": " ".join(band)}
        )
    ticks = [{"at": height(value), "text": number(value, 1)} for value in _ticks(low, high)]
    return {"lines": lines, "ticks": ticks}


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two powers of ten, not too many."""
    every = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [value for value in every if low <= math.log10(value) <= high]
    if len(inside) > _MOST_TICKS:
        inside = [value for value in inside if round(math.log10(value), 9).is_integer()]
    return inside[:: math.ceil(len(inside) / _MOST_TICKS)] if inside else []


def _tracks(plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the evaluations are, in half-log-SNR and in per cent of the axis; what is infinite is at its edge."""
    every = [place for plan in plans for place in plan["half_log_snr"] if abs(place) < 20.0]
    low, high = (min(every), max(every)) if every else (-1.0, 1.0)
    width = max(high - low, 1e-9)
    return {
        "plans": [
            {
                "name": plan["name"],
                "title": plan["title"],
                "ticks": [
                    {
                        "at": 100.0 * (min(max(place, low), high) - low) / width,
                        "said": f"evaluation {k + 1}: λ = {number(place)}, t = {number(time)}",
                    }
                    for k, (place, time) in enumerate(zip(plan["half_log_snr"], plan["times"], strict=True))
                ],
            }
            for plan in plans
        ],
        "low": number(low, 2),
        "high": number(high, 2),
    }


def _rows(plans: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of the fitted plan beside those of the best preset, an evaluation in each row."""
    own, other = (next(plan for plan in plans if plan["name"] == name) for name in ("tuned", "selected"))
    rows = []
    for k, (mine, theirs) in enumerate(zip(own["rows"], other["rows"], strict=True)):
        points = [(each["times"][k], each["half_log_snr"][k]) for each in (own, other)]
        pairs = [*zip(*points, strict=True), *zip(mine, theirs, strict=True)]
        rows.append(
            {
                "number": k + 1,
                "cells": [{"own": number(a, 4), "other": number(b, 4)} for a, b in pairs],
                "empty": len(own["rows"]) - 1 - k,
            }
        )
    return rows


def _pictures(fit: Mapping[str, Any], pictures: Mapping[tuple[str, int], bytes]) -> dict[str, Any] | None:
    names = [("converged", "converged"), *((plan["name"], plan["title"]) for plan in fit["plans"])]
    found = [(title, pictures[name, fit["nfe"]]) for name, title in names if (name, fit["nfe"]) in pictures]
    if not found:
        return None
    width, height = png_size(found[0][1])
    return {
        "rows": [
            {"title": title, "source": f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"}
            for title, png in found
        ],
        "squares": max(1, round(width / height)),
        "pixels": height <= _PIXELS,
    }
