"""Table 1 of the paper: DPM-Solver-2 and -3 against Runge-Kutta of the same order, in time and in lambda.

    python -m benchmarks.paper.table1                                                              (digits)
    python -m benchmarks.paper.table1 --model gaussian
    python -m benchmarks.paper.table1 --model google/ddpm-cifar10-32 --features inception --statistics-data fid_stats.npz \\
        --num 50000 --batch 500 --device cuda --bfloat16

The paper has FID on CIFAR-10 with a network of continuous time; here it is the Frechet distance in the features that are at hand.
Runge-Kutta takes equal steps in its own variable, DPM-Solver in lambda; all of them end at the same time.
"""

from __future__ import annotations

import argparse

from benchmarks.paper.common import chosen, compare, comparison_parser, publish, run_command, testbed_of, with_budgets
from benchmarks.paper.text import tables
from dpmsolver.evaluation.samplers import Sampler, plan_sampler

BUDGETS = (12, 18, 24, 30, 36, 42, 48)


def samplers() -> list[Sampler]:
    """The six rows, in the paper's order."""
    rows = []
    for order in (2, 3):
        rows += [
            plan_sampler(f"rk{order}-t", "time", name=f"rk{order}-t"),
            plan_sampler(f"rk{order}-lambda", "logsnr", name=f"rk{order}-lambda"),
            plan_sampler(f"dpm-{order}"),
        ]
    return rows


def command(arguments: argparse.Namespace) -> None:
    testbed = testbed_of(arguments)
    wanted = [with_budgets(sampler, arguments.nfe) for sampler in chosen(arguments, samplers())]
    comparison = compare(arguments, testbed, wanted)
    if comparison is not None:
        print(tables(publish(arguments, comparison, "table1")))


def main(argv: list[str] | None = None) -> int:
    parser = comparison_parser(__doc__, nfe=(BUDGETS, "network evaluations"))
    return run_command(parser, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
