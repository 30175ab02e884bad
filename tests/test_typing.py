"""The types say what the registries hold, and mypy refuses what they do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from benchmarks import typed_names

from dpmsolver import typing as types
from dpmsolver.plans.targets import PREDICTIONS

TYPED = Path(__file__).parent / "typed" / "names.py"


@pytest.mark.parametrize(
    ("literal", "names"),
    [*typed_names.names().items(), ("Predicts", list(PREDICTIONS))],
    ids=lambda value: str(value)[:12],
)
def test_the_names_that_editors_complete_are_those_of_the_registry(literal: str, names: list[str]) -> None:
    """Each Literal of `dpmsolver.typing` has the names of its table and no others, in the table's order."""
    assert list(get_args(getattr(types, literal))) == names, (
        "python -m benchmarks.render writes src/dpmsolver/typing.py"
    )


def test_the_names_of_a_new_solver_are_written() -> None:
    """The command that writes them changes nothing else, puts a new name in its place, and keeps lines within 120 characters."""
    text, names = typed_names.FILE.read_text(), typed_names.names()
    assert typed_names.rendered(text, names) == text
    more = typed_names.rendered(text, {**names, "SolverName": [*names["SolverName"], "etd2rk"]})
    assert [*set(more.split()) - set(text.split())] == ['"etd2rk",']
    assert max(map(len, more.partition("fmt: off")[2].splitlines())) <= 120
    with pytest.raises(ValueError, match="fmt: on"):
        typed_names.rendered(text.replace("# fmt: on", ""), names)


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
