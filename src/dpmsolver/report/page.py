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
    """Write the results of a comparison as one self-contained page, `index.html`.

    Args:
        results: the measurements, in the form of `results.json`. Required are title, num, seed, command, versions, machine, date, measures
            (each with title and better: "lower" or "higher"; optionally unit and log) and curves (each with name and points; a point has
            nfe and measures). Optional are reference, yardsticks, thresholds, shape, testbed, network and intervals (a sentence about the
            meaning of the intervals), for a curve solver, skipped and grids, and for a point evaluations, num, seconds and missing (the
            reason for a missing measure, by its key).
        pictures: PNG bytes by (name of a curve, nfe), the first samples side by side, with the same seeds in all; and by ("reference",
            nfe), of which the largest nfe is shown. An empty mapping gives a page without pictures.
        out: an existing folder.

    Returns:
        The path of the page, `out / "index.html"`. An earlier page is replaced when the new one is complete.

    Raises:
        ValueError: results lack a required key, name an unknown measure or have no point; a picture belongs to no curve or is not a PNG; or
            `out` is not a folder.

    Examples:
        >>> from pathlib import Path
        >>> import tempfile
        >>> point = {"nfe": 10, "measures": {"error": {"value": 0.1, "low": 0.09, "high": 0.12}}}
        >>> results = {
        ...     "title": "digits", "num": 500, "seed": 0, "command": "dpmsolver compare",
        ...     "versions": {}, "machine": "",
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
