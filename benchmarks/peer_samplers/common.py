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
from dpmsolver.errors import SamplingError
from dpmsolver.evaluation.samplers import Keys, Sampler
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.schedules import Discrete, Flow, NoiseSchedule

# What diffusers' schedulers and k-diffusion's wrappers take, by our name.
PREDICTIONS = {"noise": "epsilon", "v": "v_prediction"}
OF_FLOWS = {"velocity": "flow_prediction"}

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
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule

    @property
    def prediction(self) -> str:
        """What it predicts, in the words of diffusers. ValueError for what not all peers take."""
        taken = OF_FLOWS if isinstance(self.schedule, Flow) else PREDICTIONS
        if self.denoiser.predicts not in taken:
            raise ValueError(f"peers take networks that predict {' or '.join(taken)}, got {self.denoiser.predicts!r}")
        return taken[self.denoiser.predicts]

    def __call__(self, x: torch.Tensor, label: float) -> torch.Tensor:
        backend = backends.of(self.like)
        given = self.native(x)
        labels = self.denoiser.labels(backend, np.array([[label]]), given)[0]
        dtype = backend.network_dtype(self.denoiser.network, self.denoiser.dtype)
        out = self.denoiser.output(backend, given, labels, self.schedule.time_from_label(label), dtype)
        return (out if isinstance(out, torch.Tensor) else torch.from_numpy(out)).to(x.dtype)

    def data(self, x: torch.Tensor, time: float) -> torch.Tensor:
        """The data predicted for a state at a time of the schedule, whatever the network predicts."""
        schedule = self.schedule
        time = min(max(time, schedule.t_min), schedule.t_max)  # rounding may have left the schedule
        a, b = self.denoiser.conversion("data", schedule.alpha(time), schedule.sigma(time))
        return float(a) * x + float(b) * self(x, schedule.label(time))

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


def cumulative_products(schedule: NoiseSchedule) -> NDArray[np.float64]:
    """alphas_cumprod of the training steps of a discrete schedule, (N,)."""
    assert isinstance(schedule, Discrete)
    times = np.arange(1, schedule.num_steps + 1) / schedule.num_steps
    return np.asarray(np.square(schedule.alpha(times)))
