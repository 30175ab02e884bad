"""Run solvers on networks: `sample` draws samples, `iterate` yields the states of a run, and `encode` runs the ODE backwards."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

from dpmsolver import backends
from dpmsolver.errors import PlanError
from dpmsolver.grids import AnyGrid, are_times
from dpmsolver.host import settled, to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.execution import Recorded, Run, State
from dpmsolver.sampling.forward import StateHook
from dpmsolver.sampling.noise import NoiseName
from dpmsolver.sampling.scanned import is_scanned, scanned
from dpmsolver.schedules.span import default_start, scale_of_start
from dpmsolver.solvers import make_plan
from dpmsolver.solvers.solver import AnySolver
from dpmsolver.typing import Array, SolverName

__all__ = ["DEFAULT_SOLVER", "State", "encode", "iterate", "sample"]

DEFAULT_SOLVER: SolverName = "auto"
Progress: TypeAlias = Callable[[int, int], object]  # evaluations done, evaluations in all


def sample(
    denoiser: Denoiser,
    x_T: Array,
    nfe: int | None = None,
    *,
    solver: AnySolver | None = None,
    grid: AnyGrid | None = None,
    plan: Plan | None = None,
    start: float | None = None,
    end: float | None = None,
    progress: bool | Progress = False,
    callback: Callable[[State[Array]], object] | None = None,
    generator: Any = None,
    noise: NoiseName = "independent",
    state_hook: StateHook | None = None,
    differentiable: bool = False,
    checkpoint: bool = False,
    **options: Any,
) -> Array:
    """Draw samples: run a plan from x_T, with exactly `nfe` network evaluations.

    Gradients are recorded only if `differentiable` is True. When JAX traces a run of more than 20 evaluations, the run becomes one
    `lax.scan` if possible: see `dpmsolver.sampling.scanned`.

    Args:
        denoiser: the network with its schedule.
        x_T: the start, shape (B, …), NumPy, torch or JAX, with standard deviation sigma(t_max): see `initial_noise`. It is not changed.
        nfe: the number of network evaluations. Required unless `plan` is given.
        solver, grid, start, end, options: as in `make_plan`. The default solver, "auto", takes the solver and the grid that measurements
            recommend for the schedule and the budget.
        plan: a finished plan, in place of solver, grid, start, end and options.
        progress: True shows a progress bar (requires tqdm). A function (done, total) is called before each evaluation and after the last.
        callback: called with every `State` of the run. The arrays of a state are copies.
        generator: the randomness of stochastic solvers: an integer seed (which JAX may trace), a numpy or torch Generator, a sequence with
            one of these per sample, or JAX keys (one, or B of them).
        noise: how stochastic solvers turn the seed into noise. "independent": x_T's framework draws normals on its device. "host": NumPy
            draws them, the same numbers for every framework and device. "brownian": they are increments of one Brownian path per sample,
            so that samples converge as the steps get finer (requires torchsde; slower: see `dpmsolver.sampling.noise`).
        state_hook: a function (x, point) -> x that is applied to every input of the network and to the result: see `inpaint`.
        differentiable: record the run, so that gradients flow from the result to x_T, to the weights and to the condition. The memory
            grows with nfe, and each step makes new arrays.
        checkpoint: in a differentiable run, store only the inputs of the network and evaluate it again in the backward pass, so that the
            activations of one evaluation are in memory at a time. The gradients are the same.

    Returns:
        The samples: x_T's framework, shape and device; float64 if x_T is float64, else float32.

    Raises:
        PlanError, ValueError, TypeError: an argument is wrong, or x_T contains NaN. They are raised before the first evaluation, except
            that NaN on a GPU is reported at the end of the run.
        SamplingError: the network returned NaN or infinity; the message names the evaluation and the samples.

    Warns:
        ConventionWarning: the standard deviation of x_T is less than half of that of the noise at the start of the plan, or far larger.

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
    x: Array
    with recording, reporting as report:
        if callback is None and report is None and is_scanned(run):
            x = scanned(run)
            return x
        for index, x, kept in run.evaluations():
            if callback is not None:
                callback(run.snapshot((index, x, kept)))
            if report is not None:
                report(index, run.plan.nfe)
    return x


def iterate(
    denoiser: Denoiser,
    x_T: Array,
    nfe: int | None = None,
    *,
    solver: AnySolver | None = None,
    grid: AnyGrid | None = None,
    plan: Plan | None = None,
    start: float | None = None,
    end: float | None = None,
    generator: Any = None,
    noise: NoiseName = "independent",
    state_hook: StateHook | None = None,
    **options: Any,
) -> Iterator[State[Array]]:
    """Run a plan like `sample`, and yield a `State` for every network evaluation and one for the result: nfe + 1 states in all.

    Args:
        denoiser, x_T, nfe, solver, grid, plan, start, end, generator, noise, state_hook, options: as in `sample`.

    Returns:
        An iterator over the states. Their arrays are copies.

    Raises:
        PlanError, ValueError, TypeError: as `sample`, by this call itself, before the first state is computed.
        SamplingError: the network returned NaN or infinity.

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
    x0: Array,
    nfe: int | None = None,
    *,
    solver: AnySolver | None = None,
    start: float | None = None,
    end: float | None = None,
    **options: Any,
) -> Array:
    """Run the probability-flow ODE backwards, from data to the noise from which `sample` would generate them.

    Args:
        denoiser: the network with its schedule.
        x0: the data, shape (B, …), NumPy, torch or JAX. They are not changed.
        nfe: the number of network evaluations. Required unless a plan is given.
        solver: by default dpm-2m. It predicts noise, which damps errors on the way from data to noise, where data prediction amplifies
            them.
        start, end: the times where the run starts and ends, start < end. By default they are the schedule's last time worth an evaluation
            and the time at which `sample` starts for this denoiser.
        options: `grid`, `plan`, `progress`, `callback`, `state_hook` as in `sample`, and the options of the solver and the grid.

    Returns:
        The state at `end`: x0's framework, shape and device; float64 if x0 is float64, else float32.

    Raises:
        PlanError, ValueError, TypeError: as `sample`; also for a stochastic plan, which has no inverse, and for a run with start >= end.
        SamplingError: the network returned NaN or infinity.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> denoiser = dpm.models.Gaussian(mean=[1.0], variance=[0.25]).denoiser(dpm.schedules.LinearVP())
        >>> x0 = np.array([[1.2], [0.7]])
        >>> x_T = dpm.encode(denoiser, x0, nfe=50)
        >>> bool(abs(dpm.sample(denoiser, x_T, nfe=50) - x0).max() < 0.01)
        True

    Source: DDIM inversion (Song et al. 2021, arXiv 2010.02502, section 4.3), with any deterministic solver.
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
    solver: AnySolver | None,
    grid: AnyGrid | None,
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
    solver: AnySolver,
    grid: AnyGrid | None,
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
    solver: AnySolver | None,
    grid: AnyGrid | None,
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
