"""Fit a plan to a network, save it, and sample with the file.

    python tuned_plan.py plan.json [--nfe 5] [--effort seconds]

The network here is the exact one of ten Gaussians in 16 dimensions. Yours goes where `denoiser` is made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import dpmsolver as dpm
from dpmsolver.models.testbeds import load_testbed


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--nfe", type=int, default=5)
    parser.add_argument("--effort", default="seconds")
    given = parser.parse_args(arguments)
    testbed = load_testbed("mixture-16")
    denoiser = testbed.denoiser(None)
    effort = int(given.effort) if given.effort.isdigit() else given.effort
    tuned = dpm.tune(denoiser, testbed.initial_noise(range(160), 0), given.nfe, effort=effort)
    given.out.write_text(tuned.plan.to_json())

    # Noises that the fit has not seen, against a run of 200 evaluations.
    x_T = testbed.initial_noise(range(1000, 1200), 0)
    plan = dpm.Plan.from_json(given.out.read_text())
    exact = dpm.sample(denoiser, x_T, nfe=200, solver="dpm++3m", end=plan.end.time)
    runs = {"auto": dpm.sample(denoiser, x_T, nfe=given.nfe), "fitted": dpm.sample(denoiser, x_T, plan=plan)}
    errors = {name: float(np.sqrt(np.square(x - exact).mean(axis=1)).mean()) for name, x in runs.items()}
    print(f"kept: {tuned.report.winner}; mean error: " + ", ".join(f"{name} {e:.4f}" for name, e in errors.items()))
    return errors


if __name__ == "__main__":
    main()
