"""A name of another package is its sampler: whole trajectories of k-diffusion and diffusers, and ComfyUI's steps by their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_labels, from_sigmas
from dpmsolver.phi import phi
from peers import (
    LINEAR,
    SCHEDULE,
    doubled,
    drawn,
    error,
    follow,
    network,
    normals,
    ours,
    peer,
    start,
    whole_steps,
)
from test_peers_k_diffusion import SCHEDULE as EDM
from test_peers_k_diffusion import denoised, karras, make, run, sampling  # noqa: F401 (a fixture)
from test_peers_sigmas import TIMES, edm_ours, edm_peer, ready, replace_noise
from test_peers_sigmas import follow as follow_sigmas
from test_peers_sigmas import run as run_sigmas

# (name, evaluations a step, whether it adds noise)
K_DIFFUSION = [
    ("euler", 1, False),
    ("euler_ancestral", 1, True),
    ("heun", 2, False),
    ("dpm_2", 2, False),
    ("dpm_2_ancestral", 2, True),
    ("lms", 1, False),
    ("dpmpp_2s_ancestral", 2, True),
    ("dpmpp_2m", 1, False),
    ("dpmpp_2m_sde", 1, True),
    ("dpmpp_3m_sde", 1, True),
]


@pytest.mark.parametrize("to_zero", [True, False])
@pytest.mark.parametrize(("name", "evaluations", "stochastic"), K_DIFFUSION)
def test_names_of_k_diffusion(sampling: Any, name: str, evaluations: int, stochastic: bool, to_zero: bool) -> None:  # noqa: F811
    """`sample_NAME` with its defaults is our plan of that name, to sigma = 0 and to a sigma above it, where last steps differ."""
    sigmas = karras(sampling, 10)
    nfe = evaluations * 9 + 1 if to_zero else evaluations * 9
    sigmas = sigmas if to_zero else sigmas[:-1]
    options = {"noise_sampler": drawn((evaluations * (i + 1) for i in range(10)), start())} if stochastic else {}
    expected = getattr(sampling, f"sample_{name}")(denoised, start(80.0), sigmas, disable=True, **options)
    assert error(run(make(name, sigmas, nfe)), expected) < 1e-9


@pytest.mark.parametrize("name", ["dpmpp_sde", "seeds_2"])
def test_dpmpp_sde_and_seeds_2(sampling: Any, name: str) -> None:  # noqa: F811
    """k-diffusion's DPM++ SDE; ComfyUI's seeds_2, which predicts data, is the same formula. Our `seeds-2` is the paper's, for noise."""
    sigmas = karras(sampling, 10)[:-1]
    plan = make(name, sigmas, 18)
    expected = sampling.sample_dpmpp_sde(
        denoised, start(80.0), sigmas, disable=True, noise_sampler=whole_steps(plan, start())
    )
    assert error(run(plan), expected) < 1e-9


def test_dpmpp_2m_sde_heun(sampling: Any) -> None:  # noqa: F811
    """ComfyUI's name for k-diffusion's solver_type="heun"."""
    sigmas = karras(sampling, 10)[:-1]
    noise = drawn(range(1, 10), start())
    expected = sampling.sample_dpmpp_2m_sde(
        denoised, start(80.0), sigmas, disable=True, noise_sampler=noise, solver_type="heun"
    )
    assert error(run(make("dpmpp_2m_sde_heun", sigmas, 9)), expected) < 1e-9


# ComfyUI's own, which is no package: each step written out from its formula, in lambda = -log sigma ------------------------------------


def steps_by_hand(step: Callable[..., torch.Tensor], sigmas: list[float]) -> torch.Tensor:
    """A run of `step(x, k, outputs)`, with outputs[0] the newest x_0, from start(80)."""
    x, outputs = start(80.0), []
    for k in range(len(sigmas) - 1):
        outputs.insert(0, denoised(x, torch.full((len(x),), sigmas[k], dtype=torch.float64)))
        x = step(x, k, outputs)
    return x


SIGMAS = [80.0, 31.0, 14.0, 5.0, 2.2, 0.9, 0.31, 0.08, 0.01]


