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
from dpmsolver.cli.long_runs import FIRST_LINE, INTERRUPTED, terminated_as_interrupted
from dpmsolver.cli.sampling import _class_list, _read_plan
from dpmsolver.cli.shared import GridName, app, progress_bar
from dpmsolver.sampling.runs import DEFAULT_SOLVER

__all__ = ["evaluate", "generate"]

_NFE = 10
_LATER_LINES = 30.0  # seconds
_DATA = 1_000_000  # of a file, at most


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver generate digits --num 50000 --nfe 10 --out fifty-thousand\n\n"
    "dpmsolver generate digits --num 50000 --plan plans/plan-6.json --engine processes --workers 2 --out tuned\n\n"
    "dpmsolver generate google/ddpm-cifar10-32 --seeds 0-49999 --format png --engine processes --device cuda --out pictures\n\n"
    "dpmsolver generate ./my-model --num 1000000 --engine ray --address auto --device cuda --out s3://bucket/million\n\n"
    "dpmsolver generate ./stable-diffusion --prompts prompts.txt --num 5000 --nfe 12 --device cuda --out captions\n\n"
    "dpmsolver generate --status fifty-thousand"
)
def generate(
    model: Annotated[
        str,
        typer.Argument(
            help="As in compare: 'digits', 'mixture-16', a folder in diffusers format, a hub id, or path/to/file.py:function "
            "that returns a Testbed; with --prompts a pipeline."
        ),
    ] = "digits",
    num: Annotated[
        int | None, typer.Option(metavar="N", help="Samples: the seeds 0 to N - 1.", show_default="none")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="RANGES", help="Instead, such as 50000-99999 or 0-99,500-599.", show_default="none"),
    ] = None,
    nfe: Annotated[
        int | None,
        typer.Option("--nfe", min=1, metavar="N", help="Network evaluations, exactly.", show_default=str(_NFE)),
    ] = None,
    solver: Annotated[
        str | None, typer.Option(metavar="NAME", help="Such as dpm++2m@karras:rho=5.", show_default=DEFAULT_SOLVER)
    ] = None,
    grid: GridName = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A plan, such as plans/plan-6.json from: dpmsolver tune.", show_default="none"
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE", help="Of classifier-free guidance.", show_default="1, with --prompts the model's"
        ),
    ] = None,
    classes: Annotated[
        str,
        typer.Option(metavar="LIST", help="Such as 3,7, in turn by seed; all; random: each seed draws its own; none."),
    ] = "all",
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of text to image: a text file, a prompt a line.", show_default="none"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder, or a URL such as s3://bucket/folder. The same command resumes what was stopped.",
            show_default="none",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="webdataset, parquet, npz, png or npy.",
            show_default="webdataset, npy for what is no picture",
        ),
    ] = None,
    shard: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Seeds of a shard.", show_default="1000, or all if fewer")
    ] = None,
    batch: Annotated[
        str, typer.Option(metavar="N", help="Samples that the network sees at once; auto: by trying.")
    ] = "auto",
    dtype: Annotated[str, typer.Option(metavar="NAME", help="float32, bfloat16 or float16.")] = "float32",
    compile: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Such as cuda: every GPU, with --engine.", show_default="cpu"),
    ] = None,
    noise: Annotated[
        str, typer.Option(metavar="NAME", help="Of stochastic solvers: host, independent or brownian.")
    ] = "host",
    features: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Statistics on the way: digits, cifar10, efficientnet, inception, samples, none; auto: what costs little.",
        ),
    ] = "auto",
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="inline: this process; processes: one per GPU, or --workers; ray.")
    ] = "inline",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many draw.", show_default="one per GPU, or by the cores")
    ] = None,
    threads: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Of a worker on a CPU.", show_default="the cores shared out; on Ray 1"),
    ] = 0,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a Ray cluster, such as auto.", show_default="one is started"),
    ] = None,
    verify: Annotated[
        str, typer.Option(metavar="HOW", help="Of shards that are there: sha256 reads them, size does not.")
    ] = "sha256",
    status: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Say how far a run is, and draw nothing.", show_default="none")
    ] = None,
) -> None:
    """Draw many samples, by any number of workers: sample i is seed i, and what was killed anywhere resumes to the same bytes."""
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
                nfe if given is not None else nfe or _NFE,
                out=out,
                seeds=seeds,
                solver=solver,
                grid=grid,
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


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver evaluate fifty-thousand\n\n"
    "dpmsolver evaluate pictures --features inception --statistics cifar10-32x32.npz\n\n"
    "dpmsolver evaluate fifty-thousand --data test-pictures.npz"
)
def evaluate(
    folder: Annotated[str, typer.Argument(help="A folder or URL that dpmsolver generate wrote to.")],
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="digits, cifar10, efficientnet, inception or samples; others than were kept look at all samples.",
            show_default="those that were kept",
        ),
    ] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of the data: safetensors with mean and covariance, or .npz with mu and sigma.",
            show_default="a classifier's own",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Data, for precision and recall: .npy, .npz, a folder of pictures."),
    ] = None,
    ranges: Annotated[int, typer.Option(min=1, metavar="N", help="Ranges of seeds whose distances are told too.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a folder of samples: Frechet distance, of all and of ranges of seeds, precision and recall, classes."""
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
    """What is told of a run: a bar on a terminal, and a line now and then elsewhere."""
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
