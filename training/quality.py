"""How good the small networks are, by samples of "auto" (20 evaluations by default).

    python training/quality.py digits-flow digits-cosine moons-flow

Of digits: the Frechet distance of 500 samples to MNIST under the classifier of digits, and how many are the digit that was wanted. Of
the moons: the sliced Wasserstein distance of 2000 samples to exact draws, and that of two sets of exact draws to each other.
"""

from __future__ import annotations

import argparse

import numpy as np

import dpmsolver as dpm
from dpmsolver.evaluation.distances import sliced_wasserstein
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.models.testbeds import Testbed, load_testbed


def samples(testbed: Testbed, num: int, nfe: int) -> np.ndarray:
    """Samples in batches of 100, on the host."""
    parts = [range(i, min(i + 100, num)) for i in range(0, num, 100)]
    drawn = [dpm.sample(testbed.denoiser(testbed.labels(p)), testbed.initial_noise(p), nfe=nfe) for p in parts]
    return np.concatenate([np.asarray(part) for part in drawn])


def quality(name: str, num: int | None, nfe: int) -> str:
    """One line on one network."""
    testbed = load_testbed(name)
    count = num or (500 if testbed.features is not None else 2000)
    drawn = samples(testbed, count, nfe)
    if testbed.features is None or testbed.feature_statistics is None or testbed.classify is None:
        assert testbed.data is not None
        exact = testbed.data(count, 1)
        reached, limit = sliced_wasserstein(drawn, exact), sliced_wasserstein(testbed.data(count, 2), exact)
        return f"{name}: sliced Wasserstein {reached:.3f}, of exact draws {limit:.3f}"
    import torch

    pictures = torch.from_numpy(drawn)
    distance = frechet_distance_to(testbed.features(pictures), *testbed.feature_statistics)
    wanted = np.array(testbed.labels(range(count)))
    accuracy = (testbed.classify(pictures) == wanted).mean()
    return f"{name}: Frechet distance {distance:.2f}, accuracy {100 * accuracy:.1f} %, of {count} samples, {nfe} evaluations"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--num", type=int, help="samples; 500 of digits and 2000 of moons by default")
    parser.add_argument("--nfe", type=int, default=20)
    args = parser.parse_args()
    for name in args.names:
        print(quality(name, args.num, args.nfe), flush=True)


if __name__ == "__main__":
    main()
