"""The laws of CIFAR-10: what the file holds, that the networks are those of the laws, and what classes mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.models import cifar10_laws
from dpmsolver.models.cifar10_laws import SHAPE, ColourCosine
from dpmsolver.models.closed_form import Gaussian, Mixture
from dpmsolver.models.testbeds import load_testbed
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans import Point


@pytest.fixture(scope="module")
def law() -> Mixture:
    return cifar10_laws.mixture()


def test_the_file_is_small() -> None:
    """It is in every wheel."""
    assert cifar10_laws.LAWS.stat().st_size < 2e6


def test_the_change_of_coordinates_is_orthonormal(law: Mixture) -> None:
    """Lengths and angles stay, and the inverse is the inverse."""
    pictures = np.random.default_rng(0).standard_normal((3, *SHAPE))
    found = law.basis.forward(pictures)
    np.testing.assert_allclose(found @ found.T, np.einsum("achw,bchw->ab", pictures, pictures), atol=1e-9)
    np.testing.assert_allclose(law.basis.inverse(found), pictures, atol=1e-12)


def test_a_grey_picture_is_one_number() -> None:
    """The first coordinate is the mean of the first axis of colour: an even picture has no other of that colour."""
    found = ColourCosine(np.eye(3), size=4).forward(np.ones((1, 3, 4, 4)))
    np.testing.assert_allclose(found[0, [0, 16, 32]], 4.0)
    assert np.abs(np.delete(found[0], [0, 16, 32])).max() < 1e-12


def test_classes_have_the_moments_of_the_pictures(law: Mixture) -> None:
    """Mean and variance of each class of the mixture are those of its training pictures, which the script stores."""
    held = cifar10_laws.statistics()
    for c in range(10):
        own = law.classes == c
        weights = law.weights[own] / law.weights[own].sum()
        mean = weights @ law.means[own]
        variance = weights @ (law.variances[own] + law.means[own] ** 2) - mean**2
        expected, power = held["class_mean"][c].astype(float), held["class_variance"][c].astype(float)
        assert np.linalg.norm(mean - expected) < 0.01 * np.linalg.norm(expected)
        large = power > 1e-3  # below, half precision and the smallest variance count
        np.testing.assert_allclose(variance[large], power[large], rtol=0.07)
        assert variance.sum() == pytest.approx(power.sum(), rel=0.01)


def test_the_gaussian_has_the_variance_of_the_pictures(law: Mixture) -> None:
    """A rotation keeps the sum of the variances and the length of the mean: those of all classes together."""
    held, gaussian = cifar10_laws.statistics(), cifar10_laws.gaussian()
    means, variances = held["class_mean"].astype(float), held["class_variance"].astype(float)
    assert gaussian.variances.sum() == pytest.approx(variances.mean(0).sum() + means.var(0).sum(), rel=2e-3)
    assert np.linalg.norm(gaussian.means) == pytest.approx(np.linalg.norm(means.mean(0)), rel=2e-3)


@pytest.mark.parametrize("class_label", [None, 4])
def test_the_score_is_the_gradient_of_the_log_density(law: Mixture, class_label: int | None) -> None:
    """Central differences along directions, float64: (alpha E[x_0|x] - x)/sigma^2."""
    rng, alpha, sigma, step = np.random.default_rng(1), 0.6, 0.8, 1e-4
    x = alpha * law.sample(2, seed=3) + sigma * rng.standard_normal((2, *SHAPE))
    labels = None if class_label is None else [class_label] * 2
    score = (alpha * law.predict_data(x, alpha, sigma, labels) - x) / sigma**2
    for _ in range(3):
        direction = rng.standard_normal(x.shape)
        ahead, behind = (law.log_density(x + s * direction, alpha, sigma, labels) for s in (step, -step))
        np.testing.assert_allclose(
            (ahead - behind) / (2 * step), (score * direction).sum((1, 2, 3)), rtol=1e-4, atol=1e-2
        )


def test_classes_together_are_the_whole(law: Mixture) -> None:
    """The density without a class is the mean of those of the classes; the null label means no class."""
    x, noise = law.sample(3, seed=5), np.random.default_rng(0).standard_normal((3, *SHAPE))
    x = 0.1 * x + np.sqrt(0.99) * noise  # where classes overlap
    of_class = np.array([law.log_density(x, 0.1, np.sqrt(0.99), [c] * 3) for c in range(10)])
    whole = law.log_density(x, 0.1, np.sqrt(0.99))
    np.testing.assert_allclose(np.logaddexp.reduce(of_class) - np.log(10), whole, rtol=1e-12)
    np.testing.assert_allclose(law.predict_data(x, 0.1, 0.9), law.predict_data(x, 0.1, 0.9, [10] * 3), atol=1e-12)
    shares = np.exp(of_class - whole) / 10
    each = np.array([law.predict_data(x, 0.1, np.sqrt(0.99), [c] * 3) for c in range(10)])
    expected = np.einsum("kn,knchw->nchw", shares, each)
    np.testing.assert_allclose(law.predict_data(x, 0.1, np.sqrt(0.99)), expected, atol=1e-7)


def test_samples_are_of_their_class() -> None:
    """The testbed's classes come in turn, and the exact classifier finds them in samples of twenty evaluations."""
    testbed, part = load_testbed("cifar10-mixture"), range(20)
    assert (testbed.shape, testbed.num_classes, testbed.pictures) == (SHAPE, 10, True)
    x0 = dpm.sample(testbed.denoiser(testbed.labels(part)), testbed.initial_noise(part), nfe=20)
    assert testbed.classify is not None
    assert (testbed.classify(x0) == np.array(testbed.labels(part))).mean() > 0.9


