"""A job: everything that a worker needs to draw any shard of a run, in one object that can be sent to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dpmsolver.errors import unknown
from dpmsolver.generation.seeds import Seeds
from dpmsolver.sampling.noise import NoiseName

__all__ = ["ClassesLike", "DtypeName", "Job", "Prepared", "label_of"]

DtypeName: TypeAlias = Literal["float32", "float16", "bfloat16"]
ClassesLike: TypeAlias = Sequence[int] | Literal["all", "random"] | None
_OF_LABELS = 0x6C6162  # apart from the streams of noise, which are numbered from 0


@dataclass(frozen=True)
class Job:
    """The description of what is drawn, how, and where it is written.

    Args:
        model: the name of a model, as in `load_testbed`; a Testbed; or a Denoiser with the shape of a sample.
        seeds: the samples, and how they are cut into shards.
        plan: the plan as JSON; before it is made, (solver, nfe, grid).
        batch: the number of samples in a batch of the network; 0: it has to be found by trial.
        probe: the result of `preparing.probed` for that batch. Smaller batches with the same result may replace it if memory is short.
        guidance: the scale of classifier-free guidance; None: none for classes, a pipeline's own for prompts.
        classes: classes that the seeds take in turn, "all", "random", or None.
        prompts: prompts that the seeds take in turn, for a text-to-image pipeline.
        threads: the threads of a worker on a CPU; 0: those of its process.
        features, rows: the name of the features, and the number of samples whose features themselves are kept.
        network: the fingerprint of the network, once it is known.
        made_with: the sum of the environment in the manifest.
        run_sum: the sum of `run`, which records carry.
    """

    model: Any
    out: str
    seeds: Seeds
    format: str | None
    plan: str = ""
    wanted: tuple[Any, int | None, Any] = ("auto", None, None)
    shape: tuple[int, ...] | None = None
    batch: int = 0
    probe: str = ""
    guidance: float | None = None
    classes: tuple[int, ...] | Literal["all", "random"] | None = "all"
    prompts: tuple[str, ...] | None = None
    noise: NoiseName = "host"
    dtype: DtypeName = "float32"
    compiled: bool = False
    device: str | None = None
    threads: int = 0
    features: str = "auto"
    rows: int = 50_000
    network: str = ""
    made_with: str = ""
    run_sum: str = ""

    def __post_init__(self) -> None:
        if self.dtype not in get_args(DtypeName):
            raise ValueError(unknown("dtype", self.dtype, get_args(DtypeName)))
        if self.batch < 0 or self.batch > self.seeds.size:
            raise ValueError(f"batch is from 1 to {self.seeds.size}, the seeds of a shard, or 'auto', got {self.batch}")

    def replace(self, **changes: Any) -> Job:
        """Return the job with changed fields."""
        return replace(self, **changes)

    @property
    def name(self) -> str:
        """The name of the model in the manifest."""
        return (
            self.model if isinstance(self.model, str) else str(getattr(self.model, "name", type(self.model).__name__))
        )

    def run(self, prepared: Prepared) -> dict[str, Any]:
        """The part of the manifest on which the samples depend, by which a folder recognises its run."""
        known, plan = prepared.network, json.loads(prepared.plan)
        return {
            "model": self.name if known == "without weights" else None,
            "network": known,
            **{key: plan[key] for key in ("solver", "grid")},
            "nfe": len(plan["rows"]),
            "plan": plan,
            "seeds": str(self.seeds),
            "shard": self.seeds.size,
            "batch": prepared.batch,
            "classes": list(self.classes)
            if isinstance(self.classes, tuple)
            else self.classes
            if prepared.classes
            else None,
            "guidance": self.guidance,
            "prompts": None if self.prompts is None else _sum(list(self.prompts)),
            "noise": self.noise,
            "format": prepared.format,
            "shape": list(prepared.shape),
            "dtype": self.dtype,
            "compiled": self.compiled,
            "device": prepared.environment["device"].split(":")[0],
            "features": prepared.features,
        }


@dataclass(frozen=True)
class Prepared:
    """The results of a worker before anything is drawn.

    Args:
        network: the fingerprint of the network.
        plan: the plan as JSON.
        batch, probe: as in `Job`.
        classes: the number of classes of the model, or None.
        format, shape: the format and the shape of what is written.
        pictures: whether samples are pictures.
        features: the name of the features, or "none".
        environment: versions, device and threads.
    """

    network: str
    plan: str
    batch: int
    probe: str
    classes: int | None
    format: str
    shape: tuple[int, ...]
    pictures: bool
    features: str
    environment: dict[str, Any]

    @property
    def made_with(self) -> str:
        """A short sum of the environment."""
        return _sum(self.environment)[:8]


def label_of(seed: int, classes: Sequence[int] | Literal["all", "random"], num_classes: int) -> int:
    """Return the class of a sample, which depends only on its seed.

    Examples:
        >>> [label_of(seed, "all", 10) for seed in (8, 9, 10)], [label_of(seed, (3, 7), 10) for seed in (8, 9, 10)]
        ([8, 9, 0], [3, 7, 3])
        >>> drawn = [label_of(seed, "random", 10) for seed in range(1000)]
        >>> min(drawn), max(drawn), drawn[500] == label_of(500, "random", 10)
        (0, 9, True)
    """
    if classes == "all":
        return seed % num_classes
    if classes == "random":
        return int(np.random.default_rng((_OF_LABELS, seed)).integers(num_classes))
    return int(classes[seed % len(classes)])


def _sum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
