"""Quality against evaluations: the samplers that the paper compares, and the family that came after it.

    python -m benchmarks.paper.fid                                                                 (digits)
    python -m benchmarks.paper.fid --model mixture-16
    python -m benchmarks.paper.fid --model google/ddpm-cifar10-32 --features inception --statistics-data fid_stats.npz \\
        --nfe 5,6,8,10,12,15,20,50,200 --long 1000 --num 50000 --batch 500 --device cuda --bfloat16

DDPM, DDIM, Analytic-DDPM, Analytic-DDIM, PNDM, RK45, DPM-Solver-2, -3, -fast and adaptive 12 and 23; then DPM-Solver++(2M), UniPC, DEIS,
iPNDM, "auto", and the plans of --plans.
DDPM, DDIM and the Analytic ones take steps of equal time, as published, unless --first-grid says otherwise; all others their own grid.
A budget that a sampler cannot spend is left out, and the results say why. Adaptive samplers and RK45 have tolerances instead of budgets.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from benchmarks.paper.common import (
    chosen,
    compare,
    comparison_parser,
    network_statistics,
    publish,
    run_command,
    testbed_of,
    with_budgets,
)
from benchmarks.paper.text import tables
from dpmsolver.evaluation.samplers import Sampler, adaptive_sampler, plan_sampler, rk45_sampler, saved_sampler
from dpmsolver.grids import GRIDS
from dpmsolver.solvers.statistics import ModelStatistics

BUDGETS = (10, 12, 15, 20, 30, 50, 100)
FIRST_ORDER = ("ddpm", "analytic-ddpm", "ddim", "analytic-ddim")
PAPER = ("pndm", "dpm-2", "dpm-3", "dpm-fast")
LATER = ("dpm++2m", "unipc-2", "unipc-3", "deis-tab3", "ipndm-3", "auto")
CALIBRATED = ("analytic-ddpm", "analytic-ddim")


def samplers(arguments: argparse.Namespace) -> list[Sampler]:
    """Every curve, with its budgets or tolerances; the statistics of the calibrated ones come later (`calibrated`)."""
    grid = None if arguments.first_grid == "logsnr" else arguments.first_grid
    long = sorted({*arguments.nfe, *arguments.long})
    first = [plan_sampler(name, grid, name=_named(name, grid)) for name in FIRST_ORDER]
    paper, later = ([with_budgets(plan_sampler(name), arguments.nfe) for name in names] for names in (PAPER, LATER))
    free = [rk45_sampler(), adaptive_sampler(2), adaptive_sampler(3)]
    free = [replace(sampler, settings=sampler.settings[: arguments.tolerances]) for sampler in free if sampler.settings]
    later += [with_budgets(saved_sampler(folder), arguments.nfe) for folder in arguments.plans]
    return [*(with_budgets(sampler, long) for sampler in first), *paper, *free, *later]


def _named(solver: str, grid: str | None) -> str:
    return solver if grid is None else f"{solver} @ {grid}"


def calibrated(sampler: Sampler, statistics: ModelStatistics | None) -> Sampler:
    """A calibrated sampler with its statistics; any other as it is. Without statistics, what costs the same, to be counted and not run."""
    if sampler.solver not in CALIBRATED:
        return sampler
    if statistics is None:
        made = plan_sampler("ddim", sampler.grid, name=sampler.name)
    else:
        made = plan_sampler(sampler.solver, sampler.grid, name=sampler.name, statistics=statistics)
    return replace(made, settings=sampler.settings)


def command(arguments: argparse.Namespace) -> None:
    if arguments.first_grid not in GRIDS:
        raise ValueError(f"--first-grid {arguments.first_grid}: accepted are {', '.join(GRIDS)}")
    testbed = testbed_of(arguments)
    wanted = chosen(arguments, samplers(arguments))
    if any(sampler.solver in CALIBRATED for sampler in wanted):
        statistics = None if arguments.dry_run else network_statistics(arguments, testbed)
        wanted = [calibrated(sampler, statistics) for sampler in wanted]
    comparison = compare(arguments, testbed, wanted)
    if comparison is not None:
        print(tables(publish(arguments, comparison, "fid")))


def main(argv: list[str] | None = None) -> int:
    parser = comparison_parser(
        __doc__,
        nfe=(BUDGETS, "network evaluations"),
        long=((), "more of them for DDPM, DDIM and Analytic-DPM alone: the paper has 200,1000"),
    )
    parser.add_argument("--first-grid", default="time", metavar="NAME", help="of DDPM, DDIM and Analytic-DPM (time)")
    parser.add_argument(
        "--plans", action="append", default=[], metavar="FOLDER", help="of plan-*.json, such as dpmsolver tune writes"
    )
    parser.add_argument(
        "--tolerances", type=int, default=3, help="of RK45 and the adaptive samplers, the first so many"
    )
    return run_command(parser, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
