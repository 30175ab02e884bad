"""The statistics that the Frechet distance of `digits` compares with: mean and covariance of the classifier's features over MNIST.

    python training/digits_features.py --data mnist.npz --out digits-features.safetensors

`mnist.npz` as in `training/digits_classifier.py`. The file holds, in float64, `mean` (64,) and `covariance` (64, 64) of the training set,
and `yardstick`, the Frechet distance of the test set to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from dpmsolver.evaluation.frechet import feature_statistics, frechet_distance
from dpmsolver.files import written_aside
from dpmsolver.models.digits_classifier import load_classifier


def load_features(path: Path, split: str) -> NDArray[np.float64]:
    """The classifier's features of a split, "train" or "test": float64 (n, 64)."""
    classifier = load_classifier()
    with np.load(path) as data:
        images = torch.from_numpy(data[f"{split}_images"]).float().div_(127.5).sub_(1.0)[:, None]
    return np.concatenate([classifier.features(part).double().numpy() for part in images.split(1000)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz")
    parser.add_argument("--out", type=Path, required=True, help="the safetensors file to write")
    args = parser.parse_args()

    train, test = load_features(args.data, "train"), load_features(args.data, "test")
    mean, covariance = feature_statistics(train)
    yardstick = frechet_distance(test, train)
    arrays = {"mean": mean, "covariance": covariance, "yardstick": np.array(yardstick)}
    metadata = {
        "data": "MNIST, training set",
        "features": "dpmsolver.models.digits_classifier, the layer before the last",
        "yardstick": "Frechet distance of MNIST's test set",
    }
    with written_aside(args.out) as aside:
        aside.write_bytes(save(arrays, metadata))
    print(f"{args.out}: {len(train)} pictures, test set to training set {yardstick:.4f}")


if __name__ == "__main__":
    main()
