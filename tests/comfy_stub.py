"""A stand-in for ComfyUI, which is no package and cannot be installed: what our nodes use of it, restated from its contract.

Of comfy.samplers at Comfy-Org/ComfyUI@a125cd84 (0.3.64): KSAMPLER scales noise and latent to the state at the first sigma, calls the
sampler function with the model behind a wrapper that takes `denoise_mask`, `model_options` and `seed`, and scales the result back;
CFGGuider runs it with the model at hand. Model samplings say sigmas, and the scalings of their kind of state.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


class EPS:
    """States x_0 + sigma noise."""

    def noise_scaling(self, sigma: Any, noise: Any, latent: Any, max_denoise: bool = False) -> Any:
        return noise * torch.sqrt(1.0 + sigma**2) + latent if max_denoise else noise * sigma + latent

    def inverse_noise_scaling(self, sigma: Any, latent: Any) -> Any:
        return latent


class CONST:
    """States (1 - sigma) x_0 + sigma noise."""

    def noise_scaling(self, sigma: Any, noise: Any, latent: Any, max_denoise: bool = False) -> Any:
        return sigma * noise + (1.0 - sigma) * latent

    def inverse_noise_scaling(self, sigma: Any, latent: Any) -> Any:
        return latent / (1.0 - sigma)


class ModelSamplingDiscrete:
    """Training steps with Stable Diffusion's betas."""

    def __init__(self) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        products = torch.cumprod(1.0 - betas, dim=0)
        self.sigmas = ((1.0 - products) / products).sqrt().float()

    sigma_max = property(lambda self: self.sigmas[-1])


class ModelSamplingContinuousEDM:
    """1000 sigmas from the least to the largest, which are no training steps."""

    def __init__(self) -> None:
        self.sigmas = torch.linspace(math.log(0.002), math.log(120.0), 1000).exp()

    sigma_max = property(lambda self: self.sigmas[-1])


class ModelSamplingDiscreteFlow:
    def __init__(self, shift: float) -> None:
        self.shift, t = shift, torch.arange(1, 1001) / 1000
        self.sigmas = shift * t / (1.0 + (shift - 1.0) * t)

    sigma_max = property(lambda self: self.sigmas[-1])


class ModelSamplingFlux:
    def __init__(self, shift: float) -> None:
        self.shift, t = shift, torch.arange(1, 10001) / 10000
        self.sigmas = math.exp(shift) / (math.exp(shift) + (1.0 / t - 1.0))

    sigma_max = property(lambda self: self.sigmas[-1])


def sampling_of(*kinds: type, **arguments: Any) -> Any:
    return type("ModelSampling", kinds, {})(**arguments)


class Patcher:
    """A model as nodes are given it: `network(x, sigma)` returns the denoised latent."""

    def __init__(self, sampling: Any, network: Callable[[Any, Any], Any]) -> None:
        self.sampling, self.network = sampling, network

    def get_model_object(self, name: str) -> Any:
        assert name == "model_sampling"
        return self.sampling


class KSAMPLER:
    def __init__(self, sampler_function: Any, extra_options: Any = None, inpaint_options: Any = None) -> None:
        self.sampler_function, self.extra_options = sampler_function, extra_options or {}

    def sample(
        self,
        model_wrap: Any,
        sigmas: Any,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Any,
        latent_image: Any = None,
        denoise_mask: Any = None,
        disable_pbar: bool = False,
    ) -> Any:
        sampling = model_wrap.inner_model.model_sampling
        extra_args["denoise_mask"] = denoise_mask

        class Model:
            inner_model = model_wrap

            def __call__(
                self, x: Any, sigma: Any, denoise_mask: Any, model_options: Any = None, seed: Any = None
            ) -> Any:
                return model_wrap(x, sigma, model_options=model_options, seed=seed)

        whole = (
            math.isclose(float(sampling.sigma_max), float(sigmas[0]), rel_tol=1e-05) or sigmas[0] > sampling.sigma_max
        )
        x = sampling.noise_scaling(sigmas[0], noise, latent_image, whole)
        seen = None
        if callback is not None:

            def seen(each: dict[str, Any]) -> None:
                callback(each["i"], each["denoised"], each["x"], len(sigmas) - 1)

        result = self.sampler_function(
            Model(), x, sigmas, extra_args=extra_args, callback=seen, disable=disable_pbar, **self.extra_options
        )
        return sampling.inverse_noise_scaling(sigmas[-1], result)


class CFGGuider:
    def __init__(self, model_patcher: Patcher) -> None:
        self.model_patcher = model_patcher
        self.inner_model = SimpleNamespace(model_sampling=model_patcher.sampling)

    def set_conds(self, positive: Any, negative: Any) -> None:
        self.conds = positive, negative

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def __call__(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> Any:
        """cfg mixes the two conditions, which are shifts of the data here."""
        positive, negative = (self.model_patcher.network(x, timestep) + shift for shift in self.conds)
        return negative + self.cfg * (positive - negative)

    def sample(
        self,
        noise: Any,
        latent_image: Any,
        sampler: KSAMPLER,
        sigmas: Any,
        denoise_mask: Any = None,
        callback: Any = None,
        disable_pbar: bool = False,
        seed: Any = None,
    ) -> Any:
        if sigmas.shape[-1] == 0:
            return latent_image
        extra_args = {"model_options": {}, "seed": seed}
        return sampler.sample(self, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)


@contextmanager
def installed(output: str) -> Iterator[None]:
    """`import comfy.samplers` and `import folder_paths` find these; `output` is the folder of what ComfyUI writes."""
    package, samplers, paths = ModuleType("comfy"), ModuleType("comfy.samplers"), ModuleType("folder_paths")
    paths.get_output_directory = lambda: output  # type: ignore[attr-defined]
    samplers.KSAMPLER, samplers.CFGGuider = KSAMPLER, CFGGuider  # type: ignore[attr-defined]
    package.samplers = samplers  # type: ignore[attr-defined]
    sys.modules |= {"comfy": package, "comfy.samplers": samplers, "folder_paths": paths}
    try:
        yield
    finally:
        for name in ("comfy", "comfy.samplers", "folder_paths"):
            sys.modules.pop(name, None)
