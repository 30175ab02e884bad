"""Evaluate a folder of samples: the Frechet distance of all samples and of ranges of seeds, precision and recall, and the classes.

The statistics that were kept during the generation are sufficient. For other features, the samples are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.evaluation.frechet import frechet_distance_between
from dpmsolver.evaluation.precision_recall import precision_recall
from dpmsolver.generation.formats import FORMATS, Samples
from dpmsolver.generation.manifest import MANIFEST, SAMPLES, STATISTICS, Manifest, digest, files_by_shard, stem
from dpmsolver.generation.pictures import to_pixels
from dpmsolver.generation.seeds import Seeds
from dpmsolver.generation.statistics import FEATURES, Eyes, Moments, ShardStatistics, merged, network_eyes, plain_eyes
from dpmsolver.generation.targets import Target, open_target
from dpmsolver.models import feature_networks

__all__ = ["Evaluation", "evaluate"]

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Evaluation:
    """The measurements of a folder. A field is None if it could not be measured.

    Args:
        samples: the number of samples.
        features: the name of the features.
        frechet: the Frechet distance of all samples.
        ranges: the Frechet distances of equal ranges of seeds, with the number of samples of each.
        yardstick: the Frechet distance of other data to the same statistics.
        precision, recall: see `precision_recall`.
        accuracy: the share of samples that are classified as the requested class.
    """

    samples: int
    features: str
    frechet: float | None = None
    ranges: tuple[float, ...] = ()
    per_range: int = 0
    yardstick: float | None = None
    precision: float | None = None
    recall: float | None = None
    accuracy: float | None = None

    @property
    def lowest(self) -> float | None:
        """The lowest distance of a range, which many papers report."""
        return min(self.ranges, default=None)

    @property
    def mean(self) -> float | None:
        """The mean of the ranges' distances."""
        return float(np.mean(self.ranges)) if self.ranges else None

    def __str__(self) -> str:
        lines = [f"{self.samples:,} samples, features {self.features}"]
        if self.frechet is not None:
            yardstick = "" if self.yardstick is None else f" (other data: {self.yardstick:.4g})"
            lines.append(f"  Frechet distance {self.frechet:.5g}{yardstick}")
        if self.ranges:
            each = ", ".join(f"{value:.5g}" for value in self.ranges)
            lines.append(
                f"  of {len(self.ranges)} ranges of {self.per_range:,} seeds: {each}; lowest {self.lowest:.5g}, mean {self.mean:.5g}"
            )
        if self.precision is not None:
            lines.append(f"  precision {self.precision:.4f}, recall {self.recall:.4f}")
        if self.accuracy is not None:
            lines.append(f"  recognised as their class {100 * self.accuracy:.2f} %")
        return "\n".join(lines)


