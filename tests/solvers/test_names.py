"""The names that people type: those of other packages mean the same sampler or are answered, and a name carries a grid and options."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import names as PAGE

import dpmsolver as dpm
from cases import a_budget
from dpmsolver.evaluation.samplers import samplers_from_names
from dpmsolver.grids import GRIDS
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.names import (
    ALIASES,
    DIFFERENT,
    DIFFERENT_GRIDS,
    GRID_ALIASES,
    check_names,
    known_grid,
    understood,
)
from dpmsolver.solvers.registry import table

VP = dpm.schedules.LinearVP()
THEIRS = {name: ours for group in ALIASES.values() for name, ours in group.items()}

# Every name of the page, and names of stable-diffusion.cpp and older ones of AUTOMATIC1111.
MENUS = [
    *(name for names in PAGE.SAMPLERS.values() for name in names),
    *(
        "euler_a",
        "dpm2",
        "dpm++2s_a",
        "dpm++2m",
        "tcd",
        "dpm++2mv2",
        "ddim_trailing",
        "res_2s",
        "euler_a_cfg_pp",
        "euler_ge",
    ),
    *(
        "dpm++2m_sde",
        "dpm++2m_sde_bt",
        "res_3s",
        "sample_dpmpp_2m",
        "DPM++ 2M Karras",
        "DPM2 a Karras",
        "LMS Karras",
        "k_lms",
    ),
    *("DPM++ 2M SDE Exponential", "DPM++ 3M SDE Polyexponential", "DPM++ 2M SDE Heun Karras", "DPM++ 2M CFG++ Karras"),
]


def answered(name: str) -> str | None:
    """What is said of a name that is no solver here, and None for one that is."""
    try:
        understood(name, SOLVERS)
    except dpm.PlanError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", [*MENUS, *THEIRS])
def test_a_name_of_another_package_makes_a_plan_or_is_answered(name: str) -> None:
    """None of them is unknown, and none gets a suggestion by its letters: either the same sampler, or a sentence that says why not."""
    answer = answered(name)
    if answer is not None:
        assert re.match(r"there is no '.*' here: |.* chooses its steps while it runs", answer)
        assert name not in THEIRS
        return
    spec = understood(name, SOLVERS)
    plan = dpm.make_plan(name, VP, a_budget(SOLVERS[spec.solver]))
    assert plan.solver == spec.solver
    assert spec.grid in (None, plan.grid)
    assert plan.options == spec.options


@pytest.mark.parametrize("name", DIFFERENT)
def test_an_answer_names_solvers_that_are_here(name: str) -> None:
    """Whatever an answer puts in quotes can be typed."""
    with pytest.raises(dpm.PlanError) as error:
        understood(name, SOLVERS)
    answer = str(error.value).replace(repr(name), "")
    for quoted in re.findall(r"(?<![=\w])'([^']+)'", answer):
        understood(quoted, SOLVERS)


@pytest.mark.parametrize(
    ("name", "solver", "grid"),
    [
        ("dpmpp_2m", "dpm++2m", None),
        ("DPM++ 2M", "dpm++2m", None),
        ("DPM++ 2M Karras", "dpm++2m", "karras"),
        ("dpmpp_2m_sde", "dpm++2m-sde", None),
        ("euler_a", "euler-ancestral", None),
        ("dpm_2_ancestral", "dpm2-ancestral", None),
        ("dpm_2", "dpm2", None),
        ("DPM2", "dpm2", None),
        ("res_2s", "res-2s", None),
        ("uni_pc", "unipc-3", None),
        ("DPM++2M", "dpm++2m", None),
        ("unipc_2", "unipc-2", None),
        ("DPM-2", "dpm-2", None),
        ("EulerDiscrete", "euler", None),
        ("eulerdiscretescheduler", "euler", None),
    ],
)
def test_the_right_solver(name: str, solver: str, grid: str | None) -> None:
    """By hand: whatever differs between spellings, and that `dpm_2` is k-diffusion's DPM2 while `dpm-2` is DPM-Solver-2."""
    assert understood(name, SOLVERS)[:2] == (solver, grid)


