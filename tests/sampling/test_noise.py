"""Noise: independent normals, and a Brownian path per sample that does not know the plan."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.backends.brownian import bridges
from dpmsolver.plans import Combination, Point, Row
from dpmsolver.sampling.noise import intervals, noise_source
from dpmsolver.solvers.registry import SOLVERS

VP, FLOW = dpm.schedules.LinearVP(), dpm.schedules.Flow()
WIDE = 300  # coordinates of one sample are as independent as samples, and share the tree's overhead
DENOISER = dpm.models.Gaussian(mean=np.ones(WIDE), variance=np.full(WIDE, 0.25)).denoiser(VP)
X_T = dpm.initial_noise(VP, (1, WIDE), seed=1)
PATH: dict[str, Any] = {"generator": 0, "noise": "brownian"}
STOCHASTIC = [name for name, solver in SOLVERS.items() if solver.stochastic and not solver.calibrated] + ["ddim"]


def noisy_plan(name: str, steps: int = 6, schedule: Any = VP, **options: Any) -> dpm.Plan:
    """A plan of a stochastic solver with so many steps."""
    if name == "ddim":
        options.setdefault("eta", 1.0)
    # The last step of sa-solver-pece has one evaluation.
    spent = steps * SOLVERS[name].evaluations_per_step - (name == "sa-solver-pece")
    return dpm.make_plan(name, schedule, spent, **options)


def drawn(plan: dpm.Plan, shape: tuple[int, ...], noise: Any = "brownian", generator: Any = 0) -> list[Any]:
    like = np.empty(shape)
    return list(noise_source(noise, plan, generator, backends.of(like), like))


def rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


# The intervals.


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_intervals_follow_each_other_without_gap_or_overlap(solver: str) -> None:
    """From the start to the end of the noise: draws are then increments of one path, and independent of each other."""
    plan = noisy_plan(solver, end=1e-3)
    ways = list(intervals(plan).values())
    assert ways[0][0] == plan.start
    assert ways[-1][1] == plan.end
    assert all(before[1] == after[0] for before, after in pairwise(ways))


def test_a_stage_without_noise_leaves_its_way_to_the_draw_of_its_step() -> None:
    """Ancestral DPM2 adds the noise of a step after its second evaluation, DPM-Solver++ SDE after each."""
    points = noisy_plan("dpm2-ancestral", 2, end=1e-3)
    assert list(intervals(points)) == [1, 3]
    assert intervals(points)[1] == (points.rows[0].point, points.rows[2].point)
    both = noisy_plan("dpm++sde", 2, end=1e-3)
    assert intervals(both)[1] == (both.rows[1].point, both.rows[2].point)


def test_steps_without_noise_leave_the_path_unused() -> None:
    """SA-Solver with noise in one step: that step's draw stands for that step, not for those before it."""
    plan = noisy_plan("sa-solver", 5, eta=[0.0, 0.0, 1.0, 0.0, 0.0])
    assert intervals(plan) == {2: (plan.rows[2].point, plan.rows[3].point)}


def test_the_step_before_the_first_evaluation_is_the_first_draw() -> None:
    """`begin` draws number 0, from the origin to the first row."""
    a, b, c = (Point.at(VP, t) for t in (1.0, 0.5, 0.1))
    last = Row(b, advance=Combination(0.5, (0.1,), (0.2, 0.3)))
    plan = dpm.Plan("data", (last,), c, keeps_marginals=False, begin=Combination(0.9, (), (0.4,)), origin=a)
    assert intervals(plan) == {0: (a, b), 1: (b, c)}


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_a_frameworks_own_normals_belong_to_the_sample(framework: str) -> None:
    """Sample i keeps its noise whatever the batch; moments, between samples, draws and seeds, are those of independent normals."""
    size = 20_000
    like = {
        "numpy": lambda: np.zeros((3, size), np.float32),
        "torch": lambda: torch.zeros(3, size),
        "jax": lambda: pytest.importorskip("jax").numpy.zeros((3, size)),
    }[framework]()
    backend, keys = backends.of(like), backends.of(like).keys([(0, 0), (0, 1), (1, 0)])
    z = [backend.normals(keys, k, (size,), like) for k in (1, 2)]
    assert type(z[0]) is type(like)
    assert z[0].dtype == like.dtype
    np.testing.assert_array_equal(np.asarray(backend.normals(keys[1:], 2, (size,), like)), np.asarray(z[1])[1:])
    flat = np.concatenate([np.asarray(each, dtype=np.float64) for each in z])
    bound = 5 * np.sqrt((1 + np.eye(6)) / size)
    assert (np.abs(flat @ flat.T / size - np.eye(6)) < bound).all()
    assert (np.abs(flat.mean(axis=1)) < 5 / math.sqrt(size)).all()
    assert (np.abs((flat**4).mean(axis=1) - 3) < 5 * math.sqrt(96 / size)).all()


