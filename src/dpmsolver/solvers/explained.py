"""The options of a solver or a grid, with their defaults: `dpm.options("dpm++2m")`, which the command line prints too."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids import GRIDS, AnyGrid
from dpmsolver.option import Option, options_of
from dpmsolver.solvers.names import known_grid, understood
from dpmsolver.solvers.registry import SOLVERS
from dpmsolver.solvers.solver import AnySolver, Solver
from dpmsolver.typing import GridAlias, GridName

__all__ = ["Choice", "Options", "options"]


class Choice(NamedTuple):
    """One option of a solver or a grid.

    Args:
        name: the keyword.
        default: its default value.
        must_be: the kind of its values, in words.
        meaning: a line that describes it.
    """

    name: str
    default: Any
    must_be: str
    meaning: str

    @property
    def shown_default(self) -> str:
        """The default as code: the name of a function, the repr of any other value."""
        return str(getattr(self.default, "__name__", repr(self.default)))

    def __str__(self) -> str:
        return f"{self.name}={self.shown_default}: {self.meaning}"


class Options(tuple[Choice, ...]):
    """The options of a solver or a grid: a tuple of `Choice`, printed as a table."""

    of: str

    @classmethod
    def declared(cls, of: str, function: Callable[..., Any], options: tuple[Option, ...]) -> Options:
        """Return the options that a function declares, with the defaults of its parameters."""
        defaults = inspect.signature(function).parameters
        made = cls(Choice(each.name, defaults[each.name].default, each.must_be, each.meaning) for each in options)
        made.of = of
        return made

    def __str__(self) -> str:
        if not self:
            return f"{self.of}: no options"
        rows = [(f"{each.name}={each.shown_default}", each.must_be, each.meaning) for each in self]
        widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
        return "\n".join(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {meaning}" for name, kind, meaning in rows)

    def __repr__(self) -> str:
        listed = ", ".join(f"{each.name}={each.shown_default}" for each in self) or "none"
        return f"<options of {self.of}: {listed}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in ((each.name, each.shown_default, each.must_be, each.meaning) for each in self)
        )
        heads = "".join(f"<th>{head}</th>" for head in ("option", "default", "value", "meaning"))
        return f"<table><caption>{escape(self.of)}</caption><tr>{heads}</tr>{rows}</table>"


def options(name: AnySolver | GridName | GridAlias | AnyGrid) -> Options:
    """Return the options of a solver or a grid: the keywords that `make_plan` and `sample` accept for it.

    Args:
        name: a solver or a grid, by any name that `make_plan` understands, or as an object.

    Returns:
        The options, with names, defaults, kinds of values and descriptions.

    Raises:
        PlanError: no solver or grid has this name, or it is "auto", which has the options of the solver that it takes.
        TypeError: the argument is not a name, a solver or a function.

    Examples:
        >>> import dpmsolver as dpm
        >>> dpm.options("ddim")
        <options of ddim: eta=0.0>
        >>> print(dpm.options("karras"))
        rho=7.0  a number  the root of sigma/alpha in which steps are equal
        >>> [choice.name for choice in dpm.options("dpm++2m")]
        ['lower_order_final', 'ramp']
    """
    if isinstance(name, Solver):
        return Options.declared(name.name, name.build, name.options)
    if isinstance(name, str):
        return _of_name(name)
    if not callable(name):
        raise TypeError(
            f"options are those of a solver or of a grid, by name or as an object, got {type(name).__name__}"
        )
    return Options.declared(getattr(name, "__name__", "your own grid"), name, options_of(name))


def _of_name(name: str) -> Options:
    """The options of what a name stands for: of a solver, with those of its grid if the name says one, or else of a grid."""
    try:
        grid, _ = known_grid(name)
    except PlanError as error:
        no_grid = error
    else:
        return Options.declared(grid, GRIDS[grid], options_of(GRIDS[grid]))
    try:
        spec = understood(name, SOLVERS)
    except PlanError as error:
        if not str(error).startswith("unknown solver"):
            raise
        if not str(no_grid).startswith("unknown grid"):
            raise no_grid from None
        everything = "dpm.solvers(), dpm.grids.GRIDS"
        raise PlanError(unknown("solver or grid", name, ["auto", *SOLVERS, *GRIDS], everything)) from None
    if spec.solver == "auto":
        raise PlanError(
            "'auto' has the options of the solver that it takes, which depends on the schedule and the budget: name that solver, "
            "such as dpm.options('unipc-3')"
        )
    solver = SOLVERS[spec.solver]
    own = Options.declared(solver.name, solver.build, solver.options)
    if spec.grid is None:
        return own
    both = Options((*own, *_of_name(spec.grid)))
    both.of = f"{solver.name}@{spec.grid}"
    return both
