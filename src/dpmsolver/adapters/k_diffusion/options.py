"""Options in the spelling of k-diffusion and ComfyUI, for their names of solvers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpmsolver.errors import PlanError
from dpmsolver.solvers import SOLVERS, Solver
from dpmsolver.solvers.names import parsed, resolved

__all__ = ["ENDS_IN_PREDICTION", "IN_SIGMA", "chosen"]

# What these do in ComfyUI depends on sigma alone, whatever the model: on a flow they run as if its state were x_0 + sigma eps.
IN_SIGMA = frozenset(
    [
        "euler",
        "heun",
        "heunpp2",
        "dpm_2",
        "lms",
        "dpm_fast",
        "dpmpp_2m",
        "ipndm",
        "res_multistep",
        "gradient_estimation",
        "uni_pc",
        "uni_pc_bh2",
    ]
)
# The step to sigma = 0 is the newest predicted x_0, whatever the order of the others.
ENDS_IN_PREDICTION = frozenset({"ipndm"})
_QUADRATURES = {"midpoint": "published", "heun": "exact"}
# name -> an option that says the number in the name of ours
_NUMBERED = {"lms": ("order", "lms-{}"), "ipndm": ("max_order", "ipndm-{}"), "er_sde": ("max_stage", "er-sde-{}")}
_RENAMED = {"dpmpp_sde": {"r": "r1"}, "seeds_2": {"r": "r1"}, "gradient_estimation": {"ge_gamma": "gamma"}}
_SQUARED = ("dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")


def chosen(name: str, options: Mapping[str, Any]) -> tuple[Solver, dict[str, Any]]:
    """Return the solver that a name stands for, and its options in our spelling.

    For a name of k-diffusion or ComfyUI, options may be written as there: `eta` of `dpmpp_2m_sde` and `dpmpp_3m_sde` is the square of ours,
    and `solver_type`, `order`, `max_order`, `max_stage`, `r` and `ge_gamma` are understood.

    Raises:
        PlanError: the name or an option is unknown, the name has a grid, or "auto", start or end are given.

    Examples:
        >>> solver, options = chosen("dpmpp_2m_sde", {"eta": 0.25, "solver_type": "heun"})
        >>> solver.name, options["eta"], options["quadrature"]
        ('dpm++2m-sde', 0.5, 'exact')
    """
    written = parsed(name).solver.strip().lower().removesuffix("_gpu")
    rest, said = dict(options), {}
    if written in _SQUARED:
        said = _of_sde(written, rest)
    for theirs, own in _RENAMED.get(written, {}).items():
        if theirs in rest:
            said[own] = rest.pop(theirs)
    number = rest.pop(_NUMBERED[written][0], None) if written in _NUMBERED else None
    solver, grid, start, end, found = resolved(SOLVERS, name, None, None, None, rest)
    if solver == "auto" or not isinstance(solver, str):
        raise PlanError(
            "'auto' chooses the grid with the solver, and here the sigmas are given: name a solver, as 'dpm++2m'"
        )
    if grid is not None or start is not None or end is not None:
        raise PlanError(f"the sigmas already say where the run goes: drop the grid, start and end from {name!r}")
    if number is not None:
        solver, found = _numbered(written, number, found)
    return SOLVERS[solver], {**found, **said}


def _of_sde(written: str, options: dict[str, Any]) -> dict[str, Any]:
    """The eta and the solver_type of the SDE solvers, taken out of `options`, as ours."""
    said: dict[str, Any] = {}
    if "eta" in options:
        eta = options.pop("eta")
        if not (isinstance(eta, (int, float)) and eta >= 0):
            raise PlanError(f"eta must be a number >= 0, got {eta!r}")
        said["eta"] = math.sqrt(eta)
    if "solver_type" in options and written != "dpmpp_3m_sde":
        kind = options.pop("solver_type")
        if kind not in _QUADRATURES:
            raise PlanError(f"solver_type must be 'midpoint' or 'heun', got {kind!r}")
        said["quadrature"] = _QUADRATURES[kind]
    return said


def _numbered(written: str, number: Any, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The solver of another order, with those of the options that it has."""
    option, pattern = _NUMBERED[written]
    solver = pattern.format(number)
    if solver not in SOLVERS:
        raise PlanError(f"{option}={number!r} is none of {written}: there is no solver {solver!r}")
    accepted = SOLVERS[solver].accepted_options()
    return solver, {name: value for name, value in options.items() if name in accepted}
