"""Whole trajectories against diffusers' solvers in sigma, whose state is x/alpha: LMS, Heun, Euler, DPM2, DPM++ SDE, and EDM's two.

These schedulers place stages between the training steps. So the network here is a function of the state of variance 1, which
`scale_model_input` makes, and of its alpha, which the same function gives away: both of us mean the same place, whatever its label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_sigmas
from dpmsolver.networks.preconditioning import edm_preconditioned
from peers import LINEAR, SCHEDULE, SEED, STEPS, drawn, error, normals, start, times_of, whole_steps

# diffusers' KDPM2 schedulers hand torch tensors to numpy functions, in a way that numpy 2 is leaving.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")

CHURN = {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 100.0}


def network(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Smooth in x and in alpha, and of the size of a noise."""
    level = alpha.double().reshape(-1, 1)
    return 0.8 * torch.tanh(x + level) + 0.3 * torch.cos(3 * level + x.flip(1))


def run(plan: dpm.Plan, x: torch.Tensor) -> torch.Tensor:
    def alpha(label: float) -> float:
        return float(SCHEDULE.alpha(SCHEDULE.time_from_label(label)))

    return dpm.sample(dpm.Denoiser(network, SCHEDULE, time_label=alpha), x, plan=plan, generator=SEED, noise="host")


def ready(name: str) -> Any:
    """A scheduler on trailing steps, which are integers and start at the last."""
    scheduler = getattr(diffusers, name)(**LINEAR, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    return scheduler


LABELS = torch.arange(999, 0, -100)
TIMES = times_of(LABELS, 0.0)


def follow(scheduler: Any, x: torch.Tensor, evaluations: int | None = None, **options: Any) -> torch.Tensor:
    """The peer's samples for a start of variance 1; after fewer evaluations, its state over alpha."""
    x = x / SCHEDULE.alpha(TIMES[0])
    for t in scheduler.timesteps[:evaluations]:
        alpha = scheduler.scale_model_input(torch.ones(len(x), dtype=torch.float64), t)
        x = scheduler.step(network(scheduler.scale_model_input(x, t), alpha), t, x, **options).prev_sample
    return x


def replace_noise(monkeypatch: pytest.MonkeyPatch, module: str, source: Callable[..., torch.Tensor]) -> None:
    monkeypatch.setattr(f"diffusers.schedulers.scheduling_{module}.randn_tensor", source)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_equals_that_of_diffusers(order: int) -> None:
    """LMSDiscreteScheduler, at full order down to sigma = 0."""
    x = start()
    expected = follow(ready("LMSDiscreteScheduler"), x, order=order)
    full = {"lower_order_final": False} if order > 1 else {}
    plan = dpm.make_plan(f"lms-{order}", SCHEDULE, STEPS, TIMES, **full)
    assert error(run(plan, x), expected) < 2e-5


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("heun", "HeunDiscreteScheduler"), ("dpm2", "KDPM2DiscreteScheduler"), ("euler", "EulerDiscreteScheduler")],
)
def test_solvers_in_sigma_equal_those_of_diffusers(name: str, scheduler: str) -> None:
    """Heun, DPM2 and Euler; the first two end in an Euler step to sigma = 0."""
    x, theirs = start(), ready(scheduler)
    expected = follow(theirs, x)
    assert len(theirs.timesteps) == (STEPS if name == "euler" else 2 * STEPS - 1)
    assert error(run(dpm.make_plan(name, SCHEDULE, len(theirs.timesteps), TIMES), x), expected) < 2e-5


@pytest.mark.parametrize(
    ("name", "scheduler", "module", "evaluations"),
    [
        ("euler-ancestral", "EulerAncestralDiscreteScheduler", "euler_ancestral_discrete", 1),
        ("dpm2-ancestral", "KDPM2AncestralDiscreteScheduler", "k_dpm_2_ancestral_discrete", 2),
    ],
)
def test_ancestral_trajectories_equal_those_of_diffusers(
    monkeypatch: pytest.MonkeyPatch, name: str, scheduler: str, module: str, evaluations: int
) -> None:
    """EulerAncestralDiscreteScheduler and KDPM2AncestralDiscreteScheduler (eta is 1), with our draws."""
    x, theirs = start(), ready(scheduler)
    replace_noise(monkeypatch, module, drawn((evaluations * (i + 1) for i in range(STEPS)), x))
    expected = follow(theirs, x)
    assert error(run(dpm.make_plan(name, SCHEDULE, len(theirs.timesteps), TIMES), x), expected) < 2e-5


def test_dpmpp_sde_equals_that_of_diffusers() -> None:
    """DPMSolverSDEScheduler down to the last sigma above 0, on one Brownian path: a whole step's noise combines ours over both halves."""
    x, theirs, nfe = start(), ready("DPMSolverSDEScheduler"), 2 * STEPS - 2
    plan = dpm.make_plan("dpm++sde", SCHEDULE, nfe, TIMES[:-1])
    theirs.noise_sampler = whole_steps(plan, x)
    expected = follow(theirs, x, nfe) * plan.end.alpha
    assert error(run(plan, x), expected) < 2e-5