def test_guidance_has_an_exact_network(law: Mixture) -> None:
    """Unconditional + scale (conditional - unconditional), from one call of twice the batch, or from two calls."""
    schedule = dpm.schedules.LinearVP()
    x, labels = dpm.initial_noise(schedule, (2, *SHAPE), seed=0), np.array([3, 7])
    point = Point.at(schedule, 0.5)
    guided = law.denoiser(schedule).replace(
        guidance=ClassifierFree(2.0, {"class_labels": labels}, {"class_labels": np.array([10, 10])})
    )
    plain, own = (law.predict_data(x, point.alpha, point.sigma, each) for each in (None, labels))
    plan = dpm.make_plan("ddim", schedule, 1, start=0.5, end=0.4)
    found = dpm.sample(guided, x, plan=plan)
    end, ratio = plan.end, plan.end.sigma / point.sigma
    data = plain + 2.0 * (own - plain)
    np.testing.assert_allclose(found, ratio * x + (end.alpha - ratio * point.alpha) * data, atol=1e-9)


def test_wrong_labels_are_refused(law: Mixture) -> None:
    """Before anything is computed, naming what is accepted."""
    x = np.zeros((2, *SHAPE))
    for labels in ([0], [0, 11], [0, -1], [0.5, 1]):
        with pytest.raises(ValueError, match="class_labels must be one of 0 … 10 for each of 2 samples"):
            law.predict_data(x, 0.5, 0.5, labels)
    with pytest.raises(ValueError, match="without classes"):
        Gaussian(mean=[0.0], variance=[1.0]).predict_data(np.zeros((1, 1)), 0.5, 0.5, [0])
    with pytest.raises(ValueError, match="classes must be 0 to C - 1"):
        Mixture([[0.0], [1.0]], [[1.0], [1.0]], classes=[0, 2])
    with pytest.raises(ValueError, match=r"states must have shape \(n, 3, 32, 32\)"):
        law.predict_data(np.zeros((2, 3, 8, 8)), 0.5, 0.5)


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the command that makes the file."""
    for content in (None, b"not an archive"):
        if content is not None:
            (tmp_path / "laws.npz").write_bytes(content)
        monkeypatch.setattr(cifar10_laws, "LAWS", tmp_path / "laws.npz")
        cifar10_laws.statistics.cache_clear()
        with pytest.raises(ValueError, match=r"reinstall dpmsolver, or python training/cifar10_laws\.py makes it"):
            cifar10_laws.gaussian()
    monkeypatch.undo()
    cifar10_laws.statistics.cache_clear()
