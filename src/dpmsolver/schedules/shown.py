"""Show a schedule in a notebook: its range as a table, and alpha and sigma over time as curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dpmsolver.brief import html_table

if TYPE_CHECKING:
    from dpmsolver.schedules.base import NoiseSchedule

__all__ = ["html"]

_WIDTH, _HEIGHT, _POINTS = 320, 120, 129


def html(schedule: NoiseSchedule) -> str:
    """Return a table of the range of a schedule and a drawing of it, as self-contained HTML."""
    low, high = (float(schedule.half_log_snr(t)) for t in (schedule.t_max, schedule.t_min))
    rows = [
        ("times", f"{schedule.t_min:g} to {schedule.t_max:g}, and 0 for clean data"),
        ("half-log-SNR", f"{high:.4g} to {low:.4g}"),
        ("runs start at", f"{schedule.default_start():g}"),
    ]
    return html_table(repr(schedule), rows, _drawing(schedule))


def _drawing(schedule: NoiseSchedule) -> str:
    """alpha and sigma over time, each divided by the size (alpha^2 + sigma^2)^(1/2): between 0 and 1 for every kind of schedule."""
    # Where times span decades, as noise levels do, in their logarithm.
    decades = schedule.t_max / schedule.t_min > 1e3 and schedule.t_max > 1.0
    at = np.linspace(math.log(schedule.t_min), math.log(schedule.t_max), _POINTS)
    times = (
        np.exp(at).clip(schedule.t_min, schedule.t_max)
        if decades
        else np.linspace(schedule.t_min, schedule.t_max, _POINTS)
    )
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    size, across = np.hypot(alpha, sigma), np.linspace(0.0, _WIDTH, _POINTS)
    lines = []
    for name, colour, values in (("alpha", "#0072b2", alpha / size), ("sigma", "#d55e00", sigma / size)):
        points = " ".join(f"{x:.1f},{_HEIGHT * (1.0 - y):.1f}" for x, y in zip(across, values, strict=True))
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"><title>{name}</title></polyline>'
        )
    legend = (
        '<span style="color:#0072b2">alpha</span> and <span style="color:#d55e00">sigma</span> over '
        f"{'log ' if decades else ''}time, divided by (alpha² + sigma²)<sup>1/2</sup>"
    )
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(lines)}</svg><div>{legend}</div>'
