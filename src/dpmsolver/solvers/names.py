"""Names of solvers and grids as users write them, and the solvers and grids of this library that they mean.

A solver is written `name`, `name@grid` or `name@grid:option=value:option=value`. Besides the names of the registry, those of k-diffusion,
ComfyUI, diffusers, AUTOMATIC1111 and stable-diffusion.cpp are accepted. An alias means the same sampler: the same coefficients on the
same grid. If ours is only similar to theirs, or there is none, the name is refused with a sentence (`DIFFERENT`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids import GRIDS
from dpmsolver.option import Option, options_of
from dpmsolver.solvers.aliases import ALIASES, DIFFERENT, DIFFERENT_GRIDS, GRID_ALIASES
from dpmsolver.solvers.solver import Solver

__all__ = [
    "ALIASES",
    "DIFFERENT",
    "DIFFERENT_GRIDS",
    "GRID_ALIASES",
    "Spec",
    "check_names",
    "known_grid",
    "parsed",
    "resolved",
    "understood",
]


class Spec(NamedTuple):
    """A solver, its grid (None: the solver's own) and its options."""

    solver: str
    grid: str | None = None
    options: dict[str, Any] = {}  # noqa: RUF012 (a tuple's default, which nobody changes)


# k-diffusion and ComfyUI have an eta for these too, which is another number: of 2M and 3M SDE the square of ours.
_OTHER_ETA = ("dpm++2m-sde", "dpm++3m-sde", "dpm++sde")
_TIMES = (
    Option("start", "a number", "the time where the run starts"),
    Option("end", "a number", "the time where the run ends"),
)
# The words that AUTOMATIC1111 writes after a solver, longest first.
_LABELS = (
    *("align your steps", "polyexponential", "ddim uniform", "sgm uniform", "exponential", "kl optimal"),
    *("karras", "normal", "simple", "beta"),
)

_ALL = "dpm.solvers() or `dpmsolver solvers`; other names: docs/names.md"
_SPEC = re.compile(r"(?P<solver>[^:@]+?)\s*(?:@\s*(?P<grid>[^:@]+?)\s*)?(?P<options>(?::[^:=@\s]+=[^:=\s]+)*)")


def parsed(name: str) -> Spec:
    """Read `name@grid:option=value:option=value`: return the solver, the grid and the options as they are written.

    Raises:
        PlanError: the text has another form.

    Examples:
        >>> tuple(parsed("unipc-2@time:variant=bh1:end=0.0"))
        ('unipc-2', 'time', {'variant': 'bh1', 'end': 0.0})
    """
    match = _SPEC.fullmatch(name.strip())
    if match is None:
        raise PlanError(f"a solver is written as name, name@grid or name@grid:option=value:option=value, got {name!r}")
    pairs = [option.split("=") for option in match["options"].split(":")[1:]]
    twice = next((key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i])), None)
    if twice is not None:
        raise PlanError(f"option {twice!r} is given twice in {name!r}")
    return Spec(match["solver"], match["grid"], {key: _value(value) for key, value in pairs})


def understood(name: str, known: Mapping[str, Solver]) -> Spec:
    """Return the solver that a text means: a name of the registry (or "auto"), the name of a grid or None, and options.

    Args:
        name: a name of the registry or of another package, with or without a grid and options.
        known: the registry.

    Raises:
        PlanError: no solver or grid has this name; if a similar one exists, the message names it and says how it differs.

    Examples:
        >>> from dpmsolver.solvers import SOLVERS
        >>> tuple(understood("DPM++ 2M Karras", SOLVERS))
        ('dpm++2m', 'karras', {'lower_order_final': False})
    """
    written = parsed(name)
    found = _known_solver(written.solver, known)
    _check_eta(written.solver, found.solver, written.options)
    if written.grid is None:
        return Spec(found.solver, found.grid, {**found.options, **written.options})
    if found.grid is not None:
        raise PlanError(f"{written.solver!r} says its grid, {found.grid!r}, and {written.grid!r} is another: give one")
    grid, more = known_grid(written.grid)
    return Spec(found.solver, grid, {**found.options, **more, **written.options})


