"""The options of every solver: those that are meant to be, and each of them does something."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import a_budget
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.convergence import GAUSSIAN, RUN, SCHEDULE, some_statistics
from dpmsolver.grids import GRIDS, interpolated
from dpmsolver.options import Option, options_of, takes
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers import SOLVERS, Solver
from dpmsolver.solvers.ddim import ddim

# A value of each option that is not its default, by families of solvers that have the same ones.
STAGE, STAGES = {"r1": 0.4}, {"r1": 0.3, "r2": 0.7}
ORDERS = {"lower_order_final": False, "ramp": "ones"}
LOWER = {"lower_quadrature": "other"}
NOISE = {"s_noise": 1.003, "eta": 0.5}
CHURN = {"s_churn": 30.0, "s_tmin": 1.0, "s_tmax": 1.0, "s_noise": 1.003}
UNIPC = {"variant": "bh1", "corrector_from": 3}
ANCESTRAL = {"eta": 0.5, "s_noise": 1.003}
MULTISTEP = ["dpm-2m", "dpm++2m", "dpm-2m-exact", "dpm++2m-exact"]
HIGHER = [f"{p}{n}m{form}" for p in ("dpm-", "dpm++") for n, form in ((3, ""), (3, "-exact"), (4, "-exact"))]
GROUPS: tuple[tuple[list[str], dict[str, Any]], ...] = (
    (["ddim"], {"eta": 0.5}),
    (
        [
            "ddpm",
            "ddpm-large",
            "dpm-1",
            "dpm-fast",
            "dpm++fast",
            "pndm",
            "s-pndm",
            "plms",
            "lms-1",
            "ipndm-1",
            "unip-1",
            "heunpp2",
            "lcm",
        ],
        {},
    ),
    (["res-2s", "res-3s", "etdrk4-krogstad", "etdrk4-ho"], {}),
    ([f"rk{p}-{variable}" for p in (2, 3, 4) for variable in ("t", "lambda")], {}),
    (["dpm-2", "dpm-2-exact", "dpm++2s", "dpm++2s-exact"], STAGE),
    (["dpm-3", "dpm-3-exact", "dpm++3s", "dpm++3s-exact"], STAGES),
    (["dpm++sde", "seeds-2"], {**STAGE, **NOISE, "quadrature": "exact"}),
    (["seeds-1"], NOISE),
    (["seeds-3"], {**STAGES, **NOISE, "quadrature": "exact"}),
    (MULTISTEP, ORDERS),
    (HIGHER, {**ORDERS, **LOWER}),
    (["dpm++2m-sde", "sde-dpm-2"], {**ORDERS, **NOISE, "quadrature": "exact"}),
    (["dpm++3m-sde"], {**ORDERS, **LOWER, **NOISE, "quadrature": "exact"}),
    (["sde-dpm-1"], NOISE),
    (["unipc-1"], UNIPC),
    (["unipc-2", "unipc-3", "unipc-2-noise", "unipc-3-noise"], {**UNIPC, **ORDERS}),
    (["unip-2", "unip-3"], {"variant": "bh1", **ORDERS}),
    (
        ["sa-solver", "sa-solver-pece"],
        {"predictor_order": 2, "corrector_order": 2, "eta": 0.5, "lower_order_final": False},
    ),
    ([f"deis-{form}{n}" for form in ("tab", "rhoab", "logrho") for n in (1, 2, 3)], ORDERS),
    ([f"{name}-{n}" for name in ("lms", "ipndm-v") for n in (2, 3, 4)], ORDERS),
    (
        [f"ipndm-{n}" for n in (2, 3, 4)],
        {"lower_order_final": True, "ramp": "ones"},
    ),
    ([f"velocity-{n}m" for n in (2, 3)], {"corrector": True, "lower_order_final": True, "ramp": "ones"}),
    (
        [f"arc-{n}m" for n in (2, 3)],
        {"sigma_data": 0.4, "variable": "angle", "corrector": True, "lower_order_final": True, "ramp": "ones"},
    ),
    (["ddim-cfg++"], {"eta": 0.5}),
    ([f"{name}-ancestral-cfg++" for name in ("euler", "dpm++2s", "dpm++2m")], ANCESTRAL),
    (["dpm++2m-cfg++", "dpm++2m-exact-cfg++"], ORDERS),
    (["gradient-estimation-cfg++"], {"gamma": 1.7}),
    (["euler", "heun", "dpm2"], CHURN),
    (["euler-ancestral", "dpm2-ancestral", "dpm++2s-ancestral", "dpm++2m-ancestral"], ANCESTRAL),
    (["gradient-estimation"], {"gamma": 1.7}),
    (["tcd"], {"gamma": 0.6}),
    ([f"er-sde-{n}" for n in (1, 2, 3)], {"noise_scale": lambda rho: rho**2}),
    (["euler-maruyama", "improved-reverse-sde"], {"eta": 0.5}),
    (["dpm-v3"], {"statistics": None, "order": 2, "corrector": False, **ORDERS}),
    (["analytic-ddpm", "analytic-ddim"], {"statistics": None}),
)
OPTIONS = {name: options for names, options in GROUPS for name in names}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_has_the_options_that_are_meant_to_be(name: str) -> None:
    """These and no others: other parameters of the function that makes the plans are not declared, and are none."""
    assert SOLVERS[name].accepted_options() == set(OPTIONS[name])


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n, options in OPTIONS.items() for o in options if o != "statistics"]
)
def test_every_option_makes_another_plan(name: str, option: str) -> None:
    """An option that changes no coefficient would be a promise that nobody keeps."""
    solver, value = SOLVERS[name], OPTIONS[name][option]
    budget = a_budget(solver, 12 if name == "sa-solver-pece" else 6)
    given: dict[str, Any] = {"statistics": some_statistics(GAUSSIAN)} if solver.calibrated else {}
    if option in ("s_tmin", "s_tmax", "s_noise") and "s_churn" in OPTIONS[name]:
        given["s_churn"] = 30.0
    if value == "ones":
        value = [1] * budget
    if value == "other":
        value = "published" if name.endswith("exact") else "exact"
    plans = [dpm.make_plan(name, SCHEDULE, budget, **RUN, **given, **o) for o in ({}, {option: value})]
    first, second = (replace(plan, options={}) for plan in plans)
    assert first != second


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function, those that a partial fixes included."""
    plain = function.func if isinstance(function, partial) else function
    return dict(inspect.signature(plain).parameters)


