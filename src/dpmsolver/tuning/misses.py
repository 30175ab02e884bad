"""Misses: the distance of each run's end from the end of its trajectory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.host import to_host
from dpmsolver.schedules import Floats
from dpmsolver.tuning.parts import Part
from dpmsolver.tuning.table import Table, abreast
from dpmsolver.tuning.teacher import Taught

__all__ = [
    "DIVERGED",
    "STATISTICS",
    "Miss",
    "Summary",
    "end_errors",
    "judged_errors",
    "root_mean_square",
    "root_mean_squares",
]

DIVERGED = 1e30  # the error of a sample whose run diverged
_ROUNDING = 1e-3  # how far below zero rounding may bring a loss
_PROBE = 1e-2  # of the target's size: how far a feature map is probed for its derivative


@dataclass(frozen=True)
class Miss:
    """The error to minimise: the distance of states by default, the distance of features, or the value of a loss.

    Args:
        features: (B, …) -> (B, …), compared instead of the states.
        loss: (x, reference) -> (B,), numbers >= 0; the miss is their root. At most one of the two is given.
    """

    features: Callable[[Any], Any] | None = None
    loss: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.features is not None and self.loss is not None:
            raise PlanError("give features or loss, not both: each says what is to be small")
        for name, function in (("features", self.features), ("loss", self.loss)):
            if function is not None and not callable(function):
                raise PlanError(f"{name} must be a function of a batch, got {function!r}")

    @property
    def plain(self) -> bool:
        """True if the miss is the distance of the states."""
        return self.features is None and self.loss is None

    def __call__(self, part: Part, x: Any, reference: Any) -> Floats:
        """Return the miss of each sample, float64 (B, d); zero where the run reaches the reference."""
        if self.loss is not None:
            found = self._read(part, self.loss(x, reference), "loss")
            if found.min() < -_ROUNDING:
                raise PlanError(f"loss must return numbers >= 0, got {found.min():.4g}: the fit minimises its root")
            return np.sqrt(np.maximum(found, 0.0))
        if self.features is not None:
            return self._features(part, x) - self._features(part, reference)
        return part.flat(x) - part.flat(reference)

    def along(self, part: Part, target: Any, arrays: Sequence[Any]) -> Floats:
        """Return the first-order effect of each array, and of the target itself, on the miss near the target: float64 (B, r + 1, d)."""
        if self.features is None:
            return np.stack([part.flat(array) for array in (*arrays, target)], axis=1)
        here, size = self._features(part, target), root_mean_square(part.flat(target))
        found = []
        for array in (*arrays, target):
            step = _PROBE * size / max(root_mean_square(part.flat(array)), 1e-30)
            found.append((self._features(part, part.combine([1.0, step], [target, array])) - here) / step)
        return np.stack(found, axis=1)

    def width(self, part: Part) -> int | None:
        """Return how many numbers are compared for each sample; None if this cannot be told on noises, before any run."""
        try:
            return int(self(part, part.x, part.x).shape[1])
        except SamplingError:  # features or a loss that is not finite on noise
            return None

    def _features(self, part: Part, x: Any) -> Floats:
        assert self.features is not None
        return self._read(part, self.features(x), "features")

    def _read(self, part: Part, values: Any, what: str) -> Floats:
        read = to_host(values)
        if read.ndim == 0 or len(read) != len(part):
            raise PlanError(f"{what} must return one row per sample ({len(part)}), got shape {read.shape}")
        if not np.isfinite(read).all():
            raise SamplingError(f"{what} returned NaN or infinity")
        return read.reshape(len(part), -1)


def root_mean_square(values: Floats) -> float:
    """Return the root of the mean square of all numbers."""
    return float(np.sqrt(np.mean(np.square(values))))


def end_errors(table: Table, taught: Sequence[Taught], miss: Miss) -> Floats:
    """Return the root mean square miss of each sample's end, float64 (N,)."""
    return np.concatenate([root_mean_squares(miss(part, table.run(part), lesson.end)) for part, lesson in taught])


def judged_errors(tables: Sequence[Table], taught: Sequence[Taught], miss: Miss) -> list[Floats]:
    """Return the errors of `end_errors` for each table, with `DIVERGED` where the run, the features or the loss is not finite.

    A candidate that diverges is ranked last, and the fit continues. The tables have as many evaluations, and run abreast.
    """
    found: list[list[Floats]] = [[] for _ in tables]
    for each in taught:
        for errors, of_part in zip(found, _judged_abreast(tables, each, miss), strict=True):
            errors.append(of_part)
    return [np.concatenate(errors) for errors in found]


def _judged_abreast(tables: Sequence[Table], taught: Taught, miss: Miss) -> list[Floats]:
    """Return the errors of a part for each table. If one of them diverges, each runs by itself."""
    part, reference, found = taught.part, taught.lesson.end, list[Floats]()
    together = max(1, part.room // len(part))
    try:
        for first in range(0, len(tables), together):  # so that the ends of few tables are held at once
            some = tables[first : first + together]
            ends = abreast(part, some, 0, [table.start(part) for table in some], [()] * len(some))
            found += [np.minimum(root_mean_squares(miss(part, end, reference)), DIVERGED) for end in ends]
        return found
    except SamplingError:
        if len(tables) == 1:
            return [np.full(len(part), DIVERGED)]
        return [_judged_abreast([table], taught, miss)[0] for table in tables]


def root_mean_squares(misses: Floats) -> Floats:
    """Return the root mean square of each sample's miss, float64 (B,), from (B, d)."""
    with np.errstate(over="ignore"):
        found: Floats = np.sqrt(np.square(misses).mean(axis=1))
    return found


# Of the errors on the last axis.
STATISTICS: dict[str, Callable[[Floats], Floats]] = {
    "mean": lambda errors: errors.mean(axis=-1),
    "median": lambda errors: np.median(errors, axis=-1),
    "95 %": lambda errors: np.quantile(errors, 0.95, axis=-1),
    "RMS": lambda errors: np.sqrt(np.square(errors).mean(axis=-1)),
}


@dataclass(frozen=True)
class Summary:
    """The errors of many samples in four numbers: a few samples between two modes carry the root mean square."""

    median: float
    mean: float
    high: float
    rms: float

    @classmethod
    def of(cls, errors: Floats) -> Summary:
        """Return the median, the mean, the 95 % quantile and the root mean square."""
        return cls(*(float(STATISTICS[name](errors)) for name in ("median", "mean", "95 %", "RMS")))

    def __str__(self) -> str:
        return f"mean {self.mean:.4g}, median {self.median:.4g}, 95 % {self.high:.4g}, RMS {self.rms:.4g}"
