"""Train the embedded classifier of digits, whose features the Frechet distance compares.

    python training/digits_classifier.py --data mnist.npz --out digits-classifier.safetensors

`mnist.npz` holds `train_images` (60000, 28, 28) uint8, `train_labels` (60000,), and the same of the test set. The test
set is only looked at once, after the last step, through the weights as they were written.

Recipe: AdamW, one-cycle learning rate (Smith & Topin 2017, arXiv 1708.07120), and a random affine map of every image
(rotation, shear, scale, shift). Labels are not smoothed, because that makes the features forget what tells two images
of one class apart (Müller et al. 2019, arXiv 1906.02629), which the distance is to see. Weights are stored in half
precision.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as serialised
from torch import Tensor
from torch.nn import functional

from dpmsolver.models.classifier import Classifier
from dpmsolver.models.digits_classifier import build_classifier, load_classifier

ROTATION = math.radians(10.0)
SHEAR = 0.1
SCALE = 0.1
SHIFT = 2.0 / 14.0  # two pixels, where half the image is 1
BATCH = 256


def load_images(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images as float32 (n, 1, 28, 28) in [-1, 1], labels as int64 (n,); split is "train" or "test"."""
    with np.load(path) as data:
        images = torch.from_numpy(data[f"{split}_images"]).float().div_(127.5).sub_(1.0)[:, None]
        return images, torch.from_numpy(data[f"{split}_labels"].astype(np.int64))


def random_affine(images: Tensor) -> Tensor:
    """Each image rotated, sheared, scaled and shifted at random; what comes in from outside is ground (-1)."""

    def uniform(limit: float) -> Tensor:
        return (2.0 * torch.rand(len(images)) - 1.0) * limit

    angle, shear = uniform(ROTATION), uniform(SHEAR)
    wide, high = 1.0 + uniform(SCALE), 1.0 + uniform(SCALE)
    across = torch.stack([wide * angle.cos(), shear - high * angle.sin(), uniform(SHIFT)], dim=1)
    down = torch.stack([wide * angle.sin(), high * angle.cos(), uniform(SHIFT)], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    # grid_sample pads with 0, and the ground is -1
    return functional.grid_sample(images + 1.0, grid, align_corners=False) - 1.0


def train(images: Tensor, labels: Tensor, epochs: int, learning_rate: float) -> Classifier:
    classifier = build_classifier()
    network = classifier.network
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.2)
    started, order = time.monotonic(), torch.randperm(len(images))
    for step in range(1, steps + 1):
        if len(order) < BATCH:
            order = torch.randperm(len(images))
        pick, order = order[:BATCH], order[BATCH:]
        batch = random_affine(images[pick])
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch)
        loss = functional.cross_entropy(logits.float(), labels[pick])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            print(f"step {step}/{steps}  {time.monotonic() - started:.0f} s  loss {loss.item():.4f}", flush=True)
    return classifier


def save(classifier: Classifier, path: Path) -> None:
    """Half-precision safetensors, written aside and renamed."""
    state = classifier.network.state_dict()
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    # safetensors' own save_file leaves the file readable by its owner only.
    aside.write_bytes(serialised(half))
    os.replace(aside, path)


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    correct = 0
    for some, truth in zip(images.split(1000), labels.split(1000), strict=True):
        correct += int((classifier.logits(some).argmax(dim=1) == truth).sum())
    return correct / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=1, help="the batches are too small to gain from more")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    save(train(*load_images(args.data, "train"), args.epochs, args.learning_rate), args.out)
    print(f"test accuracy {accuracy(load_classifier(args.out), *load_images(args.data, 'test')):.2%}")


if __name__ == "__main__":
    main()
