"""Names that go warn first, in the caller's line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmsolver.deprecation import deprecated, renamed


@deprecated("0.4", instead="new")
def old(x: int, *, y: int = 1) -> int:
    """The old one."""
    return x + y


@renamed("0.4", steps="nfe", kind="solver")
def planned(nfe: int, solver: str = "ddim") -> tuple[int, str]:
    return nfe, solver


def test_a_deprecated_function_works_and_warns_where_it_is_called() -> None:
    with pytest.warns(DeprecationWarning, match="old is deprecated since 0.4 .*: write new") as seen:
        assert old(1, y=2) == 3
    assert Path(seen[0].filename) == Path(__file__)
    assert (old.__name__, old.__doc__) == ("old", "The old one.")


def test_a_renamed_argument_works_under_both_names(recwarn: pytest.WarningsRecorder) -> None:
    assert planned(5, solver="heun") == (5, "heun")
    assert not recwarn.list
    with pytest.warns(DeprecationWarning, match=r"planned\(steps=…\) is deprecated since 0.4 .*: write nfe=") as seen:
        assert planned(steps=5, kind="heun") == (5, "heun")  # type: ignore[call-arg]
    assert [Path(each.filename) for each in seen] == 2 * [Path(__file__)]


def test_an_argument_under_two_names_is_refused() -> None:
    with pytest.raises(TypeError, match="planned got nfe= and its old name steps=: give nfe= alone"):
        planned(nfe=5, steps=6)  # type: ignore[call-arg]