@pytest.mark.parametrize("name", SOLVERS)
def test_declared_options_are_parameters_with_a_default_and_no_others_are_accepted(name: str) -> None:
    """What `build` could take and the solver does not declare is refused by name: prediction, order, evaluations, …"""
    solver = SOLVERS[name]
    found, declared = parameters(solver.build), [option.name for option in solver.options]
    assert len(set(declared)) == len(declared)
    assert all(found[option].default is not inspect.Parameter.empty for option in declared)
    assert not isinstance(solver.build, partial) or not set(declared) & set(solver.build.keywords)
    assert solver.takes_evaluations == ("evaluations" in found)
    given = {"statistics": some_statistics(GAUSSIAN)} if solver.calibrated else {}
    for parameter in set(found) - {"schedule", "times", *declared}:
        with pytest.raises(PlanError, match=f"unknown option '{parameter}'"):
            dpm.make_plan(name, SCHEDULE, a_budget(solver, 6), **RUN, **given, **{parameter: 1})


def test_the_strength_of_noise_has_one_name() -> None:
    """Every solver that can be told how much noise it adds is told `eta`, and 0 is no noise."""
    told = [name for name, solver in SOLVERS.items() if "eta" in solver.accepted_options()]
    assert len(told) > 10
    for name in told:
        assert not dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), eta=0.0).stochastic
        assert dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), eta=1.0).stochastic
    assert not any({"tau", "variance", "strength"} & solver.accepted_options() for solver in SOLVERS.values())


@pytest.mark.parametrize("grid", [*GRIDS.values(), interpolated], ids=lambda grid: grid.__name__)
def test_a_grid_declares_what_its_function_takes(grid: Any) -> None:
    declared = [option.name for option in options_of(grid)]
    assert declared == [name for name in parameters(grid) if name not in ("schedule", "steps", "start", "end")]


def test_a_grid_of_the_callers_declares_its_options() -> None:
    """A function and a line above it; without the line there is no option."""

    def power(schedule: NoiseSchedule, steps: int, start: float, end: float, exponent: float = 2.0) -> Floats:
        return np.linspace(start ** (1 / exponent), end ** (1 / exponent), steps + 1) ** exponent

    declared = takes(Option("exponent", "a number", "the power of equal steps"))
    with pytest.raises(PlanError, match="unknown option 'exponent'"):
        dpm.make_plan("ddim", SCHEDULE, 4, power, **RUN, exponent=1.0)
    plan = dpm.make_plan("ddim", SCHEDULE, 4, declared(power), **RUN, exponent=1.0)
    assert plan.rows == dpm.make_plan("ddim", SCHEDULE, 4, "time", **RUN).rows
    with pytest.raises(PlanError, match="exponent must be a number, got 'one'"):
        dpm.make_plan("ddim", SCHEDULE, 4, power, **RUN, exponent="one")


def test_a_solver_of_the_callers_declares_its_options() -> None:
    """Fields have names, and an option is one only if it is declared."""
    told: dict[str, Any] = {"build": ddim, "prediction": "data", "order": 1, "description": "mine", "source": "mine"}
    closed = Solver(name="closed", **told)
    eta = Option("eta", "a number", "the strength of the noise")
    opened = Solver(name="opened", **told, options=(eta,))
    with pytest.raises(PlanError, match="unknown option 'eta'"):
        dpm.make_plan(closed, SCHEDULE, 4, eta=0.5)
    assert dpm.make_plan(opened, SCHEDULE, 4, eta=0.5).rows == dpm.make_plan("ddim", SCHEDULE, 4, eta=0.5).rows
    with pytest.raises(PlanError, match="eta must be a number, got 'x'"):
        dpm.make_plan(opened, SCHEDULE, 4, eta="x")
    with pytest.raises(TypeError):
        Solver("mine", ddim, "data", 1, "mine", "mine")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("a number", [1, 0.5, np.float64(2.0)], [True, "1", None]),
        ("a whole number", [1, 2.0], [2.5, True, "1", None]),
        ("a number or one per step", [1, 0.5, [1.0, 0.5], abs], [True, "much", None]),
        ("numbers in a sequence", [[1, 2], (1.0,), np.ones(2)], [1, 0.5, "12", True, None]),
        ("True or False", [True, 0], [0.5, "no", None]),
        ("a word", ["bh1"], [1, 0.5, True, None]),
        ("a function", [abs], [1, "abs", None]),
        ("an object", [object(), 1, "x"], [None]),
    ],
)
def test_the_values_of_each_kind_of_option(kind: Any, right: list[Any], wrong: list[Any]) -> None:
    option = Option("x", kind, "what it does")
    assert all(option.fits(value) for value in right)
    assert not any(option.fits(value) for value in wrong)
    assert option.must_be == kind
    perhaps = replace(option, or_none=True)
    assert perhaps.fits(None)
    assert perhaps.must_be == f"{kind} or None"


def test_an_option_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the kind of an option is one of a number, a whole number, .* got 'float'"):
        Option("x", "float", "what it does")  # type: ignore[arg-type]