def evaluate(
    folder: str | Path,
    features: str | None = None,
    *,
    statistics: str | Path | None = None,
    data: NDArray[Any] | None = None,
    ranges: int = 3,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure the samples of a folder that `generate` has made.

    Args:
        folder: the folder or its URL. An incomplete run is measured as far as it goes.
        features: "digits", "cifar10", "efficientnet", "inception" or "samples"; by default the features whose statistics were kept.
        statistics: the statistics of the data's features: see `feature_networks.load_statistics`. Embedded classifiers have their own.
        data: the data, (n, channels, height, width) in [-1, 1] or of the shape of the samples, for precision and recall, and for statistics
            if none are given.
        ranges: the number of equal ranges of seeds, cut between shards, whose distances are computed too. Remaining shards belong to none.

    Returns:
        The measurements.

    Raises:
        ValueError: there is no run or nothing to compare with, or the statistics belong to other features.
    """
    target = open_target(folder)
    manifest = Manifest.read(target)
    if manifest is None or not manifest.shards:
        raise ValueError(f"{folder} holds no samples of dpmsolver generate: there is no {MANIFEST} with shards in it")
    if isinstance(ranges, bool) or not isinstance(ranges, int) or ranges < 1:
        raise ValueError(f"ranges is an integer >= 1, got {ranges!r}")
    kept = manifest.run["features"]
    chosen = kept if features is None else features
    if chosen not in FEATURES or chosen in ("auto", "none"):
        hint = (
            "this run kept none: name them, such as features='digits'"
            if chosen == "none"
            else f"they are {', '.join(FEATURES[2:])}"
        )
        raise ValueError(f"features={chosen!r} cannot be evaluated: {hint}")
    eyes = _Look(chosen, manifest.run)
    parts = _parts(manifest, target, None if chosen == kept else eyes(), data is not None, progress)
    known = (
        feature_networks.load_statistics(Path(statistics))
        if statistics is not None
        else feature_networks.data_statistics(chosen)
    )
    rows = None if data is None else eyes().features(_as_stored(data, manifest.run))
    if known is None and rows is not None:
        moments = Moments.of(rows)
        known = feature_networks.Statistics(moments.mean, moments.covariance)
    whole = merged(part.moments for part in parts.values())
    if known is not None and len(known.mean) != len(whole.mean):
        raise ValueError(f"the statistics hold {len(known.mean)} features, {chosen} has {len(whole.mean)}")
    frechet, several, per_range = _distances(parts, whole, known, ranges)
    precision, recall = _precision_recall(rows, parts)
    right = [part.right for part in parts.values() if part.right is not None]
    accuracy = sum(right) / whole.num if len(right) == len(parts) else None
    if known is None and accuracy is None:
        raise ValueError(f"there is nothing to compare {chosen} features with: give statistics=FILE or data=")
    return Evaluation(
        whole.num, chosen, frechet, several, per_range, known.yardstick if known else None, precision, recall, accuracy
    )


class _Look:
    """The eyes for the samples of a run, made when they are first needed."""

    def __init__(self, name: str, run: Mapping[str, Any]) -> None:
        self.name, self.shape, self.made = name, tuple(run["shape"]), None

    def __call__(self) -> Eyes:
        if self.name == "samples":
            return plain_eyes()
        if len(self.shape) != 3 or self.shape[-1] not in (1, 3):
            raise ValueError(
                f"features={self.name!r} sees pictures, and these samples have the shape {self.shape}: take 'samples'"
            )
        return network_eyes(self.name, (self.shape[-1], *self.shape[:2]))


def _parts(
    manifest: Manifest, target: Target, eyes: Eyes | None, rows: bool, progress: Progress | None
) -> dict[int, ShardStatistics]:
    """The statistics of each shard: those that were kept, or, with eyes, of its samples."""
    seeds = Seeds.of(manifest.run["seeds"], manifest.run["shard"])
    names = {} if eyes is None else files_by_shard(target.sizes(SAMPLES), seeds.size)
    found: dict[int, ShardStatistics] = {}
    for done, (shard, record) in enumerate(sorted(manifest.shards.items())):
        if eyes is None:
            name = f"{STATISTICS}/{stem(shard)}.npz"
            content = target.read(name)
            if content is None or digest({name: content}) != record.statistics:
                raise ValueError(
                    f"the statistics of shard {shard} are gone from {target.url}, or damaged: name the features to look again, "
                    "or call generate again, which draws them"
                )
            found[shard] = ShardStatistics.read(content)
        else:
            files = {name: target.read(name) or b"" for name in names.get(shard, [])}
            if not files or digest(files) != record.sha256:
                raise ValueError(
                    f"shard {shard} in {target.url} is gone, or damaged: call generate again, which draws it"
                )
            found[shard] = _looked(eyes, FORMATS[manifest.run["format"]].read(files), rows)
        if progress is not None:
            progress(done + 1, len(manifest.shards))
    return found


def _looked(eyes: Eyes, samples: Samples, rows: bool) -> ShardStatistics:
    seen = None
    if eyes.classify is not None and samples.labels is not None and max(samples.labels) < (eyes.num_classes or 0):
        seen = eyes.classify(samples.values)
    return eyes.of_shard(eyes.features(samples.values), seen, samples.labels, rows)


def _as_stored(data: NDArray[Any], run: Mapping[str, Any]) -> NDArray[Any]:
    """Data as samples are stored."""
    shape = tuple(run["shape"])
    pictures = run["format"] != "npy" and len(shape) == 3
    stored = to_pixels(data) if pictures and data.shape[1:] == (shape[-1], *shape[:2]) else data
    if stored.shape[1:] != shape:
        raise ValueError(f"data have the shape {data.shape[1:]}, and the samples, as they are stored, {shape}")
    return stored


def _distances(
    parts: Mapping[int, ShardStatistics], whole: Moments, known: feature_networks.Statistics | None, ranges: int
) -> tuple[float | None, tuple[float, ...], int]:
    """The Frechet distance of all, of each range, and the samples of a range."""
    if known is None:
        return None, (), 0

    def distance(moments: Moments) -> float:
        return frechet_distance_between(moments.mean, moments.covariance, known.mean, known.covariance)

    each = len(parts) // ranges
    groups = [list(_group(parts, index, each)) for index in range(ranges)] if each else []
    sizes = {sum(part.num for part in group) for group in groups}
    if ranges == 1 or len(sizes) != 1:  # distances of sets of different sizes have different biases
        return distance(whole), (), 0
    return distance(whole), tuple(distance(merged(group)) for group in groups), sizes.pop()


def _group(parts: Mapping[int, ShardStatistics], index: int, each: int) -> Iterator[Moments]:
    for shard in sorted(parts)[index * each : (index + 1) * each]:
        yield parts[shard].moments


def _precision_recall(
    data: NDArray[Any] | None, parts: Mapping[int, ShardStatistics]
) -> tuple[float | None, float | None]:
    """Of as many samples as there are data, at most."""
    rows = [part.features for _, part in sorted(parts.items()) if part.features is not None]
    if data is None or not rows:
        return None, None
    return precision_recall(data, np.concatenate(rows)[: len(data)])