def of(name: str, sigmas: list[float], nfe: int | None = None) -> torch.Tensor:
    return run(dpm.make_plan(name, EDM, nfe or len(sigmas) - 1, from_sigmas(EDM, np.array(sigmas))))


def test_res_multistep() -> None:
    """x <- e^{-h} x + h ((phi_1 - phi_2/c) m_k + (phi_2/c) m_{k-1}), c = (lambda_{k-1} - lambda_k)/h; order 1 at first and to 0."""
    for sigmas in (SIGMAS, [*SIGMAS, 0.0]):

        def step(x: torch.Tensor, k: int, m: list[torch.Tensor], sigmas: list[float] = sigmas) -> torch.Tensor:
            if k == 0 or sigmas[k + 1] == 0.0:
                return m[0] + sigmas[k + 1] / sigmas[k] * (x - m[0])
            h, c = math.log(sigmas[k] / sigmas[k + 1]), 0.0
            c = math.log(sigmas[k] / sigmas[k - 1]) / h
            second = phi(2, -h) / c
            return math.exp(-h) * x + h * ((phi(1, -h) - second) * m[0] + second * m[1])

        assert error(of("res_multistep", sigmas), steps_by_hand(step, sigmas)) < 1e-9


def test_ipndm() -> None:
    """Adams-Bashforth weights of equal steps on slopes (x - x_0)/sigma; the last step to sigma = 0 is named in docs/names.md."""
    weights = {1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
    slopes: list[torch.Tensor] = []

    def step(x: torch.Tensor, k: int, m: list[torch.Tensor]) -> torch.Tensor:
        slopes.insert(0, (x - m[0]) / SIGMAS[k])
        used = weights[min(k + 1, 4)]
        return x + (SIGMAS[k + 1] - SIGMAS[k]) * sum(w * d for w, d in zip(used, slopes, strict=False))

    assert error(of("ipndm", SIGMAS), steps_by_hand(step, SIGMAS)) < 1e-9


@pytest.mark.parametrize(("name", "eta"), [("exp_heun_2_x0", 0.0), ("exp_heun_2_x0_sde", 1.0)])
def test_exponential_heun(name: str, eta: float) -> None:
    """Euler to the end of the step, one draw of noise; then the line through both x_0: b_2 = phi_2, b_1 = phi_1 - phi_2."""

    def step(x: torch.Tensor, k: int, m: list[torch.Tensor]) -> torch.Tensor:
        h = math.log(SIGMAS[k] / SIGMAS[k + 1])
        long, state = h * (1.0 + eta), SIGMAS[k + 1] / SIGMAS[k] * math.exp(-h * eta)
        noise = SIGMAS[k + 1] * math.sqrt(-math.expm1(-2.0 * h * eta)) * normals(2 * k + 1, x)
        ahead = state * x + long * phi(1, -long) * m[0] + noise
        second = denoised(ahead, torch.full((len(x),), SIGMAS[k + 1], dtype=torch.float64))
        slope = long * phi(2, -long)
        return state * x + (long * phi(1, -long) - slope) * m[0] + slope * second + noise

    assert error(of(name, SIGMAS, 2 * len(SIGMAS) - 2), steps_by_hand(step, SIGMAS)) < 1e-9


def test_er_sde() -> None:
    """Its integrals are sums of 200 terms, ours are exact: the same but for 1e-3; ten times the terms, a tenth of it."""

    def scale(rho: Any) -> Any:
        return rho * (np.exp(rho**0.3) + 10.0)

    def result(terms: int) -> torch.Tensor:
        slopes: list[torch.Tensor] = []

        def step(x: torch.Tensor, k: int, m: list[torch.Tensor]) -> torch.Tensor:
            s, t = SIGMAS[k], SIGMAS[k + 1]
            ratio, rho = scale(t) / scale(s), t + np.arange(terms) * (s - t) / terms
            new = ratio * x + (1.0 - ratio) * m[0]
            if k >= 1:
                slopes.insert(0, (m[0] - m[1]) / (s - SIGMAS[k - 1]))
                new = new + (t - s + scale(t) * float((1.0 / scale(rho)).mean()) * (s - t)) * slopes[0]
            if k >= 2:
                bend = (slopes[0] - slopes[1]) / ((s - SIGMAS[k - 2]) / 2.0)
                new = new + ((t - s) ** 2 / 2.0 + scale(t) * float(((rho - s) / scale(rho)).mean()) * (s - t)) * bend
            return new + math.sqrt(t**2 - (ratio * s) ** 2) * normals(k + 1, x)

        return steps_by_hand(step, SIGMAS)

    plan = of("er_sde", SIGMAS)
    assert error(plan, result(200)) < 1e-3
    assert error(plan, result(2000)) < 0.15 * error(plan, result(200))


@pytest.mark.parametrize(("name", "variant"), [("uni_pc", "bh1"), ("uni_pc_bh2", "bh2")])
def test_uni_pc(name: str, variant: str) -> None:
    """ComfyUI has the official UniPC of order 3, as diffusers has with solver_order=3 (whose bh1 cannot go to sigma = 0)."""
    scheduler = diffusers.UniPCMultistepScheduler(
        **LINEAR, solver_order=3, solver_type=variant, final_sigmas_type="sigma_min"
    )
    x, labels = start(), doubled(scheduler, SCHEDULE.t_min)
    assert error(ours(name, labels, SCHEDULE.t_min, x), follow(scheduler, labels, x)) < 1e-9


# diffusers: every scheduler as it is made without options --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("steps", [5, 10, 20])
def test_names_of_diffusers_to_sigma_0(name: str, steps: int) -> None:
    scheduler, x = getattr(diffusers, name)(**LINEAR), start()
    scheduler.set_timesteps(steps)
    expected = follow(scheduler, scheduler.timesteps, x)
    assert error(ours(name, scheduler.timesteps, 0.0, x), expected) < 2e-5


def test_deis_of_diffusers() -> None:
    scheduler, x = diffusers.DEISMultistepScheduler(**LINEAR), start()
    labels = doubled(scheduler, SCHEDULE.t_min)
    assert error(ours("DEISMultistepScheduler", labels, SCHEDULE.t_min, x), follow(scheduler, labels, x)) < 1e-9


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler"])
def test_ddim_and_ddpm_of_diffusers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without their clipping of x_0, which is a hook of the denoiser here."""
    scheduler, x = getattr(diffusers, name)(**LINEAR, clip_sample=False), start()
    module = {"DDPMScheduler": "ddpm", "DDPMParallelScheduler": "ddpm_parallel"}.get(name)
    if module:
        replace_noise(monkeypatch, module, drawn(range(1, 10), x))
    expected = peer(scheduler, x)
    assert error(ours(name, scheduler.timesteps, 0.0, x), expected) < 2e-5


def test_pndm_and_ipndm_of_diffusers() -> None:
    """PNDMScheduler runs its Runge-Kutta steps unless told otherwise. IPNDMScheduler's "betas" are sigmas, and its network predicts v."""
    labels, x = torch.arange(900, -1, -100), start()
    scheduler = diffusers.PNDMScheduler(**LINEAR, set_alpha_to_one=True)
    expected = peer(scheduler, x)
    assert error(ours("PNDMScheduler", labels, 0.0, x, len(scheduler.timesteps)), expected) < 2e-5
    times = np.append(from_labels(SCHEDULE, labels.numpy()), 0.0)
    scheduler = diffusers.IPNDMScheduler(trained_betas=SCHEDULE.sigma(times).tolist())
    scheduler.set_timesteps(10)
    expected = x
    for k, t in enumerate(scheduler.timesteps):
        alpha, sigma = float(SCHEDULE.alpha(times[k])), float(SCHEDULE.sigma(times[k]))
        noise = network(expected, labels[k].expand(len(x)))
        expected = scheduler.step((noise - sigma * expected) / alpha, t, expected).prev_sample
    assert error(ours("IPNDMScheduler", labels, 0.0, x), expected) < 2e-5


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "module", "evaluations"),
    [
        ("LMSDiscreteScheduler", None, 1),
        ("EulerDiscreteScheduler", None, 1),
        ("HeunDiscreteScheduler", None, 2),
        ("KDPM2DiscreteScheduler", None, 2),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral_discrete", 1),
        ("KDPM2AncestralDiscreteScheduler", "k_dpm_2_ancestral_discrete", 2),
    ],
)
def test_names_of_diffusers_in_sigma(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str | None, evaluations: int
) -> None:
    x, theirs = start(), ready(name)
    if module:
        replace_noise(monkeypatch, module, drawn((evaluations * (i + 1) for i in range(10)), x))
    expected = follow_sigmas(theirs, x)
    assert error(run_sigmas(dpm.make_plan(name, SCHEDULE, len(theirs.timesteps), TIMES), x), expected) < 2e-5


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
def test_the_sde_scheduler_of_diffusers() -> None:
    x, theirs, nfe = start(), ready("DPMSolverSDEScheduler"), 18
    plan = dpm.make_plan("DPMSolverSDEScheduler", SCHEDULE, nfe, TIMES[:-1])
    theirs.noise_sampler = whole_steps(plan, x)
    assert error(run_sigmas(plan, x), follow_sigmas(theirs, x, nfe) * plan.end.alpha) < 2e-5


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_names_of_diffusers_for_edm(name: str) -> None:
    x, scheduler = start(80.0), getattr(diffusers, name)()
    expected = edm_peer(scheduler, x)
    assert error(edm_ours(name, scheduler.sigmas, x), expected) < 2e-5


