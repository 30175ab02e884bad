"""Tables: every plan of the ODE in the form that is fitted, with the same result."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from laws import END, LAW, PEAKS, SCHEDULE, labels

import dpmsolver as dpm
from cases import UNCALIBRATED, a_budget
from dpmsolver.solvers import SOLVERS, make_plan
from dpmsolver.tuning.misses import DIVERGED, Miss, judged_errors
from dpmsolver.tuning.parts import Noises
from dpmsolver.tuning.table import Table, abreast
from dpmsolver.tuning.teacher import Lesson, Taught

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


def several() -> list[Table]:
    plans = [make_plan(name, SCHEDULE, 5, end=END) for name in ("ddim", "dpm++2m", "unipc-2", "ipndm-3", "dpm-3m")]
    return [Table.of(plan) for plan in plans]


def counted(widest: list[int]) -> dpm.Denoiser:
    """A mixture whose samples are told apart by their classes, and that notes how many it evaluates at once."""
    denoiser = PEAKS.denoiser(SCHEDULE)

    def network(x: Any, t: Any, class_labels: Any) -> Any:
        widest.append(len(x))
        return denoiser.network(x, t, class_labels=class_labels)

    return denoiser.replace(network=network, network_kwargs={"class_labels": labels(4)})


def test_runs_abreast_end_where_each_ends_by_itself() -> None:
    """With the conditions of their noises, in as few calls as the room allows, and from a later evaluation too."""
    widest: list[int] = []
    (part,) = Noises(counted(widest), dpm.initial_noise(SCHEDULE, (4, 2), seed=0)).parts(range(4), 12)
    tables = several()
    alone = [table.run(part) for table in tables]
    widest.clear()
    together = abreast(part, tables, 0, [table.start(part) for table in tables], [()] * len(tables))
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)
    assert widest == [12] * 5 + [8] * 5
    table, start = tables[1], tables[1].start(part)
    outputs = (part(start, table.points[0]),)
    states = [part.combine(table.rows[0] * factor, [start, *outputs]) for factor in (1.0, 1.1)]
    ends = abreast(part, [table, table], 1, states, [outputs, outputs])
    np.testing.assert_allclose(ends, [table.resume(part, 1, x, outputs) for x in states], rtol=1e-9, atol=1e-9)


def test_a_table_that_diverges_leaves_those_beside_it(peaks: list[Taught]) -> None:
    """It is marked, and the others have the errors that they have alone."""
    denoiser = dpm.Denoiser(lambda x, t: np.where(abs(x) > 1e6, np.nan, np.tanh(x)), SCHEDULE, "data")
    (part,) = Noises(denoiser, dpm.initial_noise(SCHEDULE, (4, 2), seed=0)).parts(range(4), 64)
    taught = [Taught(part, Lesson.given(part, END))]
    good, other = several()[:2]
    wild = Table(good.points, (1e9 * good.rows[0], *good.rows[1:]), predicts="data")
    found = judged_errors([good, wild, other], taught, Miss())
    assert (found[1] == DIVERGED).all()
    for table, errors in ((good, found[0]), (other, found[2])):
        np.testing.assert_allclose(errors, judged_errors([table], taught, Miss())[0], rtol=1e-9)
