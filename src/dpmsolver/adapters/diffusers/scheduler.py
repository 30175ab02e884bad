"""`PlanScheduler`: any solver or plan of this library as a scheduler of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import diffusers
import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils.outputs import BaseOutput

from dpmsolver.adapters.diffusers.classes import FAMILIES
from dpmsolver.adapters.diffusers.course import OF_CONFIG, Course, course_of, fitted
from dpmsolver.adapters.diffusers.fields import PRIVATE, class_of
from dpmsolver.adapters.diffusers.reading import Reading, one_timestep
from dpmsolver.adapters.diffusers.run import Run
from dpmsolver.adapters.diffusers.settings import SETTINGS, choice_of, document, plain, settled
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.sampling.folding import folded
from dpmsolver.sampling.forward import add_noise
from dpmsolver.sampling.noise import NoiseName
from dpmsolver.solvers.names import resolved
from dpmsolver.solvers.registry import SOLVERS
from dpmsolver.typing import GridAlias, GridName, SolverAlias, SolverName, Written

__all__ = ["PlanScheduler", "StepOutput"]


@dataclass
class StepOutput(BaseOutput):
    """The result of `PlanScheduler.step`: the network's next input, and the x_0 that it predicted."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class PlanScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Any solver of this library, or a plan, as the scheduler of a diffusers pipeline.

    A run has one timestep for each network evaluation, and exactly `num_inference_steps` of them, so that solvers with several evaluations
    a step work in every pipeline. Between two timesteps the pipeline holds the network's next input.

    Args:
        solver: a name of `dpm.solvers()`, optionally with a grid and options ("unipc-2@karras:rho=5"). The default "auto" takes what
            measurements recommend for the schedule and the budget.
        plan: in place of a solver, a `Plan`, or the path of a JSON file that holds one.
        grid: where the steps go: a name of `dpm.grids.GRIDS`, or "config" for the steps of the config's own scheduler class. By default it
            is the solver's own grid, or the one that a flag of the config requests, such as use_karras_sigmas.
        options: options of the solver and of the grid, and `start` and `end`, by their names.
        noise: the source of the noise of stochastic solvers: "independent" (the default), "host" or "brownian", as in `dpm.sample`.
        clip: whether the config's clip_sample is applied, which diffusers does only in its first-order solvers. Its thresholding is always
            applied.
        config: the fields of a scheduler config. Prefer `from_config`, which also knows the class.

    Raises:
        ValueError: `schedule_from_config` refuses the config, a solver, grid or option is unknown, or the plan is for another schedule.

    Examples:
        >>> scheduler = PlanScheduler("unipc-3", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
        >>> scheduler.set_timesteps(8)
        >>> len(scheduler.timesteps)
        8
    """

    order = 1
    _compatibles: ClassVar[list[str]] = [  # type: ignore[misc]
        *(each.name for each in KarrasDiffusionSchedulers),
        "FlowMatchEulerDiscreteScheduler",
    ]

    def __init__(
        self,
        solver: SolverName | SolverAlias | Written | None = None,
        *,
        plan: Any = None,
        grid: GridName | GridAlias | Literal["config"] | Written | None = None,
        options: Mapping[str, Any] | None = None,
        noise: NoiseName | None = None,
        clip: bool | None = None,
        **config: Any,
    ) -> None:
        class_name, saved = class_of(config), dict(config.get(PRIVATE) or {})
        asked = dict(zip(SETTINGS, (solver, document(plan), grid, dict(options or {}), noise, clip), strict=True))
        settings = settled({name: saved.get(name) for name in SETTINGS} if saved else {}, asked)
        fields = {name: plain(value) for name, value in config.items() if not name.startswith("_")}
        named = {"_class_name": class_name} if class_name else {}
        self._reading = Reading({**fields, **named}, 1.0, bool(settings["clip"]))
        self._choice = choice_of(settings)
        self._check()
        defaults = {name: value for name, value in self._reading.fields.reads.items() if name not in fields}
        self._noise: Any = settings["noise"] or "independent"
        # As diffusers' classes do: fields that another class fills with its own defaults, because nobody chose them.
        unsaid = sorted({*defaults, *config.get("_use_default_values", ())})
        kept = {name: value for name, value in config.items() if name == "_diffusers_version"}
        kept |= {"_use_default_values": unsaid} if unsaid else {}
        kept |= {"_class_name": type(self).__name__, PRIVATE: {**settings, "class": class_name}}
        self.register_to_config(  # type: ignore[no-untyped-call]
            **defaults, **fields, **kept
        )
        self.num_inference_steps: int | None = None
        self._training = torch.tensor(
            self._reading.training(len(self))
        ).float()  # what stands for timesteps without a run
        self._known: Course | None = None  # of the newest run, and what it was asked for
        self._key: Any = None
        self._course: Course | None = None
        self._plan: Plan | None = None
        self._run: Run | None = None
        self._begin_index: int | None = None
        self._forget()

    @classmethod
    def from_config(
        cls,
        config: Any = None,
        return_unused_kwargs: bool = False,
        *,
        solver: SolverName | SolverAlias | Written | None = None,
        grid: GridName | GridAlias | Literal["config"] | Written | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make the scheduler from the config of another one, or of itself.

        Args:
            config: `pipe.scheduler.config`, or the content of `scheduler_config.json`. The config of a scheduler that was made by hand does
                not name its class: pass the scheduler itself in that case.
            solver, grid, kwargs: the arguments of the class. Others replace fields of the config, such as prediction_type="v_prediction".

        Raises:
            TypeError: the config is not a mapping. ValueError: as for the class.
        """
        if isinstance(config, SchedulerMixin):
            config = {"_class_name": type(config).__name__, **vars(config)["_internal_dict"]}
        if not isinstance(config, Mapping):
            raise TypeError(f"config must be a mapping such as pipe.scheduler.config, got {type(config).__name__}")
        named = {name: value for name, value in (("solver", solver), ("grid", grid)) if value is not None}
        scheduler = cls(**{**config, **named, **kwargs})
        return (scheduler, {}) if return_unused_kwargs else scheduler

    @property
    def compatibles(self) -> list[type]:
        """The scheduler classes of diffusers that sample the same kind of process."""
        kind = self._reading.fields.family.kind
        return [getattr(diffusers, name) for name in self._compatibles if FAMILIES[name].kind == kind]

    @property
    def plan(self) -> Plan:
        """The plan of the run; print it with `plan.table()`. Before `set_timesteps` it raises PlanError."""
        return self._ready()

    @property
    def init_noise_sigma(self) -> float:
        """The factor of standard normals with which pipelines begin: sigma at the run's start; 1 if the variance is preserved."""
        usual = self._reading.initial_deviation
        if usual is not None:
            return usual
        schedule = self._reading.schedule
        return float(schedule.sigma(schedule.default_start())) if self._plan is None else self._plan.start.sigma

    @property
    def step_index(self) -> int | None:
        """The number of the next timestep; None before the first step."""
        return None if self._run is None else self._first + self._run.index

    @property
    def begin_index(self) -> int | None:
        """The number of the timestep where the run begins, or None if the pipeline has not set it."""
        return self._begin_index

    @property
    def betas(self) -> torch.Tensor:
        """The betas of a discrete schedule."""
        products = self._reading.alphas_cumprod
        return torch.from_numpy(1.0 - products / np.append(1.0, products[:-1])).float()

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """alpha^2 at each training step of a discrete schedule."""
        return torch.from_numpy(self._reading.alphas_cumprod).float()

    def __len__(self) -> int:
        return int(self.config.get("num_train_timesteps") or 1000)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the run in progress, which belongs to this object."""
        return {**self.__dict__, "_run": None}

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        """Begin a new run with a number of evaluations, and forget the previous one.

        Args:
            num_inference_steps: the number of evaluations. It may be omitted if sigmas or timesteps are given.
            device: the device of the timesteps.
            sigmas: noise levels, one for each evaluation: for a flow those before its shift, for other models sigma/alpha, with the end of
                the run. A solver with n evaluations a step takes its steps between every n-th of them.
            mu: the shift of a flow with dynamic shifting.
            timesteps: labels of the network, one for each evaluation. If sigmas are given too, the network takes these labels.

        Raises:
            PlanError: there is no budget, the solver or the plan cannot spend it, or sigmas or timesteps rise or repeat. The scheduler then
                has no run until the next call.
        """
        self._forget()
        reading = replace(self._reading, mu=mu) if self._reading.wants_mu else self._reading
        count = _count(reading, sigmas, timesteps)
        nfe = count if num_inference_steps is None else int(num_inference_steps)
        if nfe is None or nfe < 1:
            raise PlanError(
                f"set_timesteps needs num_inference_steps >= 1, sigmas or timesteps, got {num_inference_steps!r}"
            )
        if count is not None and count != nfe:
            raise PlanError(
                f"num_inference_steps={nfe}, but the steps of {count} evaluations are given: give one for each"
            )
        only = None if sigmas is not None else timesteps
        key = nfe, mu, *(None if given is None else tuple(to_host(given).tolist()) for given in (sigmas, only))
        known = self._known
        if known is None or key != self._key:
            known = course_of(reading, self._choice, nfe, sigmas=sigmas, timesteps=only)
        folded(known.plan, known.reading.denoiser)
        self._known, self._key, self._course = known, key, known
        self._reading, self._plan, self.num_inference_steps = known.reading, known.plan, nfe
        labels = [reading.timestep(row.point.label) for row in self._plan.rows]
        if sigmas is not None and timesteps is not None:
            labels = [float(t) for t in to_host(timesteps).ravel()]
        points = [*(row.point for row in self._plan.rows), self._plan.end]
        self.timesteps = torch.tensor(labels, dtype=torch.float32).to(device)
        self.sigmas = torch.tensor([reading.level(point) for point in points], dtype=torch.float32)
        self._labels: list[float] = self.timesteps.tolist()
        # An entry of `timesteps` is known by its place in memory, without waiting for a device.
        self._places = [t.data_ptr() for t in self.timesteps]

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Let the run begin at a later timestep, as image-to-image does. The plan is then made from there.

        Timesteps that change with it are written into `timesteps`, of which the pipeline holds a view.

        Raises:
            PlanError: `set_timesteps` was not called, the plan is from the user, or the solver cannot spend the remaining evaluations.
        """
        self._ready()
        assert self._course is not None
        begin_index = int(begin_index)
        self._plan = self._course.after(begin_index)
        folded(self._plan, self._reading.denoiser)
        self._first, self._begin_index, self._run = begin_index, begin_index, None
        if begin_index:
            labels = [self._reading.timestep(row.point.label) for row in self._plan.rows]
            self.timesteps[begin_index:] = torch.tensor(labels, dtype=torch.float32).to(self.timesteps.device)
            self._labels = self.timesteps.tolist()

    def index_for_timestep(self, timestep: Any, schedule_timesteps: Any = None) -> int:
        """Return the first position of a timestep in the run. Raise PlanError for a timestep that is not in the run."""
        self._ready()
        labels = self._labels if schedule_timesteps is None else to_host(schedule_timesteps).ravel().tolist()
        wanted = one_timestep(timestep)
        if wanted not in labels:
            raise PlanError(
                f"timestep {wanted:.6g} is none of the run's: take those of scheduler.timesteps, as they are"
            )
        return labels.index(wanted)

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the input of the model for a state: the state itself, or for EDM's models the state times c_in of the next timestep."""
        if self._reading.scaling is None:
            return sample
        plan = self._ready()
        number = 0 if self._run is None else min(self._run.index, plan.nfe - 1)
        return sample * self._reading.input_scale(plan.rows[number].point.sigma)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        eta: float = 0.0,
        generator: Any = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Advance the run by the model's output at a timestep, and return the model's input at the next one.

        Args:
            model_output: the output of the model, with or without guidance; for a model with learned variance the first half is used.
            timestep: the next timestep of the run.
            sample: the state that the model saw, before `scale_model_input`. If it differs from what the last step returned, it replaces
                the state of the run.
            eta: must be 0. Pipelines pass the value of their caller; here eta is an option of the solver.
            generator: the randomness of a stochastic solver: a torch generator or one per sample, read at the first step of a run.
            variance_noise: the normals of this step, in place of the run's own.
            return_dict: False returns a tuple that holds only the next sample.

        Raises:
            PlanError: `set_timesteps` was not called, the timestep is not the next one, the run is over, or a shape or device differs.
            TypeError, ValueError: an output of another kind or shape. SamplingError: NaN or infinity. After an error the run is unchanged.
        """
        self._ready()
        if eta:
            raise PlanError(
                f"eta={eta} is an option of the solver here: PlanScheduler.from_config(config, solver='ddim', options={{'eta': {eta}}})"
            )
        number = self._place(timestep)
        run = self._run
        if run is None:
            generator = torch.default_generator if generator is None else generator
            run = Run(self._ready(), self._reading, sample, generator, self._noise)
        elif sample.shape != run.shape or sample.device != run.device:
            raise PlanError(
                f"this run has states of shape {run.shape} on {run.device}, got {tuple(sample.shape)} on {sample.device}: "
                "call set_timesteps to begin another one"
            )
        following = run.step(model_output, sample, variance_noise)
        self._run, self._first = run, number
        if not return_dict:
            return (following,)
        return StepOutput(prev_sample=following, pred_original_sample=run.denoised(sample.dtype))

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: Any) -> torch.Tensor:
        """Return alpha x_0 + sigma noise at each sample's timestep, or at one for all: any timestep of the schedule."""
        found = to_host(timesteps).ravel()
        times = self._reading.times_of(found) if self._plan is None else self._times(found)
        state = original_samples.to(torch.float64 if original_samples.dtype == torch.float64 else torch.float32)
        time = float(times[0]) if len(times) == 1 else times
        noisy: torch.Tensor = add_noise(self._reading.schedule, state, noise.to(state), time)
        return noisy.to(original_samples.dtype)

    def scale_noise(self, sample: torch.Tensor, timestep: Any, noise: torch.Tensor) -> torch.Tensor:
        """Return the same as `add_noise`. Pipelines of flows use this name."""
        return self.add_noise(sample, noise, timestep)

    def _check(self) -> None:
        """Refuse at once what no run could be made of."""
        reading, choice = self._reading, self._choice
        _ = reading.fields, reading.schedule, reading.predicts, reading.data_hook
        if choice.plan is not None:
            fitted(choice.plan, reading)
        else:
            resolved(
                SOLVERS,
                choice.solver,
                None if choice.grid == OF_CONFIG else choice.grid,
                None,
                None,
                choice.options or {},
            )

    def _forget(self) -> None:
        """End the run that there was."""
        self.timesteps, self.sigmas = self._training, torch.zeros(0)
        self._labels, self._places = [], []
        self._course, self._plan, self._run = None, None, None
        self._first, self._begin_index = 0, None

    def _ready(self) -> Plan:
        if self._plan is None:
            raise PlanError("the scheduler has no run: call scheduler.set_timesteps(num_inference_steps) first")
        return self._plan

    def _place(self, timestep: Any) -> int:
        """Where the run begins, seen that the timestep is the next one: a run is counted, and no timestep is looked up in its middle."""
        done = 0 if self._run is None else self._run.index
        number = self._first + done
        if number >= len(self._labels):
            raise PlanError(
                f"the run is over: its {len(self._labels) - self._first} evaluations are made; call set_timesteps for another"
            )
        if isinstance(timestep, torch.Tensor) and timestep.data_ptr() == self._places[number]:
            return self._first
        wanted = one_timestep(timestep)
        if wanted != self._labels[number]:
            if done == 0 and self._begin_index is None and wanted in self._labels:
                self.set_begin_index(self._labels.index(wanted))
                return self._first
            raise PlanError(
                f"timestep {wanted:.6g} is out of order: the run's number {number} is {self._labels[number]:.6g}; take those of "
                "scheduler.timesteps one after the other, or call set_timesteps to begin again"
            )
        return self._first

    def _times(self, timesteps: Any) -> Any:
        """The times of timesteps: of the run's own, whose labels a plan may have moved, those of its evaluations."""
        assert self._plan is not None
        own: dict[float, Point] = {}
        for label, row in zip(self._labels[self._first :], self._plan.rows, strict=True):
            own.setdefault(label, row.point)
        if all(label in own for label in timesteps.tolist()):
            return to_host([own[label].time for label in timesteps.tolist()])
        return self._reading.times_of(timesteps)


def _count(reading: Reading, sigmas: Any, timesteps: Any) -> int | None:
    """For how many evaluations a pipeline gives steps."""
    if sigmas is not None:
        return len(reading.times_from_sigmas(sigmas)) - 1
    return None if timesteps is None else len(timesteps)
