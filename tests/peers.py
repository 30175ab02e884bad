"""What the comparisons with independent packages share: a schedule, a network, a start, and our own draws of noise for the peer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_labels

BETAS = np.linspace(1e-4, 0.02, 1000)
SCHEDULE = dpm.schedules.Discrete(betas=BETAS)
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
STEPS = 10
SEED = 5


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Smooth in x and in the step's number, and of the size of a noise."""
    level = (t.double() / 1000).reshape(-1, 1)
    return 0.8 * torch.tanh(x + level) + 0.3 * torch.cos(3 * level + x.flip(1))


def start(scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, in units of the largest value or of 1."""
    return float((result - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def normals(interval: int, x: torch.Tensor) -> torch.Tensor:
    """What a plan draws in row `interval - 1` of a run with generator=SEED and noise="host"."""
    keys = dpm.backends.noise_keys(SEED, len(x))
    return torch.from_numpy(dpm.backends.standard_normals(keys, interval, tuple(x.shape[1:])))


def drawn(intervals: Iterable[int], x: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A stand-in for a peer's source of noise, whatever its arguments: one of our draws after the other."""
    remaining = iter(intervals)
    return lambda *args, **kwargs: normals(next(remaining), x)


def whole_steps(plan: dpm.Plan, x: torch.Tensor) -> Callable[..., torch.Tensor]:
    """The noise of a plan with two evaluations a step as peers ask for it: over the way to the stage, then over the whole step.

    Ours draws the second half on its own; a whole step's normal combines both halves, with the weights that its row has.
    """
    noise = []
    for k in range(0, plan.nfe, 2):
        half, rest = normals(k + 1, x), normals(k + 2, x)
        advance = plan.rows[k + 1].advance
        assert advance is not None
        second, first = advance.noise
        noise += [half, (first * half + second * rest) / math.hypot(first, second)]
    remaining = iter(noise)
    return lambda *args: next(remaining)


def run(plan: dpm.Plan, x: torch.Tensor) -> torch.Tensor:
    """Our run of a plan on the shared schedule."""
    return dpm.sample(dpm.Denoiser(network, SCHEDULE), x, plan=plan, generator=SEED, noise="host")


def times_of(labels: torch.Tensor, end: float) -> np.ndarray:
    """The peer's steps, and where the run ends."""
    return np.append(from_labels(SCHEDULE, labels.numpy()), end)


def ours(name: str, labels: torch.Tensor, end: float, x: torch.Tensor, nfe: int | None = None, **options: Any) -> Any:
    """Our samples on the peer's steps."""
    return run(dpm.make_plan(name, SCHEDULE, nfe or len(labels), times_of(labels, end), **options), x)


def peer(scheduler: Any, x: torch.Tensor, **options: Any) -> torch.Tensor:
    """The samples of a scheduler whose state has variance 1."""
    scheduler.set_timesteps(STEPS)
    return follow(scheduler, scheduler.timesteps, x, **options)


def follow(scheduler: Any, labels: Sequence[torch.Tensor] | torch.Tensor, x: torch.Tensor, **options: Any) -> Any:
    """These steps of a scheduler that is ready."""
    for t in labels:
        x = scheduler.step(network(x, t.expand(len(x))), t, x, **options).prev_sample
    return x


def doubled(scheduler: Any, end: float) -> torch.Tensor:
    """Make a scheduler ready and its noise levels exact, so that its coefficients are float64. Returns its steps."""
    scheduler.set_timesteps(STEPS)
    lams = SCHEDULE.half_log_snr(times_of(scheduler.timesteps, end))
    scheduler.sigmas = torch.from_numpy(np.exp(-lams))
    labels: torch.Tensor = scheduler.timesteps
    return labels
