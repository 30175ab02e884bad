"""`Denoiser.at`: a denoiser evaluated by hand, in any form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.networks.guidance import Classifier, ClassifierFree

torch = pytest.importorskip("torch")

FORMS = ("noise", "data", "v", "score", "velocity")
VP, EDM, FLOW = dpm.schedules.LinearVP(), dpm.schedules.EDM(), dpm.schedules.Flow()
MODEL = dpm.models.Gaussian(mean=[0.7, -0.4], variance=[0.3, 1.2])
X = dpm.initial_noise(VP, (5, 2), seed=3)


def in_form(name: str, x: Any, x0: Any, alpha: float, sigma: float) -> Any:
    eps = (x - alpha * x0) / sigma
    return {
        "noise": eps,
        "data": x0,
        "v": alpha * eps - sigma * x0,
        "score": -eps / sigma,
        "velocity": eps - x0,
    }[name]


@pytest.mark.parametrize("wanted", FORMS)
@pytest.mark.parametrize("predicts", FORMS)
@pytest.mark.parametrize(("schedule", "t"), [(VP, 0.4), (EDM, 3.0), (FLOW, 0.6)], ids=["vp", "edm", "flow"])
def test_every_form_of_every_network(schedule: Any, t: float, predicts: str, wanted: str) -> None:
    """Whatever a network predicts, `at` gives what the closed form says, to 1e-10."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    exact = in_form(wanted, X, MODEL.predict_data(X, alpha, sigma), alpha, sigma)
    np.testing.assert_allclose(MODEL.denoiser(schedule, predicts).at(X, t, wanted), exact, rtol=1e-10, atol=1e-10)


def test_one_time_per_sample_is_one_call_and_what_each_gives_alone() -> None:
    denoiser, times = MODEL.denoiser(VP, "noise"), [0.1, 0.3, 0.5, 0.7, 1.0]
    together = denoiser.at(X, times, "v")
    alone = [denoiser.at(X[i : i + 1], t, "v")[0] for i, t in enumerate(times)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    np.testing.assert_allclose(denoiser.at(torch.from_numpy(X), torch.tensor(times), "v"), together, rtol=1e-6)


@pytest.mark.parametrize("t", [0.4, [0.4] * 5], ids=["one time", "one per sample"])
@pytest.mark.parametrize("wanted", FORMS)
def test_guidance_and_the_hook_are_included(wanted: str, t: Any) -> None:
    """Classifier-free guidance, classifier guidance and the data hook act as they do in a run, in every form."""
    alpha, sigma = VP.alpha(0.4), VP.sigma(0.4)

    def network(x: Any, t: Any, y: Any) -> Any:
        return 0.2 * x + y[:, None]

    free = ClassifierFree(3.0, {"y": np.full(5, 0.5)}, {"y": np.zeros(5)})
    found = dpm.Denoiser(network, VP, "data", guidance=free).at(X, t, wanted)
    np.testing.assert_allclose(found, in_form(wanted, X, 0.2 * X + 1.5, alpha, sigma), rtol=1e-10, atol=1e-12)

    steering = Classifier(2.0, gradient=lambda x, t: -x)
    found = MODEL.denoiser(VP, "noise").replace(guidance=steering).at(X, t, wanted)
    moved = MODEL.predict_data(X, alpha, sigma) + sigma**2 / alpha * 2.0 * -X
    np.testing.assert_allclose(found, in_form(wanted, X, moved, alpha, sigma), rtol=1e-10, atol=1e-12)

    found = MODEL.denoiser(VP, "v").replace(data_hook=lambda x0, point: np.clip(x0, -0.1, 0.1)).at(X, t, wanted)
    clipped = np.clip(MODEL.predict_data(X, alpha, sigma), -0.1, 0.1)
    np.testing.assert_allclose(found, in_form(wanted, X, clipped, alpha, sigma), rtol=1e-10, atol=1e-12)


def test_gradients_are_recorded_where_the_state_requires_them_and_not_otherwise() -> None:
    """The weights of a network leave no graph behind; a state that requires gradients gets them, even in half precision."""
    layer = torch.nn.Linear(2, 2, bias=False)
    denoiser = dpm.Denoiser(lambda x, t: layer(x), VP, "data")
    x = torch.from_numpy(X).float()
    assert not denoiser.at(x, 0.4).requires_grad
    wanted = x.clone().requires_grad_(True)
    denoiser.at(wanted, 0.4, "noise").sum().backward()
    alpha, sigma = VP.alpha(0.4), VP.sigma(0.4)
    expected = (1.0 - alpha * layer.weight.sum(dim=0)) / sigma
    torch.testing.assert_close(wanted.grad, expected.expand(5, 2), rtol=1e-5, atol=1e-6)
    half = x.half().requires_grad_(True)
    denoiser.at(half, [0.4] * 5, "noise").sum().backward()
    assert half.grad is not None
    with torch.no_grad():
        assert not denoiser.at(wanted, 0.4).requires_grad


def test_the_state_is_not_changed_by_a_network_that_writes_into_its_input() -> None:
    def network(x: Any, t: Any) -> Any:
        x *= 0.0
        return x

    before, x = X.copy(), X.copy()
    dpm.Denoiser(network, VP, "data").at(x, 0.4)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("t", "wanted", "message"),
    [
        (0.0, "data", "t=0 is clean data"),
        (1.5, "data", "time 1.5 is outside this schedule"),
        ([0.1, 0.2], "data", r"one per sample \(5\), got shape \(2,\)"),
        (0.4, "nois", "did you mean 'noise'"),
    ],
)
def test_what_does_not_fit_is_refused(t: Any, wanted: Any, message: str) -> None:
    def network(x: Any, t: Any) -> Any:
        raise AssertionError("refused before the network is called")

    with pytest.raises(dpm.PlanError, match=message):
        dpm.Denoiser(network, VP).at(X, t, wanted)


def test_pure_noise_is_a_limit_where_the_answer_exists() -> None:
    """At alpha = 0 a velocity gives the data; noise does not, and says so."""
    found = MODEL.denoiser(FLOW, "velocity").at(X, 1.0, "data")
    np.testing.assert_allclose(found, np.broadcast_to([0.7, -0.4], X.shape), atol=1e-12)
    with pytest.raises(dpm.PlanError, match="does not determine data at alpha=0"):
        dpm.Denoiser(lambda x, t: x, FLOW, "noise").at(X, 1.0, "data")
