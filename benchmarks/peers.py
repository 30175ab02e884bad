"""Ours against every sampler of diffusers, k-diffusion and azula: one network, one noise, counted evaluations: each claim is a ratio.

    python -m benchmarks.peers                                                              (digits, 500 samples, into runs/peers-digits)
    python -m benchmarks.peers --testbed mixture-16 --num 2000 --json benchmarks/results/peers-mixture-16.json
    python -m benchmarks.peers --testbed moons-flow --num 2000                              (a flow, or moons-edm, in a checkout)
    python -m benchmarks.peers --num 20 --nfe 5,10 --only "2M|dpmpp_2m" --ours dpm++2m,unipc-2:end=0.0
    python -m benchmarks.peers --dry-run                                                    (what it would draw, and what that costs)

Ours are untuned presets. Each is followed to sigma = 0, where most peers end, and to the least noise of the schedule, where azula's end.
An interrupted run resumes with the same command. Written are results.json, results.csv, index.html (ours, and the peers that are the best
of their package somewhere) and table.txt: for every measure and budget n, the best of ours and of each package with at most n counted
evaluations, and the ratio of ours to theirs. Its interval comes from samples drawn anew, the same for both, as both start from the same
noise. The best of many is chosen by the same samples that it is measured with, which flatters whoever has more candidates: there are more
of theirs.

An error is the distance to the exact trajectory at the time where the run ends, so errors are compared among runs that end at the same
time. Two figures that differ by less than 0.2 % are called equal. `benchmarks.peer_samplers` says how peers are run and which are left out.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.paper.common import REFERENCE, compact, draw_with_bar, run_command, write_json
from benchmarks.peer_samplers import of_azula, peer_samplers
from benchmarks.peers_text import PACKAGES, Interval, package, text
from dpmsolver.evaluation.comparison import Comparison
from dpmsolver.evaluation.results import figures, shown_samples, stored, summarise, write_results
from dpmsolver.evaluation.samplers import Sampler, samplers_from_names
from dpmsolver.evaluation.thresholds import Figure
from dpmsolver.files import written_aside
from dpmsolver.models.testbeds import load_testbed
from dpmsolver.schedules import Discrete, NoiseSchedule

NFES = (5, 6, 8, 10, 12, 15, 20)
OURS: tuple[str, ...] = (
    "auto",
    "ddim",
    "dpm++2m",
    "dpm++3m@quadratic",
    "unipc-2@quadratic",
    "unipc-2@time",
    "unipc-2@trailing",
    "unipc-2@linspace",
    "unipc-2@linspace:variant=bh1",
    "unipc-3@linspace",
    "unipc-3@linspace:variant=bh1",
    "unipc-3@quadratic",
    "unipc-3",
    "deis-tab2@time",
    "deis-tab3@quadratic",
    "deis-tab3@beta",
    "deis-logrho2",
    "deis-logrho2@karras:lower_order_final=False",
    "ipndm-3@quadratic",
    "ipndm-3@time",
    "ipndm-3",
    # What docs/choosing.md takes, before any run on the testbeds beside digits, gaussian and mixture-16, and dpm++fast.
    "ipndm-3@beta57",
    "unipc-2@beta57",
    "deis-tab2@beta",
    "dpm-3m@karras",
    "dpm-3m@logsnr",
    "velocity-3m@karras",
    "dpm++fast",
    "dpm++2m-sde",
    "dpm++2m-sde@karras",
    "dpm++2m-sde@quadratic",
    "dpm++3m-sde",
    "sa-solver",
    "er-sde-3",
)
RESAMPLES = 60  # for an interval: there are a thousand runs
TO_AN_END = "error"  # the measure that is relative to where a run ends
# The error again, what the sliced Wasserstein distance says in a hundredth of the time, and a figure of plans, which peers have none of.
LEFT_OUT = ("error_db", "energy", "wasserstein")
# One formula in float32 and in float64, or with labels that one package rounds, differs by up to a thousandth: that is no lead.
EQUAL = 2e-3

Ratio = Callable[["Candidate", "Candidate", str], Interval]


@dataclass(frozen=True)
class Candidate:
    """A point of a curve, by one measure."""

    name: str
    setting: float
    evaluations: float
    interval: Interval

    def cells(self) -> dict[str, Any]:
        return {"name": self.name, "evaluations": self.evaluations, **self.interval}


def best(candidates: Sequence[Candidate], better: str) -> Candidate | None:
    """The best value; of equal ones the first."""
    sign = 1.0 if better == "lower" else -1.0
    return min(candidates, key=lambda each: sign * each.interval["value"], default=None)


def plain_ratio(ours: Candidate, theirs: Candidate, key: str) -> Interval:
    """The ratio of two values, without an interval."""
    value = float(np.divide(ours.interval["value"], theirs.interval["value"]))
    return {"value": value, "low": value, "high": value}


def table(
    results: Mapping[str, Any],
    nfes: Sequence[int],
    ends: Mapping[tuple[str, float], float],
    ratio: Ratio = plain_ratio,
) -> list[dict[str, Any]]:
    """A row for every measure and budget: the best of ours, and against it the best of each package.

    Args:
        results: as `summarise` makes them. nfes: the budgets; a candidate for n is whatever counted at most n evaluations.
        ends: where a run ends, by name and setting; rows of the error are made for each end at which both sides have runs.
        ratio: of ours to theirs, with its interval.
    """
    rows = []
    for key, measure in results["measures"].items():
        if key in LEFT_OUT:
            continue
        for end in sorted({*ends.values()}) if key == TO_AN_END else [None]:
            points = [
                (package(curve["name"]), Candidate(curve["name"], p["setting"], p["evaluations"], p["measures"][key]))
                for curve in results["curves"]
                for p in curve["points"]
                if key in p["measures"] and (end is None or ends[curve["name"], p["setting"]] == end)
            ]
            for nfe in sorted(nfes):
                found = {
                    who: best([c for of, c in points if of == who and c.evaluations <= nfe], measure["better"])
                    for who in ("dpmsolver", *PACKAGES)
                }
                row = _row(found, key, measure["better"], ratio)
                if row:
                    rows.append({"measure": key, "end": end, "nfe": nfe, **row})
    return rows


def _row(found: Mapping[str, Candidate | None], key: str, better: str, ratio: Ratio) -> dict[str, Any]:
    """The cells of a row; none where one side has no run."""
    ours = found["dpmsolver"]
    against = {}
    for who in PACKAGES:
        theirs = found[who]
        if ours is not None and theirs is not None:
            compared = ratio(ours, theirs, key)
            first, second = ours.interval["value"], theirs.interval["value"]
            equal = abs(first - second) <= EQUAL * abs(second)
            against[who] = {
                **theirs.cells(),
                "ratio": dict(compared),
                "equal": equal,
                "at_least_equal": equal or (first < second if better == "lower" else first > second),
                "resolved": not compared["low"] <= 1.0 <= compared["high"],
            }
    return {"ours": ours.cells(), **against} if ours is not None and against else {}


@dataclass
class PairedRatio:
    """The ratio of two runs of a comparison: from samples drawn anew, the same of both."""

    comparison: Comparison
    known: dict[tuple[str, float], Mapping[str, Figure]] = field(default_factory=dict)

    def __call__(self, ours: Candidate, theirs: Candidate, key: str) -> Interval:
        first, second = (self._figures(each)[key] for each in (ours, theirs))
        plain = plain_ratio(ours, theirs, key)
        if len(first.drawn) != len(second.drawn) or not len(first.drawn):
            return plain
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = np.nanpercentile(first.drawn / second.drawn, [2.5, 97.5])
        return {"value": plain["value"], "low": float(low), "high": float(high)}

    def _figures(self, candidate: Candidate) -> Mapping[str, Figure]:
        run = candidate.name, candidate.setting
        if run not in self.known:
            self.known[run] = figures(self.comparison, stored(self.comparison, *run))
        return self.known[run]


# What is written -----------------------------------------------------------------------------------------------------------------


def shortened(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results for the page: ours, and the peers that are the best of their package in some row, by the measures that all have."""
    named = {row[who]["name"] for row in rows for who in PACKAGES if who in row}
    kept, parts = [], ("measures", "missing")
    for curve in results["curves"]:
        if package(curve["name"]) == "dpmsolver" or curve["name"] in named:
            points = [
                {
                    **p,
                    **{
                        part: {key: p[part][key] for key in p.get(part, ()) if key in results["measures"]}
                        for part in parts
                    },
                }
                for p in curve["points"]
            ]
            kept.append({**curve, "points": points})
    names = {curve["name"] for curve in kept}
    thresholds = results["thresholds"]
    if thresholds is not None:
        thresholds = {**thresholds, "rows": [row for row in thresholds["rows"] if row["name"] in names]}
    return {**results, "curves": kept, "thresholds": thresholds}


