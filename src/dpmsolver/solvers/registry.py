"""The table of solvers, and `make_plan`, which makes a plan from the name of a solver and a budget.

To add a solver, write a module with a function (schedule, times, *, options…) -> Plan and a tuple `SOLVERS`, and add the module to
`_FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids import GRIDS, SOURCES, AnyGrid, are_times, default_grid, make_grid
from dpmsolver.option import options_of
from dpmsolver.plans.plan import Combination, Plan, Point
from dpmsolver.plans.targets import PREDICTIONS, conversion
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.schedules.span import default_end, default_start, one_time, scale_of_start
from dpmsolver.solvers import (
    adams,
    calibrated,
    cfgpp,
    classical,
    ddim,
    distilled,
    exponential_rk,
    heunpp,
    multistep,
    pndm,
    singlestep,
    stochastic,
    unipc,
    velocity,
)
from dpmsolver.solvers.auto import run_of
from dpmsolver.solvers.names import check_names, resolved
from dpmsolver.solvers.solver import AnySolver, Solver
from dpmsolver.typing import Predicts

__all__ = ["SOLVERS", "make_plan", "solvers", "table"]


_FAMILIES = (
    *(ddim, singlestep, multistep, unipc, exponential_rk, adams, velocity, pndm, classical, heunpp, stochastic),
    *(distilled, calibrated, cfgpp),
)


def table(entries: Iterable[Solver]) -> dict[str, Solver]:
    """Return solvers by name, after a check of the names.

    Raises:
        ValueError: two solvers have the same name, or a name belongs to another package.
    """
    found: dict[str, Solver] = {}
    for solver in entries:
        if solver.name in found:
            raise ValueError(
                f"two solvers are called {solver.name!r}, of the families {found[solver.name].family!r} and {solver.family!r}: rename one"
            )
        found[solver.name] = solver
    check_names(found)
    return found


SOLVERS = table(solver for family in _FAMILIES for solver in family.SOLVERS)


def solvers() -> dict[str, str]:
    """Return the names of the solvers, each with a one-line description.

    Examples:
        >>> solvers()["ddim"]
        'first order; eta > 0 adds noise'
    """
    return {name: solver.description for name, solver in SOLVERS.items()}


def make_plan(
    solver: AnySolver,
    schedule: NoiseSchedule,
    nfe: int,
    grid: AnyGrid | None = None,
    *,
    start: float | None = None,
    end: float | None = None,
    predicts: Predicts | None = None,
    **options: Any,
) -> Plan:
    """Make the plan of a solver for a budget of exactly `nfe` network evaluations.

    Args:
        solver: a name of `solvers()`, a `Solver` of your own, or "auto", which takes the solver and the grid that measurements recommend
            for the schedule and the budget; the plan names both. Names of other packages are understood (`dpmpp_2m`,
            "DPM++ 2M Karras", "UniPCMultistepScheduler"). The form `name@grid:option=value` gives grid and options in one text.
        schedule: the model's noise schedule.
        nfe: the number of network evaluations, an integer >= 1 that the solver can spend.
        grid: where the steps go: see `dpmsolver.grids.make_grid`. An array has one time more than the solver takes steps.
        start, end: the times where the run starts and ends. Use a start below t_max for image-to-image; start < end runs the ODE
            backwards. By default a run starts at the schedule's start, except that a network that predicts noise or score is not
            evaluated below half-log-SNR -5.1, and that a solver without a limit at alpha = 0 starts just above it. A run ends at
            `schedule.default_end(nfe)`, or at clean data if it starts below that.
        predicts: what the network predicts ("noise", "data", "v", "score" or "velocity"), which decides the default start. `sample`
            takes it from the denoiser.
        options: options of the solver (`eta`, `r1`, `r2`, `lower_order_final`, …) or of the grid (`rho`, `shift`, …): see `dpm.options`.

    Raises:
        PlanError: (a ValueError) the solver, the grid or an option is unknown, the solver cannot spend the budget, or times lie outside
            the schedule.

    Examples:
        >>> import dpmsolver as dpm
        >>> plan = dpm.make_plan("dpm++2m", dpm.schedules.LinearVP(), nfe=10)
        >>> plan.nfe, plan.prediction
        (10, 'data')
    """
    if predicts is not None and predicts not in PREDICTIONS:
        raise PlanError(unknown("prediction", predicts, PREDICTIONS))
    named, grid, start, end, options = resolved(SOLVERS, solver, grid, start, end, options)
    if isinstance(named, str) and named == "auto":
        named, grid, start = run_of(schedule, nfe, predicts, grid, start)
        named, grid, start, end, options = resolved(SOLVERS, named, grid, start, end, options)
    solver = SOLVERS[named] if isinstance(named, str) else named
    evaluations = solver.spend(nfe)
    accepted = solver.accepted_options()
    own = {name: value for name, value in options.items() if name in accepted}
    rest = {name: value for name, value in options.items() if name not in accepted}
    _check_options_of_grid(rest, grid, solver)
    moved: Point | None = None
    if not are_times(grid):
        if start is None:
            first = schedule.default_start()
            start = default_start(schedule, predicts, needs_signal=solver.prediction == "noise" or solver.finite)
            moved = Point.at(schedule, first) if start != first else None
        else:
            start = one_time(schedule, "start", start)
            if predicts is not None and schedule.alpha(start) == 0.0:  # what noise says of the data there
                conversion(predicts, "data", 0.0, float(schedule.sigma(start)))
        end = default_end(schedule, nfe, start, needs_noise=solver.finite) if end is None else end
    times = make_grid(schedule, len(evaluations), grid, start, end, nfe=nfe, **rest)
    said = {name: _recorded(value) for name, value in options.items()}
    handed: dict[str, Any] = {"evaluations": evaluations} if solver.takes_evaluations else {}
    made = solver.build(schedule, times, **handed, **own)
    if moved is not None and (factor := scale_of_start(schedule, made.start.time)) != 1.0:
        made = _scaled_from(moved, factor, made)
    named = _grid_name(grid, schedule, times)
    source = "; ".join(filter(None, (solver.source, SOURCES.get(named))))
    return replace(made, solver=solver.name, schedule=repr(schedule), grid=named, options=said, source=source)


def _scaled_from(origin: Point, factor: float, plan: Plan) -> Plan:
    """The plan for an x_T that belongs to another point, and that is multiplied by a number at the start of the run."""
    scale, rows = Combination(factor), list(plan.rows)
    for index, row in enumerate(rows):
        if row.advance is not None:
            rows[index] = replace(row, advance=row.advance.after(scale))
            break
        rows[index] = replace(row, predict=row.predict and row.predict.after(scale))
    return replace(plan, rows=tuple(rows), begin=scale, origin=origin, keeps_marginals=False)


def _grid_name(grid: object, schedule: NoiseSchedule, times: Floats) -> str:
    """What a plan says of its grid: its name, that of a function, or that the times were given."""
    if are_times(grid):
        return "given times"
    name = default_grid(schedule, float(times[0]), float(times[-1])) if grid is None else grid
    return name if isinstance(name, str) else str(getattr(name, "__name__", "your own"))


def _recorded(value: object) -> object:
    """An option as a plain value: numbers, words and sequences of numbers as they are, anything else by its name or its type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Sequence, np.ndarray, np.number)):
        return np.asarray(value).tolist()
    return str(getattr(value, "__name__", type(value).__name__))


def _check_options_of_grid(options: Mapping[str, Any], grid: object, solver: Solver) -> None:
    """Raise PlanError for an option that the grid does not declare; the solver's own are taken out already."""
    declared = {option.name for option in options_of(GRIDS[grid] if isinstance(grid, str) else grid)}
    for name in options:
        if name not in declared:
            accepted = sorted(declared | solver.accepted_options())
            raise PlanError(f"{unknown('option', name, accepted)} (for solver {solver.name} and the grid)")
