"""Code shared by the commands: the app, options that mean the same everywhere, and checks of names and of output files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

import dpmsolver as dpm
from dpmsolver.solvers.names import resolved
from dpmsolver.solvers.registry import SOLVERS
from dpmsolver.typing import Written

__all__ = [
    "Interrupted",
    "app",
    "check_file",
    "check_solver",
    "check_writable",
    "examples_text",
    "narrow_console",
    "progress_bar",
    "wide_console",
    "written",
]

_PLAIN_WIDTH = 300  # columns of a table that is written to a file or a pipe
_NARROW = 80


class Interrupted(Exception):
    """Ctrl-C, which typer would turn into an exit without a word."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


_FIRST = (
    ("Draw 64 digits with ten evaluations into samples.png", "dpmsolver sample --nfe 10"),
    ("Describe a solver with its options", "dpmsolver solvers dpm++2m"),
    ("Compare solvers on a model, with a page of results", "dpmsolver compare digits --num 200 --nfe 5,10"),
)


def examples_text(examples: Iterable[tuple[str, str]]) -> str:
    """Return the end of a help text: each example as what it does, and below it the line to type."""
    shown = "\n\n".join(f"{escape(does)}:\n  {escape(line)}" for does, line in examples)
    return f"[bold]Examples[/bold]\n\n{shown}"


app = typer.Typer(
    name="dpmsolver",
    cls=_Commands,
    help="Samples from pretrained diffusion models in about ten network evaluations.\n\n"
    "Each command has a help of its own, with examples: [bold]dpmsolver sample --help[/bold].",
    epilog=examples_text(_FIRST),
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
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, metavar="", help="Show the version and exit."),
    ] = False,
) -> None:
    pass


def wide_console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for whole lines elsewhere."""
    console = Console()
    console.width = console.width if console.is_terminal else _PLAIN_WIDTH
    return console


def narrow_console() -> Console:
    """Return the console for lists: as wide as the terminal, and 80 columns elsewhere."""
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else _NARROW
    return console


def progress_bar() -> Progress:
    """A bar on stderr, with the time left; none where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def check_solver(solver: str, grid: str | None, nfe: int) -> None:
    """Raise PlanError for an unknown solver or grid, an option of a wrong kind, or a budget that the solver cannot spend."""
    chosen, *_ = resolved(SOLVERS, solver, grid, None, None, {})
    if chosen in SOLVERS:
        SOLVERS[str(chosen)].spend(nfe)


def written(grid: str | None) -> Written | None:
    """Return what a person typed for a grid, as `make_plan` takes it."""
    return None if grid is None else Written(grid)


def check_file(out: Path, suffix: str) -> None:
    """Raise ValueError where a file of this name cannot be written."""
    folder = out.parent
    if not folder.is_dir():
        raise ValueError(f"--out {out}: there is no folder {folder}")
    if out.suffix.lower() != f".{suffix}" and not out.is_dir():
        raise ValueError(f"--out {out}: it is a {suffix.upper()} file, so its name ends in .{suffix}")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder: name a file in it, such as {out / f'samples.{suffix}'}")
    check_writable(out, folder)


def check_writable(out: Path, folder: Path) -> None:
    """Raise ValueError where nothing can be written into a folder."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: the folder {folder} cannot be written to")
