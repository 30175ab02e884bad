"""The abstract's claim: how many evaluations DDIM needs to come as near to the limit as DPM-Solver, over those of DPM-Solver.

    python -m benchmarks.paper.speedup                                                             (digits)
    python -m benchmarks.paper.speedup --model google/ddpm-cifar10-32 --features inception --statistics-data fid_stats.npz \\
        --num 50000 --batch 500 --device cuda --bfloat16

The limit is the converged ODE. A sampler has reached it from the smallest tested budget on from which it stays there, and a family
needs what the best of its members needs. What "there" means can be read in three ways (`READINGS`), and the answers differ:

above    its Frechet distance exceeds the limit's by at most 5 % (10 % and 25 % are shown as well): pictures as good as the limit's.
either   it differs from the limit's by at most so much, up or down. A coarse run may be better than the limit by accident, as its errors
         and the network's can cancel; then the first reading counts it as there, and this one does not.
error    the RMS distance to the end of the exact trajectory from the same noise is at most 0.1, 0.05, 0.02 or 0.01: the same pictures.

The paper claims 4 to 16, by FID. The interval comes from drawing the samples anew, the same ones for every run: each time budgets, best
members and their ratio are found afresh. A finite number of samples makes every Frechet distance too large, the limit's too; that part is
taken off the limit before 5 % of it are taken, for it would make them more than 5 %. Where DDIM is not there at its largest budget the
ratio is a bound from below. DDIM is taken on every grid of --baseline-grids, and the best of them counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper.common import chosen, compare, comparison_parser, publish, run_command, testbed_of, with_budgets
from benchmarks.paper.text import markdown
from dpmsolver.evaluation.comparison import REFERENCE, Comparison
from dpmsolver.evaluation.results import WITHIN, figures, limit_bias, stored
from dpmsolver.evaluation.samplers import Sampler, plan_sampler
from dpmsolver.evaluation.thresholds import Figure, excess, from_which_on, interval, ratio
from dpmsolver.grids import GRIDS

BASELINE = (10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200)
BUDGETS = (6, 8, 9, 10, 12, 14, 15, 18, 20, 24, 30)
FAMILIES = {
    "DPM-Solver": ("dpm-2", "dpm-3", "dpm-fast"),
    "its successors": ("dpm++2m", "unipc-2", "unipc-3", "deis-tab3"),
    "the default": ("auto",),
}

Floats = NDArray[np.float64]
# By curve: for each share (rows) the evaluations, of the figures and of every resample (columns).
Needed = Mapping[str, Floats]
Measured = Mapping[tuple[str, float], Mapping[str, Figure]]


@dataclass(frozen=True)
class Reading:
    """What counts as having reached the limit: of which measure how much may be missed, above the limit or on either side of it."""

    name: str
    measure: str
    title: str
    within: tuple[float, ...]
    either: bool = False


READINGS = (
    Reading("above", "frechet", "Frechet distance at most so much above the limit's", WITHIN),
    Reading("either", "frechet", "Frechet distance within so much of the limit's, above or below", WITHIN, either=True),
    Reading(
        "error", "error", "RMS distance to the end of the exact trajectory at most so much", (0.1, 0.05, 0.02, 0.01)
    ),
)


def samplers(arguments: argparse.Namespace) -> list[Sampler]:
    """DDIM on each of its grids, and the members of the families."""
    for grid in arguments.baseline_grids:
        if grid not in GRIDS:
            raise ValueError(f"--baseline-grids {grid}: accepted are {', '.join(GRIDS)}")
    base = [plan_sampler("ddim", None if grid == "logsnr" else grid) for grid in arguments.baseline_grids]
    own = [plan_sampler(name) for members in FAMILIES.values() for name in members]
    return [with_budgets(s, arguments.baseline) for s in base] + [with_budgets(s, arguments.nfe) for s in own]


def claims(comparison: Comparison) -> list[dict[str, Any]]:
    """For each reading and each family: the evaluations that it needs, its best member, and the ratio of DDIM's to them."""
    measured = {
        (run.sampler.name, run.setting): figures(comparison, stored(comparison, run.sampler.name, run.setting))
        for run in comparison.runs
    }
    limits = stored(comparison, REFERENCE, comparison.ends[0])
    limit = figures(comparison, limits).get("frechet")
    off = 0.0 if limit is None else limit_bias(comparison)
    measures = {key for found in measured.values() for key in found}
    return [
        _claim(comparison, reading, measured, *((limit, off) if reading.measure == "frechet" else (None, 0.0)))
        for reading in READINGS
        if reading.measure in measures
    ]