def test_flow_match_euler_of_diffusers() -> None:
    """Euler in the velocity of a flow is DDIM: x + (s' - s) v with v = eps - x_0."""

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x.flip(1)) + 0.3 * torch.cos(3.0 * t.reshape(-1, 1))

    scheduler, x = diffusers.FlowMatchEulerDiscreteScheduler(), start()
    scheduler.set_timesteps(10)
    expected = x
    for s, t in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        expected = scheduler.step(velocity(expected, s.double().expand(len(x))), t, expected).prev_sample
    flow = dpm.schedules.Flow()
    plan = dpm.make_plan("FlowMatchEulerDiscreteScheduler", flow, 10, scheduler.sigmas.double().numpy())
    result = dpm.sample(dpm.Denoiser(velocity, flow, "velocity"), x, plan=plan)
    assert error(result, expected.double()) < 2e-5


def test_schedulers_of_cogvideox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without their shift of the noise levels and their clipping: DDIM, and DPM++ 2M SDE with the x_0 of the step before."""
    plain = {**LINEAR, "snr_shift_scale": 1.0, "clip_sample": False}
    scheduler, x = diffusers.CogVideoXDDIMScheduler(**plain), start()
    expected = peer(scheduler, x)
    assert error(ours("CogVideoXDDIMScheduler", scheduler.timesteps, 0.0, x), expected) < 2e-5
    scheduler = diffusers.CogVideoXDPMScheduler(**plain)
    replace_noise(monkeypatch, "dpm_cogvideox", drawn([k for k in range(1, 11) for _ in range(1 + (1 < k < 10))], x))
    scheduler.set_timesteps(10)
    labels, expected, old = scheduler.timesteps, x, None
    for k, t in enumerate(labels):
        back = labels[k - 1] if k else None
        noise = network(expected, t.expand(len(x)))
        expected, old = scheduler.step(noise, old, t, back, expected)
    assert error(ours("CogVideoXDPMScheduler", labels, 0.0, x), expected) < 2e-5


def test_flow_match_lcm_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state drawn anew from every x_0, in float32."""
    scheduler, x = diffusers.FlowMatchLCMScheduler(), start()
    scheduler.set_timesteps(10)
    replace_noise(monkeypatch, "flow_match_lcm", drawn(range(1, 11), x))
    expected = x
    for s, t in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        expected = scheduler.step(network(expected, 1000 * s.double().expand(len(x))), t, expected).prev_sample
    flow = dpm.schedules.Flow()
    plan = dpm.make_plan("FlowMatchLCMScheduler", flow, 10, scheduler.sigmas.double().numpy())
    denoiser = dpm.Denoiser(lambda x, t: network(x, 1000 * t), flow, "velocity")
    result = dpm.sample(denoiser, x, plan=plan, generator=5, noise="host")
    assert error(result, expected.double()) < 1e-5
