"""`dpmsolver sample` and `dpmsolver calibrate`: what runs a pretrained model."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.cli.shared import GridName, Nfe, app, check_file, progress_bar
from dpmsolver.files import written_aside
from dpmsolver.models import pretrained
from dpmsolver.sampling import DEFAULT_SOLVER

__all__ = ["calibrate", "sample"]

_SMALL = 64  # pictures with fewer rows are magnified by a whole number, to about this many


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver sample --nfe 10\n\n"
    "dpmsolver sample --classes 3,7 --guidance 2 --num 16\n\n"
    "dpmsolver sample --solver ddim --nfe 50 --seed 7 --out ddim.png\n\n"
    "dpmsolver sample ./my-model --nfe 20 --batch 16\n\n"
    "dpmsolver sample google/ddpm-cifar10-32 --device cuda"
)
def sample(
    model: Annotated[
        str, typer.Argument(help="'digits' (comes with the package), a folder in diffusers format, or a hub id.")
    ] = "digits",
    nfe: Nfe = 10,
    solver: Annotated[str, typer.Option(metavar="NAME", help="See: dpmsolver solvers.")] = DEFAULT_SOLVER,
    grid: GridName = None,
    num: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures.")] = 64,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed draws the same pictures.")] = 0,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Classes such as 0,1,2, repeated in this order, row by row.",
            show_default="all in turn",
        ),
    ] = None,
    guidance: Annotated[
        float, typer.Option(metavar="SCALE", help="Above 1: clearer classes, less variety, twice the work.")
    ] = 1.0,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures that are drawn at once.")] = 64,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where the network runs, such as cuda.")] = "cpu",
    statistics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For the calibrated solvers, from: dpmsolver calibrate.", show_default="none"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The PNG file.")] = Path("samples.png"),
) -> None:
    """Draw samples of a pretrained model into one PNG picture."""
    check_file(out, "png")
    chosen = _class_list(classes)
    started = time.perf_counter()
    loaded = pretrained.load(model, device=device)
    if loaded.shape[0] not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, and {model} has {loaded.shape[0]}")
    measured: dict[str, Any] = {} if statistics is None else {"statistics": dpm.ModelStatistics.load(statistics)}
    plan = dpm.make_plan(solver, loaded.schedule, nfe, grid, **measured)
    labels = _labels(loaded, chosen, num)
    # Raises for labels and guidance that do not fit, before any evaluation.
    loaded.denoiser(labels, guidance)
    ready = time.perf_counter()
    pictures = _draw(loaded, plan, labels, guidance, num, seed, batch)
    seconds = time.perf_counter() - ready
    _write_png(_contact_sheet(pictures), out)
    typer.echo(
        f"{num} samples of {model}: {plan.solver}, {plan.nfe} network evaluations each, {seconds:.1f} s "
        f"(and {ready - started:.1f} s to load the model), written to {out}"
    )
    for note in loaded.notes:
        typer.echo(note, err=True)


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver calibrate --out digits.safetensors\n\n"
    "dpmsolver sample --solver dpm-v3 --statistics digits.safetensors --nfe 6"
)
def calibrate(
    model: Annotated[
        str, typer.Argument(help="'digits' (comes with the package), a folder in diffusers format, or a hub id.")
    ] = "digits",
    num: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures of the model's own to measure it on.")] = 256,
    levels: Annotated[int, typer.Option(min=4, metavar="N", help="Noise levels.")] = 60,
    draws: Annotated[int, typer.Option(min=1, metavar="N", help="Draws of noise for each picture and level.")] = 1,
    nfe: Annotated[int, typer.Option(min=1, metavar="N", help="Network evaluations of each of these pictures.")] = 20,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The same seed measures the same.")] = 0,
    guidance: Annotated[float, typer.Option(metavar="SCALE", help="The guidance that samples will have.")] = 1.0,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where the network runs, such as cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(metavar="FILE", help="The safetensors file.")] = Path("statistics.safetensors"),
) -> None:
    """Measure a network once, for the solvers dpm-v3, analytic-ddpm and analytic-ddim."""
    check_file(out, "safetensors")
    started = time.perf_counter()
    loaded = pretrained.load(model, device=device)
    labels = _labels(loaded, None, num)
    pictures = _draw(loaded, dpm.make_plan(DEFAULT_SOLVER, loaded.schedule, nfe), labels, guidance, num, seed, num)
    with progress_bar() as progress:
        task = progress.add_task("calibrating", total=2 * levels)
        measured = dpm.calibrate(
            loaded.denoiser(labels, guidance),
            backends.of(loaded.initial_noise(1)).from_numpy(pictures.astype(np.float64), loaded.initial_noise(1)),
            levels=levels,
            draws=draws,
            seed=seed,
            progress=lambda done, _: progress.update(task, completed=done),
        )
    measured.save(out)
    typer.echo(
        f"{model} measured on {num} of its pictures at {levels} noise levels, {5 * levels * draws} network evaluations each, "
        f"{time.perf_counter() - started:.1f} s, written to {out}"
    )


def _class_list(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--classes takes numbers with commas between, such as 0,1,2, got {text!r}") from None


def _labels(model: pretrained.Pretrained, classes: list[int] | None, num: int) -> list[int] | None:
    """One class per picture: those asked for, or all of the model's, in turn."""
    if classes is None and model.num_classes is None:
        return None
    cycle = classes if classes is not None else range(model.num_classes or 0)
    return [cycle[i % len(cycle)] for i in range(num)]


def _draw(
    model: pretrained.Pretrained,
    plan: dpm.Plan,
    labels: Sequence[int] | None,
    guidance: float,
    num: int,
    seed: int,
    batch: int,
) -> NDArray[np.float32]:
    """The samples, (num, channels, height, width). The size of a batch changes no sample."""
    x_T = model.initial_noise(num, seed)
    keys = [(seed, i) for i in range(num)]
    done: list[NDArray[np.float32]] = []
    with progress_bar() as progress:
        task = progress.add_task("sampling", total=plan.nfe * num)
        for first in range(0, num, batch):
            part = slice(first, min(first + batch, num))
            denoiser = model.denoiser(None if labels is None else labels[part], guidance)

            def advance(state: dpm.State, part: slice = part) -> None:
                progress.update(task, completed=plan.nfe * part.start + state.index * (part.stop - part.start))

            x0 = dpm.sample(denoiser, x_T[part], plan=plan, callback=advance, generator=keys[part])
            done.append(x0.cpu().numpy())
    return np.concatenate(done)


def _contact_sheet(pictures: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures (num, channels, height, width) in [-1, 1] on one sheet (height, width, channels), as square as can be."""
    num, channels, height, width = pictures.shape
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    cells = np.zeros((rows * columns, channels, height, width), dtype=np.uint8)
    cells[:num] = np.rint(np.clip(pictures, -1.0, 1.0) * 127.5 + 127.5)
    sheet = cells.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    flat = sheet.reshape(rows * height, columns * width, channels)
    factor = max(1, _SMALL // height)
    return flat.repeat(factor, axis=0).repeat(factor, axis=1)


def _write_png(pixels: NDArray[np.uint8], out: Path) -> None:
    from PIL import Image

    with written_aside(out) as aside:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(aside, format="PNG")
