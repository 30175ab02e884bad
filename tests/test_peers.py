"""Whole trajectories against independent packages, to float precision, wherever those are right.

Peers hold their coefficients in float32, so that is the precision asked for. The network is the same arbitrary smooth function for both;
the peer says at which steps it evaluates, and ours runs on that grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_labels
from dpmsolver.solvers import exponential_step

# diffusers deprecates algorithm_type="dpmsolver"; here it is what ours is compared with.
pytestmark = pytest.mark.filterwarnings("ignore:`algorithm_types:FutureWarning")

BETAS = np.linspace(1e-4, 0.02, 1000)
SCHEDULE = dpm.schedules.Discrete(betas=BETAS)
STEPS = 10


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Smooth in x and in the step's number, and of the size of a noise."""
    level = (t.double() / 1000).reshape(-1, 1)
    return 0.8 * torch.tanh(x + level) + 0.3 * torch.cos(3 * level + x.flip(1))


def peer(scheduler: Any, x: torch.Tensor) -> torch.Tensor:
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(len(x))), t, x).prev_sample
    return x


def ours(
    name: str, labels: torch.Tensor, end: float, x: torch.Tensor, steps: int | None = None, **options: Any
) -> torch.Tensor:
    times = np.append(from_labels(SCHEDULE, labels.numpy()), end)
    plan = dpm.make_plan(name, SCHEDULE, steps or len(labels), times, **options)
    return dpm.sample(dpm.Denoiser(network, SCHEDULE, predicts="noise"), x, plan=plan)


def multistep(**config: Any) -> Callable[[], Any]:
    return lambda: diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **config
    )


MULTISTEP = {
    "dpm++2m": multistep(algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint"),
    "dpm++2m-exact": multistep(algorithm_type="dpmsolver++", solver_order=2, solver_type="heun"),
    "dpm++3m": multistep(algorithm_type="dpmsolver++", solver_order=3),
    "dpm-2m": multistep(
        algorithm_type="dpmsolver", solver_order=2, solver_type="midpoint", final_sigmas_type="sigma_min"
    ),
    "dpm-2m-exact": multistep(
        algorithm_type="dpmsolver", solver_order=2, solver_type="heun", final_sigmas_type="sigma_min"
    ),
    "dpm-3m": multistep(algorithm_type="dpmsolver", solver_order=3, final_sigmas_type="sigma_min"),
}


@pytest.mark.parametrize("name", MULTISTEP)
def test_multistep_trajectories_equal_those_of_diffusers(name: str) -> None:
    """DPMSolverMultistepScheduler and ours end in the same samples: both forms, both predictions, to sigma = 0 and to the first step."""
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scheduler = MULTISTEP[name]()
    expected = peer(scheduler, x)
    end = 0.0 if scheduler.config.final_sigmas_type == "zero" else SCHEDULE.t_min
    result = ours(name, scheduler.timesteps, end, x)
    scale = float(expected.abs().max())
    assert float((result - expected).abs().max()) < 2e-5 * max(scale, 1.0)


def singlestep_block(algorithm: str, solver_type: str, order: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """The first block of DPMSolverSinglestepScheduler: its start, its result, and the times of its evaluations and its end."""
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        solver_order=order,
        algorithm_type=algorithm,
        solver_type=solver_type,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(2 * order)
    labels = scheduler.timesteps
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result = x
    for t in labels[:order]:
        result = scheduler.step(network(result, t.expand(len(x))), t, result).prev_sample
    return x, result, from_labels(SCHEDULE, labels.numpy())[: order + 1]


def block_plan(name: str, times: np.ndarray) -> dpm.Plan:
    """Our block with its stages where the peer puts them."""
    lams = SCHEDULE.half_log_snr(times)
    ratios = (lams[1:-1] - lams[0]) / (lams[-1] - lams[0])
    stages = dict(zip(("r1", "r2"), ratios.tolist(), strict=False))
    return dpm.make_plan(name, SCHEDULE, len(times) - 1, times[[0, -1]], **stages)


BLOCKS = [
    ("dpm++2s", "dpmsolver++", "midpoint", 2),
    ("dpm++2s-exact", "dpmsolver++", "heun", 2),
    ("dpm++3s-exact", "dpmsolver++", "heun", 3),
    ("dpm-2", "dpmsolver", "midpoint", 2),
    ("dpm-2-exact", "dpmsolver", "heun", 2),
    ("dpm-3-exact", "dpmsolver", "heun", 3),
]


@pytest.mark.parametrize(("name", "algorithm", "solver_type", "order"), BLOCKS)
def test_singlestep_blocks_equal_those_of_diffusers(name: str, algorithm: str, solver_type: str, order: int) -> None:
    """One block of DPMSolverSinglestepScheduler is one block of ours."""
    x, expected, times = singlestep_block(algorithm, solver_type, order)
    result = dpm.sample(dpm.Denoiser(network, SCHEDULE), x, plan=block_plan(name, times))
    assert float((result - expected).abs().max()) < 2e-5 * max(float(expected.abs().max()), 1.0)


def test_diffusers_third_order_midpoint_has_another_second_stage_than_the_paper() -> None:
    """The paper's second stage integrates its line exactly (algorithm 2 of DPM-Solver); diffusers uses the 2M weights there.

    With that one combination exchanged our plan is theirs, so nothing else differs.
    """
    x, expected, times = singlestep_block("dpmsolver++", "midpoint", 3)
    plan = block_plan("dpm++3s", times)
    denoiser = dpm.Denoiser(network, SCHEDULE)
    scale = float(expected.abs().max())
    assert float((dpm.sample(denoiser, x, plan=plan) - expected).abs().max()) > 1e-2 * scale
    source, one, two = (row.point for row in plan.rows)
    second = exponential_step("data", source, two, [one, source], quadrature="published")
    rows = (plan.rows[0], dpm.Row(one, predict=second), plan.rows[2])
    theirs = dpm.sample(denoiser, x, plan=dpm.Plan("data", rows, plan.end))
    assert float((theirs - expected).abs().max()) < 2e-5 * scale


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_trajectories_equal_those_of_diffusers(eta: float) -> None:
    """DDIMScheduler (no clipping, leading steps) and ours, the noise of eta included, end in the same samples."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(STEPS)
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    keys = dpm.backends.noise_keys(5, len(x))
    expected = x
    for k, t in enumerate(scheduler.timesteps[:-1]):
        noise = torch.from_numpy(dpm.backends.standard_normals(keys, k + 1, (7,)))
        expected = scheduler.step(
            network(expected, t.expand(3)), t, expected, eta=eta, variance_noise=noise
        ).prev_sample
    times = from_labels(SCHEDULE, scheduler.timesteps.numpy())
    plan = dpm.make_plan("ddim", SCHEDULE, STEPS - 1, times, eta=eta)
    result = dpm.sample(dpm.Denoiser(network, SCHEDULE), x, plan=plan, generator=5)
    assert float((result - expected).abs().max()) < 2e-5 * max(float(expected.abs().max()), 1.0)
