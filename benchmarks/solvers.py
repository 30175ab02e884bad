"""The table of solvers: what each claims, and what is measured of it. Writes benchmarks/results/solvers.json and docs/solvers.md.

    python -m benchmarks.solvers               measures every solver of the registry (about five minutes on one core)
    python -m benchmarks.solvers --render      measures nothing and writes the page from the figures
    python -m benchmarks.solvers NAME …        measures these and keeps the other figures
    python -m benchmarks.solvers --check       measures nothing; fails where registry, figures and page do not agree

What is measured, and how, is written in `dpmsolver.evaluation.convergence` and `.coupling`, and at the head of the page.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import dpmsolver as dpm
from benchmarks import velocity
from dpmsolver.evaluation import convergence, coupling
from dpmsolver.files import written_aside
from dpmsolver.models import Mixture
from dpmsolver.solvers import SOLVERS, Solver, make_plan

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "solvers.json"
PAGE = ROOT / "docs" / "solvers.md"
TOLERANCE = 0.15  # between an order and its slope, as in the tests
STEPS, BATCHES, SIZE = (16, 32, 64, 128), 250, 8000
# Standard errors of a difference of means: for it to be preferred, and for it to say anything.
FINEST, RESOLVED = 10.0, 3.0

Figures = dict[str, Any]


def entries(registry: Mapping[str, Solver] = SOLVERS) -> Iterator[tuple[str, Solver, dict[str, Any]]]:
    """What has a row: every solver of the registry, and DDIM with its noise, which is another solver."""
    for name, solver in registry.items():
        yield name, solver, {}
        if name == "ddim":
            yield "ddim, eta=1", solver, {"eta": 1.0}


def options_for(solver: Solver, options: Mapping[str, Any], model: Mixture) -> dict[str, Any]:
    """The options of an entry, and statistics of the problem's shape where the solver wants some."""
    return {**options, **({"statistics": convergence.some_statistics(model)} if solver.calibrated else {})}


def measure(solver: Solver, options: Mapping[str, Any]) -> Figures:
    """Every figure of one row."""
    gaussian = options_for(solver, options, convergence.GAUSSIAN)
    plan = make_plan(solver, convergence.SCHEDULE, convergence.affordable(solver, 24), **convergence.RUN, **gaussian)
    figures: Figures = {
        "order": solver.order,
        "stochastic": plan.stochastic,
        "registers": 1 + any(row.predict is not None for row in plan.rows) + plan.history + plan.noise_history,
        "gaussian": round(convergence.order_of_convergence(solver, "gaussian", **gaussian), 3),
    }
    if not plan.stochastic:
        mixture = options_for(solver, options, convergence.MIXTURE)
        return figures | {"mixture": round(convergence.order_of_convergence(solver, "mixture", **mixture), 3)}
    runs = coupling.coupled_runs(
        solver, steps=STEPS, batches=BATCHES, size=SIZE, **options_for(solver, options, coupling.BIMODAL)
    )
    weak = runs.resolved(FINEST)
    distances, noise = weak.distances()
    gap, gap_error = runs.gap()
    return figures | {
        "mixture": [round(value, 3) for value in weak.weak_order()],
        "mixture_steps": weak.steps,
        "mixture_distances": [float(f"{d:.3g}") for d in distances],
        "mixture_noise": [float(f"{d:.3g}") for d in noise],
        "gaussian_few_steps": few_steps(solver, weak.steps[-3:-1], gaussian),
        "mixture_gap": float(f"{gap:.3g}"),
        "mixture_gap_noise": float(f"{gap_error:.3g}"),
        "strong_gaussian": round(coupling.strong_order(solver, **gaussian), 3),
        "strong_mixture": [round(value, 3) for value in runs.strong_order()],
    }


def resolved(figures: Figures) -> bool:
    """Whether the slope on the mixture stands clear of the sampling noise; without noise in the solver there is none."""
    return not figures["stochastic"] or figures["mixture_distances"][-1] > RESOLVED * figures["mixture_noise"][-1]


def deviations(figures: Figures) -> list[str]:
    """The problems on which the slope is further from the order than the tolerance; not the mixture where noise hides the slope."""
    slopes = {"gaussian": figures["gaussian"]}
    if resolved(figures):
        slopes["mixture"] = figures["mixture"][0] if figures["stochastic"] else figures["mixture"]
    return [problem for problem, slope in slopes.items() if abs(slope - figures["order"]) > TOLERANCE]


def few_steps(solver: Solver, steps: Sequence[int], options: Mapping[str, Any]) -> float:
    """The exact slope on the Gaussian between the few steps that the mixture is measured with: how far those are from the limit."""
    budgets = [convergence.affordable(solver, n * solver.evaluations_per_step) for n in steps]
    return round(convergence.slope(convergence.law_errors(solver, budgets, **options), budgets), 3)