def _claim(
    comparison: Comparison, reading: Reading, measured: Measured, limit: Figure | None, off: float
) -> dict[str, Any]:
    found, largest = _needed(comparison, reading, measured, limit, off)
    base_names = [s.name for s in comparison.samplers if s.solver == "ddim" and s.name in found]
    rows = []
    if base_names:
        base = np.min([found[name] for name in base_names], axis=0)
        for family, members in {"DDIM": base_names, **FAMILIES}.items():
            there = [name for name in members if name in found]
            if there:
                rows.append(_row(family, {name: found[name] for name in there}, base, largest))
    said = {"reading": reading.name, "measure": reading.measure, "title": reading.title, "within": list(reading.within)}
    return {**said, "baseline": base_names, "rows": rows}


def _row(family: str, members: Needed, base: Floats, largest: float) -> dict[str, Any]:
    own = np.min([*members.values()], axis=0)
    best = [min(members, key=lambda name: members[name][k, 0]) for k in range(len(own))]
    reached = np.isfinite(own[:, 0])
    return {
        "family": family,
        "best": [name if ok else None for name, ok in zip(best, reached, strict=True)],
        "needed": [interval(each) if ok else None for each, ok in zip(own, reached, strict=True)],
        "speedup": [None if family == "DDIM" else ratio(b, o, largest) for b, o in zip(base, own, strict=True)],
    }


def _needed(
    comparison: Comparison, reading: Reading, measured: Measured, limit: Figure | None, off: float
) -> tuple[dict[str, Floats], float]:
    """What every curve needs, and the baseline's largest budget."""
    found, largest = {}, 0.0
    for sampler in comparison.samplers:
        budgets = sorted(run.setting for run in comparison.runs if run.sampler is sampler)
        budgets = [nfe for nfe in budgets if reading.measure in measured[sampler.name, nfe]]
        if not budgets:
            continue
        missed = np.array([excess(measured[sampler.name, nfe][reading.measure], limit, off) for nfe in budgets])
        missed = np.abs(missed) if reading.either else missed
        found[sampler.name] = np.stack([from_which_on(budgets, missed, x) for x in reading.within])
        largest = max(largest, *budgets) if sampler.solver == "ddim" else largest
    return found, largest


def text(found: Sequence[Mapping[str, Any]]) -> str:
    """The tables of the claims, in Markdown."""
    return "\n".join(f"{each['title']}:\n\n{_table(each)}" for each in found)


def _table(found: Mapping[str, Any]) -> str:
    rows = []
    for row in found["rows"]:
        cells = []
        for need, best, over in zip(row["needed"], row["best"], row["speedup"], strict=True):
            cells.append("not reached" if need is None else f"{need['value']:.0f} (`{best}`){_over(over)}")
        rows.append([row["family"], *cells])
    return markdown(["", *(_share(found, k) for k in range(len(found["within"])))], rows)


def short(found: Sequence[Mapping[str, Any]], shares: Mapping[str, float]) -> str:
    """A row for each reading, at one share of each: what every family needs, and its speed-up over DDIM."""
    families = [row["family"] for row in found[0]["rows"]]
    rows = []
    for each in found:
        k = each["within"].index(shares[each["reading"]])
        needed = {row["family"]: row["needed"][k] for row in each["rows"]}
        over = {row["family"]: _over(row["speedup"][k]) for row in each["rows"]}
        cells = ["not reached" if needed[f] is None else f"{needed[f]['value']:.0f}{over[f]}" for f in families]
        rows.append([each["title"].replace("so much", _share(each, k)), *cells])
    return markdown(["", *families], rows)


def _share(found: Mapping[str, Any], k: int) -> str:
    x = found["within"][k]
    return f"{x:g}" if found["measure"] == "error" else f"{100 * x:g} %"


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
        print(text(publish(arguments, comparison, "speedup", claims=claims(comparison))["claims"]))


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
