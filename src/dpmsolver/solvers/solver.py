"""Solver: what the registry knows of a solver, and how it spends a budget."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Plan, Prediction

__all__ = ["Solver", "check_nfe"]


def check_nfe(nfe: int) -> None:
    """PlanError for a budget that is none."""
    if not isinstance(nfe, (int, np.integer)) or isinstance(nfe, bool) or nfe < 1:
        raise PlanError(f"nfe must be an integer >= 1, got {nfe!r}")


@dataclass(frozen=True)
class Solver:
    """A named solver: a function from a schedule and times to a Plan, with what is claimed of it.

    Args:
        name: what people call it.
        build: `build(schedule, times, **options) -> Plan`. If it has a parameter `orders` it is handed the evaluations of each step.
        prediction: of its plans.
        order: the convergence order that the tests measure; of the law (the weak order) where noise is added.
        description, source: a line, and the paper with its equation.
        evaluations_per_step: of the network.
        steps: nfe -> the evaluations of each step, where they differ between steps.
        family: which solvers it stands with in tables.
        stochastic: whether its plans add noise unless told otherwise.
        calibrated: it needs `statistics` of the network, from `dpmsolver.calibrate`.
        finite: its steps have no limit at sigma = 0 or alpha = 0. By default it then ends where the network's last evaluation is worth it.
    """

    name: str
    build: Callable[..., Plan]
    prediction: Prediction
    order: int
    description: str
    source: str
    evaluations_per_step: int = 1
    steps: Callable[[int], tuple[int, ...]] | None = None
    family: str = "your own"
    stochastic: bool = False
    finite: bool = False
    calibrated: bool = False

    def spend(self, nfe: int) -> tuple[int, ...]:
        """The evaluations of each step for a budget of exactly nfe. PlanError, with the nearest budgets, where that cannot be."""
        check_nfe(nfe)
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
        fixed = set(self.build.keywords) if isinstance(self.build, partial) else set()
        return set(inspect.signature(self.build).parameters) - {"schedule", "times", "orders"} - fixed
