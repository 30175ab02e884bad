"""Quality: Frechet distance and class accuracy of fitted plans, beside the best untuned preset's and the converged runs'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.tuning.cases import Case, Judges, fitted, known, read, update
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.models.testbeds import Testbed
from dpmsolver.tuning.selecting import presets
from dpmsolver.tuning.table import Table

__all__ = ["measure"]

NFES = (5, 8)
NUM = {"cifar10": 200}  # judges, where 2,000 cost too much


def measure(case: Case, nfes: Sequence[int] = ()) -> None:
    """Measure a case whose testbed has features, at some budgets or all, and write its figures down."""
    gain = read("gain")["cases"].get(case.name, {"tuned": {}})
    figures = known("quality", case.name, {"samples": NUM.get(case.testbed, 2000)})
    left = [
        nfe for nfe in nfes or NFES if str(nfe) not in figures and {str(nfe)} <= {*gain["tuned"]} & {*gain["untuned"]}
    ]
    if not left:
        return
    judges = Judges(case, figures["samples"])
    if "converged" not in figures:
        figures["converged"] = _of(judges.testbed, [lesson.end for _, lesson in judges.taught(judges.end(5))])
    for nfe in left:
        best = gain["untuned"][str(nfe)]["ours"]["name"]
        preset = next(p for p in presets(judges.denoiser, nfe, None) if p.name == best)
        tables = {"tuned": Table.of(fitted(case, nfe).plan), "untuned": preset.table}
        figures[str(nfe)] = {
            name: _of(judges.testbed, [table.run(part) for part in judges.parts]) for name, table in tables.items()
        }
        figures[str(nfe)]["preset"] = best
        update("quality", case.name, figures)
        print(case.name, nfe, figures, flush=True)


def _of(testbed: Testbed, states: Sequence[Any]) -> dict[str, float]:
    import torch

    assert testbed.features is not None
    assert testbed.feature_statistics is not None
    x = torch.cat(list(states)).to(torch.float32)
    found = {"frechet": float(f"{frechet_distance_to(testbed.features(x), *testbed.feature_statistics):.4g}")}
    if testbed.classify is not None and testbed.num_classes:
        wanted = np.arange(len(x)) % testbed.num_classes  # the first judge's number is a multiple of it
        found["accuracy"] = float(np.mean(np.asarray(testbed.classify(x)) == wanted))
    return found
