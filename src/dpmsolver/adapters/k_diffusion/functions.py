"""The functions `sample_NAME`, and their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dpmsolver.adapters.k_diffusion.options import ENDS_IN_PREDICTION, IN_SIGMA, chosen
from dpmsolver.adapters.k_diffusion.running import KRun
from dpmsolver.adapters.k_diffusion.tables import checked_sigmas, is_flow, places_of, steps_on_sigmas
from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Plan
from dpmsolver.schedules import Floats
from dpmsolver.solvers import SOLVERS, Solver
from dpmsolver.solvers.names import ALIASES, DIFFERENT, understood

__all__ = ["Sampler", "function_names", "named_sampler", "sampler"]

_THEIRS = "k-diffusion, ComfyUI"
_SAME_SIGMA = 1e-4  # relative: sigmas of float32, and rounded to five digits
Kind = Literal["edm", "flow"]


class Sampler:
    """A sampler with the signature of k-diffusion: `sample(model, x, sigmas, extra_args=None, callback=None, disable=None, …)`.

    It is called with

    - `model`: `model(x, sigma, **extra_args)` with one sigma per sample, which returns the denoised x.
    - `x`: the start, sigmas[0] times normals, or a state at that noise level. It is not changed.
    - `sigmas`: n + 1 falling noise levels; the last may be 0. For one level or none, x is returned.
    - `extra_args`: arguments of the model. A `seed` among them is also the seed of the noise.
    - `callback`: called at the beginning of each step, with a dict of x, i, sigma, sigma_hat and denoised.
    - `disable`: True hides the progress bar, which is shown if tqdm is installed.
    - `noise_sampler`: for solvers that add noise, a function (sigma, sigma_next) -> standard normals like x. By default the noise of sample
      i depends only on the seed, on i and on the step; without a seed in extra_args, torch's generator draws one.
    - `schedule`: "edm" for states x_0 + sigma eps, or "flow" for (1 - sigma) x_0 + sigma eps. By default it is read from a model of ComfyUI
      (a model sampling of type CONST is a flow), and is "edm" for others.
    - `options`: options of the solver, by their names in docs/solvers.md, or, beside a name of k-diffusion, by k-diffusion's names.

    and returns the result, in x's type. The run computes in float32, or in float64 if x is float64.

    Raises:
        PlanError, ValueError, TypeError: sigmas do not fall strictly, a plan has other sigmas or is for another kind of model, an option is
            unknown, or the model returns another shape. SamplingError: NaN or infinity.
    """

    def __init__(self, solver: str | Solver | Plan, options: Mapping[str, Any]) -> None:
        self.solver, self.options = solver, dict(options)
        name = solver.solver if isinstance(solver, Plan) else solver.name if isinstance(solver, Solver) else solver
        self.__name__ = f"sample_{_python_name(name or 'plan')}"
        if isinstance(solver, str):
            _chosen(solver, self.options)

    def __call__(
        self,
        model: Callable[..., Any],
        x: Any,
        sigmas: Any,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], object] | None = None,
        disable: bool | None = None,
        *,
        noise_sampler: Callable[[Any, Any], Any] | None = None,
        schedule: Kind | None = None,
        **options: Any,
    ) -> Any:
        """Run the sampler: see the class."""
        flow = _flow(model, schedule)
        levels = checked_sigmas(sigmas, flow)
        if len(levels) < 2:
            return x
        if isinstance(self.solver, Plan):
            plan, begins, unscaled = self.solver, _begins_of(self.solver, levels, flow, options), False
        else:
            plan, spent = self._steps(self.solver, levels, flow, options)
            begins, unscaled = {sum(spent[:k]): k for k in range(len(spent))}, True
        run = KRun(plan, model, sigmas, begins, flow, unscaled, extra_args or {}, callback, disable, noise_sampler)
        return run(x)

    def _steps(
        self, solver: str | Solver, levels: Floats, flow: bool, options: Mapping[str, Any]
    ) -> tuple[Plan, tuple[int, ...]]:
        found, own = _chosen(solver, {**self.options, **options})
        key = _key(solver)
        return steps_on_sigmas(found, levels, flow and key not in IN_SIGMA, own, key in ENDS_IN_PREDICTION)

    def __repr__(self) -> str:
        said = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"<{self.__name__}(model, x, sigmas, …{said})>"


def sampler(solver: str | Solver | Plan | Path, **options: Any) -> Sampler:
    """Return a solver or a plan as a sampler with the signature of k-diffusion.

    Args:
        solver: one of our names or k-diffusion's, with or without `:option=value`; a `Solver`; a plan; or the path of a JSON file with a
            plan, such as `tune` writes. A plan runs on its own sigmas: `sigmas_of(plan)`.
        options: options of the solver for every call. Those of a call replace them.

    Raises:
        PlanError: a name or an option is unknown, a plan is given with options, or a file holds no plan. OSError: a file cannot be read.

    Examples:
        >>> import numpy as np
        >>> euler = sampler("euler")
        >>> euler(lambda x, sigma: 0.0 * x, np.array([[8.0]]), [8.0, 2.0, 0.5])
        array([[0.5]])
    """
    if isinstance(solver, Path) or (isinstance(solver, str) and solver.endswith(".json")):
        solver = Plan.from_json(Path(solver).read_text())
    if not isinstance(solver, (str, Solver, Plan)):
        raise TypeError(f"solver must be a name, a dpm.Solver, a plan or the path of one, got {type(solver).__name__}")
    if isinstance(solver, Plan) and options:
        raise PlanError(f"a plan already says its options, drop {', '.join(options)}")
    return Sampler(solver, options)


def function_names() -> list[str]:
    """Return the names of the functions: `sample_` and one of our names, or one of k-diffusion and ComfyUI."""
    return [f"sample_{name}" for name in _functions()]


def named_sampler(name: str) -> Sampler:
    """Return the function of a name sample_…. Raise AttributeError for another name, with a similar one if there is any."""
    written = name.removeprefix("sample_")
    if written in _functions():
        return Sampler(_functions()[written], {})
    try:
        understood(written, SOLVERS)
        return Sampler(written, {})
    except PlanError as error:
        raise AttributeError(f"no function {name!r} in dpmsolver.adapters.k_diffusion: {error}") from None


@cache
def _functions() -> dict[str, str]:
    """The solver that each function is, as it is written in a name: their names come first, and what they call otherwise is left out."""
    different = {_python_name(name) for name in DIFFERENT}
    single = [own for own, solver in SOLVERS.items() if solver.answers == 1]
    found = {_python_name(own): own for own in single if _python_name(own) not in different}
    theirs = [name for name in ALIASES[_THEIRS] if SOLVERS[understood(name, SOLVERS).solver].answers == 1]
    return {**found, **{name: name for name in theirs}}


def _python_name(name: str) -> str:
    return re.sub(r"\W+", "_", name.replace("++", "_pp_")).strip("_").lower()


def _chosen(solver: str | Solver, options: Mapping[str, Any]) -> tuple[Solver, dict[str, Any]]:
    found, own = (solver, dict(options)) if isinstance(solver, Solver) else chosen(solver, options)
    if found.answers > 1:
        raise PlanError(
            f"a model of k-diffusion's kind gives one output, and {found.name!r} wants the unconditional one beside the guided: sample a "
            "dpm.Denoiser with guidance.ClassifierFree by dpm.sample"
        )
    return found, own


def _key(solver: str | Solver) -> str:
    name = solver if isinstance(solver, str) else solver.name
    return _python_name(name.split(":")[0])


def _flow(model: Any, schedule: str | None) -> bool:
    """Whether a model's states are those of a flow: as the caller says, or as ComfyUI's model does, whose sampling is then a CONST."""
    if schedule is not None:
        if schedule not in ("edm", "flow"):
            raise PlanError(f"schedule must be 'edm' or 'flow', got {schedule!r}")
        return schedule == "flow"
    for _ in range(4):
        sampling = getattr(model, "model_sampling", None)
        if sampling is not None:
            return any(kind.__name__ == "CONST" for kind in type(sampling).__mro__)
        model = getattr(model, "inner_model", None)
    return False


def _begins_of(plan: Plan, levels: Floats, flow: bool, options: Mapping[str, Any]) -> dict[int, int]:
    """Where the steps of a plan begin, if it is one for these sigmas and this kind of model. PlanError otherwise."""
    if options:
        raise PlanError(f"a plan already says its options, drop {', '.join(options)}")
    if is_flow(plan) != flow:
        kinds = ("states x_0 + sigma eps", "a flow")
        raise PlanError(
            f"this plan was made for {kinds[is_flow(plan)]} ({plan.schedule or 'no schedule said'}), and the model is one of "
            f"{kinds[flow]}: take a plan that was tuned for this model, or say schedule='{'flow' if is_flow(plan) else 'edm'}'"
        )
    own, begins = places_of(plan)
    if len(own) != len(levels) or not np.allclose(own, levels, rtol=_SAME_SIGMA, atol=1e-9):
        raise PlanError(
            f"this plan has {len(own)} sigmas of its own, from {own[0]:.6g} to {own[-1]:.6g}, and was given {len(levels)}, from "
            f"{levels[0]:.6g} to {levels[-1]:.6g}: give it sigmas_of(plan), as its scheduler node does"
        )
    return begins
