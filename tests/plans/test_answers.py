"""Plans whose evaluations give two outputs, as CFG++ wants them: the guided prediction and the unconditional one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver import transforms
from dpmsolver.backends.numpy import BACKEND
from dpmsolver.plans import Combination, Point, Row
from dpmsolver.plans.fused import Step, Steps, fused
from dpmsolver.plans.loop import run, steps

SCHEDULE = dpm.schedules.LinearVP()
POINTS = [Point.at(SCHEDULE, t) for t in (1.0, 0.8, 0.55, 0.3, 0.1, 1e-3)]
X_T = np.random.default_rng(0).standard_normal((4, 3))


def cfgpp_ddim(points: list[Point] = POINTS) -> dpm.Plan:
    """CFG++ with DDIM: x <- alpha_t x0_guided + sigma_t eps_uncond, with eps_uncond = (x - alpha_s x0_uncond)/sigma_s.

    Source: Chung et al. 2024, arXiv 2406.08070, algorithm 2.
    """
    rows = []
    for s, t in pairwise(points):
        ratio = t.sigma / s.sigma
        rows.append(Row(s, advance=Combination(ratio, (t.alpha, -ratio * s.alpha))))
    return dpm.Plan("data", tuple(rows), points[-1], "cfg++ ddim", answers=2)


def remembering(points: list[Point] = POINTS) -> dpm.Plan:
    """The same, with a correction by the difference of the newest and the previous guided output."""
    plan = cfgpp_ddim(points)
    rows = [plan.rows[0]]
    for row in plan.rows[1:]:
        assert row.advance is not None
        guided, free = row.advance.outputs
        rows.append(replace(row, advance=replace(row.advance, outputs=(guided + 0.1, free, -0.1))))
    return replace(plan, rows=tuple(rows))


def guided(x: Any, point: Point) -> Any:
    return 0.4 * np.tanh(x) + 0.1 * point.sigma


def free(x: Any, point: Point) -> Any:
    return 0.3 * np.sin(x)


def both(x: Any, point: Point) -> tuple[Any, Any]:
    return guided(x, point), free(x, point)


def driven(stepper: dpm.Stepper, network: Callable[[Any, Point], Any], until: int | None = None) -> Any:
    while not stepper.done and stepper.index != until:
        stepper.step(network(stepper.x, stepper.point))
    return stepper.x


def test_cfgpp_stepped_is_its_formula() -> None:
    """The Stepper, and the loop beneath it, do what the formula says; raw noise predictions are read as the data they mean."""
    x = X_T
    for s, t in pairwise(POINTS):
        x = t.alpha * guided(x, s) + t.sigma * (x - s.alpha * free(x, s)) / s.sigma
    plan = cfgpp_ddim()
    assert plan.keeps_marginals
    np.testing.assert_allclose(driven(dpm.Stepper(plan, X_T, "data"), both), x, rtol=1e-12)
    np.testing.assert_allclose(run(steps(plan, X_T), both), x, rtol=1e-12)

    def noise(x: Any, point: Point) -> list[Any]:
        return [(x - point.alpha * m) / point.sigma for m in both(x, point)]

    np.testing.assert_allclose(driven(dpm.Stepper(plan, X_T, "noise"), noise), x, rtol=1e-9)


def test_a_history_of_pairs_is_kept_and_saved() -> None:
    """Coefficients 2 and 3 are for the evaluation before; a run resumes from its middle with them."""
    plan = remembering()
    assert plan.history == 3
    x, before = X_T, None
    for s, t in pairwise(POINTS):
        m, m_free = both(x, s)
        x = t.alpha * m + t.sigma * (x - s.alpha * m_free) / s.sigma + (0.0 if before is None else 0.1 * (m - before))
        before = m
    first = dpm.Stepper(plan, X_T, "data")
    driven(first, both, until=3)
    saved = first.state_dict()
    np.testing.assert_allclose(driven(first, both), x, rtol=1e-12)
    second = dpm.Stepper(plan, 2.0 * X_T, "data")
    second.load_state_dict(saved)
    np.testing.assert_array_equal(driven(second, both), first.x)
    with pytest.raises(dpm.PlanError, match=r"lacks outputs\.1, which evaluation 4 needs"):
        second.load_state_dict({name: each for name, each in saved.items() if name != "outputs.1"})


def test_fused_is_the_loop() -> None:
    """The twin that reuses buffers gives what `steps` gives; it hands out no buffer that a later step still needs."""
    for plan in (cfgpp_ddim(), remembering()):

        def step(c: Combination | None) -> Step | None:
            return None if c is None else Step((c.state, *c.outputs), len(c.outputs), (), False, False)

        rows = tuple((step(row.advance), step(row.predict)) for row in plan.rows)
        moments = fused(Steps(None, rows, plan.history, 0, plan.answers), BACKEND, X_T.copy(), iter(()))
        kept = None
        for row in plan.rows:
            _, u, spare = moments.send(kept)
            kept = both(u, row.point)
            if spare is not None:
                spare[:] = kept[0]
                kept = spare, kept[1]
        with pytest.raises(StopIteration) as end:
            moments.send(kept)
        np.testing.assert_allclose(end.value.value, run(steps(plan, X_T), both), rtol=1e-12)


def test_the_plan_is_checked_told_and_written() -> None:
    """Marginals and known outputs count both outputs; JSON and the table say how many there are, and only of such plans."""
    plan = cfgpp_ddim()
    first = plan.rows[0]
    assert first.advance is not None
    wrong = replace(first, advance=replace(first.advance, outputs=(first.advance.outputs[0], -0.1)))
    with pytest.raises(dpm.PlanError, match="row 0 leaves the marginals"):
        replace(plan, rows=(wrong, *plan.rows[1:]))
    older = replace(first, advance=replace(first.advance, outputs=(*first.advance.outputs, 0.0)))
    with pytest.raises(dpm.PlanError, match="row 0 uses 3 outputs but only 2 exist by then"):
        replace(plan, rows=(older, *plan.rows[1:]))
    with pytest.raises(dpm.PlanError, match="row 0 uses 2 outputs but only 1 exist by then"):
        replace(plan, answers=1)
    assert dpm.Plan.from_json(plan.to_json()) == plan
    assert plan.table().splitlines()[0] == "cfg++ ddim: 5 evaluations, data prediction, 2 outputs each"
    assert "answers" not in dpm.make_plan("ddim", SCHEDULE, 3).to_json()
    for bad in (0, True, 1.5):
        with pytest.raises(dpm.PlanError, match="answers must be an integer >= 1"):
            replace(plan, answers=bad)


def test_without_guidance_its_law_is_that_of_ddim() -> None:
    """Where both outputs are the optimal network's, CFG++ is DDIM."""
    ddim = dpm.make_plan("ddim", SCHEDULE, 5, [p.time for p in POINTS])
    np.testing.assert_allclose(cfgpp_ddim().moments(0.5, 0.25), ddim.moments(0.5, 0.25), rtol=1e-12)


