"""The names of solvers and grids as types: the `Literal`s of `dpmsolver.typing`, written from the registries.

A type checker reads them without running anything, so they have to stand in the file. `python -m benchmarks.render` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpmsolver.grids import GRIDS
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.names import ALIASES, GRID_ALIASES

__all__ = ["FILE", "names", "rendered"]

FILE = Path(__file__).parent.parent / "src" / "dpmsolver" / "typing.py"
_BEGIN, _END, _WIDTH = "# fmt: off\n", "# fmt: on\n", 120


def names() -> dict[str, list[str]]:
    """Return the names of each `Literal`, in the order of their table."""
    return {
        "SolverName": ["auto", *SOLVERS],
        "SolverAlias": [alias for group in ALIASES.values() for alias in group],
        "GridName": list(GRIDS),
        "GridAlias": list(GRID_ALIASES),
    }


def rendered(text: str, literals: Mapping[str, Sequence[str]]) -> str:
    """Return the text of `dpmsolver.typing` with these names between its two marks."""
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{FILE.name} needs the lines {_BEGIN.strip()!r} and {_END.strip()!r} around its names")
    written = (f"{name}: TypeAlias = Literal[\n{_wrapped(values)}]\n" for name, values in literals.items())
    return before + _BEGIN + "\n".join(written) + _END + after


def _wrapped(values: Sequence[str]) -> str:
    """Return quoted names in lines that are as full as the width allows."""
    lines = [""]
    for value in values:
        if lines[-1] and len(f'    {lines[-1]} "{value}",') > _WIDTH:
            lines.append("")
        lines[-1] += f'{" " if lines[-1] else ""}"{value}",'
    return "".join(f"    {line}\n" for line in lines)