def known_grid(name: str) -> tuple[str, dict[str, Any]]:
    """Return the grid of `GRIDS` that a name means, and its options, which `:option=value` gives.

    Raises:
        PlanError: there is no such grid; if a similar one exists, the message names it.

    Examples:
        >>> known_grid("AYS_SDXL"), known_grid("beta57"), known_grid("karras:rho=5")
        (('ays-sdxl', {}), ('beta', {'a': 0.5, 'b': 0.7}), ('karras', {'rho': 5}))
    """
    if name in GRIDS:
        return name, {}
    if ":" in name:
        written = parsed(name)
        found, options = known_grid(written.solver)
        return found, {**options, **written.options}
    key = _key(name)
    alias = {_key(theirs): ours for theirs, ours in {**{g: g for g in GRIDS}, **GRID_ALIASES}.items()}.get(key)
    if alias is not None:
        ours = parsed(alias)
        return ours.solver, ours.options
    for theirs, sentence in DIFFERENT_GRIDS.items():
        if key == _key(theirs):
            raise PlanError(f"there is no grid {name!r} here: {sentence}")
    raise PlanError(unknown("grid", name, GRIDS, "dpm.grids.GRIDS"))


def resolved(
    known: Mapping[str, Solver],
    solver: str | Solver,
    grid: Any,
    start: float | None,
    end: float | None,
    options: Mapping[str, Any],
) -> tuple[str | Solver, Any, float | None, float | None, dict[str, Any]]:
    """Complete the arguments of `make_plan` by the name of a solver: its name here, its grid, start and end, and options.

    Raises:
        PlanError: the name is unknown, a grid or an option is given both in the name and as an argument, or a value has the wrong kind.
        TypeError: the solver is neither a name nor a `Solver`.

    Examples:
        >>> from dpmsolver.solvers import SOLVERS
        >>> resolved(SOLVERS, "uni_pc@karras:rho=5", None, None, None, {})
        ('unipc-3', 'karras', None, None, {'variant': 'bh1', 'rho': 5})
    """
    arguments = {**options, **{name: time for name, time in (("start", start), ("end", end)) if time is not None}}
    if isinstance(solver, str):
        solver, grid, arguments = _with_written(solver, grid, arguments, known)
    elif not isinstance(solver, Solver):
        raise TypeError(f"solver must be a name or a dpm.Solver, got {type(solver).__name__}")
    if isinstance(grid, str):
        grid, more = known_grid(grid)
        arguments = {**more, **arguments}
    takers = list(known.values()) if solver == "auto" else [known[solver] if isinstance(solver, str) else solver]
    of_solver = [option for each in takers for option in each.options]
    of_grid = options_of(GRIDS[grid] if isinstance(grid, str) else grid)
    _check_kinds(arguments, [*_TIMES, *of_solver, *of_grid])
    start, end = arguments.pop("start", None), arguments.pop("end", None)
    return solver, grid, start, end, arguments


def check_names(known: Mapping[str, Solver]) -> None:
    """Raise ValueError for a name of another package that is also one of ours, or that has two meanings.

    Our names are read first, in lower or upper case, so the other meaning would be lost silently.
    """
    ours = {name.lower() for name in ("auto", *known)}
    meanings: dict[str, str] = {}
    for name, meaning in (*(pair for group in ALIASES.values() for pair in group.items()), *DIFFERENT.items()):
        if name.lower() in ours:
            raise ValueError(f"{name!r} is a solver's own name and a name of another package: drop one of them")
        if meanings.setdefault(_key(name), meaning) != meaning:
            raise ValueError(f"{name!r} means {meanings[_key(name)]!r} and {meaning!r}: drop one of them")


def _with_written(
    name: str, grid: Any, arguments: dict[str, Any], known: Mapping[str, Solver]
) -> tuple[str, Any, dict[str, Any]]:
    """Solver, grid and arguments of a written solver with those that stand beside it. PlanError for what is given twice."""
    written, spec = parsed(name), understood(name, known)
    if grid is not None and spec.grid is not None:
        raise PlanError(f"{name!r} says its grid, {spec.grid!r}, and grid={_short(grid)} another: give one")
    twice = next((option for option in written.options if option in arguments), None)
    if twice is not None:
        raise PlanError(f"{twice}={arguments[twice]!r} is also an option in {name!r}: give it once")
    _check_eta(written.solver, spec.solver, arguments)
    return spec.solver, spec.grid if grid is None else grid, {**spec.options, **arguments}


