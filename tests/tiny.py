"""A network in diffusers format that is small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def tiny_unet(**changes: Any) -> Any:
    """An untrained UNet2DModel of pictures 3 x 8 x 8, the same in every test, with changes of its config."""
    import diffusers
    import torch

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "add_attention": False,
    }
    return diffusers.UNet2DModel(**{**settings, **changes})


def saved(folder: Path, unet: Any, scheduler: Any = None) -> Path:
    """The folder, with the network and its scheduler (DDPM's by default) in it."""
    import diffusers

    unet.save_pretrained(folder / "unet")
    (scheduler or diffusers.DDPMScheduler()).save_pretrained(folder / "scheduler")
    return folder
