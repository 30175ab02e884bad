"""A classifier in two parts, of which the first gives the features of a Frechet distance.

Importing this module does not import torch; calling its functions does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["Classifier", "with_weights"]


@dataclass(frozen=True)
class Classifier:
    """A classifier in two parts: `body` maps images to features, `head` maps features to logits.

    Images are float (B, *shape) in [-1, 1], as bytes are after x / 127.5 - 1.
    """

    body: torch.nn.Sequential
    head: torch.nn.Sequential
    shape: tuple[int, int, int]

    @property
    def network(self) -> torch.nn.Sequential:
        """Both halves as one module, which shares their weights: images (B, *shape) -> logits (B, classes)."""
        from torch import nn

        return nn.Sequential(OrderedDict(body=self.body, head=self.head))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images (B, *shape), the input of the head: (B, features), non-negative.

        Raises:
            ValueError: the images have another shape or are not floating point.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, self.shape))}), got {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise ValueError(f"images must be float in [-1, 1], got {images.dtype}; bytes are scaled by x / 127.5 - 1")
        features: torch.Tensor = self.body(images)
        return features

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the unnormalised log-probabilities of the classes, (B, classes), of images (B, *shape). Raise as `features`."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def with_weights(classifier: Classifier, weights: Path) -> Classifier:
    """Return the classifier with weights from a safetensors file of its `network`, in evaluation mode and without gradients.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    from safetensors.torch import load_file

    if not weights.is_file():
        raise FileNotFoundError(f"there is no file {weights}: training/{weights.stem.replace('-', '_')}.py makes one")
    classifier.network.load_state_dict(load_file(weights))
    classifier.network.eval().requires_grad_(False)
    return classifier
