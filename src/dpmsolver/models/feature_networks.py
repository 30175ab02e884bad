"""Feature networks of the Frechet distance: classifiers of digits and of CIFAR-10, and Inception; and the statistics of data under them.

Importing this module imports neither torch nor torchmetrics; calling its functions does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.models import cifar10_classifier, digits_classifier

if TYPE_CHECKING:
    import torch

__all__ = ["CLASSIFIERS", "FeatureNetwork", "Statistics", "has_weights", "load", "load_statistics"]

CLASSIFIERS: dict[str, ModuleType] = {"digits": digits_classifier, "cifar10": cifar10_classifier}
_BATCH = 250  # samples that a feature network sees at once
_INCEPTION_BATCH = 50  # enlarged to 299 x 299, each takes 5 MiB in the third layer alone
_INCEPTION_FEATURES = 2048
_INCEPTION_WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
_INSTALL = "pip install 'dpmsolver[evaluation]', with a torchvision that was built for the torch at hand"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """The mean (d,) and the covariance (d, d) of a data set's features, and the distance of other data to it where it is known."""

    mean: Floats
    covariance: Floats
    yardstick: float | None = None


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """Samples (n, C, H, W), pixels clamped to [-1, 1], to float64 features (n, width), and to classes (n,) where it knows them."""

    width: int
    features: Callable[[Any], Floats]
    classify: Callable[[Any], NDArray[np.int64]] | None = None
    num_classes: int | None = None
    statistics: Statistics | None = None


def load(name: str, shape: Sequence[int], device: Any = "cpu") -> FeatureNetwork:
    """The feature network "digits", "cifar10" or "inception" for samples of a shape.

    Raises:
        ValueError: samples that it cannot see, a classifier without weights.
        ImportError, ValueError: Inception is not to be had; the message says what to do.

    Examples:
        >>> import torch
        >>> load("digits", (1, 28, 28)).features(torch.zeros(2, 1, 28, 28)).shape
        (2, 64)
    """
    return _inception(tuple(shape), device) if name == "inception" else _classifier(name, tuple(shape), device)


def has_weights(name: str) -> bool:
    """Whether there is a classifier of that name, with its weights and the statistics of its data.

    Examples:
        >>> has_weights("digits"), has_weights("letters")
        (True, False)
    """
    return name in CLASSIFIERS and CLASSIFIERS[name].WEIGHTS.is_file() and _statistics_file(name).is_file()


def _statistics_file(name: str) -> Path:
    weights: Path = CLASSIFIERS[name].WEIGHTS
    return weights.with_name(f"{name}-features.safetensors")


def load_statistics(path: Path) -> Statistics:
    """Statistics from a file: safetensors with `mean`, `covariance` and perhaps `yardstick`, or .npz with `mu` and `sigma`.

    Raises:
        ValueError: no such file, one that cannot be read, or arrays that are not a finite mean (d,) with a covariance (d, d).
    """
    mean_name, covariance_name = ("mu", "sigma") if path.suffix == ".npz" else ("mean", "covariance")
    arrays = _read(path)
    if mean_name not in arrays or covariance_name not in arrays:
        raise ValueError(
            f"{path} must hold {mean_name} and {covariance_name}, it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    mean, covariance = (np.asarray(arrays[name], dtype=np.float64) for name in (mean_name, covariance_name))
    if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape):
        raise ValueError(
            f"{path} must hold a mean (d,) and a covariance (d, d), got {mean.shape} and {covariance.shape}"
        )
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all() or not np.allclose(covariance, covariance.T):
        raise ValueError(f"{path} must hold finite numbers and a symmetric covariance")
    return Statistics(mean, covariance, float(arrays["yardstick"]) if "yardstick" in arrays else None)


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        if path.suffix != ".npz":
            return dict(load_file(path))
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as statistics of features: {error}") from error


def _classifier(name: str, shape: tuple[int, ...], device: Any) -> FeatureNetwork:
    """One of the embedded classifiers, with the statistics of the data that it was trained on."""
    module = CLASSIFIERS[name]
    if shape != module.SHAPE:
        raise ValueError(
            f"features={name!r} sees pictures of shape {module.SHAPE}, samples have {shape}: take 'inception' or 'none'"
        )
    if not has_weights(name):
        raise ValueError(
            f"features={name!r} has no weights in {module.WEIGHTS.parent}: training/README.md says how to make them"
        )
    classifier = module.load_classifier(module.WEIGHTS)
    classifier.network.to(device)

    def classify(samples: torch.Tensor) -> NDArray[np.int64]:
        return np.asarray(_in_batches(lambda part: classifier.logits(part).argmax(dim=1), samples, shape))

    return FeatureNetwork(
        module.FEATURES,
        lambda samples: _in_batches(classifier.features, samples, shape).astype(np.float64),
        classify,
        module.CLASSES,
        load_statistics(_statistics_file(name)),
    )


def _inception(shape: tuple[int, ...], device: Any) -> FeatureNetwork:
    """Inception's last pooling layer, 2048 features, resized as in TensorFlow, so that published statistics of data fit."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"features='inception' sees pictures (1 or 3, height, width), samples have {shape}: take 'none'"
        )
    network = _inception_network().to(device)

    def see(part: torch.Tensor) -> Any:
        return network(_bytes(part.expand(-1, 3, -1, -1)))

    return FeatureNetwork(
        _INCEPTION_FEATURES,
        lambda samples: _in_batches(see, samples, shape, _INCEPTION_BATCH).astype(np.float64),
    )


def _bytes(pictures: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1] as bytes, which Inception is given."""
    import torch

    return pictures.add(1.0).mul(127.5).round().to(torch.uint8)


def _inception_network() -> Any:
    """torchmetrics' network, bytes (B, 3, H, W) -> (B, 2048). Its weights, 95 MB, are downloaded once and kept by torch.hub."""
    import torch

    try:
        # RuntimeError: a torchvision that was built for another torch.
        from torchmetrics.image.fid import NoTrainInceptionV3
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"features='inception' needs torchmetrics and torch-fidelity ({_one_line(error)}): {_INSTALL}"
        ) from error
    try:
        return NoTrainInceptionV3("inception-v3-compat", [str(_INCEPTION_FEATURES)], antialias=False)
    except ModuleNotFoundError as error:
        raise ImportError(f"features='inception' needs torch-fidelity: {_INSTALL}") from error
    except (OSError, RuntimeError) as error:  # what urllib and torch.load raise
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"the weights of Inception can be neither found nor downloaded ({_one_line(error)}): put {_INCEPTION_WEIGHTS} into {folder}"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _in_batches(
    network: Callable[[Any], Any], samples: torch.Tensor, shape: tuple[int, ...], batch: int = _BATCH
) -> NDArray[Any]:
    """The network's output on all samples, on the host."""
    import torch

    if not isinstance(samples, torch.Tensor) or tuple(samples.shape[1:]) != shape or not len(samples):
        given = f"{type(samples).__name__} {tuple(getattr(samples, 'shape', ()))}"
        raise ValueError(f"samples must be a torch tensor (n, {', '.join(map(str, shape))}), got {given}")
    with torch.no_grad():
        parts = (samples[i : i + batch].float().clamp(-1.0, 1.0) for i in range(0, len(samples), batch))
        found = [network(part).cpu().numpy() for part in parts]
    return np.concatenate(found)
