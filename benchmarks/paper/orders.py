"""The order of convergence, in closed form: the error of a trajectory against the evaluations that it took.

    python -m benchmarks.paper.orders [--json FILE]          (half a minute on one core)

DPM-Solver-1, -2 and -3 against Runge-Kutta of order 1 (Euler) to 4, in time and in lambda (the paper's baselines): float64, LinearVP.

`curves`: errors against evaluations on a Gaussian and on a mixture whose optimal networks are known (`dpmsolver.evaluation.convergence`),
and their slopes; t from 0.7 to 0.05, where the error of one end does not cancel that of the other, so that the slope is the order.

`by_variance`: the error of Runge-Kutta over that of DPM-Solver of the same order, at the same evaluations, on Gaussian data of one
coordinate, mean 0.5, whose trajectories have a closed form: for narrow and for broad data, over the same range (`inside`) and over the one
that samples are drawn with, t from 1 to 1e-3 (`whole`). Which of the two is ahead depends on the variance more than on anything else.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import dpmsolver as dpm
from benchmarks.paper.common import about_this_run, run_command, write_json
from dpmsolver.evaluation import convergence
from dpmsolver.models.closed_form import Gaussian, Mixture
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers import SOLVERS, Solver

RESULTS = Path("benchmarks/results/paper-orders.json")
BUDGETS = (12, 24, 36, 48, 72, 96, 144, 192, 288)  # every order from 1 to 4 can spend them
VARIANCES = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0)
VARIANCE_BUDGETS = (12, 24, 48, 96)
RANGES = {"inside": convergence.RUN, "whole": {"start": 1.0, "end": 1e-3}}
ORDERS = (1, 2, 3, 4)


def euler(schedule: NoiseSchedule, times: Floats, *, variable: str) -> Plan:
    """Euler's method on the whole diffusion ODE, in time or in lambda: what the registry's rk2 … rk4 have as their order 1.

    dx/ds = (d log alpha/ds) x - sigma (d lambda/ds) eps. Source: DPM-Solver, arXiv 2206.00927, eq. 2.7 and 3.1.
    """
    points = [Point.at(schedule, t) for t in times]
    rows = []
    for s, t in pairwise(points):
        log_alpha, half_log_snr = schedule.rates(s.time)
        per_time = t.time - s.time if variable == "time" else (t.half_log_snr - s.half_log_snr) / half_log_snr
        step = Combination(1.0 + per_time * log_alpha, (-per_time * s.sigma * half_log_snr,))
        rows.append(Row(s, advance=step))
    return Plan("noise", tuple(rows), points[-1], keeps_marginals=False)


def methods() -> dict[str, tuple[Solver, str]]:
    """Every curve: a solver and its grid. Runge-Kutta methods take equal steps in their own variable, DPM-Solver in lambda."""
    found = {f"dpm-{order}": (SOLVERS[f"dpm-{order}"], "logsnr") for order in (1, 2, 3)}
    for short, variable, grid in (("t", "time", "time"), ("lambda", "half_log_snr", "logsnr")):
        first = Solver(
            name=f"rk1-{short}",
            build=partial(euler, variable=variable),
            prediction="noise",
            order=1,
            description=f"Euler in {short}",
            source="Lu et al. 2022, arXiv 2206.00927, eq. 2.7 and 3.1",
            finite=True,
        )
        found[first.name] = first, grid
        found |= {f"rk{order}-{short}": (SOLVERS[f"rk{order}-{short}"], grid) for order in ORDERS[1:]}
    return found


def errors(
    method: tuple[Solver, str],
    data: Mixture,
    x: Floats,
    exact: Floats,
    budgets: Sequence[int],
    run: Mapping[str, float],
) -> list[float]:
    """Root mean square errors of the final states, one for each budget."""
    solver, grid = method
    options: dict[str, Any] = {**run, **convergence.full_order(solver), "solver": solver, "grid": grid}
    results = (dpm.sample(data.denoiser(convergence.SCHEDULE), x, nfe=nfe, **options) for nfe in budgets)
    return [float(np.sqrt(np.mean((result - exact) ** 2))) for result in results]


def curve(method: tuple[Solver, str]) -> dict[str, Any]:
    """The errors of a method on both problems, and the slopes between the two budgets of the tests."""
    chosen = [BUDGETS.index(nfe) for nfe in convergence.BUDGETS]
    found = {
        name: errors(
            method, data, convergence.start_states(name), convergence.reference(name), BUDGETS, convergence.RUN
        )
        for name, data in convergence.PROBLEMS.items()
    }
    slopes = {name: convergence.slope([e[i] for i in chosen], convergence.BUDGETS) for name, e in found.items()}
    return {
        "order": method[0].order,
        "grid": method[1],
        "slopes": {name: round(slope, 3) for name, slope in slopes.items()},
        "errors": {name: _short(e) for name, e in found.items()},
    }


def by_variance(run: Mapping[str, float]) -> dict[str, list[list[float]]]:
    """For each Runge-Kutta method of order 1 to 3: its errors over DPM-Solver's, a row per variance, a column per budget."""
    x, table = np.random.default_rng(0).standard_normal((50, 1)), methods()
    rows: dict[str, list[list[float]]] = {}
    for variance in VARIANCES:
        data = Gaussian(mean=[0.5], variance=[variance])
        exact = np.asarray(data.trajectory(convergence.SCHEDULE, x, run["start"], run["end"]))
        found = {name: errors(method, data, x, exact, VARIANCE_BUDGETS, run) for name, method in table.items()}
        for name in found:
            own = found.get(f"dpm-{name[2]}")
            if name.startswith("rk") and own is not None:
                rows.setdefault(name, []).append(_short([rk / e for rk, e in zip(found[name], own, strict=True)]))
    return rows


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def measure(progress: Callable[[str], object]) -> dict[str, Any]:
    """All figures."""
    curves = {}
    for name, method in methods().items():
        progress(name)
        curves[name] = curve(method)
    progress("by variance")
    return {
        "budgets": list(BUDGETS),
        "slope_budgets": list(convergence.BUDGETS),
        "curves": curves,
        "variances": list(VARIANCES),
        "variance_budgets": list(VARIANCE_BUDGETS),
        "by_variance": {name: by_variance(run) for name, run in RANGES.items()},
    }


def command(arguments: argparse.Namespace) -> None:
    document = about_this_run("orders", arguments.argv) | measure(lambda name: print(name, flush=True))
    write_json(document, arguments.json)
    for name, curve in document["curves"].items():
        slopes = ", ".join(f"{problem} {slope:.2f}" for problem, slope in curve["slopes"].items())
        print(f"{name}: order {curve['order']}, measured: {slopes}")
    print(f"written to {arguments.json}; the page and its figure: python -m benchmarks.render")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help=f"the figures ({RESULTS})")
    return run_command(parser, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
