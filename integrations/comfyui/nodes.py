"""The nodes: samplers, schedulers, a tuned plan from a file, and the tuning of one for the model that is connected.

Each gives ComfyUI's own types, SAMPLER and SIGMAS, for its node SamplerCustom (or SamplerCustomAdvanced).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
import torch

import dpmsolver as dpm
from dpmsolver.adapters import k_diffusion
from dpmsolver.grids import GRIDS
from dpmsolver.solvers.names import parsed

CATEGORY = "sampling/custom_sampling/dpmsolver"
# Solvers that need statistics of the network, which no node measures.
SOLVERS = [name for name, solver in dpm.solvers.SOLVERS.items() if not solver.calibrated and solver.answers == 1]
EFFORTS = ["seconds", "minutes", "hours"]
OPTIONS = "options as option=value, with : between them, as in eta=0.5:s_noise=1.003"


def written(name: str, options: str) -> str:
    """A solver or a grid with its options, as this library writes both."""
    return ":".join([name, *(part.strip() for part in options.split(":") if part.strip())])


def schedule_of(model: Any) -> dpm.schedules.NoiseSchedule:
    """The noise schedule that a model's sampling object describes: flows, training steps, or sigmas from the least to the largest."""
    sampling = model.get_model_object("model_sampling")
    kinds = {kind.__name__ for kind in type(sampling).__mro__}
    if "CONST" in kinds:
        shift = float(getattr(sampling, "shift", 1.0))
        return dpm.schedules.Flow(
            shift=float(torch.tensor(shift).double().exp()) if "ModelSamplingFlux" in kinds else shift
        )
    sigmas = sampling.sigmas.double().cpu()
    if "ModelSamplingDiscrete" in kinds and "StableCascadeSampling" not in kinds:
        return dpm.schedules.Discrete(alphas_cumprod=(1.0 / (1.0 + sigmas**2)).numpy())
    return dpm.schedules.EDM(sigma_min=float(sigmas[0]), sigma_max=float(sigmas[-1]))


def sigmas_on(schedule: dpm.schedules.NoiseSchedule, times: Any) -> torch.Tensor:
    """ComfyUI's sigmas at times: sigma itself of a flow, sigma/alpha of any other schedule."""
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    flow = isinstance(schedule, dpm.schedules.Flow)
    return torch.from_numpy(sigma if flow else sigma / alpha).float()


def plan_file(name: str) -> Path:
    """Where a plan of this name is kept: in ComfyUI's folder of outputs, and nowhere else, as a workflow may be anybody's."""
    if not name.endswith(".json") or Path(name).name != name:
        raise ValueError(f"a plan's file is a name that ends in .json, without folders, got {name!r}")
    return Path(folder_paths.get_output_directory()) / "dpmsolver" / name


class DPMSolverSampler:
    """A solver by its name, as a SAMPLER."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "solver": (SOLVERS, {"default": "dpm++2m"}),
                "options": ("STRING", {"default": "", "tooltip": OPTIONS}),
            }
        }

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "make"
    CATEGORY = CATEGORY

    def make(self, solver: str, options: str) -> tuple[Any]:
        return (comfy.samplers.KSAMPLER(k_diffusion.sampler(written(solver, options))),)


class DPMSolverScheduler:
    """A grid by its name on the schedule of a model, as SIGMAS that end at 0."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "grid": (list(GRIDS), {"default": "logsnr"}),
                "steps": ("INT", {"default": 10, "min": 1, "max": 10000}),
                "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
                "options": ("STRING", {"default": "", "tooltip": OPTIONS}),
            }
        }

    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "make"
    CATEGORY = CATEGORY

    def make(self, model: Any, grid: str, steps: int, denoise: float, options: str) -> tuple[torch.Tensor]:
        if denoise <= 0.0:
            return (torch.FloatTensor([]),)
        # As ComfyUI counts it: so many steps of a longer run, its last ones.
        whole = steps if denoise >= 1.0 else int(steps / denoise)
        schedule, found = schedule_of(model), parsed(written(grid, options)).options
        times = dpm.grids.make_grid(schedule, whole, grid, end=0.0, **found)
        return (sigmas_on(schedule, times)[-(steps + 1) :],)


