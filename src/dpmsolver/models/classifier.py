"""A classifier cut in two, whose first half gives the features that a Frechet distance compares.

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
    """A classifier cut in two: `body` maps images to features, `head` maps features to logits.

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
        """What the head sees: (B, *shape) -> (B, features), non-negative.

        Raises:
            ValueError: images of another shape, or not of a floating type.
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
        """Unnormalised log-probabilities of the classes: (B, *shape) -> (B, classes). Raises as `features` does."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def with_weights(classifier: Classifier, weights: Path) -> Classifier:
    """Return the classifier with weights from a safetensors file of its `network`, in evaluation mode and without gradients.

    Raises:
        FileNotFoundError: there is no such file.
    """
    from safetensors.torch import load_file

    if not weights.is_file():
        raise FileNotFoundError(f"there is no file {weights}: training/{weights.stem.replace('-', '_')}.py makes one")
    classifier.network.load_state_dict(load_file(weights))
    classifier.network.eval().requires_grad_(False)
    return classifier
