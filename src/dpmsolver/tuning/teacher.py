"""Teacher: the converged trajectories to which plans are fitted, known at every time between start and end."""

from __future__ import annotations

import zipfile
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.host import to_host
from dpmsolver.plans.loop import run, steps
from dpmsolver.plans.rows import Point
from dpmsolver.solvers.registry import make_plan
from dpmsolver.tuning.parts import Part
from dpmsolver.typing import SolverName

__all__ = ["TEACHER_NFE", "Lesson", "Taught", "place"]

TEACHER_NFE = 64
_SOLVER: SolverName = "dpm++4m-exact"


@dataclass(frozen=True, eq=False)
class Lesson:
    """The trajectories of a part's noises: states and predicted x_0 at the points of a run with many evaluations.

    Between two points the trajectory is Hermite's cubic: with y = x/(alpha + sigma) and s = sigma/(alpha + sigma) the diffusion ODE is
    dy/ds = (y - x_0)/s on every schedule, so that its values and slopes are known at both. In the last interval of a run to clean data,
    where no network is evaluated at the end, it is the parabola through both values and the first slope.

    Args:
        points: where the network was evaluated, and the end where it was not.
        states: at each point, (B, …). outputs: the predicted x_0 at each evaluated point.
    """

    points: tuple[Point, ...]
    states: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @classmethod
    def given(cls, part: Part, end: float, nfe: int = TEACHER_NFE) -> Lesson:
        """Follow a part's noises to the time `end` with `nfe` evaluations, and one more if `end` is 0."""
        schedule = part.denoiser.schedule
        last = schedule.last_time(1000) if end == 0.0 else end
        # Of order 4 to the end: steps of lower order there are for few evaluations (Gaussian data, 64 to t = 0.01: off 2e-5, else 2e-4).
        plan = make_plan(
            _SOLVER, schedule, nfe, "logsnr", end=last, predicts=part.denoiser.predicts, lower_order_final=False
        )
        points, states, outputs = [*(row.point for row in plan.rows), plan.end], [], []

        def answer(u: Any, point: Point) -> Any:
            states.append(u)
            outputs.append(_answered(part, u, point))
            return outputs[-1]

        reached = run(steps(plan, part.x), answer)
        if end == 0.0:
            reached = answer(reached, plan.end)
            points.append(Point.at(schedule, 0.0))
        states.append(reached)
        return cls(tuple(points), tuple(states), tuple(outputs))

    def ended(self) -> Lesson:
        """Return the end alone."""
        return Lesson(self.points[-1:], self.states[-1:], ())

    def save(self, path: Path, part: Part) -> None:
        """Write the trajectories of a part as NumPy's npz, float32 (float64 where the states are)."""
        columns = np.array([(p.time, p.label, p.alpha, p.sigma) for p in self.points])
        states, outputs = ([to_host(x) for x in arrays] for arrays in (self.states, self.outputs))
        dtype = np.float64 if str(part.x.dtype).endswith("64") else np.float32
        with path.open("wb") as file:
            np.savez(file, points=columns, states=np.array(states, dtype), outputs=np.array(outputs, dtype))

    @classmethod
    def load(cls, path: Path, part: Part) -> Lesson:
        """Read the file that `save` wrote. Raise PlanError for a file that is cut short."""
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                points = tuple(Point(*row) for row in file["points"].tolist())
                states, outputs = (np.asarray(file[name], np.float64) for name in ("states", "outputs"))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise PlanError(f"{path} holds no trajectories ({error}): delete it, and they are made again") from None
        made = (tuple(part.backend.from_numpy(x, part.x) for x in arrays) for arrays in (states, outputs))
        return cls(points, *made)

    @property
    def end(self) -> Any:
        """The states at the end of the trajectories."""
        return self.states[-1]

    def at(self, part: Part, point: Point) -> Any:
        """Return the states at a point between the start and the end."""
        falling = [-place(p) for p in self.points]
        k = bisect_right(falling, -place(point) + 1e-12) - 1
        if k < 0 or k == len(self.points) - 1 or abs(falling[k] + place(point)) < 1e-12:
            return self.states[max(k, 0)]
        known = self.outputs[k : k + 2]
        arrays = [self.states[k], known[0], self.states[k + 1], *known[1:]]
        return part.combine(_between(self.points[k], self.points[k + 1], point, slope_after=len(known) == 2), arrays)


def _answered(part: Part, x: Any, point: Point) -> Any:
    """Return the network's output on a trajectory of the teacher. Raise SamplingError if it is not finite."""
    try:
        return part(x, point)
    except SamplingError as error:
        raise SamplingError(f"the trajectories of the teacher cannot be followed: {error}") from None


class Taught(NamedTuple):
    """A part with its trajectories."""

    part: Part
    lesson: Lesson

    def first(self, count: int) -> Taught:
        """Return its first `count` samples."""
        states, outputs = (tuple(x[:count] for x in arrays) for arrays in (self.lesson.states, self.lesson.outputs))
        return Taught(self.part.first(count), Lesson(self.lesson.points, states, outputs))


def place(point: Point) -> float:
    """Return s = sigma/(alpha + sigma), which is 1 at pure noise and 0 at clean data."""
    return point.sigma / (point.alpha + point.sigma)


def _between(before: Point, after: Point, point: Point, *, slope_after: bool) -> list[float]:
    """The coefficients of state and x_0 before, and of the state (and x_0, if known) after, that make the state at a point between."""
    first, width = place(before), place(after) - place(before)
    c = (place(point) - first) / width
    values = (1 - c) ** 2 * (1 + 2 * c), c * c * (3 - 2 * c)
    slopes = width * c * (1 - c) ** 2, width * c * c * (c - 1)
    if not slope_after:
        values, slopes = (1 - c * c, c * c), (width * (c - c * c), 0.0)
    found = []
    for end, value, slope in zip((before, after), values, slopes, strict=True):
        weight = slope / place(end) if slope else 0.0  # the slope is (y - x_0)/s
        found += [(value + weight) / (end.alpha + end.sigma), -weight]
    scale = point.alpha + point.sigma
    return [scale * each for each in (found if slope_after else found[:3])]
