"""Adams steps in a velocity: exact for normal data, of the order that is claimed, and azula's where azula's is right."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.evaluation.convergence import order_of_convergence
from dpmsolver.plans.plan import Point
from dpmsolver.schedules import EDM, CosineVP, Flow, LinearVP, NoiseSchedule
from dpmsolver.solvers import SOLVERS

torch = pytest.importorskip("torch")

SCHEDULES = [LinearVP(), CosineVP(), EDM(), Flow()]
FORMS = [{"variable": "lambda"}, {"variable": "angle"}, {"corrector": True}, {"variable": "angle", "corrector": True}]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("nfe", [1, 4])
def test_normal_data_of_the_given_deviation_are_solved_exactly(
    schedule: NoiseSchedule, options: dict[str, Any], nfe: int
) -> None:
    """Whatever the number of steps, also from alpha = 0 and to sigma = 0: v is 0 there."""
    for end in (None, 0.0):
        plan = dpm.make_plan("arc-3m", schedule, nfe, end=end, sigma_data=0.4, **options)
        assert plan.wasserstein(0.0, 0.16, to="end") < 1e-12
        assert plan.wasserstein(0.0, 0.5, to="end") > 1e-6
        assert not plan.keeps_marginals


@pytest.mark.parametrize("problem", ["gaussian", "mixture"])
@pytest.mark.parametrize(
    ("name", "options"),
    [*(("arc-2m", form) for form in FORMS), ("arc-3m", FORMS[1]), ("arc-3m", FORMS[2]), ("velocity-2m", FORMS[2])],
    ids=str,
)
def test_the_corrector_brings_one_order_more(name: str, options: dict[str, Any], problem: str) -> None:
    order = SOLVERS[name].order + bool(options.get("corrector"))
    solver = replace(SOLVERS[name], order=order)
    assert order_of_convergence(solver, problem, **options) == pytest.approx(order, abs=0.15)


def test_the_angle_form_is_adams_bashforth_in_v() -> None:
    """By hand on VP, where v = alpha eps - sigma x_0 and the angle is atan(sigma/alpha): y' = v, order 1 is DDIM, order 2 AB2."""
    schedule = LinearVP()
    points = [Point.at(schedule, t) for t in (0.9, 0.7, 0.55, 0.3, 0.1)]

    def network(x: Any, t: Any) -> Any:
        return 0.5 * np.tanh(x) + 0.1 * t[:, None]

    x = x_T = np.array([[0.3, -1.1], [0.8, 0.2]])
    before: Any = None
    for k, (s, t) in enumerate(pairwise(points)):
        x0 = network(x, np.full(2, s.time))
        v = s.alpha * (x - s.alpha * x0) / s.sigma - s.sigma * x0
        angles = [np.arctan2(p.sigma, p.alpha) for p in (points[max(k - 1, 0)], s, t)]
        step, last = angles[2] - angles[1], angles[1] - angles[0]
        x = x + step * (v if k == 0 else v + 0.5 * step / last * (v - before))
        before = v
    times = [p.time for p in points]
    plan = dpm.make_plan("arc-2m", schedule, 4, times, variable="angle")
    denoiser = dpm.Denoiser(network, schedule, "data")
    np.testing.assert_allclose(dpm.sample(denoiser, x_T, plan=plan), x, rtol=1e-12)
    first = dpm.sample(denoiser, x_T, 4, grid=times, solver="arc-2m", variable="angle", ramp=[1, 1, 1, 1])
    other = dpm.sample(denoiser, x_T, 4, grid=times, solver="arc-3m", variable="lambda", ramp=[1, 1, 1, 1])
    np.testing.assert_allclose(first, other, rtol=1e-12)


def as_azula(plan: dpm.Plan) -> dpm.Plan:
    """A plan on EDM with the integral of a step from s to t scaled by hypot(1, s), where hypot(1, t) is right."""
    rows = []
    for row, target in zip(plan.rows, [*plan.rows[1:], None], strict=True):
        end = plan.end if target is None else target.point
        wrong = np.hypot(1.0, row.point.sigma) / np.hypot(1.0, end.sigma)
        assert row.advance is not None
        rows.append(replace(row, advance=replace(row.advance, outputs=tuple(wrong * w for w in row.advance.outputs))))
    return replace(plan, rows=tuple(rows))


def test_azulas_sampler_is_ours_but_for_the_scale_of_a_steps_integral() -> None:
    """Its v and its weights are ours, these by the trapezoidal rule; with its scale a run does not converge, with ours it does."""
    azula = pytest.importorskip("azula.sample")
    rho = np.array([8.0, 5.0, 2.5, 1.2, 0.5])
    x_T = np.array([[3.0, -9.0], [12.0, 1.0]])

    def data(x: Any, sigma: float) -> Any:
        return 0.5 * np.tanh(x) + 0.1 * sigma

    class Network:
        """What azula wants of a network, on the sigmas of the plan."""

        def schedule(self, t: Any) -> tuple[Any, Any]:
            return torch.ones_like(t), torch.from_numpy(rho)[: len(t)]

        def __call__(self, x: Any, t: Any) -> Any:
            return SimpleNamespace(mean=torch.from_numpy(data(x.numpy(), rho[round(4 * (1.0 - float(t)))])))

    sampler = azula.REABSampler(Network(), order=3, steps=4, silent=True, dtype=torch.float64)
    plan = dpm.make_plan("arc-3m", EDM(), 4, rho)
    denoiser = dpm.Denoiser(lambda x, t: data(x, float(t[0])), EDM(), "data")
    theirs = dpm.sample(denoiser, x_T, plan=as_azula(plan))
    np.testing.assert_allclose(sampler(torch.from_numpy(x_T)).numpy(), theirs, rtol=1e-3)
    assert abs(theirs - dpm.sample(denoiser, x_T, plan=plan)).max() > 0.1
    fine = dpm.make_plan("arc-2m", EDM(), 400, np.geomspace(8.0, 0.5, 401))
    coarse = dpm.make_plan("arc-2m", EDM(), 20, np.geomspace(8.0, 0.5, 21))
    assert fine.wasserstein(0.0, 0.25, to="end") < 1e-5
    misses = [as_azula(each).wasserstein(0.0, 0.25, to="end") for each in (coarse, fine)]
    assert misses[0] > 10.0 * coarse.wasserstein(0.0, 0.25, to="end")
    assert misses[1] > 100.0 * fine.wasserstein(0.0, 0.25, to="end")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma_data": 0.0}, r"sigma_data must be a finite number > 0, got 0\.0"),
        ({"sigma_data": float("nan")}, "sigma_data must be a finite number > 0, got nan"),
        ({"variable": "rho"}, "variable must be 'angle' or 'lambda', got 'rho'"),
        ({"start": 0.0, "end": 0.5}, "a velocity cannot be had at sigma = 0"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(dpm.PlanError, match=message):
        dpm.make_plan("arc-2m", LinearVP(), 4, **options)