def test_seeds_of_streams_are_all_different() -> None:
    """Keys that look alike, of any length and size, at many intervals."""
    keys = [(), (0,), (0, 0), (0, 0, 0), (1,), (2**64,), (2**64 + 1,), (2**63,), *((7, i) for i in range(200))]
    seeds = {backends.stream_seed(key, k) for key in keys for k in range(50)}
    assert len(seeds) == 50 * len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("solver", ["ddim", "dpm2-ancestral", "improved-reverse-sde"])
def test_independent_normals_are_drawn_only_where_they_are_used(solver: str) -> None:
    """Draw k is that of the seed and k + 1, or none."""
    plan = noisy_plan(solver)
    keys, used = backends.noise_keys(0, 2), set(intervals(plan))
    for k, z in enumerate(drawn(plan, (2, 3), "independent")):
        assert (z is not None) == (k in used)
        if z is not None:
            np.testing.assert_array_equal(z, backends.standard_normals(keys, k + 1, (3,)))


# The path.


def test_a_path_does_not_depend_on_the_order_of_the_questions() -> None:
    """torchsde's own promise for its dyadic tree, on which all of this stands; and parts add up to the whole."""
    ends = sorted({0.0, 1.0, *np.random.default_rng(0).random(40).round(6).tolist()})
    total = np.random.default_rng(1).standard_normal((1, 5))
    forward = [bridges(total, [7])[0](a, b) for a, b in pairwise(ends)]
    path = bridges(total, [7])[0]
    backward = [path(a, b) for a, b in reversed(list(pairwise(ends)))][::-1]
    np.testing.assert_allclose(backward, forward, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.sum(forward, axis=0), total[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(path(ends[3], ends[30]), np.sum(forward[3:30], axis=0), rtol=0, atol=1e-12)


def test_increments_of_a_coarse_grid_are_sums_of_a_fine_one() -> None:
    """sqrt(c_b - c_a) z with c = e^{2 lambda}, to the 1e-6 of a cell that the tree resolves; another start changes nothing."""
    fine, coarse = np.linspace(1.0, 0.01, 41), np.linspace(1.0, 0.01, 41)[::8]

    def increments(times: Any) -> Any:
        plan = noisy_plan("ddim", len(times) - 1, grid=times)
        clock = np.exp(2 * VP.half_log_snr(times))
        return np.stack(drawn(plan, (2, 50))) * np.sqrt(np.diff(clock))[:, None, None]

    whole = increments(coarse)
    sums = increments(fine).reshape(5, 8, 2, 50).sum(axis=1)
    scale = np.abs(whole).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(sums / scale, whole / scale, rtol=0, atol=1e-3)
    np.testing.assert_allclose(increments(coarse[2:]), whole[2:], rtol=1e-12)


@pytest.mark.parametrize("schedule", [VP, FLOW], ids=["VP", "flow: from alpha = 0"])
def test_the_draws_are_standard_normal_and_independent(schedule: Any) -> None:
    """Moments of 10,000 coordinates, of each draw, between draws, samples and the initial noise, within five standard errors."""
    size = 10_000
    plan = noisy_plan("ddim", 9, schedule, end=1e-3)
    start = dpm.initial_noise(schedule, (2, size), seed=0) / schedule.sigma(schedule.default_start())
    z = np.concatenate([start, *drawn(plan, (2, size))])
    covariance = z @ z.T / size
    bound = 5 * np.sqrt((1 + np.eye(len(z))) / size)
    assert (np.abs(covariance - np.eye(len(z))) < bound).all()
    assert (np.abs(z.mean(axis=1)) < 5 / math.sqrt(size)).all()
    assert (np.abs((z**4).mean(axis=1) - 3) < 5 * math.sqrt(96 / size)).all()


@pytest.mark.parametrize(
    ("solver", "schedule"),
    [
        *((solver, VP) for solver in ("ddim", "dpm++2m-sde", "dpm++sde", "sa-solver", "dpm2-ancestral")),
        *((solver, FLOW) for solver in ("ddim", "dpm++2m-sde")),  # from alpha = 0
    ],
)
def test_samples_of_one_point_do_not_depend_on_the_steps(schedule: Any, solver: str) -> None:
    """Data of one point, eta = 1, exact linear part: the noise of short steps is exactly that of long ones, so the samples are one."""
    denoiser = dpm.models.Gaussian(mean=np.full(50, 0.3), variance=np.zeros(50)).denoiser(schedule)
    x = dpm.initial_noise(schedule, (2, 50), seed=1)
    few, many = (
        dpm.sample(denoiser, x, plan=noisy_plan(solver, steps, schedule, end=0.3), **PATH) for steps in (3, 17)
    )
    np.testing.assert_allclose(many, few, rtol=0, atol=2e-3 * float(schedule.sigma(0.3)))


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("dpm++2m-sde", {}),
        ("ddim", {}),
        ("ddim", {"eta": 0.5}),
        ("sde-dpm-1", {}),
        ("euler-maruyama", {}),
        ("dpm2-ancestral", {}),
    ],
)
def test_samples_converge_strongly_along_one_path(solver: str, options: dict[str, Any], reference: Any) -> None:
    """Order about 1, whatever the eta and the prediction, to one sample of the SDE; with independent noise they do not converge."""

    def run(steps: int, **noise: Any) -> Any:
        plan = noisy_plan(solver, steps, grid="logsnr", start=1.0, end=1e-3, **options)
        return dpm.sample(DENOISER, X_T, plan=plan, **noise)

    # At eta = 0.5 the SDE is another one.
    limit = run(256, **PATH) if options else reference
    errors = [rms(run(steps, **PATH) - limit) for steps in (16, 32, 64)]
    slope = math.log2(errors[0] / errors[2]) / 2
    assert 0.75 < slope < 1.35, errors
    assert errors[2] < 0.06
    assert rms(run(64, generator=0) - limit) > 0.3


