"""RK45 as a black box: right, counted, and with clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.errors import PlanError, SamplingError

VP = dpm.schedules.LinearVP()
MODEL = dpm.models.Gaussian(mean=[0.5, -0.3], variance=[0.5, 0.1])
X = np.random.default_rng(0).standard_normal((5, 2))


@pytest.mark.parametrize(
    ("schedule", "start", "end", "allowed"),
    [
        (VP, 1.0, 1e-3, 1e-4),
        (dpm.schedules.EDM(), 80.0, 0.002, 1e-4),
        (dpm.schedules.Flow(), 0.9, 1e-3, 1e-4),
        (dpm.schedules.CosineVP(), 0.99, 1e-3, 1e-4),
        (dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000)), 1.0, 1e-3, 2e-3),
        (VP, 1e-3, 0.9, 1e-4),
    ],
)
def test_rk45_follows_the_closed_form_to_its_tolerance(schedule: Any, start: float, end: float, allowed: float) -> None:
    """Gaussian data, every kind of schedule, both directions: the error is of the size of the tolerance, 1e-5 a step.

    More on a discrete schedule, whose log alpha has a kink at each of its knots that the error estimate does not see.
    """
    x = X * schedule.sigma(start)
    reached, _ = dpm.sample_rk45(MODEL.denoiser(schedule), x, start=start, end=end)
    np.testing.assert_allclose(reached, MODEL.trajectory(schedule, x, start, end), atol=allowed, rtol=allowed)


def test_its_evaluations_are_those_of_the_network_and_fall_with_the_tolerance() -> None:
    """nfe is the number of network calls, and a looser tolerance needs fewer."""
    calls = 0

    def network(x: Any, t: Any) -> Any:
        nonlocal calls
        calls += 1
        return np.tanh(x)

    denoiser = dpm.Denoiser(network, VP)
    spent = []
    for tolerance in (1e-6, 1e-2):
        calls = 0
        spent.append(dpm.sample_rk45(denoiser, X, rtol=tolerance, atol=tolerance).nfe)
        assert calls == spent[-1]
    assert spent[1] < spent[0]


def test_torch_states_come_back_as_torch() -> None:
    """Framework and type of x_T are kept; values agree with NumPy's."""
    x, nfe = dpm.sample_rk45(MODEL.denoiser(VP), torch.from_numpy(X))
    expected, expected_nfe = dpm.sample_rk45(MODEL.denoiser(VP), X)
    assert isinstance(x, torch.Tensor)
    assert nfe == expected_nfe
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtol": 0.0}, "rtol must be positive and finite, got 0"),
        ({"atol": float("nan")}, "atol must be positive and finite, got nan"),
        ({"start": 0.0, "end": 0.5}, "0 < alpha and 0 < sigma"),
        ({"start": 2.0}, "outside this schedule"),
    ],
)
def test_wrong_arguments_are_refused_before_any_evaluation(options: dict[str, float], message: str) -> None:
    """Each raises PlanError with its cause, and the network is not called."""
    denoiser = dpm.Denoiser(lambda x, t: pytest.fail("called"), VP)
    with pytest.raises(PlanError, match=message):
        dpm.sample_rk45(denoiser, X, **options)


def test_a_network_that_breaks_or_never_ends_stops_the_run() -> None:
    """NaN names the evaluation; a budget that is used up says so."""
    with pytest.raises(SamplingError, match="NaN or infinity at evaluation 1"):
        dpm.sample_rk45(dpm.Denoiser(lambda x, t: np.nan * x, VP), X)
    with pytest.raises(SamplingError, match="max_nfe=20"):
        dpm.sample_rk45(MODEL.denoiser(VP), X, max_nfe=20)
