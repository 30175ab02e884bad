"""The embedded classifier: it loads, is small, costs nothing to import, and reads digits that MNIST never held."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from dpmsolver.models.classifier import Classifier
from dpmsolver.models.digits_classifier import FEATURES, WEIGHTS, build_classifier, load_classifier

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_classifier()


def circle(row: float, column: float, radius: float) -> list[tuple[float, float]]:
    return [(row + radius * np.sin(a), column + radius * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 33)]


# A digit as the polylines a pen follows, in (row, column) pixels.
STROKES = {
    0: [circle(14, 14, 7)],
    1: [[(5, 14), (23, 14)]],
    3: [[(6, 9), (5, 14), (7, 18), (11, 18), (13, 13), (15, 18), (19, 19), (22, 15), (22, 9)]],
    4: [[(5, 9), (14, 8), (14, 19)], [(5, 19), (23, 18)]],
    7: [[(6, 8), (6, 19), (22, 12)]],
    8: [circle(9.5, 14, 4), circle(18, 14, 4.5)],
}


def draw(strokes: list[list[tuple[float, float]]], width: float = 1.2) -> np.ndarray:
    """Strokes of a pen as an image (1, 28, 28) in [-1, 1]: white within `width` pixels of a line, soft at its edge."""
    pixels = np.stack(np.meshgrid(np.arange(28), np.arange(28), indexing="ij"), axis=-1).astype(float)
    distance = np.full((28, 28), np.inf)
    for line in strokes:
        for start, end in zip(np.array(line)[:-1], np.array(line)[1:], strict=True):
            along = np.clip((pixels - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
            distance = np.minimum(distance, np.linalg.norm(pixels - start - along[..., None] * (end - start), axis=-1))
    return 2 * np.clip(width + 0.5 - distance, 0, 1)[None] - 1


def test_drawn_digits_are_recognised(classifier: Classifier) -> None:
    """The range, orientation and polarity of the input are as documented: digits drawn by formula are read."""
    images = torch.from_numpy(np.stack([draw(strokes) for strokes in STROKES.values()])).float()
    probabilities = classifier.logits(images).softmax(dim=1)
    assert probabilities.argmax(dim=1).tolist() == list(STROKES)
    assert probabilities.amax(dim=1).min() > 0.5


def test_features_do_not_depend_on_the_batch_around_them(classifier: Classifier) -> None:
    """Loaded for evaluation: statistics of the batch play no part, and no gradient is kept."""
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = classifier.features(images)
    alone = torch.cat([classifier.features(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.shape == (5, FEATURES)
    assert together.dtype == torch.float32
    assert not together.requires_grad


def test_logits_are_the_head_of_the_features(classifier: Classifier) -> None:
    images = torch.zeros(3, 1, 28, 28)
    logits = classifier.logits(images)
    assert logits.shape == (3, 10)
    torch.testing.assert_close(logits, classifier.head(classifier.features(images)))
    torch.testing.assert_close(logits, classifier.network(images))


def test_no_feature_is_dead(classifier: Classifier) -> None:
    """Every feature varies over the drawn digits and their shifts, or the covariance would be singular."""
    drawn = torch.from_numpy(np.stack([draw(strokes) for strokes in STROKES.values()])).float()
    shifted = [drawn.roll((rows, columns), dims=(2, 3)) for rows in range(-2, 3) for columns in range(-2, 3)]
    assert (classifier.features(torch.cat(shifted)).std(dim=0) > 0).all()


def test_fresh_weights_train_and_stay_within_the_budget() -> None:
    """`build_classifier` gives trainable weights, at most 250,000 of them."""
    weights = list(build_classifier().network.parameters())
    assert all(weight.requires_grad for weight in weights)
    assert sum(weight.numel() for weight in weights) <= 250_000


def test_embedded_file_is_small() -> None:
    assert WEIGHTS.stat().st_size <= 1_000_000


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32)])
def test_other_shapes_are_refused(classifier: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must have shape \(B, 1, 28, 28\), got"):
        classifier.features(torch.zeros(shape))


def test_bytes_are_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match=r"images must be float in \[-1, 1\], got torch.uint8"):
        classifier.logits(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))


def test_import_does_not_import_torch() -> None:
    """Who only lists or documents the models pays for no framework."""
    program = "import sys, dpmsolver.models.digits_classifier; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