@pytest.fixture(scope="module")
def reference() -> Any:
    """The sample of the reverse SDE that the path of seed 0 makes: DPM-Solver++(2M) SDE in 384 steps."""
    plan = noisy_plan("dpm++2m-sde", 384, grid="logsnr", start=1.0, end=1e-3)
    return dpm.sample(DENOISER, X_T, plan=plan, **PATH)


# What a caller relies on.

X = np.random.default_rng(0).standard_normal((3, 4))
SMALL = dpm.models.Gaussian(mean=np.ones(4), variance=np.full(4, 0.25)).denoiser(VP)
RUN: dict[str, Any] = {"nfe": 6, "solver": "dpm++2m-sde", "noise": "brownian"}


def test_a_sample_does_not_depend_on_its_batch() -> None:
    """From an int and from a seed each, as with independent noise."""
    whole = dpm.sample(SMALL, X, generator=3, **RUN)
    np.testing.assert_array_equal(dpm.sample(SMALL, X[:1], generator=3, **RUN), whole[:1])
    seeded = dpm.sample(SMALL, X, generator=[5, 6, 7], **RUN)
    np.testing.assert_array_equal(dpm.sample(SMALL, X[[2, 0]], generator=[7, 5], **RUN), seeded[[2, 0]])
    assert rms(seeded - whole) > 0.1


