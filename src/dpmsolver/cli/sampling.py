"""`dpmsolver sample` and `dpmsolver calibrate`: what runs a pretrained model."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.cli.shared import GridName, app, check_file, check_solver, progress_bar, written
from dpmsolver.cli.writing import output
from dpmsolver.models import pretrained
from dpmsolver.sampling.runs import DEFAULT_SOLVER
from dpmsolver.solvers.statistics import ModelStatistics
from dpmsolver.typing import Written

__all__ = ["calibrate", "sample"]

_NFE = 10


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver sample --nfe 10\n\n"
    "dpmsolver sample --classes 3,7 --guidance 2 --num 16\n\n"
    "dpmsolver sample --solver ddim --nfe 50 --seed 7 --out ddim.jpg\n\n"
    "dpmsolver sample --solver dpm++2m@karras:rho=5 --num 1000 --out pictures/\n\n"
    "dpmsolver sample ./my-model --nfe 20 --batch 16\n\n"
    "dpmsolver sample digits --plan plans/plan-6.json\n\n"
    "dpmsolver sample google/ddpm-cifar10-32 --device cuda"
)
def sample(
    model: Annotated[
        str, typer.Argument(help="'digits' (comes with the package), a folder in diffusers format, or a hub id.")
    ] = "digits",
    nfe: Annotated[
        int | None,
        typer.Option("--nfe", min=1, metavar="N", help="Network evaluations, exactly.", show_default=str(_NFE)),
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Such as dpm++2m@karras:rho=5, or 'DPM++ 2M Karras'. See: dpmsolver solvers.",
            show_default=DEFAULT_SOLVER,
        ),
    ] = None,
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
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A plan, such as plans/plan-6.json from: dpmsolver tune; instead of solver, grid and nfe.",
            show_default="none",
        ),
    ] = None,
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="A sheet of all (.png, .jpg), an array (.npz: arr_0 uint8 NHWC, arr_1 the classes), or a folder of pictures (pictures/).",
        ),
    ] = "samples.png",
) -> None:
    """Draw samples of a pretrained model into a picture, a folder of pictures or an array."""
    place, chosen = output(out), _class_list(classes)
    _check_guidance(guidance)
    given = None if plan is None else _read_plan(plan, nfe, solver, grid, statistics)
    asked = solver or DEFAULT_SOLVER
    if given is None:
        check_solver(asked, grid, nfe or _NFE)
    measured: dict[str, Any] = {} if statistics is None else {"statistics": ModelStatistics.load(statistics)}

    def prepared(model: pretrained.Outline | pretrained.Pretrained) -> tuple[dpm.Plan, list[int] | None]:
        place.check_channels(model.shape[0])
        labels = _labels(model.num_classes, chosen, num)
        model.check(labels, guidance)
        if given is not None:
            return given, labels
        made = dpm.make_plan(
            Written(asked), model.schedule, nfe or _NFE, written(grid), predicts=model.predicts, **measured
        )
        return made, labels

    # What a model's configs say is checked before torch is imported; those of a hub model once they are here.
    known = pretrained.outline(model)
    early = prepared(known) if known else None
    started = time.perf_counter()
    loaded = pretrained.load(model, device=device)
    made, labels = early or prepared(loaded)
    ready = time.perf_counter()
    pictures = _draw(loaded, made, labels, guidance, num, seed, batch)
    seconds = time.perf_counter() - ready
    place.write(pictures, labels, seed)
    said = _said(made, asked) if plan is None else f"the plan in {plan}"
    typer.echo(f"{num} samples of {model}, {made.nfe} network evaluations each: {said}")
    typer.echo(f"{seconds:.1f} s, and {ready - started:.1f} s to load the model; written to {out}")
    for note in loaded.notes:
        typer.echo(note, err=True)


def _read_plan(path: Path, nfe: int | None, solver: str | None, grid: str | None, statistics: Path | None) -> dpm.Plan:
    """The plan of a file. ValueError where the other options say what it says itself."""
    if any(option is not None for option in (solver, grid, statistics)):
        raise ValueError(
            f"--plan {path} says its solver and its grid by itself: leave --solver, --grid and --statistics out"
        )
    try:
        read = dpm.Plan.from_json(path.read_text())
    except (dpm.PlanError, UnicodeDecodeError) as error:
        raise ValueError(f"--plan {path}: {error}") from None
    if nfe not in (None, read.nfe):
        raise ValueError(f"--plan {path} spends {read.nfe} evaluations, and --nfe says {nfe}: leave --nfe out")
    return read


def _said(plan: dpm.Plan, asked: str) -> str:
    """Which solver, grid and options a run had, and whether "auto" took them."""
    options = [f"{name}={value}" for name, value in plan.options.items()]
    said = ", ".join([f"{plan.solver} @ {plan.grid}", *options])
    return f"{said} (taken by auto)" if re.match("auto\\b", asked, re.IGNORECASE) else said


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
    _check_guidance(guidance)
    known = pretrained.outline(model)
    if known:
        known.check(_labels(known.num_classes, None, num), guidance)
    started = time.perf_counter()
    loaded = pretrained.load(model, device=device)
    labels = _labels(loaded.num_classes, None, num)
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


def _check_guidance(scale: float) -> None:
    if not 0.0 <= scale < math.inf:
        raise ValueError(f"--guidance is a finite number >= 0 (1 is none), got {scale:g}")


def _class_list(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--classes takes numbers with commas between, such as 0,1,2, got {text!r}") from None


def _labels(num_classes: int | None, classes: list[int] | None, num: int) -> list[int] | None:
    """One class per picture: those asked for, or all of the model's, in turn."""
    if classes is None and num_classes is None:
        return None
    cycle = classes if classes is not None else range(num_classes or 0)
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

            def advance(evaluations: int, _: int, part: slice = part) -> None:
                progress.update(task, completed=plan.nfe * part.start + evaluations * (part.stop - part.start))

            x0 = dpm.sample(denoiser, x_T[part], plan=plan, progress=advance, generator=keys[part])
            done.append(x0.cpu().numpy())
    return np.concatenate(done)
