"""Models and helpers of the tests of `generate`; worker processes import this file by its path."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.networks.denoiser import Denoiser

HERE = str(Path(__file__))


def _sleeping(seconds: float, network: Any, x: Any, t: Any, **kwargs: Any) -> Any:
    time.sleep(seconds)
    return network(x, t, **kwargs)


def _slow(seconds: float, name: str = "mixture-2") -> Testbed:
    plain = load_testbed(name)

    def denoiser(labels: Any) -> Denoiser:
        own = plain.network_denoiser(labels)
        return own.replace(network=partial(_sleeping, seconds, own.network))

    return Testbed("slow", plain.schedule, plain.shape, np.empty(0), denoiser)


def slow() -> Testbed:
    """A law in the plane whose network takes two milliseconds."""
    return _slow(0.002)


def sleeper() -> Testbed:
    """A network that takes twenty."""
    return _slow(0.02)


def deadly() -> Testbed:
    """A network that ends its process, if that is a worker, over the last three samples of a shard of ten."""
    plain = load_testbed("mixture-2")

    def network(x: Any, t: Any) -> Any:
        import os
        import sys

        if "worker" in " ".join(sys.argv[:1]) and len(x) == 3:
            os._exit(3)
        return 0.0 * x

    return Testbed("deadly", plain.schedule, plain.shape, np.empty(0), lambda labels: Denoiser(network, plain.schedule))


def deadly_to_load() -> Testbed:
    """A model that ends its process, if that is a worker, while it is loaded."""
    import os
    import sys

    if "worker" in " ".join(sys.argv[:1]):
        os._exit(3)
    return load_testbed("mixture-2")


def tiny_pictures() -> Testbed:
    """A torch network of pictures 3 x 8 x 8 with four classes."""
    import torch

    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False)
    schedule = load_testbed("mixture-2").schedule

    def network(x: Any, t: Any, class_labels: Any) -> Any:
        return layer(x) + 0.1 * class_labels.reshape(-1, 1, 1, 1)

    def denoiser(labels: Any) -> Denoiser:
        return Denoiser(network, schedule, network_kwargs={"class_labels": torch.tensor(labels)})

    return Testbed("tiny", schedule, (3, 8, 8), torch.empty(0), denoiser, num_classes=4, pictures=True)


def sums(folder: Path, part: str = "samples") -> dict[str, str]:
    """The sha256 of each file, by name."""
    files = sorted(path for path in (folder / part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(folder: Path) -> list[str]:
    """What does not belong into the folder of a finished run."""
    known = {"manifest.json", "status.json", "first-shard.png"}
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if (path.parent == folder and path.is_file() and path.name not in known)
        or path.name.startswith(".")
        or path.name == "records"
    ]


def broken() -> Testbed:
    """A network whose answers are NaN once it draws a whole batch for the third time."""
    plain = load_testbed("mixture-2")
    calls = [0]

    def network(x: Any, t: Any) -> Any:
        calls[0] += len(x) == 25
        return np.full_like(x, np.nan if calls[0] > 8 else 0.0)

    return Testbed("broken", plain.schedule, plain.shape, np.empty(0), lambda labels: Denoiser(network, plain.schedule))
