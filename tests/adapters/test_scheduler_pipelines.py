"""PlanScheduler and `from_diffusers` in real pipelines of diffusers, with small random networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny_pipelines as tiny  # noqa: E402 (it needs them)
from dpmsolver.adapters.diffusers import PlanScheduler, from_diffusers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # pipelines warn of what they deprecate

TEXT = "a lighthouse at night"
PICTURE = {"prompt": TEXT, "height": 16, "width": 16, "output_type": "latent"}
SHORT = {**PICTURE, "max_sequence_length": 8}


def picture() -> Any:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(7))


def mask() -> Any:
    return (torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(8)) > 0.5).float()


# name: the pipeline, and how it is called.
PIPELINES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "DDPM": (tiny.ddpm, {"batch_size": 2, "output_type": "np"}),
    "DiT": (tiny.dit, {"class_labels": [1, 2], "output_type": "np"}),
    "StableDiffusion": (tiny.stable_diffusion, PICTURE),
    "StableDiffusion image": (
        lambda: tiny.stable_diffusion("StableDiffusionImg2ImgPipeline"),
        {"prompt": TEXT, "image": picture(), "strength": 0.6, "output_type": "latent"},
    ),
    "StableDiffusion inpaint": (
        lambda: tiny.stable_diffusion("StableDiffusionInpaintPipeline"),
        {**PICTURE, "image": picture(), "mask_image": mask(), "strength": 0.8},
    ),
    "StableDiffusion ControlNet": (
        lambda: tiny.stable_diffusion("StableDiffusionControlNetPipeline"),
        {**PICTURE, "image": picture()},
    ),
    "StableDiffusionXL": (tiny.stable_diffusion_xl, PICTURE),
    "StableDiffusion3": (tiny.stable_diffusion_3, PICTURE),
    "Flux": (tiny.flux, SHORT),
    "PixArt": (tiny.pixart, {**SHORT, "use_resolution_binning": False, "clean_caption": False}),
    "Wan": (tiny.wan, {**SHORT, "num_frames": 5}),
    "LongCat audio": (tiny.longcat, {"prompt": TEXT, "audio_duration_s": 0.1, "output_type": "pt"}),
}
_MADE: dict[str, Any] = {}


def pipeline(name: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline with its own scheduler, made once, and how it is called."""
    make, call = PIPELINES[name]
    if name not in _MADE:
        pipe = make()
        _MADE[name] = pipe, pipe.scheduler
    pipe, pipe.scheduler = _MADE[name]
    return pipe, call


def drawn(pipe: Any, call: dict[str, Any], nfe: int, scheduler: Any = None, **more: Any) -> Any:
    """What a pipeline draws from a seed, with another scheduler."""
    if scheduler is not None:
        pipe.scheduler = scheduler
    generator = more.pop("generator", None) or torch.Generator().manual_seed(0)
    return np.asarray(pipe(**{**call, **more}, num_inference_steps=nfe, generator=generator)[0])


FLOW = {"StableDiffusion3", "Flux", "Wan", "LongCat audio"}


def flow(pipe: Any) -> Any:
    """The flow scheduler of a pipeline; Wan's UniPC cuts its timesteps to whole numbers, so that the network sees others."""
    if isinstance(pipe.scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        return pipe.scheduler
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_draws_what_it_draws_with_the_scheduler_of_the_same_name(name: str) -> None:
    """DDIM's steps in every pipeline of betas, Euler's in every flow: to 1e-4 of the largest number, in float32."""
    pipe, call = pipeline(name)
    theirs = flow(pipe) if name in FLOW else diffusers.DDIMScheduler(**tiny.BETAS, clip_sample=False, steps_offset=1)
    expected = drawn(pipe, call, 6, theirs)
    # Flux and LongCat give the steps themselves.
    found = drawn(pipe, call, 6, PlanScheduler.from_config(theirs, solver="ddim", grid="config"))
    assert abs(found - expected).max() < 1e-4 * max(1.0, abs(expected).max())


SCHEDULERS: list[tuple[str, dict[str, Any], str, int, int]] = [
    ("DPMSolverMultistepScheduler", {}, "dpm++2m", 6, 6),
    ("UniPCMultistepScheduler", {"solver_type": "bh2", "solver_order": 2}, "unipc-2", 6, 6),
    ("DEISMultistepScheduler", {}, "deis-logrho1", 6, 6),
    ("DDIMScheduler", {"clip_sample": False}, "ddim", 6, 6),
    ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}, "euler", 6, 6),
    ("HeunDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}, "heun", 4, 7),
]


