"""Sampling: the loop that executes a plan, and the functions people call.

`iterate` is the loop; `sample` runs it to the end and `encode` runs it backwards. A run's state belongs to the run: plans and denoisers
are frozen and may be shared between threads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError
from dpmsolver.grids import Grid, are_times
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser, recorded_state
from dpmsolver.plans.caution import warn_of_start
from dpmsolver.plans.loop import Hook, fused, steps
from dpmsolver.plans.plan import Plan
from dpmsolver.plans.targets import conversion
from dpmsolver.sampling.bind import bind, placed
from dpmsolver.sampling.forward import StateHook
from dpmsolver.sampling.noise import NoiseName, noise_source
from dpmsolver.schedules.span import default_start, scale_of_start
from dpmsolver.solvers import Solver, make_plan

__all__ = ["DEFAULT_SOLVER", "State", "encode", "iterate", "sample"]

DEFAULT_SOLVER = "auto"
Progress: TypeAlias = Callable[[int, int], object]  # evaluations done, evaluations in all
# Inside a run: the index of an evaluation, what the network saw, and what the run keeps of it; None after the last one.
_Moment: TypeAlias = tuple[int, Any, Any]


@dataclass(frozen=True)
class State:
    """A moment of a run: before evaluation `index` (or after the last one), at `time`, the state x and the newest predicted x_0."""

    index: int
    time: float
    x: Any
    denoised: Any


def sample(
    denoiser: Denoiser,
    x_T: Any,
    nfe: int | None = None,
    *,
    solver: str | Solver | None = None,
    grid: str | Grid | ArrayLike | None = None,
    plan: Plan | None = None,
    start: float | None = None,
    end: float | None = None,
    progress: bool | Progress = False,
    callback: Callable[[State], object] | None = None,
    generator: Any = None,
    noise: NoiseName = "independent",
    state_hook: StateHook | None = None,
    differentiable: bool = False,
    checkpoint: bool = False,
    **options: Any,
) -> Any:
    """Draw samples: run a plan from x_T, with exactly `nfe` network evaluations.

    Nothing is recorded for differentiation unless `differentiable` says so.

    Args:
        denoiser: the network with its schedule.
        x_T: the start, shape (B, …), NumPy or torch, with standard deviation sigma(t_max): see `initial_noise`. It is not changed.
        nfe: network evaluations. Needed unless `plan` is given.
        solver, grid, start, end, options: see `make_plan`; the solver is "auto" unless told otherwise: the one, with its grid, that
            measurements recommend for the schedule and the budget.
        plan: a plan made before, instead of all of these.
        progress: True shows a progress bar (needs tqdm). A function (done, total) is called before each evaluation and after the last.
        callback: called with every `State`, which holds copies.
        generator: randomness of stochastic solvers: a seed, a numpy or torch Generator, or one of these per sample.
        noise: what a seed means to them: "independent" normals, drawn by x_T's framework on its device; those of the "host", which are
            the same numbers on every framework and device; or a "brownian" path, the same one for any number of steps, so that
            samples converge as steps get finer (needs torchsde; slower: see `dpmsolver.sampling.noise`).
        state_hook: (x, point) -> x, applied to what the network is about to see and to the result: see `inpaint`.
        differentiable: record the run, so that gradients flow from the result to x_T, to the weights and to the condition. Memory grows
            with nfe, and each step makes new arrays.
        checkpoint: of a differentiable run, keep the inputs of the network alone and evaluate it again where gradients are wanted, so that
            its activations do not add up. The gradients are the same.

    Returns:
        The samples: x_T's framework, shape and device; float64 if x_T is, else float32.

    Raises:
        PlanError, ValueError, TypeError: before the first evaluation, for whatever does not fit, NaN in x_T included (which a GPU tells
            at the end).
        SamplingError: the network returned NaN or infinity; the message names the evaluation and the samples.

    Warns:
        ConventionWarning: x_T varies less than half as much as noise does at the start of the plan, or far more.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> model = dpm.models.Gaussian(mean=[1.0, -1.0], variance=[0.5, 0.1])
        >>> schedule = dpm.schedules.LinearVP()
        >>> x = dpm.sample(model.denoiser(schedule), dpm.initial_noise(schedule, (1000, 2), seed=0), nfe=20)
        >>> bool(abs(x.mean(axis=0) - [1, -1]).max() < 0.1)
        True
    """
    _refuse_rising(grid)
    chosen = _plan(denoiser, nfe, solver, grid, plan, start, end, options)
    if checkpoint and not differentiable:
        raise PlanError("checkpoint=True saves memory of a differentiable run: give differentiable=True too")
    run: _Run
    if differentiable:
        run = _Recorded(denoiser, x_T, chosen, generator, noise, state_hook, checkpoint)
    else:
        run = _Run(denoiser, x_T, chosen, generator, noise, state_hook)
    reporting = _reporting(progress, run.plan.nfe) if progress else nullcontext()
    recording = nullcontext() if differentiable else run.backend.no_grad()
    with recording, reporting as report:
        for moment in run.moments():
            if callback is not None:
                callback(run.snapshot(moment))
            if report is not None:
                report(moment[0], run.plan.nfe)
    return moment[1]


def iterate(
    denoiser: Denoiser,
    x_T: Any,
    nfe: int | None = None,
    *,
    solver: str | Solver | None = None,
    grid: str | Grid | ArrayLike | None = None,
    plan: Plan | None = None,
    start: float | None = None,
    end: float | None = None,
    generator: Any = None,
    noise: NoiseName = "independent",
    state_hook: StateHook | None = None,
    **options: Any,
) -> Iterator[State]:
    """The states of a run, one per network evaluation and the result: nfe + 1 in all, each with copies of x and of the predicted x_0.

    Arguments and errors as `sample`; wrong ones raise here, before the first state is asked for.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> denoiser = dpm.models.Gaussian(mean=[0.0], variance=[1.0]).denoiser(dpm.schedules.LinearVP())
        >>> [state.index for state in dpm.iterate(denoiser, np.ones((1, 1)), nfe=3)]
        [0, 1, 2, 3]
    """
    _refuse_rising(grid)
    chosen = _plan(denoiser, nfe, solver, grid, plan, start, end, options)
    run = _Run(denoiser, x_T, chosen, generator, noise, state_hook)
    return run.snapshots()


def encode(
    denoiser: Denoiser,
    x0: Any,
    nfe: int | None = None,
    *,
    solver: str | Solver | None = None,
    start: float | None = None,
    end: float | None = None,
    **options: Any,
) -> Any:
    """Run the ODE backwards, from data to the noise that would make it.

    Args:
        x0: data, shape (B, …).
        start, end: by default the schedule's last time worth an evaluation, and the time at which a run of this denoiser starts.
        solver: by default dpm-2m. Noise prediction, because on the way up it damps the errors that data prediction amplifies.

    Raises:
        PlanError: also for a stochastic plan, which has no inverse.
    """
    grid, plan = options.pop("grid", None), options.pop("plan", None)
    if plan is None and isinstance(denoiser, Denoiser):
        solver = solver or "dpm-2m"
        if not are_times(grid):
            start = denoiser.schedule.last_time(nfe or 1) if start is None else start
            end = _noisy_end(denoiser) if end is None else end
            if not start < end:
                raise PlanError(f"encode runs from small to large times, got start={start}, end={end}")
    plan = _plan(denoiser, nfe, solver, grid, plan, start, end, _plan_options(options))
    if plan.stochastic:
        raise PlanError(f"{plan.solver} adds noise: a stochastic plan cannot be run backwards")
    if plan.end.time < plan.start.time:
        raise PlanError("this plan runs towards the data: make it with start < end to encode")
    return sample(denoiser, x0, plan=plan, **options)


def _noisy_end(denoiser: Denoiser) -> float:
    """Where a run starts that samples, if it starts with x_T as it is: else where x_T belongs."""
    start = default_start(denoiser.schedule, denoiser.predicts)
    return start if scale_of_start(denoiser.schedule, start) == 1.0 else denoiser.schedule.default_start()


def _refuse_rising(grid: object) -> None:
    """PlanError for an array of times that rises: a run towards noise is `encode`'s."""
    if not are_times(grid):
        return
    times = to_host(grid)
    if times.ndim == 1 and len(times) > 1 and times[0] < times[-1]:
        raise PlanError(
            f"times must fall in a run from noise to data, got {times[0]:.6g} to {times[-1]:.6g}: use dpm.encode to run backwards"
        )


