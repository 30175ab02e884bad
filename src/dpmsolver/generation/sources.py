"""Sources of samples: a testbed, the class or prompt of every seed, and the conversion of the sampler's output to what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.generation.job import Job, label_of
from dpmsolver.host import to_host
from dpmsolver.models.acceleration import autocast
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import fingerprint, like_weights
from dpmsolver.sampling.forward import initial_noise

__all__ = ["Source", "load_source"]


@dataclass(frozen=True, eq=False)
class Source:
    """A model in the form that a job needs.

    Args:
        testbed: the network with its schedule and the framework of its states.
        job: the job.
        decode: a function from the sampler's output, on its device, to pictures in [-1, 1]; None if the output itself is stored.
        modules: the modules whose weights enter the fingerprint, if the network is not all of them.
    """

    testbed: Testbed
    job: Job
    decode: Callable[[Any], Any] | None = None
    modules: list[Any] | None = None

    @property
    def pictures(self) -> bool:
        """True if samples are pictures: 1 or 3 channels in [-1, 1]."""
        return self.testbed.pictures or self.decode is not None

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or of prompts, or None."""
        return self.testbed.num_classes

    def labels(self, seeds: Sequence[int]) -> list[int] | None:
        """Return the class, or the number of the prompt, of each seed."""
        classes, known = self.job.classes, self.num_classes
        return None if classes is None or known is None else [label_of(seed, classes, known) for seed in seeds]

    def denoiser(self, seeds: Sequence[int]) -> Denoiser:
        """Return the denoiser of some samples."""
        if self.job.prompts is not None:  # the guidance is inside
            return self.testbed.denoiser(self.labels(seeds))
        return self.testbed.denoiser(self.labels(seeds), 1.0 if self.job.guidance is None else self.job.guidance)

    def start(self, seeds: Sequence[int]) -> Any:
        """Draw x_T on the host: sample i from seed i."""
        shape = (len(seeds), *self.testbed.shape)
        return initial_noise(self.testbed.schedule, shape, list(seeds), like=self.testbed.like, noise="host")

    def fingerprint(self) -> str:
        """Return the fingerprint of the network."""
        return fingerprint(self.modules or self.denoiser([0]).network) or "without weights"

    def finished(self, x: Any) -> Any:
        """Return the sampler's output as it is stored: decoded, unless the format keeps floats."""
        return x if self.decode is None or self.job.format == "npy" else self.decode(x)

    def on_host(self, samples: Any) -> NDArray[Any]:
        """Return samples as a NumPy array of their own type."""
        kind = np.float64 if "float64" in str(samples.dtype) else np.float32
        return to_host(samples).astype(kind)

    def check(self) -> None:
        """Raise ValueError for classes that the model lacks, or that do not divide the number of samples."""
        classes, known, seeds = self.job.classes, self.num_classes, self.job.seeds
        if known is None:
            if isinstance(classes, tuple) or classes == "random":
                raise ValueError(f"{self.testbed.name} has no classes to choose from: leave classes out")
            return
        count = len(classes) if isinstance(classes, tuple) else known
        for label in classes if isinstance(classes, tuple) else ():
            if not 0 <= label < known:
                raise ValueError(f"class {label} does not exist: accepted are 0 to {known - 1}")
        if classes in ("random", None) or self.job.prompts is not None:
            return
        if len(seeds) % count:
            fewer = len(seeds) // count * count
            raise ValueError(
                f"{len(seeds)} samples do not divide into {count} classes of one size: draw {fewer or count} or {fewer + count}, "
                "or classes='random'"
            )


def load_source(job: Job) -> Source:
    """Load the source of a job, with its network on the job's device.

    Raises:
        ValueError, ImportError: `load_testbed` refuses the model, or the job's options do not suit it.
    """
    if job.prompts is not None:
        from dpmsolver.generation.prompts import prompted

        testbed, decode, modules = prompted(job)
        return Source(testbed, job, decode, modules)
    testbed = _testbed(job)
    return Source(testbed if job.dtype == "float32" else _in_dtype(testbed, job.dtype), job)


def _testbed(job: Job) -> Testbed:
    model = job.model
    if isinstance(model, str):
        return load_testbed(model, compiled=job.compiled, device=job.device)
    if job.compiled:
        raise ValueError("compile=True is for models that are loaded by name: compile your own network yourself")
    if isinstance(model, Testbed):
        return model
    if isinstance(model, Denoiser):
        if job.shape is None:
            raise ValueError("a Denoiser does not know its samples' shape: give shape=, such as shape=(3, 32, 32)")
        like = like_weights(model.network)
        like = np.empty(0) if like is None else like.to(dtype=backends.of(like).state(like).dtype)
        pictures = len(job.shape) == 3 and job.shape[0] in (1, 3)
        return Testbed("denoiser", model.schedule, job.shape, like, _Same(model), pictures=pictures)
    raise TypeError(f"model is a name, a Testbed or a Denoiser, got {type(model).__name__}")


@dataclass(frozen=True)
class _Same:
    """One denoiser for every batch."""

    denoiser: Denoiser

    def __call__(self, labels: Sequence[int] | None) -> Denoiser:
        return self.denoiser


def _in_dtype(testbed: Testbed, dtype: str) -> Testbed:
    """The testbed with its network under torch's autocast."""
    if type(testbed.like).__module__.split(".")[0] != "torch":
        raise ValueError(f"dtype={dtype!r} needs a torch network, and {testbed.name} runs in NumPy: leave it out")

    def denoiser(labels: Sequence[int] | None, scale: float = 1.0) -> Denoiser:
        full = testbed.denoiser(labels, scale)
        return full.replace(network=autocast(full.network, testbed.like.device.type, dtype))

    guided = None if testbed.guided_denoiser is None else denoiser
    return replace(testbed, network_denoiser=denoiser, guided_denoiser=guided)
