"""Whole trajectories against k-diffusion's samplers, in float64.

k-diffusion's package imports torchvision, wandb and more, none of which its samplers use: its `sampling` module is loaded alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_sigmas

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


def start() -> torch.Tensor:
    return 80.0 * torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def ours(name: str, sigmas: torch.Tensor, nfe: int) -> torch.Tensor:
    plan = dpm.make_plan(name, SCHEDULE, nfe, from_sigmas(SCHEDULE, sigmas.numpy()))
    return dpm.sample(dpm.Denoiser(denoised, SCHEDULE, predicts="data"), start(), plan=plan)


def assert_equal(result: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    assert float((result - expected).abs().max()) < tolerance * max(1.0, float(expected.abs().max()))


def karras(sampling: Any, steps: int) -> torch.Tensor:
    sigmas: torch.Tensor = sampling.get_sigmas_karras(steps, 0.002, 80.0).double()
    sigmas[0], sigmas[-2] = 80.0, 0.002
    return sigmas


@pytest.mark.parametrize(("name", "function"), [("ddim", "sample_euler"), ("dpm++2m", "sample_dpmpp_2m")])
def test_multistep_trajectories_equal_those_of_k_diffusion(sampling: Any, name: str, function: str) -> None:
    """On Karras' sigmas down to 0: Euler is DDIM, DPM++ 2M is dpm++2m."""
    sigmas = karras(sampling, 10)
    expected = getattr(sampling, function)(denoised, start(), sigmas, disable=True)
    assert_equal(ours(name, sigmas, 10), expected)


def test_2s_trajectories_equal_those_of_k_diffusion(sampling: Any) -> None:
    """DPM++ 2S ancestral without its noise is dpm++2s."""
    sigmas = karras(sampling, 10)[:-1]
    expected = sampling.sample_dpmpp_2s_ancestral(denoised, start(), sigmas, disable=True, eta=0.0)
    assert_equal(ours("dpm++2s", sigmas, 18), expected)


@pytest.mark.parametrize("nfe", [9, 10, 11])
def test_dpm_fast_equals_that_of_k_diffusion(sampling: Any, nfe: int) -> None:
    """Steps of order 3, 2 and 1 where the paper puts them, for every remainder of the budget (its times are float32)."""
    expected = sampling.sample_dpm_fast(denoised, start(), 0.002, 80.0, nfe, disable=True)
    plan = dpm.make_plan("dpm-fast", SCHEDULE, nfe, end=0.002)
    assert_equal(dpm.sample(dpm.Denoiser(denoised, SCHEDULE, predicts="data"), start(), plan=plan), expected, 2e-5)