@pytest.mark.parametrize(("name", "config", "solver", "steps", "nfe"), SCHEDULERS)
@pytest.mark.parametrize("kind", ["StableDiffusion", "StableDiffusionXL"])
def test_each_scheduler_of_the_same_name_is_matched(
    kind: str, name: str, config: dict[str, Any], solver: str, steps: int, nfe: int
) -> None:
    pipe, call = pipeline(kind)
    theirs = getattr(diffusers, name)(**tiny.BETAS, **config)
    expected = drawn(pipe, call, steps, theirs)
    found = drawn(pipe, call, nfe, PlanScheduler.from_config(theirs, solver=solver, grid="config"))
    assert abs(found - expected).max() < 1e-4 * max(1.0, abs(expected).max())


@pytest.mark.parametrize("name", PIPELINES)
def test_solvers_with_stages_and_history_run_in_the_unchanged_pipeline(name: str) -> None:
    """A corrector, stages within a step, noise, and the default: finite, and exactly so many evaluations."""
    pipe, call = pipeline(name)
    model = getattr(pipe, "transformer", None) or pipe.unet
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    # Image-to-image at strength 0.6 makes six tenths of them; LongCat and Wan guide with two calls.
    nfe = 10
    share = {"StableDiffusion image": 0.6, "StableDiffusion inpaint": 0.8}.get(name, 1.0)
    per = 2 if name in ("Wan", "LongCat audio") else 1
    for solver in ("unipc-3", "dpm-2", "dpm++2m-sde", "auto"):
        calls.clear()
        assert np.isfinite(
            drawn(pipe, call, nfe, PlanScheduler.from_config(pipe.scheduler.config, solver=solver))
        ).all()
        assert len(calls) == round(nfe * share) * per, solver
    handle.remove()


