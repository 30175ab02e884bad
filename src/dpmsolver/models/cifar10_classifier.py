"""A small classifier of CIFAR-10, whose features give the Frechet distance of the `cifar10` model if Inception is not available.

It is a wide residual network; the features are the activations before its last layer, averaged over the picture.
`training/cifar10_classifier.py` makes its weights. Importing this module does not import torch; calling its functions does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dpmsolver.models.classifier import Classifier, with_weights

if TYPE_CHECKING:
    import torch

__all__ = ["CLASSES", "FEATURES", "SHAPE", "WEIGHTS", "build_classifier", "load_classifier"]

SHAPE = (3, 32, 32)
CLASSES = 10
FEATURES = 128
WEIGHTS = Path(__file__).parent / "weights" / "cifar10-classifier.safetensors"
_BLOCKS = 3  # of two convolutions, at each of the three resolutions: 22 layers deep


def build_classifier() -> Classifier:
    """Return the network with fresh weights, in training mode: images (B, 3, 32, 32) -> features (B, 128) -> logits (B, 10).

    Examples:
        >>> sum(weight.numel() for weight in build_classifier().network.parameters())
        1079642

    Source: Zagoruyko & Komodakis 2016, arXiv 1605.07146 (WRN-22-2: its figure 1b, twice as wide as the residual networks before it).
    """
    from torch import nn

    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    inputs = 16
    for width, stride in ((32, 1), (64, 2), (FEATURES, 2)):
        for index in range(_BLOCKS):
            layers.append(_residual_block(inputs, width, stride if index == 0 else 1))
            inputs = width
    pooled = [nn.BatchNorm2d(FEATURES), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Classifier(nn.Sequential(*layers, *pooled), nn.Sequential(nn.Linear(FEATURES, CLASSES)), SHAPE)


def _residual_block(inputs: int, outputs: int, stride: int) -> torch.nn.Module:
    """Normalise, rectify, convolve, twice, and add what came in; where shapes differ, a convolution of the rectified input."""
    from torch import Tensor, nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rectified = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
            self.branch = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            )
            same = inputs == outputs and stride == 1
            self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            rectified = self.rectified(x)
            straight: Tensor = x if self.shortcut is None else self.shortcut(rectified)
            branch: Tensor = self.branch(rectified)
            return straight + branch

    return Residual()


def load_classifier(weights: Path = WEIGHTS) -> Classifier:
    """Return the trained network, float32 on the CPU, in evaluation mode and without gradients.

    Args:
        weights: a safetensors file of `build_classifier().network`; without it, the embedded one.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    return with_weights(build_classifier(), weights)
