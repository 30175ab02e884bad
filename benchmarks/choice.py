"""The evidence behind `solver="auto"`: which solver on which grid comes nearest to the exact trajectory, for each budget.

    python -m benchmarks.choice                  measures what is not measured yet (about half an hour on one core, most of it digits)
    python -m benchmarks.choice --only EDM       measures these testbeds, by a regular expression
    python -m benchmarks.choice --more           measures solvers and grids that were added since
    python -m benchmarks.choice --render         measures nothing and writes the page from the figures
    python -m benchmarks.choice --check          measures nothing; fails where figures, choice and page do not agree

The figure of a solver is its root mean square distance to the end of the converged trajectory, over the smallest that DDIM has on any of
the grids. Testbeds are closed forms under a discrete schedule, under EDM's and under a flow's, and the embedded digits, the one network,
which counts as much as all closed forms of its schedule together. Written are benchmarks/results/choice.json and docs/choosing.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dpmsolver as dpm
from dpmsolver.evaluation.distances import trajectory_error
from dpmsolver.evaluation.measures import host
from dpmsolver.files import written_aside
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.solvers.auto import recommended

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "choice.json", ROOT / "docs" / "choosing.md"
NFES = (5, 6, 8, 10, 12, 15, 20)
SOLVERS = (
    "ddim",
    "dpm++2m",
    "dpm++3m",
    "dpm-2m",
    "dpm-3m",
    "unipc-2",
    "unipc-3",
    "unipc-2-noise",
    "unipc-3-noise",
    "unipc-2:variant=bh1",
    "unipc-3:variant=bh1",
    "deis-tab2",
    "deis-tab3",
    "deis-logrho2",
    "ipndm-3",
    "ipndm-4",
)
GRIDS = ("logsnr", "quadratic", "karras", "time", "beta")
LAWS = ("gaussian", "mixture-16", "mixture-2", "empirical", "mixture-3072")
OTHERS = {"EDM": dpm.schedules.EDM(), "Flow": dpm.schedules.Flow()}
REFERENCE, REFERENCE_NFE, SEED = "unipc-3", 200, 0
# A choice may be worse than the best by this factor: one solver for neighbouring budgets is worth something.
NEAR = 1.3
LISTED = 5


def testbeds() -> dict[str, tuple[str, int]]:
    """Name -> (kind of schedule, samples)."""
    found = {"digits": ("Discrete", 24)}
    for law, (schedule, _) in itertools.product(LAWS, [("Discrete", None), *OTHERS.items()]):
        if schedule == "Discrete" or law != "mixture-3072":
            found[law if schedule == "Discrete" else f"{law} {schedule}"] = (
                schedule,
                16 if law == "mixture-3072" else 100,
            )
    return found


def load(name: str) -> Testbed:
    """A testbed, its law under another schedule where the name says so."""
    law, _, schedule = name.partition(" ")
    return load_testbed(law, schedule=OTHERS[schedule] if schedule else None)


def measure(name: str, num: int, known: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Budget -> "solver grid" -> error; those that are known already are taken over."""
    testbed, part = load(name), range(num)
    denoiser, x_T = testbed.denoiser(testbed.labels(part)), testbed.initial_noise(part, SEED)
    ends = {nfe: dpm.make_plan("ddim", testbed.schedule, nfe).end.time for nfe in NFES}
    references = {
        end: dpm.sample(denoiser, x_T, nfe=REFERENCE_NFE, solver=REFERENCE, grid="logsnr", end=end)
        for end in {*ends.values()}
    }
    found: dict[str, dict[str, float]] = {}
    for nfe in NFES:
        errors = found[str(nfe)] = dict(known.get(str(nfe), {}))
        for said, grid in itertools.product(SOLVERS, GRIDS):
            if f"{said} {grid}" in errors:
                continue
            try:
                plan = dpm.make_plan(said, testbed.schedule, nfe, grid, end=ends[nfe])
            except dpm.PlanError:  # a solver or a grid that does not reach sigma = 0, or that needs times up to 1
                continue
            x = dpm.sample(denoiser, x_T, plan=plan)
            error = float(trajectory_error(host(x), host(references[ends[nfe]])).mean())
            errors[f"{said} {grid}"] = float(f"{error:.4g}")
        print(name, nfe, sorted((e, k) for k, e in errors.items())[:3], flush=True)
    return found


def scores(document: Mapping[str, Any], schedule: str, nfe: int) -> list[tuple[float, str, list[float]]]:
    """(score, "solver grid", the error on each testbed in units of DDIM's), best first."""
    names = [name for name, (kind, _) in testbeds().items() if kind == schedule and name in document["errors"]]
    errors = [document["errors"][name][str(nfe)] for name in names]
    units = [min(error for key, error in each.items() if key.startswith("ddim ")) for each in errors]
    weights = [len(names) - 1.0 if name == "digits" else 1.0 for name in names]
    common = set.intersection(*({*each} for each in errors))
    ranked = []
    for key in common:
        relative = [each[key] / unit for each, unit in zip(errors, units, strict=True)]
        ranked.append((float(np.average(relative, weights=weights)), key, relative))
    return sorted(ranked)


