"""diffusers: its scheduler configs as schedules, its models as networks, and plans as its schedulers.

A pipeline runs on any solver of this library with one changed line:

    pipe.scheduler = PlanScheduler.from_config(pipe.scheduler.config, solver="unipc-3")

Three functions of one config make a denoiser of any diffusers model, and `from_diffusers` makes one of a whole pipeline:

    unet, config = pipeline.unet, pipeline.scheduler.config
    denoiser = dpm.Denoiser(network(unet, config), schedule_from_config(config), predicts_from_config(config))

A config is read according to the name of its scheduler class. Each class has a list of the fields that it reads. A field that affects
alpha, sigma, the label or the sign, and that the class does not read, is refused by its name, as are unknown classes and fields. Fields
about the solver or its steps (solver_order, timestep_spacing, use_karras_sigmas, …) are known and ignored: they are chosen in `dpm.sample`.

Importing this package imports neither torch nor diffusers, and configs are read without them; `PlanScheduler` imports both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpmsolver.adapters.diffusers.configs import data_hook_from_config, predicts_from_config, schedule_from_config
from dpmsolver.adapters.diffusers.networks import Network, network
from dpmsolver.adapters.diffusers.pipelines import from_diffusers

if TYPE_CHECKING:
    from dpmsolver.adapters.diffusers.scheduler import PlanScheduler

__all__ = [
    "Network",
    "PlanScheduler",
    "data_hook_from_config",
    "from_diffusers",
    "network",
    "predicts_from_config",
    "schedule_from_config",
]


def __getattr__(name: str) -> Any:
    if name == "PlanScheduler":
        from dpmsolver.adapters.diffusers.scheduler import PlanScheduler

        return PlanScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
