"""What ComfyUI's own samplers return, kept in comfyui.json: run once, outside this repository, on a checkout of Comfy-Org/ComfyUI.

    git clone https://github.com/Comfy-Org/ComfyUI
    python tests/goldens/comfyui.py ComfyUI > tests/goldens/comfyui.json

Four files of theirs are imported (k_diffusion/sampling.py, extra_samplers/uni_pc.py, model_sampling.py, samplers.py); of the rest of
ComfyUI there are stand-ins of a few lines here. Nothing is random: the model, x, and the noise, one path read at its ends, are
formulas, with which the tests run our functions.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

SIGMAS = [14.6, 7.9, 4.1, 2.2, 1.3, 0.7, 0.31, 0.12]
FLOW_SIGMAS = [0.97, 0.9, 0.8, 0.68, 0.5, 0.31, 0.15, 0.05]
NAMES = [
    *(
        "euler",
        "euler_ancestral",
        "heun",
        "heunpp2",
        "dpm_2",
        "dpm_2_ancestral",
        "lms",
        "dpmpp_2s_ancestral",
        "dpmpp_sde",
    ),
    *("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ddpm", "lcm", "ipndm", "ipndm_v", "deis"),
    *("res_multistep", "res_multistep_ancestral", "gradient_estimation", "er_sde", "seeds_2", "seeds_3", "sa_solver"),
    *("sa_solver_pece", "exp_heun_2_x0", "exp_heun_2_x0_sde", "uni_pc", "uni_pc_bh2"),
]
# Those that want the unconditional prediction beside the guided one.
CFG_PP = [
    *("euler_cfg_pp", "euler_ancestral_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp"),
    *("res_multistep_ancestral_cfg_pp", "gradient_estimation_cfg_pp"),
]


SCHEDULERS = [
    "simple",
    "sgm_uniform",
    "ddim_uniform",
    "normal",
    "kl_optimal",
    "linear_quadratic",
    "karras",
    "exponential",
]
STEPS = (1, 4, 10)


def start(level: float) -> torch.Tensor:
    """x at the first sigma: six numbers of the size of normals."""
    return level * torch.tensor([[0.4, -1.2, 0.7], [-0.3, 1.6, -0.8]], dtype=torch.float64)


def denoised(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A smooth denoiser, whose x_0 is bounded and mixes the columns."""
    level = torch.log(sigma).reshape(-1, 1)
    return torch.tanh(x / (1.0 + sigma.reshape(-1, 1)) + 0.1 * level) * (0.8 + 0.1 * torch.cos(level + x.flip(1)))


