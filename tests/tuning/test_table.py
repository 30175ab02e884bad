"""Tables: every plan of the ODE in the form that is fitted, with the same result."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from laws import LAW

import dpmsolver as dpm
from cases import UNCALIBRATED, a_budget
from dpmsolver.solvers import SOLVERS, make_plan
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.table import Table

ODE = [name for name in sorted(UNCALIBRATED) if not SOLVERS[name].stochastic]
CASES = {
    "vp": (dpm.schedules.LinearVP(), "noise"),
    # x_T is scaled to where a network of noise is first evaluated.
    "a start that is scaled": (dpm.schedules.EDM(sigma_max=700.0), "noise"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ODE)
def test_a_table_ends_where_its_plan_does(name: str, case: str) -> None:
    """Of every solver without noise: as a table, and as the plan that the table becomes."""
    schedule, predicts = CASES[case]
    denoiser = LAW.denoiser(schedule, predicts)
    x_T = dpm.initial_noise(schedule, (4, 3), seed=0)
    plan = make_plan(name, schedule, a_budget(SOLVERS[name]), predicts=predicts)
    part = Noises(denoiser, x_T).part(range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dpm.ConventionWarning)  # of plans that multiply outputs
        wanted = dpm.sample(denoiser, x_T, plan=plan)
        table = Table.of(plan)
        again = dpm.sample(denoiser, x_T, plan=table.plan("tuned", repr(schedule), "fitted", {}))
    size = abs(wanted).max()
    assert abs(table.run(part) - wanted).max() <= 1e-12 * size * amplified(table)
    assert abs(again - wanted).max() <= 1e-12 * size * amplified(table)


def amplified(table: Table) -> float:
    """How much larger than the result the terms are that it is made of: rounding counts in their size."""
    return max(1.0, max(abs(row[1:]).max() for row in table.rows))


def test_a_plan_with_noise_has_no_table() -> None:
    with pytest.raises(dpm.PlanError, match="ddim is not linear in x_T and the outputs alone"):
        Table.of(make_plan("ddim", dpm.schedules.LinearVP(), 5, eta=1.0))


def test_a_run_resumes_from_any_evaluation(part: Any) -> None:
    """From an input and the outputs before it, to the same end."""
    table = Table.of(make_plan("dpm++2m", dpm.schedules.LinearVP(), 4))
    x, outputs = table.start(part), ()
    for k, (point, row) in enumerate(zip(table.points, table.rows, strict=False)):
        assert np.array_equal(table.resume(part, k, x, outputs), table.run(part))
        outputs = (part(x, point), *outputs)
        x = part.combine(row, [x, *outputs])
