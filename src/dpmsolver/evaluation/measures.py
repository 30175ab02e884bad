"""Measures of samples. A measure keeps one row per sample of each batch, and computes a number from the rows of all batches.

So a comparison stores a few numbers of each sample instead of the sample, and confidence intervals are bootstrap intervals over the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpmsolver.evaluation.distances import decibels, energy_distance, sliced_wasserstein, trajectory_error
from dpmsolver.evaluation.frechet import frechet_distance_to, frechet_replicates
from dpmsolver.evaluation.intervals import resampled_rows
from dpmsolver.host import to_host
from dpmsolver.models.testbeds import Testbed

__all__ = ["MEASURES", "Measure", "Observation", "host", "measures_of"]

_NARROW = 256  # features up to which an interval has all its resamples
_SMALL = 64  # coordinates of a sample up to which all of it is kept


@dataclass(frozen=True)
class Observation:
    """A batch of samples, with the requested classes and the ends of the exact trajectories (None for a sampler that adds noise)."""

    testbed: Testbed
    samples: Any
    labels: list[int] | None
    reference: Any = None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure of samples.

    Args:
        key, title, better, log: its name, its title, which direction is better, and whether its axis is logarithmic.
        keeps: the name of the rows that it keeps of a batch.
        rows: a function from an observation to one row per sample, or to None if there is nothing to measure.
        value: a function from the rows of all batches to the number.
        available: a function that tells whether a testbed has what the measure needs.
        costly: True if its interval is computed from fewer resamples.
        replicates: a function (testbed, rows, times) -> the values of that many sets of resampled rows, for a measure that corrects them.
    """

    key: str
    title: str
    better: Literal["lower", "higher"]
    log: bool
    keeps: str
    rows: Callable[[Observation], NDArray[Any] | None]
    value: Callable[[Testbed, NDArray[Any]], float]
    available: Callable[[Testbed], bool]
    costly: bool = False
    replicates: Callable[[Testbed, NDArray[Any], int], NDArray[np.float64]] | None = None

    def resampled(self, testbed: Testbed, rows: NDArray[Any], times: int) -> NDArray[np.float64]:
        """Return the values of resampled rows, shifted to the value of all rows. The same rows are drawn for every run."""
        if self.replicates is not None:
            return self.replicates(testbed, rows, times)
        times = max(2, times // 5) if self.costly else times
        chosen = resampled_rows(len(rows), times, strata=testbed.num_classes or 1)
        drawn = np.array([self.value(testbed, rows[again]) for again in chosen])
        # Repeats make distances larger: what is told is the spread of the values, not where they lie.
        return np.asarray(drawn - (drawn.mean() - self.value(testbed, rows)))


def host(array: Any) -> NDArray[np.float64]:
    """Return an array of any framework as float64 NumPy."""
    return np.asarray(to_host(array), dtype=np.float64)


def _errors(seen: Observation) -> NDArray[Any] | None:
    return None if seen.reference is None else trajectory_error(host(seen.samples), host(seen.reference))


def _features(seen: Observation) -> NDArray[Any]:
    assert seen.testbed.features is not None
    return np.asarray(seen.testbed.features(seen.samples), dtype=np.float32)


def _right(seen: Observation) -> NDArray[Any]:
    assert seen.testbed.classify is not None
    right: NDArray[Any] = np.equal(seen.testbed.classify(seen.samples), np.asarray(seen.labels))
    return right


def _points(seen: Observation) -> NDArray[Any]:
    return host(seen.samples)


def _frechet(testbed: Testbed, features: NDArray[Any]) -> float:
    assert testbed.feature_statistics is not None
    return frechet_distance_to(features, *testbed.feature_statistics)


def _frechet_replicates(testbed: Testbed, features: NDArray[Any], times: int) -> NDArray[np.float64]:
    assert testbed.feature_statistics is not None
    # With 1280 features one takes half a second.
    times = times if features.shape[1] <= _NARROW else max(2, times // 10)
    return frechet_replicates(features, *testbed.feature_statistics, resamples=times, strata=testbed.num_classes or 1)


def _data(testbed: Testbed, num: int) -> NDArray[Any]:
    """Exact draws of the data, the same in every run."""
    assert testbed.data is not None
    return testbed.data(num, 1)


def _small_with_data(testbed: Testbed) -> bool:
    return testbed.data is not None and int(np.prod(testbed.shape)) <= _SMALL


_ALL = (
    Measure(
        key="error",
        title="RMS distance to the exact trajectory's end",
        better="lower",
        log=True,
        keeps="error",
        rows=_errors,
        value=lambda testbed, errors: float(errors.mean()),
        available=lambda testbed: True,
    ),
    Measure(
        key="error_db",
        title="The same as peak signal-to-noise ratio in dB, of the range from -1 to 1",
        better="higher",
        log=False,
        keeps="error",
        rows=_errors,
        value=lambda testbed, errors: float(decibels(errors).mean()),
        available=lambda testbed: testbed.pictures,
    ),
    Measure(
        key="frechet",
        title="Frechet distance to the data",
        better="lower",
        log=True,
        keeps="features",
        rows=_features,
        value=_frechet,
        replicates=_frechet_replicates,
        available=lambda testbed: testbed.features is not None and testbed.feature_statistics is not None,
    ),
    Measure(
        key="accuracy",
        title="Share recognised as the class asked for",
        better="higher",
        log=False,
        keeps="right",
        rows=_right,
        value=lambda testbed, right: float(right.mean()),
        available=lambda testbed: testbed.classify is not None and testbed.num_classes is not None,
    ),
    Measure(
        key="sliced_wasserstein",
        title="Sliced 2-Wasserstein distance to the data",
        better="lower",
        log=True,
        keeps="points",
        rows=_points,
        value=lambda testbed, points: sliced_wasserstein(points, _data(testbed, len(points))),
        available=_small_with_data,
        costly=True,
    ),
    Measure(
        key="energy",
        title="Energy distance to the data",
        better="lower",
        log=True,
        keeps="points",
        rows=_points,
        value=lambda testbed, points: energy_distance(points, _data(testbed, len(points))),
        available=_small_with_data,
        costly=True,
    ),
)
MEASURES: dict[str, Measure] = {measure.key: measure for measure in _ALL}


def measures_of(testbed: Testbed) -> tuple[Measure, ...]:
    """Return the measures available for a testbed."""
    return tuple(measure for measure in _ALL if measure.available(testbed))