def test_base_and_refiner_share_a_run() -> None:
    """denoising_end and denoising_start: DDIM split is DDIM whole. The second part begins without the first one's outputs."""
    base, call = pipeline("StableDiffusionXL")
    refiner = diffusers.StableDiffusionXLImg2ImgPipeline(
        **{name: part for name, part in base.components.items() if name not in ("image_encoder", "feature_extractor")},
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    refiner.set_progress_bar_config(disable=True)
    call = {**call, "guidance_scale": 1.0}
    config = diffusers.DDIMScheduler(**tiny.BETAS)
    whole = drawn(base, call, 10, PlanScheduler.from_config(config, solver="ddim"))
    middle = drawn(base, call, 10, PlanScheduler.from_config(config, solver="ddim"), denoising_end=0.6)
    refiner.scheduler = PlanScheduler.from_config(config, solver="ddim")
    rest = refiner(
        prompt=TEXT,
        image=torch.from_numpy(middle),
        denoising_start=0.6,
        num_inference_steps=10,
        guidance_scale=1.0,
        output_type="latent",
    )[0]
    np.testing.assert_allclose(np.asarray(rest), whole, rtol=0, atol=1e-4 * abs(whole).max())


def test_generators_and_batches_do_not_influence_each_other() -> None:
    """A list of generators: picture i is the same in any batch, with a solver that adds noise."""
    pipe, call = pipeline("StableDiffusion")
    scheduler = PlanScheduler.from_config(pipe.scheduler, solver="dpm++2m-sde")
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    both = drawn(pipe, call, 5, scheduler, num_images_per_prompt=2, generator=seeds)
    alone = drawn(pipe, call, 5, scheduler, generator=[torch.Generator().manual_seed(2)])
    np.testing.assert_allclose(both[1:], alone, rtol=0, atol=1e-4 * abs(both).max())


def test_a_bfloat16_pipeline_is_no_further_from_float32_than_with_diffusers_own() -> None:
    """The error of the whole pipeline, that of its network included."""
    pipe, call = pipeline("StableDiffusion")
    theirs = diffusers.DPMSolverMultistepScheduler(**tiny.BETAS)
    ours = PlanScheduler.from_config(theirs, solver="dpm++2m", grid="config")
    exact = drawn(pipe, call, 20, ours)
    half = tiny.stable_diffusion().to(torch.bfloat16)
    errors = []
    for scheduler in (ours, theirs):
        half.scheduler = scheduler
        latents = half(**call, num_inference_steps=20, generator=torch.Generator().manual_seed(0))[0]
        assert latents.dtype == torch.bfloat16
        errors.append(float(np.square(latents.float().numpy() - exact).mean()))
    assert errors[0] <= 1.1 * errors[1]


def test_inpainting_keeps_the_known_part() -> None:
    pipe, call = pipeline("StableDiffusion inpaint")
    seen: list[Any] = []

    def look(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(values["latents"].clone())
        return values

    drawn(pipe, call, 8, PlanScheduler.from_config(pipe.scheduler, solver="unipc-3"), callback_on_step_end=look)
    assert len(seen) == 6
    known = torch.nn.functional.interpolate(mask(), size=(8, 8)) == 0
    latents = pipe.vae.encode(picture() * 2 - 1).latent_dist
    size = float((latents.mean * pipe.vae.config.scaling_factor).abs().max())
    assert float((seen[-1] * known).abs().max()) < 4.0 + size


@pytest.mark.parametrize(
    "name", ["DDPM", "DiT", "StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux", "PixArt"]
)
def test_the_denoiser_of_a_pipeline_samples_what_the_pipeline_draws(name: str) -> None:
    """from_diffusers in our own loop, on the plan of the pipeline's run, from the pipeline's noise; guidance inside."""
    pipe, call = pipeline(name)
    solver = "ddim" if name in FLOW else "dpm++2m"
    pipe.scheduler = scheduler = PlanScheduler.from_config(pipe.scheduler, solver=solver)
    shape = {"DDPM": (1, 3, 8, 8), "Flux": (1, 16, 16), "DiT": (2, 4, 8, 8)}.get(name, (1, 4, 8, 8))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if name == "Flux":
        denoiser = from_diffusers(pipe, TEXT, height=16, width=16)
        call = {**call, "latents": x, "max_sequence_length": 512}
    elif name == "DDPM":
        denoiser, call = dpm.from_diffusers(pipe), {"output_type": "np", "batch_size": 1}
    elif name == "DiT":
        denoiser = from_diffusers(pipe, class_labels=[1, 2])
    else:
        denoiser = from_diffusers(pipe, TEXT, height=16, width=16, guidance=3.0)
        call = {**call, "latents": x, "guidance_scale": 3.0}
        call |= {"negative_prompt": ""} if name == "StableDiffusionXL" else {}
        call |= {"max_sequence_length": 120} if name == "PixArt" else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = drawn(pipe, call, 6)
        found = dpm.sample(denoiser, x, plan=scheduler.plan)
        if name == "DDPM":
            found = (found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        if name == "DiT":
            found = pipe.vae.decode(found / pipe.vae.config.scaling_factor).sample
            found = (found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert abs(found.numpy() - expected).max() < 1e-4 * max(1.0, abs(expected).max())


def test_denoisers_of_several_prompts_and_samples() -> None:
    pipe, _ = pipeline("StableDiffusion")
    denoiser = from_diffusers(pipe, [TEXT, "rain"], negative_prompt="blurry", num=2)
    assert torch.isfinite(dpm.sample(denoiser, torch.randn(4, 4, 8, 8), nfe=5)).all()
    plain = from_diffusers(pipe, TEXT, guidance=1.0)
    assert plain.guidance is None
    assert torch.isfinite(dpm.sample(plain, torch.randn(1, 4, 8, 8), nfe=5)).all()


def test_pipelines_without_a_denoiser_are_told() -> None:
    with pytest.raises(
        TypeError, match=r"from_diffusers serves DDPMPipeline.*got WanPipeline: make the denoiser from its model"
    ):
        from_diffusers(pipeline("Wan")[0], TEXT)
    with pytest.raises(dpm.PlanError, match="a StableDiffusionPipeline needs prompt"):
        from_diffusers(pipeline("StableDiffusion")[0])
    with pytest.raises(dpm.PlanError, match="a DDPMPipeline takes no prompt"):
        from_diffusers(pipeline("DDPM")[0], TEXT)
    with pytest.raises(dpm.PlanError, match="a DiTPipeline needs class_labels"):
        from_diffusers(pipeline("DiT")[0])