def _plan_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of `options` what is the plan's, and leave what is the run's."""
    return {name: options.pop(name) for name in list(options) if name not in ("progress", "callback", "state_hook")}


def _plan(
    denoiser: Denoiser,
    nfe: int | None,
    solver: str | Solver | None,
    grid: str | Grid | ArrayLike | None,
    plan: Plan | None,
    start: float | None,
    end: float | None,
    options: dict[str, Any],
) -> Plan:
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be dpm.Denoiser(network, schedule, …), got {type(denoiser).__name__}")
    if plan is None:
        if nfe is None:
            raise PlanError("say how many network evaluations to spend (nfe=10), or give a plan")
        return make_plan(
            solver or DEFAULT_SOLVER,
            denoiser.schedule,
            nfe,
            grid,
            start=start,
            end=end,
            predicts=denoiser.predicts,
            **options,
        )
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, from make_plan or Plan.from_json, got {type(plan).__name__}")
    if nfe is not None and nfe != plan.nfe:
        raise PlanError(f"nfe={nfe} but the plan spends {plan.nfe}: give one of the two")
    if options or any(value is not None for value in (solver, grid, start, end)):
        raise PlanError("a plan already says its solver, grid, start, end and options: give them to make_plan")
    return plan


class _Run:
    """One execution of a plan: its loop, with a denoiser for the network, and the hooks."""

    def __init__(
        self,
        denoiser: Denoiser,
        x_T: Any,
        plan: Plan,
        generator: Any,
        noise: NoiseName,
        state_hook: StateHook | None,
    ) -> None:
        self.backend: Backend = backends.of(x_T)
        self.plan, self.state_hook = plan, state_hook
        self.x = self.backend.state(x_T)
        self.bound = bind(plan, denoiser, self.backend, self.x)
        self.bound.check(-1, self.x)
        self.draws = noise_source(noise, plan, generator, self.backend, self.x)
        self.denoised: Any = None

    def moments(self) -> Iterator[_Moment]:
        """Drive the loop. The arrays of a moment are the run's own and change when the next one is asked for."""
        plan, bound = self.plan, self.bound
        deviation = self.backend.deviation(self.x) if plan.end.time < plan.start.time else None
        if isinstance(deviation, float):
            warn_of_start(self.x, deviation, plan.start)
        run, kept = fused(bound.steps, self.backend, self.x, self.draws, self.hook), None
        for _ in range(plan.nfe):
            index, u, spare = run.send(kept)
            kept = bound(index, u, spare)
            yield index, u, kept
        x = _result(run, kept)
        bound.finish(x)
        if deviation is not None and not isinstance(deviation, float):  # now nobody waits for the device any more
            warn_of_start(x, deviation, plan.start)
        yield plan.nfe, x, None

    @property
    def hook(self) -> Hook | None:
        """The state hook as the loop takes it: checked, and as a copy, which the run may write into."""
        state_hook, backend = self.state_hook, self.backend
        if state_hook is None:
            return None
        points = [*(row.point for row in self.plan.rows), self.plan.end]

        def hooked(u: Any, number: int) -> Any:
            seen = state_hook(u, points[number])
            if not backend.is_float_array(seen):
                raise TypeError(f"state_hook must return the state, an array like its input, got {type(seen).__name__}")
            if seen.shape != u.shape:
                raise ValueError(f"state_hook must return the state's shape {tuple(u.shape)}, got {tuple(seen.shape)}")
            return backend.copy_to(backend.cast(seen, u.dtype))

        return hooked

    def snapshots(self) -> Iterator[State]:
        """Every state as a snapshot. Differentiation is off inside, and as the caller has it outside."""
        moments = self.moments()
        while True:
            with self.backend.no_grad():
                moment = next(moments, None)
                if moment is None:
                    return
                snapshot = self.snapshot(moment)
            yield snapshot

    def snapshot(self, moment: _Moment) -> State:
        """A moment with copies, and with the newest predicted x_0: after the last evaluation, still that one's."""
        index, x, kept = moment
        point = self.plan.end if kept is None else self.plan.rows[index].point
        with self.backend.no_grad():
            if kept is not None:
                self.denoised = self.predicted_data(index, x, kept)
            return State(index, point.time, self.backend.copy_to(x), self.backend.copy_to(self.denoised))

    def predicted_data(self, index: int, u: Any, kept: Any) -> Any:
        """The predicted x_0 of evaluation `index`, from its input and what a moment has of its output."""
        return self.bound.denoised(index, u, kept)


