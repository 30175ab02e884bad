"""Text to image: a diffusers pipeline as a source. Its samples are latents, which are decoded if pictures are wanted.

Sample i has prompt i modulo the number of prompts. The text encoders run once for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dpmsolver.adapters.diffusers.pipelines import from_diffusers
from dpmsolver.brief import one_line
from dpmsolver.generation.job import Job
from dpmsolver.models.by_user import made_by_user
from dpmsolver.models.testbeds import Testbed
from dpmsolver.networks.denoiser import Denoiser

__all__ = ["prompted"]


def prompted(job: Job) -> tuple[Testbed, Callable[[Any], Any], list[Any]]:
    """Return the testbed of a pipeline, the function that decodes its latents, and its modules, whose weights identify it.

    Raises:
        ValueError: the model is not a text-to-image pipeline or cannot be loaded. ImportError: diffusers is missing.
    """
    import torch

    pipe = _pipeline(job)
    assert job.prompts is not None
    prompts = job.prompts
    if not prompts:
        raise ValueError("prompts are texts, one for each sample in turn, got none")

    def denoiser(labels: Sequence[int] | None) -> Denoiser:
        return from_diffusers(pipe, [prompts[label] for label in labels or ()], guidance=job.guidance)

    try:
        first = denoiser([0])
    except TypeError as error:
        raise ValueError(f"prompts are for pipelines of text to image: {error}") from error
    model = getattr(pipe, "transformer", None) or pipe.unet
    like = torch.empty(0, dtype=torch.float32, device=model.device)
    shape, decode = _latents(pipe, model)
    modules = [module for _, module in sorted(pipe.components.items()) if isinstance(module, torch.nn.Module)]
    testbed = Testbed(job.name, first.schedule, shape, like, denoiser, num_classes=len(prompts))
    return testbed, decode, modules


def _pipeline(job: Job) -> Any:
    try:
        import diffusers
        import torch
    except ImportError as error:
        raise ImportError(f"prompts need torch and diffusers ({error}): pip install 'dpmsolver[diffusers]'") from error
    if not isinstance(job.model, str):
        raise ValueError(
            f"with prompts the model is the folder or hub id of a pipeline, or path/to/file.py:function that returns one, "
            f"got {type(job.model).__name__}"
        )
    if ":" in job.model:
        pipe = made_by_user(job.model)
    else:
        try:
            pipe = diffusers.DiffusionPipeline.from_pretrained(job.model)
        except Exception as error:  # the hub's client raises errors of many kinds
            raise ValueError(f"the pipeline {job.model!r} cannot be loaded ({one_line(error, 160)})") from error
    if not hasattr(pipe, "components"):
        raise ValueError(f"{job.model} must be a pipeline of diffusers, got {type(pipe).__name__}")
    # Types of weights: the argument of `from_pretrained` has had two names.
    pipe = (
        pipe.to(job.device or "cpu")
        if job.dtype == "float32"
        else pipe.to(job.device or "cpu", getattr(torch, job.dtype))
    )
    pipe.set_progress_bar_config(disable=True)
    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    if job.compiled:
        name = "transformer" if getattr(pipe, "transformer", None) is not None else "unet"
        getattr(pipe, name).compile()
    return pipe


def _latents(pipe: Any, model: Any) -> tuple[tuple[int, ...], Callable[[Any], Any]]:
    """The shape of a sample's latents, and what makes pictures of a batch of them."""
    channels, side = int(model.config.in_channels), _side(pipe, model)
    if type(pipe).__name__ == "FluxPipeline":
        return ((side // 2) ** 2, channels), partial(_decoded_packed, pipe, side)
    return (channels, side, side), partial(_decoded, pipe)


def _side(pipe: Any, model: Any) -> int:
    size = getattr(pipe, "default_sample_size", None) or model.config.get("sample_size") or 128
    return int(size if isinstance(size, int) else size[0])


def _decoded(pipe: Any, latents: Any) -> Any:
    """Pictures in [-1, 1] of latents."""
    import torch

    config, vae = pipe.vae.config, pipe.vae
    scaled = latents.to(vae.dtype) / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    with torch.no_grad():
        return vae.decode(scaled, return_dict=False)[0].float()


def _decoded_packed(pipe: Any, side: int, latents: Any) -> Any:
    """Of Flux, whose latents are patches of 2 x 2, a row each: (B, side/2 * side/2, 4 C)."""
    batch, _, channels = latents.shape
    patches = latents.reshape(batch, side // 2, side // 2, channels // 4, 2, 2)
    return _decoded(pipe, patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, side, side))