@pytest.mark.parametrize("name", ["auto", *SOLVERS])
def test_our_own_names_have_priority(name: str) -> None:
    """A name of the registry is that solver without options, in any case of its letters."""
    assert understood(name, SOLVERS) == understood(name.upper(), SOLVERS) == (name, None, {})


def test_a_message_lists_a_few_near_names() -> None:
    """At most five, and how to list all, not all 86 of them."""
    with pytest.raises(
        dpm.PlanError, match=r"unknown solver 'dpmpp_2n' .did you mean 'dpmpp_2m'.*dpmsolver solvers"
    ) as error:
        dpm.make_plan("dpmpp_2n", VP, 10)
    assert len(str(error.value)) < 220
    with pytest.raises(dpm.PlanError, match=r"unknown grid 'karas' .did you mean 'karras'.*dpm\.grids\.GRIDS"):
        dpm.make_plan("ddim@karas", VP, 10)


# Grids ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRID_ALIASES)
def test_other_names_of_grids(name: str) -> None:
    """As an argument and in a name."""
    grid, options = known_grid(name)
    assert known_grid(name.replace("_", "-").upper()) == (grid, options)
    counted = dpm.schedules.Discrete(betas=dpm.schedules.scaled_linear_betas())
    run = (counted if grid == "leading" else VP, 5)
    end = {"end": 0.0} if grid == "leading" else {}
    expected = dpm.make_plan("ddim", *run, grid, **options, **end)
    assert dpm.make_plan("ddim", *run, name, **end) == dpm.make_plan(f"ddim@{name}", *run, **end) == expected


@pytest.mark.parametrize("name", GRIDS)
def test_grids_in_another_spelling(name: str) -> None:
    assert known_grid(name.replace("-", "_").upper()) == (name, {})


@pytest.mark.parametrize("name", DIFFERENT_GRIDS)
def test_grids_that_are_not_here_are_answered(name: str) -> None:
    with pytest.raises(dpm.PlanError, match=f"there is no grid '{name}' here: ") as error:
        dpm.make_plan("ddim", VP, 5, name)
    for quoted in re.findall(r"'([^']+)'", str(error.value).split(": ", 1)[1]):
        assert quoted in GRIDS


# What a name carries --------------------------------------------------------------------------------------------------------------

SPEC = "unipc-2@karras:rho=5:variant=bh1:end=0.01"
PLAN = dpm.make_plan("unipc-2", VP, 6, "karras", rho=5, variant="bh1", end=0.01)


def test_a_name_with_grid_and_options_means_the_same_everywhere() -> None:
    """make_plan, sample, iterate, encode and a comparison; options of the solver, of the grid, and where the run ends."""
    model = dpm.models.Gaussian(mean=[0.5], variance=[0.1]).denoiser(VP)
    x = np.ones((2, 1))
    assert dpm.make_plan(SPEC, VP, 6) == PLAN
    expected = dpm.sample(model, x, plan=PLAN)
    np.testing.assert_array_equal(dpm.sample(model, x, 6, solver=SPEC), expected)
    *_, last = dpm.iterate(model, x, 6, solver=SPEC)
    np.testing.assert_array_equal(last.x, expected)
    (sampler,) = samplers_from_names([SPEC])
    assert sampler.plan is not None
    assert sampler.plan(VP, 6) == PLAN
    encoded = dpm.encode(model, x, 6, solver="unipc-2@karras:rho=5:variant=bh1")
    np.testing.assert_array_equal(
        encoded, dpm.encode(model, x, 6, solver="unipc-2", grid="karras", rho=5, variant="bh1")
    )


def test_names_of_a_comparison_are_ours() -> None:
    """A curve says what it is, so that two names of one sampler are found to be one."""
    (sampler,) = samplers_from_names(["DPM++ 2M Karras"])
    assert sampler.name == "dpm++2m @ karras, lower_order_final=False"
    with pytest.raises(dpm.PlanError, match="named twice"):
        samplers_from_names(["dpmpp_2m_sde", "DPM++ 2M SDE"])