def _known_solver(name: str, known: Mapping[str, Solver]) -> Spec:
    """A solver by its own name, whatever its case; else by a name that people type."""
    for own in ("auto", *known):
        if name == own or name.lower() == own.lower():
            return Spec(own)
    key = _key(name)
    found = _by_key(name, key, known)
    if found is not None:
        return found
    for label in _LABELS:
        base = _by_key(name, key.removesuffix(_key(label)), known) if key.endswith(_key(label)) else None
        if base is not None:
            grid, more = known_grid(label)
            return Spec(base.solver, grid, {**base.options, **more})
    if key.endswith("cfg++"):
        base = _by_key(name, key.removesuffix("cfg++"), known)
        nearest = f"; the nearest without it is {base.solver!r}" if base else ""
        there = ", ".join(repr(own) for own, solver in known.items() if solver.answers > 1)
        raise PlanError(f"there is no {name!r} here: of CFG++ there are {there}{nearest}")
    theirs = [alias for group in ALIASES.values() for alias in group]
    raise PlanError(unknown("solver", name, ["auto", *known, *theirs], _ALL))


def _by_key(name: str, key: str, known: Mapping[str, Solver]) -> Spec | None:
    """An alias, before our own names in another spelling: `dpm_2` is k-diffusion's and means dpm2, not dpm-2."""
    for spelled in (key, f"{key}scheduler"):
        if spelled in _aliases():
            return parsed(_aliases()[spelled])
        if spelled in _different():
            sentence = _different()[spelled]
            raise PlanError(
                f"{name} {sentence}" if sentence.startswith("chooses") else f"there is no {name!r} here: {sentence}"
            )
    return next((Spec(own) for own in known if key in (_key(own), f"{_key(own)}scheduler")), None)


def _key(name: str) -> str:
    """A name without what differs between spellings of it: case, spaces, - and _, and the packages' own prefixes and suffixes."""
    plain = re.sub(r"^(sample_|k_)|_gpu$", "", name.strip().lower()).replace("dpmpp", "dpm++")
    return re.sub(r"(?<=[a-z0-9+])[\s_-]+(?=[a-z0-9+])", "", plain).replace("cfgpp", "cfg++")


@cache
def _aliases() -> dict[str, str]:
    return {_key(name): ours for group in ALIASES.values() for name, ours in group.items()}


@cache
def _different() -> dict[str, str]:
    return {_key(name): sentence for name, sentence in DIFFERENT.items()}


def _check_kinds(arguments: Mapping[str, Any], options: Sequence[Option]) -> None:
    """Raise PlanError for a word where a number is wanted, and the like, by what the options of the run declare."""
    for name, value in arguments.items():
        same = [option for option in options if option.name == name]
        if same and not any(option.fits(value) for option in same):
            raise PlanError(f"{name} must be {same[0].must_be}, got {value!r}")


def _check_eta(written: str, ours: str, options: Mapping[str, Any]) -> None:
    """Raise PlanError for an eta beside another package's name of a solver, where it would be another strength of noise than there."""
    eta = options.get("eta")
    if ours in _OTHER_ETA and written.lower() != ours and isinstance(eta, (int, float)) and eta not in (0, 1):
        raise PlanError(
            f"eta={eta} beside {written!r} is not the eta of k-diffusion and ComfyUI: say {ours!r}, whose eta is the strength "
            f"of the noise, 0 the ODE and 1 the reverse SDE; for 2M and 3M SDE it is the square root of theirs"
        )


def _value(text: str) -> Any:
    """An option's value: a number where it reads as one, True, False or None, else a word."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _short(grid: object) -> str:
    return repr(grid) if isinstance(grid, str) else getattr(grid, "__name__", "given times")
