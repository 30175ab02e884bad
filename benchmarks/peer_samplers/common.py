"""What the samplers of both packages share: a `Sampler` that knows where it ends, the network as torch sees it, and seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.denoiser import Denoiser
from dpmsolver.errors import SamplingError
from dpmsolver.evaluation.samplers import Keys, Sampler
from dpmsolver.schedules import Discrete, NoiseSchedule

PREDICTIONS = {"noise": "epsilon", "v": "v_prediction"}  # what all peers take, by our name

Run = Callable[["Network", torch.Tensor, float, Keys], torch.Tensor]


@dataclass(frozen=True)
class Peer(Sampler):
    """A sampler of another package.

    `ends(schedule, setting)` is the time at which a run ends, PlanError for a budget below the smallest that it can spend.
    """

    ends: Callable[[NoiseSchedule, float], float] = lambda schedule, setting: 0.0

    def end_time(self, schedule: NoiseSchedule, setting: float) -> float:
        return self.ends(schedule, setting)


@dataclass(frozen=True)
class Network:
    """A denoiser's network for torch states of any type: cast and converted at its border, called with the peer's own time."""

    denoiser: Denoiser
    like: Any  # x_T as the testbed made it

    @property
    def schedule(self) -> Discrete:
        assert isinstance(self.denoiser.schedule, Discrete)
        return self.denoiser.schedule

    @property
    def prediction(self) -> str:
        """What it predicts, in the words of diffusers. ValueError for what not all peers take."""
        if self.denoiser.predicts not in PREDICTIONS:
            raise ValueError(f"peers take networks that predict noise or v, got {self.denoiser.predicts!r}")
        return PREDICTIONS[self.denoiser.predicts]

    def __call__(self, x: torch.Tensor, label: float) -> torch.Tensor:
        backend = backends.of(self.like)
        given = self.native(x)
        labels = self.denoiser.labels(backend, np.array([[label]]), given)[0]
        dtype = backend.network_dtype(self.denoiser.network, self.denoiser.dtype)
        out = self.denoiser.output(backend, given, labels, self.schedule.time_from_label(label), dtype)
        return (out if isinstance(out, torch.Tensor) else torch.from_numpy(out)).to(x.dtype)

    def native(self, x: torch.Tensor) -> Any:
        if isinstance(self.like, torch.Tensor):
            return x.to(self.like.dtype)
        return x.numpy().astype(self.like.dtype)

    def start(self) -> torch.Tensor:
        """x_T of standard deviation 1."""
        sigma = float(self.schedule.sigma(self.schedule.t_max))
        return (self.like if isinstance(self.like, torch.Tensor) else torch.from_numpy(self.like)) / sigma


@contextmanager
def quiet() -> Iterator[None]:
    """Without the packages' warnings: of what they deprecate and have, and of rounding. They say nothing of the samples."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


def drawing(run: Run) -> Callable[[Denoiser, Any, float, Keys], Any]:
    """A run as `Sampler.draw`: it starts from x_T of standard deviation 1, and the samples come back as x_T came."""

    def draw(denoiser: Denoiser, x_T: Any, setting: float, keys: Keys) -> Any:
        network = Network(denoiser, x_T)
        with quiet(), torch.no_grad():
            x = run(network, network.start(), setting, keys)
        if not bool(torch.isfinite(x).all()):
            raise SamplingError("the samples are not finite")
        return network.native(x)

    return draw


def seed_of(keys: Keys) -> int:
    """A seed from the batch's first key."""
    return int(np.random.SeedSequence(keys[0]).generate_state(1, np.uint64)[0] >> 1)


def generator_of(x: torch.Tensor, keys: Keys) -> torch.Generator:
    return torch.Generator(x.device).manual_seed(seed_of(keys))


def cumulative_products(schedule: Discrete) -> NDArray[np.float64]:
    """alphas_cumprod of the training steps, (N,)."""
    times = np.arange(1, schedule.num_steps + 1) / schedule.num_steps
    return np.asarray(np.square(schedule.alpha(times)))
