"""The two figures of the embedded `digits` model: are samples of the class that was asked for, and how far are they from MNIST.

    python benchmarks/digits.py --data mnist.npz [--model FOLDER] [--num 5000] [--nfe 200] [--solver ddim] [--json FILE]

Draws `num` samples, classes in turn, guidance 1, and reports the share that the embedded classifier recognises as the class asked for,
and the Frechet distance in the classifier's features to the training set, beside that between the test and the training set (the
yardstick) and that of `num` training images (the bias of the sample size).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import dpmsolver as dpm
from dpmsolver.evaluation.frechet import frechet_distance
from dpmsolver.models.classifier import Classifier
from dpmsolver.models.digits_classifier import load_classifier
from dpmsolver.models.pretrained import load


def features(classifier: Classifier, images: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        return torch.cat([classifier.features(part) for part in images.split(1000)]).double().numpy()


def draw(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples in batches; sample i depends on the seed and on i alone. Seeds of a batch follow those of the one before."""
    model = load(args.model)
    labels = torch.arange(args.num) % 10
    batches = []
    for start in range(0, args.num, args.batch):
        chosen = labels[start : start + args.batch]
        seeds = [args.seed + start + i for i in range(len(chosen))]
        x_T, denoiser = model.initial_noise(len(chosen), seed=seeds), model.denoiser(chosen.tolist())
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            batches.append(dpm.sample(denoiser, x_T, nfe=args.nfe, solver=args.solver, generator=seeds))
        print(f"{start + len(chosen)} of {args.num}", flush=True)
    return torch.cat(batches).clamp(-1, 1), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="mnist.npz: train_images, test_images uint8 (n, 28, 28)"
    )
    parser.add_argument("--model", default="digits")
    parser.add_argument("--num", type=int, default=5000)
    parser.add_argument("--nfe", type=int, default=200)
    parser.add_argument("--solver", default="ddim")
    parser.add_argument("--batch", type=int, default=125)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bfloat16", action="store_true", help="run the network in bfloat16, faster on some processors"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    classifier = load_classifier()
    with np.load(args.data) as data:
        train, test = (
            features(classifier, torch.from_numpy(data[f"{part}_images"]).float().div(127.5).sub(1)[:, None])
            for part in ("train", "test")
        )
    begin = time.perf_counter()
    samples, labels = draw(args)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        right = (torch.cat([classifier.logits(part) for part in samples.split(1000)]).argmax(1) == labels).double()
    subset = np.random.default_rng(0).permutation(len(train))[: args.num]
    results = {
        "model": args.model,
        "solver": args.solver,
        "nfe": args.nfe,
        "num": args.num,
        "bfloat16": args.bfloat16,
        "seconds": round(seconds, 1),
        "accuracy": float(right.mean()),
        "frechet": frechet_distance(features(classifier, samples), train),
        "frechet_test": frechet_distance(test, train),
        "frechet_train_subset": frechet_distance(train[subset], np.delete(train, subset, axis=0)),
    }
    results["ratio"] = results["frechet"] / results["frechet_test"]
    print(json.dumps(results, indent=2))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
