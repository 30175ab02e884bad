"""lcm, tcd, heunpp2, gradient-estimation, sa-solver-pece and dpm++2m-ancestral, each against its formula.

Whole runs against ComfyUI's are in adapters/test_k_diffusion.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.schedules import EDM, CosineVP, Discrete, Flow, LinearVP, NoiseSchedule

SCHEDULES = {"vp": LinearVP(), "edm": EDM(), "flow": Flow(), "discrete": Discrete(betas=np.linspace(1e-4, 0.02, 1000))}
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def plan_of(name: str, schedule: NoiseSchedule, nfe: int, **options: Any) -> Plan:
    start, end = 0.9 * schedule.t_max, 0.02 * schedule.t_max
    return dpm.make_plan(name, schedule, nfe, "logsnr", start=start, end=end, **options)


def same(one: Plan, other: Plan) -> None:
    """Equal coefficients, to rounding."""
    assert len(one.rows) == len(other.rows)
    for a, b in zip(one.rows, other.rows, strict=True):
        for ours, theirs in ((a.advance, b.advance), (a.predict, b.predict)):
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                for mine, wanted in zip(ours.coefficients, theirs.coefficients, strict=True):
                    assert mine == pytest.approx(wanted, rel=1e-10, abs=1e-12)


@ALL
def test_lcm_draws_the_state_anew(schedule: NoiseSchedule) -> None:
    plan = plan_of("lcm", schedule, 4)
    points = [*(row.point for row in plan.rows), plan.end]
    for row, target in zip(plan.rows, points[1:], strict=True):
        assert row.advance is not None
        assert row.advance.state == 0.0
        assert (*row.advance.outputs, *row.advance.noise) == pytest.approx((target.alpha, target.sigma), rel=1e-12)
    ended = dpm.make_plan("lcm", schedule, 3, "time", end=0.0).rows[-1].advance
    assert ended is not None
    assert (ended.state, ended.outputs, ended.noise) == (0.0, (1.0,), ())


@ALL
def test_tcd_between_ddim_and_lcm(schedule: NoiseSchedule) -> None:
    """gamma = 0 and 1; between, DDIM to (1 - gamma) t, and the forward process to t."""
    same(plan_of("tcd", schedule, 5, gamma=0.0), plan_of("ddim", schedule, 5))
    same(plan_of("tcd", schedule, 5, gamma=1.0), plan_of("lcm", schedule, 5))
    plan = plan_of("tcd", schedule, 5, gamma=0.3)
    points = [*(row.point for row in plan.rows), plan.end]
    for row, s, t in zip(plan.rows, points[:-1], points[1:], strict=True):
        below = Point.at(schedule, 0.7 * t.time)
        up = t.alpha / below.alpha
        noise = math.sqrt(t.sigma**2 - (up * below.sigma) ** 2)
        state = up * below.sigma / s.sigma
        data = up * (below.alpha - s.alpha * below.sigma / s.sigma)
        assert row.advance is not None
        assert row.advance.coefficients[:3] == pytest.approx((state, data, noise), rel=1e-9)


@ALL
def test_gradient_estimation_weighs_two_outputs(schedule: NoiseSchedule) -> None:
    """gamma = 3/2 is ipndm-2, 1 is DDIM in noise, and 2 the paper's; the step to sigma = 0 takes one."""
    same(plan_of("gradient-estimation", schedule, 6, gamma=1.5), plan_of("ipndm-2", schedule, 6))
    plan, first = plan_of("gradient-estimation", schedule, 6), plan_of("dpm-1", schedule, 6)
    for k, (row, ddim) in enumerate(zip(plan.rows, first.rows, strict=True)):
        assert row.advance is not None
        assert ddim.advance is not None
        weights = (2.0, -1.0) if k else (1.0,)
        assert row.advance.outputs == pytest.approx([ddim.advance.outputs[0] * w for w in weights], rel=1e-9)
    if schedule.alpha(schedule.t_max) > 0:
        ended = dpm.make_plan("gradient-estimation", schedule, 4, "time", end=0.0).rows[-1].advance
        assert ended is not None
        assert len(ended.outputs) == 1


