"""Solver cost per network evaluation, ours against diffusers' DPMSolverMultistepScheduler, side by side in one run.

    python benchmarks/overhead.py [--threads 1] [--repeats 20] [--json FILE]

The network is free: it returns one tensor, made before, as its noise prediction. What is timed is everything else of a run of 20
evaluations of dpm++2m: conversions, linear combinations, bookkeeping. Both are timed in blocks of ten runs, in turn, so that a drift of
the machine's speed hits both; the figure is the ratio of medians. The last column counts what ours costs in copies of the state
(torch.Tensor.copy_).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler

import dpmsolver as dpm

NFE = 20
BLOCK = 10
SHAPES = {(1, 4, 64, 64): 1 / 6, (64, 3, 32, 32): 1 / 4, (16, 4, 128, 128): 1 / 4}


def ours(x_T: torch.Tensor, noise: torch.Tensor) -> Callable[[], torch.Tensor]:
    schedule = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
    denoiser = dpm.Denoiser(lambda x, t: noise, schedule, predicts="noise")
    plan = dpm.make_plan("dpm++2m", schedule, nfe=NFE)
    return lambda: dpm.sample(denoiser, x_T, plan=plan)


def theirs(x_T: torch.Tensor, noise: torch.Tensor) -> Callable[[], torch.Tensor]:
    scheduler = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", use_lu_lambdas=True)

    def run() -> torch.Tensor:
        scheduler.set_timesteps(NFE)
        x = x_T
        for t in scheduler.timesteps:
            x = scheduler.step(noise, t, x).prev_sample
        return x

    return run


def seconds(function: Callable[[], object]) -> float:
    """Per run, over a block of runs: what a run costs whose code and buffers are warm, for every contestant alike."""
    begin = time.perf_counter()
    for _ in range(BLOCK):
        function()
    return (time.perf_counter() - begin) / BLOCK


def measure(shape: tuple[int, ...], repeats: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    x_T, noise = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    target = torch.empty_like(x_T)
    contestants = {
        "ours": ours(x_T, noise),
        "diffusers": theirs(x_T, noise),
        "copy": lambda: [target.copy_(x_T) for _ in range(NFE)],
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for function in contestants.values():
        function()
    for _ in range(repeats):
        for name, function in contestants.items():
            times[name].append(seconds(function) / NFE)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    print(f"{'state':>18} {'ours':>10} {'diffusers':>10} {'ratio':>7} {'bar':>6} {'copies':>7}")
    for shape, bar in SHAPES.items():
        times = measure(shape, args.repeats)
        ratio, copies = times["ours"] / times["diffusers"], times["ours"] / times["copy"]
        results.append({"shape": shape, "bar": bar, "ratio": ratio, "copies": copies, **times})
        print(
            f"{shape!s:>18} {times['ours'] * 1e6:>7.1f} us {times['diffusers'] * 1e6:>7.1f} us "
            f"{'1/' + format(1 / ratio, '.1f'):>7} {'1/' + format(1 / bar, '.0f'):>6} {copies:>7.1f}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
