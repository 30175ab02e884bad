"""The tables of docs/coming-from.md: what stands in the right column exists, and does what the left column does.

Whole trajectories against diffusers and k-diffusion are compared in the tests named `test_peers…`; here are the rest of the rows.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import network, predicts_from_config, schedule_from_config
from dpmsolver.grids import from_labels

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

PAGE = Path(__file__).parent.parent / "docs" / "coming-from.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and line != "| there | here |"
]
BETAS = np.linspace(1e-4, 0.02, 1000)


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 60
    assert all(len(row) == 2 for row in ROWS)
    assert len({name for row in ROWS for name in names_after(row[1], "solver")}) > 15
    assert len({name for row in ROWS for name in names_after(row[1], "grid")}) > 8


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_solvers_grids_and_options_of_a_row_exist(row: list[str]) -> None:
    """Each named solver makes a plan on each named grid, with the row's options; the solvers of a list are its quoted names."""
    here = row[1]
    options = {name: value == "True" for name, value in OPTION.findall(here)}
    solvers, grids = names_after(here, "solver"), names_after(here, "grid")
    schedule = dpm.schedules.Flow() if "dynamic-shift" in grids else dpm.schedules.Discrete(betas=BETAS)
    for solver in solvers or ["dpm++2m"]:
        assert solver in dpm.solvers(), solver
        for grid in grids or [None]:
            end = {"end": 0.0} if options.get("keep_last") else {}
            extra = (
                {"image_seq_len": 1024}
                if grid == "dynamic-shift"
                else {"rho": 7.0}
                if grid == "polyexponential"
                else {}
            )
            plan = dpm.make_plan(solver, schedule, 12, grid, **options, **end, **extra)
            assert plan.nfe == 12


OPTION = re.compile(r"\b(keep_last|round|lower_order_final)=(True|False)")


def names_after(text: str, word: str) -> list[str]:
    """The quoted names of `word="a"`, `"b"`, `"c"`."""
    found = re.search(rf'{word}="([^"]+)"((?:`?,? (?:or )?`"[^"]+")*)', text)
    return [] if found is None else [found[1], *re.findall(r'"([^"]+)"', found[2])]


EXPRESSIONS = sorted(
    {code for row in ROWS for code in re.findall(r"`(dpm\.schedules\.[^`]*|dpm\.thresholding\.[^`]*)`", row[1])}
)


@pytest.mark.parametrize("code", EXPRESSIONS)
def test_expressions_of_a_row_run(code: str) -> None:
    eval(code, {"dpm": dpm, "betas": BETAS, "a": np.cumprod(1 - BETAS)})


def test_noise_is_added_at_the_timesteps_of_diffusers() -> None:
    """scheduler.add_noise(x, noise, timesteps), with one timestep per sample."""
    scheduler = diffusers.DDPMScheduler()
    schedule = schedule_from_config(scheduler.config)
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(3, 2, generator=generator) for _ in range(2))
    timesteps = torch.tensor([0, 500, 999])
    ours = dpm.add_noise(schedule, x, noise, schedule.time_from_label(timesteps))
    torch.testing.assert_close(ours, scheduler.add_noise(x, noise, timesteps), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("invert", [False, True])
def test_euler_of_flow_matching_is_ddim_on_a_flow(invert: bool) -> None:
    """FlowMatchEulerDiscreteScheduler(shift=3) and ours end in the same sample, with the labels times 1000, inverted or not."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, invert_sigmas=invert)
    scheduler.set_timesteps(6)
    schedule = dpm.schedules.Flow(shift=3.0, label_scale=1000, reversed=invert)
    x = torch.linspace(-1.0, 1.0, 8, dtype=torch.float64).reshape(2, 4)
    expected = x
    for t in scheduler.timesteps:
        expected = scheduler.step(velocity(expected, t), t, expected).prev_sample
    levels = scheduler.sigmas.double().numpy()
    levels = 1.0 - levels if invert else levels
    with np.errstate(divide="ignore"):
        times = schedule.time(np.log((1.0 - levels) / levels))
    denoiser = dpm.Denoiser(velocity, schedule, predicts="velocity")
    ours = dpm.sample(denoiser, x, plan=dpm.make_plan("ddim", schedule, 6, times))
    torch.testing.assert_close(ours, expected.double(), rtol=1e-5, atol=1e-5)


def velocity(x: Any, t: Any) -> Any:
    """An arbitrary smooth network of the state and of the timestep."""
    return torch.sin(2 * x) + x * (t / 1000).reshape(-1, 1)


def test_official_clipping_is_a_start_at_minus_5_1() -> None:
    """Cosine betas reach half-log-SNR -9.9; with lambda_min=-5.1 a run starts where the official code cuts the schedule off."""
    products = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = np.minimum(1 - products[1:] / products[:-1], 0.999)
    clipped = dpm.schedules.Discrete(betas=betas, lambda_min=-5.1)
    assert clipped.half_log_snr(1.0) < -9.0
    assert clipped.half_log_snr(clipped.default_start()) == pytest.approx(-5.1, abs=1e-9)
    assert 990 < clipped.label(clipped.default_start()) < 999


def test_a_guided_text_model_runs_as_in_its_pipeline() -> None:
    """The loop of StableDiffusionPipeline with DPMSolverMultistepScheduler, and the example of the page, end in the same latents."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).requires_grad_(False)
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.set_timesteps(4)
    noise, prompt, nothing = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    expected = noise
    for t in scheduler.timesteps:
        cold, warm = unet(torch.cat([expected] * 2), t, torch.cat([nothing, prompt]), return_dict=False)[0].chunk(2)
        expected = scheduler.step(cold + 7.5 * (warm - cold), t, expected).prev_sample
    config = scheduler.config
    denoiser = dpm.Denoiser(network(unet, config), schedule_from_config(config), predicts_from_config(config))
    guidance = dpm.guidance.ClassifierFree(7.5, {"encoder_hidden_states": prompt}, {"encoder_hidden_states": nothing})
    times = [*from_labels(denoiser.schedule, scheduler.timesteps.numpy()), 0.0]
    plan = dpm.make_plan("dpm++2m", denoiser.schedule, 4, times)
    latents = dpm.sample(denoiser.replace(guidance=guidance), noise, plan=plan)
    torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-3)
