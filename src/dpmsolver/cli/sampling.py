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
from dpmsolver.cli.describe import (
    COMPUTATION,
    DEFAULT_NFE,
    MEASUREMENT,
    OUTPUT,
    SAMPLES,
    SOLVER,
    Classes,
    Device,
    Grid,
    Guidance,
    Nfe,
    PlanFile,
    Solver,
    argument,
    command,
    option,
)
from dpmsolver.cli.shared import check_file, check_solver, progress_bar, written
from dpmsolver.cli.writing import output
from dpmsolver.models import pretrained
from dpmsolver.sampling.runs import DEFAULT_SOLVER
from dpmsolver.solvers.statistics import ModelStatistics
from dpmsolver.typing import Written

__all__ = ["calibrate", "sample"]

PretrainedModel = Annotated[
    str,
    argument(
        "MODEL",
        f"The model: one of {', '.join(pretrained.EMBEDDED)}, which come with the package, a folder in diffusers format, or the id of a "
        "model on the Hugging Face hub.",
    ),
]


@command(
    ("Draw 64 digits with ten evaluations into samples.png", "dpmsolver sample --nfe 10"),
    ("Draw sixteen guided threes and sevens", "dpmsolver sample --classes 3,7 --guidance 2 --num 16"),
    ("Draw single pictures with another solver", "dpmsolver sample --solver 'DPM++ 2M Karras' --out pictures/"),
)
def sample(
    model: PretrainedModel = "digits",
    nfe: Nfe = None,
    solver: Solver = None,
    grid: Grid = None,
    statistics: Annotated[
        Path | None,
        option(
            SOLVER,
            "FILE",
            "The file of dpmsolver calibrate, which the solvers dpm-v3, analytic-ddpm and analytic-ddim need.",
            otherwise="none",
        ),
    ] = None,
    plan: PlanFile = None,
    num: Annotated[int, option(SAMPLES, "N", "The number of samples.", least=1)] = 64,
    seed: Annotated[
        int, option(SAMPLES, "N", "The seed of the noise. The same seed draws the same samples.", least=0)
    ] = 0,
    classes: Classes = None,
    guidance: Guidance = 1.0,
    batch: Annotated[
        int,
        option(COMPUTATION, "N", "Samples that are drawn at once. It changes the memory, not the samples.", least=1),
    ] = 64,
    device: Device = "cpu",
    out: Annotated[
        str,
        option(
            OUTPUT,
            "PATH",
            "A .png or .jpg file for one sheet of all samples, an .npz file for arrays (arr_0: bytes, samples by height by width by "
            "channels; arr_1: classes), or a folder such as pictures/ for one picture each.",
        ),
    ] = "samples.png",
) -> None:
    """Draw samples of a pretrained model into a picture, a folder of pictures or an array."""
    place, chosen = output(out), _class_list(classes)
    _check_guidance(guidance)
    given = None if plan is None else _read_plan(plan, nfe, solver, grid, statistics)
    asked = solver or DEFAULT_SOLVER
    if given is None:
        check_solver(asked, grid, nfe or DEFAULT_NFE)
    measured: dict[str, Any] = {} if statistics is None else {"statistics": ModelStatistics.load(statistics)}

    def prepared(model: pretrained.Outline | pretrained.Pretrained) -> tuple[dpm.Plan, list[int] | None]:
        place.check_channels(model.shape[0])
        labels = _labels(model.num_classes, chosen, num)
        model.check(labels, guidance)
        if given is not None:
            return given, labels
        made = dpm.make_plan(
            Written(asked), model.schedule, nfe or DEFAULT_NFE, written(grid), predicts=model.predicts, **measured
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


@command(
    ("Measure the embedded network", "dpmsolver calibrate --out digits.safetensors"),
    ("Sample with the result", "dpmsolver sample --solver dpm-v3 --statistics digits.safetensors --nfe 6"),
)
def calibrate(
    model: PretrainedModel = "digits",
    nfe: Annotated[
        int,
        option(SOLVER, "N", "Network evaluations of each picture that the network is measured on.", "--nfe", least=1),
    ] = 20,
    num: Annotated[
        int, option(SAMPLES, "N", "Pictures that are drawn, to measure the network on them.", least=1)
    ] = 256,
    seed: Annotated[int, option(SAMPLES, "N", "The seed of the pictures and of the noise.", least=0)] = 0,
    guidance: Annotated[float, option(SAMPLES, "SCALE", "The guidance scale of the later samples; 1 is none.")] = 1.0,
    levels: Annotated[int, option(MEASUREMENT, "N", "Noise levels at which the network is measured.", least=4)] = 60,
    draws: Annotated[int, option(MEASUREMENT, "N", "Draws of noise for each picture and level.", least=1)] = 1,
    device: Device = "cpu",
    out: Annotated[Path, option(OUTPUT, "FILE", "The safetensors file that is written.")] = Path(
        "statistics.safetensors"
    ),
) -> None:
    """Measure a network once, and write the statistics that the solvers dpm-v3, analytic-ddpm and analytic-ddim need."""
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