class _Recorded(_Run):
    """A run that autograd records: the plain loop, whose arrays nobody writes into."""

    def __init__(
        self,
        denoiser: Denoiser,
        x_T: Any,
        plan: Plan,
        generator: Any,
        noise: NoiseName,
        state_hook: StateHook | None,
        checkpoint: bool,
    ) -> None:
        super().__init__(denoiser, x_T, plan, generator, noise, state_hook)
        if not self.backend.differentiates:
            raise TypeError(
                f"differentiable=True needs a framework that records, got {type(x_T).__name__}: give a torch tensor"
            )
        self.checkpoint = checkpoint
        self.x = recorded_state(self.backend, x_T, self.x)

    def moments(self) -> Iterator[_Moment]:
        """Drive the plain loop."""
        plan, bound, backend = self.plan, self.bound, self.backend
        if plan.end.time < plan.start.time:
            warn_of_start(self.x, backend.deviation(self.x), plan.start)
        run, m = steps(placed(plan, backend, self.x), self.x, self.draws, hook=self.hook), None
        for index in range(plan.nfe):
            u = run.send(m).u
            m = backend.checkpointed(partial(bound.recorded, index), u) if self.checkpoint else bound.recorded(index, u)
            yield index, u, m
        x = _result(run, m)
        bound.finish(x)
        yield plan.nfe, x, None

    def predicted_data(self, index: int, u: Any, kept: Any) -> Any:
        """The predicted x_0: here a moment has m itself."""
        point = self.plan.rows[index].point
        return self.backend.combine(conversion(self.plan.prediction, "data", point.alpha, point.sigma), (u, kept))


def _result(run: Generator[Any, Any, Any], kept: Any) -> Any:
    """What a loop returns when it is sent the last output."""
    try:
        run.send(kept)
    except StopIteration as end:
        return end.value
    raise AssertionError("the loop wants more evaluations than its plan has rows")


@contextmanager
def _reporting(progress: bool | Progress, total: int) -> Iterator[Progress]:
    """The function that is told of each evaluation. A bar is closed however the run ends."""
    if not isinstance(progress, bool):
        yield progress
        return
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from None
    with tqdm(total=total, desc="sampling", unit="evaluation") as bar:
        yield lambda done, _: bar.update(done - bar.n)
