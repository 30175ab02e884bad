"""What the commands of this folder share: their arguments, the comparison they draw with its cost told beforehand, and their files."""

from __future__ import annotations

import argparse
import json
import math
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import dpmsolver as dpm
from dpmsolver.evaluation.comparison import Comparison
from dpmsolver.evaluation.results import summarise, write_results
from dpmsolver.evaluation.samplers import Sampler
from dpmsolver.files import written_aside
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.solvers.statistics import ModelStatistics

LEVELS, PICTURES = 40, 64  # of the calibration that is made where no --statistics are given
REFERENCE: dict[str, Any] = {"reference_solver": "dpm++3m-exact", "reference_nfe": 100}  # of the committed figures
CALIBRATION_SEED = 1_000_003  # its pictures are none of those that are compared

Draw = Callable[[argparse.Namespace], None]


def comparison_parser(doc: str | None, **budgets: tuple[Sequence[int], str]) -> argparse.ArgumentParser:
    """The arguments of every command that draws samples, and one list of budgets for each of `budgets` (its default, what it is)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--model",
        default="digits",
        help="digits, a closed-form testbed, a folder in diffusers format, a hub id, file.py:function",
    )
    add("--num", type=int, default=1000, metavar="N", help="samples of each run (1000); the paper has 50000")
    add("--seed", type=int, default=0, metavar="N", help="of the noise (0)")
    add("--batch", type=int, default=100, metavar="N", help="samples drawn at once (100)")
    for name, (default, what) in budgets.items():
        add(
            f"--{name}",
            type=_budgets,
            default=tuple(default),
            metavar="LIST",
            help=f"{what} ({_join(default) or 'none'})",
        )
    add("--solvers", type=_names, default=None, metavar="LIST", help="of the curves, these alone")
    add("--device", default=None, help="of the network, such as cuda")
    add("--bfloat16", action="store_true", help="run the network in bfloat16")
    add("--compile", action="store_true", help="run the network through torch.compile")
    add("--features", default="auto", choices=("auto", "digits", "inception", "none"), help="of the Frechet distance")
    add(
        "--statistics-data",
        type=Path,
        metavar="FILE",
        help="mean and covariance of the data's features, such as fid_stats.npz",
    )
    add(
        "--statistics",
        type=Path,
        metavar="FILE",
        help="of the network (dpmsolver calibrate); made where they are needed and not given",
    )
    add(
        "--out",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="batches and results (runs/paper/MODEL); shared by the commands",
    )
    add("--json", type=Path, default=None, metavar="FILE", help="a copy of the results without the grids, to commit")
    add("--stop-after", type=float, default=None, metavar="MINUTES", help="draw no longer, and tell what is there")
    add("--dry-run", action="store_true", help="say what it would cost, and stop")
    return parser


def run_command(parser: argparse.ArgumentParser, command: Draw, argv: Sequence[str] | None) -> int:
    """Parse, run, and turn what a user can cause into a line on stderr: 0, 1 for a run that failed, 2 for wrong input."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(given)
    arguments.argv = given
    try:
        if arguments.json is not None and not arguments.json.parent.is_dir():
            raise ValueError(f"--json {arguments.json}: there is no folder {arguments.json.parent}")
        command(arguments)
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except dpm.SamplingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def command_line(name: str, argv: Sequence[str]) -> str:
    """The command that made a file."""
    return shlex.join(["python", "-m", f"benchmarks.paper.{name}", *argv])


def about_this_run(name: str, argv: Sequence[str]) -> dict[str, Any]:
    """How figures were made that no comparison made."""
    versions = {package: metadata.version(package) for package in ("dpmsolver", "numpy", "scipy")}
    machine = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    made = {"command": command_line(name, argv), "versions": versions, "machine": machine}
    return made | {"date": date.today().isoformat()}


def testbed_of(arguments: argparse.Namespace) -> Testbed:
    return load_testbed(
        arguments.model,
        device=arguments.device,
        features=arguments.features,
        statistics=arguments.statistics_data,
        bfloat16=arguments.bfloat16,
        compiled=arguments.compile,
    )


def folder_of(arguments: argparse.Namespace, testbed: Testbed) -> Path:
    """Where batches are. A run in bfloat16 is another one."""
    name = testbed.name.replace("/", "--") + ("-bfloat16" if testbed.bfloat16 else "")
    return arguments.out if arguments.out is not None else Path("runs") / "paper" / name


def with_budgets(sampler: Sampler, budgets: Sequence[int]) -> Sampler:
    """A sampler that has a plan, with budgets of its own."""
    return replace(sampler, settings=tuple(float(nfe) for nfe in budgets))


def chosen(arguments: argparse.Namespace, samplers: Sequence[Sampler]) -> list[Sampler]:
    """Those that were asked for, by the whole name or by the solver's."""
    if arguments.solvers is None:
        return list(samplers)
    known = {name for sampler in samplers for name in (sampler.name, sampler.solver)}
    missing = [name for name in arguments.solvers if name not in known]
    if missing:
        raise ValueError(f"--solvers {missing[0]}: accepted are {', '.join(sampler.name for sampler in samplers)}")
    return [sampler for sampler in samplers if {sampler.name, sampler.solver} & {*arguments.solvers}]


