"""`dpmsolver compare`: samplers side by side on one model, and a page about it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from dpmsolver.cli.shared import app, check_writable, progress_bar, wide_console

if TYPE_CHECKING:
    from dpmsolver.evaluation.comparison import Comparison

__all__ = ["compare"]

_SOLVERS = "ddim,dpm++2m,unipc-2,auto"
_NFES = "5,6,8,10,12,15,20,50"


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver compare --num 200 --nfe 5,10,20 --out report\n\n"
    "dpmsolver compare mixture-2 --solvers ddim,heun,dpm++2m@karras,sa-solver:tau=0.5 --num 2000\n\n"
    "dpmsolver compare gaussian --solvers dpm++2m,unipc-2 --grids default,karras,time\n\n"
    "dpmsolver compare my_model.py:testbed --solvers ddim,dpm-23,rk45 --nfe 10,20\n\n"
    "dpmsolver compare google/ddpm-cifar10-32 --device cuda --features inception --statistics fid_stats_cifar10.npz"
)
def compare(
    model: Annotated[
        str,
        typer.Argument(
            help="'digits', 'gaussian', 'mixture-2', 'mixture-16', 'mixture-3072', 'empirical', a folder in diffusers format, a hub id, "
            "or path/to/file.py:function that returns a Testbed."
        ),
    ] = "digits",
    solvers: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Such as ddim,dpm++2m@karras,sa-solver:tau=0.5; also rk45, dpm-12, dpm-23 (adaptive)."
        ),
    ] = _SOLVERS,
    grids: Annotated[
        str, typer.Option(metavar="LIST", help="Each solver on each of these, such as default,karras.")
    ] = "default",
    nfe: Annotated[str, typer.Option("--nfe", metavar="LIST", help="Network evaluations, such as 5,10,20.")] = _NFES,
    num: Annotated[int, typer.Option(min=2, metavar="N", help="Samples of each run.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the noise, which is the same for all.")] = 0,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Samples that are drawn at once.")] = 100,
    reference_nfe: Annotated[
        int, typer.Option(min=2, metavar="N", help="Evaluations of the run that errors are measured against.")
    ] = 100,
    features: Annotated[
        str, typer.Option(metavar="NAME", help="Of the Frechet distance: auto, digits, cifar10, inception, none.")
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
        Path, typer.Option(metavar="FOLDER", help="The report. The same command goes on where it was stopped.")
    ] = Path("report"),
) -> None:
    """Compare solvers on one model: quality against evaluations, from the same noise, as a page that works offline.

    Writes index.html, results.json and results.csv. It may be stopped at any moment; the same command goes on from there.
    """
    from dpmsolver.evaluation.comparison import Comparison
    from dpmsolver.evaluation.samplers import samplers_from_names
    from dpmsolver.models.testbeds import FeaturesName, load_testbed

    _check_out(out)
    budgets, chosen = _numbers(nfe), samplers_from_names(_words(solvers, "--solvers"), _words(grids, "--grids"))
    testbed = load_testbed(
        model,
        device=device,
        features=cast(FeaturesName, features),
        statistics=statistics,
        bfloat16=bfloat16,
        compiled=compiled,
    )
    comparison = Comparison(
        testbed, chosen, budgets, num=num, seed=seed, folder=out, batch=batch, reference_nfe=reference_nfe
    )
    _draw(comparison)
    _write(comparison, out)


def _draw(comparison: Comparison) -> None:
    with progress_bar() as progress:
        task = progress.add_task("comparing", total=None)
        comparison.draw(lambda done, total, what: progress.update(task, completed=done, total=total, description=what))


def _write(comparison: Comparison, out: Path) -> None:
    """The results as a table here, and as a page and two files in the folder."""
    from dpmsolver.evaluation.results import shown_samples, summarise, write_results
    from dpmsolver.report import pictures_of, write_report

    results = summarise(comparison, " ".join(["dpmsolver", *sys.argv[1:]]))
    write_results(results, out)
    _print(results)
    page = write_report(results, pictures_of(shown_samples(comparison)), out)
    typer.echo(f"Written: {page}, results.json, results.csv")


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: name a folder")
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    check_writable(out, there)


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"{option} takes names with commas between, got {text!r}")
    return words


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--nfe takes numbers with commas between, such as 5,10,20, got {text!r}") from None


def _print(results: dict[str, Any]) -> None:
    """The curves as one table: a line for each, a column for each budget."""
    budgets = sorted({point["nfe"] for curve in results["curves"] for point in curve["points"]})
    thresholds = results["thresholds"]
    key = thresholds["measure"] if thresholds else next(iter(results["measures"]))
    typer.echo(
        f"{results['title']}: {results['measures'][key]['title']}, {results['num']} samples, by network evaluations"
    )
    table = Table("solver", *(str(nfe) for nfe in budgets))
    for curve in results["curves"]:
        found = {p["nfe"]: p["measures"].get(key) for p in curve["points"]}
        cells = [f"{found[nfe]['value']:.4g}" if found.get(nfe) else "" for nfe in budgets]
        table.add_row(curve["name"], *cells)
    limit = results["reference"]["measures"].get(key)
    if limit and key != "error":
        table.add_row("converged ODE", *[""] * (len(budgets) - 1), f"{limit['value']:.4g}")
    wide_console().print(table)
