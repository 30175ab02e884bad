"""Whole trajectories against k-diffusion's samplers, in float64, its noise being ours.

k-diffusion's package imports torchvision, wandb and more, none of which its samplers use: its `sampling` module is loaded alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_sigmas
from dpmsolver.plans import Row
from dpmsolver.plans.plan import Point
from dpmsolver.solvers import exponential_step
from peers import SEED, drawn, error, normals, start, whole_steps

SCHEDULE = dpm.schedules.EDM()


@pytest.fixture(scope="module")
def sampling() -> Iterator[Any]:
    """`k_diffusion.sampling`, beside a package and a `utils` that hold only what it uses."""
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = list(spec.submodule_search_locations or [])
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    names = ("k_diffusion", "k_diffusion.utils", "k_diffusion.sampling")
    sys.modules["k_diffusion"], sys.modules["k_diffusion.utils"] = package, utils
    yield importlib.import_module("k_diffusion.sampling")
    for name in names:
        sys.modules.pop(name, None)


def denoised(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """An arbitrary smooth denoiser, bounded as data are."""
    level = sigma.log().reshape(-1, 1)
    return torch.tanh(x / (1 + sigma.reshape(-1, 1)) + 0.1 * level) * (0.8 + 0.1 * torch.cos(level + x.flip(1)))


def run(plan: dpm.Plan) -> torch.Tensor:
    return dpm.sample(
        dpm.Denoiser(denoised, SCHEDULE, predicts="data"), start(80.0), plan=plan, generator=SEED, noise="host"
    )


def make(name: str, sigmas: torch.Tensor, nfe: int, **options: Any) -> dpm.Plan:
    return dpm.make_plan(name, SCHEDULE, nfe, from_sigmas(SCHEDULE, sigmas.numpy()), **options)


def ours(name: str, sigmas: torch.Tensor, nfe: int, **options: Any) -> torch.Tensor:
    return run(make(name, sigmas, nfe, **options))


def assert_equal(result: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    assert error(result, expected) < tolerance


def karras(sampling: Any, steps: int) -> torch.Tensor:
    sigmas: torch.Tensor = sampling.get_sigmas_karras(steps, 0.002, 80.0).double()
    sigmas[0], sigmas[-2] = 80.0, 0.002
    return sigmas


@pytest.mark.parametrize(
    ("name", "function"), [("ddim", "sample_euler"), ("euler", "sample_euler"), ("dpm++2m", "sample_dpmpp_2m")]
)
def test_multistep_trajectories_equal_those_of_k_diffusion(sampling: Any, name: str, function: str) -> None:
    """On Karras' sigmas down to 0: Euler is DDIM, DPM++ 2M is dpm++2m."""
    sigmas = karras(sampling, 10)
    expected = getattr(sampling, function)(denoised, start(80.0), sigmas, disable=True)
    assert_equal(ours(name, sigmas, 10), expected)


def test_2s_trajectories_equal_those_of_k_diffusion(sampling: Any) -> None:
    """DPM++ 2S ancestral without its noise is dpm++2s."""
    sigmas = karras(sampling, 10)[:-1]
    expected = sampling.sample_dpmpp_2s_ancestral(denoised, start(80.0), sigmas, disable=True, eta=0.0)
    assert_equal(ours("dpm++2s", sigmas, 18), expected)


