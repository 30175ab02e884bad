"""Draw a plan as a picture: where the network is evaluated, and the coefficients of every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dpmsolver.drawing import BLUE, RED, sized
from dpmsolver.plans.rows import Point, Row
from dpmsolver.schedules import Floats

if TYPE_CHECKING:
    from dpmsolver.plans.plan import Plan

__all__ = ["coefficients", "plot"]

_WRITTEN = 24  # columns up to which numbers are written into their fields
_STEPS = (("m", "output"), ("x", "advance"), ("u", "predict"))


def plot(plan: Plan, figure: Any = None) -> Any:
    """Draw a plan: the half-log-SNR of every evaluation and of the end above, the coefficients of every step below.

    Evaluation k stands at number k in both panels. x is the state, u the network's next input, m its output, m-1 the output before, and z
    noise. The colour scales with the square root of a coefficient's size; blue is positive, red negative. For coefficients that are arrays,
    the mean is drawn. An infinite half-log-SNR, of clean data or of pure noise, is drawn as an arrow at the edge.

    Args:
        figure: a figure of matplotlib to draw into; by default a new one of pyplot.

    Returns:
        The figure: `figure.savefig("plan.png")`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    names, table = coefficients(plan)
    rows, columns = table.shape
    width = min(max(5.0, 2.2 + 0.55 * columns), 16.0)
    figure = sized(figure, width, 2.4 + 0.32 * rows)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[6, max(rows, 2)])
    first = -1 if plan.begin is not None else 0  # the step from x_T to the first evaluation stands before it
    _draw_grid(above, [row.point for row in plan.all_rows] + [plan.end], first)
    said = f"{plan.solver or 'plan'}{f'@{plan.grid}' if plan.grid else ''}"
    above.set_title(f"{said}: {plan.nfe} evaluations, {plan.prediction} prediction")
    _draw_table(below, names, table, first)
    return figure


def coefficients(plan: Plan) -> tuple[list[str], Floats]:
    """Return the names of a plan's coefficients, such as "x <- m-1", and their values (names, steps), NaN for a missing one.

    Examples:
        >>> import dpmsolver as dpm
        >>> names, table = coefficients(dpm.make_plan("dpm++2m", dpm.schedules.LinearVP(), 4))
        >>> names, table.shape
        (['x <- x', 'x <- m', 'x <- m-1'], (3, 4))
    """
    steps = [dict(_terms(row)) for row in plan.all_rows]
    order = {
        name: None
        for kind, _ in _STEPS
        for step in sorted(steps, key=len, reverse=True)
        for name in step
        if name.startswith(kind)
    }
    return list(order), np.array([[step.get(name, math.nan) for step in steps] for name in order])


def _terms(row: Row) -> Iterator[tuple[str, float]]:
    """The coefficients of a row by their names."""
    for made, field in _STEPS:
        combination = getattr(row, field)
        if combination is None:
            continue
        yield f"{made} <- {'u' if field == 'output' else 'x'}", float(np.mean(combination.state))
        for letter, values in (("m", combination.outputs), ("z", combination.noise)):
            for age, value in enumerate(values):
                yield f"{made} <- {letter}{-age or ''}", float(np.mean(value))
        if combination.has_constant:
            yield f"{made} <- 1", float(np.mean(combination.constant))


def _draw_grid(axes: Any, points: list[Point], first: int) -> None:
    numbers, lams = np.arange(len(points)) + first, np.array([point.half_log_snr for point in points])
    finite = np.isfinite(lams)
    axes.plot(numbers[finite], lams[finite], "o-", color=BLUE, markersize=4)
    low, high = (lams[finite].min(), lams[finite].max()) if finite.any() else (0.0, 0.0)
    room = 0.12 * (high - low or 1.0)
    axes.set_ylim(low - room, high + room)
    for number, lam in zip(numbers[~finite], lams[~finite], strict=True):
        rim, marker, said = (0.94, "^", "∞") if lam > 0 else (0.06, "v", "-∞")
        across = axes.get_xaxis_transform()
        axes.plot([number], [rim], marker, color=RED, transform=across)
        beside = (-8, -4) if lam > 0 else (8, -4)
        axes.annotate(
            said, (number, rim), beside, across, "offset points", ha="right" if lam > 0 else "left", color=RED
        )
    axes.set_ylabel("half-log-SNR")
    axes.grid(alpha=0.3)


def _draw_table(axes: Any, names: list[str], table: Floats, first: int) -> None:
    rows, columns = table.shape
    strength = np.sign(table) * np.sqrt(np.abs(table))
    most = float(np.nanmax(np.abs(strength))) or 1.0
    extent = (first - 0.5, first + columns - 0.5, rows - 0.5, -0.5)
    axes.imshow(strength, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", extent=extent, interpolation="nearest")
    if columns <= _WRITTEN:
        for (row, column), value in np.ndenumerate(table):
            if math.isfinite(value):
                dark = abs(strength[row, column]) > 0.6 * most
                said = f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
                axes.text(
                    first + column, row, said, ha="center", va="center", fontsize=7, color="white" if dark else "black"
                )
    axes.set_yticks(range(rows), names, family="monospace", fontsize=8)
    axes.set_xlabel("evaluation")
    axes.set_xlim(first - 0.5, first + columns + 0.5)  # the end of the run has no coefficients, and stands above
    if columns <= _WRITTEN:
        ticks = range(first, first + columns + 1)
        axes.set_xticks(ticks, ["x_T" if k < 0 else "end" if k == first + columns else str(k) for k in ticks])
