"""Real diffusers pipelines with small random networks: nothing is downloaded, and the same in every test."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tiny import tiny_unet

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
WORDS = ["<pad>", "</s>", "<unk>", "a", "lighthouse", "at", "night", "blurry", "sound", "rain"]


def quiet(pipe: Any) -> Any:
    """The pipeline in evaluation mode and without its progress bar."""
    pipe.set_progress_bar_config(disable=True)
    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    return pipe


def tokenizer(length: int) -> Any:
    """A tokenizer of a few words, whose texts end in </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=length, **special)


def clip(width: int, projection: int = 0) -> Any:
    """A text encoder of CLIP."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=projection or width,
        hidden_act="gelu",
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def t5(width: int) -> Any:
    """A text encoder of T5."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=len(WORDS), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2))


def vae(channels: int = 4, **changes: Any) -> Any:
    """An autoencoder that halves the side."""
    settings: dict[str, Any] = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": channels,
        "norm_num_groups": 4,
        "sample_size": 16,
    }
    return diffusers.AutoencoderKL(**{**settings, **changes})


def conditional_unet(**changes: Any) -> Any:
    """A UNet of latents 4 x 8 x 8 with texts of width 8."""
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return diffusers.UNet2DConditionModel(**{**settings, **changes})


def ddpm(scheduler: Any = None) -> Any:
    """DDPMPipeline of pictures 3 x 8 x 8."""
    return quiet(diffusers.DDPMPipeline(tiny_unet(), scheduler or diffusers.DDPMScheduler(clip_sample=False)))


def dit() -> Any:
    """DiTPipeline with learned variance."""
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    return quiet(diffusers.DiTPipeline(transformer, vae(), diffusers.DDIMScheduler(clip_sample=False)))


def stable_diffusion(kind: str = "StableDiffusionPipeline", **more: Any) -> Any:
    """A pipeline of Stable Diffusion 1: text to image, image to image, inpainting, ControlNet."""
    torch.manual_seed(0)
    components = {
        "vae": vae(),
        "text_encoder": clip(8),
        "tokenizer": tokenizer(16),
        "unet": conditional_unet(),
        "scheduler": diffusers.DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    if "ControlNet" in kind:
        torch.manual_seed(1)
        components["controlnet"] = diffusers.ControlNetModel.from_unet(
            components["unet"], conditioning_embedding_out_channels=(4, 8)
        )
    return quiet(getattr(diffusers, kind)(**components, **more))


def stable_diffusion_xl(kind: str = "StableDiffusionXLPipeline") -> Any:
    """A pipeline of SDXL."""
    torch.manual_seed(0)
    unet = conditional_unet(
        cross_attention_dim=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=4 * 6 + 8,
    )
    components = {
        "vae": vae(),
        "text_encoder": clip(8),
        "text_encoder_2": clip(8, 8),
        "tokenizer": tokenizer(16),
        "tokenizer_2": tokenizer(16),
        "unet": unet,
        "scheduler": diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        "force_zeros_for_empty_prompt": False,
        "add_watermarker": False,
    }
    return quiet(getattr(diffusers, kind)(**components))


def stable_diffusion_3(**config: Any) -> Any:
    """StableDiffusion3Pipeline without its third encoder."""
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
    )
    components = {
        "text_encoder": clip(8, 8),
        "text_encoder_2": clip(8, 8),
        "tokenizer": tokenizer(16),
        "tokenizer_2": tokenizer(16),
        "text_encoder_3": None,
        "tokenizer_3": None,
        "vae": vae(shift_factor=0.1),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config}),
    }
    return quiet(diffusers.StableDiffusion3Pipeline(transformer, **components))


def flux() -> Any:
    """FluxPipeline, with a shift by the size of the picture."""
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )
    components = {
        "text_encoder": clip(8),
        "tokenizer": tokenizer(16),
        "text_encoder_2": t5(8),
        "tokenizer_2": tokenizer(16),
        "vae": vae(4, shift_factor=0.0, use_quant_conv=False, use_post_quant_conv=False),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=True),
    }
    return quiet(diffusers.FluxPipeline(transformer=transformer, **components))


def pixart() -> Any:
    """PixArtAlphaPipeline with learned variance."""
    torch.manual_seed(0)
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=8,
        patch_size=2,
        use_additional_conditions=False,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(algorithm_type="dpmsolver++")
    return quiet(diffusers.PixArtAlphaPipeline(tokenizer(16), t5(8), vae(), transformer, scheduler))


def wan() -> Any:
    """WanPipeline, for video, with flow prediction by UniPC."""
    torch.manual_seed(0)
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=8,
        num_layers=1,
        rope_max_seq_len=16,
    )
    autoencoder = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False]
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )
    return quiet(diffusers.WanPipeline(tokenizer(16), t5(8), autoencoder, scheduler, transformer))


def longcat() -> Any:
    """LongCatAudioDiTPipeline, for sound, whose flow counts the other way."""
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(WORDS), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    transformer = diffusers.LongCatAudioDiTTransformer(
        dit_dim=16, dit_depth=1, dit_heads=2, dit_text_dim=8, latent_dim=4, text_conv=False
    )
    autoencoder = diffusers.LongCatAudioDiTVae(
        in_channels=1,
        channels=8,
        c_mults=[1, 2],
        strides=[2],
        latent_dim=4,
        encoder_latent_dim=8,
        downsampling_ratio=2,
        sample_rate=2400,
    )
    return quiet(diffusers.LongCatAudioDiTPipeline(autoencoder, encoder, tokenizer(16), transformer))
