"""`dpmsolver generate` and `dpmsolver evaluate`: draw many samples into a folder, and measure them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import dpmsolver as dpm
from dpmsolver.cli.checking import _read
from dpmsolver.cli.describe import (
    ANY_MODEL,
    COMPUTATION,
    DEFAULT_NFE,
    MEASUREMENT,
    OUTPUT,
    SAMPLES,
    SOLVER,
    WORKERS,
    Grid,
    Nfe,
    PlanFile,
    Solver,
    argument,
    command,
    flag,
    option,
)
from dpmsolver.cli.long_runs import FIRST_LINE, INTERRUPTED, terminated_as_interrupted
from dpmsolver.cli.sampling import _class_list, _read_plan
from dpmsolver.cli.shared import progress_bar, written
from dpmsolver.typing import Written

__all__ = ["evaluate", "generate"]

_LATER_LINES = 30.0  # seconds
_DATA = 1_000_000  # of a file, at most


@command(
    ("Draw 50,000 digits", "dpmsolver generate digits --num 50000 --nfe 10 --out fifty-thousand"),
    ("Draw with two processes", "dpmsolver generate --num 50000 --engine processes --workers 2 --out two"),
    ("Show how far a run is", "dpmsolver generate --status fifty-thousand"),
)
def generate(
    model: Annotated[
        str,
        argument("MODEL", f"{ANY_MODEL} With --prompts it is a text-to-image pipeline of diffusers."),
    ] = "digits",
    nfe: Nfe = None,
    solver: Solver = None,
    grid: Grid = None,
    plan: PlanFile = None,
    noise: Annotated[
        str,
        option(
            SOLVER,
            "NAME",
            "The noise of stochastic solvers. host: the same numbers on every device; independent: faster, drawn by the device; "
            "brownian: one path for any number of steps.",
        ),
    ] = "host",
    num: Annotated[
        int | None,
        option(SAMPLES, "N", "The number of samples, whose seeds are 0 to N - 1.", otherwise="none: give --seeds"),
    ] = None,
    seeds: Annotated[
        str | None,
        option(
            SAMPLES,
            "RANGES",
            "Ranges of seeds in place of --num, such as 50000-99999 or 0-99,500-599.",
            otherwise="none: give --num",
        ),
    ] = None,
    classes: Annotated[
        str,
        option(
            SAMPLES,
            "LIST",
            "Class numbers with commas between, such as 3,7, which the seeds take in turn; all: every class in turn; random: each seed "
            "draws its class; none: no class.",
        ),
    ] = "all",
    guidance: Annotated[
        float | None,
        option(
            SAMPLES,
            "SCALE",
            "The scale of classifier-free guidance; 1 is none.",
            otherwise="1, with --prompts the pipeline's",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        option(
            SAMPLES,
            "FILE",
            "A text file with a prompt on each line, which the seeds take in turn.",
            otherwise="none",
        ),
    ] = None,
    features: Annotated[
        str,
        option(
            MEASUREMENT,
            "NAME",
            "The features whose statistics are collected for dpmsolver evaluate: digits, cifar10, efficientnet, inception, samples, none, "
            "or auto for those that cost little.",
        ),
    ] = "auto",
    batch: Annotated[
        str,
        option(COMPUTATION, "N", "Samples that the network evaluates at once; auto finds a fast number by trial."),
    ] = "auto",
    dtype: Annotated[
        str, option(COMPUTATION, "NAME", "The number format of the network: float32, bfloat16 or float16.")
    ] = "float32",
    compile: Annotated[
        bool,
        flag(COMPUTATION, "Run the network through torch.compile, which takes a minute at the start.", "--compile"),
    ] = False,
    device: Annotated[
        str | None,
        option(
            COMPUTATION,
            "NAME",
            "The device of the network, such as cpu or cuda; with several workers cuda means all GPUs.",
            otherwise="cpu",
        ),
    ] = None,
    engine: Annotated[
        str,
        option(
            WORKERS,
            "NAME",
            "What draws. inline: this process; processes: a process for each GPU, or --workers of them; ray: actors of a Ray cluster.",
        ),
    ] = "inline",
    workers: Annotated[
        int | None,
        option(WORKERS, "N", "The number of workers.", otherwise="one per GPU, or by the cores", least=1),
    ] = None,
    threads: Annotated[
        int,
        option(WORKERS, "N", "CPU threads of each worker.", otherwise="an equal share of the cores; 1 on Ray", least=0),
    ] = 0,
    address: Annotated[
        str | None,
        option(WORKERS, "ADDRESS", "The address of a Ray cluster, or auto.", otherwise="a new one on this machine"),
    ] = None,
    out: Annotated[
        str | None,
        option(
            OUTPUT,
            "FOLDER",
            "Needed, except with --status: a folder, or a URL such as s3://bucket/folder, in which an interrupted run resumes.",
            otherwise=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        option(
            OUTPUT,
            "NAME",
            "The files of the samples: webdataset, parquet, npz, png or npy.",
            otherwise="webdataset for pictures, else npy",
        ),
    ] = None,
    shard: Annotated[
        int | None,
        option(OUTPUT, "N", "Samples of a shard, the unit of work.", otherwise="1000, or all if fewer", least=1),
    ] = None,
    verify: Annotated[
        str,
        option(OUTPUT, "HOW", "How finished shards are checked when a run resumes: sha256 reads them, size does not."),
    ] = "sha256",
    status: Annotated[
        str | None,
        option(OUTPUT, "FOLDER", "Print the progress of the run in this folder, and draw nothing.", otherwise="none"),
    ] = None,
) -> None:
    """Draw many samples into a folder, with any number of workers.

    Sample i has the seed i. An interrupted run resumes by the same command, and ends with the same bytes.
    """
    if status is not None:
        from dpmsolver.generation.watching import status as status_of

        typer.echo(str(status_of(status)))
        return
    if out is None:
        raise ValueError("--out is needed: the folder or URL that the samples go to")
    given = None if plan is None else _read_plan(plan, nfe, solver, grid, None)
    try:
        with terminated_as_interrupted(), _told() as progress:
            made = dpm.generate(
                model,
                num,
                nfe if given is not None else nfe or DEFAULT_NFE,
                out=out,
                seeds=seeds,
                solver=None if solver is None else Written(solver),
                grid=written(grid),
                plan=given,
                guidance=guidance,
                classes=_classes(classes),
                prompts=None if prompts is None else _prompts(prompts),
                format=format,  # type: ignore[arg-type]
                shard=shard,
                batch=_batch(batch),
                dtype=dtype,  # type: ignore[arg-type]
                compile=compile,
                device=device,
                noise=noise,  # type: ignore[arg-type]
                features=features,
                engine=engine,  # type: ignore[arg-type]
                workers=workers,
                threads=threads,
                address=address,
                verify=verify,  # type: ignore[arg-type]
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo(f"dpmsolver: stopped: the same command resumes from what is in {out}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except (MemoryError, TypeError) as error:
        raise ValueError(str(error)) from error
    rate = f", {made.drawn / made.seconds:.3g} samples/s" if made.drawn and made.seconds else ""
    typer.echo(f"{made.samples:,} samples of {model} in {made.shards:,} shards: {out}")
    typer.echo(f"{made.drawn:,} drawn now in {made.seconds:.1f} s{rate}, {made.batch} at once")


@command(
    ("Measure a folder by what was collected", "dpmsolver evaluate fifty-thousand"),
    ("Add precision and recall", "dpmsolver evaluate fifty-thousand --data test-pictures.npz"),
    ("Measure the FID of CIFAR-10", "dpmsolver evaluate out --features inception --statistics cifar10.npz"),
)
def evaluate(
    folder: Annotated[str, argument("FOLDER", "The folder or URL that dpmsolver generate wrote to.", otherwise=False)],
    features: Annotated[
        str | None,
        option(
            MEASUREMENT,
            "NAME",
            "The features that are compared: digits, cifar10, efficientnet, inception or samples. Other features than the collected ones "
            "need a pass over all samples.",
            otherwise="the collected ones",
        ),
    ] = None,
    statistics: Annotated[
        Path | None,
        option(
            MEASUREMENT,
            "FILE",
            "Mean and covariance of the features of the data: safetensors with mean and covariance, or .npz with mu and sigma.",
            otherwise="those of the classifier",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        option(
            MEASUREMENT,
            "FILE",
            "Data for precision and recall: .npy, .npz (the first array) or a folder of pictures.",
            otherwise="none",
        ),
    ] = None,
    ranges: Annotated[
        int,
        option(MEASUREMENT, "N", "Equal ranges of seeds whose distances are measured separately.", least=1),
    ] = 3,
    as_json: Annotated[bool, flag(OUTPUT, "Print the measurements as JSON.", "--json")] = False,
) -> None:
    """Measure the samples of dpmsolver generate: Frechet distance, precision and recall, and class accuracy."""
    from dpmsolver.generation.evaluating import evaluate as measured

    values = None if data is None else _read(data, _DATA)[0]
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        found = measured(
            folder,
            features,
            statistics=statistics,
            data=values,
            ranges=ranges,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps({**asdict(found), "lowest": found.lowest, "mean": found.mean}))
    else:
        typer.echo(str(found))


def _classes(text: str) -> Any:
    return (
        {"all": "all", "random": "random", "none": None}[text]
        if text in ("all", "random", "none")
        else _class_list(text)
    )


def _batch(text: str) -> Any:
    if text != "auto" and not text.isdecimal():
        raise ValueError(f"--batch is a number of samples, or auto, got {text!r}")
    return text if text == "auto" else int(text)


def _prompts(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--prompts {path} cannot be read: {error}") from None
    if not any(lines):
        raise ValueError(f"--prompts {path} holds no line with a prompt")
    return [line for line in lines if line]


@contextmanager
def _told() -> Iterator[Callable[[Any], object]]:
    """Show the progress of a run: a bar on a terminal, and a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    from dpmsolver.generation.watching import duration

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(status: Any) -> None:
            left = "" if status.left is None else f", {duration(status.left)} left"
            bar.update(
                task, completed=status.samples, total=status.total, description=f"{status.rate:.3g} samples/s{left}"
            )

        yield update


class _Lines:
    """A line after ten seconds, then one in thirty."""

    def __init__(self) -> None:
        self.next = FIRST_LINE

    def __call__(self, status: Any) -> None:
        if status.seconds >= self.next:
            self.next = status.seconds + _LATER_LINES
            typer.echo(str(status), err=True)