def test_an_option_of_an_alias_can_be_changed() -> None:
    """What a name of another package carries is its default there."""
    plan = dpm.make_plan("dpmpp_2m:lower_order_final=True", VP, 6)
    assert plan.rows == dpm.make_plan("dpm++2m", VP, 6).rows
    assert plan.rows == dpm.make_plan("dpmpp_2m", VP, 6, lower_order_final=True).rows
    assert plan.rows != dpm.make_plan("dpmpp_2m", VP, 6).rows


def test_auto_takes_a_grid_and_its_options() -> None:
    assert dpm.make_plan("auto@karras:rho=5", VP, 6) == dpm.make_plan("auto", VP, 6, "karras", rho=5)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ddim@karras", {"grid": "time"}, r"'ddim@karras' says its grid, 'karras', and grid='time' another"),
    ("ddim@karras", {"grid": [1.0, 0.5, 0.1]}, "grid=given times another"),
    ("DPM++ 2M Karras", {"grid": "time"}, "says its grid, 'karras'"),
    ("DPM++ 2M Karras@time", {}, "says its grid, 'karras', and 'time' is another"),
    ("ddim:eta=0.5", {"eta": 1.0}, r"eta=1\.0 is also an option in 'ddim:eta=0\.5'"),
    ("ddim:end=0.5", {"end": 0.1}, r"end=0\.1 is also an option"),
    ("ddim:eta=0.5:eta=1", {}, "option 'eta' is given twice"),
    ("ddim:eta", {}, "name@grid:option=value"),
    ("ddim@", {}, "name@grid:option=value"),
    ("", {}, "got ''"),
    ("ddim:eta=x", {}, "eta must be a number, got 'x'"),
    ("ddim:eta=None", {}, "eta must be a number, got None"),
    ("ddim:eta=nan", {}, r"eta must lie in \[0, 1\], got nan"),
    ("dpm++2m-sde:eta=nan", {}, "eta must be >= 0, got nan"),
    ("ipndm-", {}, "unknown solver 'ipndm-'"),
    ("ddim:eta=True", {}, "eta must be a number, got True"),
    ("ddim", {"eta": "x"}, "eta must be a number, got 'x'"),
    ("auto:rho=x", {"grid": "karras"}, "rho must be a number, got 'x'"),
    ("ddim@karras:rho=x", {}, "rho must be a number, got 'x'"),
    ("ddim:start=x", {}, "start must be a number, got 'x'"),
    ("dpm++2m:lower_order_final=no", {}, "lower_order_final must be True or False, got 'no'"),
    ("sa-solver:predictor_order=2.5", {}, r"predictor_order must be a whole number, got 2\.5"),
    ("sa-solver:eta=much", {}, "eta must be a number or one per step, got 'much'"),
    ("er-sde-3:noise_scale=2", {}, "noise_scale must be a function, got 2"),
    ("dpm++2m:ramp=2", {}, "ramp must be numbers in a sequence or None, got 2"),
    ("unipc-2:variant=bh3", {}, "variant must be 'bh1' or 'bh2', got 'bh3'"),
    ("unipc-2:variant=1", {}, "variant must be a word, got 1"),
    ("dpmpp_2m_sde:eta=0.5", {}, r"eta=0\.5 beside 'dpmpp_2m_sde' is not the eta of k-diffusion and ComfyUI: say 'dpm\+\+2m-sde'"),
    ("DPM++ SDE Karras", {"eta": 0.5}, r"eta=0\.5 beside 'DPM\+\+ SDE Karras' is not the eta of k-diffusion"),
    ("dpm++2m-sde:tau=0.5", {}, "unknown option 'tau'"),
    ("heun_cfg_pp", {}, "of CFG.. there are 'ddim-cfg..', .*; the nearest without it is 'heun'"),
    ("ddim@bong_tangent", {}, "there is no grid 'bong_tangent' here"),
    ("DPM adaptive", {}, r"^DPM adaptive chooses its steps while it runs, so it has no plan: sample_adaptive\(…, order=3\)"),
    ("res-2s:prediction=noise", {}, "unknown option 'prediction'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    """One sentence: a grid or an option twice, a value of another kind, a name that cannot be read."""
    with pytest.raises(dpm.PlanError, match=message) as error:
        dpm.make_plan(name, VP, 2, **arguments)
    assert "\n" not in str(error.value)


def test_two_solvers_of_one_name_are_refused() -> None:
    """The table is made of all families, and none of them can take a name that another has."""
    with pytest.raises(ValueError, match=r"two solvers are called 'ddim', of the families 'first order' and 'mine'"):
        table([*SOLVERS.values(), replace(SOLVERS["euler"], name="ddim", family="mine")])
    assert table(SOLVERS.values()) == SOLVERS


@pytest.mark.parametrize("name", ["euler_a", "UniPCMultistepScheduler", "LCMScheduler", "dpm-12"])
def test_a_solver_cannot_take_the_name_of_another_package(name: str) -> None:
    """Our names are read first, and the other's sampler would be lost without a word."""
    with pytest.raises(ValueError, match="is a solver's own name and a name of another package"):
        table([*SOLVERS.values(), replace(SOLVERS["euler"], name=name)])


def test_a_name_of_another_package_has_one_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALIASES, "diffusers", {**ALIASES["diffusers"], "Euler A": "euler"})
    with pytest.raises(ValueError, match="'Euler A' means 'euler-ancestral' and 'euler': drop one"):
        check_names(SOLVERS)
    monkeypatch.setitem(ALIASES, "diffusers", {"Auto": "ddim"})
    with pytest.raises(ValueError, match="'Auto' is a solver's own name"):
        check_names(SOLVERS)


