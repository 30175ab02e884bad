"""Solver cost per network evaluation, ours against other packages, side by side in one run.

    python -m benchmarks.overhead [--threads 1] [--repeats 20] [--json FILE]

The network is free: it returns one tensor, made before, as its noise prediction. What is timed is everything else of a run of 20
evaluations: conversions, linear combinations, noise, bookkeeping. A row "scheduler" has
both in a pipeline's loop, with set_timesteps. Contestants of a shape are timed in blocks of ten runs, in turn, so that
a drift of the machine's speed hits all of them; the figure is the ratio of medians. The last column counts what ours costs in copies of
the state (torch.Tensor.copy_).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

import dpmsolver as dpm
from benchmarks.peer_samplers.of_azula import azula
from benchmarks.peer_samplers.of_k_diffusion import k_diffusion
from dpmsolver.adapters.diffusers import PlanScheduler

NFE = 20
BLOCK = 10
SHAPES = ((1, 4, 64, 64), (64, 3, 32, 32), (16, 4, 128, 128))
BETAS = np.linspace(1e-4, 0.02, 1000)
Run = Callable[[], object]


def ours(solver: str, x_T: torch.Tensor, noise: torch.Tensor) -> Run:
    """Our run of a solver."""
    schedule = dpm.schedules.Discrete(betas=BETAS)
    denoiser = dpm.Denoiser(lambda x, t: noise, schedule, predicts="noise")
    plan = dpm.make_plan(solver, schedule, nfe=NFE)
    return lambda: dpm.sample(denoiser, x_T, plan=plan, generator=0)


def of_diffusers(name: str, x_T: torch.Tensor, noise: torch.Tensor, **config: Any) -> Run:
    """A scheduler's run, driven as its pipelines do."""
    scheduler = getattr(diffusers, name)(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **config)
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator} if "sde" in config.get("algorithm_type", "") else {}

    def run() -> torch.Tensor:
        scheduler.set_timesteps(NFE)
        x = x_T
        for t in scheduler.timesteps:
            x = scheduler.step(noise, t, x, **options).prev_sample
        return x

    return run


def in_pipeline(scheduler: Any, x_T: torch.Tensor, noise: torch.Tensor) -> Run:
    """The steps of a scheduler as pipelines of latents take them, which want the next sample alone."""

    def run() -> torch.Tensor:
        scheduler.set_timesteps(NFE)
        x = x_T
        for t in scheduler.timesteps:
            x = scheduler.step(noise, t, x, return_dict=False)[0]
        return x

    return run


