"""`dpmsolver tune`: plans fitted to a model, as files, with a page about them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

import dpmsolver as dpm
from dpmsolver.cli.long_runs import INTERRUPTED, Lines, check_folder, numbers, terminated_as_interrupted
from dpmsolver.cli.sampling import _check_guidance
from dpmsolver.cli.shared import app, progress_bar, wide_console
from dpmsolver.errors import unknown
from dpmsolver.host import to_host
from dpmsolver.tuning.tuning import EFFORTS

if TYPE_CHECKING:
    from dpmsolver.models.testbeds import Testbed
    from dpmsolver.tuning.outcome import Tuned

__all__ = ["tune"]

# Noises are told apart by their numbers: those of a fit are others than `sample` and `compare` draw with the same seed.
_FIRST = 1_000_000
_MOST = 512  # noises, unless told otherwise
_FEWEST = 16
_PER_NOISE = 128  # evaluations for each noise
_PICTURES, _POINTS = 12, 500


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver tune digits --nfe 5,6,8,10 --out plans\n\n"
    "dpmsolver tune digits --nfe 6 --guidance 2 --effort minutes\n\n"
    "dpmsolver sample digits --plan plans/plan-6.json\n\n"
    "dpmsolver compare digits --solvers auto,plans/ --nfe 5,6,8,10"
)
def tune(
    model: Annotated[
        str,
        typer.Argument(
            help="As in compare: 'digits', 'mixture-16', a folder in diffusers format, a hub id, or path/to/file.py:function "
            "that returns a Testbed."
        ),
    ] = "digits",
    nfe: Annotated[str, typer.Option("--nfe", metavar="LIST", help="Network evaluations, such as 5,6,8,10.")] = "6",
    effort: Annotated[
        str,
        typer.Option(
            metavar="WORD", help=f"{', '.join(EFFORTS)}, or a number: evaluations of single samples for each plan."
        ),
    ] = "seconds",
    num: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Noises to fit, choose and judge.", show_default="16 to 512, by effort"),
    ] = None,
    guidance: Annotated[
        float, typer.Option(metavar="SCALE", help="The guidance that samples will have; 1 is none.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the noises.")] = 0,
    end: Annotated[
        float | None, typer.Option(metavar="TIME", help="Where runs end.", show_default="where untuned plans do")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Samples that the network evaluates at once.")] = 32,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where the network runs, such as cuda.", show_default="cpu")
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The plans. The same command resumes where it was stopped.")
    ] = Path("plans"),
) -> None:
    """Fit plans to a model, from forward passes alone, and keep each only where it is better than the presets on noises of its own.

    Writes plan-N.json and report-N.json for each budget, and tune.html, a page that works offline.
    """
    from dpmsolver.models.testbeds import load_testbed

    check_folder(out)
    _check_guidance(guidance)
    budgets, spending = numbers(nfe), _effort(effort)
    count = num or min(_MOST, max(_FEWEST, spending // _PER_NOISE))
    try:
        with terminated_as_interrupted():
            testbed = load_testbed(model, device=device)
            with _told() as progress:
                fits = dpm.tune(
                    lambda chosen: _denoiser(testbed, chosen, guidance),
                    testbed.initial_noise(range(_FIRST, _FIRST + count), seed),
                    budgets,
                    effort=spending,
                    end=end,
                    batch=batch,
                    seed=seed,
                    store=out,
                    progress=progress,
                )
            _write(testbed, fits, guidance, seed, range(_FIRST + count, _FIRST + count + _POINTS), out)
    except KeyboardInterrupt:
        typer.echo(f"dpmsolver: stopped: the same command resumes from what is in {out}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _effort(text: str) -> int:
    if text in EFFORTS:
        return EFFORTS[text]
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ValueError(f"--effort: {unknown('effort', text, EFFORTS)}, or a number of evaluations")


def _denoiser(testbed: Testbed, chosen: NDArray[np.int64], guidance: float) -> dpm.Denoiser:
    """The denoiser of some noises, whose classes are those that the testbed gives to samples of their numbers."""
    labels = None if testbed.num_classes is None else [(_FIRST + int(i)) % testbed.num_classes for i in chosen]
    return testbed.denoiser(labels, guidance)


@contextmanager
def _told() -> Iterator[Callable[[int, int], object]]:
    """What is told of each evaluation: a bar on a terminal, and a line now and then elsewhere."""
    with progress_bar() as bar:
        if bar.disable:
            lines = Lines(lambda line: typer.echo(line, err=True))
            yield lambda done, total: lines(done, total, "tuning")
            return
        task = bar.add_task("tuning", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _write(testbed: Testbed, fits: Mapping[int, Tuned], guidance: float, seed: int, fresh: range, out: Path) -> None:
    """The table here, and the page in the folder."""
    from dpmsolver.tuning.page import write_tuned

    _print(testbed, fits)
    page = write_tuned(
        fits,
        out,
        testbed.name,
        _samples(testbed, fits, guidance, seed, fresh),
        command=" ".join(["dpmsolver", *sys.argv[1:]]),
        testbed=testbed.name,
        shape=list(testbed.shape),
        seed=seed,
    )
    files = list((out / "teacher").glob("*"))
    size = sum(file.stat().st_size for file in files) / 2**20
    typer.echo(f"Written: {page}, plan-N.json and report-N.json")
    typer.echo(
        f"{out / 'teacher'} holds {size:.1f} MiB of trajectories: they save time in the next fit of this model, and may go"
    )


def _print(testbed: Testbed, fits: Mapping[int, Tuned]) -> None:
    """Each budget's plans by the error of a sample, and which is kept."""
    table = Table("nfe", "plan", "mean", "median", "95 %", "RMS", "its mean / fitted", "")
    for nfe, tuned in fits.items():
        report = tuned.report
        names = {"auto": "auto", "selected": f"best preset: {report.selected}", "tuned": "fitted"}
        for name, summary in report.summaries.items():
            figures = (f"{each:.4g}" for each in (summary.mean, summary.median, summary.high, summary.rms))
            gain = "" if name == "tuned" else str(report.gain(name))
            kept = "kept" if name == report.winner else ""
            table.add_row(str(nfe) if name == "auto" else "", names[name], *figures, gain, kept)
        table.add_section()
    first = next(iter(fits.values())).report
    typer.echo(f"{testbed.name}: error of a sample, on {first.noises[2]} noises that only judge")
    wide_console().print(table)


def _samples(
    testbed: Testbed, fits: Mapping[int, Tuned], guidance: float, seed: int, fresh: range
) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Samples of noises that the fit has not seen, under each plan and converged, where they can be shown."""
    from dpmsolver.evaluation.reference import Reference

    if not testbed.pictures and testbed.shape != (2,):
        return {}
    part = fresh[: _PICTURES if testbed.pictures else _POINTS]
    denoiser, x_T = testbed.denoiser(testbed.labels(part), guidance), testbed.initial_noise(part, seed)
    shown, converged = {}, {}
    for nfe, tuned in fits.items():
        ends = tuned.plan.end.time
        if ends not in converged:
            converged[ends] = Reference(testbed).end_states(denoiser, x_T, ends)
        shown["converged", nfe] = to_host(converged[ends])
        for name, plan in tuned.plans.items():
            with warnings.catch_warnings():  # of what is shown as it is
                warnings.simplefilter("ignore", dpm.ConventionWarning)
                shown[name, nfe] = to_host(dpm.sample(denoiser, x_T, plan=plan))
    return {key: each.astype(np.float32) for key, each in shown.items()}
