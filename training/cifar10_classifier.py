"""Train the classifier of CIFAR-10 whose features the Frechet distance compares, and write the statistics of the data under it.

    python training/cifar10_classifier.py --data cifar10_jpeg.npz --out runs/cifar10-classifier

`--data` as in `training/cifar10.py`. The folder gets `cifar10-classifier.safetensors` (half precision) and `cifar10-features.safetensors`
(float64: `mean` and `covariance` of the features over the training set, and `yardstick`, the Frechet distance of the test set to it).
`checkpoint.pt` is written after every epoch of a few seconds, on SIGTERM and after `--stop-after` minutes; the same command started again
goes on from it. The test set is only looked at once, after the last step, through the weights as they were written.

Recipe: SGD with Nesterov's momentum, one-cycle learning rate (Smith & Topin 2017, arXiv 1708.07120); random shifts, flips, and a square of
8 x 8 pixels cut out (DeVries & Taylor 2017, arXiv 1708.04552). Labels are not smoothed, because that makes the features forget what tells
two images of one class apart (Müller et al. 2019, arXiv 1906.02629), which the distance is to see.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10_data import SIZE, Pictures, flipped, load_pictures, to_float
from common import Stop, batches, compiled
from safetensors.numpy import save as serialised_arrays
from safetensors.torch import save as serialised
from torch import Tensor
from torch.nn import functional

from dpmsolver.evaluation.frechet import feature_statistics, frechet_distance
from dpmsolver.files import written_aside
from dpmsolver.models.cifar10_classifier import build_classifier, load_classifier
from dpmsolver.models.classifier import Classifier

SHIFT = 4  # pixels
HOLE = 8  # pixels, the side of the square that is cut out
WEIGHTS, STATISTICS = "cifar10-classifier.safetensors", "cifar10-features.safetensors"


def shifted(images: Tensor) -> Tensor:
    """Each image moved by up to SHIFT pixels at random; what comes in from outside is its mirror image."""
    device, count = images.device, len(images)
    padded = functional.pad(images, (SHIFT,) * 4, mode="reflect")
    pixels = torch.arange(SIZE, device=device)
    corners = torch.randint(2 * SHIFT + 1, (2, count, 1), device=device)
    rows, columns = (corners + pixels).unbind()
    sample = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(3, device=device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def with_hole(images: Tensor) -> Tensor:
    """Each image with a grey square somewhere, which may lie half outside."""
    pixels = torch.arange(SIZE, device=images.device)
    centres = torch.randint(SIZE, (2, len(images), 1), device=images.device)
    inside = (pixels >= centres - HOLE // 2) & (pixels < centres + HOLE // 2)
    rows, columns = inside.unbind()
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


class Training:
    """The state of a training: everything that a checkpoint holds."""

    def __init__(self, pictures: Pictures, epochs: int, batch: int, learning_rate: float) -> None:
        self.classifier = build_classifier()
        self.network = self.classifier.network.to(pictures.images.device, memory_format=torch.channels_last)
        self.pictures, self.step, self.per_epoch = pictures, 0, len(pictures.images) // batch
        self.steps = epochs * self.per_epoch
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, learning_rate, total_steps=self.steps, pct_start=0.2, cycle_momentum=False
        )
        self.picks: Iterator[Tensor] = batches(len(pictures.images), batch, pictures.images.device)

    def loss(self, network: Any) -> Tensor:
        pick = next(self.picks)
        images = with_hole(shifted(flipped(to_float(self.pictures.images[pick]))))
        # Processors without bfloat16 of their own emulate it, ten times slower.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            logits = network(images.contiguous(memory_format=torch.channels_last))
        return functional.cross_entropy(logits.float(), self.pictures.labels[pick])

    def save(self, path: Path) -> None:
        parts = {name: getattr(self, name).state_dict() for name in ("network", "optimizer", "schedule")}
        with written_aside(path) as aside:
            torch.save({**parts, "step": self.step, "steps": self.steps}, aside)

    def resume(self, path: Path, seed: int) -> None:
        """Go on from a checkpoint, if there is one. ValueError for one of a training of another length."""
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["steps"] != self.steps:
            raise ValueError(f"{path} is of a training of {state['steps']} steps, this one has {self.steps}: remove it")
        for name in ("network", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        torch.manual_seed(seed + self.step)
        print(f"resumed at step {self.step} of {self.steps}", flush=True)

    def run(self, network: Any, path: Path, stop: Stop) -> None:
        started = time.monotonic()
        while self.step < self.steps and not stop.asked:
            loss = self.loss(network)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            if self.step % self.per_epoch == 0:
                seconds = time.monotonic() - started
                print(f"step {self.step}/{self.steps}  {seconds:.0f} s  loss {loss.item():.4f}", flush=True)
                self.save(path)
        self.save(path)


def save_weights(classifier: Classifier, path: Path) -> None:
    """Half-precision safetensors, written aside and renamed."""
    state = classifier.network.state_dict()
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu() for name, value in state.items()
    }
    with written_aside(path) as aside:
        # safetensors' own save_file leaves the file readable by its owner only.
        aside.write_bytes(serialised(half))


def evaluate(classifier: Classifier, pictures: Pictures) -> tuple[np.ndarray, float]:
    """Features (n, 128) in float64, and the share of pictures whose class is recognised."""
    features, right = [], 0
    for images, labels in zip(pictures.images.split(1000), pictures.labels.split(1000), strict=True):
        some = classifier.features(to_float(images))
        right += int((classifier.head(some).argmax(dim=1) == labels).sum())
        features.append(some.double().cpu().numpy())
    return np.concatenate(features), right / len(pictures.labels)


def save_statistics(train: np.ndarray, test: np.ndarray, source: str, path: Path) -> float:
    """The file of `mean`, `covariance` and `yardstick`; returns the yardstick."""
    mean, covariance = feature_statistics(train)
    yardstick = float(frechet_distance(test, train))
    metadata = {
        "data": f"{source}, training set",
        "features": "dpmsolver.models.cifar10_classifier, the layer before the last",
        "yardstick": "Frechet distance of the test set",
    }
    arrays = {"mean": mean, "covariance": covariance, "yardstick": np.array(yardstick)}
    with written_aside(path) as aside:
        aside.write_bytes(serialised_arrays(arrays, metadata))
    return yardstick


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--data", type=Path, required=True, help="cifar10_jpeg.npz, or a folder with cifar-10-batches-py")
    option("--out", type=Path, default=Path("runs/cifar10-classifier"), help="folder of the files to write")
    option("--epochs", type=int, default=60)
    option("--batch", type=int, default=512)
    option("--learning-rate", type=float, default=0.3)
    option("--stop-after", type=float, help="minutes after which this call ends; the same command goes on")
    option("--limit", type=int, help="use N pictures of either split (dry runs)")
    option("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    option("--compile", action=argparse.BooleanOptionalAction, help="torch.compile; by default on cuda")
    option("--seed", type=int, default=0)
    args = parser.parse_args()
    if min(args.epochs, args.batch, 1 if args.limit is None else args.limit) < 1:
        parser.error("--epochs, --batch and --limit must be at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    try:
        args.train, args.test = (
            load_pictures(args.data, split, args.limit).to(args.device) for split in ("train", "test")
        )
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    args.batch = min(args.batch, len(args.train.images))
    return args


def main() -> None:
    args = parse()
    stop = Stop(args.stop_after)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    training = Training(args.train, args.epochs, args.batch, args.learning_rate)
    training.resume(args.out / "checkpoint.pt", args.seed)
    with stop:
        wanted = args.device == "cuda" if args.compile is None else args.compile
        network = compiled(training.network, training.loss, wanted)
        training.run(network, args.out / "checkpoint.pt", stop)
    if training.step < training.steps:
        print(f"stopped, and the same command goes on: {training.step} of {training.steps} steps")
        return
    save_weights(training.classifier, args.out / WEIGHTS)
    classifier = load_classifier(args.out / WEIGHTS)
    classifier.network.to(args.device)
    (train, _), (test, accuracy) = evaluate(classifier, args.train), evaluate(classifier, args.test)
    yardstick = save_statistics(train, test, args.train.source, args.out / STATISTICS)
    print(f"done: test accuracy {accuracy:.2%}, Frechet distance of the test set {yardstick:.4f}")


if __name__ == "__main__":
    main()
