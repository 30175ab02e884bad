"""Testbed: a model on which samplers are compared, with its schedule, its states and the known facts about its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.backends.arrays import is_float_array
from dpmsolver.brief import brief_repr
from dpmsolver.models.closed_form import Gaussian
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.sampling.forward import initial_noise
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.typing import Predicts

__all__ = ["Testbed"]

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Testbed:
    """A model on which samplers are compared. Measures that need a field which is None are left out.

    Args:
        name: the name in reports.
        schedule: the noise schedule.
        shape: the shape of one sample.
        like: an array, such as an empty one, with the framework, type and device of the states.
        network_denoiser: a function from the class labels of a batch, one per sample (None without classes), to its denoiser.
        num_classes: the number of classes, 0 … num_classes - 1; None without classes.
        guided_denoiser: a function from class labels and a scale of classifier-free guidance to the denoiser of a batch; None if the model
            cannot be guided.
        features: a function from samples (n, …) to float64 features (n, d), for the Frechet distance.
        feature_statistics: the mean (d,) and the covariance (d, d) of the data's features.
        feature_yardstick: the Frechet distance of other data (a test set) to those statistics.
        classify: a function from samples to their classes (n,), for the accuracy of conditional models.
        data: a function (num, seed) -> exact draws, float64 (num, …).
        gaussian: the law of the data if it is Gaussian; its ODE and its Wasserstein distance have closed forms.
        pictures: True if samples are (channels, height, width) with 1 or 3 channels and pixels in [-1, 1].
        bfloat16: True if the network runs in bfloat16.

    Raises:
        TypeError, ValueError: a field has the wrong type, or fields do not fit together.

    Examples:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> testbed = dpm.models.testbeds.load_testbed("mixture-2")
        >>> part = range(100, 150)  # samples 100 … 149 of the endless set of samples of this seed
        >>> x0 = dpm.sample(testbed.denoiser(testbed.labels(part)), testbed.initial_noise(part, seed=0), nfe=20)
        >>> bool(abs(np.linalg.norm(x0, axis=1) - 1.0).mean() < 0.1)
        True
    """

    __test__ = False  # pytest takes classes called Test… for tests

    name: str
    schedule: NoiseSchedule
    shape: tuple[int, ...]
    like: Any
    network_denoiser: Callable[[Sequence[int] | None], Denoiser]
    num_classes: int | None = None
    features: Callable[[Any], Floats] | None = None
    feature_statistics: tuple[Floats, Floats] | None = None
    feature_yardstick: float | None = None
    classify: Callable[[Any], IntArray] | None = None
    data: Callable[[int, int], Floats] | None = None
    gaussian: Gaussian | None = None
    pictures: bool = False
    bfloat16: bool = False
    guided_denoiser: Callable[[Sequence[int], float], Denoiser] | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, NoiseSchedule):
            raise TypeError(f"schedule must be a NoiseSchedule, got {type(self.schedule).__name__}")
        shape = tuple(self.shape) if isinstance(self.shape, (tuple, list)) else ()
        if not shape or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
            raise ValueError(f"shape must be the shape of one sample, such as (3, 32, 32), got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        if self.pictures and (len(shape) != 3 or shape[0] not in (1, 3)):
            raise ValueError(f"pictures have the shape (1 or 3, height, width), got {shape}")
        if not is_float_array(backends.of(self.like), self.like):
            raise TypeError(f"like must be a floating-point array, got {self.like.dtype}")
        for function in ("network_denoiser", "guided_denoiser", "features", "classify", "data"):
            value = getattr(self, function)
            if not callable(value) and (value is not None or function == "network_denoiser"):
                raise TypeError(f"{function} must be a function, got {type(value).__name__}")
        if self.num_classes is not None and not (isinstance(self.num_classes, int) and self.num_classes >= 1):
            raise ValueError(f"num_classes must be an integer >= 1 or None, got {self.num_classes!r}")
        self._check_knowledge()

    def _check_knowledge(self) -> None:
        if self.feature_statistics is not None:
            mean, covariance = (np.asarray(part, dtype=np.float64) for part in self.feature_statistics)
            if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape):
                raise ValueError(
                    f"feature_statistics must be a mean (d,) and a covariance (d, d), got {mean.shape}, {covariance.shape}"
                )
            object.__setattr__(self, "feature_statistics", (mean, covariance))
        if self.gaussian is not None and not isinstance(self.gaussian, Gaussian):
            raise TypeError(f"gaussian must be a models.Gaussian, got {type(self.gaussian).__name__}")
        if self.gaussian is not None and self.gaussian.shape != self.shape:
            raise ValueError(f"gaussian has the shape {self.gaussian.shape}, samples have {self.shape}")

    def labels(self, part: range) -> list[int] | None:
        """Return the class of each sample in `part`: sample i has class i % num_classes. Return None without classes."""
        return None if self.num_classes is None else [i % self.num_classes for i in part]

    def denoiser(self, labels: Sequence[int] | None = None, guidance: float = 1.0) -> Denoiser:
        """Return the denoiser of a batch from one class label per sample, or from None without classes.

        Args:
            guidance: the scale of classifier-free guidance; 1 is none. Other scales raise ValueError if the testbed cannot be guided.
        """
        if guidance == 1.0:
            denoiser: Denoiser = self.network_denoiser(labels)
        elif labels is None or self.guided_denoiser is None:
            raise ValueError(
                f"{self.name} cannot be guided: its network knows no classes, or not their absence: leave guidance out"
            )
        else:
            denoiser = self.guided_denoiser(labels, guidance)
        if not isinstance(denoiser, Denoiser):
            raise TypeError(f"network_denoiser must return a Denoiser, got {type(denoiser).__name__}")
        return denoiser

    @property
    def predicts(self) -> Predicts:
        """The target that the network predicts."""
        return self.denoiser(self.labels(range(1))).predicts

    def initial_noise(self, part: range, seed: int = 0) -> Any:
        """Draw x_T of the samples in `part`, (len(part), *shape), on the host: sample i depends only on (seed, i)."""
        return initial_noise(
            self.schedule, (len(part), *self.shape), self.keys(part, seed), like=self.like, noise="host"
        )

    def keys(self, part: range, seed: int = 0) -> list[tuple[int, int]]:
        """Return the value of `generator=` in `dpm.sample` for the samples in `part`: one key per sample."""
        return [(seed, i) for i in part]
