"""diffusers' schedulers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import diffusers
import numpy as np
import torch

from benchmarks.peer_samplers.common import Network, Peer, cumulative_products, drawing, generator_of, quiet, seed_of
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.samplers import Keys
from dpmsolver.schedules import Discrete, NoiseSchedule

GRIDS: dict[str, dict[str, Any]] = {
    "": {},
    "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "lu_lambdas": {"use_lu_lambdas": True},
}


@dataclass(frozen=True, eq=False)
class Recipe:
    """A scheduler of diffusers with its configuration. The first word of the title is the scheduler's class."""

    title: str
    config: dict[str, Any]
    grid: str
    stochastic: bool

    def sampler(self) -> Peer:
        solver = f"diffusers {self.title}"
        name = f"{solver} {self.grid}" if self.grid else solver
        grid = self.grid or None
        return Peer(name, drawing(self.run), stochastic=self.stochastic, solver=solver, grid=grid, ends=self.end)

    def ready(self, schedule: Discrete, nfe: int, prediction: str = "epsilon") -> Any:
        """A scheduler that nobody has used, with the most steps that cost at most `nfe` calls. PlanError where even one costs more."""
        with quiet():
            scheduler = copy.deepcopy(_made(self, schedule, prediction))
            scheduler.set_timesteps(_steps(self, schedule, nfe))
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # else two equal first times make it start at the second
        return scheduler

    def end(self, schedule: NoiseSchedule, setting: float) -> float:
        """Where it ends: sigma = 0, or the first training step, which some put behind the last sigma."""
        assert isinstance(schedule, Discrete)
        scheduler = self.ready(schedule, int(setting))
        if hasattr(scheduler, "sigmas"):
            return 0.0 if float(scheduler.sigmas[-1]) == 0.0 else schedule.t_min
        # DDIM, DDPM and PNDM subtract whole steps; before step 0 there is clean data.
        last = int(scheduler.timesteps[-1]) - schedule.num_steps // scheduler.num_inference_steps
        return 0.0 if last < 0 else schedule.time_from_label(last)

    def run(self, network: Network, x: torch.Tensor, setting: float, keys: Keys) -> torch.Tensor:
        scheduler = self.ready(network.schedule, int(setting), network.prediction)
        if hasattr(scheduler, "noise_sampler_seed"):
            scheduler.noise_sampler_seed = seed_of(keys)
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        options = {"generator": generator_of(x, keys)} if takes_generator else {}
        x = x * float(scheduler.init_noise_sigma)
        for t in scheduler.timesteps:
            out = network(scheduler.scale_model_input(x, t), float(t))
            x = scheduler.step(out, t, x, **options).prev_sample
        return x


class Ipndm(Recipe):
    """IPNDMScheduler, whose "betas" are the sigmas of its steps, and whose network predicts v. Here: equal steps in time, to clean data."""

    def end(self, schedule: NoiseSchedule, setting: float) -> float:
        return 0.0

    def run(self, network: Network, x: torch.Tensor, setting: float, keys: Keys) -> torch.Tensor:
        times = np.linspace(1.0, 0.0, int(setting) + 1)
        scheduler: Any = diffusers.IPNDMScheduler(trained_betas=network.schedule.sigma(times).tolist())
        scheduler.set_timesteps(int(setting))
        for k, (t, time) in enumerate(zip(scheduler.timesteps, times[:-1].tolist(), strict=True)):
            out = network(x, network.schedule.label(time))
            if network.prediction == "epsilon":
                out = (out - float(scheduler.betas[k]) * x) / float(scheduler.alphas[k])
            x = scheduler.step(out, t, x).prev_sample
        return x


