"""Options of solvers and grids. Each is declared with its name, the kind of its values and a description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from dpmsolver.brief import brief_repr

__all__ = ["Option", "options_of", "takes"]

Kind: TypeAlias = Literal[
    "a number",
    "a whole number",
    "a number or one per step",
    "numbers in a sequence",
    "True or False",
    "a word",
    "a function",
    "an object",
]
# The plain types that a value of each kind may have. Arrays, functions and other objects are left to whoever makes the plan or the grid.
_PLAIN: dict[Kind, tuple[type, ...]] = {
    "a number": (int, float),
    "a whole number": (int, float),
    "a number or one per step": (int, float),
    "numbers in a sequence": (),
    "True or False": (bool, int),
    "a word": (str,),
    "a function": (),
    "an object": (bool, int, float, str),
}
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """One option of a solver or of a grid.

    Args:
        name: the keyword that the caller writes, and the name of the parameter that receives the value.
        kind: the kind of its values, such as "a number".
        meaning: a line that describes the option.
        or_none: True if None is accepted too.

    Raises:
        ValueError: the kind is unknown.

    Examples:
        >>> rho = Option("rho", "a number", "the exponent")
        >>> rho.fits(7), rho.fits("seven"), rho.must_be
        (True, False, 'a number')
    """

    name: str
    kind: Kind
    meaning: str
    or_none: bool = False

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if self.kind not in _PLAIN:
            raise ValueError(f"the kind of an option is one of {', '.join(get_args(Kind))}, got {self.kind!r}")

    @property
    def must_be(self) -> str:
        """The kind of its values, in the words of an error message."""
        return self.kind + (" or None" if self.or_none else "")

    def fits(self, value: object) -> bool:
        """Return whether a plain value is of the right kind. Arrays, functions and other objects pass."""
        if value is None:
            return self.or_none
        if self.kind == "a whole number" and isinstance(value, float):
            return value.is_integer()
        return type(value) not in (bool, int, float, str) or type(value) in _PLAIN[self.kind]


def takes(*options: Option) -> Callable[[Function], Function]:
    """Declare the options of a grid: a decorator of its function.

    Examples:
        >>> @takes(Option("power", "a number", "the power of time"))
        ... def powers(schedule, steps, start, end, power=2.0):
        ...     ...
        >>> [option.name for option in options_of(powers)]
        ['power']
    """

    def declared(grid: Function) -> Function:
        grid.options = options  # type: ignore[attr-defined]
        return grid

    return declared


def options_of(grid: object) -> tuple[Option, ...]:
    """Return the options that a grid declares."""
    found: tuple[Option, ...] = getattr(grid, "options", ())
    return found
