"""Transforms that raise the order by combining two solutions: those of two plans (`richardson`), or within one plan (`extrapolate`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.plans.loop import run, steps
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.transforms.common import IDENTITY, named, older, require_plain

__all__ = ["extrapolate", "richardson"]

_SAME = 1e-12  # relative: two computations of one coefficient differ by rounding alone


def richardson(fine: Plan, coarse: Plan, order: int, ratio: float | None = None) -> Plan:
    """Return one plan that combines two plans of one solver so that their leading errors cancel (Richardson extrapolation):

        fine + (fine - coarse)/(ratio^order - 1).

    Evaluations at the same point with the same input, such as the first one at x_T, are made once. The state stays x_T until the end, and
    every output is kept until then. The order of convergence rises by 1 if the error has an expansion in the step size, which requires
    grids of one kind, and multistep solvers without lower_order_final. A state_hook acts only on the inputs and on the result.

    Args:
        fine, coarse: plans without noise, with the same start, end and prediction. Each may itself be an extrapolated plan.
        order: the order of convergence of both plans.
        ratio: the step size of the coarse plan in units of that of the fine one, > 1. The default fine.nfe/coarse.nfe is right for plans of
            one solver.

    Returns:
        A plan with fine.nfe + coarse.nfe evaluations, less the shared ones.

    Raises:
        PlanError: a plan adds noise or is calibrated, the plans differ in start, end or prediction, order is not an integer >= 1, or ratio
            is not > 1.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> fine, coarse = (make_plan("ddim", schedules.LinearVP(), nfe=n) for n in (8, 4))
        >>> richardson(fine, coarse, order=1).nfe
        11

    Source: Richardson 1911; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, section II.4.
    """
    if fine.stochastic or coarse.stochastic:
        raise PlanError("richardson combines two solutions of one ODE: plans that add noise have none")
    for what in ("prediction", "start", "end"):
        one, other = getattr(fine, what), getattr(coarse, what)
        if one != other:
            raise PlanError(f"fine and coarse must have the same {what}, got {one} and {other}")
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise PlanError(f"order must be an integer >= 1, got {order!r}")
    ratio = fine.nfe / coarse.nfe if ratio is None else ratio
    if not (math.isfinite(ratio) and ratio > 1.0):
        raise PlanError(f"ratio must be > 1: the fine plan takes more steps than the coarse one, got {ratio:.6g}")
    for plan in (fine, coarse):
        require_plain(plan, "richardson")
    size = 1 + fine.nfe + coarse.nfe
    evaluations: list[_Evaluation] = []
    ends = [_join(plan, evaluations, size) for plan in (fine, coarse)]
    weight = 1.0 / (ratio**order - 1.0)
    result = (1.0 + weight) * ends[0] - weight * ends[1]
    inputs = [_combination(e.input, k) for k, e in enumerate(evaluations)]
    rows = [Row(e.point, predict=u) for e, u in zip(evaluations, inputs[1:], strict=False)]
    rows.append(Row(evaluations[-1].point, advance=_combination(result, len(evaluations))))
    return Plan(
        fine.prediction,
        tuple(rows),
        fine.end,
        f"richardson({fine.solver}, {coarse.solver})",
        fine.keeps_marginals and coarse.keeps_marginals,
        fine.begin,
        fine.origin,
    )


def extrapolate(plan: Plan, window: int = 2) -> Plan:
    """Return a first-order plan whose every `window` steps are extrapolated, which gives order 2 at no further evaluation.

    The window's steps are combined with one long step that reuses their first output. With steps of h_i in sigma/alpha that add up to H,
    one step of order 1 leaves an error proportional to H^2, and the window's steps one proportional to sum h_i^2. So x = (x_steps - S
    x_long)/(1 - S) with S = sum (h_i/H)^2 cancels it, on any grid. Steps that remain at the end, and a window that starts at alpha = 0
    (where H is infinite), stay unchanged.

    Args:
        plan: a plan of ddim, euler or dpm-1, without noise.
        window: the number of steps in each extrapolation, an integer between 2 and nfe.

    Returns:
        A plan with the same evaluations.

    Raises:
        PlanError: the window is not such an integer, or the plan adds noise, has other steps or begins with an analytic step.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> ddim = make_plan("ddim", schedules.EDM(), nfe=20)
        >>> extrapolate(ddim).wasserstein(0.0, 0.25) < ddim.wasserstein(0.0, 0.25) / 5
        True

    Source: RX-DPM, Choi, Kang & Han 2025, arXiv 2504.01855: RX-Euler, whose k is `window`.
    """
    if not isinstance(window, int) or isinstance(window, bool) or not 2 <= window <= plan.nfe:
        raise PlanError(f"window must be an integer between 2 and nfe={plan.nfe}, got {window!r}")
    if plan.begin is not None:
        raise PlanError(
            "the plan begins with an analytic step: extrapolate first, and take the analytic step of the result"
        )
    require_plain(plan, "extrapolate")
    points = [*(row.point for row in plan.rows), plan.end]
    for index, row in enumerate(plan.rows):
        if not _is_first_order_step(plan.prediction, row, points[index + 1]):
            raise PlanError(
                f"extrapolate takes plans of first-order steps without noise (ddim, euler, dpm-1), and row {index} of "
                f"{plan.solver or 'this plan'} is another: richardson combines two plans of any solver"
            )
    rows: list[Row] = []
    for first in range(0, plan.nfe, window):
        block, inside = plan.rows[first : first + window], points[first : first + window + 1]
        partial = len(block) < window or inside[0].alpha == 0.0 or inside[-1].alpha == 0.0
        rows += block if partial else _extrapolated(plan.prediction, block, inside)
    return replace(plan, rows=tuple(rows), solver=named(plan, f"extrapolated over {window}"))


def _extrapolated(prediction: Prediction, block: Sequence[Row], points: Sequence[Point]) -> Iterator[Row]:
    """The rows of one window. The state stays where it starts, as the long step needs it."""
    share = math.fsum((b.rho - a.rho) ** 2 for a, b in pairwise(points))
    share /= (points[-1].rho - points[0].rho) ** 2
    x = IDENTITY
    for row in block:
        assert row.advance is not None
        x = row.advance.after(older(x))
        if row is not block[-1]:
            yield Row(row.point, predict=x)
    long = exponential_step(prediction, points[0], points[-1], [points[0]])
    outputs = [c / (1.0 - share) for c in x.outputs]
    outputs[-1] -= share / (1.0 - share) * long.outputs[0]
    yield Row(block[-1].point, advance=Combination((x.state - share * long.state) / (1.0 - share), tuple(outputs)))


def _is_first_order_step(prediction: Prediction, row: Row, target: Point) -> bool:
    if row.advance is None or row.predict is not None or any(row.advance.noise):
        return False
    expected = exponential_step(prediction, row.point, target, [row.point])
    numbers, wanted = ((c.state, *c.outputs) for c in (row.advance, expected))
    return len(numbers) == len(wanted) and all(
        math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME) for a, b in zip(numbers, wanted, strict=True)
    )


@dataclass(frozen=True)
class _Evaluation:
    """Where the network is evaluated, and its input: the coefficients of x_T and of each evaluation's output, (size,)."""

    point: Point
    input: Floats

    def same(self, other: _Evaluation) -> bool:
        scale = float(abs(self.input).max())
        return self.point == other.point and float(abs(self.input - other.input).max()) <= _SAME * scale


def _join(plan: Plan, evaluations: list[_Evaluation], size: int) -> Floats:
    """Add the evaluations of a plan that are not among `evaluations` yet; return the coefficients of its result."""
    unit = np.eye(size)

    def output(u: Floats, point: Point) -> Floats:
        wanted = _Evaluation(point, u)
        place = next((k for k, known in enumerate(evaluations) if known.same(wanted)), len(evaluations))
        if place == len(evaluations):
            evaluations.append(wanted)
        return np.asarray(unit[1 + place])

    return np.asarray(run(steps(plan, unit[0]), output))


def _combination(coefficients: Floats, evaluations: int) -> Combination:
    """Coefficients as a Combination in the row after so many evaluations."""
    return Combination(float(coefficients[0]), tuple(coefficients[1 : 1 + evaluations][::-1].tolist()))