@cache
def _made(recipe: Recipe, schedule: Discrete, prediction: str) -> Any:
    """The scheduler as it is made, to be copied: some take seconds to make."""
    products = cumulative_products(schedule)
    betas = 1.0 - products / np.append(1.0, products[:-1])
    given = {"num_train_timesteps": len(betas), "trained_betas": betas.tolist(), "prediction_type": prediction}
    scheduler = getattr(diffusers, f"{recipe.title.split()[0]}Scheduler")
    return scheduler(**given, **recipe.config, **GRIDS[recipe.grid])


@cache
def _steps(recipe: Recipe, schedule: Discrete, nfe: int) -> int:
    """The most steps that cost at most `nfe` calls."""
    scheduler = copy.deepcopy(_made(recipe, schedule, "epsilon"))
    for steps in range(nfe, 0, -1):
        try:
            scheduler.set_timesteps(steps)
        except ValueError:  # F-PNDM takes no fewer than four
            break
        if len(scheduler.timesteps) <= nfe:
            return steps
    raise PlanError(f"diffusers {recipe.title} has no number of steps that costs {nfe} evaluations or fewer")


# What there is: titles with their configuration and their grids. "-" is the scheduler's own grid.
Rows = Iterator[tuple[str, dict[str, Any], str]]

TO_CLEAN = {"set_alpha_to_one": True}
TO_FIRST = {"final_sigmas_type": "sigma_min"}  # sigma = 0 is out of reach for noise prediction, and for bh1
NOISE = {"algorithm_type": "dpmsolver", **TO_FIRST}


def _without_noise() -> Rows:
    yield "DDIM", {"clip_sample": False}, "leading trailing"
    yield "PNDM", TO_CLEAN, "leading"
    yield "PNDM plms", {**TO_CLEAN, "skip_prk_steps": True}, "leading trailing"
    for name in ("LMSDiscrete", "EulerDiscrete", "HeunDiscrete", "KDPM2Discrete"):
        yield name, {}, "- trailing karras"
    for order in (2, 3):
        config = {"solver_order": order}
        single = {
            **config,
            "lower_order_final": True,
        }  # for sigma = 0, and for odd budgets, diffusers sets it by itself
        yield f"DPMSolverSinglestep {order}S", single, "- karras"
        yield f"DPMSolverSinglestep {order}S dpmsolver", {**single, **NOISE}, "- karras"
        yield f"DPMSolverMultistep {order}M", config, "- trailing karras exponential beta lu_lambdas"
        yield f"DPMSolverMultistep {order}M dpmsolver", {**config, **NOISE}, "- karras lu_lambdas"
        yield f"DEISMultistep {order}", config, "- trailing karras"
        yield f"UniPCMultistep {order}", config, "- trailing karras"
        yield f"UniPCMultistep {order} bh1", {**config, **TO_FIRST, "solver_type": "bh1"}, "- karras"
    yield "DPMSolverMultistep 2M heun", {"solver_type": "heun"}, "- karras lu_lambdas"
    yield "SASolver tau=0", {"tau_func": lambda t: 0.0}, "- karras"


def _with_noise() -> Rows:
    yield "DDPM", {"clip_sample": False}, "leading trailing"
    yield "EulerAncestralDiscrete", {}, "- trailing"
    for name in ("KDPM2AncestralDiscrete", "DPMSolverSDE", "SASolver"):
        yield name, {}, "- karras"
    for order in (2, 3):
        config = {"solver_order": order, "algorithm_type": "sde-dpmsolver++"}
        yield f"DPMSolverMultistep {order}M sde", config, "- karras"
    yield "DPMSolverMultistep 2M sde-dpmsolver", {"algorithm_type": "sde-dpmsolver", **TO_FIRST}, "- karras"


def _recipes() -> Iterator[Recipe]:
    yield Ipndm("IPNDM", {}, "", False)
    for stochastic, rows in ((False, _without_noise()), (True, _with_noise())):
        for title, config, grids in rows:
            for grid in grids.split():
                yield Recipe(title, config, grid.strip("-"), stochastic)


DIFFUSERS = tuple(_recipes())