def problems(document: Mapping[str, Any], page: str, registry: Mapping[str, Solver] = SOLVERS) -> list[str]:
    """What keeps registry, figures and page from agreeing, a line each."""
    measured = document["solvers"]
    rows = {name: solver for name, solver, _ in entries(registry)}
    found = [
        f"{name} has no measured slope: python -m benchmarks.solvers {name}" for name in rows if name not in measured
    ]
    found += [f"{name} has figures and is not in the registry" for name in measured if name not in rows]
    found += [
        f"{name} claims order {solver.order} and was measured when it claimed {measured[name]['order']}"
        for name, solver in rows.items()
        if name in measured and measured[name]["order"] != solver.order
    ]
    if not found and page != render(document, registry):
        found.append(f"{PAGE.name} is not what the figures make: python -m benchmarks.solvers --render")
    return found


INTRODUCTION = """---
hide: [toc]
---

# Solvers

This page lists every solver of the registry with its claimed and its measured order. `make solvers` measures them and writes the page from
`benchmarks/results/solvers.json`; a test fails for a solver without a measured slope.

The columns:

- **prediction**: the quantity that its plans combine.
- **order**: the claimed order. With noise it is the weak order, that of the law of the result.
- **Gaussian**, **mixture**: the slope of the error over the network evaluations, in float64, on two distributions whose optimal network
  is known. A slope that is more than {tolerance} from the claim is in bold, and discussed below the tables.
- **evaluations**: the network evaluations of a step; a range if steps differ.
- **registers**: the number of arrays of the state's size that a run holds between two evaluations: the state, the next input if it is
  another array, the network outputs that later steps use, and the draws of noise. The memory of an evaluation itself is not counted.

Intervals are 95 % intervals. Figures without an interval are exact.
"""

VELOCITY = """\
`arc-2m` and `arc-3m` solve the ODE of normal data of standard deviation `sigma_data` exactly. RMS distance to the end of the exact
trajectory, by evaluations, beside other solvers on their better grids:

{tables}
On data of a broad spectrum `arc-2m` with `corrector=True` on the grid `quadratic` is ahead with 8 and 10 evaluations, on digits with 20;
its figures for 15 are the smallest on both, with intervals that overlap. With 5 evaluations digits have better solvers, and polynomials
in the angle (`variable="angle"`) extrapolate too far.
"""


def velocity_remark() -> str:
    """The tables of benchmarks/velocity.py, and what they say."""
    return VELOCITY.format(tables=velocity.text(json.loads(velocity.RESULTS.read_text())))


# What stands beneath the tables of a family.
REMARKS: dict[str, Callable[[], str]] = {
    "velocity": velocity_remark,
    "CFG++": lambda: (
        "The slopes are measured where the guided and the unconditional output are one, as in [Guidance](guidance.md): with two\n"
        "there is no limit of many steps.\n"
    ),
}

METHOD = """## How it is measured

All runs go from t = 0.7 to 0.05 on `LinearVP`, on a grid uniform in half-log-SNR, with all steps at full order. Over the whole range the
errors of both ends cancel and a slope says little. Multistep solvers of order 3 and more start with shorter steps, so that their start
does not hide their order (`evaluation.convergence.short_first_steps`): from a uniform grid they lose an order.

*Without noise.* Gaussian: four coordinates, against the exact trajectory. Mixture: three components in two dimensions, against a
Runge-Kutta method of order 8 at a tolerance of 1e-12. Root mean square errors of six states at {low} and {high} evaluations, or the next
budget that the solver can spend.

*With noise, weak order.* Gaussian: the 2-Wasserstein distance of the result to the exact law, which `Plan.wasserstein` follows through
the plan without drawing anything, at {law_low} and {law_high} evaluations. Mixture: two components in one dimension. Runs of {steps} steps
share their start and their Brownian path, {samples:,} samples each; what falls is the distance of their mean and second moment from those
of the run with twice as many steps. The slope is that between the two finest of these distances, of which the last must be {finest:g}
standard errors; one of fewer is left out in favour of coarser runs, and "below noise" stands where the last has not even {resolved:g}. The
interval is a bootstrap over {batches} batches. These are few steps, and a slope can still be on its way to its limit.

*With noise, strong order.* Runs of N and 2N steps along one Brownian path: the root mean square distance of their results. Gaussian: N = 64
and 128, exactly, as each result is a linear map of the path's normals. Mixture: the finest of the runs for the weak order. No strong
order is claimed. The path is read with the clock (alpha/sigma)^2, see `dpmsolver.sampling.noise`.

*Calibrated solvers* get smooth statistics that are no network's, and the true noise power: with the true statistics DPM-Solver-v3
makes no error on Gaussian data that could have a slope.

Measured by `{command}` with dpmsolver {dpmsolver}, NumPy {numpy}, SciPy {scipy}, Python {python}.
"""

ODE_HEAD = ("solver", "prediction", "order", "Gaussian", "mixture", "evaluations", "registers", "source")
SDE_HEAD = (
    "solver",
    "prediction",
    "weak order",
    "Gaussian",
    "mixture",
    "strong, Gaussian",
    "strong, mixture",
    "evaluations",
    "registers",
    "source",
)


