"""The laws `cifar10-gaussian` and `cifar10-mixture`: statistics of CIFAR-10's pictures, whose optimal networks are known exactly.

    python training/cifar10_laws.py --data cifar10_jpeg.npz --out src/dpmsolver/models/weights/cifar10-laws.npz

`--data` as in `training/cifar10_data.py`: pictures as JPEG, or a folder where torchvision has downloaded CIFAR-10. Two minutes on one core.

The file holds, in the coordinates of `dpmsolver.models.cifar10_laws.ColourCosine` (colour axes and cosines; pixels in [-1, 1]):

- `colour` (3, 3): the principal axes of colour.
- `gaussian_mean`, `gaussian_variance` (3072,): the mean along the principal axes of the covariance and its eigenvalues, each axis in the
  place of a coordinate, with the sign of its part along it. The places are those with the largest sum of eigenvalues times overlaps.
- `mixture_mean`, `mixture_deviation` (100, 3072) in half precision, `mixture_weight`, `mixture_class` (100,): ten Gaussians for each class,
  by EM from a start by k-means. Classes weigh alike.
- `class_mean`, `class_variance` (10, 3072) in half precision: of the training pictures, which the tests compare the mixture with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from cifar10_data import Pictures, load_pictures
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dpmsolver.files import written_aside
from dpmsolver.models.cifar10_laws import CLASSES, ColourCosine

COMPONENTS = 10  # of each class
ROUNDS = 15  # of k-means, and of EM
BANDS = 48  # of coordinates, for the start
PRIOR = 30.0  # pictures' worth of the class's own variance in each component's
SMALLEST = 1e-5  # variance


def coordinates(pictures: Pictures, colour: NDArray[np.float64]) -> Tensor:
    """The pictures in colour axes and cosines: float32 (n, 3072)."""
    basis = ColourCosine(colour)
    parts = pictures.images.split(1000)
    return torch.from_numpy(np.concatenate([basis.forward(_floats(part)).astype(np.float32) for part in parts]))


def _floats(images: Tensor) -> NDArray[np.float64]:
    return images.double().div_(127.5).sub_(1.0).numpy()


def colour_axes(pictures: Pictures) -> NDArray[np.float64]:
    """Principal axes of the pixels' colours, as columns, of falling variance."""
    _, axes = np.linalg.eigh(np.cov(_floats(pictures.images).transpose(1, 0, 2, 3).reshape(3, -1)))
    axes = axes[:, ::-1]
    return np.ascontiguousarray(axes * np.sign(axes.sum(axis=0)))


def gaussian(y: Tensor) -> dict[str, NDArray[np.float64]]:
    """Mean and variances along the principal axes, each in the place of a coordinate."""
    mean = y.double().mean(0)
    covariance = sum((part.double() - mean).T @ (part.double() - mean) for part in y.split(5000)) / (len(y) - 1)
    variances, axes = np.linalg.eigh(np.asarray(covariance))
    places, columns = linear_sum_assignment(-np.square(axes) * variances)  # places: 0, 1, 2, …
    along = (mean.numpy() @ axes[:, columns]) * np.sign(axes[places, columns])
    overlap = np.square(axes[places, columns]) @ variances[columns] / variances.sum()
    far = np.linalg.norm(along - mean.numpy())
    print(
        f"overlap of principal axes and coordinates, by variance: {overlap:.0%}; mean: {mean.norm():.2f} long, {far:.2f} moved"
    )
    return {"gaussian_mean": along, "gaussian_variance": variances[columns]}


def components(y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Means, variances (K, D) and weights (K,) of diagonal Gaussians, by EM from a start by k-means."""
    overall = y.var(0)
    share = torch.nn.functional.one_hot(_clusters(y, generator), COMPONENTS).float()
    for _ in range(ROUNDS):
        size = share.sum(0)
        mean = share.T @ y / size[:, None]
        spread = (share.T @ y**2 - mean**2 * size[:, None]).clamp_min(0.0)
        variance = ((spread + PRIOR * overall) / (size[:, None] + PRIOR)).clamp_min(SMALLEST)
        logs = (size / len(y)).log() - 0.5 * _squares(y, mean, variance)
        share = logs.softmax(1)
    assert size.min() > PRIOR, "a component died out"
    return mean, variance, size / len(y)


def _clusters(y: Tensor, generator: torch.Generator) -> Tensor:
    """Clusters of the logarithms of the pictures' power: which of the centres of k-means is the nearest to each.

    Components tell smooth pictures from rough ones before anything else, and their start should.
    """
    power = torch.stack([band.square().mean(1).log() for band in y.split(y.shape[1] // BANDS, dim=1)], dim=1)
    power = (power - power.mean(0)) / power.std(0)
    centres = power[torch.randperm(len(power), generator=generator)[:COMPONENTS]].clone()
    for _ in range(ROUNDS):
        nearest = torch.cdist(power, centres).argmin(1)
        centres = torch.stack([power[nearest == k].mean(0) for k in range(COMPONENTS)])
    return torch.cdist(power, centres).argmin(1)


def _squares(y: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """|y - mean|^2 / variance + log variance, summed over coordinates: (n, K), by matrix products."""
    constant = (mean**2 / variance).sum(1) + variance.log().sum(1)
    return y**2 @ (1.0 / variance).T - 2.0 * y @ (mean / variance).T + constant


def mixture(y: Tensor, labels: Tensor) -> dict[str, NDArray[np.generic]]:
    """Components of every class, and the classes' own moments."""
    generator = torch.Generator().manual_seed(0)
    parts = [components(y[labels == c], generator) for c in range(CLASSES)]
    mean, variance, weight = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    classes = [y[labels == c] for c in range(CLASSES)]
    return {
        "mixture_mean": mean.astype(np.float16),
        "mixture_deviation": np.sqrt(variance).astype(np.float16),
        "mixture_weight": weight.astype(np.float64) / CLASSES,
        "mixture_class": np.repeat(np.arange(CLASSES), COMPONENTS).astype(np.uint8),
        "class_mean": np.stack([c.mean(0).numpy() for c in classes]).astype(np.float16),
        "class_variance": np.stack([c.var(0).numpy() for c in classes]).astype(np.float16),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="cifar10_jpeg.npz, or the folder of torchvision's copy"
    )
    parser.add_argument("--out", type=Path, required=True, help="the npz file to write")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="of the pictures, these many")
    args = parser.parse_args()
    try:
        pictures = load_pictures(args.data, "train", args.limit)
    except (ValueError, ImportError) as error:
        parser.exit(2, f"error: {error}\n")

    colour = colour_axes(pictures)
    y = coordinates(pictures, colour)
    laws = {"colour": colour, **gaussian(y), **mixture(y, pictures.labels)}
    with written_aside(args.out) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **laws)
    print(f"{args.out}: {len(y)} pictures ({pictures.source}), {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
