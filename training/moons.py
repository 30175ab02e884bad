"""Train a perceptron of two moons in the plane: a minute on one thread.

    python training/moons.py moons-flow --run runs/moons-flow

The names are moons-linear (linear betas, the network predicts the noise), moons-edm (EDM's preconditioning), moons-flow (straight
paths, velocity). The data come from `dpmsolver.models.trained.two_moons`. A run writes `checkpoint.pt` as the others here do, and the
same command resumes. What it exports (`model` in the run's folder) belongs into `training/networks/NAME`.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import processes
import torch
from common import Recipe, Run, Stop, batches, save_checkpoint, train
from safetensors.numpy import save_file
from torch import Tensor, nn

from dpmsolver.files import written_aside
from dpmsolver.models.trained import two_moons

# A process, and what labels are divided by, so that they are of the size of 1.
PROCESSES = {
    "moons-linear": (lambda: processes.betas("linear"), 1000.0),
    "moons-edm": (processes.edm, 1.0),
    "moons-flow": (processes.flow, 1000.0),
}
POINTS = 100_000


class Net(nn.Module):
    """The network that `dpmsolver.models.trained.Perceptron` runs in NumPy."""

    def __init__(self, label_unit: float, width: int) -> None:
        super().__init__()
        self.label_unit = label_unit
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(4))
        sizes = (2 + 1 + 2 * len(self.frequencies), width, width, width, 2)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        scaled = label[:, None] / self.label_unit
        waves = scaled * self.frequencies
        hidden = self.layers[0](torch.cat([x, scaled, waves.sin(), waves.cos()], dim=1))
        for layer in self.layers[1:]:
            hidden = layer(nn.functional.silu(hidden))
        return hidden


def export(net: Net, scheduler: object, folder: Path) -> None:
    """Write `scheduler_config.json` and the weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"label_unit": np.array([net.label_unit], dtype=np.float32)}
    for i, layer in enumerate(net.layers):
        arrays |= {f"weight{i}": layer.weight.half().numpy(), f"bias{i}": layer.bias.half().numpy()}
    with written_aside(folder / "weights.safetensors") as aside:
        save_file(arrays, aside)
    (folder / "weights.safetensors").chmod(0o644)
    scheduler.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PROCESSES)
    parser.add_argument("--run", type=Path, help="folder of the run (checkpoint, exported model); runs/NAME by default")
    parser.add_argument("--minutes", type=float, default=1.0, help="minutes of training in all, over every resumption")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stop-after", type=float, help="minutes after which this call ends; the next one resumes")
    args = parser.parse_args()

    folder = args.run or Path("runs") / args.name
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    make, label_unit = PROCESSES[args.name]
    process = make()
    points = torch.from_numpy(two_moons(POINTS, args.seed)).float()
    run = Run(lambda: Net(label_unit, args.width), Recipe(args.minutes, args.learning_rate))
    run.resume(folder, args.seed)
    picks = batches(POINTS, args.batch)

    def save() -> None:
        save_checkpoint(run, folder)
        export(run.ema, process.scheduler, folder / "model")

    with Stop(args.stop_after) as stop:
        train(run, lambda: processes.loss(run.net, process, points[next(picks)]), save, stop, save_every=20.0)
    done = "done" if run.progress == 1.0 else "stopped, and the same command resumes"
    print(f"{done}: {run.step} steps, {run.elapsed / 60:.1f} min")


if __name__ == "__main__":
    main()
