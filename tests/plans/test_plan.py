"""Plans: what they refuse, that JSON keeps every digit, and what they say of themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import KEEP_MARGINALS, UNCALIBRATED, a_budget, budgets
from dpmsolver.errors import PlanError
from dpmsolver.grids import GRIDS, quadratic
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Discrete, LinearVP
from dpmsolver.solvers import SOLVERS, make_plan

SCHEDULE = LinearVP()
START, MIDDLE, END = (Point.at(SCHEDULE, t) for t in (1.0, 0.5, 0.1))


def ddim_step(source: Point, target: Point) -> Combination:
    ratio = target.sigma / source.sigma
    return Combination(ratio, (target.alpha - ratio * source.alpha,))


def two_rows() -> tuple[Row, Row]:
    return Row(START, advance=ddim_step(START, MIDDLE)), Row(MIDDLE, advance=ddim_step(MIDDLE, END))


def test_a_hand_written_plan_is_accepted() -> None:
    """Two DDIM steps with coefficients written out by hand keep the marginals."""
    plan = Plan("data", two_rows(), END)
    assert (plan.nfe, plan.start, plan.end, plan.history, plan.noise_history) == (2, START, END, 1, 0)
    assert not plan.stochastic


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan("v", two_rows(), END), "prediction must be 'noise' or 'data', got 'v'"),
        (lambda: Plan("data", (), END), "at least one row"),
        (
            lambda: Plan("data", (two_rows()[0], Row(MIDDLE, predict=ddim_step(MIDDLE, END))), END),
            "last row must advance the state",
        ),
        (
            lambda: Plan("data", (*two_rows()[:1], replace(two_rows()[1], predict=Combination(1.0))), END),
            "last row must not predict",
        ),
        (
            lambda: Plan("data", (Row(START, advance=Combination(1.0, (math.nan,))),), END),
            "row 0 has a coefficient that is not finite",
        ),
        (
            lambda: Plan("data", (Row(START, advance=Combination(math.inf)),), END, keeps_marginals=False),
            "row 0 has a coefficient that is not finite",
        ),
        (
            lambda: Plan("data", (Row(START, advance=Combination(0.5, (0.5, 0.1))),), END),
            "row 0 uses 2 outputs but only 1 exist by then",
        ),
        (
            lambda: Plan("data", (two_rows()[0], Row(MIDDLE, advance=Combination(0.5, (0.5,), (0.1,) * 3))), END),
            "row 1 uses",
        ),
        (lambda: Plan("noise", two_rows(), END), "row 0 leaves the marginals: it reaches alpha="),
        (lambda: Plan("data", two_rows(), MIDDLE), r"row 1 leaves the marginals.*\(t=0.5\)"),
        (lambda: Plan("data", (Row(START, advance=Combination(0.0)),), END), "row 0 leaves the marginals"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_cause(make: Callable[[], Plan], message: str) -> None:
    """Each defect raises a PlanError that names the row and what is wrong with it."""
    with pytest.raises(PlanError, match=message):
        make()


def scaled(combination: Combination, place: str, factor: float) -> Combination:
    if place == "state":
        return replace(combination, state=combination.state * factor)
    values = list(getattr(combination, place))
    k = max(range(len(values)), key=lambda i: abs(values[i]))
    values[k] *= factor
    return replace(combination, **{place: tuple(values)})


def perturbed(plan: Plan, index: int, part: str, place: str, **changes: Any) -> Plan:
    """The plan with the largest coefficient of one place of a row changed by 1e-6 of itself."""
    row = plan.rows[index]
    changed = replace(row, **{part: scaled(getattr(row, part), place, 1 + 1e-6)})
    return replace(plan, rows=(*plan.rows[:index], changed, *plan.rows[index + 1 :]), **changes)


@pytest.mark.parametrize("name", KEEP_MARGINALS)
def test_a_coefficient_off_by_a_millionth_is_noticed_in_every_row(name: str) -> None:
    """A plan keeps the marginals: a relative error of 1e-6 in any row's outputs raises a PlanError naming the row.

    From t = 0.7 to 0.05, where signal and noise both are a few percent of the state: the check is relative to the whole of it.
    """
    plan = make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), start=0.7, end=0.05)
    for index, row in enumerate(plan.rows):
        for part in ("advance", "predict"):
            combination = getattr(row, part)
            if combination is None or not any(combination.outputs):
                continue
            with pytest.raises(PlanError, match=f"row {index} leaves the marginals"):
                perturbed(plan, index, part, "outputs")


def test_a_state_or_noise_coefficient_off_by_a_millionth_is_noticed() -> None:
    """The check covers the coefficients of the state and of the noise as well."""
    plan = make_plan("ddim", SCHEDULE, 6, eta=1.0)
    for place in ("state", "noise"):
        with pytest.raises(PlanError, match="row 2 leaves the marginals"):
            perturbed(plan, 2, "advance", place)


@pytest.mark.parametrize("name", KEEP_MARGINALS)
def test_a_plan_may_leave_the_marginals_and_says_so(name: str) -> None:
    """keeps_marginals=False accepts the same perturbed coefficients, through JSON too, and the table tells."""
    plan = make_plan(name, SCHEDULE, a_budget(SOLVERS[name]))
    tuned = perturbed(plan, plan.nfe - 1, "advance", "outputs", keeps_marginals=False)
    assert tuned != plan
    assert ", leaves the marginals" in tuned.table().splitlines()[0]
    assert ", leaves the marginals" not in plan.table()
    back = Plan.from_json(tuned.to_json())
    assert back == tuned
    assert not back.keeps_marginals


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(sorted(UNCALIBRATED)),
    grid=st.sampled_from(sorted(set(GRIDS) - {"simple", "normal", "sgm-uniform"})),  # these run to sigma = 0
    steps=st.integers(1, 8),
    discrete=st.booleans(),
)
def test_json_round_trip_keeps_every_digit(name: str, grid: str, steps: int, discrete: bool) -> None:
    """from_json(to_json(plan)) == plan, for every solver and grid; the text is strict JSON."""
    discrete = discrete or grid in ("leading", "linspace")  # these count training steps
    schedule = Discrete(betas=np.linspace(1e-4, 0.02, 1000)) if discrete else SCHEDULE
    accepted = budgets(SOLVERS[name], 36)
    plan = make_plan(name, schedule, accepted[min(6 * steps, len(accepted)) - 1], grid)
    text = plan.to_json()
    assert Plan.from_json(text) == plan
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_json_round_trip_of_a_stochastic_plan() -> None:
    """Noise coefficients are kept too."""
    plan = make_plan("ddim", SCHEDULE, 5, eta=0.7)
    assert plan.stochastic
    assert Plan.from_json(plan.to_json()) == plan


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(make_plan("dpm++2m", SCHEDULE, 3).to_json())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan in JSON"),
        ("{", "not a plan in JSON, or one that was cut short"),
        ("[]", "not a plan in JSON"),
        ("3", "not a plan in JSON"),
        ("null", "not a plan in JSON"),
        ("{}", "not a plan in JSON: the field 'format' is missing"),
        (edited(lambda d: d.update(format=99)), "this plan has format 99, this version reads 2 to 3"),
        (edited(lambda d: d.pop("rows")), "not a plan in JSON: the field 'rows' is missing"),
        (edited(lambda d: d.update(rows=[])), "rows needs at least one item"),
        (edited(lambda d: d.update(rows="abc")), "not a plan in JSON"),
        (edited(lambda d: d.update(rows=None)), "not a plan in JSON"),
        (edited(lambda d: d["rows"].reverse()), "only 1 exist by then|leaves the marginals"),
        (edited(lambda d: d["rows"][1].pop("point")), "the field 'point' of rows.1. is missing"),
        (edited(lambda d: d["rows"][1]["point"].pop("alpha")), "not a plan in JSON.*alpha"),
        (edited(lambda d: d["rows"][1]["point"].update(beta=1.0)), "not a plan in JSON.*beta"),
        (edited(lambda d: d["rows"][1]["point"].update(alpha="x")), "not a plan in JSON"),
        (edited(lambda d: d["rows"][1].update(advance=None)), "leaves the marginals"),
        (edited(lambda d: d["rows"][2].update(advance=None)), "last row must advance"),
        (edited(lambda d: d["rows"][1]["advance"].pop("state")), "the field 'state' of rows.1..advance is missing"),
        (edited(lambda d: d["rows"][1]["advance"].update(state="1")), "not a plan in JSON"),
        (edited(lambda d: d["rows"][1]["advance"].update(state=math.nan)), "not finite"),
        (edited(lambda d: d["rows"][1]["advance"].update(outputs=0.5)), "not a plan in JSON"),
        (edited(lambda d: d["rows"][1]["advance"].update(outputs=[0.5, None])), "not a plan in JSON"),
        (edited(lambda d: d.update(prediction="score")), "prediction must be one of noise, data"),
        (edited(lambda d: d.update(end={})), "not a plan in JSON"),
    ],
)
def test_malformed_json_is_refused_with_its_cause(text: str, message: str) -> None:
    """Whatever is not a plan raises PlanError, never KeyError, TypeError or a wrong plan."""
    with pytest.raises(PlanError, match=message):
        Plan.from_json(text)


def unmarginal() -> Plan:
    """A plan that leaves the marginals, as tuned ones do."""
    plan = make_plan("dpm++2m", SCHEDULE, 3)
    return perturbed(
        plan, 1, "advance", "outputs", keeps_marginals=False, options={"network": "none", "noises": (3, 2)}
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["rows"][1]["advance"].update(state=d["rows"][1]["advance"]["state"] * (1 + 1e-15)),
        lambda d: d["rows"][1]["point"].update(label=3.0),
        lambda d: d["options"].update(network="another"),
        lambda d: d["options"].update(more=math.nan),
        lambda d: d.update(checksum="0" * 64),
        lambda d: d.pop("checksum"),
    ],
)
def test_a_changed_number_of_a_plan_without_marginals_is_told_by_its_checksum(change: Callable[[Any], object]) -> None:
    """No other check can tell it: a digit, a point, what it says of its making, the checksum itself."""
    document = json.loads(unmarginal().to_json())
    change(document)
    with pytest.raises(PlanError, match=r"numbers were changed after it was written .*: take the file as it was"):
        Plan.from_json(json.dumps(document))


def test_a_checksum_does_not_depend_on_how_the_text_is_written() -> None:
    """Spaces and the order of the names may change, as tools that format JSON change them."""
    plan = unmarginal()
    assert Plan.from_json(json.dumps(json.loads(plan.to_json()), sort_keys=True, indent=2)) == plan


def test_a_plan_of_format_2_is_read() -> None:
    """It has no checksum, whether it keeps the marginals or not."""
    for plan in (unmarginal(), make_plan("dpm++2m", SCHEDULE, 3)):
        document = json.loads(plan.to_json()) | {"format": 2}
        document.pop("checksum", None)
        assert Plan.from_json(json.dumps(document)) == plan


def test_table_shows_every_evaluation() -> None:
    """A heading, what made the plan, the columns, one line per evaluation with its point and its combination, and the end."""
    plan = make_plan("dpm++3s", SCHEDULE, 6)
    lines = plan.table().splitlines()
    assert lines[0] == "dpm++3s: 6 evaluations, data prediction"
    assert lines[1] == f"{SCHEDULE!r}, grid logsnr"
    assert lines[2].split() == ["time", "label", "alpha", "sigma", "lambda", "combination"]
    assert len(lines) == plan.nfe + 4
    for index, row in enumerate(plan.rows):
        numbers = lines[index + 3].split()[:6]
        point = row.point
        expected = [index, point.time, point.label, point.alpha, point.sigma, point.half_log_snr]
        assert [float(n) for n in numbers] == pytest.approx(expected, rel=1e-3)
        assert ("x <- " in lines[index + 3]) == (row.advance is not None)
        assert ("u <- " in lines[index + 3]) == (row.predict is not None)
        assert str(row.advance or row.predict) in lines[index + 3]
    assert lines[-1].split()[:2] == ["end", f"{plan.end.time:.6g}"]
    assert str(plan) == plan.table()


def test_combination_reads_as_a_formula() -> None:
    """x for the state, m for the newest output and m-1 for the one before, z for noise."""
    assert str(Combination(0.5, (0.25, -0.125), (0.0625,))) == "+0.5 x +0.25 m -0.125 m-1 +0.0625 z"


@pytest.mark.parametrize(
    ("name", "options", "history", "noise"),
    [
        ("ddim", {}, 1, 0),
        ("ddim", {"eta": 1.0}, 1, 1),
        ("dpm++2m", {}, 2, 0),
        ("dpm-3m-exact", {}, 3, 0),
        ("dpm-2", {}, 2, 0),
        ("dpm++3s", {}, 3, 0),
    ],
)
def test_nfe_history_and_stochastic_follow_from_the_rows(
    name: str, options: dict[str, float], history: int, noise: int
) -> None:
    """What a run has to keep is known from the plan alone."""
    plan = make_plan(name, SCHEDULE, 12, **options)
    assert plan.nfe == len(plan.rows) == 12
    assert (plan.history, plan.noise_history, plan.stochastic) == (history, noise, noise > 0)
    assert plan.start == Point.at(SCHEDULE, 1.0)


def test_marginal_follows_alpha_and_sigma() -> None:
    """Section 1 of the design, by hand: data outputs add to alpha, noise outputs to sigma, drawn noise in squares."""
    combination = Combination(0.5, (0.2, 0.1), (0.3, 0.4))
    assert combination.marginal((0.8, 0.6), [(1.0, 0.0)] * 2) == pytest.approx(
        (0.5 * 0.8 + 0.3, math.sqrt(0.3**2 + 0.25))
    )
    assert combination.marginal((0.8, 0.6), [(0.0, 1.0)] * 2) == pytest.approx((0.5 * 0.8, math.sqrt(0.6**2 + 0.25)))


def test_limits_of_half_log_snr() -> None:
    """sigma = 0 is +inf and alpha = 0 is -inf, not an error."""
    assert Point(0.0, 0.0, 1.0, 0.0).half_log_snr == math.inf
    assert Point(1.0, 1.0, 0.0, 1.0).half_log_snr == -math.inf
    assert START.half_log_snr == pytest.approx(SCHEDULE.half_log_snr(1.0), rel=1e-12)


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (lambda: make_plan("ddim", SCHEDULE, 3), "rows"),
        (lambda: two_rows()[0], "advance"),
        (lambda: ddim_step(START, END), "state"),
        (lambda: START, "alpha"),
    ],
    ids=["plan", "row", "combination", "point"],
)
def test_plans_are_frozen(thing: Callable[[], Any], name: str) -> None:
    """A plan can be shared between runs and threads: nothing in it can be assigned."""
    with pytest.raises(FrozenInstanceError):
        setattr(thing(), name, None)


def test_equal_plans_are_equal_and_hashable() -> None:
    """A solver is a pure function: the same arguments give the same plan, which may key a cache."""
    a, b = (make_plan("dpm++3m", SCHEDULE, 7) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != make_plan("dpm++3m", SCHEDULE, 8)


def test_a_plan_says_what_made_it() -> None:
    """Schedule, grid and options are in the plan, its table and its JSON, and make no plan unequal to another of the same table."""
    plan = make_plan("unipc-2", SCHEDULE, 4, "karras", rho=5.0, variant="bh1")
    assert (plan.solver, plan.grid, plan.options) == ("unipc-2", "karras", {"rho": 5.0, "variant": "bh1"})
    assert "grid karras, rho=5.0, variant=bh1" in plan.table()
    read = Plan.from_json(plan.to_json())
    assert (read, read.schedule, read.grid, read.options) == (plan, repr(SCHEDULE), "karras", plan.options)
    assert replace(plan, grid="", options={}) == plan
    assert hash(replace(plan, grid="", options={})) == hash(plan)


def test_a_plan_says_what_auto_took() -> None:
    """The solver and the grid that "auto" chose stand in the plan, and asking for them by name gives the same plan."""
    plan = make_plan("auto", SCHEDULE, 6)
    assert make_plan(plan.solver, SCHEDULE, 6, plan.grid) == plan


@pytest.mark.parametrize(
    ("grid", "said"),
    [(None, "logsnr"), (np.linspace(1.0, 0.1, 4), "given times"), (quadratic, "quadratic")],
)
def test_a_plan_says_which_grid_it_has_however_it_was_given(grid: object, said: str) -> None:
    """A default, an array of times and a function are all named."""
    assert make_plan("ddim", SCHEDULE, 3, grid).grid == said


def test_table_shows_what_a_calibrated_row_keeps_of_an_evaluation() -> None:
    """A row's `output` is a combination like the others, and stands in its line."""
    plan = make_plan("ddim", SCHEDULE, 2)
    kept = Combination(0.5, (1.0,))
    rows = (replace(plan.rows[0], output=kept), *plan.rows[1:])
    assert f"m <- {kept}" in replace(plan, rows=rows, keeps_marginals=False).table().splitlines()[3]