def schedules() -> dict[str, dpm.schedules.NoiseSchedule]:
    return {"Discrete": load_testbed("gaussian").schedule, **OTHERS}


def deviations(document: Mapping[str, Any]) -> Iterator[str]:
    """Where the library's choice is not what the figures say."""
    for (name, schedule), nfe in itertools.product(schedules().items(), NFES):
        ranked = scores(document, name, nfe)
        chosen = " ".join(recommended(schedule, nfe))
        score = next((score for score, key, _ in ranked if key == chosen), np.inf)
        if score > NEAR * ranked[0][0]:
            yield f"{name}, {nfe} evaluations: {chosen} has {score:.3f}, {ranked[0][1]} has {ranked[0][0]:.3f}"


def render(document: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        _HEAD.format(
            seconds=document["seconds"],
            solvers=len(SOLVERS),
            grids=len(GRIDS),
            listed=LISTED,
            **document["versions"],
        )
    ]
    for (name, schedule), nfe in itertools.product(schedules().items(), NFES):
        if nfe == NFES[0]:
            names = [each for each, (kind, _) in testbeds().items() if kind == name]
            columns = ["evaluations", "solver", "grid", "score", *names]
            parts += [f"\n## {_TITLES[name]}\n\n", _line(columns), _line(["-"] * len(columns))]
        ranked, chosen = scores(document, name, nfe), " ".join(recommended(schedule, nfe))
        listed = ranked[:LISTED] + [each for each in ranked[LISTED:] if each[1] in (chosen, "ddim logsnr")]
        for score, key, relative in listed:
            solver, grid = key.split(" ")
            mark = "**" if key == chosen else ""
            parts.append(
                _line(
                    [
                        str(nfe),
                        f"{mark}{solver}{mark}",
                        grid,
                        f"{mark}{score:.3f}{mark}",
                        *(f"{r:.2f}" for r in relative),
                    ]
                )
            )
    return "".join(parts)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


_TITLES = {
    "Discrete": "Variance preserving: 1000 linear betas",
    "EDM": "Variance exploding: EDM",
    "Flow": "Rectified flow",
}
_HEAD = """# Choosing a solver

`dpm.sample(denoiser, x_T, nfe=10)` takes `solver="auto"`: the solver and the grid in bold below, for the kind of the model's schedule and
the budget. A grid of your own replaces the one that it would take. `dpm.make_plan("auto", schedule, nfe=10).solver` says what it takes.

If you want the best for *your* network, measure it: `dpmsolver compare` needs minutes. No solver wins everywhere. What these
measurements say:

- The grid matters as much as the solver. On variance-preserving schedules and on flows, steps that are uniform in the root of time
  ("quadratic") are better with few evaluations than the usual ones, uniform in log-SNR, which put half of the evaluations where the
  picture is all but finished. On EDM's schedule log-SNR is good.
- Below 10 evaluations no third order is needed, and on the network the closed forms' winner, iPNDM, is not the best.
- The best and the second best are close, and change places from one budget to the next. The choice stays within a factor of 1.3 of the best
  score of each budget.

<!-- Generated by benchmarks/choice.py: do not edit the tables. -->

Figures: the root mean square distance to the end of the exact trajectory from the same noise, over DDIM's on the grid that suits it best
(1: no better than DDIM, 0.1: ten times nearer). The score is the mean over the testbeds; `digits`, the one network, counts as
much as the closed forms of its schedule together. {solvers} solvers on {grids} grids were measured, the {listed} best are shown, and DDIM.
Made by `python -m benchmarks.choice` in {seconds} s with dpmsolver {dpmsolver} and torch {torch}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="measure these testbeds anew")
    parser.add_argument(
        "--more", action="store_true", help="measure what the testbeds lack: solvers and grids added since"
    )
    parser.add_argument("--render", action="store_true", help="write the page from the figures")
    parser.add_argument("--check", action="store_true", help="fail where figures, choice and page do not agree")
    args = parser.parse_args()
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"errors": {}, "seconds": 0}
    if args.check:
        problems = [*deviations(document)]
        if PAGE.read_text() != render(document):
            problems.append("docs/choosing.md is not what the figures say: python -m benchmarks.choice --render")
        raise SystemExit("\n".join(problems) or 0)
    if not args.render:
        import torch

        for name, (_, num) in testbeds().items():
            anew = args.only and re.search(args.only, name)
            if name in document["errors"] and not (anew or args.more):
                continue
            begin = time.perf_counter()
            document["errors"][name] = measure(name, num, {} if anew else document["errors"].get(name, {}))
            document["seconds"] += round(time.perf_counter() - begin)
            document["versions"] = {"dpmsolver": dpm.__version__, "torch": torch.__version__}
            document["command"] = "python -m benchmarks.choice"
            with written_aside(RESULTS) as aside:
                aside.write_text(json.dumps(document, indent=1) + "\n")
    with written_aside(PAGE) as aside:
        aside.write_text(render(document))
    print("\n".join(deviations(document)) or "the choice is what the figures say")


if __name__ == "__main__":
    main()
