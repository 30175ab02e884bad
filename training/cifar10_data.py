"""CIFAR-10 for the training scripts: pictures and labels as bytes.

Two sources, told apart by what `--data` names:

- `cifar10_jpeg.npz`: every picture as a JPEG of 32 x 32 pixels. JPEG loses a little, so these pictures are not quite CIFAR-10's, and
  a model trained on them is not quite a model of CIFAR-10. It holds, for the splits "train" and "test", `train_jpeg` (the bytes of all
  pictures, one after the other), `train_offsets` (picture i is bytes offsets[i] to offsets[i + 1]) and `train_labels`.
- a folder with `cifar-10-batches-py` in it, as torchvision downloads it: CIFAR-10 itself. Reading it needs torchvision.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIZE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Pictures:
    """Images uint8 (n, 3, 32, 32), labels int64 (n,), and what they were read from, in words."""

    images: Tensor
    labels: Tensor
    source: str

    def to(self, device: torch.device | str) -> Pictures:
        return Pictures(self.images.to(device), self.labels.to(device), self.source)


def load_pictures(path: Path, split: str, limit: int | None = None) -> Pictures:
    """A split, "train" or "test", or `limit` of its pictures, evenly spaced: a file may be sorted by class.

    Raises:
        ValueError: the path is neither of the two sources. ImportError: torchvision is needed and missing.
    """
    if path.is_dir():
        images, labels = _from_torchvision(path, split, limit)
        source = "CIFAR-10"
    elif path.suffix == ".npz" and path.is_file():
        images, labels = _from_jpeg(path, split, limit)
        source = "CIFAR-10, recompressed as JPEG"
    else:
        raise ValueError(
            f"--data {path} is neither a file cifar10_jpeg.npz nor a folder with cifar-10-batches-py, as torchvision downloads it"
        )
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Pictures(pixels, torch.from_numpy(labels.astype(np.int64)), source)


def to_float(images: Tensor) -> Tensor:
    """Bytes to float32 in [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def flipped(images: Tensor) -> Tensor:
    """Each image mirrored, left to right, or not, by chance."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _from_jpeg(path: Path, split: str, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from PIL import Image

    with np.load(path) as data:
        if f"{split}_jpeg" not in data.files:
            raise ValueError(f"--data {path} has no {split}_jpeg; it holds {', '.join(sorted(data.files))}")
        encoded = data[f"{split}_jpeg"].tobytes()
        labels, offsets = data[f"{split}_labels"], data[f"{split}_offsets"].tolist()
    chosen = _spaced(len(labels), limit)
    images = np.empty((len(chosen), SIZE, SIZE, 3), dtype=np.uint8)
    for image, i in zip(images, chosen.tolist(), strict=True):
        image[:] = np.asarray(Image.open(io.BytesIO(encoded[offsets[i] : offsets[i + 1]])).convert("RGB"))
    return images, labels[chosen]


def _from_torchvision(folder: Path, split: str, limit: int | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not (folder / "cifar-10-batches-py").is_dir():
        raise ValueError(
            f"--data {folder} has no folder cifar-10-batches-py: name the folder that torchvision downloaded to"
        )
    try:
        from torchvision.datasets import CIFAR10
    except (ImportError, RuntimeError) as error:  # a torchvision that does not fit torch raises the latter
        raise ImportError(f"--data {folder} is read by torchvision ({error}): pip install torchvision") from error
    try:
        data = CIFAR10(str(folder), train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(f"--data {folder} is not a whole CIFAR-10 ({error})") from error
    chosen = _spaced(len(data.data), limit)
    return np.ascontiguousarray(data.data[chosen]), np.asarray(data.targets)[chosen]


def _spaced(count: int, limit: int | None) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, limit or count)).astype(np.int64)
