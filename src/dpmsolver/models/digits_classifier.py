"""A small classifier of MNIST digits, whose features give the Frechet distance of the embedded `digits` model.

Inception features (Heusel et al. 2017) describe 28 x 28 digits poorly, so the distance is taken between the penultimate activations of a
network trained on the digits themselves. `training/digits_classifier.py` makes the embedded weights. Importing this module does not
import torch; calling its functions does.
"""

from __future__ import annotations

from pathlib import Path

from dpmsolver.models.classifier import Classifier, with_weights

__all__ = ["CLASSES", "FEATURES", "SHAPE", "WEIGHTS", "build_classifier", "load_classifier"]

SHAPE = (1, 28, 28)
CLASSES = 10
FEATURES = 64
WEIGHTS = Path(__file__).parent / "weights" / "digits-classifier.safetensors"


def build_classifier() -> Classifier:
    """Return the network with fresh weights, in training mode: images (B, 1, 28, 28) -> features (B, 64) -> logits (B, 10).

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
    return Classifier(body, nn.Sequential(nn.Linear(FEATURES, CLASSES)), SHAPE)


def load_classifier(weights: Path = WEIGHTS) -> Classifier:
    """Return the trained network, float32 on the CPU, in evaluation mode and without gradients.

    Args:
        weights: a safetensors file of `build_classifier().network`; without it, the embedded one.

    Raises:
        FileNotFoundError: the file does not exist.

    Examples:
        >>> import torch
        >>> load_classifier().features(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 64])
    """
    return with_weights(build_classifier(), weights)
