"""`dpmsolver solvers` and `dpmsolver plan`: what there is, and what it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.table import Table

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import schedule_from_config
from dpmsolver.cli.describe import OUTPUT, SOLVER, Grid, argument, command, flag, option
from dpmsolver.cli.shared import narrow_console, written
from dpmsolver.errors import unknown
from dpmsolver.models import pretrained
from dpmsolver.references import bibtex
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers import Solver
from dpmsolver.solvers.names import ALIASES, parsed, understood
from dpmsolver.solvers.registry import SOLVERS
from dpmsolver.typing import Written

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


@command(
    ("List all solvers", "dpmsolver solvers"),
    ("List those that have a word in their name, family or description", "dpmsolver solvers sde"),
    ("Describe one solver with its options", "dpmsolver solvers dpm++2m"),
)
def solvers(
    name: Annotated[
        str | None,
        argument(
            "NAME",
            "The name of a solver, which is described with its options, or a word, for the solvers whose name or description has it.",
            otherwise="all solvers",
        ),
    ] = None,
    family: Annotated[
        str | None,
        option(SOLVER, "NAME", "List only the solvers of this family, such as UniPC.", otherwise="all families"),
    ] = None,
) -> None:
    """List the solvers, or describe one: its order, its options and its source."""
    families = list(dict.fromkeys(solver.family for solver in SOLVERS.values()))
    if family is not None and family.lower() not in (each.lower() for each in families):
        raise ValueError(unknown("family", family, families))
    found = [s for s in SOLVERS.values() if family is None or s.family.lower() == family.lower()]
    if name is not None:
        part = [s for s in found if name.lower() in " ".join((s.name, s.description, s.family, s.source)).lower()]
        if name.lower() in ("auto", *SOLVERS) or not part:
            _show(name)
            return
        found = part
    _list(found, with_auto=name is None and family is None)


def _list(found: list[Solver], with_auto: bool) -> None:
    """Solvers by family: name, order, evaluations a step, description."""
    console = narrow_console()
    table = Table("name", "order", "calls", "description", box=None, padding=(0, 1, 0, 0))
    if with_auto:
        table.add_row("[bold]auto[/bold]", "", "", "what measurements recommend for a schedule and a budget (default)")
    for family in dict.fromkeys(solver.family for solver in found):
        table.add_row()
        table.add_row(f"[bold]{family}[/bold]")
        for solver in found:
            if solver.family == family:
                each = str(solver.evaluations_per_step) if solver.evaluations is None else "-"
                table.add_row(f" {solver.name}", str(solver.order), each, solver.description)
    console.print(table)
    console.print(
        "\norder: measured. calls: network evaluations a step, - where steps differ; a budget (nfe) counts them all.\n"
        "One solver with its options and its source: dpmsolver solvers NAME"
    )


def _show(name: str) -> None:
    """One solver, by whatever name: what it is, its options with their defaults, its source, and what others call it."""
    spec = understood(name, SOLVERS)
    rows: list[tuple[str, str]] = []
    said = ":".join(["@".join(filter(None, spec[:2])), *(f"{key}={value}" for key, value in spec.options.items())])
    if name.lower() != said.lower():
        rows.append(("written here", said))
    if spec.solver == "auto":
        rows.append(
            ("what", "the solver and the grid that measurements recommend for a schedule and a budget (default)")
        )
        rows += [
            (f"on {schedule}", ", ".join(_taken(schedule, nfe) for nfe in (5, 10, 20, 50))) for schedule in _SCHEDULES
        ]
    else:
        rows += _facts(SOLVERS[spec.solver])
    console = narrow_console()
    grid = Table.grid(padding=(0, 2, 0, 0))
    for key, value in rows:
        grid.add_row(key, value)
    console.print(f"[bold]{spec.solver}[/bold]")
    console.print(grid)


def _taken(schedule: str, nfe: int) -> str:
    taken = dpm.make_plan("auto", _SCHEDULES[schedule](), nfe)
    return f"{taken.solver}@{taken.grid} for {nfe}"


def _facts(solver: Solver) -> Iterator[tuple[str, str]]:
    yield "what", solver.description
    yield "family", solver.family
    yield "prediction", solver.prediction
    yield "order", f"{solver.order}{' in law' if solver.stochastic else ''}"
    yield (
        "evaluations",
        f"{solver.evaluations_per_step} a step" if solver.evaluations is None else "more in some steps than in others",
    )
    yield "adds noise", "yes" if solver.stochastic else "no"
    yield "source", solver.source
    for i, choice in enumerate(dpm.options(solver)):
        yield "" if i else "options", str(choice)
    if not solver.options:
        yield "options", "none, but for those of the grid"
    theirs = [
        alias for group in ALIASES.values() for alias, ours in group.items() if parsed(ours).solver == solver.name
    ]
    if theirs:
        yield "also called", ", ".join(theirs)
    for i, entry in enumerate(bibtex(solver.source)):
        yield "" if i else "cite", entry


@command(
    ("Print the coefficients of ten evaluations", "dpmsolver plan dpm++2m --nfe 10"),
    ("Use another schedule and grid", "dpmsolver plan ddim@karras:rho=5 --nfe 5 --schedule edm --end 0"),
    ("Save a plan for dpmsolver sample --plan", "dpmsolver plan dpm++3m --nfe 8 --json > plan.json"),
)
def plan(
    solver: Annotated[
        str,
        argument(
            "NAME",
            "The solver, such as dpm++2m, or with a grid and options dpm++2m@karras:rho=5. dpmsolver solvers lists all of them.",
            otherwise=False,
        ),
    ],
    nfe: Annotated[int, option(SOLVER, "N", "The exact number of network evaluations.", "--nfe", least=1)] = 10,
    schedule: Annotated[str, option(SOLVER, "NAME", f"The noise schedule: {', '.join(_SCHEDULES)}.")] = "digits",
    grid: Grid = None,
    start: Annotated[
        float | None,
        option(SOLVER, "TIME", "The time of the schedule where the run starts.", otherwise="that of pure noise"),
    ] = None,
    end: Annotated[
        float | None,
        option(
            SOLVER,
            "TIME",
            "The time of the schedule where the run ends; 0 is clean data.",
            otherwise="the schedule's for this number of evaluations",
        ),
    ] = None,
    as_json: Annotated[
        bool, flag(OUTPUT, "Print the JSON that dpm.Plan.from_json reads, instead of a table.", "--json")
    ] = False,
) -> None:
    """Print the plan of a solver: the table of its coefficients, with one line for each network evaluation."""
    if schedule not in _SCHEDULES:
        raise ValueError(unknown("schedule", schedule, _SCHEDULES))
    made = dpm.make_plan(Written(solver), _SCHEDULES[schedule](), nfe, written(grid), start=start, end=end)
    typer.echo(made.to_json() if as_json else made.table())
