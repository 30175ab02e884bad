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
from dpmsolver.evaluation.results import WITHIN, Figure, figures
from dpmsolver.evaluation.samplers import Sampler, plan_sampler
from dpmsolver.evaluation.store import Arrays
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
    key, limits = _key(comparison), _batches(comparison, REFERENCE, comparison.ends[0])
    limit = figures(comparison, limits)[key] if key == "frechet" else None
    off = bias(comparison, limits) if limit is not None else 0.0
    found, largest = {}, 0.0
    for sampler in comparison.samplers:
        runs = [run for run in comparison.runs if run.sampler is sampler]
        measured = {
            run.setting: figures(comparison, _batches(comparison, sampler.name, run.setting)).get(key) for run in runs
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


def excess(figure: Figure, limit: Figure | None, off: float) -> Floats:
    """By how much the limit is missed, as a share of it; without one, the figure itself. The value first, then every resample."""
    own = np.concatenate([[figure.value], figure.drawn])
    if limit is None:
        return own
    whole = np.concatenate([[limit.value], limit.drawn])
    # So few samples that the distance is all bias tell nothing, and nothing is then within a share of it.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > off, (own - whole) / (whole - off), np.inf))


def from_which_on(budgets: Sequence[float], missed: Floats, within: float) -> Floats:
    """The smallest budget from which on all are within, in each column; infinite where the largest is not.

    Examples:
        >>> from_which_on([10, 20, 40], np.array([[0.02, 0.9], [0.2, 0.04], [0.01, 0.01]]), 0.05).tolist()
        [40.0, 20.0]
    """
    inside = np.logical_and.accumulate((missed <= within)[::-1], axis=0)[::-1]
    first = inside.argmax(axis=0)
    return np.where(inside.any(axis=0), np.asarray(budgets, dtype=np.float64)[first], np.inf)


def ratio(base: Floats, own: Floats, largest: float) -> dict[str, Any] | None:
    """DDIM's evaluations over a family's, with its interval. "at_least": DDIM was not there at its largest budget, which then counts.

    Examples:
        >>> ratio(np.array([100.0, 100.0, np.inf]), np.array([10.0, 20.0, 10.0]), 200.0)
        {'value': 10.0, 'low': 5.0, 'high': 20.0, 'at_least': False, 'high_at_least': True}
    """
    if not np.isfinite(own[0]):
        return None
    ratios = np.where(np.isfinite(base), base, largest) / own
    beyond = bool(np.mean(np.isinf(base)) > 0.025)
    return interval(ratios) | {"at_least": bool(np.isinf(base[0])), "high_at_least": beyond}


def interval(values: Floats) -> dict[str, Any]:
    """The value and 95 % of its resamples: bounds that occur among them, as budgets have no values between. None: not reached."""
    drawn = values[1:] if len(values) > 1 else values
    low, high = (float(v) for v in np.percentile(drawn, [2.5, 97.5], method="inverted_cdf"))
    return {"value": float(values[0]), "low": low, "high": high if np.isfinite(high) else None}


def _key(comparison: Comparison) -> str:
    return "frechet" if any(measure.key == "frechet" for measure in comparison.measures) else "error"


def _batches(comparison: Comparison, name: str, setting: float) -> list[Arrays]:
    there = (part for part in comparison.parts if comparison.store.has(name, setting, part))
    return [comparison.store.read(name, setting, part) for part in there]


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
