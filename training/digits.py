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
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

NULL_LABEL = 10  # the label of "no class", for classifier-free guidance
DROP_LABEL = 0.1
EMA_DECAY = 0.999


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


class Run:
    """The state of a training run: everything that a checkpoint holds."""

    def __init__(self, minutes: float, learning_rate: float) -> None:
        self.net = build_unet()
        self.ema = build_unet().requires_grad_(False)
        self.ema.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.learning_rate, self.seconds, self.step, self.elapsed = learning_rate, minutes * 60.0, 0, 0.0

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def update(self, loss: Tensor) -> None:
        """One step of Adam with warm-up and a cosine to zero, then the moving average."""
        rate = self.learning_rate * min(1.0, (self.step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)

    @property
    def progress(self) -> float:
        return min(1.0, self.elapsed / self.seconds)


def noise_loss(net: UNet2DModel, alphas_cumprod: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """min-SNR-5 weighted mean square error of the noise; the times of a batch are stratified over the 1000 steps."""
    batch = len(images)
    steps = ((torch.rand(()) + torch.arange(batch)[torch.randperm(batch)]) / batch * 1000).long().clamp_(max=999)
    labels = torch.where(torch.rand(batch) < DROP_LABEL, NULL_LABEL, labels)
    signal = alphas_cumprod[steps]
    noise = torch.randn_like(images)
    noisy = signal.sqrt()[:, None, None, None] * images + (1 - signal).sqrt()[:, None, None, None] * noise
    with torch.autocast("cpu", torch.bfloat16):
        predicted = net(noisy, steps, labels).sample
    snr = signal / (1 - signal)
    weights = snr.clamp(max=5.0) / snr
    return (weights * (predicted.float() - noise).square().mean(dim=(1, 2, 3))).mean()


def export(net: UNet2DModel, folder: Path) -> None:
    """Write a folder in diffusers' pipeline format, half-precision safetensors."""
    half = build_unet()
    half.load_state_dict(net.state_dict())
    # A name with an underscore: diffusers keeps it in the config and does not warn that it does not know it.
    half.register_to_config(_null_label=NULL_LABEL)
    half.half().save_pretrained(folder / "unet")
    # safetensors leaves the file readable by its owner only.
    (folder / "unet" / "diffusion_pytorch_model.safetensors").chmod(0o644)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.42.1",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def save(run: Run, folder: Path) -> None:
    torch.save(run.state(), folder / "checkpoint.tmp")
    os.replace(folder / "checkpoint.tmp", folder / "checkpoint.pt")
    export(run.ema, folder / "model")


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
    args = parser.parse_args()

    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    images, labels = load_images(args.data)
    run = Run(args.minutes, args.learning_rate)
    if args.init is not None:
        weights = UNet2DModel.from_pretrained(args.init / "unet", low_cpu_mem_usage=False).state_dict()
        run.net.load_state_dict(weights)
        run.ema.load_state_dict(weights)
    if (args.run / "checkpoint.pt").exists():
        run.load(torch.load(args.run / "checkpoint.pt", weights_only=True))
        torch.manual_seed(args.seed + run.step)
        print(f"resumed at step {run.step}, {run.elapsed / 60:.1f} min", flush=True)
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()

    running, saved, started = 0.0, run.elapsed, time.monotonic() - run.elapsed
    order = torch.randperm(len(images))
    while run.progress < 1.0:
        if len(order) < args.batch:
            order = torch.randperm(len(images))
        pick, order = order[: args.batch], order[args.batch :]
        loss = noise_loss(run.net, alphas_cumprod, images[pick], labels[pick])
        run.update(loss)
        run.elapsed = time.monotonic() - started
        running = loss.item() if running == 0.0 else 0.99 * running + 0.01 * loss.item()
        if run.step % 200 == 0:
            print(f"step {run.step}  {run.elapsed / 60:.1f} min  loss {running:.5f}", flush=True)
        if run.elapsed - saved > 180:
            save(run, args.run)
            saved = run.elapsed
    save(run, args.run)
    print(f"done: {run.step} steps, {run.step * args.batch} images, loss {running:.5f}")


if __name__ == "__main__":
    main()
