"""`dpm.options` says what a solver or a grid leaves to its caller."""

from __future__ import annotations

import pytest

import dpmsolver as dpm
from dpmsolver.grids import GRIDS
from dpmsolver.option import Option, takes
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.ddim import ddim


@pytest.mark.parametrize("name", [*SOLVERS, *GRIDS])
def test_every_option_is_told_with_its_default_and_meaning(name: str) -> None:
    """A table with a line for each option, which names it, and a repr of one short line."""
    found = dpm.options(name)  # type: ignore[arg-type]
    lines = str(found).splitlines()
    assert len(lines) == max(1, len(found))
    for choice, line in zip(found, lines, strict=False):
        assert line.startswith(f"{choice.name}={choice.shown_default} ")
        assert line.endswith(choice.meaning)
    assert len(repr(found)) <= 200
    assert found._repr_html_().count("<tr>") == 1 + len(found)


def test_the_defaults_are_those_that_a_plan_is_made_with() -> None:
    """A plan that is given every default is the plan that is given none."""
    schedule = dpm.schedules.LinearVP()
    for name in ("dpm++2m", "dpm++2m-sde", "unipc-2", "ddim", "heun"):
        given = {choice.name: choice.default for choice in dpm.options(name)}
        assert dpm.make_plan(name, schedule, 8, **given) == dpm.make_plan(name, schedule, 8)


def test_a_name_with_its_grid_tells_the_options_of_both() -> None:
    """`dpm++2m@karras`, in any spelling that is understood, has the solver's options and the grid's."""
    both = dpm.options("DPM++ 2M Karras")
    assert both == (*dpm.options("dpm++2m"), *dpm.options("karras"))
    assert both.of == "dpm++2m@karras"


def test_solvers_and_grids_of_your_own_are_told_too() -> None:
    """A Solver and a function that declares options, as objects."""
    eta = Option("eta", "a number", "the noise")
    mine = dpm.Solver(
        name="mine", build=ddim, prediction="data", order=1, description="mine", source="mine", options=(eta,)
    )
    assert [str(choice) for choice in dpm.options(mine)] == ["eta=0.0: the noise"]

    @takes(Option("bend", "a number", "how much it bends"))
    def bent(schedule: NoiseSchedule, steps: int, start: float, end: float, *, bend: float = 2.0) -> Floats:
        raise NotImplementedError

    assert repr(dpm.options(bent)) == "<options of bent: bend=2.0>"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("karas", "unknown solver or grid 'karas' \\(did you mean 'karras'\\?\\)"),
        ("dmp++2m", "did you mean 'dpm\\+\\+2m'"),
        ("auto", "depends on the schedule and the budget"),
        ("rk45", "dpm.sample_rk45"),
        ("align_your_steps", "one for each model"),
    ],
)
def test_what_has_no_options_of_its_own_is_refused_with_what_is_accepted(name: str, said: str) -> None:
    """Misspelt names, "auto", and names of other packages that mean nothing here."""
    with pytest.raises(dpm.PlanError, match=said):
        dpm.options(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got int"):
        dpm.options(3)  # type: ignore[arg-type]
