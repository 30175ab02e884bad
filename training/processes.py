"""The forward processes that small networks are trained for, each as the rule that turns a batch into one regression.

A process draws, for every picture or point x_0 of a batch, how much noise it gets and what the network shall say:

    x = alpha x_0 + sigma noise,    network(scale x, label)  ~  data x_0 + eps noise,

with a weight for the square of what is missed. `scheduler` is the config of diffusers that says the same to whoever samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

MIN_SNR = 5.0  # of the weights of networks that predict noise or v (Hang et al. 2023, arXiv 2303.09556)
SIGMA_DATA, LOG_SIGMA_MEAN, LOG_SIGMA_STD = 0.5, -1.2, 1.2  # Karras et al. 2022, arXiv 2206.00364, table 1


@dataclass(frozen=True)
class Draw:
    """What is drawn for a batch: everything is float (B,). The fields are those of the formula above."""

    alpha: Tensor
    sigma: Tensor
    label: Tensor
    scale: Tensor
    data: Tensor
    eps: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Process:
    """A forward process: `draw` turns numbers in (0, 1), one per sample, into levels and targets; `scheduler` says it to diffusers."""

    draw: Callable[[Tensor], Draw]
    scheduler: Any


def flow() -> Process:
    """Straight paths from data to noise, uniform in time; the network predicts the velocity noise - data (Liu et al. 2022, 2209.03003)."""

    def draw(u: Tensor) -> Draw:
        one = torch.ones_like(u)
        return Draw(1 - u, u, 1000 * u, one, -one, one, one)

    return Process(draw, FlowMatchEulerDiscreteScheduler())


def betas(schedule: str, prediction_type: str = "epsilon") -> Process:
    """1000 betas by their name in diffusers; the network predicts the noise or v (Salimans & Ho 2022), weighted by min(SNR, 5)."""
    scheduler = DDPMScheduler(beta_schedule=schedule, prediction_type=prediction_type)
    signals = scheduler.alphas_cumprod

    def draw(u: Tensor) -> Draw:
        step = (u * len(signals)).long().clamp_(max=len(signals) - 1)
        signal = signals[step]
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        snr = signal / (1 - signal)
        zero, one = torch.zeros_like(u), torch.ones_like(u)
        if prediction_type == "v_prediction":
            return Draw(alpha, sigma, step.float(), one, -sigma, alpha, snr.clamp(max=MIN_SNR) / (snr + 1))
        return Draw(alpha, sigma, step.float(), one, zero, one, snr.clamp(max=MIN_SNR) / snr)

    return Process(draw, scheduler)


def edm() -> Process:
    """EDM's preconditioned network, log-normal noise levels (Karras et al. 2022, arXiv 2206.00364, table 1)."""

    def draw(u: Tensor) -> Draw:
        normal = math.sqrt(2.0) * torch.erfinv((2 * u - 1).clamp(-0.999999, 0.999999))
        sigma, one = torch.exp(LOG_SIGMA_MEAN + LOG_SIGMA_STD * normal), torch.ones_like(u)
        total = (sigma.square() + SIGMA_DATA**2).sqrt()
        # (x_0 - c_skip x) / c_out, with c_skip = sigma_data^2 / total^2 and c_out = sigma sigma_data / total.
        return Draw(one, sigma, sigma.log() / 4, 1 / total, sigma / (SIGMA_DATA * total), -SIGMA_DATA / total, one)

    return Process(draw, EDMEulerScheduler(sigma_data=SIGMA_DATA))


def stratified(count: int) -> Tensor:
    """Numbers in (0, 1), one in each of `count` equal parts, in random order: float32 (count,)."""
    return ((torch.rand(()) + torch.randperm(count)) / count).clamp_(1e-6, 1 - 1e-6)


def loss(predict: Callable[[Tensor, Tensor], Tensor], process: Process, x_0: Tensor) -> Tensor:
    """The weighted mean square error of predict(scale x, label) on a batch."""
    draw = process.draw(stratified(len(x_0)))

    def wide(value: Tensor) -> Tensor:
        return value.reshape(-1, *[1] * (x_0.ndim - 1))

    noise = torch.randn_like(x_0)
    x = wide(draw.alpha) * x_0 + wide(draw.sigma) * noise
    target = wide(draw.data) * x_0 + wide(draw.eps) * noise
    missed = predict(wide(draw.scale) * x, draw.label).float() - target
    return (draw.weight * missed.square().flatten(1).mean(dim=1)).mean()
