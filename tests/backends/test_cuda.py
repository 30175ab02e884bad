"""On a GPU: a run gives what it gives on the CPU, keeps to the device, and takes a step in one kernel. Skipped where there is no CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import PlanScheduler
from dpmsolver.backends import one_kernel
from dpmsolver.backends.torch import BACKEND, LARGE
from dpmsolver.solvers.registry import SOLVERS

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
pytestmark = [needs_cuda, pytest.mark.filterwarnings("default")]
SCHEDULE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
PRESETS = [name for name, solver in SOLVERS.items() if not solver.calibrated]


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.tanh(1.3 * x) * (0.6 + 0.3 * (t / 1000.0).reshape(-1, *[1] * (x.ndim - 1)))


def denoiser() -> dpm.Denoiser:
    return dpm.Denoiser(network, SCHEDULE)


@pytest.mark.parametrize("count", range(3, one_kernel.MOST + 1))
@pytest.mark.parametrize("into", ["nothing", "a buffer", "the state"])
def test_one_kernel_gives_the_combination(count: int, into: str) -> None:
    shape = (3, LARGE // 3 + 5)
    arrays = [torch.randn(shape, device="cuda") for _ in range(count)]
    numbers = torch.randn(count, dtype=torch.float64).tolist()
    exact = sum(number * array.double() for number, array in zip(numbers, arrays, strict=True))
    out = {"nothing": None, "a buffer": torch.full(shape, torch.nan, device="cuda"), "the state": arrays[0]}[into]
    found = BACKEND.combine(numbers, arrays, out)
    assert out is None or found is out
    assert float((found - exact).abs().max()) < 1e-5


def test_the_kernel_is_there_and_leaves_to_the_chain_what_it_cannot_do() -> None:
    x = torch.randn(LARGE, device="cuda")
    numbers = [1.0, 2.0, 3.0]
    assert one_kernel.combined(numbers, [x, x, x], None) is not None
    assert one_kernel.combined(numbers, [x.double()] * 3, None) is None
    assert one_kernel.combined(numbers, [x.reshape(2, -1).T] * 3, None) is None
    assert one_kernel.combined([1.0] * 9, [x] * 9, None) is None
    leaf = x.clone().requires_grad_(True)
    assert one_kernel.combined(numbers, [leaf, x, x], None) is None
    BACKEND.combine(numbers, [leaf, x, x]).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(x))


def plan_of(solver: str) -> dpm.Plan:
    """A plan of the least budget from 12 on that the solver can spend."""
    for nfe in range(12, 30):
        try:
            return dpm.make_plan(solver, SCHEDULE, nfe)
        except dpm.PlanError:
            continue
    raise AssertionError(solver)


@pytest.mark.parametrize("solver", PRESETS)
def test_every_solver_gives_what_it_gives_on_the_cpu(solver: str) -> None:
    x_T = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"plan": plan_of(solver), "generator": 0, "noise": "host"}
    expected = dpm.sample(denoiser(), x_T, **options)
    found = dpm.sample(denoiser(), x_T.cuda(), **options)
    assert found.is_cuda
    assert torch.allclose(found.cpu(), expected, rtol=1e-3, atol=1e-4)


def test_a_large_run_gives_what_it_gives_in_float64() -> None:
    x_T = torch.randn(8, 4, 128, 128, device="cuda")
    for solver in ("dpm++3m", "unipc-3", "dpm-3"):
        found, exact = (dpm.sample(denoiser(), x, solver=solver, nfe=12) for x in (x_T, x_T.double()))
        assert float((found - exact).abs().max()) < 1e-3


def test_noise_is_drawn_on_the_device_and_belongs_to_a_sample() -> None:
    x_T = torch.randn(4, 3, 8, 8, device="cuda")
    seeds = [11, 12, 13, 14]
    whole = dpm.sample(denoiser(), x_T, solver="dpm++2m-sde", nfe=8, generator=seeds)
    part = dpm.sample(denoiser(), x_T[2:], solver="dpm++2m-sde", nfe=8, generator=seeds[2:])
    assert torch.equal(whole[2:], part)


def test_a_captured_run_gives_what_the_run_gives() -> None:
    plan = dpm.make_plan("unipc-3", SCHEDULE, 10)
    x_T = torch.randn(8, 4, 128, 128, device="cuda")
    again = torch.randn_like(x_T)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            dpm.sample(denoiser(), x_T, plan=plan)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = dpm.sample(denoiser(), x_T, plan=plan)
    x_T.copy_(again)
    graph.replay()
    assert torch.equal(result, dpm.sample(denoiser(), again, plan=plan))


def test_nan_is_told_on_the_device_too() -> None:
    with pytest.raises(dpm.SamplingError):
        dpm.sample(dpm.Denoiser(lambda x, t: x * torch.nan, SCHEDULE), torch.randn(2, 3, device="cuda"), nfe=5)


def test_the_other_ways_to_run_keep_to_the_device() -> None:
    x_T = torch.randn(2, 3, 8, 8, device="cuda")
    steps = list(dpm.iterate(denoiser(), x_T, nfe=5))
    assert all(step.x.is_cuda for step in steps)
    assert dpm.sample_adaptive(denoiser(), x_T).is_cuda
    assert dpm.sample_rk45(denoiser(), x_T, rtol=1e-2, atol=1e-2).x.is_cuda
    leaf = x_T.clone().requires_grad_(True)
    dpm.sample(denoiser(), leaf, nfe=5, differentiable=True).square().sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.is_cuda


def test_a_scheduler_of_diffusers_steps_on_the_device() -> None:
    scheduler = PlanScheduler("dpm++2m", beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.set_timesteps(8, device="cuda")
    x_T = torch.randn(2, 4, 16, 16, device="cuda")
    x = x_T
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x).prev_sample
    expected = dpm.sample(denoiser(), x_T, plan=scheduler.plan) if hasattr(scheduler, "plan") else x
    assert x.is_cuda
    assert torch.allclose(x, expected, atol=1e-3)


def test_a_fit_runs_on_the_device() -> None:
    law = torch.Generator().manual_seed(0)
    x_T = torch.randn(48, 6, generator=law).cuda()
    tuned = dpm.tune(denoiser(), x_T, 4, effort=4000)
    assert dpm.sample(denoiser(), x_T, plan=tuned.plan).is_cuda
