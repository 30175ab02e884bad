"""The loop that every pipeline has, with a network that any scheduler can be tested with."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def network(x: Any, t: Any) -> Any:
    """An arbitrary smooth network of the state and the timestep, whose samples stay small."""
    t = torch.as_tensor(t, dtype=torch.float32).reshape(-1, *[1] * (x.ndim - 1))
    return torch.sin(2.0 * x.float() + 0.001 * t).to(x.dtype)


def noise(*shape: int, seed: int = 0, dtype: Any = None) -> Any:
    return torch.randn(*(shape or (2, 3, 4, 4)), generator=torch.Generator().manual_seed(seed)).to(
        dtype or torch.float32
    )


def run(scheduler: Any, x: Any, nfe: int | None = None, timesteps: Any = None, **options: Any) -> Any:
    """The loop of a pipeline."""
    if nfe is not None:
        scheduler.set_timesteps(nfe)
    scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
    for t in scheduler.timesteps if timesteps is None else timesteps:
        x = scheduler.step(network(scale(x, t), t), t, x, **options, return_dict=False)[0]
    return x


def made(name: str, **config: Any) -> Any:
    """A scheduler of diffusers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers, name)(**config)
