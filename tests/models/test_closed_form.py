"""Closed-form models: their optimal networks against formulas and brute force, their trajectories against a solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.models import Empirical, Gaussian

VP = dpm.schedules.LinearVP()
RNG = np.random.default_rng(0)
ROOT = RNG.standard_normal((3, 3))
COVARIANCE = ROOT @ ROOT.T + 0.1 * np.eye(3)
MEAN = np.array([0.5, -1.0, 0.2])
MODEL = Gaussian(MEAN, covariance=COVARIANCE)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.1), (0.6, 0.8), (0.01, 1.0)])
def test_gaussian_of_any_covariance_predicts_the_conditional_mean(alpha: float, sigma: float) -> None:
    """E[x_0|x] = mu + alpha S (alpha^2 S + sigma^2 I)^-1 (x - alpha mu), with the matrix itself."""
    x = RNG.standard_normal((6, 3))
    gain = alpha * COVARIANCE @ np.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * np.eye(3))
    expected = MEAN + (x - alpha * MEAN) @ gain.T
    np.testing.assert_allclose(MODEL.predict_data(x, alpha, sigma), expected, atol=1e-12)
    np.testing.assert_allclose(MODEL.predict_data(torch.from_numpy(x), alpha, sigma).numpy(), expected, atol=1e-12)


def test_its_trajectory_is_where_a_converged_solver_goes() -> None:
    """The closed form against 1200 evaluations of the solver of order 3."""
    x = RNG.standard_normal((4, 3))
    reached = dpm.sample(MODEL.denoiser(VP), x, nfe=1200, solver="dpm++3s-exact", start=0.8, end=0.01)
    np.testing.assert_allclose(MODEL.trajectory(VP, x, 0.8, 0.01), reached, atol=1e-6)


def test_its_samples_have_its_moments_and_plans_know_its_axes() -> None:
    """Sample covariance within its standard error; Plan.wasserstein takes the eigenvalues."""
    drawn = MODEL.sample(200_000, seed=3)
    np.testing.assert_allclose(drawn.mean(axis=0), MEAN, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), COVARIANCE, atol=0.05)
    np.testing.assert_allclose(np.sort(MODEL.variances[0]), np.linalg.eigvalsh(COVARIANCE), atol=1e-12)
    plan = dpm.make_plan("dpm++3s", VP, 300)
    assert plan.wasserstein(MODEL.means[0], MODEL.variances[0], to="end") < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of variance"),
        ({"variance": [1.0, 1.0], "covariance": np.eye(2)}, "exactly one of variance"),
        ({"covariance": np.eye(3)}, r"shape \(D, D\) for a mean"),
        ({"covariance": [[1.0, 0.5], [0.0, 1.0]]}, "symmetric"),
        ({"covariance": [[1.0, 2.0], [2.0, 1.0]]}, "positive semidefinite, its smallest eigenvalue is -1"),
    ],
)
def test_what_is_no_gaussian_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Each with its cause."""
    with pytest.raises(ValueError, match=message):
        Gaussian([0.0, 0.0], **arguments)


def test_the_ideal_denoiser_is_the_softmax_weighted_mean() -> None:
    """Against the definition, one state at a time, on pictures; block by block as in one go; torch as NumPy."""
    data, x, alpha, sigma = RNG.standard_normal((20, 2, 3, 3)), RNG.standard_normal((7, 2, 3, 3)), 0.7, 0.4
    model = Empirical(data)
    expected = []
    for state in x:
        weights = np.exp(-np.square(state - alpha * data).sum(axis=(1, 2, 3)) / (2 * sigma**2))
        expected.append(np.tensordot(weights / weights.sum(), data, axes=1))
    np.testing.assert_allclose(model.predict_data(x, alpha, sigma), expected, atol=1e-12)
    np.testing.assert_allclose(model.predict_data(torch.from_numpy(x), alpha, sigma), expected, atol=1e-12)


def test_memory_stays_bounded_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two states give what one block gives."""
    data, x = RNG.standard_normal((8, 5)), RNG.standard_normal((7, 5))
    whole = Empirical(data).predict_data(x, 0.5, 0.5)
    monkeypatch.setattr("dpmsolver.models.closed_form._CHUNK", 16)
    np.testing.assert_allclose(Empirical(data).predict_data(x, 0.5, 0.5), whole, atol=1e-14)


def test_it_memorises_and_keeps_its_numbers_at_both_ends() -> None:
    """A run ends in data; far away and at small noise nothing overflows; at large noise it is the mean."""
    data = RNG.standard_normal((5, 4))
    model = Empirical(data)
    x = dpm.sample(model.denoiser(VP), dpm.initial_noise(VP, (6, 4)), nfe=60)
    nearest = np.abs(x[:, None] - data).max(axis=2).min(axis=1)
    assert nearest.max() < 0.15
    np.testing.assert_allclose(model.predict_data(1e6 * data[:1], 1.0, 1e-3), [data[np.argmax(data @ data[0])]])
    np.testing.assert_allclose(model.predict_data(np.zeros((1, 4)), 1e-6, 1.0), [data.mean(axis=0)], atol=1e-5)
    assert {tuple(row) for row in model.sample(50)} <= {tuple(row) for row in data}


@pytest.mark.parametrize("data", [[], [1.0, 2.0], [[np.nan]], np.zeros((0, 3))])
def test_what_is_no_data_set_is_refused(data: Any) -> None:
    """At least one datum, finite, with a batch axis; states of another shape are refused too."""
    with pytest.raises(ValueError, match="data must be finite and of shape"):
        Empirical(data)
    with pytest.raises(ValueError, match=r"states must have the data's shape \(2,\), got \(3,\)"):
        Empirical([[1.0, 2.0]]).predict_data(np.zeros((1, 3)), 1.0, 1.0)
