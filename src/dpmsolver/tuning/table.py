"""Table: a plan in the form that is fitted, where each network input is a combination of the previous input and all outputs so far.

Every plan without noise has this form. Its states are linear in x_T and in the outputs, so that a step from one network input to the next
is one combination: a corrector, a predictor and the stages of a singlestep method are special cases of

    v_{k+1} = c_k v_k + sum_{j <= k} w_kj m_j,      m_j the predicted x_0 at v_j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dpmsolver.backends.arrays import concatenate
from dpmsolver.errors import PlanError
from dpmsolver.plans.combination import Combination
from dpmsolver.plans.loop import run, steps
from dpmsolver.plans.plan import Plan
from dpmsolver.plans.rows import Point, Row
from dpmsolver.plans.targets import Predicts
from dpmsolver.schedules import Floats
from dpmsolver.tuning.parts import Part

__all__ = ["NOISE", "Table", "abreast"]

NOISE = 3e-4  # the error of a network's output that a plan has to bear


@dataclass(frozen=True, eq=False)
class Table:
    """Points and coefficients of a run in data prediction.

    Args:
        points: of the evaluations, and of the end: nfe + 1.
        rows: for each evaluation float64 (k + 2,): the coefficient of the state, and of all outputs, newest first.
        factor, origin: if the run does not start at the point of x_T, that point and the factor that rescales x_T.
        predicts: what the network predicts, which says how exact the predicted x_0 is.
    """

    points: tuple[Point, ...]
    rows: tuple[Floats, ...]
    factor: float = 1.0
    origin: Point | None = None
    predicts: Predicts = "data"

    @property
    def nfe(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, plan: Plan, predicts: Predicts = "data") -> Table:
        """Return a plan without noise in this form.

        Raises:
            PlanError: the plan adds noise, or has coefficients that are arrays.
        """
        if plan.stochastic or plan.elementwise:
            raise PlanError(
                f"{plan.solver or 'this plan'} is not linear in x_T and the outputs alone: it has no table to fit"
            )
        factor = 1.0 if plan.begin is None else float(plan.begin.state)
        inputs = _inputs(plan)
        rows = []
        for k, (now, then) in enumerate(pairwise(inputs)):
            share = then[0] / now[0] if now[0] else 0.0
            rows.append(np.array([share, *(then - share * now)[1 : k + 2][::-1]]))
        return cls((*(row.point for row in plan.rows), plan.end), tuple(rows), factor, plan.origin, predicts)

    def plan(self, solver: str, schedule: str, grid: str, options: Mapping[str, Any]) -> Plan:
        """Return the table as a plan with its provenance."""
        steps_of = [Combination(float(row[0]), tuple(map(float, row[1:]))) for row in self.rows]
        begin = None
        if self.origin is not None:
            begin = Combination(self.factor)
            steps_of[0] = steps_of[0].after(begin)
        rows = tuple(Row(point, advance=step) for point, step in zip(self.points, steps_of, strict=False))
        return Plan(
            "data",
            rows,
            self.points[-1],
            solver,
            False,
            begin,
            self.origin,
            schedule=schedule,
            grid=grid,
            options=options,
        )

    def noise(self) -> list[Floats]:
        """Return the effect of an error in each output on each network input and, last, on the end: nfe + 1 vectors, float64 (nfe,).

        A network is not exact to all digits: it runs in float32 or less, and another plan's inputs are a little elsewhere. An error of
        `NOISE` in a predicted noise is one of `NOISE` sigma/alpha in the predicted x_0; where the network predicts something else, it is
        `NOISE` times the share of noise in the state. It is followed through the coefficients alone.
        """
        points, amplified = self.points[:-1], self.predicts in ("noise", "score")
        sizes = [NOISE * p.sigma / (p.alpha if amplified else math.hypot(p.alpha, p.sigma)) for p in points]
        units = np.diag(sizes)
        found = [np.zeros(self.nfe)]
        for k, row in enumerate(self.rows):
            found.append(row[0] * found[-1] + row[1:] @ units[k::-1])
        return found

    def start(self, part: Part) -> Any:
        """Return the first evaluation's input."""
        return part.x if self.factor == 1.0 else part.combine([self.factor], [part.x])

    def run(self, part: Part) -> Any:
        """Return the run's result for a part's noises."""
        return self.resume(part, 0, self.start(part), ())

    def resume(self, part: Part, first: int, x: Any, outputs: tuple[Any, ...]) -> Any:
        """Return the result of a run from evaluation `first` on, given its input and the outputs so far, newest first."""
        return abreast(part, [self], first, [x], [outputs])[0]


def abreast(
    part: Part, tables: Sequence[Table], first: int, states: Sequence[Any], outputs: Sequence[tuple[Any, ...]]
) -> list[Any]:
    """Return the results of several runs of a part's noises from evaluation `first` on, which share their network calls.

    Args:
        tables: one for each run, all of as many evaluations.
        states, outputs: the input and the outputs so far, newest first, of each run.
    """
    found: list[Any] = []
    together = max(1, part.room // len(part))
    for begin in range(0, len(tables), together):
        chosen = tables[begin : begin + together]
        whole, now = part.repeated(len(chosen)), list(states[begin : begin + together])
        seen = list(outputs[begin : begin + together])
        for k in range(first, chosen[0].nfe):
            x = now[0] if len(now) == 1 else concatenate(now)
            answer = whole(x, [table.points[k] for table in chosen for _ in range(len(part))])
            for i, table in enumerate(chosen):
                seen[i] = (answer[i * len(part) : (i + 1) * len(part)], *seen[i])
                now[i] = part.combine(table.rows[k], [now[i], *seen[i]])
        found += now
    return found


def _inputs(plan: Plan) -> list[Floats]:
    """The network's inputs, and the result, as coefficients of the first input and of each evaluation's predicted x_0."""
    count = plan.nfe + 1
    scale = 1.0 if plan.begin is None else 1.0 / float(plan.begin.state)
    seen: list[Floats] = []

    def answer(u: Floats, point: Point) -> Floats:
        seen.append(u)
        data: Floats = np.eye(count)[len(seen)]
        return data if plan.prediction == "data" else (u - point.alpha * data) / point.sigma

    end: Floats = run(steps(plan, scale * np.eye(count)[0]), answer)
    return [*seen, end]
