"""diffusers: its scheduler configs as schedules, and its models as networks.

Three functions of one config make a denoiser of any diffusers model:

unet, config = pipeline.unet, pipeline.scheduler.config
denoiser = dpm.Denoiser(network(unet, config), schedule_from_config(config), predicts_from_config(config))

A config is read by the name of its scheduler class. Each class has a list of the fields that it reads; a field that bears on alpha,
sigma, the label or the sign and that the class does not read is refused by its name, and so are unknown classes and fields. What
concerns the solver or its steps (solver_order, timestep_spacing, use_karras_sigmas, …) is known and left to `dpm.sample`.

Importing this package imports neither torch nor diffusers, and configs are read without them.
"""

from __future__ import annotations

from dpmsolver.adapters.diffusers.configs import data_hook_from_config, predicts_from_config, schedule_from_config
from dpmsolver.adapters.diffusers.networks import Network, network

__all__ = ["Network", "data_hook_from_config", "network", "predicts_from_config", "schedule_from_config"]
