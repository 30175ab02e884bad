"""The abstract's claim: how many evaluations DDIM needs to come as near to the limit as DPM-Solver, over those of DPM-Solver.

    python -m benchmarks.paper.speedup                                                             (digits)
    python -m benchmarks.paper.speedup --model google/ddpm-cifar10-32 --features inception --statistics-data fid_stats.npz \\
        --num 50000 --batch 500 --device cuda --bfloat16

The limit is the converged ODE: a sampler has reached it from the smallest tested budget on from which its Frechet distance exceeds the
limit's by at most 5 % (10 % and 25 % are shown as well). A family needs what the best of its members needs. The paper claims 4 to 16.

The interval comes from drawing the samples anew, the same ones for every run: each time budgets, best members and their ratio are found
afresh. A finite number of samples makes every Frechet distance too large, the limit's too; that part is taken off the limit before 5 % of
it are taken, for it would make them more than 5 %. Where DDIM is not there at its largest budget the ratio is a bound from below. DDIM is
taken on every grid of --baseline-grids, and the best of them counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper.common import chosen, compare, comparison_parser, publish, run_command, testbed_of, with_budgets
from benchmarks.paper.text import markdown
from dpmsolver.evaluation.comparison import REFERENCE, Comparison
from dpmsolver.evaluation.intervals import resampled_rows
from dpmsolver.evaluation.results import WITHIN, figures, stored
from dpmsolver.evaluation.samplers import Sampler, plan_sampler
from dpmsolver.evaluation.store import Arrays
from dpmsolver.evaluation.thresholds import excess, from_which_on, interval, ratio
from dpmsolver.grids import GRIDS

BASELINE = (10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200)
RESAMPLES = 40  # for the part of a distance that the number of samples makes
BUDGETS = (6, 8, 9, 10, 12, 14, 15, 18, 20, 24, 30)
FAMILIES = {
    "DPM-Solver": ("dpm-2", "dpm-3", "dpm-fast"),
    "its successors": ("dpm++2m", "unipc-2", "unipc-3", "deis-tab3"),
}

Floats = NDArray[np.float64]
Needed = Mapping[
    str, Floats
]  # by curve: for each of WITHIN (rows) the evaluations, of the figures and of every resample (columns)


def samplers(arguments: argparse.Namespace) -> list[Sampler]:
    """DDIM on each of its grids, and the members of the families."""
    for grid in arguments.baseline_grids:
        if grid not in GRIDS:
            raise ValueError(f"--baseline-grids {grid}: accepted are {', '.join(GRIDS)}")
    base = [plan_sampler("ddim", None if grid == "logsnr" else grid) for grid in arguments.baseline_grids]
    own = [plan_sampler(name) for members in FAMILIES.values() for name in members]
    return [with_budgets(s, arguments.baseline) for s in base] + [with_budgets(s, arguments.nfe) for s in own]


def claim(comparison: Comparison) -> dict[str, Any]:
    """For each family: the evaluations that it needs, its best member, and the ratio of DDIM's to them."""
    found, largest = needed(comparison)
    base_names = [s.name for s in comparison.samplers if s.solver == "ddim" and s.name in found]
    rows = []
    if base_names:
        base = np.min([found[name] for name in base_names], axis=0)
        for family, members in {"DDIM": base_names, **FAMILIES}.items():
            there = [name for name in members if name in found]
            if there:
                rows.append(_row(family, {name: found[name] for name in there}, base, largest))
    return {"measure": _key(comparison), "within": list(WITHIN), "baseline": base_names, "rows": rows}


def _row(family: str, members: Needed, base: Floats, largest: float) -> dict[str, Any]:
    own = np.min([*members.values()], axis=0)
    best = [min(members, key=lambda name: members[name][k, 0]) for k in range(len(WITHIN))]
    reached = np.isfinite(own[:, 0])
    return {
        "family": family,
        "best": [name if ok else None for name, ok in zip(best, reached, strict=True)],
        "needed": [interval(each) if ok else None for each, ok in zip(own, reached, strict=True)],
        "speedup": [None if family == "DDIM" else ratio(b, o, largest) for b, o in zip(base, own, strict=True)],
    }


def needed(comparison: Comparison) -> tuple[dict[str, Floats], float]:
    """What every curve needs, and the baseline's largest budget."""
    key, limits = _key(comparison), stored(comparison, REFERENCE, comparison.ends[0])
    limit = figures(comparison, limits)[key] if key == "frechet" else None
    off = bias(comparison, limits) if limit is not None else 0.0
    found, largest = {}, 0.0
    for sampler in comparison.samplers:
        runs = [run for run in comparison.runs if run.sampler is sampler]
        measured = {
            run.setting: figures(comparison, stored(comparison, sampler.name, run.setting)).get(key) for run in runs
        }
        missed = {nfe: excess(figure, limit, off) for nfe, figure in sorted(measured.items()) if figure is not None}
        if missed:
            found[sampler.name] = np.stack([from_which_on([*missed], np.array([*missed.values()]), x) for x in WITHIN])
            largest = max(largest, *missed) if sampler.solver == "ddim" else largest
    return found, largest


def bias(comparison: Comparison, batches: Sequence[Arrays]) -> float:
    """What the finite number of samples adds to the limit's Frechet distance, by how much drawing them anew adds once more."""
    (measure,) = (m for m in comparison.measures if m.key == "frechet")
    rows = np.concatenate([batch[measure.keeps] for batch in batches])
    drawn = [measure.value(comparison.testbed, rows[again]) for again in resampled_rows(len(rows), RESAMPLES)]
    return float(np.mean(drawn) - measure.value(comparison.testbed, rows))


def _key(comparison: Comparison) -> str:
    return "frechet" if any(measure.key == "frechet" for measure in comparison.measures) else "error"


def text(found: Mapping[str, Any]) -> str:
    """The table of a claim, in Markdown."""
    head = ["", *(f"within {x:.0%}" if found["measure"] == "frechet" else f"RMS error {x:g}" for x in found["within"])]
    rows = []
    for row in found["rows"]:
        cells = []
        for need, best, over in zip(row["needed"], row["best"], row["speedup"], strict=True):
            cells.append("not reached" if need is None else f"{need['value']:.0f} (`{best}`)" + _over(over))
        rows.append([row["family"], *cells])
    return markdown(head, rows)


def _over(over: Mapping[str, Any] | None) -> str:
    if over is None:
        return ""
    least, more = "at least " if over["at_least"] else "", "" if not over["high_at_least"] else " or more"
    high = "more" if over["high"] is None else f"{over['high']:.1f}{more}"
    return f", {least}{over['value']:.1f}x [{over['low']:.1f}, {high}]"


def command(arguments: argparse.Namespace) -> None:
    testbed = testbed_of(arguments)
    comparison = compare(arguments, testbed, chosen(arguments, samplers(arguments)))
    if comparison is not None:
        print(text(publish(arguments, comparison, "speedup", claim=claim(comparison))["claim"]))


def main(argv: list[str] | None = None) -> int:
    parser = comparison_parser(__doc__, nfe=(BUDGETS, "budgets of the solvers"), baseline=(BASELINE, "budgets of DDIM"))
    parser.add_argument(
        "--baseline-grids",
        type=lambda value: tuple(part.strip() for part in value.split(",") if part.strip()),
        default=("time", "logsnr"),
        metavar="LIST",
        help="grids of DDIM, of which the best counts (time,logsnr; the paper has time and quadratic)",
    )
    return run_command(parser, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
