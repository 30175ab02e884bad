"""Whole trajectories against diffusers' solvers of the ODE, to float precision, wherever those are right.

Peers hold their coefficients in float32, so that is the precision asked for. The network is the same arbitrary smooth function for both;
the peer says at which steps it evaluates, and ours runs on that grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.grids import from_labels
from dpmsolver.plans import Row
from dpmsolver.solvers import SOLVERS, exponential_step
from peers import LINEAR, SCHEDULE, STEPS, doubled, drawn, error, follow, network, ours, peer, run, start, times_of

# diffusers deprecates algorithm_type="dpmsolver"; here it is what ours is compared with.
pytestmark = pytest.mark.filterwarnings("ignore:`algorithm_types:FutureWarning")


def multistep(**config: Any) -> Callable[[], Any]:
    return lambda: diffusers.DPMSolverMultistepScheduler(**LINEAR, **config)


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
    x, scheduler = start(), MULTISTEP[name]()
    expected = peer(scheduler, x)
    end = 0.0 if scheduler.config.final_sigmas_type == "zero" else SCHEDULE.t_min
    assert error(ours(name, scheduler.timesteps, end, x), expected) < 2e-5


def singlestep_block(algorithm: str, solver_type: str, order: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """The first block of DPMSolverSinglestepScheduler: its start, its result, and the times of its evaluations and its end."""
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        **LINEAR,
        solver_order=order,
        algorithm_type=algorithm,
        solver_type=solver_type,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(2 * order)
    labels = scheduler.timesteps
    x = start()
    return x, follow(scheduler, labels[:order], x), from_labels(SCHEDULE, labels.numpy())[: order + 1]


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
    assert error(run(block_plan(name, times), x), expected) < 2e-5


def test_diffusers_third_order_midpoint_has_another_second_stage_than_the_paper() -> None:
    """The paper's second stage integrates its line exactly (algorithm 2 of DPM-Solver); diffusers uses the 2M weights there.

    With that one combination exchanged our plan is theirs, so nothing else differs.
    """
    x, expected, times = singlestep_block("dpmsolver++", "midpoint", 3)
    plan = block_plan("dpm++3s", times)
    assert error(run(plan, x), expected) > 1e-2
    source, one, two = (row.point for row in plan.rows)
    second = exponential_step("data", source, two, [one, source], quadrature="published")
    rows = (plan.rows[0], Row(one, predict=second), plan.rows[2])
    assert error(run(dpm.Plan("data", rows, plan.end), x), expected) < 2e-5


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_trajectories_equal_those_of_diffusers(eta: float) -> None:
    """DDIMScheduler (no clipping, leading steps) and ours, the noise of eta included, end in the same samples."""
    scheduler = diffusers.DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(STEPS)
    x, labels = start(), scheduler.timesteps
    expected, noise = x, drawn(range(1, STEPS), x)
    for t in labels[:-1]:
        expected = follow(scheduler, [t], expected, eta=eta, variance_noise=noise())
    plan = dpm.make_plan("ddim", SCHEDULE, STEPS - 1, from_labels(SCHEDULE, labels.numpy()), eta=eta)
    assert error(run(plan, x), expected) < 2e-5


@pytest.mark.parametrize("end", [0.0, SCHEDULE.t_min])
@pytest.mark.parametrize("corrector_from", [1, 3, None])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_trajectories_equal_those_of_diffusers(
    order: int, variant: str, corrector_from: int | None, end: float
) -> None:
    """UniPCMultistepScheduler with data prediction: both B(h), corrected always, later or never, to sigma = 0 and to the first step.

    Only "bh1" to sigma = 0 is left out: there diffusers multiplies B(h) = -inf by 0.
    """
    scheduler = diffusers.UniPCMultistepScheduler(
        **LINEAR,
        solver_order=order,
        solver_type=variant,
        disable_corrector=list(range(STEPS if corrector_from is None else corrector_from - 1)),
        final_sigmas_type="sigma_min" if end else "zero",
    )
    x, labels = start(), doubled(scheduler, end)
    expected = follow(scheduler, labels, x)
    result = ours(f"unipc-{order}", labels, end, x, variant=variant, corrector_from=corrector_from)
    if variant == "bh1" and not end:
        assert expected.isnan().all()
        assert result.isfinite().all()
    else:
        assert error(result, expected) < 1e-9
    if corrector_from is None and variant == "bh2":
        assert error(ours(f"unip-{order}", labels, end, x), expected) < 1e-9


@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [2, 3])
def test_unipc_with_noise_prediction_equals_that_of_diffusers(
    order: int, variant: str, lower_order_final: bool
) -> None:
    """UniPCMultistepScheduler(predict_x0=False), to the first training step, with the last steps at full order and not."""
    scheduler = diffusers.UniPCMultistepScheduler(
        **LINEAR,
        solver_order=order,
        solver_type=variant,
        predict_x0=False,
        lower_order_final=lower_order_final,
        final_sigmas_type="sigma_min",
    )
    x, labels = start(), doubled(scheduler, SCHEDULE.t_min)
    expected = follow(scheduler, labels, x)
    options = {"variant": variant, "lower_order_final": lower_order_final}
    assert error(ours(f"unipc-{order}-noise", labels, SCHEDULE.t_min, x, **options), expected) < 1e-9


@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize("degree", [1, 2])
def test_deis_trajectories_equal_those_of_diffusers(degree: int, lower_order_final: bool) -> None:
    """DEISMultistepScheduler of order 2 and 3 integrates in closed form what ours does by phi-functions: polynomials in log rho."""
    scheduler = diffusers.DEISMultistepScheduler(**LINEAR, solver_order=degree + 1, lower_order_final=lower_order_final)
    x, labels = start(), doubled(scheduler, SCHEDULE.t_min)
    expected, options = follow(scheduler, labels, x), {"lower_order_final": lower_order_final}
    assert error(ours(f"deis-logrho{degree}", labels, SCHEDULE.t_min, x, **options), expected) < 1e-9
    # One polynomial, two names: DPM-Solver's exact multistep form.
    assert error(ours(f"dpm-{degree + 1}m-exact", labels, SCHEDULE.t_min, x, **options), expected) < 1e-9


def pndm_peer(**config: Any) -> tuple[Any, torch.Tensor]:
    """PNDMScheduler to clean data, and the steps of ours. Its middles are integers, and ours are the same: every step is 100 long."""
    scheduler = diffusers.PNDMScheduler(**LINEAR, set_alpha_to_one=True, **config)
    scheduler.set_timesteps(STEPS)
    return scheduler, torch.arange(900, -1, -100)


def test_pndm_equals_that_of_diffusers() -> None:
    """F-PNDM: three pseudo Runge-Kutta steps of four evaluations, then four outputs."""
    scheduler, labels = pndm_peer()
    x = start()
    expected = follow(scheduler, scheduler.timesteps, x)
    assert len(scheduler.timesteps) == 12 + STEPS - 3
    assert error(ours("pndm", labels, 0.0, x, len(scheduler.timesteps)), expected) < 2e-5


def test_plms_of_diffusers_is_s_pndm_first_and_then_four_outputs() -> None:
    """PNDMScheduler(skip_prk_steps=True), Stable Diffusion's first sampler, starts as S-PNDM and goes on to four outputs as F-PNDM.

    Its first two steps are s-pndm's; all of them are `pndm` with order 4 and one step of two evaluations.
    """
    scheduler, labels = pndm_peer(skip_prk_steps=True)
    x = start()
    first = follow(scheduler, scheduler.timesteps[:3], x)
    two = dpm.make_plan("s-pndm", SCHEDULE, 3, from_labels(SCHEDULE, labels[:3].numpy()))
    assert error(run(two, x), first) < 2e-5
    expected = follow(scheduler, scheduler.timesteps[3:], first)
    assert error(ours("s-pndm", labels, 0.0, x, STEPS + 1), expected) > 1e-3
    plms = replace(SOLVERS["pndm"], name="plms", evaluations=lambda nfe: (2, *(1,) * (nfe - 2)))
    assert error(run(dpm.make_plan(plms, SCHEDULE, STEPS + 1, times_of(labels, 0.0)), x), expected) < 2e-5


def test_ipndm_equals_that_of_diffusers() -> None:
    """IPNDMScheduler, whose "betas" are sigmas and whose network predicts v: with our sigmas for its own, it is ipndm-4."""
    labels = torch.arange(900, -1, -100)
    times = times_of(labels, 0.0)
    scheduler = diffusers.IPNDMScheduler(trained_betas=SCHEDULE.sigma(times).tolist())
    scheduler.set_timesteps(STEPS)
    x = expected = start()
    for k, t in enumerate(scheduler.timesteps):
        alpha, sigma = float(SCHEDULE.alpha(times[k])), float(SCHEDULE.sigma(times[k]))
        noise = network(expected, labels[k].expand(len(x)))
        expected = scheduler.step((noise - sigma * expected) / alpha, t, expected).prev_sample
    assert error(ours("ipndm-4", labels, 0.0, x), expected) < 2e-5
