"""Where Adams steps in the velocity pay: their error by evaluations beside other solvers', on two networks, for docs/solvers.md.

    python -m benchmarks.velocity                  measures both networks (a quarter of an hour on one core), resumes where it was stopped
    python -m benchmarks.velocity digits           measures this one and keeps the other figures

Measured is the root mean square distance to the end of the exact trajectory, from the same noise for all, as `dpmsolver compare` does.
Written is benchmarks/results/velocity.json; `python -m benchmarks.render` puts its tables into the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.paper.common import compact, draw_with_bar, write_json
from benchmarks.paper.text import markdown, number
from dpmsolver.evaluation.comparison import Comparison
from dpmsolver.evaluation.results import summarise
from dpmsolver.evaluation.samplers import samplers_from_names
from dpmsolver.models.testbeds import load_testbed

RESULTS = Path(__file__).parent / "results" / "velocity.json"
COMMAND = "python -m benchmarks.velocity"


@dataclass(frozen=True)
class Case:
    """What is measured on one network."""

    solvers: tuple[str, ...]
    budgets: tuple[int, ...]
    num: int
    batch: int
    pretrained: bool = False  # then the classifier that Frechet distances take stays unused


CASES = {
    "cifar10-mixture": Case(
        (
            "dpm++2m@logsnr",
            "unipc-2@quadratic",
            "unipc-3@quadratic",
            "ipndm-3@quadratic",
            "arc-2m@quadratic",
            "arc-2m@quadratic:corrector=True",
        ),
        budgets=(8, 10, 15, 20),
        num=40,
        batch=4,
    ),
    "digits": Case(
        (
            "unipc-2@time",
            "ipndm-3@time",
            "arc-2m@quadratic",
            "arc-3m@quadratic",
            "arc-2m@quadratic:corrector=True",
            "arc-2m@time:variable=angle",
        ),
        budgets=(5, 8, 10, 15, 20),
        num=48,
        batch=16,
        pretrained=True,
    ),
}


def measure(model: str, folder: Path) -> dict[str, Any]:
    """The results of one network: how it was made, and for each solver its error by evaluations."""
    case = CASES[model]
    testbed = load_testbed(model, features="none" if case.pretrained else "auto")
    samplers = samplers_from_names(case.solvers)
    comparison = Comparison(testbed, samplers, case.budgets, num=case.num, folder=folder, batch=case.batch)
    draw_with_bar(comparison, Console(stderr=True))
    comparison.measures = tuple(each for each in comparison.measures if each.key == "error")
    results = compact(summarise(comparison, f"{COMMAND} {model}"))
    kept = {key: results[key] for key in ("command", "versions", "machine", "date", "num", "seed", "reference")}
    return kept | {
        "errors": {
            name: {str(point["nfe"]): point["measures"]["error"] for point in curve["points"]}
            for name, curve in zip(case.solvers, results["curves"], strict=True)
        }
    }


def text(document: Mapping[str, Any]) -> str:
    """The tables, and how they were made."""
    parts = []
    for model, results in document.items():
        budgets = list(next(iter(results["errors"].values())))
        rows = [[f"`{name}`", *map(number, errors.values())] for name, errors in results["errors"].items()]
        versions = ", ".join(f"{package} {version}" for package, version in results["versions"].items())
        made = f"{results['num']} samples, ± half of a 95 % interval, by `{results['command']}` on {results['date']} ({versions})."
        parts += [markdown([f"`{model}`", *budgets], rows), f"{made}\n"]
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"these alone: {', '.join(CASES)}")
    parser.add_argument("--out", type=Path, default=Path("runs") / "velocity", metavar="FOLDER", help="of the batches")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.models) - set(CASES)
    if unknown:
        parser.error(f"not measured here: {', '.join(sorted(unknown))}; accepted are {', '.join(CASES)}")
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for model in CASES:
        if not arguments.models or model in arguments.models:
            document[model] = measure(model, arguments.out / model)
            write_json({name: document[name] for name in CASES if name in document}, RESULTS)
            print(f"written to {RESULTS}", file=sys.stderr)
    print(text(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