def network_statistics(arguments: argparse.Namespace, testbed: Testbed) -> ModelStatistics:
    """The statistics of the network that calibrated samplers want: those given, those of an earlier run, or measured now.

    A copy stays in the folder, because the batches there depend on it.
    """
    kept = folder_of(arguments, testbed) / "statistics.safetensors"
    if arguments.statistics is not None:
        content = arguments.statistics.read_bytes()
        if kept.exists() and kept.read_bytes() != content:
            raise ValueError(
                f"{kept.parent} holds batches made with other statistics than {arguments.statistics}: name another --out"
            )
        given = ModelStatistics.load(arguments.statistics)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(kept) as aside:
            aside.write_bytes(content)
        return given
    if not kept.exists():
        part = range(PICTURES)
        denoiser = testbed.denoiser(testbed.labels(part))
        print(f"calibrating: {(20 + 5 * LEVELS) * PICTURES:,} evaluations, kept in {kept}", file=sys.stderr)
        pictures = dpm.sample(denoiser, testbed.initial_noise(part, CALIBRATION_SEED), nfe=20)
        measured = dpm.calibrate(denoiser, pictures, levels=LEVELS, draws=1, seed=CALIBRATION_SEED)
        kept.parent.mkdir(parents=True, exist_ok=True)
        measured.save(kept)
    return ModelStatistics.load(kept)


def compare(arguments: argparse.Namespace, testbed: Testbed, samplers: Sequence[Sampler]) -> Comparison | None:
    """Draw every sampler at its own settings, after saying what it costs. None: that was all that was asked for."""
    console, folder = Console(stderr=True), folder_of(arguments, testbed)
    with tempfile.TemporaryDirectory() as nowhere:
        comparison = Comparison(
            testbed,
            samplers,
            [1],  # every sampler has settings of its own
            num=arguments.num,
            seed=arguments.seed,
            folder=nowhere if arguments.dry_run and not folder.exists() else folder,
            batch=arguments.batch,
            **REFERENCE,
        )
        _announce(console, comparison)
    if arguments.dry_run:
        return None
    draw_with_bar(comparison, console, arguments.stop_after)
    # Distances between laws that the tables do not show take most of the time of the summary.
    shown = {"error", "frechet", "accuracy"} | (set() if testbed.gaussian is not None else {"sliced_wasserstein"})
    comparison.measures = tuple(measure for measure in comparison.measures if measure.key in shown)
    return comparison


def draw_with_bar(comparison: Comparison, console: Console, minutes: float | None = None) -> None:
    """Draw what is missing, or what can be drawn in so many minutes; on a terminal with a bar and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    deadline = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        suppress(_TimeIsUp),
    ):
        task = bar.add_task("", total=None)

        def told(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what)
            if time.monotonic() > deadline:
                raise _TimeIsUp

        comparison.draw(told)


class _TimeIsUp(Exception):
    """The minutes that were given are over; what is drawn is stored."""


def _announce(console: Console, comparison: Comparison) -> None:
    """What is left out, and what the rest will cost."""
    for name, setting, why in comparison.skipped:
        console.print(f"left out: {name} at {setting:g} ({why})", highlight=False, soft_wrap=True)
    total, missing = comparison.evaluations(), comparison.evaluations(missing=True)
    console.print(
        f"{comparison.testbed.name}: {len(comparison.runs)} runs of {comparison.num} samples, {total:,} network evaluations "
        f"of one sample in all, {missing:,} of them still to do",
        highlight=False,
        soft_wrap=True,
    )


def publish(arguments: argparse.Namespace, comparison: Comparison, name: str, **more: Any) -> dict[str, Any]:
    """Write the results of a comparison into its folder, and the copy that is kept in the repository. `more`: what the command adds."""
    results = summarise(comparison, command_line(name, arguments.argv)) | more
    folder = Path(comparison.folder) / name
    folder.mkdir(exist_ok=True)
    write_results(results, folder)
    print(f"results in {folder}", file=sys.stderr)
    if arguments.json is not None:
        write_json(compact(results), arguments.json)
        print(f"written to {arguments.json}; the pages: python -m benchmarks.render", file=sys.stderr)
    return results


def compact(results: dict[str, Any]) -> dict[str, Any]:
    """Results without the grids, which the plans say again, and with four digits of every figure."""
    curves = [{key: value for key, value in curve.items() if key != "grids"} for curve in results["curves"]]
    short: dict[str, Any] = _rounded(results | {"curves": curves})
    return short


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write_json(document: dict[str, Any], path: Path) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _join(budgets: Sequence[int]) -> str:
    return ",".join(map(str, budgets))


def _budgets(text: str) -> tuple[int, ...]:
    """Budgets of a command line: positive integers, each once, in order."""
    try:
        found = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers with commas between, such as 10,12,15, got {text!r}") from None
    if found and found[0] < 1:
        raise argparse.ArgumentTypeError(f"budgets are at least 1, got {found[0]}")
    return tuple(found)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
