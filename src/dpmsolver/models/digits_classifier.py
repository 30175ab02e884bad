"""A small classifier of MNIST digits: the feature network behind the Frechet distance of the embedded `digits` model.

Inception features (Heusel et al. 2017) say little about 28 x 28 digits, so the distance is taken between the
penultimate activations of a network trained on the digits themselves. `training/digits_classifier.py` makes the
embedded weights. Importing this module does not import torch; calling its functions does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["CLASSES", "FEATURES", "WEIGHTS", "DigitsClassifier", "build_classifier", "load_classifier"]

CLASSES = 10
FEATURES = 64
WEIGHTS = Path(__file__).parent / "weights" / "digits-classifier.safetensors"


@dataclass(frozen=True)
class DigitsClassifier:
    """A classifier cut in two: `body` maps images to features, `head` maps features to logits.

    Images are float (B, 1, 28, 28) in [-1, 1], black ground and white ink, as MNIST has them after x / 127.5 - 1.
    """

    body: torch.nn.Sequential
    head: torch.nn.Sequential

    @property
    def network(self) -> torch.nn.Sequential:
        """Both halves as one module, which shares their weights: images (B, 1, 28, 28) -> logits (B, 10)."""
        from torch import nn

        return nn.Sequential(OrderedDict(body=self.body, head=self.head))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate activations: (B, 1, 28, 28) -> (B, 64), non-negative.

        Raises:
            ValueError: images of another shape, or not of a floating type.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, 28, 28):
            raise ValueError(f"images must have shape (B, 1, 28, 28), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"images must be float in [-1, 1], got {images.dtype}; bytes are scaled by x / 127.5 - 1")
        features: torch.Tensor = self.body(images)
        return features

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Unnormalised log-probabilities of the ten digits: (B, 1, 28, 28) -> (B, 10). Raises as `features` does."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def build_classifier() -> DigitsClassifier:
    """The network with fresh weights, in training mode: images (B, 1, 28, 28) -> features (B, 64) -> logits (B, 10).

    Examples:
        >>> sum(weight.numel() for weight in build_classifier().network.parameters())
        145738

    Source: LeCun et al. 1998 (convolutions, then dense layers); Ioffe & Szegedy 2015 (batch normalisation).
    """
    from torch import nn

    def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
        # Batch normalisation has the bias already.
        layer = nn.Conv2d(inputs, outputs, size, stride, padding=(size - 1) // 2, bias=False)
        return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]

    body = nn.Sequential(
        nn.PixelUnshuffle(2),
        *convolution(4, 32, 3),
        *convolution(32, 64, 4, stride=2),
        *convolution(64, 64, 3),
        *convolution(64, 64, 3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 3 * 3, FEATURES, bias=False),
        nn.BatchNorm1d(FEATURES),
        nn.ReLU(),
    )
    return DigitsClassifier(body, nn.Sequential(nn.Linear(FEATURES, CLASSES)))


def load_classifier(weights: Path = WEIGHTS) -> DigitsClassifier:
    """The trained network, float32 on the CPU, in evaluation mode and without gradients.

    Args:
        weights: a safetensors file of `build_classifier().network`; without it, the embedded one.

    Raises:
        FileNotFoundError: there is no such file.

    Examples:
        >>> import torch
        >>> load_classifier().features(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 64])
    """
    from safetensors.torch import load_file

    classifier = build_classifier()
    classifier.network.load_state_dict(load_file(weights))
    classifier.network.eval().requires_grad_(False)
    return classifier
