"""Frechet distances of the choice and of some other candidates on two networks of digits."""

from __future__ import annotations

import dpmsolver as dpm
from benchmarks.choice.measuring import REFERENCE
from benchmarks.choice.ranking import chosen
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.models.testbeds import load_testbed

__all__ = ["FRECHET", "FRECHET_NFES", "FRECHET_NUM", "OTHERS", "frechet"]

# The networks with the kinds of their schedules, the number of samples, the budgets, and the candidates beside the choice.
FRECHET = {"digits": "variance preserving", "digits-flow": "no signal at the start"}
FRECHET_NUM, FRECHET_NFES = 200, (5, 8, 10, 15)
OTHERS = ("ddim@time", "dpm++2m@logsnr", "unipc-2@quadratic", "unipc-3@time", "dpm-3m@karras", "deis-tab2@beta")


def frechet(name: str) -> dict[str, dict[str, float]]:
    """Return the Frechet distances to the data by budget and candidate, with "converged" for the reference."""
    testbed, part = load_testbed(name), range(FRECHET_NUM)
    denoiser, x_T = testbed.denoiser(testbed.labels(part)), testbed.initial_noise(part, 2)
    assert testbed.features is not None
    assert testbed.feature_statistics is not None

    def distance_of(candidate: str, nfe: int) -> float:
        solver, grid = candidate.split("@")
        x = dpm.sample(denoiser, x_T, nfe=nfe, solver=solver, grid=grid)
        return float(f"{frechet_distance_to(testbed.features(x), *testbed.feature_statistics):.3g}")  # type: ignore[misc]

    choices = {nfe: chosen(FRECHET[name], nfe) for nfe in FRECHET_NFES}
    found = {
        str(nfe): {key: distance_of(key, nfe) for key in dict.fromkeys((choices[nfe], *OTHERS))} for nfe in choices
    }
    found["converged"] = {f"{REFERENCE}@logsnr": distance_of(f"{REFERENCE}@logsnr", 60)}
    print(name, found, flush=True)
    return found