def undirected(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The unconditional denoiser, where `denoised` is the guided one."""
    return 0.6 * torch.sin(x / (1.0 + sigma.reshape(-1, 1)) - 0.2) + 0.05 * x.flip(1) / (1.0 + sigma.reshape(-1, 1))


def noise_of_path(flow: bool) -> Callable[[Any, Any], torch.Tensor]:
    """A stand-in for a Brownian path: increments of a smooth W(c) with the clock c = (alpha/sigma)^2, over their deviation."""
    phases = torch.arange(6, dtype=torch.float64).reshape(2, 3)

    def path(clock: torch.Tensor) -> torch.Tensor:
        return clock.sqrt() * torch.cos(1.3 * clock.clamp(min=1e-300).log() + phases)

    def noise(sigma: Any, sigma_next: Any) -> torch.Tensor:
        levels = (torch.as_tensor(s, dtype=torch.float64) for s in (sigma, sigma_next))
        before, after = (((1.0 - s) / s if flow else 1.0 / s) ** 2 for s in levels)
        return (path(after) - path(before)) / (after - before).abs().sqrt()

    return noise


def comfyui(checkout: Path) -> tuple[Any, Any, Any, Any]:
    """Their modules of samplers, of UniPC, of model samplings and of schedulers, with stand-ins for what these import."""
    util, utils = ModuleType("comfy.ldm.modules.diffusionmodules.util"), ModuleType("comfy.k_diffusion.utils")
    util.make_beta_schedule = lambda kind, steps, linear_start, linear_end, cosine_s: (  # type: ignore[attr-defined]
        torch.linspace(linear_start**0.5, linear_end**0.5, steps, dtype=torch.float64) ** 2
    )
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]  # type: ignore[attr-defined]
    sys.modules |= {module.__name__: module for module in (util, utils)}
    for name in (
        "ldm",
        "ldm.modules",
        "ldm.modules.diffusionmodules",
        "model_patcher",
        "model_management",
        "sampler_helpers",
    ):
        sys.modules[f"comfy.{name}"] = ModuleType(f"comfy.{name}")
    for name in ("patcher_extension", "hooks", "context_windows", "utils"):
        sys.modules[f"comfy.{name}"] = ModuleType(f"comfy.{name}")
    sys.path.insert(0, str(checkout))
    import comfy  # type: ignore[import-not-found]

    comfy.model_management = sys.modules["comfy.model_management"]
    comfy.model_patcher = sys.modules["comfy.model_patcher"]
    comfy.model_patcher.set_model_options_post_cfg_function = lambda options, function, disable_cfg1_optimization: {
        **options,
        "post_cfg": function,
    }
    import comfy.model_sampling  # type: ignore[import-not-found]
    import comfy.samplers  # type: ignore[import-not-found]
    from comfy.extra_samplers import uni_pc  # type: ignore[import-not-found]
    from comfy.k_diffusion import sampling  # type: ignore[import-not-found]

    return sampling, uni_pc, comfy.model_sampling, comfy.samplers


def schedulers(samplings: Any, samplers: Any) -> dict[str, Any]:
    """The sigmas of their schedulers: for Stable Diffusion's training steps, and for a flow with a shift of 3."""
    discrete = samplings.ModelSamplingDiscrete()
    flow = samplings.ModelSamplingDiscreteFlow()
    flow.set_parameters(shift=3.0)
    return {
        kind: {
            name: [
                samplers.calculate_sigmas(sampling, name, n).tolist() for n in STEPS if name != "kl_optimal" or n > 1
            ]
            for name in SCHEDULERS
        }
        for kind, sampling in (("discrete", discrete), ("flow", flow))
    }


def model_of(samplings: Any, flow: bool) -> Any:
    """A model with what their samplers ask of it."""
    bases = (
        (samplings.ModelSamplingDiscreteFlow, samplings.CONST)
        if flow
        else (samplings.ModelSamplingContinuousEDM, samplings.EPS)
    )
    sampling = type("ModelSampling", bases, {})()
    inner = SimpleNamespace(
        inner_model=SimpleNamespace(model_sampling=sampling),
        model_patcher=SimpleNamespace(get_model_object=lambda name: sampling),
    )

    def call(self: Any, x: torch.Tensor, sigma: torch.Tensor, model_options: Any = None, **kwargs: Any) -> torch.Tensor:
        found = denoised(x, sigma)
        if model_options:
            model_options["post_cfg"]({"denoised": found, "uncond_denoised": undirected(x, sigma)})
        return found

    return type("Model", (), {"inner_model": inner, "__call__": call})()


def results(modules: tuple[Any, Any, Any, Any], flow: bool, to_zero: bool) -> dict[str, Any]:
    """What each of their samplers returns; a sampler that is not there, or that cannot, is left out."""
    sampling, uni_pc, samplings, _ = modules
    sigmas = torch.tensor([*(FLOW_SIGMAS if flow else SIGMAS), *([0.0] * to_zero)], dtype=torch.float64)
    found = {}
    for name in [*NAMES, *CFG_PP]:
        module = uni_pc if name.startswith("uni_pc") else sampling
        function = getattr(module, f"sample_{name.replace('uni_pc', 'unipc')}", None)
        if function is None:
            continue
        options = (
            {"noise_sampler": noise_of_path(flow)} if "noise_sampler" in inspect.signature(function).parameters else {}
        )
        x = function(model_of(samplings, flow), start(float(sigmas[0])), sigmas.clone(), {}, disable=True, **options)
        found[name] = x.tolist()
    return found


def main(checkout: Path) -> None:
    torch.set_default_dtype(torch.float64)
    modules = comfyui(checkout)
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except subprocess.CalledProcessError:
        commit = (checkout / "COMMIT").read_text().strip()  # of files without their history
    document = {
        "command": "python tests/goldens/comfyui.py ComfyUI",
        "repository": "https://github.com/Comfy-Org/ComfyUI",
        "commit": commit,
        "sigmas": SIGMAS,
        "flow_sigmas": FLOW_SIGMAS,
        **{
            f"{'flow' if flow else 'edm'} {'to 0' if to_zero else 'above 0'}": results(modules, flow, to_zero)
            for flow in (False, True)
            for to_zero in (True, False)
        },
        "schedulers": schedulers(*modules[2:]),
        "names": {"samplers": modules[3].SAMPLER_NAMES, "schedulers": modules[3].SCHEDULER_NAMES},
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
