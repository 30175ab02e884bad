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
from dpmsolver.schedules import Discrete, Flow, NoiseSchedule

GRIDS: dict[str, dict[str, Any]] = {
    "": {},
    "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "lu_lambdas": {"use_lu_lambdas": True},
}


FLOW_GRIDS: dict[str, dict[str, Any]] = {name: GRIDS[name] for name in ("", "karras", "exponential", "beta")}
FLOW_GRIDS["shift=3"] = {"shift": 3.0}
EDM_GRIDS: dict[str, dict[str, Any]] = {
    "": {},
    **{name: {"sigma_schedule": name} for name in ("karras", "exponential")},
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

    def configured(self, schedule: NoiseSchedule, prediction: str) -> dict[str, Any]:
        """What the scheduler's class is called with for a network."""
        products = cumulative_products(schedule)
        betas = 1.0 - products / np.append(1.0, products[:-1])
        given = {"num_train_timesteps": len(betas), "trained_betas": betas.tolist(), "prediction_type": prediction}
        return {**given, **self.config, **GRIDS[self.grid]}

    def ready(self, schedule: NoiseSchedule, nfe: int, prediction: str = "epsilon") -> Any:
        """A scheduler that nobody has used, with the most steps that cost at most `nfe` calls. PlanError where even one costs more."""
        with quiet():
            scheduler = copy.deepcopy(_made(self, schedule, prediction))
            scheduler.set_timesteps(_steps(self, schedule, nfe))
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)  # else two equal first times make it start at the second
        return scheduler

    def end(self, schedule: NoiseSchedule, setting: float) -> float:
        """Where it ends: sigma = 0, or the first training step, which some put behind the last sigma."""
        scheduler = self.ready(schedule, int(setting))
        if hasattr(scheduler, "sigmas"):
            return 0.0 if float(scheduler.sigmas[-1]) == 0.0 else schedule.t_min
        assert isinstance(schedule, Discrete)
        # DDIM, DDPM and PNDM subtract whole steps; before step 0 there is clean data.
        last = int(scheduler.timesteps[-1]) - schedule.num_steps // scheduler.num_inference_steps
        return 0.0 if last < 0 else schedule.time_from_label(last)

    def run(self, network: Network, x: torch.Tensor, setting: float, keys: Keys) -> torch.Tensor:
        scheduler = self.ready(network.schedule, int(setting), self.prediction(network))
        if hasattr(scheduler, "noise_sampler_seed"):
            scheduler.noise_sampler_seed = seed_of(keys)
        takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        options = {"generator": generator_of(x, keys)} if takes_generator else {}
        x = x * float(getattr(scheduler, "init_noise_sigma", 1.0))
        for t in scheduler.timesteps:
            x = scheduler.step(self.output(network, scheduler, x, t), t, x, **options).prev_sample
        return x

    def prediction(self, network: Network) -> str:
        """What the scheduler is told that the network predicts."""
        return network.prediction

    def output(self, network: Network, scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the scheduler takes for the network's output at one of its times."""
        return network(scheduler.scale_model_input(x, t), float(t))


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


class OnFlow(Recipe):
    """A scheduler on the straight path, whose sigmas and times are its own: it asks for the velocity at 1000 sigma."""

    def configured(self, schedule: NoiseSchedule, prediction: str) -> dict[str, Any]:
        given = {"num_train_timesteps": 1000, **self.config, **FLOW_GRIDS[self.grid]}
        if not self.title.startswith("FlowMatch"):
            given |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
            given |= {"flow_shift": given.pop("shift")} if "shift" in given else {}
        return given

    def output(self, network: Network, scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        flow, level = network.schedule, float(t) / 1000.0
        assert isinstance(flow, Flow)
        return flow.velocity_sign * network(x, flow.label_scale * (1.0 - level if flow.reversed else level))


class OnSigmas(Recipe):
    """A scheduler of EDM, which preconditions a network by itself: it gets the output from which it makes the data that ours predicts."""

    def configured(self, schedule: NoiseSchedule, prediction: str) -> dict[str, Any]:
        limits = {"sigma_min": schedule.t_min, "sigma_max": schedule.t_max}
        return {**limits, **self.config, **EDM_GRIDS[self.grid]}

    def prediction(self, network: Network) -> str:
        return "data"  # of which `output` makes what the scheduler takes

    def output(self, network: Network, scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        scheduler.scale_model_input(x, t)  # which finds the step
        sigma = float(scheduler.sigmas[scheduler.step_index])
        skipped, factor = scheduler.precondition_outputs(x, 0.0, sigma), scheduler.precondition_outputs(0.0, 1.0, sigma)
        out: torch.Tensor = (network.data(x, sigma) - skipped) / factor
        return out


@cache
def _made(recipe: Recipe, schedule: NoiseSchedule, prediction: str) -> Any:
    """The scheduler as it is made, to be copied: some take seconds to make."""
    scheduler = getattr(diffusers, f"{recipe.title.split()[0]}Scheduler")
    return scheduler(**recipe.configured(schedule, prediction))


@cache
def _steps(recipe: Recipe, schedule: NoiseSchedule, nfe: int) -> int:
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


def _on_flows() -> Rows:
    yield "FlowMatchEulerDiscrete", {}, "- shift=3 karras exponential beta"
    yield "FlowMatchHeunDiscrete", {}, "- shift=3"
    for order in (2, 3):
        config = {"solver_order": order}
        yield f"DPMSolverSinglestep {order}S", {**config, "lower_order_final": True}, "- shift=3"
        yield f"DPMSolverMultistep {order}M", config, "- shift=3"
        yield f"UniPCMultistep {order}", config, "- shift=3 karras"
    yield "DPMSolverMultistep 2M heun", {"solver_type": "heun"}, "- shift=3"


def _on_flows_with_noise() -> Rows:
    yield "FlowMatchEulerDiscrete stochastic", {"stochastic_sampling": True}, "- shift=3"
    for order in (2, 3):
        config = {"solver_order": order, "algorithm_type": "sde-dpmsolver++"}
        yield f"DPMSolverMultistep {order}M sde", config, "- shift=3"


def _on_sigmas() -> Rows:
    yield "EDMEuler", {}, "- exponential"
    for order in (2, 3):
        yield f"EDMDPMSolverMultistep {order}M", {"solver_order": order}, "- exponential"
    yield "EDMDPMSolverMultistep 2M heun", {"solver_type": "heun"}, "- exponential"


def _on_sigmas_with_noise() -> Rows:
    yield "EDMDPMSolverMultistep 2M sde", {"algorithm_type": "sde-dpmsolver++"}, "- exponential"
    yield "CosineDPMSolverMultistep", {}, "- karras"


def _recipes(kind: type[Recipe], without_noise: Rows, with_noise: Rows) -> Iterator[Recipe]:
    for stochastic, rows in ((False, without_noise), (True, with_noise)):
        for title, config, grids in rows:
            for grid in grids.split():
                yield kind(title, config, grid.removeprefix("-"), stochastic)


DIFFUSERS = (Ipndm("IPNDM", {}, "", False), *_recipes(Recipe, _without_noise(), _with_noise()))
FLOW_DIFFUSERS = tuple(_recipes(OnFlow, _on_flows(), _on_flows_with_noise()))
EDM_DIFFUSERS = tuple(_recipes(OnSigmas, _on_sigmas(), _on_sigmas_with_noise()))
