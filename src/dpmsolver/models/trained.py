"""Small trained networks under every kind of schedule. They serve to judge samplers, and belong to the repository, not to the package.

`training/networks` has a folder for each: a U-Net of digits in diffusers' format, or a perceptron of two moons that NumPy runs. Importing
this module imports neither torch nor diffusers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.adapters.diffusers import predicts_from_config, schedule_from_config
from dpmsolver.brief import brief_repr, one_line
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.preconditioning import edm_preconditioned
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["DIGITS", "MOONS", "PICTURES", "TRAINED", "Perceptron", "folder", "load_moons", "two_moons"]

DIGITS = ("digits-flow", "digits-cosine", "digits-cosine-v", "digits-edm")
MOONS = ("moons-linear", "moons-edm", "moons-flow")
PICTURES = (*DIGITS, "cifar10-small")
TRAINED = (*PICTURES, *MOONS)
NETWORKS = Path(__file__).resolve().parents[3] / "training" / "networks"
_SPREAD = 0.05  # of the moons, and of their points around them
_FREQUENCIES = np.pi * 2.0 ** np.arange(4)


def folder(name: str) -> Path:
    """Return the folder of a trained network.

    Raises:
        ValueError: the network does not exist here, as in an installed package.
    """
    place = NETWORKS / name
    if not place.is_dir():
        raise ValueError(
            f"{name} is not in {NETWORKS}: it belongs to the repository, not to the installed package; "
            "clone the repository and install that (pip install -e .), or train it as training/README.md says"
        )
    return place


def two_moons(num: int, seed: int = 0) -> Floats:
    """Draw points of two interleaving half circles, with a standard deviation of about 0.5: float64 (num, 2).

    Examples:
        >>> two_moons(400).std(axis=0).round(1)
        array([0.6, 0.3])
    """
    rng = np.random.default_rng(seed)
    angle, lower = np.pi * rng.random(num), rng.random(num) < 0.5
    x = np.where(lower, 1.0 - np.cos(angle), np.cos(angle)) - 0.5
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle)) - 0.25
    points: Floats = 0.7 * np.stack([x, y], axis=1) + _SPREAD * rng.standard_normal((num, 2))
    return points


@dataclass(frozen=True, eq=False)
class Perceptron:
    """A perceptron of a point in the plane and of its label, in NumPy's float64: network(x, label) -> (B, 2).

    Args:
        layers: pairs of a weight (outputs, inputs) and a bias (outputs,), with SiLU between them.
        label_unit: labels are divided by it before their sines and cosines are taken.
    """

    layers: tuple[tuple[Floats, Floats], ...]
    label_unit: float

    __repr__ = brief_repr

    def __call__(self, x: NDArray[Any], label: Any) -> Floats:
        scaled = np.broadcast_to(np.reshape(label, (-1, 1)) / self.label_unit, (len(x), 1))
        waves = scaled * _FREQUENCIES
        hidden: Floats = np.concatenate([x, scaled, np.sin(waves), np.cos(waves)], axis=1)
        for index, (weight, bias) in enumerate(self.layers):
            # The tanh form of the logistic function does not overflow.
            hidden = hidden if index == 0 else 0.5 * hidden * (1.0 + np.tanh(0.5 * hidden))
            hidden = hidden @ weight.T + bias
        return hidden


def load_moons(place: Path) -> tuple[NoiseSchedule, Denoiser]:
    """Load a network of the moons from its folder: `scheduler_config.json` and `weights.safetensors`.

    Raises:
        ValueError: the folder lacks these files, or they do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        config = json.loads((place / "scheduler_config.json").read_text(encoding="utf-8"))
        arrays = {name: array.astype(np.float64) for name, array in load_file(place / "weights.safetensors").items()}
        count = sum(name.startswith("weight") for name in arrays)
        layers = tuple((arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(count))
        network: Any = Perceptron(layers, float(arrays["label_unit"].item()))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{place} does not hold a network of the moons: {one_line(error)}") from error
    schedule, predicts = schedule_from_config(config), predicts_from_config(config)
    if "sigma_data" in config:
        network = edm_preconditioned(network, config["sigma_data"])
    return schedule, Denoiser(network, schedule, predicts)
