"""The states, timesteps and network outputs of a pipeline, in the terms of this library."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dpmsolver.adapters.diffusers.configs import (
    data_hook_from_config,
    edm_scaling,
    predicts_from_config,
    schedule_from_config,
)
from dpmsolver.adapters.diffusers.fields import Fields
from dpmsolver.errors import PlanError
from dpmsolver.grids import from_labels, from_sigmas
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import elsewhere
from dpmsolver.plans.plan import Point
from dpmsolver.plans.targets import Predicts
from dpmsolver.schedules import EDM, Discrete, Floats, Flow, NoiseSchedule

__all__ = ["Reading", "falling", "one_timestep"]


@dataclass(frozen=True)
class Reading:
    """The conventions for states, timesteps and outputs in the pipelines of a scheduler config.

    Args:
        config: the fields of the config, with `_class_name` if it is known.
        mu: the shift of a flow with dynamic shifting. It moves the times of a grid, not the noise levels that a network knows.
        clip: whether the config's clip_sample is applied.
    """

    config: Mapping[str, Any]
    mu: float | None = None
    clip: bool = False

    @cached_property
    def fields(self) -> Fields:
        """The config's fields, checked.

        Raises:
            ValueError: the class is not supported, or fields contradict each other.
        """
        fields = Fields(self.config)
        if fields.family.kind == "flow" and fields.value("sigma_data") is not None:
            raise ValueError(
                "the pipeline of Cosmos-Predict2 (a flow config with sigma_data) scales its states and outputs itself, for its own "
                "scheduler alone: keep FlowMatchEulerDiscreteScheduler there"
            )
        if fields.family.class_name in ("DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"):
            raise ValueError(
                f"{fields.family.class_name} runs from data to noise, and this scheduler to data: use dpm.encode(denoiser, x0, nfe=…) "
                "with the denoiser of dpm.from_diffusers(pipe)"
            )
        return fields

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule. For a flow with dynamic shifting it needs mu."""
        return schedule_from_config(self.config, mu=self.mu)

    @cached_property
    def predicts(self) -> Predicts:
        """The target that the network predicts; the data for networks with EDM's preconditioning."""
        return predicts_from_config(self.config)

    @cached_property
    def scaling(self) -> tuple[float, float] | None:
        """(sigma_data, sign) of networks with EDM's preconditioning, and None for all others."""
        return edm_scaling(self.fields)

    @cached_property
    def data_hook(self) -> Callable[[Any, Point], Any] | None:
        """The correction of x_0 that the config requests: thresholding, and clip_sample if `clip` is true."""
        hook = data_hook_from_config(self.config, clip=self.clip)
        if self.clip and hook is None:
            raise PlanError("clip=True needs a config with clip_sample, and this one clips nothing: leave clip away")
        return hook

    @property
    def wants_mu(self) -> bool:
        """True if the schedule is that of a flow with dynamic shifting."""
        fields = self.fields
        return fields.is_flow and "use_dynamic_shifting" in fields.reads and fields.flag("use_dynamic_shifting")

    @property
    def alphas_cumprod(self) -> Floats:
        """alpha^2 at each training step of a discrete schedule. Any other schedule raises AttributeError."""
        if not isinstance(self.schedule, Discrete):
            raise AttributeError(
                f"{self.schedule!r} has no betas and no alphas_cumprod: they belong to discrete schedules"
            )
        alphas: Floats = self.schedule.alpha(np.arange(1, self.schedule.num_steps + 1) / self.schedule.num_steps)
        return alphas**2

    def training(self, steps: int) -> list[float]:
        """Return the timesteps of training, from noise to data."""
        times = np.linspace(self.schedule.t_max, self.schedule.t_min, steps)
        return [self.timestep(self.schedule.label(time)) for time in times.tolist()]

    @property
    def initial_deviation(self) -> float | None:
        """The factor of standard normals at the start of a pipeline: 1 if the variance is preserved; None: sigma at the start."""
        return 1.0 if isinstance(self.schedule, Discrete) else None

    @cached_property
    def denoiser(self) -> Denoiser:
        """The denoiser of a pipeline's runs. Its network is never called: the pipeline evaluates it and hands the outputs to `Run`."""
        return Denoiser(elsewhere, self.schedule, self.predicts, data_hook=self.data_hook)

    def preconditioning(self, sigma: float) -> tuple[float, float] | None:
        """Return (c_skip, c_out) of networks with EDM's preconditioning, whose prediction is c_skip x + c_out output.

        Source: Karras et al. 2022, arXiv 2206.00364, table 1.
        """
        if self.scaling is None:
            return None
        sigma_data, sign = self.scaling
        total = sigma**2 + sigma_data**2
        return sigma_data**2 / total, sign * sigma * sigma_data / math.sqrt(total)

    def timestep(self, label: float) -> float:
        """Return the timestep that a pipeline passes to its model for a label of the schedule."""
        return 0.25 * math.log(label) if self.scaling is not None else label

    def label(self, timestep: float) -> float:
        """Return the label of a timestep: the inverse of `timestep`."""
        return math.exp(4.0 * timestep) if self.scaling is not None else timestep

    def level(self, point: Point) -> float:
        """Return the entry of `sigmas` for a point: sigma/alpha; for a flow sigma, or alpha if its levels are inverted."""
        if isinstance(self.schedule, Flow):
            return point.alpha if self.schedule.reversed else point.sigma
        return point.rho

    def input_scale(self, sigma: float) -> float:
        """Return the factor of `scale_model_input`: EDM's c_in, else 1."""
        return 1.0 if self.scaling is None else 1.0 / math.hypot(sigma, self.scaling[0])

    def times_from_sigmas(self, sigmas: Any) -> Floats:
        """Return the times of a run from a pipeline's sigmas, with the end of the run.

        The sigmas of a flow are its levels before the shift, without the 0 at the end; all others are sigma/alpha, including the end.
        """
        levels = falling("sigmas", sigmas)
        if not isinstance(self.schedule, Flow):
            if len(levels) < 2:
                raise PlanError("sigmas must name the end of the run too: add it, as in [14.6, 1.0, 0.0]")
            return from_sigmas(self.schedule, levels)
        if levels[-1] == 0.0:
            levels = levels[:-1]
        if not len(levels) or levels[0] > 1.0 + 1e-6 or levels[-1] < 0.0:
            raise PlanError(
                f"sigmas of a flow must lie in [0, 1], got {levels.tolist()[:4]}: they are noise levels before the shift"
            )
        times = np.clip(levels, self.schedule.t_min, 1.0)
        if self.schedule.last_sigma:
            signal = 1.0 - self.schedule.sigma(times)
            shifted = 1.0 - signal * ((1.0 - self.schedule.last_sigma) / signal[-1])
            with np.errstate(divide="ignore"):
                times = self.schedule.time(np.log((1.0 - shifted) / shifted))
        return np.append(times, 0.0)

    def times_from_timesteps(self, timesteps: Any, end: float) -> Floats:
        """Return the times of a run from a pipeline's timesteps, with the end of the run."""
        given = to_host(timesteps).ravel()
        labels = np.array([self.label(float(t)) for t in given])
        rises = isinstance(self.schedule, Flow) and self.schedule.reversed
        falling("timesteps", -labels if rises else labels)
        return np.append(from_labels(self.schedule, labels), end)

    def times_of(self, timesteps: Any) -> Floats:
        """Return the time of each timestep, in any order."""
        labels = [self.label(float(t)) for t in to_host(timesteps).ravel()]
        return from_labels(self.schedule, np.array(labels))

    @property
    def clean(self) -> bool:
        """True if the config lets runs end at clean data, as it does unless its final_sigmas_type is "sigma_min"."""
        return bool(self.fields.value("final_sigmas_type", "zero") != "sigma_min") or isinstance(
            self.schedule, (EDM, Flow)
        )


def falling(name: str, values: Any) -> Floats:
    """Return a vector after a check that it falls strictly.

    Raises:
        PlanError: it rises or repeats a value; the message names the two values.
    """
    numbers: Floats = to_host(values)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise PlanError(f"{name} must be a vector of finite numbers, got shape {numbers.shape}")
    wrong = np.flatnonzero(np.diff(numbers) >= 0.0)
    if len(wrong):
        k = int(wrong[0])
        what = "repeats" if numbers[k] == numbers[k + 1] else "rises"
        raise PlanError(
            f"{name} must fall strictly, but it {what} at index {k + 1}: {numbers[k]:.6g} is followed by {numbers[k + 1]:.6g}; "
            "sort the values from noise to data and drop those that are there twice"
        )
    return numbers


def one_timestep(timestep: Any) -> float:
    """Return the timestep of a whole batch, as the float32 value in `timesteps`.

    Raises:
        PlanError: the timesteps of the samples differ.
    """
    values = to_host(timestep).ravel()
    if not len(values) or (values != values[0]).any():
        raise PlanError(f"step takes one timestep for the whole batch, got {values.tolist()[:4]}")
    return float(np.float32(values[0]))
