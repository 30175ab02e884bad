"""`dpmsolver compare`: compare samplers on one model, and write a page about it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

import dpmsolver as dpm
from dpmsolver.cli.describe import (
    COMPUTATION,
    MEASUREMENT,
    OUTPUT,
    SAMPLES,
    SOLVER,
    AnyModel,
    OptionalDevice,
    command,
    flag,
    option,
)
from dpmsolver.cli.long_runs import FIRST_LINE, INTERRUPTED, Lines, check_folder, numbers, terminated_as_interrupted
from dpmsolver.cli.shared import progress_bar, wide_console
from dpmsolver.cli.tables import digits_schedule
from dpmsolver.evaluation.reference import REFERENCE_NFE, REFERENCE_SOLVER

if TYPE_CHECKING:
    from dpmsolver.evaluation.comparison import Comparison
    from dpmsolver.evaluation.samplers import Sampler

__all__ = ["compare"]

_SOLVERS = "ddim,dpm++2m,unipc-2,auto"
_NFES = "5,6,8,10,12,15,20,50"
_FIRST_STATISTICS = "computing the statistics of exact draws, a minute or two; they are kept for the next time"
_NONE = "–"  # in place of a figure
_UNKNOWN = "a folder cannot tell it from another network of the same name"


@command(
    ("Compare four solvers on digits", "dpmsolver compare --num 200 --nfe 5,10,20 --out report"),
    ("Compare grids on Gaussian data", "dpmsolver compare gaussian --solvers dpm++2m --grids time,karras"),
    ("Compare on a model of your own", "dpmsolver compare my_model.py:testbed --solvers ddim,dpm-23,rk45"),
)
def compare(
    model: AnyModel = "digits",
    solvers: Annotated[
        str,
        option(
            SOLVER,
            "LIST",
            "Solvers with commas between, each with its own grid and options if you like: ddim,dpm++2m@karras,sa-solver:eta=0.5. rk45, "
            "dpm-12 and dpm-23 choose their own steps; plan-6.json is a plan, and plans/ a folder of plans.",
        ),
    ] = _SOLVERS,
    grids: Annotated[
        str,
        option(SOLVER, "LIST", "Grids with commas between, such as default,karras: each solver runs on each of them."),
    ] = "default",
    nfe: Annotated[
        str, option(SOLVER, "LIST", "Numbers of network evaluations with commas between, such as 5,10,20.", "--nfe")
    ] = _NFES,
    num: Annotated[int, option(SAMPLES, "N", "Samples of each run.", least=2)] = 2000,
    seed: Annotated[int, option(SAMPLES, "N", "The seed of the noise, which is the same for all runs.", least=0)] = 0,
    reference_nfe: Annotated[
        int,
        option(MEASUREMENT, "N", "Network evaluations of the converged run, from which errors are measured.", least=2),
    ] = REFERENCE_NFE,
    reference_solver: Annotated[
        str, option(MEASUREMENT, "NAME", "The solver of the converged run.")
    ] = REFERENCE_SOLVER,
    features: Annotated[
        str,
        option(
            MEASUREMENT,
            "NAME",
            "The features of the Frechet distance: digits, cifar10, efficientnet, inception, none, or auto for those of the model.",
        ),
    ] = "auto",
    statistics: Annotated[
        Path | None,
        option(
            MEASUREMENT,
            "FILE",
            "Mean and covariance of the features of the data: safetensors with mean and covariance, or .npz with mu and sigma.",
            otherwise="those of the classifier",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        option(
            COMPUTATION,
            "N",
            "Samples that are drawn at once.",
            otherwise="100, fewer where one takes long",
            least=1,
        ),
    ] = None,
    bfloat16: Annotated[
        bool, flag(COMPUTATION, "Run the network in bfloat16, which is faster on GPUs.", "--bfloat16")
    ] = False,
    compiled: Annotated[
        bool,
        flag(COMPUTATION, "Run the network through torch.compile, which takes a minute at the start.", "--compile"),
    ] = False,
    device: OptionalDevice = None,
    out: Annotated[
        Path, option(OUTPUT, "FOLDER", "The folder of the report, in which an interrupted comparison resumes.")
    ] = Path("report"),
) -> None:
    """Compare solvers on one model, from the same noise, and write a page that shows quality against network evaluations.

    The folder gets index.html, which works offline, results.json and results.csv. After an interruption the same command resumes.
    """
    from dpmsolver.evaluation.comparison import Comparison
    from dpmsolver.evaluation.samplers import plan_sampler, samplers_from_names
    from dpmsolver.models.testbeds import FeaturesName, load_testbed

    check_folder(out)
    budgets, chosen = numbers(nfe), samplers_from_names(_words(solvers, "--solvers"), _words(grids, "--grids"))
    for sampler in (*chosen, plan_sampler(reference_solver, "logsnr")):
        _check_sampler(sampler)
    try:
        with terminated_as_interrupted():
            with _said_if_slow(_FIRST_STATISTICS if features == "efficientnet" and statistics is None else ""):
                testbed = load_testbed(
                    model,
                    device=device,
                    features=cast(FeaturesName, features),
                    statistics=statistics,
                    bfloat16=bfloat16,
                    compiled=compiled,
                )
            comparison = Comparison(
                testbed,
                chosen,
                budgets,
                num=num,
                seed=seed,
                folder=out,
                batch=batch,
                reference_nfe=reference_nfe,
                reference_solver=reference_solver,
            )
            if comparison.network is None:
                typer.echo(f"{testbed.name}: no weights are found in its network: {_UNKNOWN}", err=True)
            _draw(comparison)
            _write(comparison, out)
    except KeyboardInterrupt:
        typer.echo(f"dpmsolver: stopped: the same command resumes from what is in {out}", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _said_if_slow(line: str) -> Iterator[None]:
    """Write a line after ten seconds, unless the block has ended before or the line is empty."""
    timer = threading.Timer(FIRST_LINE, typer.echo, (line,), {"err": True})
    timer.daemon = True
    if line:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _draw(comparison: Comparison) -> None:
    """Draw what is missing, with a bar on a terminal and a line now and then elsewhere."""
    with progress_bar() as bar:
        if bar.disable:
            comparison.draw(Lines(lambda line: typer.echo(line, err=True)))
            return
        task = bar.add_task("comparing", total=None)
        comparison.draw(lambda done, total, what: bar.update(task, completed=done, total=total, description=what))


def _write(comparison: Comparison, out: Path) -> None:
    """The results as a table here, and as a page and two files in the folder."""
    from dpmsolver.evaluation.results import shown_samples, summarise, write_results
    from dpmsolver.report import pictures_of, write_report

    results = summarise(comparison, " ".join(["dpmsolver", *sys.argv[1:]]))
    write_results(results, out)
    _print(results)
    page = write_report(results, pictures_of(shown_samples(comparison)), out)
    typer.echo(f"Written: {page}, results.json, results.csv")


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"{option} takes names with commas between, got {text!r}")
    return words


def _check_sampler(sampler: Sampler) -> None:
    """Raise what is wrong with a name, a grid or an option, before a model is loaded to say its schedule.

    What fails with every budget on a schedule of every kind is wrong by itself.
    """
    if sampler.plan is None:
        return
    wrong: Exception | None = None
    for schedule in (digits_schedule(), dpm.schedules.EDM(), dpm.schedules.Flow()):
        for nfe in range(1, 41):
            try:
                sampler.plan(schedule, nfe, None)
            except (ValueError, TypeError) as error:
                wrong = wrong or error
            else:
                return
    assert wrong is not None
    raise wrong


def _print(results: dict[str, Any]) -> None:
    """The curves as one table: a line for each, a column for each budget; below it, why figures are not there."""
    points = [point for curve in results["curves"] for point in curve["points"]]
    budgets = sorted({point["nfe"] for point in points})
    thresholds = results["thresholds"]
    measured = [key for key in results["measures"] if any(key in point["measures"] for point in points)]
    if not measured:
        measured = list(results["measures"])
    key = thresholds["measure"] if thresholds else measured[0]
    typer.echo(
        f"{results['title']}: {results['measures'][key]['title']}, {results['num']} samples, by network evaluations"
    )
    table = Table("solver", *(str(nfe) for nfe in budgets))
    for curve in results["curves"]:
        found = {p["nfe"]: p["measures"].get(key) for p in curve["points"]}
        left_out = {skipped["nfe"] for skipped in curve["skipped"]}
        cells = [
            f"{found[nfe]['value']:.4g}" if found.get(nfe) else _NONE if nfe in found or nfe in left_out else ""
            for nfe in budgets
        ]
        table.add_row(curve["name"], *cells)
    limit = results["reference"]["measures"].get(key)
    if limit and key != "error":
        table.add_row("converged ODE", *[""] * (len(budgets) - 1), f"{limit['value']:.4g}")
    floor = results["yardsticks"].get(key, {})
    if "num" in floor:
        table.add_row("exact draws", *[""] * (len(budgets) - 1), f"{floor['value']:.4g}")
    wide_console().print(table)
    for curve in results["curves"]:
        for why, nfes in _reasons(curve, key).items():
            typer.echo(f"{_NONE} {curve['name']} with {', '.join(map(str, sorted(nfes)))}: {why}")


def _reasons(curve: dict[str, Any], key: str) -> dict[str, list[int]]:
    """Why a curve has no figure, with the budgets for which that is so."""
    reasons: dict[str, list[int]] = {}
    for point in curve["points"]:
        if key in point["missing"]:
            reasons.setdefault(point["missing"][key], []).append(point["nfe"])
    for skipped in curve["skipped"]:
        reasons.setdefault(skipped["why"], []).append(skipped["nfe"])
    return reasons
