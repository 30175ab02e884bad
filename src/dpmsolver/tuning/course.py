"""Course: the noises of a network in three parts and their converged trajectories, which all its fits share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.files import written_aside
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import fingerprint
from dpmsolver.plans.rows import Point
from dpmsolver.schedules.span import default_end, default_start, one_time
from dpmsolver.solvers.registry import make_plan
from dpmsolver.tuning.misses import Miss, end_errors, root_mean_square, root_mean_squares
from dpmsolver.tuning.parts import Noises, Part
from dpmsolver.tuning.table import Table
from dpmsolver.tuning.teacher import TEACHER_NFE, Lesson, Taught

__all__ = ["Course", "Thirds"]

_TRIAL = 8  # noises on which the teacher's own error is measured
_NEAR = 0.1  # of the error of `auto`: a teacher whose own error is larger, in the median, has not converged
_LARGEST_TEACHER = 4 * TEACHER_NFE
_ROUNDED = 1e-5  # of the size of the trajectories' ends: an error of a teacher that is rounding
_LAYOUT = "in turn"  # of the files of trajectories: those of another layout are not opened, but made again
_LEVELS = (-2.0, 0.0, 3.0)  # half-log-SNR at which the network is called twice with one input
_SAME = 1e-3  # of the output's size: how far apart two calls of one network may be


class Thirds(NamedTuple):
    """The numbers of the noises that plans are fitted to, chosen on and judged on."""

    fit: list[int]
    choose: list[int]
    judge: list[int]


class Course:
    """The noises of a fit with their trajectories, which every budget shares.

    Args:
        noises: all noises.
        end: the time at which runs end; None for the end of the plans.
        batch: the number of samples that the network evaluates at once.
        order: the numbers of the noises, in the order in which they are used.
        store: a folder in which trajectories are kept, and from which each state is read when it is needed; without one they are held
            in memory.

    Attributes:
        wanted_end: the time at which runs end, if the caller gave one.
        denoiser: the denoiser of the first noise, read for its schedule and its prediction.
        teacher_nfe, teacher_error: evaluations of a converged run, and its own mean error; 0 and NaN before `prepare`.
    """

    def __init__(
        self, noises: Noises, end: float | None, batch: int, order: Sequence[int], store: Path | None = None
    ) -> None:
        self.noises, self.batch, self.order, self.store = noises, batch, list(order), store
        self.denoiser: Denoiser = noises.part(self.order[:1]).denoiser
        self.schedule = self.denoiser.schedule
        self.wanted_end = None if end is None else one_time(self.schedule, "end", end)
        self._taught: dict[tuple[tuple[int, ...], float, bool], list[Taught]] = {}  # budgets of one end share it
        self.teacher_nfe, self.teacher_error = 0, float("nan")
        self._named: tuple[Any, str] | None = None  # a network, and its name

    def end(self, nfe: int) -> float:
        """Return the time at which runs of a budget end: the caller's, or else that of untuned plans of this budget."""
        start = default_start(self.schedule, self.denoiser.predicts)
        return default_end(self.schedule, nfe, start) if self.wanted_end is None else self.wanted_end

    def thirds(self) -> Thirds:
        """Return the noises in three parts: three eighths to fit, two to choose, three to judge."""
        fit, choose = 3 * len(self.order) // 8, len(self.order) // 4
        return Thirds(self.order[:fit], self.order[fit : fit + choose], self.order[fit + choose :])

    def prepare(self, nfe: int) -> None:
        """Find a teacher that has converged, as measured against `auto` with the budget.

        Raises:
            PlanError: two calls of the network differ, or there is no such teacher.
        """
        part = self.noises.part(self.order[:_TRIAL])
        path = self._path("converged", "json", part, self.end(nfe), nfe)
        if path is not None and path.exists():
            self.teacher_nfe, self.teacher_error = _read_teacher(path)
            return
        self._find_teacher(part, nfe)
        if path is not None:
            with written_aside(path) as aside:
                aside.write_text(json.dumps([self.teacher_nfe, self.teacher_error]) + "\n")

    def _find_teacher(self, part: Part, nfe: int) -> None:
        self._require_deterministic()
        end, count = self.end(nfe), TEACHER_NFE
        lesson = Lesson.given(part, end, count, whole=False)
        auto = Table.of(make_plan("auto", self.schedule, nfe, end=self.wanted_end, predicts=self.denoiser.predicts))
        while True:
            finer = Lesson.given(part, end, 2 * count, whole=False)
            errors = root_mean_squares(Miss()(part, lesson.end, finer.end))
            # The median: a sample between two modes is undecided for any teacher, and carries the mean.
            own, usual = float(np.median(errors)), float(np.median(end_errors(auto, [Taught(part, finer)], Miss())))
            if own <= _NEAR * usual:
                self.teacher_nfe, self.teacher_error = count, float(errors.mean())
                return
            if 2 * count > _LARGEST_TEACHER and own <= _ROUNDED * root_mean_square(part.flat(finer.end)):
                raise PlanError(
                    f"there is nothing to fit: auto with {nfe} evaluations ends {usual:.3g} in the median from the converged trajectories, "
                    f"which are known to {own:.3g}: sample with it, or take fewer evaluations or a higher precision"
                )
            if 2 * count > _LARGEST_TEACHER:
                raise PlanError(
                    f"the teacher has not converged: runs of {count} and {2 * count} evaluations end {own:.3g} apart in the median, "
                    f"and auto with {nfe} evaluations ends {usual:.3g} from them: tune for fewer evaluations, or in a higher precision"
                )
            count, lesson = 2 * count, finer

    def _require_deterministic(self) -> None:
        """Raise PlanError if two calls differ at a high, a middle or a low noise level."""
        part = self.noises.part(self.order[:2])
        first, last = (float(self.schedule.half_log_snr(t)) for t in (self.schedule.t_max, self.schedule.t_min))
        for level in np.clip(_LEVELS, first, last).tolist():
            point = Point.at(self.schedule, self.schedule.time(level))
            try:
                once, again = (part.flat(part(part.x, point)) for _ in range(2))
            except SamplingError:  # the teacher meets it too, and says where
                return
            gap = float(np.abs(once - again).max())
            if gap > _SAME * max(float(np.abs(once).max()), 1e-30):
                raise PlanError(
                    f"the network is not deterministic: two calls with one input differ by {gap:.3g}: put it into evaluation mode "
                    "(net.eval()) and take what draws random numbers out of it"
                )

    def key(self, *settings: object) -> str:
        """Return the name of a fit, which identifies the network, its conditions, all noises and the settings."""
        return self._key(self.noises.part(self.order), self.wanted_end, *settings)

    def taught(self, numbers: Sequence[int], nfe: int, *, whole: bool = True) -> list[Taught]:
        """Return noises with their trajectories to the end of a budget, or with the ends of these alone."""
        known = (tuple(numbers), self.end(nfe), whole)
        if known not in self._taught:
            parts = self.noises.parts(numbers, self.batch)
            self._taught[known] = [Taught(part, self._kept(part, self.end(nfe), whole)) for part in parts]
        return self._taught[known]

    def _kept(self, part: Part, end: float, whole: bool) -> Lesson:
        """Return the trajectories of a part. With a store they stay in a file, and are made if there is none."""
        path = self._path("trajectories" if whole else "ends", "npz", part, end, self.teacher_nfe, _LAYOUT)
        if path is None:
            return Lesson.given(part, end, self.teacher_nfe, whole=whole)
        if not path.exists():
            Lesson.write(path, part, end, self.teacher_nfe, whole=whole)
        return Lesson.load(path, part)

    def _path(self, what: str, suffix: str, part: Part, *settings: object) -> Path | None:
        """Return the path in the store of a result that belongs to a part; None without a store."""
        return None if self.store is None else self.store / f"{what}-{self._key(part, *settings)}.{suffix}"

    def _key(self, part: Part, *settings: object) -> str:
        """Return a name that identifies the network, its conditions, the noises and the settings."""
        denoiser = part.denoiser
        others = {each.name: getattr(denoiser, each.name) for each in fields(denoiser) if each.name in _CONDITIONS}
        said = (
            self._network(denoiser),
            repr(denoiser.schedule),
            *_plain([others, *settings]),
            fingerprint([others, *settings]),
        )
        total = hashlib.sha256(repr(said).encode())
        times = np.linspace(denoiser.schedule.t_min, denoiser.schedule.t_max, _PROBES)
        # The repr of a schedule is short, and two schedules may share it.
        total.update(denoiser.schedule.half_log_snr(times).tobytes())
        x = part.x
        for first in range(0, len(part), self.batch):
            total.update(to_host(x[first : first + self.batch]).tobytes())
        return total.hexdigest()[:24]

    def _network(self, denoiser: Denoiser) -> str:
        """Return the fingerprint of the network's weights; for a network without weights, of its output on the first noise."""
        if self._named is None or self._named[0] is not denoiser.network:
            self._named = denoiser.network, fingerprint(denoiser.network) or self._answer()
        return self._named[1]

    def _answer(self) -> str:
        part = self.noises.part(self.order[:1])
        said = part.flat(part(part.x, Point.at(self.schedule, self.schedule.time(0.0))))
        return hashlib.sha256(said.tobytes()).hexdigest()


