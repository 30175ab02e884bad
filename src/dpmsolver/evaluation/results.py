"""From what a comparison has stored to its figures: every measure with its interval, and the evaluations needed to reach the limit."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.evaluation.comparison import CHECKED, EXACT_DRAWS, HALVED, REFERENCE, Comparison
from dpmsolver.evaluation.frechet import frechet_bias
from dpmsolver.evaluation.jobs import Run
from dpmsolver.evaluation.measures import MEASURES
from dpmsolver.evaluation.store import Arrays
from dpmsolver.evaluation.thresholds import Figure, excess, from_which_on, ratio
from dpmsolver.files import written_aside

__all__ = ["figures", "limit_bias", "made_here", "shown_samples", "stored", "summarise", "write_results"]

WITHIN = (0.05, 0.1, 0.25)  # of the limit
BASELINE = "ddim"  # the speed-up is over its evaluations
_NO_TRAJECTORY = "adds noise: its samples have no exact trajectory to be near to"
_NO_LAW = "chooses its steps while it runs: the law of its result is not known"
_EXACT_LAW = "2-Wasserstein distance of the result's law to the data, exactly"
_PACKAGES = ("dpmsolver", "torch", "numpy", "scipy", "diffusers")

Floats = NDArray[np.float64]


def figures(comparison: Comparison, batches: Sequence[Arrays]) -> dict[str, Figure]:
    """Return every measure of the samples of a run, except those whose rows are missing."""
    found = {}
    for measure in comparison.measures:
        if batches and all(measure.keeps in batch for batch in batches):
            rows = np.concatenate([batch[measure.keeps] for batch in batches])
            drawn = measure.resampled(comparison.testbed, rows, comparison.resamples)
            found[measure.key] = Figure(measure.value(comparison.testbed, rows), drawn)
    return found


def _of_runs(comparison: Comparison) -> dict[tuple[str, float], dict[str, Figure]]:
    """The figures of every run that has any, several runs at once: resampling spends its time in NumPy, which lets other threads run."""

    def of(run: Run) -> dict[str, Figure]:
        batches = stored(comparison, run.sampler.name, run.setting)
        return {} if any("failed" in batch for batch in batches) else figures(comparison, batches)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(of, comparison.runs)
        return {(run.sampler.name, run.setting): each for run, each in zip(comparison.runs, found, strict=True)}


def limit_bias(comparison: Comparison) -> float:
    """Return the bias of the Frechet distance of the converged runs from the finite number of samples; 0 for too few samples."""
    assert comparison.testbed.feature_statistics is not None
    rows = np.concatenate([b[MEASURES["frechet"].keeps] for b in stored(comparison, REFERENCE, comparison.ends[0])])
    return frechet_bias(rows, *comparison.testbed.feature_statistics) if len(rows) >= 8 else 0.0


def summarise(comparison: Comparison, command: str = "") -> dict[str, Any]:
    """Return the results of what has been drawn so far, as plain data, the content of `results.json`.

    Incomplete runs count with the samples that they have. A run whose network output was not finite is skipped, with the error.
    """
    curves, measured = [], _of_runs(comparison)
    for sampler in comparison.samplers:
        runs = [run for run in comparison.runs if run.sampler is sampler]
        skipped = [{"nfe": setting, "why": why} for name, setting, why in comparison.skipped if name == sampler.name]
        points, grids = [], {}
        for run in runs:
            batches = stored(comparison, run.sampler.name, run.setting)
            failed = [str(batch["failed"]) for batch in batches if "failed" in batch]
            if failed or not batches:
                skipped.append({"nfe": run.setting, "why": failed[0] if failed else "not drawn yet"})
                continue
            points.append(_point(comparison, run, batches, measured[sampler.name, run.setting]))
            if sampler.plan is not None:
                grids[f"{run.setting:g}"] = _grid(comparison, run)
        curves.append(
            {
                "name": sampler.name,
                "solver": sampler.solver,
                "grid": sampler.grid,
                "stochastic": any(run.stochastic for run in runs),
                "points": points,
                "skipped": skipped,
                "grids": grids,
            }
        )
    reference, limits = _reference(comparison)
    testbed = comparison.testbed
    return {
        "title": testbed.name,
        "testbed": testbed.name,
        "shape": list(testbed.shape),
        "pictures": testbed.pictures,
        "num": comparison.num,
        "seed": comparison.seed,
        "bfloat16": testbed.bfloat16,
        "network": comparison.network,
        "command": command,
        **made_here(),
        "measures": _measured(comparison),
        "reference": reference,
        "yardsticks": _yardsticks(comparison),
        "curves": curves,
        "thresholds": _thresholds(comparison, curves, measured, limits),
    }


def stored(comparison: Comparison, name: str, setting: float) -> list[Arrays]:
    """Return the stored samples of a run, or of the reference, in order, batch by batch."""
    key = next((run.key for run in comparison.runs if (run.sampler.name, run.setting) == (name, setting)), name)
    reach = min(comparison.store.reach(key, setting), comparison.num)
    return comparison.store.read(key, setting, range(reach))


def _evaluations(batches: Sequence[Arrays]) -> float:
    return float(np.average([b["evaluations"] for b in batches], weights=[int(b["size"]) for b in batches]))


def _reported_nfe(run: Run, batches: Sequence[Arrays]) -> int:
    """The budget of a run, or what a sampler that chooses its own steps took."""
    return int(run.setting) if run.sampler.settings is None else round(_evaluations(batches))


def _point(comparison: Comparison, run: Run, batches: Sequence[Arrays], found: Mapping[str, Figure]) -> dict[str, Any]:
    exact = {key: figure.interval() for key, figure in found.items()}
    law = comparison.testbed.gaussian
    if law is not None and run.plan is not None:
        value = run.plan.wasserstein(law.means[0], law.variances[0])
        exact["wasserstein"] = {"value": value, "low": value, "high": value}
    return {
        "nfe": _reported_nfe(run, batches),
        "setting": run.setting,
        "evaluations": _evaluations(batches),
        "num": sum(int(batch["size"]) for batch in batches),
        "seconds": float(sum(batch["seconds"] * batch["share"] for batch in batches)),
        "measures": exact,
        "missing": {key: _why_missing(key, run) for key in _measured(comparison) if key not in exact},
    }


def _measured(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """What is measured, as the results describe it."""
    measures = {m.key: {"title": m.title, "better": m.better, "log": m.log} for m in comparison.measures}
    if comparison.testbed.gaussian is not None:
        measures["wasserstein"] = {"title": _EXACT_LAW, "better": "lower", "log": True}
    return measures


def _why_missing(key: str, run: Run) -> str:
    """Why a run has no figure for a measure."""
    if run.stochastic and key in MEASURES and MEASURES[key].keeps == MEASURES["error"].keeps:
        return _NO_TRAJECTORY
    return _NO_LAW if key == "wasserstein" else "not measured"


def _grid(comparison: Comparison, run: Run) -> dict[str, list[float]]:
    assert run.plan is not None
    rows = run.plan.rows
    lams = [row.point.half_log_snr for row in rows]
    return {"half_log_snr": [max(lam, -100.0) for lam in lams], "time": [row.point.time for row in rows]}


def _reference(comparison: Comparison) -> tuple[dict[str, Any], dict[str, Figure]]:
    """What is said of the converged runs, and their measures: the limit that solvers of the ODE go to."""
    said: dict[str, Any] = {
        "name": comparison.reference.description,
        "nfe": 0 if comparison.reference.exact else comparison.reference_nfe,
        "description": "the exact solution of the diffusion ODE"
        if comparison.reference.exact
        else "a run that is taken for converged; its own error is the distance to one with half the evaluations, "
        f"on the first {min(CHECKED, comparison.num)} samples",
        "own_error": None,
        "measures": {},
    }
    if not comparison.ends:
        return said, {}
    batches = stored(comparison, REFERENCE, comparison.ends[0])
    limits = figures(comparison, batches) if batches else {}
    said["measures"] = {key: figure.interval() for key, figure in limits.items()}
    if comparison.reference.exact:
        said["own_error"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    elif halved := stored(comparison, HALVED, comparison.ends[0]):
        errors = np.concatenate([batch["error"] for batch in halved])
        said["own_error"] = {
            "value": float(errors.mean()),
            "low": float(np.percentile(errors, 2.5)),
            "high": float(np.percentile(errors, 97.5)),
        }
    return said, limits


def _yardsticks(comparison: Comparison) -> dict[str, Any]:
    """How small a Frechet distance can be: that of as many exact draws where there are such, else that of a test set where it is known."""
    known = comparison.testbed.feature_yardstick
    drawn = stored(comparison, EXACT_DRAWS, float(comparison.num)) if comparison.has_floor else []
    if drawn:
        num = sum(int(batch["size"]) for batch in drawn)
        interval = figures(comparison, drawn)["frechet"].interval()
        return {"frechet": {**interval, "num": num, "title": f"{num:,} {EXACT_DRAWS} of the data"}}
    return {} if known is None else {"frechet": {"value": known, "title": "test set to training set"}}


def _thresholds(
    comparison: Comparison,
    curves: Sequence[Mapping[str, Any]],
    measured: Mapping[tuple[str, float], Mapping[str, Figure]],
    limits: Mapping[str, Figure],
) -> dict[str, Any] | None:
    """Evaluations from which on a sampler stays within x of the limit, and the speed-up over DDIM (on its best grid) that follows.

    Of the Frechet distance where there is one: above that of the converged ODE by at most the share x of it, less what the number of
    samples adds to it. Else of the error: an RMS of at most x.
    """
    key = "frechet" if "frechet" in limits else "error"
    if not any(key in found for found in measured.values()):
        return None
    limit, off = None, 0.0
    if key == "frechet":
        limit, off = limits[key], limit_bias(comparison)
    missed: dict[str, tuple[list[float], Floats]] = {}
    for curve in curves:
        points = [p for p in curve["points"] if key in measured[curve["name"], p["setting"]]]
        if points:
            points.sort(key=lambda point: point["evaluations"])
            values = np.array([excess(measured[curve["name"], p["setting"]][key], limit, off) for p in points])
            missed[curve["name"]] = [p["nfe"] for p in points], values
    baselines = [c["name"] for c in curves if c["solver"] == BASELINE and not c["stochastic"] and c["name"] in missed]
    rows: list[dict[str, Any]] = []
    for name, (budgets, values) in missed.items():
        needed = [from_which_on(budgets, values, x) for x in WITHIN]
        speedup: list[dict[str, Any] | None] = [None] * len(WITHIN)
        if baselines:
            largest = max(max(missed[each][0]) for each in baselines)
            bases = [np.min([from_which_on(*missed[each], x) for each in baselines], axis=0) for x in WITHIN]
            speedup = [ratio(base, own, largest) for base, own in zip(bases, needed, strict=True)]
        rows.append(
            {"name": name, "needed": [None if np.isinf(n[0]) else int(n[0]) for n in needed], "speedup": speedup}
        )
    return {"measure": key, "within": list(WITHIN), "bias": off, "baseline": BASELINE, "rows": rows}


def made_here() -> dict[str, Any]:
    """Return where and when a page was made: versions, machine and date."""
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    return {"versions": _versions(), "machine": machine, "date": date.today().isoformat()}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def shown_samples(comparison: Comparison) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Return the first samples of every run, (K, …), by (name of the curve, nfe); those of the converged run by ("reference", 0)."""
    shown = {}
    for run in comparison.runs:
        batches = [b for b in stored(comparison, run.sampler.name, run.setting) if "shown" in b]
        if batches:
            nfe = _reported_nfe(run, stored(comparison, run.sampler.name, run.setting))
            shown[run.sampler.name, nfe] = np.concatenate([batch["shown"] for batch in batches])
    if comparison.ends:
        batches = [b for b in stored(comparison, REFERENCE, comparison.ends[0]) if "shown" in b]
        if batches:
            shown[REFERENCE, 0] = np.concatenate([batch["shown"] for batch in batches])
    return shown


def write_results(results: Mapping[str, Any], folder: Path) -> None:
    """Write `results.json`, and the same figures as `results.csv` with one line for each run and measure."""
    with written_aside(folder / "results.json") as aside:
        aside.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    with written_aside(folder / "results.csv") as aside:
        aside.write_text(_csv(_lines(results)))


def _lines(results: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
    yield "name", "solver", "grid", "nfe", "evaluations", "num", "seconds", "measure", "value", "low", "high", "why"
    for curve in results["curves"]:
        head = (curve["name"], curve["solver"], curve["grid"] or "default")
        for point in curve["points"]:
            run = (*head, point["nfe"], point["evaluations"], point["num"], round(point["seconds"], 3))
            for key, interval in point["measures"].items():
                yield (*run, key, *(interval[k] for k in ("value", "low", "high")), "")
            for key, why in point["missing"].items():
                yield (*run, key, "", "", "", why)
        for skipped in curve["skipped"]:
            yield (*head, skipped["nfe"], "", "", "", "", "", "", "", skipped["why"])


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
