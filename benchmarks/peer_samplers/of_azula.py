"""azula's samplers.

In azula any network can be sampled on any schedule, and steps are equal in the time of that schedule: its schedules are its grids. Here
each begins and ends at the noise levels (sigma/alpha) at which the network's own schedule does; "" is the network's own schedule. A run
ends at the least noise, as azula's runs do, and on the network's own schedule also at sigma = 0 ("stop=0") where the formula has a limit
there.

EulerSampler is DDIMSampler with eta = 0 and DDPMSampler is that with eta = 1: of the three are run Euler, DDIM with eta = 0.5 and DDPM.
REABSampler of azula 0.11.1 converges at first order only, whatever its order. azula imports einops; it is used without the other packages
that it asks for.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.peer_samplers.common import Network, Peer, drawing, seed_of
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.samplers import Keys
from dpmsolver.schedules import NoiseSchedule

INSTALLED = importlib.util.find_spec("azula") is not None and importlib.util.find_spec("einops") is not None
GRIDS = {"": "", "ve": "VE", "vp": "VP", "cosine": "Cosine", "rectified": "Rectified", "decay": "Decay"}
LEAST_ALPHA = 1e-3  # azula's own: its schedules never begin in pure noise


@cache
def azula() -> tuple[Any, Any, Any]:
    """Its modules `sample`, `noise` and `denoise`."""
    sample, noise, denoise = (importlib.import_module(f"azula.{name}") for name in ("sample", "noise", "denoise"))
    return sample, noise, denoise


@dataclass(frozen=True)
class Way:
    """From where to where a sampler goes on which schedule of azula: schedule(t) -> (alpha, sigma), for t from `start` to `stop`."""

    schedule: Any
    start: float
    stop: float


def way(schedule: NoiseSchedule, grid: str, to_clean: bool, from_noise: bool) -> Way:
    """The way on a grid, from the noisiest level of a network's schedule to its least, or to sigma = 0.

    It begins where there is a signal, but for samplers that can begin without one (`from_noise`) on the network's own schedule.
    """
    begin = schedule.t_max
    if schedule.alpha(begin) == 0.0 and (grid or not from_noise):
        begin = float(schedule.time(math.log(LEAST_ALPHA / (1.0 - LEAST_ALPHA))))
    if not grid:
        own: Any = _Own(schedule)
        return Way(own, begin, 0.0 if to_clean else schedule.t_min)
    # The two numbers of azula's schedules for which sigma/alpha is the network's at both ends. At t = 0 alpha is 1.
    most, least = (math.exp(-float(schedule.half_log_snr(t))) for t in (begin, schedule.t_min))
    if grid == "ve":
        given = {"sigma_min": least, "sigma_max": most}
    elif grid in ("vp", "cosine"):  # sigma^2 = 1 - alpha^2 + sigma_min^2
        given = {"alpha_min": math.sqrt((1.0 + least**2) / (1.0 + most**2)), "sigma_min": least}
    else:  # sigma = 1 at t = 1
        given = {"alpha_min": 1.0 / most, "sigma_min": least}
    _, noise, _ = azula()
    return Way(getattr(noise, f"{GRIDS[grid]}Schedule")(**given), 1.0, 0.0)


@dataclass(frozen=True)
class _Own:
    """The network's schedule as one of azula."""

    schedule: NoiseSchedule

    def __call__(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        times = t.cpu().numpy()
        alpha, sigma = (
            torch.as_tensor(np.asarray(of(times))).to(t) for of in (self.schedule.alpha, self.schedule.sigma)
        )
        return alpha, sigma


def _wrapped(network: Network, schedule: Any) -> Any:
    """azula's Denoiser around a network, for states of any scale: the network gets them at its own time of the same sigma/alpha."""
    _, _, denoise = azula()
    own = network.schedule

    class Wrapped(denoise.Denoiser):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: torch.Tensor, t: torch.Tensor, **kwargs: Any) -> Any:
            alpha, sigma = (float(each) for each in schedule(t))
            if isinstance(schedule, _Own):
                return denoise.DiracPosterior(network.data(x_t, float(t)))
            time = float(own.time(np.clip(math.log(alpha / sigma), *limits)))
            return denoise.DiracPosterior(network.data(x_t * (float(own.sigma(time)) / sigma), time))

    limits = float(own.half_log_snr(own.t_max)), float(own.half_log_snr(own.t_min))
    return Wrapped()


@dataclass(frozen=True)
class Recipe:
    """A sampler of azula with its options on a grid."""

    name: str
    options: tuple[tuple[str, Any], ...]
    cost: int  # evaluations a step
    grid: str
    to_clean: bool = False

    def steps(self, nfe: int) -> int:
        """The most steps that cost at most `nfe` evaluations. PlanError where one costs more."""
        if nfe < self.cost:
            raise PlanError(f"a step of azula's {self.name} costs more than {nfe} evaluations")
        return nfe // self.cost

    def end(self, schedule: NoiseSchedule, setting: float) -> float:
        self.steps(int(setting))
        return 0.0 if self.to_clean else schedule.t_min

    def run(self, network: Network, x: torch.Tensor, setting: float, keys: Keys) -> torch.Tensor:
        sample, _, _ = azula()
        taken = way(network.schedule, self.grid, self.to_clean, self.name == "vAB")
        sampler = getattr(sample, f"{self.name}Sampler")(
            _wrapped(network, taken.schedule),
            start=taken.start,
            stop=taken.stop,
            steps=self.steps(int(setting)),
            silent=True,
            dtype=torch.float64,
            **dict(self.options),
        )
        _, sigma = taken.schedule(sampler.timesteps[0])
        with torch.random.fork_rng([x.device] if x.is_cuda else []):  # azula takes its noise from torch's own generator
            torch.manual_seed(seed_of(keys))
            found: torch.Tensor = sampler(x * float(sigma))
        alpha, _ = taken.schedule(sampler.timesteps[-1])
        return found * (float(network.schedule.alpha(self.end(network.schedule, setting))) / float(alpha))


def _samplers(
    name: str, cost: int, *, grids: Sequence[str] = tuple(GRIDS), clean: bool = False, **options: Any
) -> Iterator[Peer]:
    """A sampler on grids, or on the network's own to sigma = 0."""
    said = [
        f"azula {name}",
        *(f"{value:g}" if key == "order" else f"{key}={value:g}" for key, value in options.items()),
    ]
    solver = " ".join([*said, *(["stop=0"] if clean else [])])
    stochastic = name in ("DDIM", "DDPM", "Ito", "PC")
    for grid in [""] if clean else grids:
        recipe = Recipe(name, tuple(options.items()), cost, grid, clean)
        title = f"{solver} {grid}" if grid else solver
        yield Peer(title, drawing(recipe.run), stochastic=stochastic, solver=solver, grid=grid or None, ends=recipe.end)


def _all() -> Iterator[Peer]:
    yield from _samplers("Euler", 1)
    yield from _samplers("Heun", 2)
    for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
        for order in (2, 3):
            yield from _samplers(name, 1, order=order)
    # These have a limit at sigma = 0.
    yield from _samplers("Euler", 1, clean=True)
    for name in ("zAB", "vAB"):
        for order in (2, 3):
            yield from _samplers(name, 1, clean=True, order=order)
    yield from _samplers("DDIM", 1, eta=0.5)
    yield from _samplers("DDPM", 1)
    yield from _samplers("Ito", 1)
    yield from _samplers("PC", 2)


AZULA: Sequence[Peer] = tuple(_all()) if INSTALLED else ()