def test_heunpp2_looks_two_steps_ahead() -> None:
    """On EDM, in sigma: Euler to both points ahead, and the weights of the rule of thumb."""
    sigmas = [40.0, 20.0, 9.0, 3.0]
    plan = dpm.make_plan("heunpp2", EDM(), 6, np.array(sigmas))
    assert [row.point.sigma for row in plan.rows] == pytest.approx([40.0, 20.0, 9.0, 20.0, 9.0, 9.0])
    first, second, third = (row.predict or row.advance for row in plan.rows[:3])
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.outputs == pytest.approx((-20.0,))
    assert second.outputs == pytest.approx((-11.0, -20.0))
    weights = np.array([9.0 / 120, 20.0 / 120, 1.0 - 29.0 / 120])
    assert third.outputs == pytest.approx(-20.0 * weights)
    assert plan.rows[4].advance is not None
    assert plan.rows[4].advance.outputs == pytest.approx(-11.0 * np.array([9.0 / 80, 1.0 - 9.0 / 80]))
    assert plan.rows[5].advance is not None
    assert plan.rows[5].advance.outputs == pytest.approx((-6.0,))


@ALL
def test_2m_ancestral_without_noise_is_2m_exact(schedule: NoiseSchedule) -> None:
    plan = plan_of("dpm++2m-ancestral", schedule, 6, eta=0.0)
    same(plan, plan_of("dpm++2m-exact", schedule, 6, lower_order_final=False))
    noisy = plan_of("dpm++2m-ancestral", schedule, 6, s_noise=1.1)
    euler = plan_of("euler-ancestral", schedule, 6, s_noise=1.1)
    for row, other in zip(noisy.rows, euler.rows, strict=True):
        assert row.advance is not None
        assert other.advance is not None
        assert row.advance.noise == pytest.approx(other.advance.noise, rel=1e-12)


@ALL
def test_pece_without_a_corrector_evaluates_for_nothing(schedule: NoiseSchedule) -> None:
    """With no corrector both outputs of a place are of one state, and the run is sa-solver's with none."""
    network = dpm.models.Gaussian(mean=[0.5], variance=[0.3]).denoiser(schedule)
    x = np.linspace(-1.0, 1.0, 3).reshape(3, 1) * schedule.sigma(0.9 * schedule.t_max)
    options = {"corrector_order": 0, "eta": 0.0}
    twice, once = plan_of("sa-solver-pece", schedule, 11, **options), plan_of("sa-solver", schedule, 6, **options)
    np.testing.assert_allclose(dpm.sample(network, x, plan=twice), dpm.sample(network, x, plan=once), rtol=1e-9)


def test_pece_takes_the_newest_output_of_each_place() -> None:
    """The predictor uses outputs of corrected states alone, and the corrector the one of the predicted end beside them."""
    plan = plan_of("sa-solver-pece", LinearVP(), 11, eta=1.0, lower_order_final=False)
    for k in range(3, 6):
        predictor = plan.rows[2 * k].predict or plan.rows[2 * k].advance
        assert predictor is not None
        assert [bool(c) for c in predictor.outputs] == [True, False, True, False, True]
    corrector = plan.rows[7].advance
    assert corrector is not None
    assert [bool(c) for c in corrector.outputs] == [True, True, False, True, False, True]
    assert [bool(c) for c in corrector.noise] == [False, True]
    one = plan_of("sa-solver-pece", LinearVP(), 1)
    assert replace(one, solver="") == replace(plan_of("sa-solver", LinearVP(), 1), solver="")


@pytest.mark.parametrize(
    ("name", "nfe", "options", "message"),
    [
        ("tcd", 4, {"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1\.5"),
        ("tcd", 4, {"gamma": math.nan}, r"gamma must lie in \[0, 1\], got nan"),
        ("gradient-estimation", 4, {"gamma": math.inf}, "gamma must be finite, got inf"),
        (
            "sa-solver-pece",
            4,
            {},
            "2 evaluations a step and 1 on the last, so it cannot spend nfe=4: nearest is 3 or 5",
        ),
        ("heunpp2", 4, {}, "cannot spend nfe=4: nearest is 3 or 6"),
        ("heunpp2", 2, {}, "cannot spend nfe=2: nearest is 1 or 3"),
        ("sa-solver-pece", 5, {"corrector_order": 5}, "corrector_order must be 0 to 4, got 5"),
        ("dpm++2m-ancestral", 5, {"eta": 2.0}, r"eta must lie in \[0, 1\], got 2\.0"),
    ],
)
def test_what_they_cannot_do_is_refused(name: str, nfe: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(dpm.PlanError, match=message):
        plan_of(name, CosineVP(), nfe, **options)
