"""Stand-ins for the objects of research code, of our own: what each project's contract says of its networks, SDEs and diffusions."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BETAS = np.linspace(1e-4, 0.02, 1000)


def each(t: Any, x: Tensor) -> Tensor:
    """One number per sample, to multiply x with."""
    return torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


class EDMNet(nn.Module):
    """EDM's interface: x and sigma become float32, labels one-hot rows; the output is c_skip x + c_out F."""

    def __init__(self, label_dim: int = 0, seed: int = 0, **attributes: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(max(label_dim, 1), generator=generator), requires_grad=False)
        self.img_resolution, self.img_channels, self.label_dim, self.sigma_data = 4, 3, label_dim, 0.5
        for name, value in attributes.items():
            setattr(self, name, value)
        self.seen: list[Any] = []

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None, gain: float = 1.0) -> Tensor:
        self.seen.append((x.dtype, sigma, class_labels))
        x, sigma = x.float(), sigma.float().reshape(-1, 1, 1, 1)
        if self.label_dim == 0:
            bias = self.weight.float()
        else:
            labels = torch.zeros(1, self.label_dim) if class_labels is None else class_labels.float()
            bias = labels.reshape(-1, self.label_dim) @ self.weight.float()
        total = sigma**2 + 0.25
        return 0.25 / total * x + gain * 0.5 * sigma / total.sqrt() * torch.tanh(
            x / total.sqrt() + bias.reshape(-1, 1, 1, 1)
        )


class VPSDE:
    """The attributes and marginals of score_sde's class."""

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, N: int = 1000) -> None:
        self.beta_0, self.beta_1, self.N = beta_min, beta_max, N
        self.discrete_betas = torch.linspace(beta_min / N, beta_max / N, N)

    def alpha(self, t: Tensor) -> Tensor:
        return (-0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0).exp()

    def std(self, t: Tensor) -> Tensor:
        return (1.0 - self.alpha(t) ** 2).sqrt()


class subVPSDE(VPSDE):
    """Its deviation is the square of VPSDE's."""

    def std(self, t: Tensor) -> Tensor:
        return 1.0 - self.alpha(t) ** 2


class VESDE:
    """The attributes and marginals of score_sde's class."""

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0, N: int = 1000) -> None:
        self.sigma_min, self.sigma_max, self.N = sigma_min, sigma_max, N

    def std(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t


class MeanType(Enum):
    PREVIOUS_X = auto()
    START_X = auto()
    EPSILON = auto()


class VarType(Enum):
    FIXED_SMALL = auto()
    LEARNED_RANGE = auto()


class Diffusion:
    """What guided-diffusion's SpacedDiffusion holds: the betas between the steps that are left, and which steps these are."""

    def __init__(
        self,
        betas: Any = BETAS,
        kept: Any = None,
        rescale: bool = False,
        mean: Any = MeanType.EPSILON,
        variance: Any = VarType.LEARNED_RANGE,
    ) -> None:
        products = np.cumprod(1 - np.asarray(betas))
        self.timestep_map = list(range(len(betas)) if kept is None else kept)
        self.alphas_cumprod = products[self.timestep_map]
        self.betas = 1 - self.alphas_cumprod / np.append(1.0, self.alphas_cumprod[:-1])
        self.original_num_steps, self.rescale_timesteps = len(betas), rescale
        self.model_mean_type, self.model_var_type = mean, variance


class GuidedNet:
    """Six channels for three; the classes shift the output."""

    num_classes: int | None = None

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.t = t
        out = torch.tanh(x) * (1 + each(t, x) / 1000) + (0 if y is None else each(y, x))
        return torch.cat([out, 7.0 + out], 1)


class Latent(nn.Module):
    """What a LatentDiffusion has."""

    scale_factor = 0.18215

    def __init__(self, parameterization: str = "eps") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64), requires_grad=False)
        self.register_buffer("alphas_cumprod", torch.as_tensor(np.cumprod(1 - BETAS)))
        self.parameterization, self.batches = parameterization, []

    def get_learned_conditioning(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(len(text))] for text in texts], dtype=torch.float64)

    def decode_first_stage(self, z: Tensor) -> Tensor:
        return z / self.scale_factor

    def apply_model(self, x_noisy: Tensor, t: Tensor, cond: Any) -> Tensor:
        self.batches.append(len(x_noisy))
        given = cond["c_crossattn"][0] if isinstance(cond, dict) else cond
        shift = 0.0 if given is None else 0.1 * given[:, :1, None, None]
        return self.weight * torch.tanh(x_noisy + shift) * (1 + each(t, x_noisy) / 1000)
