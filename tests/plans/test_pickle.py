"""What a run is made of can be sent to another process, also after it was used."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import network

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
X_T = dpm.initial_noise(VP, (2, 3), seed=1)


class Model(torch.nn.Module):
    """A model of diffusers, as far as its adapter looks."""

    dtype = torch.float64

    def forward(self, x: Any, t: Any, return_dict: bool = False) -> tuple[Any]:
        return (0.3 * x + t[:, None],)


def raw(x: Any, t: Any) -> Any:
    return 0.3 * x


def copied(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("hook", [dpm.thresholding.dynamic(0.9, 0.5), dpm.thresholding.static(0.5)])
def test_thresholding_hooks(hook: Any) -> None:
    """Equal to the first, and they do the same."""
    assert copied(hook) == hook
    np.testing.assert_array_equal(copied(hook)(X_T, None), hook(X_T, None))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_networks_of_edm_configs(prediction: str) -> None:
    """The adapter's preconditioned network, with either sign of its model."""
    config = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "prediction_type": prediction}
    made, x, sigma = network(Model(), config), torch.from_numpy(X_T), torch.tensor([0.5, 7.0], dtype=torch.float64)
    assert torch.equal(copied(made)(x, sigma), made(x, sigma))


def test_preconditioned_networks_and_denoisers() -> None:
    """A denoiser of functions of a module, with guidance, hooks and preconditioning, samples the same afterwards."""
    denoiser = dpm.Denoiser(
        dpm.edm_preconditioned(raw),
        dpm.schedules.EDM(),
        "data",
        guidance=dpm.guidance.Classifier([1.0, 0.5], gradient=raw),
        data_hook=dpm.thresholding.dynamic(),
    )
    np.testing.assert_array_equal(dpm.sample(copied(denoiser), X_T, nfe=5), dpm.sample(denoiser, X_T, nfe=5))


def test_used_plans() -> None:
    """A plan that ran with a schedule of lambdas is the same plan in the other process, and runs there."""
    schedule = dpm.schedules.Custom(alpha=lambda t: math.cos(t), sigma=lambda t: math.sin(t), t_min=1e-3, t_max=1.5)
    denoiser = dpm.Denoiser(raw, schedule)
    plan = dpm.make_plan("dpm++2m", schedule, 5, "time")
    x = dpm.sample(denoiser, X_T, plan=plan)
    again = copied(plan)
    assert again == plan
    assert (again.schedule, again.grid, again.options) == (plan.schedule, plan.grid, plan.options)
    assert again.table() == plan.table()
    np.testing.assert_array_equal(dpm.sample(denoiser, X_T, plan=again), x)