class DPMSolverLoadPlan:
    """A plan from a JSON file in output/dpmsolver, as Plan.to_json writes it: SAMPLER, and the SIGMAS that it was made for."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"file": ("STRING", {"default": "plan.json", "tooltip": "in output/dpmsolver"})}}

    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    FUNCTION = "load"
    CATEGORY = CATEGORY

    def load(self, file: str) -> tuple[Any, torch.Tensor]:
        return of_plan(dpm.Plan.from_json(plan_file(file).read_text()))

    @classmethod
    def IS_CHANGED(cls, file: str) -> float:
        return plan_file(file).stat().st_mtime


class DPMSolverTunePlan:
    """A plan fitted to the connected model, with its conditioning and its guidance, and kept in a file."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "positive": ("CONDITIONING",),
                "negative": ("CONDITIONING",),
                "cfg": ("FLOAT", {"default": 7.0, "min": 0.0, "max": 100.0, "step": 0.1}),
                "latent_image": ("LATENT", {"tooltip": "an empty latent of the size to draw"}),
                "nfe": ("INT", {"default": 6, "min": 3, "max": 100}),
                "noises": ("INT", {"default": 100, "min": 16, "max": 10000}),
                "effort": (EFFORTS,),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1}),
                "file": ("STRING", {"default": "plan.json", "tooltip": "in output/dpmsolver"}),
            }
        }

    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    FUNCTION = "tune"
    CATEGORY = CATEGORY

    def tune(
        self,
        model: Any,
        positive: Any,
        negative: Any,
        cfg: float,
        latent_image: dict[str, torch.Tensor],
        nfe: int,
        noises: int,
        effort: str,
        seed: int,
        file: str,
    ) -> tuple[Any, torch.Tensor]:
        if not hasattr(dpm, "tune"):
            raise RuntimeError("this version of dpmsolver has no dpm.tune: pip install --upgrade dpmsolver")
        kept, schedule, found = plan_file(file), schedule_of(model), {}
        if not isinstance(schedule, dpm.schedules.Flow):  # in the states of ComfyUI's models, alpha is 1
            sigmas = sigmas_on(schedule, [schedule.t_max, schedule.t_min])
            schedule = dpm.schedules.EDM(sigma_min=float(sigmas[1]), sigma_max=float(sigmas[0]))

        def fitted(network: Any, x: torch.Tensor, _: torch.Tensor, extra_args: Any, **__: Any) -> torch.Tensor:
            """A sampler, so that ComfyUI has the model at hand; what it draws is not used."""
            denoiser = k_diffusion.denoiser(network, schedule, extra_args)
            generator = torch.Generator().manual_seed(seed)
            normals = torch.randn(noises, *x.shape[1:], generator=generator).to(x.device)
            start = float(schedule.sigma(schedule.default_start()))
            found["plan"] = dpm.tune(denoiser, start * normals, nfe, effort=effort, seed=seed, batch=len(x)).plan
            return x

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        latent = latent_image["samples"]
        whole = sigmas_on(schedule, [schedule.t_max, 0.0])
        guider.sample(torch.zeros_like(latent), latent, comfy.samplers.KSAMPLER(fitted), whole, seed=seed)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(found["plan"].to_json())
        return of_plan(found["plan"])


def of_plan(plan: dpm.Plan) -> tuple[Any, torch.Tensor]:
    """A plan as ComfyUI's SAMPLER, and its own SIGMAS."""
    sigmas = torch.from_numpy(k_diffusion.sigmas_of(plan)).float()
    return comfy.samplers.KSAMPLER(k_diffusion.sampler(plan)), sigmas


NODE_CLASS_MAPPINGS = {
    each.__name__: each for each in (DPMSolverSampler, DPMSolverScheduler, DPMSolverLoadPlan, DPMSolverTunePlan)
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "DPMSolverSampler": "dpmsolver: sampler",
    "DPMSolverScheduler": "dpmsolver: scheduler",
    "DPMSolverLoadPlan": "dpmsolver: plan from a file",
    "DPMSolverTunePlan": "dpmsolver: tune a plan",
}
