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
from dpmsolver.cli.describe import COMPUTATION, OUTPUT, SAMPLES, SOLVER, AnyModel, OptionalDevice, command, option
from dpmsolver.cli.long_runs import INTERRUPTED, Lines, check_folder, numbers, terminated_as_interrupted
from dpmsolver.cli.sampling import _check_guidance
from dpmsolver.cli.shared import progress_bar, wide_console
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


@command(
    ("Fit plans for four budgets", "dpmsolver tune digits --nfe 5,6,8,10 --out plans"),
    ("Sample with one of them", "dpmsolver sample digits --plan plans/plan-6.json"),
    ("Compare them with the default", "dpmsolver compare digits --solvers auto,plans/ --nfe 5,6,8,10"),
)
def tune(
    model: AnyModel = "digits",
    nfe: Annotated[
        str,
        option(
            SOLVER,
            "LIST",
            "Numbers of network evaluations with commas between, such as 5,6,8,10: one plan for each.",
            "--nfe",
        ),
    ] = "6",
    end: Annotated[
        float | None,
        option(
            SOLVER,
            "TIME",
            "The time of the schedule where runs end; 0 is clean data.",
            otherwise="where runs without a fit end",
        ),
    ] = None,
    num: Annotated[
        int | None,
        option(
            SAMPLES,
            "N",
            "Noises that are used to fit, to choose and to judge.",
            otherwise=f"{_FEWEST} to {_MOST}, by effort",
            least=1,
        ),
    ] = None,
    seed: Annotated[int, option(SAMPLES, "N", "The seed of the noises.", least=0)] = 0,
    guidance: Annotated[float, option(SAMPLES, "SCALE", "The guidance scale of the later samples; 1 is none.")] = 1.0,
    effort: Annotated[
        str,
        option(
            COMPUTATION,
            "WORD",
            f"How much is spent on each plan: {', '.join(EFFORTS)} (on a small network), or a number of network evaluations of one "
            "sample.",
        ),
    ] = "seconds",
    batch: Annotated[int, option(COMPUTATION, "N", "Samples that the network evaluates at once.", least=1)] = 32,
    device: OptionalDevice = None,
    out: Annotated[
        Path, option(OUTPUT, "FOLDER", "The folder of the plans, in which an interrupted fit resumes.")
    ] = Path("plans"),
) -> None:
    """Fit plans to a model by forward passes, and keep a fitted plan only if it is better than the presets on separate noises.

    The folder gets plan-N.json and report-N.json for each number N of evaluations, and tune.html, a page that works offline.
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
