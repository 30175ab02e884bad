"""`Solver`: the description of a solver in the registry, and how it spends a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Plan, Prediction
from dpmsolver.typing import SolverAlias, SolverName, Written

__all__ = ["AnySolver", "Solver", "check_nfe"]


def check_nfe(nfe: int) -> None:
    """Raise PlanError unless nfe is an integer >= 1."""
    if not isinstance(nfe, (int, np.integer)) or isinstance(nfe, bool) or nfe < 1:
        raise PlanError(f"nfe must be an integer >= 1, got {nfe!r}")


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A named solver: a function from a schedule and times to a plan, with the properties that are claimed of it.

    Args:
        name: the name of the solver.
        build: a function (schedule, times, **options) -> Plan; `times` are those of the grid, float64 (steps + 1,).
        prediction: the outputs that its plans combine, "noise" or "data".
        order: the order of convergence, which the tests measure; for solvers that add noise, that of the law (the weak order).
        description: one line.
        source: the paper, with its equation or algorithm.
        options: the options of the caller. Other parameters of `build` cannot be reached by name.
        evaluations_per_step: the number of network evaluations of a step.
        evaluations: a function from nfe to the evaluations of each step, for a solver whose steps differ.
        takes_evaluations: True if `build` has a parameter `evaluations`, which receives the evaluations of each step.
        family: the family under which tables list it.
        stochastic: True if its plans add noise by default.
        calibrated: True if it needs `statistics` of the network, from `dpmsolver.calibrate`.
        answers: the number of outputs of an evaluation of its plans. With 2, they are the guided and the unconditional one, and the order
            holds where both are equal.
        finite: True if its steps have no limit at sigma = 0 or alpha = 0. By default such a run ends at the last time worth an
            evaluation.

    Examples:
        >>> import dpmsolver as dpm
        >>> ddim = dpm.solvers.SOLVERS["ddim"]
        >>> mine = dpm.Solver(
        ...     name="mine", build=ddim.build, prediction="data", order=1, description="DDIM", source="this file"
        ... )
        >>> dpm.make_plan(mine, dpm.schedules.LinearVP(), nfe=5).solver
        'mine'
    """

    name: str
    build: Callable[..., Plan]
    prediction: Prediction
    order: int
    description: str
    source: str
    options: tuple[Option, ...] = ()
    evaluations_per_step: int = 1
    evaluations: Callable[[int], tuple[int, ...]] | None = None
    takes_evaluations: bool = False
    family: str = "your own"
    stochastic: bool = False
    finite: bool = False
    calibrated: bool = False
    answers: int = 1

    __repr__ = brief_repr

    def spend(self, nfe: int) -> tuple[int, ...]:
        """Return the evaluations of each step for a budget of exactly nfe.

        Raises:
            PlanError: the solver cannot spend this budget; the message names the nearest ones that it can.
        """
        check_nfe(nfe)
        if self.evaluations is not None:
            return self.evaluations(nfe)
        each = self.evaluations_per_step
        if nfe % each:
            below, above = nfe - nfe % each, nfe + each - nfe % each
            nearest = f"{below} or {above}" if below else f"{above}"
            raise PlanError(
                f"{self.name} spends {each} evaluations a step, so it cannot spend nfe={nfe}: nearest is {nearest}"
            )
        return (each,) * (nfe // each)

    def accepted_options(self) -> set[str]:
        """Return the names of the options that a caller may give."""
        return {option.name for option in self.options}


# A name, or a solver of the user's own.
AnySolver: TypeAlias = SolverName | SolverAlias | Written | Solver
