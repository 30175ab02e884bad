"""Recipes: what others fit of a run, as special cases of a table: its times alone, by dynamic programming or by a search.

- GITS (Chen et al. 2024, arXiv 2405.11326): the knots of a fine run whose one-jump costs are least, `dpm.grids.gits`, gamma 1.15.
- Optimal step sizes (Pei et al. 2025, arXiv 2503.21774): dynamic programming in which a jump starts from the state that the student
  itself has reached with k steps, and is compared with the teacher's state. There each picture has steps of its own, whose medians are
  taken; here the mean over the noises is made small, so that one grid serves all.
- Times as LD3 optimises them (Tong et al. 2024, arXiv 2405.15506), a solver's own coefficients rebuilt for each candidate: for the
  distance of the ends itself, and by Nelder and Mead's simplex. LD3 follows gradients, moves labels apart from times, and lets the noise
  give way within a ball; that is not done here.
"""

from __future__ import annotations

import numpy as np

import dpmsolver as dpm
from dpmsolver.plans.rows import Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.tuning.misses import Miss, end_errors
from dpmsolver.tuning.selecting import Preset
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import Taught

__all__ = ["gits_times", "on_times", "optimal_times", "searched_times"]

GAMMA = 1.15
_FIRST_MOVE = 0.35  # in the logs of the gaps


def on_times(solver: str, schedule: NoiseSchedule, times: Floats, predicts: str) -> Table:
    """A solver's table on times. PlanError where it cannot be."""
    return Table.of(dpm.make_plan(solver, schedule, len(times) - 1, times, predicts=predicts))


def gits_times(schedule: NoiseSchedule, taught: Taught, steps: int) -> Floats:
    """The knots of the teacher that GITS chooses."""
    part, (states, outputs) = taught.part, (taught.lesson.states, taught.lesson.outputs)
    times = np.array([p.time for p in taught.lesson.points])
    flat = (np.stack([part.flat(x) for x in arrays]) for arrays in (states, outputs))
    return dpm.grids.gits(times, dpm.grids.gits_costs(schedule, times, *flat), steps, GAMMA)


def optimal_times(taught: Taught, most: int) -> dict[int, Floats]:
    """For each number of steps up to `most` the knots of the teacher on which DDIM's own run ends nearest, as dynamic programming finds."""
    part, points = taught.part, taught.lesson.points
    targets = [part.flat(x) for x in taught.lesson.states]
    last = len(points) - 1
    reached, before = {0: taught.lesson.states[0]}, []
    found: dict[int, Floats] = {}
    for steps in range(1, most + 1):
        cost, source = np.full(last + 1, np.inf), np.full(last + 1, -1)
        following = {}
        for i, x in reached.items():
            if i == last:
                continue
            output = part(x, points[i])
            for j in range(i + 1, last + 1):
                jumped = part.combine(_ddim(points[i], points[j]), [x, output])
                miss = float(np.square(part.flat(jumped) - targets[j]).mean())
                if miss < cost[j]:
                    cost[j], source[j], following[j] = miss, i, jumped
        reached = following
        before.append(source)
        knots = [last]
        for sources in reversed(before):
            knots.append(int(sources[knots[-1]]))
        found[steps] = np.array([points[k].time for k in reversed(knots)])
    return found


def _ddim(here: Point, there: Point) -> list[float]:
    share = there.sigma / here.sigma
    return [share, there.alpha - here.alpha * share]


def searched_times(preset: Preset, taught: list[Taught], schedule: NoiseSchedule, candidates: int) -> Table:
    """The best of so many tables of a preset's solver, by the distance of the ends, on times that a simplex search moves."""
    from scipy.optimize import minimize

    solver, predicts = preset.name.rsplit("@", 1)[0], taught[0].part.denoiser.predicts
    times = np.array([p.time for p in preset.table.points])
    top = float(schedule.half_log_snr(schedule.t_min))
    places = np.array([float(schedule.half_log_snr(t)) if t else top + 1.0 for t in times])
    gaps = np.log(np.diff(places))
    best: list[tuple[float, Table]] = [(float(end_errors(preset.table, taught, Miss()).mean()), preset.table)]

    def error(logs: Floats) -> float:
        shares = np.cumsum(np.exp(logs - logs.max()))
        inner = np.minimum(places[0] + (places[-1] - places[0]) * shares[:-1] / shares[-1], top)
        moved = np.array([times[0], *np.asarray(schedule.time(inner)), times[-1]])
        try:
            table = on_times(solver, schedule, moved, predicts)
            found = float(end_errors(table, taught, Miss()).mean())
        except (dpm.PlanError, dpm.SamplingError):
            return 10.0 * best[0][0]
        if found < best[0][0]:
            best[0] = found, table
        return found if np.isfinite(found) else 10.0 * best[0][0]

    simplex = np.vstack([gaps, gaps + _FIRST_MOVE * np.eye(len(gaps))])
    minimize(error, gaps, method="Nelder-Mead", options={"maxfev": candidates, "initial_simplex": simplex})
    return best[0][1]