def churned(scheduler: Any, x: torch.Tensor, inputs: Callable[..., torch.Tensor]) -> torch.Tensor:
    """A churned run of EulerDiscreteScheduler: `inputs(x, sigma, raised sigma, step)` is what the network is asked at, over alpha."""
    x = x / SCHEDULE.alpha(TIMES[0])
    factor = 1.0 + CHURN["s_churn"] / STEPS
    for k, t in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[k])
        seen, at = inputs(x, sigma, sigma * factor if CHURN["s_tmin"] <= sigma <= CHURN["s_tmax"] else sigma, k)
        alpha = (1.0 + at**2) ** -0.5
        scheduler.scale_model_input(x, t)
        output = network(seen * alpha, torch.full((len(x),), alpha, dtype=torch.float64))
        x = scheduler.step(output, t, x, **CHURN).prev_sample
    return x


def test_churn_of_diffusers_asks_the_network_before_the_noise_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """EDM's algorithm 2 raises the state's noise and evaluates there; a pipeline evaluates first, and `step` adds the noise afterwards.

    With the output taken at the raised state, the same noise in it, EulerDiscreteScheduler's run is ours.
    """

    def draws() -> Callable[..., torch.Tensor]:
        # Only churned steps draw; ours adds the noise of step i in row i - 1, which draws for interval i.
        levels = SCHEDULE.sigma(TIMES[:-1]) / SCHEDULE.alpha(TIMES[:-1])
        return drawn((k for k in range(STEPS) if CHURN["s_tmin"] <= levels[k] <= CHURN["s_tmax"]), x)

    def raised(state: torch.Tensor, sigma: float, higher: float, k: int) -> tuple[torch.Tensor, float]:
        return state + math.sqrt(max(higher**2 - sigma**2, 0.0)) * normals(k, x), higher

    x = start()
    plan = dpm.make_plan("euler", SCHEDULE, STEPS, TIMES, **CHURN)
    assert plan.stochastic
    result = run(plan, x)
    replace_noise(monkeypatch, "euler_discrete", draws())
    before = churned(ready("EulerDiscreteScheduler"), x, lambda state, sigma, higher, k: (state, sigma))
    assert error(result, before) > 1e-3
    replace_noise(monkeypatch, "euler_discrete", draws())
    assert error(result, churned(ready("EulerDiscreteScheduler"), x, raised)) < 2e-5


EDM = dpm.schedules.EDM()


def raw(x: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """A network inside EDM's preconditioning."""
    level = log_sigma.double().reshape(-1, 1)
    return 0.8 * torch.tanh(x + level) + 0.3 * torch.cos(3 * level + x.flip(1))


def edm_ours(name: str, sigmas: torch.Tensor, x: torch.Tensor, **options: Any) -> torch.Tensor:
    grid = sigmas.double().numpy()
    grid[0] = 80.0
    plan = dpm.make_plan(name, EDM, len(grid) - 1, from_sigmas(EDM, np.where(grid > 0, grid.clip(0.002), 0)), **options)
    return dpm.sample(
        dpm.Denoiser(edm_preconditioned(raw), EDM, predicts="data"), x, plan=plan, generator=SEED, noise="host"
    )


def edm_peer(scheduler: Any, x: torch.Tensor) -> torch.Tensor:
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        output = raw(scheduler.scale_model_input(x, t), t.expand(len(x)))
        x = scheduler.step(output, t, x).prev_sample
    return x


@pytest.mark.parametrize("sigma_schedule", ["karras", "exponential"])
def test_edm_euler_equals_that_of_diffusers(sigma_schedule: str) -> None:
    """EDMEulerScheduler, with its preconditioning for our own."""
    x, scheduler = start(80.0), diffusers.EDMEulerScheduler(sigma_schedule=sigma_schedule)
    expected = edm_peer(scheduler, x)
    assert error(edm_ours("euler", scheduler.sigmas, x), expected) < 2e-5


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dpm++2m", {"solver_order": 2, "solver_type": "midpoint"}),
        ("dpm++2m-exact", {"solver_order": 2, "solver_type": "heun"}),
        ("dpm++3m", {"solver_order": 3}),
        ("dpm++2m-sde", {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
    ],
)
def test_edm_multistep_equals_that_of_diffusers(
    monkeypatch: pytest.MonkeyPatch, name: str, config: dict[str, Any]
) -> None:
    """EDMDPMSolverMultistepScheduler on Karras' sigmas to sigma = 0, with its preconditioning for our own."""
    x, scheduler = start(80.0), diffusers.EDMDPMSolverMultistepScheduler(**config)
    replace_noise(monkeypatch, "edm_dpmsolver_multistep", drawn(range(1, STEPS + 1), x))
    expected = edm_peer(scheduler, x)
    assert error(edm_ours(name, scheduler.sigmas, x), expected) < 2e-5
