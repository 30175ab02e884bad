"""The page: a template, its style sheet and its script (files beside this one), filled in and written as one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dpmsolver.report import content
from dpmsolver.report.checks import check_pictures, check_results
from dpmsolver.report.templates import asset, write_page

__all__ = ["write_report"]

_INTERVALS = (
    "The bands of the chart and the figures in square brackets are confidence intervals by bootstrap over the samples."
)


def write_report(results: Mapping[str, Any], pictures: Mapping[tuple[str, int], bytes], out: Path) -> Path:
    """Write results of a comparison as one `index.html` that needs nothing else, not even a network.

    Args:
        results: what was measured, as `results.json` has it. Needed are title, num, seed, command, versions, machine, date,
            measures (each with title and better: "lower" or "higher"; unit and log may follow) and curves (each with name
            and points; a point has nfe and measures). reference, yardsticks, thresholds, shape, testbed, network and intervals (a
            sentence that says what the intervals mean) are shown where they are given, and of a curve solver, skipped and
            grids, of a point evaluations, num, seconds and missing (why a measure is not there, by its key).
        pictures: PNG bytes by (name of a curve, nfe): the first samples side by side, the same seeds everywhere; and
            ("reference", nfe), of which the largest nfe is shown. Empty: the page has no such section.
        out: a folder that exists.

    Returns:
        The path of the page, `out / "index.html"`. It replaces an earlier one only when it is whole.

    Raises:
        ValueError: results lack a key that is needed, name a measure that they do not have or hold no point; a picture of
            no curve, or one that is not a PNG; `out` is not a folder.

    Examples:
        >>> import tempfile
        >>> point = {"nfe": 10, "measures": {"error": {"value": 0.1, "low": 0.09, "high": 0.12}}}
        >>> results = {
        ...     "title": "digits", "num": 500, "seed": 0, "command": "dpmsolver compare", "versions": {}, "machine": "",
        ...     "date": "2026-11-23", "measures": {"error": {"title": "RMS distance", "better": "lower"}},
        ...     "curves": [{"name": "dpm++2m", "points": [point]}],
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(results, {}, Path(folder))
        ...     page.name, "[0.0900, 0.120]" in page.read_text(encoding="utf-8")
        ('index.html', True)
    """
    check_results(results)
    check_pictures(pictures, results)
    drawn = content.drawn(results, pictures)
    runs = content.table(results)
    has_intervals = any(cell["interval"] for run in runs for cell in run["cells"])
    return write_page(
        Path(out) / "index.html",
        "page.html",
        "page.css",
        results=results,
        summary=content.summary(results),
        thresholds=content.threshold_table(results),
        runs=runs,
        intervals=results.get("intervals") or (_INTERVALS if has_intervals else None),
        absent=content.absent_figures(results),
        skipped=content.skipped_runs(results),
        reference=content.reference_sentence(results),
        drawn=drawn,
        has_pictures=bool(pictures),
        has_grids=any(curve["grids"] for curve in drawn["curves"]),
        script=Markup(asset("page.js")),
        chart=_chart(),
    )


def _chart() -> Markup:
    """Chart.js with its licence, as its authors ask; without the line that sends developer tools to another file."""
    lines = asset("vendor/chart.umd.min.js").splitlines()
    code = "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL="))
    return Markup(f"/*\n{asset('vendor/LICENSES.txt')}*/\n{code}")
