"""A small comparison that nobody measured: three curves, four budgets, pictures of 4 x 4 pixels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from dpmsolver.report import strip

NFES = (5, 10, 20, 50)
SQUARES = 4


def _figure(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.9 * value, "high": 1.2 * value}


def _curve(name: str, solver: str, factor: float, left_out: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "solver": solver,
        "grid": None,
        "stochastic": False,
        "points": [
            {
                "nfe": nfe,
                "evaluations": nfe,
                "num": 40,
                "seconds": 0.1 * nfe,
                "measures": {"frechet": _figure(0.25 + factor / nfe), "accuracy": _figure(0.7 - factor / (9 * nfe))},
            }
            for nfe in NFES
            if nfe not in left_out
        ],
        "skipped": [{"nfe": nfe, "why": f"it cannot spend {nfe}"} for nfe in left_out],
        "grids": {
            str(nfe): {"half_log_snr": np.linspace(-5, 4, nfe).tolist(), "time": np.linspace(1, 0.1, nfe).tolist()}
            for nfe in NFES
            if nfe not in left_out
        },
    }


_RESULTS: dict[str, Any] = {
    "title": "digits",
    "testbed": "digits",
    "shape": [1, 4, 4],
    "pictures": True,
    "num": 40,
    "seed": 7,
    "command": "dpmsolver compare digits --nfe 5,10,20,50",
    "versions": {"dpmsolver": "0.1.0", "numpy": "2.4.6"},
    "machine": "two cores",
    "date": "2026-11-23",
    "measures": {
        "frechet": {"title": "Frechet distance", "unit": "", "better": "lower", "log": True},
        "accuracy": {"title": "class accuracy", "unit": "", "better": "higher", "log": False},
    },
    "reference": {
        "name": "dpm++3m-exact",
        "nfe": 100,
        "description": "the same noise",
        "own_error": _figure(1e-4),
        "measures": {"frechet": _figure(0.25), "accuracy": _figure(0.7)},
    },
    "yardsticks": {"frechet": {"value": 0.052, "title": "test set to training set"}},
    "curves": [_curve("ddim", "ddim", 1.0), _curve("unipc-2", "unipc-2", 0.1), _curve("dpm-3", "dpm-3", 0.5, (5, 10))],
    "thresholds": {
        "measure": "frechet",
        "within": [0.05, 0.1],
        "bias": 0.031,
        "rows": [
            {"name": "ddim", "needed": [None, 50], "speedup": [None, {"value": 1.0}]},
            {"name": "unipc-2", "needed": [10, 5], "speedup": [None, {"value": 10.0}]},
            {"name": "dpm-3", "needed": [50, 20], "speedup": [None, {"value": 2.5}]},
        ],
    },
}


@pytest.fixture
def results() -> dict[str, Any]:
    return copy.deepcopy(_RESULTS)


@pytest.fixture
def pictures() -> dict[tuple[str, int], bytes]:
    """One strip for each run, no two alike."""
    draws = np.random.default_rng(0)
    runs = [(curve["name"], point["nfe"]) for curve in _RESULTS["curves"] for point in curve["points"]]
    return {run: strip(draws.uniform(-1, 1, (SQUARES, 1, 4, 4))) for run in [*runs, ("reference", 100)]}
