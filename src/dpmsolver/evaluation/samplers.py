"""The samplers of a comparison. A sampler draws samples of a denoiser for a setting, and every network evaluation is counted.

A setting is a budget of network evaluations, or the tolerance of a sampler that chooses its own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.adaptive import sample_adaptive
from dpmsolver.sampling.rk45 import sample_rk45
from dpmsolver.sampling.runs import sample
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.solvers.names import known_grid, parsed, understood
from dpmsolver.solvers.registry import SOLVERS, make_plan
from dpmsolver.typing import Predicts, Written

__all__ = [
    "Counter",
    "Sampler",
    "adaptive_sampler",
    "plan_sampler",
    "rewired",
    "rk45_sampler",
    "samplers_from_names",
    "saved_sampler",
]

Keys = Sequence[tuple[int, int]]


@dataclass
class Counter:
    """Counts the calls of a network. A guided evaluation that batches two conditions is one call.

    Args:
        calls: the number of calls so far.
        seen: a function seen(calls) that is called after each call of the network.
    """

    calls: int = 0
    seen: Callable[[int], object] | None = None

    def counted(self, denoiser: Denoiser) -> Denoiser:
        """Return the denoiser with a network whose calls are counted here."""
        network = denoiser.network

        def counting(x: Any, t: Any, **kwargs: Any) -> Any:
            output = network(x, t, **kwargs)
            self.calls += 1
            if self.seen is not None:
                self.seen(self.calls)
            return output

        return rewired(denoiser, counting)


def rewired(denoiser: Denoiser, network: Callable[..., Any]) -> Denoiser:
    """Return the denoiser with a function around its network. The network still gets its input in the float type of its weights."""
    network.weights_of = denoiser.network  # type: ignore[attr-defined]
    return denoiser.replace(network=network, dtype=denoiser.dtype or _weights_dtype(denoiser.network))


def _weights_dtype(network: Any) -> str | None:
    """The float type of a torch module's weights, by its name; None for what has no weights."""
    parameters = network.parameters() if callable(getattr(network, "parameters", None)) else ()
    return next((str(p.dtype).removeprefix("torch.") for p in parameters if p.is_floating_point()), None)


@dataclass(frozen=True)
class Sampler:
    """A named way to draw samples.

    Args:
        name: the name of the curve; names in a comparison are unique.
        draw: a function (denoiser, x_T, setting, keys) -> samples. `keys` has one key per sample, for samplers that add noise.
        plan: a function (schedule, nfe, predicts) -> Plan, or None for a sampler without plans. `predicts` is what the network predicts, or
            None. It raises PlanError for a budget that cannot be spent.
        settings: the tolerances of a sampler that chooses its own steps; None takes the budgets of the comparison.
        end: for samplers without a plan, the time at which runs end: None for the schedule's last time worth an evaluation, or 0.
        stochastic: for samplers without a plan, True if they add noise, so that no exact trajectory belongs to their samples.
        solver, grid: the names in the report.

    Examples:
        >>> import dpmsolver as dpm
        >>> plan_sampler("dpm++2m", "karras").name
        'dpm++2m @ karras'
    """

    name: str
    draw: Callable[[Denoiser, Any, float, Keys], Any]
    plan: Callable[[NoiseSchedule, int, Predicts | None], Plan] | None = None
    settings: tuple[float, ...] | None = None
    end: float | None = None
    stochastic: bool = False
    solver: str = ""
    grid: str | None = None

    def end_time(self, schedule: NoiseSchedule, setting: float) -> float:
        """Return the time at which a run without a plan ends, to which the exact trajectory is followed."""
        return schedule.last_time(1000) if self.end is None else self.end


def plan_sampler(solver: str, grid: str | None = None, *, name: str | None = None, **options: Any) -> Sampler:
    """Return a sampler for a solver on a grid, with options. Its name is `solver @ grid, option=value` unless one is given."""

    def plan(schedule: NoiseSchedule, nfe: int, predicts: Predicts | None = None) -> Plan:
        return make_plan(
            Written(solver), schedule, nfe, None if grid is None else Written(grid), predicts=predicts, **options
        )

    def draw(denoiser: Denoiser, x_T: Any, setting: float, keys: Keys) -> Any:
        made = plan(denoiser.schedule, int(setting), denoiser.predicts)
        return sample(denoiser, x_T, plan=made, generator=list(keys))

    said = [f"{solver} @ {grid}" if grid else solver, *(f"{key}={value}" for key, value in options.items())]
    return Sampler(name or ", ".join(said), draw, plan, solver=solver, grid=grid)


