"""The official sampling methods as plans: their times, the orders of their steps, and their coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids.ends import Grid
from dpmsolver.grids.formulas import logsnr, quadratic, time
from dpmsolver.plans.plan import Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import Quadrature
from dpmsolver.solvers.multistep import multistep
from dpmsolver.solvers.singlestep import block, fast_orders

__all__ = ["METHODS", "SKIP_TYPES", "Asked", "OfficialPlan"]

METHODS = ("multistep", "singlestep", "singlestep_fixed", "adaptive")
SKIP_TYPES: dict[str, Grid] = {"logSNR": logsnr, "time_uniform": time, "time_quadratic": quadratic}
_FEW = 10  # steps below which lower_order_final has an effect


@dataclass(frozen=True)
class Asked:
    """The arguments of a call of `sample`, checked.

    Raises:
        PlanError: a name is unknown, the order is not 1, 2 or 3, or there are too few steps for it.
    """

    steps: int
    order: int
    skip_type: str
    method: str
    solver_type: str
    lower_order_final: bool

    def __post_init__(self) -> None:
        for name, accepted in (
            ("method", METHODS),
            ("skip_type", SKIP_TYPES),
            ("solver_type", ("dpmsolver", "taylor")),
        ):
            if getattr(self, name) not in accepted:
                raise PlanError(unknown(name, getattr(self, name), accepted))
        lowest = 2 if self.method == "adaptive" else 1
        if isinstance(self.order, bool) or self.order not in (1, 2, 3) or self.order < lowest:
            raise PlanError(
                f"order must be {'' if lowest == 2 else '1, '}2 or 3 with method={self.method!r}, got {self.order!r}"
            )
        if self.method == "adaptive":
            return
        fewest = 1 if self.method == "singlestep" else self.order
        if not isinstance(self.steps, (int, np.integer)) or isinstance(self.steps, bool) or self.steps < fewest:
            raise PlanError(
                f"steps must be an integer >= {fewest} with method={self.method!r} and order={self.order}, got {self.steps!r}"
            )

    @property
    def quadrature(self) -> Quadrature:
        """The integration of second differences: as published, or exactly (their "taylor")."""
        return "published" if self.solver_type == "dpmsolver" else "exact"

    @property
    def _grid(self) -> Grid:
        return SKIP_TYPES[self.skip_type]

    def plan(self, schedule: NoiseSchedule, prediction: Prediction, start: float, end: float) -> OfficialPlan:
        """Return the plan of a method with fixed steps from time `start` to time `end`."""
        steps, order = int(self.steps), self.order
        if self.method == "multistep":
            times = self._grid(schedule, steps, start, end)
            # Their steps of order 3 ignore solver_type; those of lower order follow it.
            made = multistep(
                schedule,
                times,
                prediction=prediction,
                order=order,
                quadrature="published" if order == 3 else self.quadrature,
                lower_quadrature=self.quadrature,
                lower_order_final=bool(self.lower_order_final) and steps < _FEW,
            )
            orders: Sequence[int] = [1] * steps
        else:
            orders = [order] * (steps // order) if self.method == "singlestep_fixed" else _orders(steps, order)
            knots = self._knots(schedule, start, end, orders)
            made = self._singlestep(schedule, prediction, knots, orders)
        said = {"order": order, "solver_type": self.solver_type, "steps": steps}
        made = replace(
            made, solver=f"official {self.method}", grid=self.skip_type, schedule=repr(schedule), options=said
        )
        return OfficialPlan(made, tuple(accumulate(orders, initial=0)), self.method == "multistep")

    def _knots(self, schedule: NoiseSchedule, start: float, end: float, orders: Sequence[int]) -> Floats:
        """The times between singlestep steps: one by one in log-SNR and for fixed orders, else by the evaluations of each step."""
        if self.skip_type == "logSNR" or self.method == "singlestep_fixed":
            return self._grid(schedule, len(orders), start, end)
        return self._grid(schedule, sum(orders), start, end)[list(accumulate(orders, initial=0))]

    def _singlestep(
        self, schedule: NoiseSchedule, prediction: Prediction, knots: Floats, orders: Sequence[int]
    ) -> Plan:
        rows: list[Row] = []
        for (source, target), order in zip(pairwise(knots.tolist()), orders, strict=True):
            inner = schedule.half_log_snr(self._grid(schedule, order, source, target))
            r1, r2 = (float((inner[k] - inner[0]) / (inner[-1] - inner[0])) if k < order else None for k in (1, 2))
            points = Point.at(schedule, source), Point.at(schedule, target)
            rows += block(
                schedule, *points, order=order, prediction=prediction, quadrature=self.quadrature, r1=r1, r2=r2
            )
        return Plan(prediction, tuple(rows), Point.at(schedule, float(knots[-1])))


@dataclass(frozen=True)
class OfficialPlan:
    """A plan, and the evaluations at which its steps begin.

    Args:
        plan: the plan, with one row per network evaluation.
        begins: the evaluation with which each step begins, and finally the number of evaluations.
        shows_start: whether the intermediate states include the start, which is then corrected, as in the multistep method alone.
    """

    plan: Plan
    begins: tuple[int, ...]
    shows_start: bool

    @property
    def step_at(self) -> dict[int, int]:
        """The step number that `correcting_xt_fn` receives, by the evaluation before which it is called."""
        if self.shows_start:
            return {number: step for step, number in enumerate(self.begins)}
        return {number: step for step, number in enumerate(self.begins[1:])}


def _orders(steps: int, order: int) -> list[int]:
    """The orders of singlestep steps that spend all evaluations: as many of the highest as fit."""
    if order == 3:
        return list(fast_orders(steps))
    return [order] * (steps // order) + [1] * (steps % order)
