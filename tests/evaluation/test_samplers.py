"""What a comparison compares: names are read as written, evaluations are counted, budgets that cannot be spent are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.samplers import (
    Counter,
    adaptive_sampler,
    plan_sampler,
    rk45_sampler,
    samplers_from_names,
    saved_sampler,
)

SCHEDULE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
MODEL = dpm.models.Gaussian(mean=[0.5, -0.5], variance=[0.25, 0.04])
X_T = np.random.default_rng(0).standard_normal((3, 2))
KEYS = [(0, i) for i in range(3)]


def test_names_carry_a_grid_and_options() -> None:
    """`name@grid:option=value:option=value`: each part as the plan gets it."""
    (sampler,) = samplers_from_names(["unipc-2@karras:variant=bh1:corrector_from=3:lower_order_final=False"])
    assert sampler.name == "unipc-2 @ karras, variant=bh1, corrector_from=3, lower_order_final=False"
    assert sampler.plan is not None
    expected = dpm.make_plan("unipc-2", SCHEDULE, 6, "karras", variant="bh1", corrector_from=3, lower_order_final=False)
    assert sampler.plan(SCHEDULE, 6) == expected


def test_grids_apply_to_solvers_without_one_of_their_own() -> None:
    names = [s.name for s in samplers_from_names(["ddim", "heun@karras", "rk45"], ["default", "time"])]
    assert names == ["ddim", "ddim @ time", "heun @ karras", "rk45"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dpm++2m@"], "name@grid"),
        (["ddim:eta"], "name@grid:option=value"),
        (["ddim", "ddim"], "named twice: ddim"),
        (["rk45@time"], "takes no grid"),
        (["dpm-23:rtol=1"], "takes no grid and no option"),
        ([""], "got ''"),
    ],
)
def test_names_that_cannot_be_read_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        samplers_from_names(names)


@pytest.mark.parametrize("name", ["ddim", "dpm-3", "heun", "unipc-3", "dpm++2m-sde", "pndm"])
def test_evaluations_are_counted_where_the_network_is_called(name: str) -> None:
    """The counter sees exactly the budget, whatever the solver."""
    nfe, counter = 18, Counter()
    sampler = plan_sampler(name)
    x = sampler.draw(counter.counted(MODEL.denoiser(SCHEDULE)), X_T, nfe, KEYS)
    assert counter.calls == nfe
    assert np.isfinite(x).all()


@pytest.mark.parametrize("sampler", [adaptive_sampler(2), adaptive_sampler(3), rk45_sampler()])
def test_a_tighter_tolerance_costs_more_and_comes_nearer(sampler: object) -> None:
    """Samplers that choose their own steps: settings are tolerances, and what they claim to end at is where they end."""
    end = sampler.end_time(SCHEDULE, 0.1)
    exact = MODEL.trajectory(SCHEDULE, X_T, SCHEDULE.t_max, end)
    calls, errors = [], []
    for tolerance in (0.3, 1e-4):
        counter = Counter()
        x = sampler.draw(counter.counted(MODEL.denoiser(SCHEDULE)), X_T, tolerance, KEYS)
        calls.append(counter.calls)
        errors.append(float(abs(x - exact).max()))
    assert calls[0] < calls[1]
    assert errors[1] < min(errors[0], 0.02)


def test_the_end_is_the_plans() -> None:
    assert plan_sampler("dpm++2m").plan(SCHEDULE, 10).end.time == pytest.approx(1e-3)
    assert plan_sampler("dpm++2m", end=0.0).plan(SCHEDULE, 10).end.time == 0.0


def test_counting_leaves_a_network_its_float_type() -> None:
    """A torch module in half precision gets its input in half precision, counted or not."""
    torch = pytest.importorskip("torch")

    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.bfloat16), requires_grad=False)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.bfloat16
            return self.scale * x

    denoiser, x_T, seen = dpm.Denoiser(Half(), SCHEDULE), torch.ones(2, 3), []
    counted = Counter(seen=seen.append).counted(denoiser)
    assert torch.equal(dpm.sample(counted, x_T, nfe=3), dpm.sample(denoiser, x_T, nfe=3))
    assert seen == [1, 2, 3]


def test_saved_plans_are_samplers(tmp_path: Path) -> None:
    """A folder has its plans at their budgets, and refuses others; a file has one."""
    for nfe in (4, 6):
        (tmp_path / f"plan-{nfe}.json").write_text(dpm.make_plan("dpm++2m", SCHEDULE, nfe).to_json())
    folder, file = samplers_from_names([f"{tmp_path}/", str(tmp_path / "plan-6.json")])
    assert folder.plan is not None
    assert folder.plan(SCHEDULE, 4, None) == dpm.make_plan("dpm++2m", SCHEDULE, 4)
    with pytest.raises(PlanError, match="has plans of 4, 6 evaluations alone"):
        folder.plan(SCHEDULE, 5, None)
    drawn = [
        sampler.draw(MODEL.denoiser(SCHEDULE), X_T, 6, KEYS) for sampler in (folder, file, plan_sampler("dpm++2m"))
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[0], drawn[2])
    (tmp_path / "plan-other.json").write_text(dpm.make_plan("ddim", SCHEDULE, 4).to_json())
    with pytest.raises(PlanError, match="holds two plans of 4 evaluations: name their files"):
        saved_sampler(tmp_path)