# The command ----------------------------------------------------------------------------------------------------------------------


def presets(schedule: NoiseSchedule) -> list[str]:
    """Ours by name: each to its own end, and to the other of the two where peers end, sigma = 0 and the schedule's least noise.

    Without training steps, grids that count them are equal steps in time.
    """
    names = OURS
    if not isinstance(schedule, Discrete):
        names = tuple(dict.fromkeys(re.sub("@(linspace|trailing)", "@time", name) for name in OURS))
    other = 0.0 if schedule.default_end(max(NFES)) else schedule.t_min
    return [f"{name}{end}" for name in names for end in ("", f":end={other}")]


def samplers(arguments: argparse.Namespace, schedule: NoiseSchedule) -> list[Sampler]:
    """Ours by their names, and the peers that --only matches. ValueError if it matches none."""
    names = arguments.ours.split(",") if arguments.ours else presets(schedule)
    peers = [peer for peer in peer_samplers(schedule) if re.search(arguments.only, peer.name)]
    if not peers:
        raise ValueError(f"--only {arguments.only} matches no peer: --dry-run --only . lists them")
    return [*samplers_from_names(names), *peers]


def budgets(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--nfe takes numbers with commas between, such as 5,10,20, got {text!r}") from None


def tell_of_missing() -> None:
    """Say on stderr which package the run goes without."""
    if not of_azula.INSTALLED:
        print(
            "without azula, which is not installed: pip install einops && pip install --no-deps azula", file=sys.stderr
        )


def announce(comparison: Comparison) -> None:
    """What would be drawn, what is left out, and what it costs."""
    tell_of_missing()
    for name in dict.fromkeys(run.sampler.name for run in comparison.runs):
        print(name)
    for name, setting, why in comparison.skipped:
        print(f"left out: {name} at {setting:g} ({why})")
    print(
        f"{len(comparison.runs)} runs of {comparison.num} samples, {comparison.evaluations():,} evaluations of one sample"
    )


def write_page(results: Mapping[str, Any], comparison: Comparison, folder: Path) -> None:
    """index.html, where what it needs is installed."""
    try:
        from dpmsolver.report import write_report
        from dpmsolver.report.shown import pictures_of
    except ImportError as error:
        print(f"no index.html: {error}", file=sys.stderr)
        return
    names = {"reference", *(curve["name"] for curve in results["curves"])}
    shown = {key: samples for key, samples in shown_samples(comparison).items() if key[0] in names}
    write_report(results, pictures_of(shown), folder)


def command(arguments: argparse.Namespace) -> None:
    nfes = budgets(arguments.nfe)
    testbed = load_testbed(arguments.testbed, bfloat16=arguments.bfloat16, compiled=arguments.compile)
    folder = arguments.out or Path("runs") / f"peers-{testbed.name}{'-bfloat16' if testbed.bfloat16 else ''}"
    chosen = samplers(arguments, testbed.schedule)
    given = {"num": arguments.num, "seed": arguments.seed, "batch": arguments.batch} | REFERENCE
    if arguments.dry_run:
        with tempfile.TemporaryDirectory() as nowhere:
            announce(Comparison(testbed, chosen, nfes, folder=nowhere, resamples=RESAMPLES, **given))
        return
    comparison = Comparison(testbed, chosen, nfes, folder=folder, resamples=RESAMPLES, **given)
    tell_of_missing()
    comparison.measures = tuple(measure for measure in comparison.measures if measure.key not in LEFT_OUT)
    draw_with_bar(comparison, Console(stderr=True))
    results = summarise(comparison, " ".join(["python -m benchmarks.peers", *arguments.argv]))
    ends = {(run.sampler.name, run.setting): run.end for run in comparison.runs}
    rows = table(results, nfes, ends, PairedRatio(comparison))
    write_results({**results, "table": rows}, folder)
    said = text(results, rows)
    with written_aside(folder / "table.txt") as aside:
        aside.write_text(said)
    write_page(shortened(results, rows), comparison, folder)
    if arguments.json is not None:
        write_json(compact({**results, "table": rows}), arguments.json)
    print(said)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--testbed", default="digits", help="as `dpmsolver compare` takes it (digits)")
    add("--num", type=int, default=500, metavar="N", help="samples of each run (500)")
    add("--nfe", default=",".join(map(str, NFES)), metavar="LIST", help=f"budgets ({','.join(map(str, NFES))})")
    add(
        "--ours", default="", metavar="LIST", help="instead of the presets, as `dpmsolver compare --solvers` takes them"
    )
    add("--only", default="", metavar="REGEX", help="of the peers, those whose name it matches")
    add("--seed", type=int, default=0, metavar="N", help="of the noise (0)")
    add("--batch", type=int, default=100, metavar="N", help="samples drawn at once (100)")
    add("--bfloat16", action="store_true", help="run the network in bfloat16")
    add("--compile", action="store_true", help="run the network through torch.compile")
    add("--out", type=Path, default=None, metavar="FOLDER", help="batches and results (runs/peers-TESTBED)")
    add("--json", type=Path, default=None, metavar="FILE", help="a copy of the results without the grids, to commit")
    add("--dry-run", action="store_true", help="list the samplers, say what they would cost, and stop")
    return run_command(parser, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