@pytest.mark.parametrize("eta", [0, 1.0])
def test_an_eta_that_means_the_same_everywhere_is_taken_beside_every_name(eta: float) -> None:
    plan = dpm.make_plan("dpm++2m-sde", VP, 6, eta=eta, lower_order_final=False)
    assert dpm.make_plan(f"dpmpp_2m_sde:eta={eta}", VP, 6).rows == plan.rows
    assert dpm.make_plan("dpmpp_2m_sde", VP, 6, eta=eta).rows == plan.rows


# The page -------------------------------------------------------------------------------------------------------------------------


def test_the_page_of_names_is_in_step() -> None:
    """docs/names.md is what the library says of every name: `python benchmarks/names.py` writes it."""
    assert PAGE.PAGE.read_text() == PAGE.page()
    rows = [row.lower() for row in re.findall(r"^\| `([^`]+)` \|", PAGE.page(), re.MULTILINE)]
    names = {*THEIRS, *DIFFERENT, *GRID_ALIASES, *DIFFERENT_GRIDS, *PAGE.NOTES, *PAGE.GRID_NOTES}
    assert {name.lower() for name in names} - set(rows) <= set(PAGE.SPELLED.values())


def test_the_page_has_every_name_of_the_packages() -> None:
    """ComfyUI's menus as its own code has them, k-diffusion's functions, and the scheduler classes of the diffusers that is installed."""
    goldens = json.loads((Path(__file__).parents[1] / "goldens" / "comfyui.json").read_text())["names"]
    assert set(goldens["samplers"]) <= set(PAGE.SAMPLERS["ComfyUI"])
    assert set(goldens["schedulers"]) == set(PAGE.SCHEDULERS["ComfyUI"])
    found = importlib.util.find_spec("k_diffusion")
    if found is not None and found.origin is not None:
        text = (Path(found.origin).parent / "sampling.py").read_text()
        assert set(re.findall(r"^def (sample_\w+)", text, re.MULTILINE)) == set(PAGE.SAMPLERS["k-diffusion"])
        assert set(re.findall(r"^def (get_sigmas_\w+)", text, re.MULTILINE)) == set(PAGE.SCHEDULERS["k-diffusion"])
    schedulers = pytest.importorskip("diffusers.schedulers")
    classes = {name for name in dir(schedulers) if name.endswith("Scheduler")}
    assert classes <= set(PAGE.SAMPLERS["diffusers"])