@pytest.mark.parametrize("make", [np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)])
def test_generators_are_seeds(make: Any) -> None:
    """Generators in one state give one sample, in another another; without any the samples differ."""
    a, b, c = (dpm.sample(SMALL, X, generator=make(seed), **RUN) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert rms(a - c) > 0.1
    assert rms(dpm.sample(SMALL, X, **RUN) - dpm.sample(SMALL, X, **RUN)) > 0.1


def test_torch_and_numpy_sample_alike() -> None:
    """In float64 to 1e-12, and `iterate` ends where `sample` does; the state may have one axis."""
    expected = dpm.sample(SMALL, X, generator=3, **RUN)
    np.testing.assert_allclose(dpm.sample(SMALL, torch.from_numpy(X), generator=3, **RUN).numpy(), expected, atol=1e-12)
    *_, last = dpm.iterate(SMALL, X, generator=3, **RUN)
    np.testing.assert_array_equal(last.x, expected)
    assert drawn(noisy_plan("ddim"), (2,))[0].shape == (2,)


def test_a_step_to_sigma_0_draws_nothing() -> None:
    """The clock is infinite there, and the step adds no noise."""
    plan = noisy_plan("ddim", 4, FLOW, start=1.0, end=0.0)
    assert plan.start.alpha == 0.0
    assert plan.end.sigma == 0.0
    assert [z is None for z in drawn(plan, (1, 2))] == [False, False, False, True]


def close_points() -> dpm.Plan:
    """A step that is shorter than what the path resolves."""
    return noisy_plan("ddim", 2, grid=[1.0, 0.5, 0.5 - 1e-9])


def noise_at_the_end() -> dpm.Plan:
    """A plan that adds noise in its step to sigma = 0."""
    plan = dpm.make_plan("ddim", FLOW, 2, start=0.9, end=0.0)
    last = replace(plan.rows[-1], advance=replace(plan.rows[-1].advance, noise=(0.1,)))
    return replace(plan, rows=(*plan.rows[:-1], last), keeps_marginals=False)


@pytest.mark.parametrize(
    ("plan", "noise", "message"),
    [
        (lambda: noisy_plan("ddim"), "brownien", r"unknown noise 'brownien' \(did you mean 'brownian'\?\)"),
        (
            lambda: dpm.make_plan("dpm++2m", VP, 4),
            "none",
            "unknown noise 'none'; accepted: independent, host, brownian",
        ),
        (lambda: dpm.make_plan("heun", VP, 8, s_churn=4.0), "brownian", "heun goes from half-log-SNR .*churn"),
        (close_points, "brownian", "tells points apart to 1e-6.*noise='independent'"),
        (noise_at_the_end, "brownian", "no clock at sigma = 0"),
    ],
)
def test_what_has_no_path_is_refused_before_any_evaluation(plan: Any, noise: Any, message: str) -> None:
    """A name that does not exist, points that go back, an infinite clock, an interval of no length."""
    calls: list[Any] = []
    schedule = FLOW if plan is noise_at_the_end else VP
    denoiser = dpm.Denoiser(lambda x, t: calls.append(t) or x, schedule, predicts="data")
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample(denoiser, X, plan=plan(), noise=noise, generator=0)
    assert not calls


def test_without_torchsde_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any evaluation; what needs no path does without."""
    monkeypatch.setitem(sys.modules, "torchsde", None)
    calls: list[Any] = []
    denoiser = dpm.Denoiser(lambda x, t: calls.append(t) or x, VP, predicts="data")
    with pytest.raises(ImportError, match=r"pip install 'dpmsolver\[brownian\]'"):
        dpm.sample(denoiser, X, generator=0, **RUN)
    assert not calls
    dpm.sample(denoiser, X, nfe=4, solver="dpm++2m", noise="brownian")
    dpm.sample(denoiser, X, nfe=4, solver="ddim", eta=1.0)