@pytest.mark.parametrize("nfe", [9, 10, 11])
def test_dpm_fast_equals_that_of_k_diffusion(sampling: Any, nfe: int) -> None:
    """Steps of order 3, 2 and 1 where the paper puts them, for every remainder of the budget (its times are float32)."""
    expected = sampling.sample_dpm_fast(denoised, start(80.0), 0.002, 80.0, nfe, disable=True)
    assert_equal(run(dpm.make_plan("dpm-fast", SCHEDULE, nfe, end=0.002)), expected, 2e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_equals_that_of_k_diffusion(sampling: Any, order: int) -> None:
    """Its coefficients come from numerical quadrature, ours are the integrals; the last step, to sigma = 0, is of full order."""
    sigmas = karras(sampling, 10)
    expected = sampling.sample_lms(denoised, start(80.0), sigmas, disable=True, order=order)
    full = {"lower_order_final": False} if order > 1 else {}
    assert_equal(ours(f"lms-{order}", sigmas, 10, **full), expected, 1e-9)
    if order > 1:
        assert_equal(ours(f"ipndm-v-{order}", sigmas, 10, lower_order_final=False), expected, 1e-9)


@pytest.mark.parametrize(
    ("name", "function", "evaluations"),
    [("euler", "sample_euler", 1), ("heun", "sample_heun", 2), ("dpm2", "sample_dpm_2", 2)],
)
@pytest.mark.parametrize(("s_churn", "s_noise"), [(0.0, 1.003), (2.0, 1.0), (40.0, 1.0), (40.0, 1.003), (2.0, 0.0)])
def test_churned_trajectories_equal_those_of_k_diffusion(
    sampling: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    function: str,
    evaluations: int,
    s_churn: float,
    s_noise: float,
) -> None:
    """Algorithm 2 of EDM, with no churn, some, and its maximum (sqrt 2 - 1 a step), between two sigmas; the last step is Euler's.

    Its S_noise too: 1.003 is the paper's for ImageNet (table 5).

    What k-diffusion adds before a step we add at the end of the one before, so its step i takes the draw of our row evaluations i - 1.
    """
    sigmas, churn = karras(sampling, 10), {"s_churn": s_churn, "s_tmin": 0.01, "s_tmax": 70.0, "s_noise": s_noise}
    monkeypatch.setattr(torch, "randn_like", drawn((evaluations * i for i in range(10)), start()))
    expected = getattr(sampling, function)(denoised, start(80.0), sigmas, disable=True, **churn)
    assert_equal(ours(name, sigmas, 10 * evaluations - evaluations + 1, **churn), expected, 1e-9)


def test_churn_of_the_first_step_is_the_only_difference(sampling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """k-diffusion (and EDM's own code) raises the first sigma above the one that x_T has; ours takes x_T as it is.

    Started at the raised sigma, with its noise already in x_T, our run is theirs.
    """
    sigmas = karras(sampling, 10)[1:]  # so that the raised sigma lies on the schedule
    factor = math.sqrt(2.0)  # s_churn / 9 is above its maximum
    monkeypatch.setattr(torch, "randn_like", drawn(range(10), start()))
    x = start(float(sigmas[0]))
    expected = sampling.sample_euler(denoised, x, sigmas, disable=True, s_churn=20.0)
    raised = sigmas.clone()
    raised[0] *= factor
    noised = x + math.sqrt(factor**2 - 1.0) * sigmas[0] * normals(0, x)
    denoiser = dpm.Denoiser(denoised, SCHEDULE, predicts="data")
    plain = dpm.sample(denoiser, x, plan=make("euler", sigmas, 9, s_churn=20.0), generator=SEED, noise="host")
    assert error(plain, expected) > 1e-3
    assert_equal(
        dpm.sample(denoiser, noised, plan=make("euler", raised, 9, s_churn=20.0), generator=SEED, noise="host"),
        expected,
    )


@pytest.mark.parametrize(
    ("name", "function", "evaluations"),
    [
        ("euler-ancestral", "sample_euler_ancestral", 1),
        ("ddim", "sample_euler_ancestral", 1),
        ("dpm2-ancestral", "sample_dpm_2_ancestral", 2),
        ("dpm++2s-ancestral", "sample_dpmpp_2s_ancestral", 2),
    ],
)
@pytest.mark.parametrize(("eta", "s_noise"), [(0.0, 1.003), (0.5, 1.0), (1.0, 1.0), (1.0, 1.003)])
def test_ancestral_trajectories_equal_those_of_k_diffusion(
    sampling: Any, name: str, function: str, evaluations: int, eta: float, s_noise: float
) -> None:
    """Steps to sigma_down and noise back, at every strength; the last step, to sigma = 0, has one evaluation. DDIM's eta is the same."""
    sigmas = karras(sampling, 10)
    noise = drawn((evaluations * (i + 1) for i in range(9)), start())
    if name == "ddim":  # which has no s_noise
        s_noise = 1.0
    scaled = {} if s_noise == 1.0 else {"s_noise": s_noise}
    options = {"eta": eta, "noise_sampler": noise, **scaled}
    expected = getattr(sampling, function)(denoised, start(80.0), sigmas, disable=True, **options)
    assert_equal(ours(name, sigmas, 9 * evaluations + 1, eta=eta, **scaled), expected, 1e-9)


@pytest.mark.parametrize(("solver_type", "quadrature"), [("midpoint", "published"), ("heun", "exact")])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_2m_sde_trajectories_equal_those_of_k_diffusion(
    sampling: Any, solver_type: str, quadrature: str, eta: float
) -> None:
    """DPM++ 2M SDE in both forms, with its s_noise; its eta is the square of ours."""
    sigmas = karras(sampling, 10)
    expected = sampling.sample_dpmpp_2m_sde(
        denoised,
        start(80.0),
        sigmas,
        disable=True,
        eta=eta,
        s_noise=1.003,
        noise_sampler=drawn(range(1, 10), start()),
        solver_type=solver_type,
    )
    options = {"quadrature": quadrature, "eta": math.sqrt(eta), "lower_order_final": False, "s_noise": 1.003}
    assert_equal(ours("dpm++2m-sde", sigmas, 10, **options), expected, 1e-9)


@pytest.mark.parametrize(("eta", "s_noise"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0, 1.003)])
def test_3m_sde_trajectories_equal_those_of_k_diffusion(sampling: Any, eta: float, s_noise: float) -> None:
    """With two outputs k-diffusion integrates the line exactly; by default ours, and diffusers' "midpoint", take the 2M weights there.

    From three outputs on both halve the second difference.
    """
    sigmas = karras(sampling, 10)
    noise = drawn(range(1, 10), start())
    expected = sampling.sample_dpmpp_3m_sde(
        denoised, start(80.0), sigmas, disable=True, eta=eta, s_noise=s_noise, noise_sampler=noise
    )
    options = {"eta": math.sqrt(eta), "lower_order_final": False, "s_noise": s_noise}
    assert error(ours("dpm++3m-sde", sigmas, 10, **options), expected) > 1e-6  # a denoiser forgets; equal is 1e-9
    assert_equal(ours("dpm++3m-sde", sigmas, 10, lower_quadrature="exact", **options), expected, 1e-9)


@pytest.mark.parametrize("s_noise", [1.0, 1.003])
def test_dpmpp_sde_equals_that_of_k_diffusion(sampling: Any, s_noise: float) -> None:
    """DPM++ SDE at its default eta = 1, on one Brownian path: its noise over a whole step combines ours over both halves."""
    sigmas = karras(sampling, 10)[:-1]
    plan = make("dpm++sde", sigmas, 18, s_noise=s_noise)
    noise = whole_steps(plan, start())
    expected = sampling.sample_dpmpp_sde(
        denoised, start(80.0), sigmas, disable=True, s_noise=s_noise, noise_sampler=noise
    )
    assert_equal(run(plan), expected, 1e-9)


def test_dpmpp_sde_without_noise_is_2s(sampling: Any) -> None:
    """eta = 0 is dpm++2s."""
    sigmas = karras(sampling, 10)[:-1]
    expected = sampling.sample_dpmpp_sde(
        denoised, start(80.0), sigmas, disable=True, eta=0.0, noise_sampler=lambda *_: 0.0
    )
    assert_equal(ours("dpm++sde", sigmas, 18, eta=0.0), expected, 1e-9)
    assert_equal(ours("dpm++2s", sigmas, 18), expected, 1e-9)


def test_dpmpp_sde_of_k_diffusion_between_0_and_1_has_two_strengths_in_a_step(sampling: Any) -> None:
    """Its eta scales the ancestral noise: sigma_up = eta sigma sqrt(1 - e^{-2h}), so ours has e^{-2 ours^2 h} = 1 - eta^2 (1 - e^{-2h}).

    Ours depends on h: the stage, at h/2, and the step have different ones, which is no SDE's strength. With the two put in by hand
    our combinations are theirs.
    """
    eta, sigmas = 0.5, karras(sampling, 10)[:2]
    source, stage, target = (
        Point.at(SCHEDULE, float(t)) for t in (sigmas[0], (sigmas[0] * sigmas[1]).sqrt(), sigmas[1])
    )

    def ours_at(end: Point) -> float:
        h = end.half_log_snr - source.half_log_snr
        return math.sqrt(-0.5 * math.log(1.0 - eta**2 * -math.expm1(-2.0 * h)) / h)

    assert ours_at(stage) > 1.01 * ours_at(target)
    noise = drawn([1, 2], start())
    expected = sampling.sample_dpmpp_sde(denoised, start(80.0), sigmas, disable=True, eta=eta, noise_sampler=noise)
    half = exponential_step("data", source, stage, [source], eta=ours_at(stage))
    whole = exponential_step("data", source, target, [stage], eta=ours_at(target))
    rows = (Row(source, predict=half), Row(stage, advance=replace(whole, outputs=(whole.outputs[0],))))
    assert_equal(run(dpm.Plan("data", rows, target)), expected, 1e-9)
