"""Train the embedded `digits` model: a small class-conditional U-Net that predicts noise, on MNIST.

    python training/digits.py --data mnist.npz --minutes 90 --run runs/digits

`mnist.npz` holds `train_images` (60000, 28, 28) uint8 and `train_labels` (60000,). The run writes `checkpoint.pt` every few
minutes; the same command started again resumes from it, and the learning rate falls to zero as the `--minutes` of training are
used up. `--init src/dpmsolver/models/weights/digits` goes on from an exported model where the checkpoint is gone. The exported
folder (`runs/digits/model`) is in diffusers' pipeline format: model_index.json, unet/, scheduler/.

The forward process is the usual one of DDPM (Ho et al. 2020): 1000 betas, linear from 1e-4 to 0.02. The loss is the error of the
predicted noise, weighted by min(SNR, 5)/SNR (Hang et al. 2023, arXiv 2303.09556, eq. 8), which makes a short training go further.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import Recipe, Run, Stop, alphas_cumprod, batches, export, noise_loss, save_checkpoint, train
from diffusers import UNet2DModel
from torch import Tensor

NULL_LABEL = 10  # the label of "no class", for classifier-free guidance


def build_unet() -> UNet2DModel:
    """About two million weights: narrow where pixels are many, wide where they are few."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
        attention_head_dim=32,
        num_class_embeds=NULL_LABEL + 1,
    )


def load_images(path: Path) -> tuple[Tensor, Tensor]:
    """Images as float32 (n, 1, 28, 28) in [-1, 1], labels as int64 (n,)."""
    with np.load(path) as data:
        images = torch.from_numpy(data["train_images"]).float().div_(127.5).sub_(1.0)[:, None]
        return images, torch.from_numpy(data["train_labels"].astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/digits"), help="folder of the run (checkpoint, exported model)"
    )
    parser.add_argument("--minutes", type=float, default=90.0, help="minutes of training in all, over every resumption")
    parser.add_argument("--init", type=Path, help="folder of an exported model to start from")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop-after", type=float, help="minutes after which this call ends; the next one goes on")
    args = parser.parse_args()

    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    images, labels = load_images(args.data)
    run = Run(build_unet, Recipe(args.minutes, args.learning_rate))
    if args.init is not None:
        run.start_from(args.init)
    run.resume(args.run, args.seed)
    signals, picks = alphas_cumprod(), batches(len(images), args.batch)

    def loss() -> Tensor:
        pick = next(picks)
        return noise_loss(run.net, signals, images[pick], labels[pick], NULL_LABEL)

    def save() -> None:
        save_checkpoint(run, args.run)
        export(run.ema, build_unet(), NULL_LABEL, args.run / "model")

    with Stop(args.stop_after) as stop:
        train(run, loss, save, stop)
    done = "done" if run.progress == 1.0 else "stopped, and the same command goes on"
    print(f"{done}: {run.step} steps, {run.step * args.batch} images, {run.elapsed / 60:.1f} min")


if __name__ == "__main__":
    main()