def planned(x_T: torch.Tensor, noise: torch.Tensor) -> Run:
    """Our dpm++2m as the scheduler of a pipeline."""
    scheduler = PlanScheduler("dpm++2m", beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    return in_pipeline(scheduler, x_T, noise)


def unplanned(x_T: torch.Tensor, noise: torch.Tensor) -> Run:
    """diffusers' own in the same place."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", use_lu_lambdas=True
    )
    return in_pipeline(scheduler, x_T, noise)


def of_k_diffusion(function: str, x_T: torch.Tensor, noise: torch.Tensor) -> Run:
    """A sampler's run, on Karras' sigmas, without its progress bar."""
    sampling, _ = k_diffusion()
    sigmas = sampling.get_sigmas_karras(NFE, 0.01, 150.0)
    return lambda: getattr(sampling, function)(lambda x, sigma: noise, x_T, sigmas, disable=True)


def of_azula(name: str, x_T: torch.Tensor, noise: torch.Tensor, **options: Any) -> Run:
    """A sampler's run on azula's own cosine schedule."""
    sample, schedules, denoise = azula()

    class Free(denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedules.CosineSchedule()

        def forward(self, x_t: torch.Tensor, t: torch.Tensor, **kwargs: Any) -> Any:
            return denoise.DiracPosterior(noise)

    sampler = getattr(sample, name)(Free(), steps=NFE, silent=True, **options)
    return lambda: sampler(x_T)


@dataclass(frozen=True)
class Pair:
    """Ours and another package's form of one solver, and the largest ratio of their costs that is wanted on each shape."""

    solver: str
    title: str
    theirs: Callable[[torch.Tensor, torch.Tensor], Run]
    bars: tuple[float, ...] = (1.0, 1.0, 1.0)
    mine: Callable[[torch.Tensor, torch.Tensor], Run] | None = None  # by default a run of `dpm.sample`

    @property
    def ours(self) -> str:
        """What our contestant is called."""
        return self.solver if self.mine is None else f"{self.solver} scheduler"


PAIRS = (
    Pair(
        "dpm++2m",
        "diffusers DPMSolverMultistep",
        lambda x, n: of_diffusers("DPMSolverMultistepScheduler", x, n, use_lu_lambdas=True),
        (1 / 5.5, 1 / 4, 1 / 6),
    ),
    Pair("dpm++2m", "diffusers DPMSolverMultistep step", unplanned, (1 / 3, 1.0, 1 / 4), planned),
    Pair(
        "dpm++2m-sde",
        "diffusers DPMSolverMultistep sde",
        lambda x, n: of_diffusers(
            "DPMSolverMultistepScheduler", x, n, use_lu_lambdas=True, algorithm_type="sde-dpmsolver++"
        ),
        (0.9, 0.9, 0.9),
    ),
    Pair("unipc-2", "diffusers UniPCMultistep", lambda x, n: of_diffusers("UniPCMultistepScheduler", x, n)),
    Pair("dpm++2m", "k-diffusion dpmpp_2m", lambda x, n: of_k_diffusion("sample_dpmpp_2m", x, n)),
    Pair("dpm++2m", "azula zEAB 2", lambda x, n: of_azula("zEABSampler", x, n, order=2)),
)


def seconds(function: Run) -> float:
    """Per run, over a block of runs: what a run costs whose code and buffers are warm, for every contestant alike."""
    begin = time.perf_counter()
    for _ in range(BLOCK):
        function()
    return (time.perf_counter() - begin) / BLOCK


def measure(shape: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """A row for each pair: seconds per evaluation of both and of a copy, and their ratio."""
    generator = torch.Generator().manual_seed(0)
    x_T, noise = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    target = torch.empty_like(x_T)
    contestants: dict[str, Run] = {"copy": lambda: [target.copy_(x_T) for _ in range(NFE)]}
    for pair in PAIRS:
        mine = ours(pair.solver, x_T, noise) if pair.mine is None else pair.mine(x_T, noise)
        contestants.setdefault(pair.ours, mine)
        contestants[pair.title] = pair.theirs(x_T, noise)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.no_grad():
        for function in contestants.values():
            function()
        for _ in range(repeats):
            for name, function in contestants.items():
                times[name].append(seconds(function) / NFE)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        {
            "shape": shape,
            "solver": pair.ours,
            "peer": pair.title,
            "ours": medians[pair.ours],
            "theirs": medians[pair.title],
            "ratio": medians[pair.ours] / medians[pair.title],
            "bar": bar,
            "copies": medians[pair.ours] / medians["copy"],
        }
        for pair, bar in zip(
            PAIRS, (pair.bars[SHAPES.index(shape)] if shape in SHAPES else 1.0 for pair in PAIRS), strict=True
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    print(f"{'state':>18} {'ours':>17} {'us':>8}  {'theirs':<33} {'us':>8} {'ratio':>6} {'bar':>6} {'copies':>7}")
    for shape in SHAPES:
        for row in measure(shape, args.repeats):
            results.append(row)
            print(
                f"{shape!s:>18} {row['solver']:>17} {row['ours'] * 1e6:>8.1f}  {row['peer']:<33} {row['theirs'] * 1e6:>8.1f} "
                f"{row['ratio']:>6.2f} {row['bar']:>6.2f} {row['copies']:>7.1f}",
                flush=True,
            )
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