def render(document: Mapping[str, Any], registry: Mapping[str, Solver] = SOLVERS) -> str:
    """The page: claims from the registry, figures from the document."""
    measured = document["solvers"]
    families: dict[str, list[tuple[str, Solver]]] = {}
    for name, solver, _ in entries(registry):
        families.setdefault(solver.family, []).append((name, solver))
    parts = [INTRODUCTION.format(tolerance=TOLERANCE)]
    for family, rows in families.items():
        parts.append(f"## {family[0].upper()}{family[1:]}\n")
        for stochastic, head in ((False, ODE_HEAD), (True, SDE_HEAD)):
            kept = [(name, solver) for name, solver in rows if measured[name]["stochastic"] == stochastic]
            if kept:
                lines = [head, ("-",) * len(head), *(row(name, solver, measured[name]) for name, solver in kept)]
                parts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
        if family in REMARKS:
            parts.append(REMARKS[family]())
    parts.append(departures(measured))
    details = document["versions"] | {
        "command": document["command"],
        "tolerance": TOLERANCE,
        "resolved": RESOLVED,
        "finest": FINEST,
    }
    (low, high), (law_low, law_high) = convergence.BUDGETS, convergence.LAW_BUDGETS
    steps = f"{', '.join(map(str, STEPS[:-1]))} and {STEPS[-1]}"
    parts.append(
        METHOD.format(
            low=low,
            high=high,
            law_low=law_low,
            law_high=law_high,
            steps=steps,
            samples=BATCHES * SIZE,
            batches=BATCHES,
            **details,
        )
    )
    return "\n".join(parts)


def row(name: str, solver: Solver, figures: Figures) -> tuple[str, ...]:
    """The cells of a solver."""
    away = deviations(figures)
    gaussian, mixture = slope_cell(figures["gaussian"]), slope_cell(figures["mixture"])
    if not resolved(figures):
        mixture = "below noise"
    cells = [f"**{c}**" if p in away else c for p, c in (("gaussian", gaussian), ("mixture", mixture))]
    if figures["stochastic"]:
        cells += [slope_cell(figures["strong_gaussian"]), slope_cell(figures["strong_mixture"])]
    # A vertical bar would end the cell; the number of a paper stays beside "arXiv".
    source = solver.source.replace("|", "\\|").replace("arXiv ", "arXiv&nbsp;")
    end = [evaluations(solver), str(figures["registers"]), source]
    return (f"`{name}`", solver.prediction, str(solver.order), *cells, *end)


def slope_cell(value: float | list[float]) -> str:
    """A slope, with its interval where it has one."""
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]" if isinstance(value, list) else f"{value:.2f}"


def evaluations(solver: Solver) -> str:
    """Evaluations per step: a number, or the range over the steps of ordinary budgets."""
    if solver.evaluations is None:
        return str(solver.evaluations_per_step)
    spent = {each for nfe in range(12, 25) for each in solver.spend(convergence.affordable(solver, nfe))}
    return str(min(spent)) if len(spent) == 1 else f"{min(spent)} to {max(spent)}"


def departures(measured: Mapping[str, Figures]) -> str:
    """The section on slopes that are not the claim."""
    lines = []
    for name, figures in measured.items():
        for problem in deviations(figures):
            limit = "" if figures["order"] else " Its runs converge, to another law than the data's."
            lines.append(
                f"- `{name}` claims {figures['order']}; on the {problem} {slope_cell(figures[problem])} is measured.{limit}\n"
            )
    text = (
        "".join(lines)
        or f"None: every slope that is resolved lies within {TOLERANCE} of its claim, or its interval does.\n"
    )
    return f"## Where the slope is not the claim\n\n{text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="measure these alone")
    parser.add_argument("--check", action="store_true", help="measure nothing, compare registry, figures and page")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the figures")
    arguments = parser.parse_args()
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"solvers": {}}
    if arguments.check:
        found = problems(document, PAGE.read_text())
        raise SystemExit("\n".join(found) if found else None)
    known = {name for name, _, _ in entries()}
    if set(arguments.names) - known:
        parser.error(f"not in the registry: {', '.join(sorted(set(arguments.names) - known))}")
    if not arguments.render:
        measured = {}
        for name, solver, options in entries():
            if arguments.names and name not in arguments.names:
                measured |= {name: document["solvers"][name]} if name in document["solvers"] else {}
                continue
            begin = time.perf_counter()
            measured[name] = measure(solver, options)
            print(f"{name}: {measured[name]} ({time.perf_counter() - begin:.1f} s)", flush=True)
        document = {
            "command": "python -m benchmarks.solvers",
            "versions": {
                "dpmsolver": dpm.__version__,
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "python": platform.python_version(),
            },
            "setup": {"steps": STEPS, "batches": BATCHES, "size": SIZE},
            "solvers": measured,
        }
        write(RESULTS, json.dumps(document, indent=1) + "\n")
    write(PAGE, render(document))


def write(path: Path, text: str) -> None:
    """The whole file, or the one that was there."""
    with written_aside(path) as aside:
        aside.write_text(text)


if __name__ == "__main__":
    main()
