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
from dpmsolver.cli.long_runs import FIRST_LINE, INTERRUPTED, Lines, check_folder, numbers, terminated_as_interrupted
from dpmsolver.cli.shared import app, progress_bar, wide_console
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


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver compare --num 200 --nfe 5,10,20 --out report\n\n"
    "dpmsolver compare mixture-2 --solvers ddim,heun,dpm++2m@karras,sa-solver:eta=0.5 --num 2000\n\n"
    "dpmsolver compare gaussian --solvers dpm++2m,unipc-2 --grids default,karras,time\n\n"
    "dpmsolver compare cifar10-mixture --features efficientnet --num 500 --nfe 5,10,20\n\n"
    "dpmsolver compare my_model.py:testbed --solvers ddim,dpm-23,rk45 --nfe 10,20\n\n"
    "dpmsolver compare google/ddpm-cifar10-32 --device cuda --features inception --statistics fid_stats_cifar10.npz"
)
def compare(
    model: Annotated[
        str,
        typer.Argument(
            help="'digits', 'gaussian', 'mixture-2', 'mixture-16', 'mixture-3072', 'empirical', 'cifar10-gaussian', "
            "'cifar10-mixture', in a checkout of the repository 'digits-flow' and other trained networks (docs/compare.md), "
            "a folder in diffusers format, a hub id, "
            "or path/to/file.py:function that returns a Testbed."
        ),
    ] = "digits",
    solvers: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Such as ddim,dpm++2m@karras,sa-solver:eta=0.5; also rk45, dpm-12, dpm-23 (adaptive), and plans/ or plan-6.json.",
        ),
    ] = _SOLVERS,
    grids: Annotated[
        str, typer.Option(metavar="LIST", help="Each solver on each of these, such as default,karras.")
    ] = "default",
    nfe: Annotated[str, typer.Option("--nfe", metavar="LIST", help="Network evaluations, such as 5,10,20.")] = _NFES,
    num: Annotated[int, typer.Option(min=2, metavar="N", help="Samples of each run.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the noise, which is the same for all.")] = 0,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Samples that are drawn at once.",
            show_default="100, fewer where one takes long",
        ),
    ] = None,
    reference_nfe: Annotated[
        int, typer.Option(min=2, metavar="N", help="Evaluations of the run that errors are measured against.")
    ] = REFERENCE_NFE,
    reference_solver: Annotated[str, typer.Option(metavar="NAME", help="The solver of that run.")] = REFERENCE_SOLVER,
    features: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of the Frechet distance: auto, digits, cifar10, efficientnet, inception, none."
        ),
    ] = "auto",
    statistics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Mean and covariance of the data's features.", show_default="none"),
    ] = None,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="The network in bfloat16: faster on GPUs.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="The network through torch.compile.")] = False,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where the network runs, such as cuda.", show_default="cpu")
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The report. The same command resumes where it was stopped.")
    ] = Path("report"),
) -> None:
    """Compare solvers on one model: quality against evaluations, from the same noise, as a page that works offline.

    Writes index.html, results.json and results.csv. It may be stopped at any moment, and the same command resumes.
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
