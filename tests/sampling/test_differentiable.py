"""Gradients through a whole run: to x_T, to the weights, to the condition; with and without checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import UNCALIBRATED, a_budget

torch = pytest.importorskip("torch")

SCHEDULE = dpm.schedules.LinearVP()
X_T = np.random.default_rng(0).standard_normal((3, 2))


class Net(torch.nn.Module):
    """A small smooth network with a condition; it counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.calls = torch.nn.Linear(2, 2).double(), 0

    def forward(self, x: Any, t: Any, shift: Any = 0.0) -> Any:
        self.calls += 1
        return 0.3 * torch.tanh(self.layer(x) + shift) + 0.1 * t[:, None]


def loss(x_T: Any, denoiser: dpm.Denoiser, plan: dpm.Plan, **options: Any) -> Any:
    return (dpm.sample(denoiser, x_T, plan=plan, generator=1, differentiable=True, **options) ** 2).sum()


@pytest.mark.parametrize("name", UNCALIBRATED)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Every ODE solver, and with fixed noise every SDE solver, in float64 to 1e-6; the run equals the plain one to rounding."""
    net, plan = Net(), dpm.make_plan(name, SCHEDULE, a_budget(UNCALIBRATED[name]))
    denoiser, direction = dpm.Denoiser(net, SCHEDULE), np.random.default_rng(1).standard_normal(X_T.shape)
    x_T = torch.tensor(X_T, requires_grad=True)
    plain = dpm.sample(denoiser, x_T, plan=plan, generator=1)
    assert not plain.requires_grad
    recorded = dpm.sample(denoiser, x_T, plan=plan, generator=1, differentiable=True)
    torch.testing.assert_close(recorded.detach(), plain, rtol=1e-11, atol=1e-12)
    (gradient,) = torch.autograd.grad((recorded**2).sum(), x_T)
    with torch.no_grad():
        ahead, behind = (
            (dpm.sample(denoiser, torch.tensor(X_T + s * direction), plan=plan, generator=1) ** 2).sum()
            for s in (1e-6, -1e-6)
        )
    along = float((gradient * torch.tensor(direction)).sum())
    assert along == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6, abs=1e-6)


def test_gradients_reach_weights_and_condition_and_checkpoints_change_nothing() -> None:
    """x_T alone, or the weights alone, or the condition alone may require them; with checkpoints the network runs twice."""
    net, plan = Net(), dpm.make_plan("dpm++2m", SCHEDULE, 6)
    shift, x_T = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True), torch.tensor(X_T)
    denoiser = dpm.Denoiser(net, SCHEDULE, network_kwargs={"shift": shift})
    wanted = [*net.parameters(), shift]
    plain = torch.autograd.grad(loss(x_T, denoiser, plan), wanted)
    assert all(float(abs(g).max()) > 0 for g in plain)
    net.calls = 0
    saved = torch.autograd.grad(loss(x_T, denoiser, plan, checkpoint=True), wanted)
    assert net.calls == 12
    for a, b in zip(plain, saved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    net.requires_grad_(False)
    (of_shift,) = torch.autograd.grad(loss(x_T, denoiser, plan), shift)
    torch.testing.assert_close(of_shift, plain[-1], rtol=1e-12, atol=0)


def test_guidance_and_hooks_pass_gradients_on() -> None:
    net = Net()
    half = {"shift": torch.full((3, 2), 0.5, dtype=torch.float64)}
    denoiser = dpm.Denoiser(
        net,
        SCHEDULE,
        guidance=dpm.guidance.ClassifierFree(2.0, half, {"shift": 0.0 * half["shift"]}),
        data_hook=lambda x0, point: torch.tanh(x0),
    )
    plan, x_T = dpm.make_plan("dpm++2m", SCHEDULE, 5), torch.tensor(X_T, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(x_T, denoiser, plan), x_T)
    (hooked,) = torch.autograd.grad(loss(x_T, denoiser, plan, state_hook=lambda x, point: 1.0 * x), x_T)
    torch.testing.assert_close(hooked, gradient)
    step = torch.zeros_like(x_T)
    step[1, 0] = 1e-6
    with torch.no_grad():
        ends = [(dpm.sample(denoiser, x, plan=plan, generator=1) ** 2).sum() for x in (x_T.detach() + step, x_T - step)]
    assert float(gradient[1, 0]) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_callbacks_see_copies_that_record_nothing() -> None:
    states: list[dpm.State] = []
    x_T = torch.tensor(X_T, requires_grad=True)
    dpm.sample(dpm.Denoiser(Net(), SCHEDULE), x_T, nfe=3, differentiable=True, callback=states.append)
    assert [state.index for state in states] == [0, 1, 2, 3]
    assert not any(state.x.requires_grad or state.denoised.requires_grad for state in states)


def test_a_generator_is_drawn_from_once_and_a_start_far_off_is_told() -> None:
    """A Generator in one state gives the plain run's noise; a start of another size warns as in the plain run."""
    denoiser, plan = dpm.Denoiser(Net(), SCHEDULE), dpm.make_plan("dpm++2m-sde", SCHEDULE, 6)
    plain, recorded = (
        dpm.sample(denoiser, torch.tensor(X_T), plan=plan, generator=torch.Generator().manual_seed(4), **options)
        for options in ({}, {"differentiable": True})
    )
    torch.testing.assert_close(recorded.detach(), plain, rtol=1e-11, atol=1e-12)
    with pytest.warns(dpm.ConventionWarning, match="standard deviation"):
        dpm.sample(denoiser, torch.randn(100, 2, dtype=torch.float64) * 1e-3, nfe=2, differentiable=True)


def test_what_cannot_be_recorded_is_refused() -> None:
    net, x_T = Net(), torch.tensor(X_T, requires_grad=True)
    denoiser = dpm.Denoiser(net, SCHEDULE)
    with pytest.raises(TypeError, match="needs a framework that records, got ndarray: give a torch tensor"):
        dpm.sample(denoiser.replace(network=lambda x, t: x), X_T, nfe=3, differentiable=True)
    with pytest.raises(dpm.PlanError, match="checkpoint=True saves memory of a differentiable run"):
        dpm.sample(denoiser, x_T, nfe=3, checkpoint=True)
    closed = denoiser.replace(network=torch.no_grad()(net.forward))
    with pytest.raises(dpm.PlanError, match="the network's output records no gradient"):
        dpm.sample(closed, x_T, nfe=3, differentiable=True)