_SIMPLE = (str, bool, int, float)
_PROBES = 33  # times at which schedules are told apart
_CONDITIONS = ("predicts", "network_kwargs", "time_label", "learned_variance", "guidance", "data_hook", "dtype")


def _plain(value: Any) -> Iterator[str]:
    """Yield a description of a value and of the values in it.

    An array is described by its type; the fingerprint covers its numbers. A function is described by its code and by the plain values
    that it refers to, so that lambdas with different content have different descriptions.
    """
    if isinstance(value, Mapping):
        value = [each for pair in value.items() for each in pair]
    elif is_dataclass(value) and not isinstance(value, type):
        value = [type(value).__name__, *(getattr(value, each.name) for each in fields(value))]
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _plain(each)
    elif isinstance(value, partial):
        yield from _plain([value.func, value.args, value.keywords])
    elif isinstance(value, FunctionType):
        yield value.__qualname__
        yield from _said_by(value.__code__)
        yield from _plain([each for each in _referred(value) if each is None or isinstance(each, _SIMPLE)])
    elif value is None or isinstance(value, _SIMPLE):
        yield repr(value)
    else:
        yield str(getattr(value, "__qualname__", type(value).__name__))


def _said_by(code: CodeType) -> Iterator[str]:
    """Yield the instructions of a function, the names and the constants in them, and those of functions inside it."""
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _said_by(constant)
        else:  # the order of a set differs between processes
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _referred(function: FunctionType) -> Iterator[Any]:
    """Yield the values that a function finds in its defaults, around itself and among the global names."""
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that is bound later
            continue
    yield from (function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__)


def _read_teacher(path: Path) -> tuple[int, float]:
    try:
        nfe, error = json.loads(path.read_text())
        return int(nfe), float(error)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{path} says no teacher ({error}): delete it, and it is made again") from None
