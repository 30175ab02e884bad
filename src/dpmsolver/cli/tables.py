"""`dpmsolver solvers` and `dpmsolver plan`: what there is, and what it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated

import typer
from rich.table import Table

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import schedule_from_config
from dpmsolver.cli.shared import GridName, Nfe, app, wide_console
from dpmsolver.errors import unknown
from dpmsolver.models import pretrained
from dpmsolver.sampling import DEFAULT_SOLVER
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.registry import SOLVERS

__all__ = ["digits_schedule", "plan", "solvers"]


def digits_schedule() -> NoiseSchedule:
    return schedule_from_config(json.loads((pretrained.DIGITS / "scheduler" / "scheduler_config.json").read_text()))


_SCHEDULES: dict[str, Callable[[], NoiseSchedule]] = {
    "digits": digits_schedule,
    "linear-vp": dpm.schedules.LinearVP,
    "cosine": dpm.schedules.CosineVP,
    "edm": dpm.schedules.EDM,
    "flow": dpm.schedules.Flow,
}


@app.command()
def solvers() -> None:
    """List the solvers: what each is, its order, and where it comes from."""
    table = Table("name", "order", "prediction", "evaluations per step", "description", "source")
    for solver in SOLVERS.values():
        each = str(solver.evaluations_per_step) if solver.steps is None else "varies"
        table.add_row(solver.name, str(solver.order), solver.prediction, each, solver.description, solver.source)
    console = wide_console()
    console.print(table)
    console.print(
        f"Default: {DEFAULT_SOLVER}, the solver and the grid that measurements recommend for a budget. "
        "The order is measured; the budget of a run is nfe, whatever the solver."
    )


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
