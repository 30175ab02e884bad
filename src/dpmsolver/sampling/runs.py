"""Sampling: the functions people call. `sample` runs a plan to its end, `iterate` shows its states, `encode` runs it backwards."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.errors import PlanError
from dpmsolver.grids import Grid, are_times
from dpmsolver.host import settled, to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.execution import Recorded, Run, State
from dpmsolver.sampling.forward import StateHook
from dpmsolver.sampling.noise import NoiseName
from dpmsolver.sampling.scanned import is_scanned, scanned
from dpmsolver.schedules.span import default_start, scale_of_start
from dpmsolver.solvers import Solver, make_plan

__all__ = ["DEFAULT_SOLVER", "State", "encode", "iterate", "sample"]

DEFAULT_SOLVER = "auto"
Progress: TypeAlias = Callable[[int, int], object]  # evaluations done, evaluations in all


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

    Nothing is recorded for differentiation unless `differentiable` says so. What JAX traces is one `lax.scan`, where it can be, if there
    are more than 20 evaluations: see `dpmsolver.sampling.scanned`.

    Args:
        denoiser: the network with its schedule.
        x_T: the start, shape (B, …), NumPy, torch or JAX, with standard deviation sigma(t_max): see `initial_noise`. It is not changed.
        nfe: network evaluations. Needed unless `plan` is given.
        solver, grid, start, end, options: see `make_plan`; the solver is "auto" unless told otherwise: the one, with its grid, that
            measurements recommend for the schedule and the budget.
        plan: a plan made before, instead of all of these.
        progress: True shows a progress bar (needs tqdm). A function (done, total) is called before each evaluation and after the last.
        callback: called with every `State`, which holds copies.
        generator: randomness of stochastic solvers: a seed, which JAX may trace, a numpy or torch Generator, or one of these per sample;
            JAX's keys, one or B of them.
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
    chosen = _plan(denoiser, x_T, nfe, solver, grid, plan, start, end, options)
    if checkpoint and not differentiable:
        raise PlanError("checkpoint=True saves memory of a differentiable run: give differentiable=True too")
    run: Run
    if differentiable:
        run = Recorded(denoiser, x_T, chosen, generator, noise, state_hook, checkpoint)
    else:
        run = Run(denoiser, x_T, chosen, generator, noise, state_hook)
    reporting = _reporting(progress, run.plan.nfe) if progress else nullcontext()
    recording = nullcontext() if differentiable else run.backend.autograd.no_grad()
    with recording, reporting as report:
        if callback is None and report is None and is_scanned(run):
            return scanned(run)
        for index, x, kept in run.evaluations():
            if callback is not None:
                callback(run.snapshot((index, x, kept)))
            if report is not None:
                report(index, run.plan.nfe)
    return x


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
    chosen = _plan(denoiser, x_T, nfe, solver, grid, plan, start, end, options)
    run = Run(denoiser, x_T, chosen, generator, noise, state_hook)
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
    grid, plan, own = options.pop("grid", None), options.pop("plan", None), _plan_options(options)
    if plan is None and isinstance(denoiser, Denoiser):
        plan = backends.of(x0).kept(_towards_noise, denoiser, nfe, solver, grid, start, end, own)
    else:
        plan = _plan(denoiser, x0, nfe, solver, grid, plan, start, end, own)
    _require_invertible(plan)
    return sample(denoiser, x0, plan=plan, **options)


def _towards_noise(
    denoiser: Denoiser,
    nfe: int | None,
    solver: str | Solver | None,
    grid: str | Grid | ArrayLike | None,
    start: float | None,
    end: float | None,
    options: dict[str, Any],
) -> Plan:
    """The plan of a run from data to noise."""
    if not are_times(grid):
        start = denoiser.schedule.last_time(nfe or 1) if start is None else start
        end = _noisy_end(denoiser) if end is None else end
        if not start < end:
            raise PlanError(f"encode runs from small to large times, got start={start}, end={end}")
    return _made(denoiser, nfe, solver or "dpm-2m", grid, start, end, options)


@settled
def _require_invertible(plan: Plan) -> None:
    if plan.stochastic:
        raise PlanError(f"{plan.solver} adds noise: a stochastic plan cannot be run backwards")
    if plan.end.time < plan.start.time:
        raise PlanError("this plan runs towards the data: make it with start < end to encode")


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


def _made(
    denoiser: Denoiser,
    nfe: int | None,
    solver: str | Solver,
    grid: str | Grid | ArrayLike | None,
    start: float | None,
    end: float | None,
    options: dict[str, Any],
) -> Plan:
    if nfe is None:
        raise PlanError("say how many network evaluations to spend (nfe=10), or give a plan")
    predicts = denoiser.predicts
    return make_plan(solver, denoiser.schedule, nfe, grid, start=start, end=end, predicts=predicts, **options)


def _plan(
    denoiser: Denoiser,
    x_T: Any,
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
        made: Plan = backends.of(x_T).kept(_made, denoiser, nfe, solver or DEFAULT_SOLVER, grid, start, end, options)
        return made
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, from make_plan or Plan.from_json, got {type(plan).__name__}")
    if nfe is not None and nfe != plan.nfe:
        raise PlanError(f"nfe={nfe} but the plan spends {plan.nfe}: give one of the two")
    if options or any(value is not None for value in (solver, grid, start, end)):
        raise PlanError("a plan already says its solver, grid, start, end and options: give them to make_plan")
    return plan


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