def test_two_outputs_are_refused_where_one_is_meant() -> None:
    """A denoiser without classifier-free guidance, the transforms that know one, and outputs of another number say so."""
    plan, denoiser = cfgpp_ddim(), dpm.models.Gaussian([0.0], [1.0]).denoiser(SCHEDULE)
    classifier = dpm.guidance.Classifier(1.0, gradient=lambda x, t: x)
    for one in (denoiser, denoiser.replace(guidance=classifier)):
        with pytest.raises(
            dpm.PlanError, match=r"the guided and the unconditional one, and this denoiser gives one: give"
        ):
            dpm.sample(one, np.ones((1, 1)), plan=plan)
    both = denoiser.replace(guidance=dpm.guidance.ClassifierFree(1.0, {}))
    with pytest.raises(dpm.PlanError, match="wants 3 outputs of each evaluation, and a denoiser gives two at most"):
        dpm.sample(both, np.ones((1, 1)), plan=replace(plan, answers=3, keeps_marginals=False, rows=plan.rows))
    calls: list[Callable[[], Any]] = [
        lambda: transforms.order_ramp(plan, 1),
        lambda: transforms.analytic_first_step(plan),
        lambda: transforms.richardson(plan, plan, 1, 2.0),
        lambda: transforms.extrapolate(plan),
    ]
    for call in calls:
        with pytest.raises(dpm.PlanError, match="evaluations give one output, got 2"):
            call()
    stepper = dpm.Stepper(plan, X_T)
    for output, got in ((X_T, "ndarray"), ((X_T,), "tuple of 1"), ([X_T] * 3, "list of 3")):
        with pytest.raises(TypeError, match=f"wants 2 outputs of each evaluation, in a tuple or a list, got {got}"):
            stepper.step(output)
    with pytest.raises(dpm.SamplingError, match="evaluation 1 of 5"):
        stepper.step((X_T, X_T * np.nan))
    assert stepper.index == 0
    with pytest.raises(dpm.PlanError, match="gives 2 outputs, in a tuple, got 1"):
        run(steps(plan, X_T), guided)
