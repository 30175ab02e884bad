"""Train a small network on two moons and sample it in ten evaluations.

    python own_network.py [--steps 10000]

It prints the sliced Wasserstein distance of the samples to the data, and that of other data to the data.
"""

from __future__ import annotations

import argparse
import math

import torch

import dpmsolver as dpm
from dpmsolver.evaluation.distances import sliced_wasserstein


class Network(torch.nn.Module):
    """Points (B, 2) and times (B,) in [0, 1] to velocities (B, 2)."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2 + 8, width), torch.nn.SiLU(),
            torch.nn.Linear(width, width), torch.nn.SiLU(),
            torch.nn.Linear(width, width), torch.nn.SiLU(),
            torch.nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        waves = t[:, None] * math.pi * 2.0 ** torch.arange(4)
        return self.layers(torch.cat([x, waves.sin(), waves.cos()], dim=1))


def two_moons(num: int) -> torch.Tensor:
    """Points of two interleaving half circles, (num, 2)."""
    angle, lower = math.pi * torch.rand(num), torch.rand(num) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos()) - 0.5
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin()) - 0.25
    return 0.7 * torch.stack([x, y], dim=1) + 0.05 * torch.randn(num, 2)


def train(network: Network, schedule: dpm.schedules.NoiseSchedule, steps: int) -> None:
    """Teach the network the velocity from data to noise."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x0 = two_moons(512)
        noise, t = torch.randn_like(x0), schedule.t_min + (1 - schedule.t_min) * torch.rand(len(x0))
        loss = (network(dpm.add_noise(schedule, x0, noise, t), t) - (noise - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10000)
    given = parser.parse_args(arguments)
    torch.manual_seed(0)
    schedule, network = dpm.schedules.Flow(), Network()
    train(network, schedule, given.steps)

    denoiser = dpm.Denoiser(network, schedule, predicts="velocity")
    x_T = dpm.initial_noise(schedule, (2000, 2), seed=0, like=torch.empty(0))
    samples = dpm.sample(denoiser, x_T, nfe=10)

    data, other = two_moons(2000), two_moons(2000)
    distance = sliced_wasserstein(samples, data)
    print(f"samples to data: {distance:.3f}, other data to data: {sliced_wasserstein(other, data):.3f}")
    return distance


if __name__ == "__main__":
    main()
