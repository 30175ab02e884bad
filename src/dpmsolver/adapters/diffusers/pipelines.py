"""A diffusers pipeline as a denoiser, with its model, its scheduler's conventions, its conditions and its guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpmsolver.adapters.diffusers.configs import predicts_from_config, schedule_from_config
from dpmsolver.adapters.diffusers.networks import network
from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree

__all__ = ["from_diffusers"]


class _Wanted(NamedTuple):
    """What a caller asks a pipeline's denoiser for."""

    prompt: Any
    negative_prompt: Any
    class_labels: Any
    guidance: float
    num: int
    size: tuple[int, int]


class _Model(NamedTuple):
    """The network of a pipeline, with the conditions of its two sides; the unconditional one is None without guidance."""

    network: Callable[..., Any]
    condition: Mapping[str, Any]
    unconditional: Mapping[str, Any] | None = None
    learned_variance: bool = False
    scale: float = 1.0
    tokens: int | None = None


@dataclass(frozen=True)
class _Transformer:
    """A transformer as a function (x, t, **kwargs): it is called by the names of its arguments, with t over a number."""

    module: Any
    divisor: float = 1.0

    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any:
        state = x.to(self.module.dtype)
        return self.module(hidden_states=state, timestep=t / self.divisor, **kwargs, return_dict=False)[0]


def from_diffusers(
    pipe: Any,
    prompt: str | Sequence[str] | None = None,
    *,
    negative_prompt: str | Sequence[str] = "",
    class_labels: Sequence[int] | None = None,
    guidance: float | None = None,
    num: int = 1,
    height: int | None = None,
    width: int | None = None,
    mu: float | None = None,
) -> Denoiser:
    """Return the denoiser of a diffusers pipeline, for `dpm.sample`, adaptive runs and comparisons.

    The text encoders run once, in this call; guidance is part of the denoiser. The states are the pipeline's latents: for Stable Diffusion,
    SDXL, SD3, PixArt and DiT of shape (B, C, height/8, width/8), for Flux packed, (B, height/16 * width/16, 64). For DDPM they are
    pictures.

    Args:
        pipe: StableDiffusionPipeline, StableDiffusionXLPipeline, StableDiffusion3Pipeline, FluxPipeline, PixArtAlphaPipeline or
            PixArtSigmaPipeline, with a prompt; DiTPipeline, with class_labels; DDPMPipeline or DDIMPipeline.
        prompt: a text, or one per sample.
        class_labels: one class per sample.
        negative_prompt: the text from which guidance leads away.
        guidance: the scale, by default the pipeline's own; for Flux the number that the model takes as an input. 1 means no guidance.
        num: the number of samples for each prompt; the batch of x_T is the product of both numbers.
        height, width: the size of the picture in pixels, by default the pipeline's.
        mu: the shift of a flow with dynamic shifting, by default the pipeline's for that size.

    Raises:
        TypeError: the pipeline is not supported. PlanError: a condition is missing, or the pipeline does not take it. ValueError:
            `schedule_from_config` refuses the scheduler's config.
    """
    builder = next((_BUILDERS[kind.__name__] for kind in type(pipe).__mro__ if kind.__name__ in _BUILDERS), None)
    if builder is None:
        raise TypeError(
            f"from_diffusers serves {', '.join(_BUILDERS)}, got {type(pipe).__name__}: make the denoiser from its model, "
            "dpm.Denoiser(network(pipe.transformer, config), schedule_from_config(config), predicts_from_config(config)), "
            "or change the pipeline's scheduler, PlanScheduler.from_config(pipe.scheduler.config)"
        )
    build, usual, takes = builder
    for name, value in (("prompt", prompt), ("class_labels", class_labels)):
        if (value is not None) != (name == takes):
            verb = "needs" if name == takes else "takes no"
            raise PlanError(f"a {type(pipe).__name__} {verb} {name}")
    size = height or _usual_size(pipe), width or _usual_size(pipe)
    scale = usual if guidance is None else float(guidance)
    model = build(pipe, _Wanted(prompt, negative_prompt, class_labels, scale, int(num), size))
    config = _config(pipe)
    mu = _usual_mu(config, model.tokens) if mu is None else mu
    guided = None
    if model.unconditional is not None and model.scale != 1.0:
        guided = ClassifierFree(model.scale, model.condition, model.unconditional)
    return Denoiser(
        model.network,
        schedule_from_config(config, mu=mu),
        predicts_from_config(config),
        network_kwargs={} if guided is not None else model.condition,
        learned_variance=model.learned_variance,
        guidance=guided,
    )


def _usual_size(pipe: Any) -> int:
    """The height of a pipeline's pictures unless one asks for another."""
    model = getattr(pipe, "transformer", None) or pipe.unet
    size = getattr(pipe, "default_sample_size", None) or model.config.get("sample_size") or 128
    return int(size if isinstance(size, int) else size[0]) * int(getattr(pipe, "vae_scale_factor", 1))


def _usual_mu(config: Mapping[str, Any], tokens: int | None) -> float | None:
    """The shift of a flow for so many tokens: on the line through those of its two sizes."""
    if not config.get("use_dynamic_shifting") or tokens is None:
        return None
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return float(low + (high - low) * (tokens - fewest) / (most - fewest))


def _pictures(pipe: Any, wanted: _Wanted) -> _Model:
    out, channels = pipe.unet.config.out_channels, pipe.unet.config.in_channels
    return _Model(network(pipe.unet, _config(pipe)), {}, learned_variance=out == 2 * channels)


