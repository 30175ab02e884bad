"""The command line: `dpmsolver sample`, `dpmsolver solvers`, `dpmsolver plan`.

It calls what everybody can call from Python. What a command needs is imported when it runs, so that help and tables come without torch.
Wrong input ends with one line on stderr and exit code 2, a run that fails with exit code 1; files are written aside and renamed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.adapters.diffusers import schedule_from_config
from dpmsolver.errors import unknown
from dpmsolver.files import written_aside
from dpmsolver.grids import GRIDS
from dpmsolver.models import pretrained
from dpmsolver.sample import DEFAULT_SOLVER
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.registry import SOLVERS

try:
    import typer
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
except ImportError as error:
    raise SystemExit(
        f"dpmsolver: error: the command line needs typer and rich ({error}): pip install 'dpmsolver[cli]'"
    ) from None

__all__ = ["app", "main"]

_PLAIN_WIDTH = 300  # columns of a table that is written to a file or a pipe
_SMALL = 64  # pictures with fewer rows are magnified by a whole number, to about this many


def _digits_schedule() -> NoiseSchedule:
    return schedule_from_config(json.loads((pretrained.DIGITS / "scheduler" / "scheduler_config.json").read_text()))


_SCHEDULES: dict[str, Callable[[], NoiseSchedule]] = {
    "digits": _digits_schedule,
    "linear-vp": dpm.schedules.LinearVP,
    "cosine": dpm.schedules.CosineVP,
    "edm": dpm.schedules.EDM,
    "flow": dpm.schedules.Flow,
}

app = typer.Typer(
    name="dpmsolver",
    help="Samples from pretrained diffusion models in about ten network evaluations.\n\n"
    "Start with [bold]dpmsolver sample[/bold]: it draws 64 digits into samples.png.",
    epilog="More about a command, with examples: [bold]dpmsolver sample --help[/bold]",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dpmsolver {dpm.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


Nfe = Annotated[int, typer.Option("--nfe", min=1, metavar="N", help="Network evaluations, exactly.")]
GridName = Annotated[
    str | None,
    typer.Option(
        "--grid", metavar="NAME", help=f"Where the steps go: {', '.join(GRIDS)}.", show_default="the solver's"
    ),
]


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
    _check_folder(out, "png")
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
    _check_folder(out, "safetensors")
    started = time.perf_counter()
    loaded = pretrained.load(model, device=device)
    labels = _labels(loaded, None, num)
    pictures = _draw(loaded, dpm.make_plan(DEFAULT_SOLVER, loaded.schedule, nfe), labels, guidance, num, seed, num)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
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


@app.command()
def solvers() -> None:
    """List the solvers: what each is, its order, and where it comes from."""
    table = Table("name", "order", "prediction", "evaluations per step", "description", "source")
    for solver in SOLVERS.values():
        each = str(solver.evaluations_per_step) if solver.steps is None else "varies"
        table.add_row(solver.name, str(solver.order), solver.prediction, each, solver.description, solver.source)
    console = Console()
    console.width = console.width if console.is_terminal else _PLAIN_WIDTH
    console.print(table)
    console.print(f"Default: {DEFAULT_SOLVER}. The order is measured; the budget of a run is nfe, whatever the solver.")


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "dpmsolver plan dpm++2m --nfe 10\n\n"
    "dpmsolver plan ddim --nfe 5 --schedule edm --grid karras\n\n"
    "dpmsolver plan dpm++3m --nfe 8 --json > plan.json"
)
def plan(
    solver: Annotated[str, typer.Argument(metavar="NAME", help="A solver: see dpmsolver solvers.")],
    nfe: Nfe = 10,
    schedule: Annotated[
        str, typer.Option(metavar="NAME", help=f"The noise schedule: {', '.join(_SCHEDULES)}.")
    ] = "digits",
    grid: GridName = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for dpm.Plan.from_json instead of a table.")] = False,
) -> None:
    """Show a plan: the table of coefficients that a solver is, one line per network evaluation."""
    if schedule not in _SCHEDULES:
        raise ValueError(unknown("schedule", schedule, _SCHEDULES))
    made = dpm.make_plan(solver, _SCHEDULES[schedule](), nfe, grid)
    typer.echo(made.to_json() if as_json else made.table())


def _check_folder(out: Path, suffix: str) -> None:
    folder = out.parent
    if not folder.is_dir():
        raise ValueError(f"--out {out}: there is no folder {folder}")
    if out.suffix.lower() != f".{suffix}" and not out.is_dir():
        raise ValueError(f"--out {out}: it is a {suffix.upper()} file, so its name ends in .{suffix}")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: name a file in it, such as {out / f'samples.{suffix}'}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: the folder {folder} cannot be written to")


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
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for a run that failed, 2 for wrong input.

    Examples:
        >>> main(["--version"])
        dpmsolver 0.1.0
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result: Any = app(args=given or ["--help"], prog_name="dpmsolver", standalone_mode=False)
    except (ValueError, OSError, ImportError) as error:
        return _refuse(error, 2)
    except dpm.SamplingError as error:
        return _refuse(error, 1)
    except Exception as error:
        # Wrong options. The class of these errors has moved between versions of typer; what it can do has not.
        if not hasattr(error, "format_message"):
            raise
        return _refuse(error.format_message(), 2)
    return result if isinstance(result, int) else 0


def _refuse(cause: object, code: int) -> int:
    print(f"dpmsolver: error: {' '.join(str(cause).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
