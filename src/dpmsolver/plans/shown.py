"""Short forms of a plan: one line for the prompt, a table for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from dpmsolver.brief import cut

if TYPE_CHECKING:
    from dpmsolver.plans.plan import Plan
    from dpmsolver.plans.rows import Point, Row

__all__ = ["html", "plan_line", "row_line"]

_ROWS = 40  # a notebook shows so many; print(plan) shows all


def plan_line(plan: Plan) -> str:
    """Return one line about a plan: solver and grid, evaluations, times, prediction, schedule."""
    said = f"{plan.solver or 'plan'}{f'@{plan.grid}' if plan.grid else ''}"
    noun = "evaluation" if plan.nfe == 1 else "evaluations"
    line = f"{said}: {plan.nfe} {noun}, t={plan.start.time:g} to {plan.end.time:g}, {plan.prediction} prediction"
    return cut(f"<Plan {line}{f', {plan.schedule}' if plan.schedule else ''}>")


def row_line(row: Row) -> str:
    """Return one line about a row: where the network is evaluated, and which steps follow."""
    steps = (("m", row.output), ("x", row.advance), ("u", row.predict))
    what = "; ".join(f"{name} <- {combination}" for name, combination in steps if combination is not None)
    return cut(f"<Row t={row.point.time:g}: {what}>")


def html(plan: Plan) -> str:
    """Return a plan as an HTML table with one line per evaluation, of a long plan only the first and the last ones."""
    heads = "".join(f"<th>{name}</th>" for name in ("", "time", "label", "alpha", "sigma", "lambda", "combination"))
    lines = [_line("x_T", plan.start, [f"u <- {plan.begin}"])] if plan.begin is not None else []
    for index, row in enumerate(plan.rows):
        if plan.nfe > _ROWS and _ROWS - 1 <= index < plan.nfe - 1:
            lines += ['<tr><td colspan="7">…</td></tr>'] if index == _ROWS - 1 else []
            continue
        steps = (("m", row.output), ("x", row.advance), ("u", row.predict))
        lines.append(_line(str(index), row.point, [f"{name} <- {c}" for name, c in steps if c is not None]))
    lines.append(_line("end", plan.end, []))
    return f"<div><b>{escape(plan_line(plan)[1:-1])}</b><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


def _line(name: str, point: Point, steps: list[str]) -> str:
    numbers = (f"{value:.5g}" for value in (point.time, point.label, point.alpha, point.sigma, point.half_log_snr))
    shown = "<br>".join(map(escape, steps))
    return f"<tr><td>{name}</td>{''.join(f'<td>{number}</td>' for number in numbers)}<td><code>{shown}</code></td></tr>"
