"""The types say what the registries hold, and mypy refuses what they do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from dpmsolver import typing as types
from dpmsolver.grids import GRIDS
from dpmsolver.plans.targets import PREDICTIONS
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.names import ALIASES, GRID_ALIASES

TYPED = Path(__file__).parent / "typed" / "names.py"


@pytest.mark.parametrize(
    ("literal", "names"),
    [
        ("SolverName", ["auto", *SOLVERS]),
        ("SolverAlias", [alias for group in ALIASES.values() for alias in group]),
        ("GridName", list(GRIDS)),
        ("GridAlias", list(GRID_ALIASES)),
        ("Predicts", list(PREDICTIONS)),
    ],
)
def test_the_names_that_editors_complete_are_those_of_the_registry(literal: str, names: list[str]) -> None:
    """Each Literal of `dpmsolver.typing` has the names of its table and no others, in the table's order."""
    said: tuple[Any, ...] = get_args(getattr(types, literal))
    lacks, extra = [name for name in names if name not in said], [name for name in said if name not in names]
    assert not lacks, f"write {lacks} into {literal} of src/dpmsolver/typing.py"
    assert not extra, f"take {extra} out of {literal} of src/dpmsolver/typing.py"
    assert list(said) == names, f"{literal} of src/dpmsolver/typing.py has the right names in another order"


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", *arguments]
    return subprocess.run(command, cwd=TYPED.parents[2], capture_output=True, text=True)


@pytest.mark.slow
def test_mypy_refuses_a_misspelt_name_and_takes_the_right_one(tmp_path: Path) -> None:
    """The lines of tests/typed/names.py that are marked as wrong are errors, each of them, and the others are none."""
    assert mypy(str(TYPED)).returncode == 0
    bare = tmp_path / "bare.py"
    lines = TYPED.read_text().splitlines()
    bare.write_text("\n".join(line.partition("  # type: ignore")[0] for line in lines))
    found = mypy("--no-error-summary", "--hide-error-context", str(bare)).stdout.splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if "  # type: ignore" in line}
    assert {int(line.split(":")[1]) for line in found if ": error: " in line} == wrong
