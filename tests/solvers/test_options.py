"""The options of every solver: those that are meant to be, and each of them does something."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import dpmsolver as dpm
from cases import a_budget
from dpmsolver.evaluation.convergence import GAUSSIAN, RUN, SCHEDULE, some_statistics
from dpmsolver.solvers import SOLVERS

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
    (["sa-solver"], {"predictor_order": 2, "corrector_order": 2, "eta": 0.5, "lower_order_final": False}),
    ([f"deis-{form}{n}" for form in ("tab", "rhoab", "logrho") for n in (1, 2, 3)], ORDERS),
    ([f"{name}-{n}" for name in ("lms", "ipndm-v") for n in (2, 3, 4)], ORDERS),
    (
        [*(f"ipndm-{n}" for n in (2, 3, 4)), *(f"velocity-{n}m" for n in (2, 3))],
        {"lower_order_final": True, "ramp": "ones"},
    ),
    (["euler", "heun", "dpm2"], CHURN),
    (["euler-ancestral", "dpm2-ancestral", "dpm++2s-ancestral"], ANCESTRAL),
    ([f"er-sde-{n}" for n in (1, 2, 3)], {"noise_scale": lambda rho: rho**2}),
    (["euler-maruyama", "improved-reverse-sde"], {"eta": 0.5}),
    (["dpm-v3"], {"statistics": None, "order": 2, "corrector": False, **ORDERS}),
    (["analytic-ddpm", "analytic-ddim"], {"statistics": None}),
)
OPTIONS = {name: options for names, options in GROUPS for name in names}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_has_the_options_that_are_meant_to_be(name: str) -> None:
    """These and no others: what is an argument of the function that makes the plans, and fixed for the solver, is none."""
    assert SOLVERS[name].accepted_options() == set(OPTIONS[name])


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n, options in OPTIONS.items() for o in options if o != "statistics"]
)
def test_every_option_makes_another_plan(name: str, option: str) -> None:
    """An option that changes no coefficient would be a promise that nobody keeps."""
    solver, value = SOLVERS[name], OPTIONS[name][option]
    budget = a_budget(solver, 6)
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


def test_the_strength_of_noise_has_one_name() -> None:
    """Every solver that can be told how much noise it adds is told `eta`, and 0 is no noise."""
    told = [name for name, solver in SOLVERS.items() if "eta" in solver.accepted_options()]
    assert len(told) > 10
    for name in told:
        assert not dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), eta=0.0).stochastic
        assert dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), eta=1.0).stochastic
    assert not any({"tau", "variance", "strength"} & solver.accepted_options() for solver in SOLVERS.values())
