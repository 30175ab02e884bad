"""Fill in the lower half of digits, by the gradient of a loss of the predicted picture (DPS, Chung et al. 2023, arXiv 2209.14687).

    python inverse_problem.py filled.png [--num 8] [--nfe 30]

The upper halves are those of digits that the embedded network draws; the network is not told which digits they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

import dpmsolver as dpm


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--nfe", type=int, default=30)
    given = parser.parse_args(arguments)
    model = dpm.models.load("digits")
    x_T = model.initial_noise(given.num, seed=0)
    truth = dpm.sample(model.denoiser([i % 10 for i in range(given.num)]), x_T, nfe=10)
    measured = truth[:, :, :14]

    def loss(x0: torch.Tensor) -> torch.Tensor:
        """How far the upper half of each predicted picture is from the measured one, (B,)."""
        return 0.5 * (x0[:, :, :14] - measured).square().flatten(1).sum(dim=1)

    def scale(t: float) -> float:
        """One over the variance of a prediction at this time: about that of the noise, and a little for what was measured."""
        return 1.0 / (float(model.schedule.sigma(t)) ** 2 + 0.05)

    # No class: the loss alone says what the picture is to be. Near t = 1 there is too little signal in x to differentiate.
    guidance = dpm.guidance.Loss(loss, scale, interval=(0.0, 0.8))
    steered, x_T = model.denoiser().replace(guidance=guidance), model.initial_noise(given.num, seed=1)
    filled = dpm.sample(steered, x_T, nfe=given.nfe, solver="dpm++2m", grid="time")

    error = float((filled[:, :, :14] - measured).square().mean().sqrt())
    seen = torch.cat([measured, torch.full_like(truth[:, :, 14:], -0.5)], dim=2)
    rows = torch.cat([torch.cat(list(row), dim=2) for row in (truth, seen, filled)], dim=1)[0]
    Image.fromarray(((rows.clamp(-1, 1) + 1) * 127.5).byte().numpy()).save(given.out)
    print(f"RMS of the upper halves to what was measured: {error:.3f}; {given.out}: truth, what was seen, filled in")
    return error


if __name__ == "__main__":
    main()
