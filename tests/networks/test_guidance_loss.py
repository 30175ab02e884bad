"""guidance.Loss: the gradient of a loss of x_0, through the network and with no second evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.networks.guidance import Classifier, Loss

torch = pytest.importorskip("torch")

SCHEDULE = dpm.schedules.LinearVP()
MEAN, VARIANCE, WANTED = np.array([1.0, -0.5]), np.array([0.25, 1.0]), np.array([0.0, 0.5])
X_T = np.random.default_rng(0).standard_normal((3, 2))


def point(t: Any) -> tuple[float, float]:
    time = SCHEDULE.time_from_label(float(t[0]))
    return float(SCHEDULE.alpha(time)), float(SCHEDULE.sigma(time))


def like(x: Any, values: Any) -> Any:
    return torch.from_numpy(values) if isinstance(x, torch.Tensor) else np.asarray(values)


def network(x: Any, t: Any) -> Any:
    """The optimal network of normal data: the noise."""
    alpha, sigma = point(t)
    return sigma * (x - alpha * like(x, MEAN)) / like(x, alpha**2 * VARIANCE + sigma**2)


def loss(x0: Any) -> Any:
    return 0.5 * ((x0 - like(x0, WANTED)) ** 2).sum(-1)


def by_hand(x: Any, t: Any) -> Any:
    """-dloss/dx: x_0 is affine in x, with the slope alpha v/(alpha^2 v + sigma^2)."""
    alpha, sigma = point(t)
    x0 = (x - sigma * network(x, t)) / alpha
    return -like(x, alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)) * (x0 - like(x, WANTED))


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-2", "unipc-2", "deis-tab2", "velocity-2m"])
@pytest.mark.parametrize("scale", [0.7, [0.0, 1.0, 2.0], lambda t: 2.0 * t])
def test_it_is_classifier_guidance_with_the_gradient_of_the_loss(solver: str, scale: Any) -> None:
    """Computed by autograd through the network, and by hand: one trajectory; and each evaluation is one call."""
    calls: list[int] = []

    def counted(x: Any, t: Any) -> Any:
        calls.append(1)
        return network(x, t)

    steered = dpm.Denoiser(counted, SCHEDULE, guidance=Loss(loss, scale))
    expected = dpm.Denoiser(network, SCHEDULE, guidance=Classifier(scale, gradient=by_hand))
    x = torch.from_numpy(X_T)
    plan = dpm.make_plan(solver, SCHEDULE, 8)
    found = dpm.sample(steered, x, plan=plan)
    assert len(calls) == 8
    assert not found.requires_grad
    torch.testing.assert_close(found, dpm.sample(expected, x, plan=plan), rtol=1e-10, atol=1e-12)
    with torch.inference_mode():
        torch.testing.assert_close(dpm.sample(steered, x, plan=plan), found, rtol=1e-12, atol=0)


def test_samples_come_near_what_is_wanted() -> None:
    """Normal data and a quadratic loss: the pull is towards the posterior's mean, and stronger for a larger scale."""
    x = dpm.initial_noise(SCHEDULE, (400, 2), seed=0, like=torch.empty(0, dtype=torch.float64))
    distances = []
    for scale in (0.0, 1.0, 4.0):
        denoiser = dpm.Denoiser(network, SCHEDULE, guidance=Loss(loss, scale))
        distances.append(float(abs(dpm.sample(denoiser, x, nfe=20).mean(0) - torch.from_numpy(WANTED)).sum()))
    assert distances[0] > distances[1] > distances[2]


def test_outside_the_interval_nothing_is_differentiated() -> None:
    never = Loss(lambda x0: 1 / 0, 1.0, interval=(2.0, 3.0))
    plain = dpm.Denoiser(network, SCHEDULE)
    x = torch.from_numpy(X_T)
    torch.testing.assert_close(
        dpm.sample(plain.replace(guidance=never), x, nfe=5), dpm.sample(plain, x, nfe=5), rtol=1e-12, atol=0
    )


def test_adaptive_runs_and_single_evaluations_take_it() -> None:
    steered, expected = (
        dpm.Denoiser(network, SCHEDULE, guidance=each) for each in (Loss(loss, 1.0), Classifier(1.0, gradient=by_hand))
    )
    x = torch.from_numpy(X_T)
    one = x[:1]  # the network reads the first label alone
    torch.testing.assert_close(dpm.sample_adaptive(steered, one), dpm.sample_adaptive(expected, one), rtol=1e-9, atol=0)
    for wanted in ("data", "noise", "score"):
        torch.testing.assert_close(steered.at(x, 0.5, wanted), expected.at(x, 0.5, wanted), rtol=1e-10, atol=0)


def test_a_network_may_write_into_its_input() -> None:
    def writes(x: Any, t: Any) -> Any:
        found = network(x, t)
        x.zero_()
        return found

    plain, careless = (dpm.Denoiser(net, SCHEDULE, guidance=Loss(loss, 1.0)) for net in (network, writes))
    x = torch.from_numpy(X_T)
    torch.testing.assert_close(dpm.sample(careless, x, nfe=5), dpm.sample(plain, x, nfe=5), rtol=1e-12, atol=0)


def test_jax_takes_it() -> None:
    jax = pytest.importorskip("jax")
    steered = dpm.Denoiser(lambda x, t: 0.5 * x, SCHEDULE, guidance=Loss(lambda x0: (x0**2).sum(-1), 1.0))
    plan = dpm.make_plan("dpm++2m", SCHEDULE, 6)
    on_torch = dpm.sample(steered, torch.from_numpy(X_T).float(), plan=plan)
    np.testing.assert_allclose(
        dpm.sample(steered, jax.numpy.asarray(X_T, jax.numpy.float32), plan=plan), on_torch, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Loss(loss, np.inf), dpm.PlanError, "guidance scale must be finite"),
        (lambda: Loss(3.0, 1.0), TypeError, r"loss must be a function x_0 -> \(B,\), got float"),
        (lambda: Loss(loss, [1.0, 2.0]), dpm.PlanError, "3 samples, 2 numbers"),
        (
            lambda: Loss(lambda x0: x0, 1.0),
            ValueError,
            r"loss must return one number per sample, shape \(3,\), got \(3, 2\)",
        ),
        (lambda: Loss(lambda x0: loss(x0.detach()), 1.0), ValueError, "loss must be differentiable in x"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        dpm.sample(dpm.Denoiser(network, SCHEDULE, guidance=make()), torch.from_numpy(X_T), nfe=4)


def test_numpy_has_no_gradients() -> None:
    with pytest.raises(TypeError, match="NumPy has no automatic differentiation, which loss needs"):
        dpm.sample(dpm.Denoiser(network, SCHEDULE, guidance=Loss(loss, 1.0)), X_T, nfe=4)
