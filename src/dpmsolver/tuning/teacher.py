"""Teacher: the converged trajectories to which plans are fitted, known at every time between start and end."""

from __future__ import annotations

import math
import struct
import zipfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.files import written_aside
from dpmsolver.host import to_host
from dpmsolver.plans.loop import steps
from dpmsolver.plans.rows import Point
from dpmsolver.solvers.registry import make_plan
from dpmsolver.tuning.parts import Part
from dpmsolver.typing import SolverName

__all__ = ["TEACHER_NFE", "Lazy", "Lesson", "Taught", "place"]

TEACHER_NFE = 64
_SOLVER: SolverName = "dpm++4m-exact"
# The header of a file in a zip archive: its last two numbers are the lengths of the name and the extra field that follow it.
_ARCHIVE_HEADER = struct.Struct("<26xHH")


@dataclass(frozen=True, eq=False)
class Lesson:
    """The trajectories of a part's noises: states and predicted x_0 at the points of a run with many evaluations.

    Between two points the trajectory is Hermite's cubic: with y = x/(alpha + sigma) and s = sigma/(alpha + sigma) the diffusion ODE is
    dy/ds = (y - x_0)/s on every schedule, so that its values and slopes are known at both. In the last interval of a run to clean data,
    where no network is evaluated at the end, it is the parabola through both values and the first slope.

    Args:
        points: where the network was evaluated, and the end where it was not.
        states: at each point, (B, …); held in memory, or `Lazy`. outputs: the predicted x_0 at each evaluated point.
    """

    points: tuple[Point, ...]
    states: Sequence[Any]
    outputs: Sequence[Any]

    @classmethod
    def given(cls, part: Part, end: float, nfe: int = TEACHER_NFE, *, whole: bool = True) -> Lesson:
        """Follow a part's noises to the time `end` with `nfe` evaluations, and one more if `end` is 0.

        Args:
            whole: hold the trajectories; their ends alone otherwise.
        """
        found = deque(_followed(part, end, nfe), None if whole else 1)
        points, states, outputs = zip(*found, strict=True)
        return cls(points, states, outputs[:-1])

    @staticmethod
    def write(path: Path, part: Part, end: float, nfe: int = TEACHER_NFE, *, whole: bool = True) -> None:
        """Follow a part's noises, and write to a file what `given` returns, each state as soon as it is known.

        The file is NumPy's npz, not compressed, with two arrays: `points`, and `trajectory`, (2 n - 1, B, …), in which states and predicted
        x_0 alternate, float32 (float64 where the states are).
        """
        count = nfe + 1 + (end == 0.0) if whole else 1
        dtype = np.dtype(np.float64 if str(part.like.dtype).endswith("64") else np.float32)
        points = []
        with written_aside(path) as aside, zipfile.ZipFile(aside, "w") as archive:
            with archive.open("trajectory.npy", "w", force_zip64=True) as file:
                header = {
                    "descr": dtype.str,
                    "fortran_order": False,
                    "shape": (2 * count - 1, len(part), *part.like.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(file, header)
                for point, *arrays in _followed(part, end, nfe) if whole else deque(_followed(part, end, nfe), 1):
                    points.append((point.time, point.label, point.alpha, point.sigma))
                    for x in arrays if len(points) < count else arrays[:1]:
                        file.write(to_host(x).astype(dtype).tobytes())
            with archive.open("points.npy", "w") as file:
                np.save(file, np.array(points))

    @classmethod
    def load(cls, path: Path, part: Part) -> Lesson:
        """Open a file that `write` wrote. Its states and outputs are `Lazy`: each is read when it is needed.

        Raises:
            PlanError: the file is cut short or changed.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if (broken := archive.testzip()) is not None:
                    raise ValueError(f"{broken} was changed")
                with archive.open("points.npy") as file:
                    points = tuple(Point(*row) for row in np.load(file).tolist())
            begin, shape, dtype = _place_in(path, "trajectory.npy")
            if shape != (2 * len(points) - 1, len(part), *part.like.shape[1:]):
                raise ValueError(f"the shape {shape}")
        except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise _told(path, error) from None
        size = math.prod(shape[1:])

        def read(row: int) -> Any:
            try:
                found = np.fromfile(path, dtype, size, offset=begin + row * size * dtype.itemsize).reshape(shape[1:])
            except (OSError, ValueError) as error:
                raise _told(path, error) from None
            return part.backend.from_numpy(to_host(found), part.like)

        count = len(points)
        return cls(points, Lazy(count, lambda k: read(2 * k)), Lazy(count - 1, lambda k: read(2 * k + 1)))

    @property
    def end(self) -> Any:
        """The states at the end of the trajectories."""
        return self.states[-1]

    def first(self, count: int) -> Lesson:
        """Return the trajectories of the first `count` noises, `Lazy`."""
        states, outputs = self.states, self.outputs
        return Lesson(
            self.points,
            Lazy(len(states), lambda k: states[k][:count]),
            Lazy(len(outputs), lambda k: outputs[k][:count]),
        )

    def at(self, part: Part, point: Point) -> Any:
        """Return the states at a point between the start and the end."""
        falling = [-place(p) for p in self.points]
        k = bisect_right(falling, -place(point) + 1e-12) - 1
        if k < 0 or k == len(self.points) - 1 or abs(falling[k] + place(point)) < 1e-12:
            return self.states[max(k, 0)]
        known = self.outputs[k : k + 2]
        arrays = [self.states[k], known[0], self.states[k + 1], *known[1:]]
        return part.combine(_between(self.points[k], self.points[k + 1], point, slope_after=len(known) == 2), arrays)


class Lazy(Sequence[Any]):
    """A sequence of arrays that are made anew at each access, and not held.

    Args:
        count: the number of arrays.
        made: a function from a number to its array.
    """

    def __init__(self, count: int, made: Callable[[int], Any]) -> None:
        self._numbers, self._made = range(count), made

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return tuple(map(self._made, self._numbers[number]))
        return self._made(self._numbers[number])


def _followed(part: Part, end: float, nfe: int) -> Iterator[tuple[Point, Any, Any]]:
    """Yield each point of the teacher's run with the states and the predicted x_0; at the end the latter is None."""
    schedule = part.denoiser.schedule
    last = schedule.last_time(1000) if end == 0.0 else end
    # Of order 4 to the end: steps of lower order there are for few evaluations (Gaussian data, 64 to t = 0.01: off 2e-5, else 2e-4).
    plan = make_plan(
        _SOLVER, schedule, nfe, "logsnr", end=last, predicts=part.denoiser.predicts, lower_order_final=False
    )
    run = steps(plan, part.x)
    try:
        moment = next(run)
        while True:
            output = _answered(part, moment.u, moment.point)
            yield moment.point, moment.u, output
            moment = run.send(output)
    except StopIteration as reached:
        x = reached.value
    if end == 0.0:
        output = _answered(part, x, plan.end)
        yield plan.end, x, output
        yield Point.at(schedule, 0.0), output, None
    else:
        yield plan.end, x, None


def _answered(part: Part, x: Any, point: Point) -> Any:
    """Return the network's output on a trajectory of the teacher. Raise SamplingError if it is not finite."""
    try:
        return part(x, point)
    except SamplingError as error:
        raise SamplingError(f"the trajectories of the teacher cannot be followed: {error}") from None


def _place_in(path: Path, name: str) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Return where the numbers of an array in an npz that is not compressed begin, and the array's shape and type."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        file.seek(archive.getinfo(name).header_offset)
        header = file.read(_ARCHIVE_HEADER.size)
        file.seek(sum(_ARCHIVE_HEADER.unpack(header)), 1)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return file.tell(), shape, dtype


def _told(path: Path, error: Exception) -> PlanError:
    return PlanError(f"{path} holds no trajectories ({error}): delete it, and they are made again")


class Taught(NamedTuple):
    """A part with its trajectories."""

    part: Part
    lesson: Lesson

    def first(self, count: int) -> Taught:
        """Return its first `count` samples."""
        return Taught(self.part.first(count), self.lesson.first(count))


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
