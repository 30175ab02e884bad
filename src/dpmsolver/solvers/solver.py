"""Solver: what the registry knows of a solver, and how it spends a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.options import Option
from dpmsolver.plans.plan import Plan, Prediction

__all__ = ["Solver", "check_nfe"]


def check_nfe(nfe: int) -> None:
    """Raise PlanError unless nfe is an integer >= 1."""
    if not isinstance(nfe, (int, np.integer)) or isinstance(nfe, bool) or nfe < 1:
        raise PlanError(f"nfe must be an integer >= 1, got {nfe!r}")


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A named solver: a function from a schedule and times to a Plan, with what is claimed of it.

    Args:
        name: what people call it.
        build: `build(schedule, times, **options) -> Plan`.
        prediction: what the network's output is turned into for its plans.
        order: the convergence order that the tests measure; of the law (the weak order) where noise is added.
        description, source: a line, and the paper with its equation.
        options: what the caller may choose. Other parameters of `build` cannot be reached by name.
        evaluations_per_step: how often a step evaluates the network.
        evaluations: nfe -> the evaluations of each step, for a solver whose steps differ.
        takes_evaluations: whether `build` has a parameter `evaluations`; it is handed the evaluations of each step.
        family: the solvers it stands with in tables.
        stochastic: whether its plans add noise by default.
        calibrated: whether it needs `statistics` of the network, from `dpmsolver.calibrate`.
        answers: how many outputs an evaluation of its plans gives; with 2 the guided and the unconditional one, and the order is meant for
            equal ones.
        finite: whether its steps have no limit at sigma = 0 or alpha = 0. By default such a run ends at the last time that is worth an
            evaluation.
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

    def spend(self, nfe: int) -> tuple[int, ...]:
        """Return the evaluations of each step for a budget of exactly nfe.

        Raises:
            PlanError: the solver cannot spend this budget; the message names the nearest ones.
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