def saved_sampler(path: str | Path) -> Sampler:
    """Return a sampler for a saved plan, such as plan-6.json, or for the plans plan-*.json of a folder, each at its own budget.

    Raises:
        PlanError: the file holds no plan, or the folder holds none or two for one budget.
    """
    place = Path(path)
    files = sorted(place.glob("plan-*.json")) if place.is_dir() else [place]
    plans: dict[int, Plan] = {}
    for file in files:
        try:
            each = Plan.from_json(file.read_text())
        except (PlanError, OSError, UnicodeDecodeError) as error:
            raise PlanError(f"{file}: {error}") from None
        if each.nfe in plans:
            raise PlanError(f"{place} holds two plans of {each.nfe} evaluations: name their files")
        plans[each.nfe] = each
    if not plans:
        raise PlanError(
            f"{place} holds no plan-*.json: name a file that Plan.to_json wrote, or a folder of dpmsolver tune"
        )

    def plan(schedule: NoiseSchedule, nfe: int, predicts: Predicts | None = None) -> Plan:
        if nfe not in plans:
            raise PlanError(f"{place} has plans of {', '.join(map(str, sorted(plans)))} evaluations alone")
        return plans[nfe]

    def draw(denoiser: Denoiser, x_T: Any, setting: float, keys: Keys) -> Any:
        return sample(denoiser, x_T, plan=plans[int(setting)], generator=list(keys))

    solvers = {each.solver for each in plans.values()}
    return Sampler(str(path), draw, plan, solver=solvers.pop() if len(solvers) == 1 else "saved")


def adaptive_sampler(order: int = 3, rtols: Sequence[float] = (0.5, 0.2, 0.05), **options: Any) -> Sampler:
    """Return a sampler for DPM-Solver-12 or -23 with a step size per sample; its settings are tolerances instead of budgets."""

    def draw(denoiser: Denoiser, x_T: Any, setting: float, keys: Keys) -> Any:
        return sample_adaptive(denoiser, x_T, order=order, rtol=setting, **options)

    name = f"dpm-{order - 1}{order} adaptive"
    return Sampler(name, draw, settings=tuple(rtols), solver=name)


def rk45_sampler(tolerances: Sequence[float] = (1e-1, 1e-2, 1e-3)) -> Sampler:
    """Return a sampler for SciPy's RK45 on the diffusion ODE with rtol = atol; its settings are tolerances instead of budgets."""

    def draw(denoiser: Denoiser, x_T: Any, setting: float, keys: Keys) -> Any:
        return sample_rk45(denoiser, x_T, rtol=setting, atol=setting).x

    return Sampler("rk45", draw, settings=tuple(tolerances), solver="rk45")


def samplers_from_names(names: Sequence[str], grids: Sequence[str] = ()) -> list[Sampler]:
    """Return samplers by name: `dpm++2m`, `dpm++2m@karras`, `unipc-2:variant=bh1`, `rk45`, `dpm-23`, or a name of another package.

    Args:
        names: solvers, each with a grid of its own or on each of `grids`; or files that end in .json, or folders, with saved plans.
        grids: names of grids; "default" is each solver's own grid, and None means "default".

    Raises:
        PlanError: a name cannot be read, is unknown or occurs twice.

    Examples:
        >>> [sampler.name for sampler in samplers_from_names(["ddim", "dpm++2m@karras"], ["default", "time"])]
        ['ddim', 'ddim @ time', 'dpm++2m @ karras']
    """
    made: list[Sampler] = []
    for name in names:
        if name.endswith(".json") or "/" in name:
            made.append(saved_sampler(name))
            continue
        written = parsed(name)
        if written.solver in ("rk45", "dpm-12", "dpm-23"):
            if written.grid or written.options:
                raise PlanError(f"{written.solver} chooses its own steps: it takes no grid and no option, got {name!r}")
            adaptive = written.solver != "rk45"
            made.append(adaptive_sampler(int(written.solver[-1])) if adaptive else rk45_sampler())
            continue
        solver, own, options = understood(name, SOLVERS)
        for each in [own] if own else list(grids) or ["default"]:
            grid, more = (None, {}) if each in ("default", None) else known_grid(each)
            made.append(plan_sampler(solver, grid, **{**more, **options}))
    doubles = {s.name for s in made if [t.name for t in made].count(s.name) > 1}
    if doubles:
        raise PlanError(f"named twice: {', '.join(sorted(doubles))}")
    return made