def _classes(pipe: Any, wanted: _Wanted) -> _Model:
    import torch

    model = pipe.transformer
    labels = torch.tensor(list(wanted.class_labels), device=model.device).repeat_interleave(wanted.num)
    nothing = torch.full_like(labels, model.config.num_embeds_ada_norm)
    learned = model.config.out_channels == 2 * model.config.in_channels
    return _Model(_Transformer(model), {"class_labels": labels}, {"class_labels": nothing}, learned, wanted.guidance)


def _stable_diffusion(pipe: Any, wanted: _Wanted) -> _Model:
    text, nothing = _encoded(
        pipe, wanted, device=pipe.unet.device, num_images_per_prompt=wanted.num, do_classifier_free_guidance=True
    )
    return _Model(
        network(pipe.unet, _config(pipe)),
        {"encoder_hidden_states": text},
        {"encoder_hidden_states": nothing},
        scale=wanted.guidance,
    )


def _stable_diffusion_xl(pipe: Any, wanted: _Wanted) -> _Model:
    import torch

    text, nothing, pooled, pooled_nothing = _encoded(
        pipe, wanted, device=pipe.unet.device, num_images_per_prompt=wanted.num, do_classifier_free_guidance=True
    )
    sizes = torch.tensor([[*wanted.size, 0, 0, *wanted.size]], dtype=text.dtype, device=text.device).repeat(
        len(text), 1
    )

    def side(states: Any, vector: Any) -> dict[str, Any]:
        return {"encoder_hidden_states": states, "added_cond_kwargs": {"text_embeds": vector, "time_ids": sizes}}

    return _Model(
        network(pipe.unet, _config(pipe)), side(text, pooled), side(nothing, pooled_nothing), scale=wanted.guidance
    )


def _stable_diffusion_3(pipe: Any, wanted: _Wanted) -> _Model:
    text, nothing, pooled, pooled_nothing = _encoded(
        pipe, wanted, prompt_2=None, prompt_3=None, device=pipe.transformer.device, num_images_per_prompt=wanted.num
    )
    side = ("encoder_hidden_states", "pooled_projections")
    patch = pipe.vae_scale_factor * pipe.transformer.config.patch_size
    return _Model(
        _Transformer(pipe.transformer),
        dict(zip(side, (text, pooled), strict=True)),
        dict(zip(side, (nothing, pooled_nothing), strict=True)),
        scale=wanted.guidance,
        tokens=(wanted.size[0] // patch) * (wanted.size[1] // patch),
    )


def _flux(pipe: Any, wanted: _Wanted) -> _Model:
    import torch

    model = pipe.transformer
    text, pooled, text_ids = pipe.encode_prompt(
        wanted.prompt, None, device=model.device, num_images_per_prompt=wanted.num
    )
    rows, columns = (side // (2 * pipe.vae_scale_factor) for side in wanted.size)
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(columns).float())
    told = torch.full([len(text)], wanted.guidance, device=model.device) if model.config.guidance_embeds else None
    condition = {
        "encoder_hidden_states": text,
        "pooled_projections": pooled,
        "txt_ids": text_ids,
        "img_ids": places.to(text),
        "guidance": told,
    }
    return _Model(_Transformer(model, pipe.scheduler.config.num_train_timesteps), condition, tokens=rows * columns)


def _pixart(pipe: Any, wanted: _Wanted) -> _Model:
    import torch

    model = pipe.transformer
    text, mask, nothing, no_mask = _encoded(pipe, wanted, device=model.device, num_images_per_prompt=wanted.num)
    added: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
    if model.config.sample_size == 128:
        size, ratio = (
            torch.tensor([v]).to(text).repeat(len(text), 1) for v in (wanted.size, [wanted.size[0] / wanted.size[1]])
        )
        added = {"resolution": size, "aspect_ratio": ratio}
    names = ("encoder_hidden_states", "encoder_attention_mask", "added_cond_kwargs")
    return _Model(
        _Transformer(model),
        dict(zip(names, (text, mask, added), strict=True)),
        dict(zip(names, (nothing, no_mask, added), strict=True)),
        model.config.out_channels == 2 * model.config.in_channels,
        wanted.guidance,
    )


def _encoded(pipe: Any, wanted: _Wanted, **arguments: Any) -> Any:
    """What the pipeline's encoders make of the prompts."""
    import torch

    negative = wanted.negative_prompt
    if not isinstance(wanted.prompt, str) and isinstance(negative, str):
        negative = [negative] * len(wanted.prompt)
    with torch.no_grad():
        return pipe.encode_prompt(wanted.prompt, negative_prompt=negative, **arguments)


def _config(pipe: Any) -> Mapping[str, Any]:
    """The config of a pipeline's scheduler, with its class, which a scheduler that was made by hand does not say."""
    return {"_class_name": type(pipe.scheduler).__name__, **pipe.scheduler.config}


# How a pipeline's denoiser is built, its usual guidance, and the condition that it needs.
_BUILDERS: dict[str, tuple[Callable[[Any, _Wanted], _Model], float, str]] = {
    "DDPMPipeline": (_pictures, 1.0, ""),
    "DDIMPipeline": (_pictures, 1.0, ""),
    "DiTPipeline": (_classes, 4.0, "class_labels"),
    "StableDiffusionPipeline": (_stable_diffusion, 7.5, "prompt"),
    "StableDiffusionXLPipeline": (_stable_diffusion_xl, 5.0, "prompt"),
    "StableDiffusion3Pipeline": (_stable_diffusion_3, 7.0, "prompt"),
    "FluxPipeline": (_flux, 3.5, "prompt"),
    "PixArtAlphaPipeline": (_pixart, 4.5, "prompt"),
    "PixArtSigmaPipeline": (_pixart, 4.5, "prompt"),
}
