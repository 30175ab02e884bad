"""How commands describe themselves: their arguments, their options in groups, and their examples.

Every command is declared with these functions, so that all help texts have one form: a sentence of purpose, groups of options, each option
with its unit and its default, and examples with a line that says what they do. The reference prints the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from dpmsolver.cli.shared import app, examples_text
from dpmsolver.grids import GRIDS
from dpmsolver.sampling.runs import DEFAULT_SOLVER

__all__ = [
    "ANY_MODEL",
    "COMPUTATION",
    "DEFAULT_NFE",
    "EXAMPLES",
    "GROUPS",
    "MEASUREMENT",
    "OUTPUT",
    "SAMPLES",
    "SOLVER",
    "WORKERS",
    "AnyModel",
    "Classes",
    "Device",
    "Grid",
    "Guidance",
    "Nfe",
    "OptionalDevice",
    "PlanFile",
    "Solver",
    "argument",
    "command",
    "flag",
    "option",
]

SOLVER, SAMPLES, MEASUREMENT = "Solver", "Samples", "Measurement"
COMPUTATION, WORKERS, OUTPUT = "Computation", "Workers", "Output"
GROUPS = (SOLVER, SAMPLES, MEASUREMENT, COMPUTATION, WORKERS, OUTPUT)

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {}
"""The examples of each command: what one does, and the line to type."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def command(*examples: tuple[str, str]) -> Callable[[_Function], _Function]:
    """Make a function a command of its name. Its docstring is the help; the examples stand below the options.

    Args:
        examples: pairs of what an example does, in a few words, and the line to type.
    """

    def declared(function: _Function) -> _Function:
        EXAMPLES[function.__name__] = examples
        return app.command(epilog=examples_text(examples))(function)

    return declared


def argument(metavar: str, says: str, otherwise: str | bool = True) -> Any:
    """Declare the argument of a command.

    Args:
        metavar: the word that stands for it in the usage line.
        says: the help, in sentences.
        otherwise: a description of the default; True shows its value, False nothing.
    """
    return typer.Argument(metavar=metavar, help=says, show_default=otherwise)


def option(
    group: str, unit: str, says: str, *names: str, otherwise: str | bool = True, least: int | None = None
) -> Any:
    """Declare an option with a value.

    Args:
        group: the heading under which the help lists it, one of `GROUPS`.
        unit: the word that stands for the value, such as N for a number or FILE for a path.
        says: the help, in sentences.
        names: its names, where the parameter has another one.
        otherwise: a description of the default; True shows its value, False nothing.
        least: the smallest value of a number.
    """
    return typer.Option(*names, metavar=unit, help=says, show_default=otherwise, min=least, rich_help_panel=group)


def flag(group: str, says: str, name: str) -> Any:
    """Declare an option without a value, which is off by default."""
    return typer.Option(name, metavar="", help=says, show_default="off", rich_help_panel=group)


ANY_MODEL = (
    "The model: one that comes with the package, such as digits or cifar10; data whose network is known exactly, such as gaussian or "
    "mixture-16; a folder in diffusers format; the id of a model on the Hugging Face hub; or path/to/file.py:function for a function that "
    "returns a Testbed."
)

AnyModel = Annotated[str, argument("MODEL", ANY_MODEL)]
Solver = Annotated[
    str | None,
    option(
        SOLVER,
        "NAME",
        "The solver, such as dpm++2m. A grid and options may follow, as in dpm++2m@karras:rho=5, and names of other packages, "
        "such as 'DPM++ 2M Karras', are understood. dpmsolver solvers lists all of them.",
        otherwise=DEFAULT_SOLVER,
    ),
]
Grid = Annotated[
    str | None,
    option(SOLVER, "NAME", f"Where the steps go, one of: {', '.join(GRIDS)}.", otherwise="the solver's"),
]
DEFAULT_NFE = 10
Nfe = Annotated[
    int | None,
    option(
        SOLVER,
        "N",
        "The exact number of network evaluations of each sample.",
        "--nfe",
        otherwise=str(DEFAULT_NFE),
        least=1,
    ),
]
PlanFile = Annotated[
    Path | None,
    option(
        SOLVER,
        "FILE",
        "A plan that replaces the solver, the grid and the number of evaluations, such as plans/plan-6.json from dpmsolver tune.",
        otherwise="none",
    ),
]
Guidance = Annotated[
    float,
    option(
        SAMPLES,
        "SCALE",
        "The scale of classifier-free guidance. 1 is none; above 1 classes are clearer, samples vary less, and a run costs twice as much.",
    ),
]
Classes = Annotated[
    str | None,
    option(
        SAMPLES,
        "LIST",
        "Class numbers with commas between, such as 0,1,2, which the samples take in turn.",
        otherwise="all in turn",
    ),
]
_DEVICE = "The device of the network, such as cpu, cuda or cuda:1."
Device = Annotated[str, option(COMPUTATION, "NAME", _DEVICE)]
# For commands that take models without a device too: laws in closed form, and models of the user.
OptionalDevice = Annotated[str | None, option(COMPUTATION, "NAME", _DEVICE, otherwise="cpu")]
