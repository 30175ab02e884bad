"""Page: the results of fits as plain data, and as one HTML page beside their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.evaluation.intervals import resampled_rows
from dpmsolver.evaluation.results import made_here
from dpmsolver.plans.plan import Plan
from dpmsolver.schedules import Floats
from dpmsolver.tuning.misses import STATISTICS
from dpmsolver.tuning.outcome import Kept, Report, Tuned
from dpmsolver.tuning.table import Table

__all__ = ["results_of", "write_tuned"]

_RESAMPLES = 500
_MOST = 80  # points of a curve
_ERROR = (
    "The error of a sample is its root mean square distance to where the converged trajectory of the same noise ends."
)


def results_of(fits: Mapping[int, Tuned] | Sequence[Tuned], title: str = "a network", **said: Any) -> dict[str, Any]:
    """Return the results of fits as plain data, which `report.fits.write_fits` shows.

    Args:
        fits: what `tune` returns for several budgets, or results of one budget each.
        title: of the page. said: command, testbed, shape, network, guidance, seed and error, a sentence that says what an error is.
    """
    every = list(fits.values() if isinstance(fits, Mapping) else fits)
    made = {"title": title, "command": "dpm.tune(…)", "error": _ERROR, "seed": "not said", **made_here()}
    options = next((dict(each.plans["tuned"].options) for each in every), {})
    named = {name: options.get(name, "not said") for name in ("network", "guidance")}
    return {**made, **named, **said, "fits": [_fit(each) for each in every]}


def write_tuned(
    fits: Mapping[int, Tuned] | Sequence[Tuned],
    out: str | Path,
    title: str = "a network",
    samples: Mapping[tuple[str, int], NDArray[np.float32]] | None = None,
    **said: Any,
) -> Path:
    """Write `tune.html` into a folder that exists, and return its path. It needs the extra `report`.

    Args:
        samples: by ("auto", "selected", "tuned" or "converged", nfe), of the same noises: pictures (K, C, H, W) in [-1, 1], or
            points (n, 2).
        fits, title, said: as in `results_of`.
    """
    from dpmsolver.report import pictures_of
    from dpmsolver.report.fits import write_fits

    shown = {(name if name != "converged" else "reference", nfe): each for (name, nfe), each in (samples or {}).items()}
    pictures = {
        (name if name != "reference" else "converged", nfe): each for (name, nfe), each in pictures_of(shown).items()
    }
    return write_fits(results_of(fits, title, **said), pictures, Path(out))


def _fit(tuned: Tuned) -> dict[str, Any]:
    report = tuned.report
    titles: dict[Kept, str] = {"auto": "auto", "selected": f"best preset: {report.selected}", "tuned": "fitted"}
    return {
        "nfe": report.nfe,
        "winner": report.winner,
        "selected": report.selected,
        "measures": list(STATISTICS),
        "gains": {name: vars(report.gain(name)) for name in ("selected", "auto")},
        "plans": [_plan(name, title, tuned.plans[name], report) for name, title in titles.items()],
        "stages": [vars(stage) for stage in report.stages],
        "noises": list(report.noises),
        "teacher_nfe": report.teacher_nfe,
        "teacher_error": report.teacher_error,
        "evaluations": report.evaluations,
        "seconds": report.seconds,
    }


def _plan(name: Kept, title: str, plan: Plan, report: Report) -> dict[str, Any]:
    errors = report.errors[name]
    drawn = errors[np.stack(list(resampled_rows(len(errors), _RESAMPLES)))]
    shares = (np.arange(min(len(errors), _MOST)) + 0.5) / min(len(errors), _MOST)
    value = np.quantile(errors, shares)
    low, high = np.quantile(np.quantile(drawn, shares, axis=1), [0.025, 0.975], axis=1)
    table = Table.of(plan)
    return {
        "name": name,
        "title": title,
        "summary": {key: _interval(of(errors), of(drawn)) for key, of in STATISTICS.items()},
        "curve": {
            "share": shares.tolist(),
            "value": value.tolist(),
            "low": np.minimum(low, value).tolist(),
            "high": np.maximum(high, value).tolist(),
        },
        "times": [point.time for point in table.points[:-1]],
        "half_log_snr": [max(point.half_log_snr, -100.0) for point in table.points[:-1]],
        "rows": [row.tolist() for row in table.rows],
    }


def _interval(value: Any, drawn: Floats) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(value), "low": min(float(low), float(value)), "high": max(float(high), float(value))}
