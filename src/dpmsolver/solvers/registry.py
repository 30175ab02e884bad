"""The table of solvers, and `make_plan`: from a name and a budget to a Plan.

To add a solver: write a function (schedule, times, *, options…) -> Plan in a module of its own, and a line in `_SOLVERS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids import GRIDS, Grid, make_grid
from dpmsolver.plan import Plan, Prediction
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.ddim import ddim
from dpmsolver.solvers.multistep import multistep
from dpmsolver.solvers.singlestep import fast_orders, singlestep

__all__ = ["SOLVERS", "Solver", "make_plan", "solvers"]


@dataclass(frozen=True)
class Solver:
    """What the registry knows of a solver.

    `order` is the convergence order that the tests measure. `steps(nfe)` says how a budget is spent: the evaluations of each step;
    `stepwise` solvers are handed that as `orders`.
    """

    name: str
    build: Callable[..., Plan]
    prediction: Prediction
    order: int
    description: str
    source: str
    evaluations_per_step: int = 1
    steps: Callable[[int], tuple[int, ...]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def spend(self, nfe: int) -> tuple[int, ...]:
        """The evaluations of each step for a budget of exactly nfe. PlanError, with the nearest budgets, where that cannot be."""
        if not isinstance(nfe, (int, np.integer)) or isinstance(nfe, bool) or nfe < 1:
            raise PlanError(f"nfe must be an integer >= 1, got {nfe!r}")
        if self.steps is not None:
            return self.steps(nfe)
        each = self.evaluations_per_step
        if nfe % each:
            below, above = nfe - nfe % each, nfe + each - nfe % each
            nearest = f"{below} or {above}" if below else f"{above}"
            raise PlanError(
                f"{self.name} spends {each} evaluations a step, so it cannot spend nfe={nfe}: nearest is {nearest}"
            )
        return (each,) * (nfe // each)

    def accepted_options(self) -> set[str]:
        """The names of the options a caller may give."""
        parameters = inspect.signature(self.build).parameters
        return set(parameters) - {"schedule", "times", "orders"} - set(_fixed(self.build))


def _fixed(build: Callable[..., Plan]) -> dict[str, Any]:
    return build.keywords if isinstance(build, partial) else {}


def _family() -> list[Solver]:
    """DPM-Solver (noise prediction) and DPM-Solver++ (data prediction), as published and with exact integrals."""
    paper, plus = "Lu et al. 2022, arXiv 2206.00927", "Lu et al. 2022, arXiv 2211.01095"
    table: list[Solver] = []
    predictions: tuple[tuple[Prediction, str, str, str], ...] = (
        ("noise", "dpm-", "", paper),
        ("data", "dpm++", "s", plus),
    )
    for prediction, prefix, suffix, source in predictions:
        for order in (2, 3):
            for published in (True, False):
                form = "as published" if published else "with exact phi-functions"
                exact = "" if published else "-exact"
                single = partial(singlestep, prediction=prediction, published=published)
                multi = partial(multistep, prediction=prediction, order=order, published=published)
                # The published 3M halves the second difference: order 2 in the limit, often better than the exact one at 10-20 steps.
                slope = 2 if published else order
                name = f"{prefix}{order}{suffix}{exact}"
                table.append(
                    Solver(name, single, prediction, order, f"singlestep, order {order}, {form}", source, order)
                )
                name = f"{prefix}{order}m{exact}"
                table.append(
                    Solver(name, multi, prediction, slope, f"multistep through {order} outputs, {form}", source)
                )
    return table


_SOLVERS = [
    Solver("ddim", ddim, "data", 1, "first order; eta > 0 adds noise", "Song et al. 2021, arXiv 2010.02502"),
    Solver(
        "dpm-1",
        partial(multistep, prediction="noise", order=1, published=True, lower_order_final=False),
        "noise",
        1,
        "first order: DDIM from noise prediction",
        "Lu et al. 2022, arXiv 2206.00927",
    ),
    Solver(
        "dpm-fast",
        partial(singlestep, prediction="noise", published=True),
        "noise",
        2,
        "singlestep of order 3, the rest of the budget at order 2 and 1",
        "Lu et al. 2022, arXiv 2206.00927, section 3.4",
        steps=fast_orders,
    ),
    *_family(),
]

SOLVERS: dict[str, Solver] = {solver.name: solver for solver in _SOLVERS}


def solvers() -> dict[str, str]:
    """The names of the solvers, each with a line that describes it.

    Examples:
        >>> solvers()["ddim"]
        'first order; eta > 0 adds noise'
    """
    return {name: solver.description for name, solver in SOLVERS.items()}


def make_plan(
    solver: str | Solver,
    schedule: NoiseSchedule,
    nfe: int,
    grid: str | Grid | ArrayLike | None = None,
    *,
    start: float | None = None,
    end: float | None = None,
    **options: Any,
) -> Plan:
    """The plan of a solver for a budget: exactly `nfe` network evaluations.

    Args:
        solver: a name of `solvers()`, or a `Solver` of your own.
        schedule: the model's noise schedule.
        nfe: network evaluations, an integer >= 1 that the solver can spend.
        grid: where the steps go, see `dpmsolver.grids.make_grid`; an array needs one time more than the solver takes steps.
        start, end: times where the run starts and ends. A start below t_max is image-to-image; start < end runs the ODE backwards.
        options: of the solver (`eta`, `r1`, `r2`, `lower_order_final`, …) or of the grid (`rho`, `shift`, …).

    Raises:
        PlanError: (a ValueError) unknown solver, grid or option, a budget that the solver cannot spend, times outside the schedule.

    Examples:
        >>> import dpmsolver as dpm
        >>> plan = dpm.make_plan("dpm++2m", dpm.schedules.LinearVP(), nfe=10)
        >>> plan.nfe, plan.prediction
        (10, 'data')
    """
    if isinstance(solver, str):
        if solver in ("dpm-12", "dpm-23"):
            raise PlanError(
                f"{solver} chooses its steps while it runs, so it has no plan: sample_adaptive(…, order={solver[-1]})"
            )
        if solver not in SOLVERS:
            raise PlanError(unknown("solver", solver, SOLVERS))
        solver = SOLVERS[solver]
    evaluations = solver.spend(nfe)
    chosen = {k: v for k, v in options.items() if k in solver.accepted_options()}
    rest = {k: v for k, v in options.items() if k not in chosen}
    _refuse(rest, _grid_options(grid), solver.name, solver.accepted_options())
    times = make_grid(schedule, len(evaluations), grid, start, end, **rest)
    if "orders" in inspect.signature(solver.build).parameters:
        chosen["orders"] = evaluations
    return replace(solver.build(schedule, times, **chosen), solver=solver.name)


def _grid_options(grid: object) -> set[str]:
    function = GRIDS.get(grid) if isinstance(grid, str) else grid
    if not callable(function):
        return set()
    return set(inspect.signature(function).parameters) - {"schedule", "steps", "start", "end", "options"}


def _refuse(
    options: Mapping[str, Any], accepted: set[str], solver: str, more: set[str] | frozenset[str] = frozenset()
) -> None:
    for name in options:
        if name not in accepted:
            raise PlanError(f"{unknown('option', name, sorted(accepted | more))} (for solver {solver} and the grid)")
