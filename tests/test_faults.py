"""Faults that were reproduced in other libraries, one by one, and what makes each impossible here.

The numbers are those of the list of peers that the design answers to (10, a wrong sign in a third-order solver, is answered by the
convergence tests of the solvers).
"""

from __future__ import annotations

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import UNCALIBRATED
from dpmsolver.networks.thresholding import dynamic
from dpmsolver.plans import Point
from dpmsolver.solvers import SOLVERS

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
EDM = dpm.schedules.EDM()
BETAS = np.linspace(1e-4, 0.02, 1000)
DISCRETE = dpm.schedules.Discrete(betas=BETAS)
GAUSSIAN = dpm.models.Gaussian(mean=[0.5, -1.0], variance=[0.3, 1.5])
X_T = dpm.initial_noise(VP, (3, 2), seed=2)


class Recorder:
    """A network that predicts data and remembers the labels it was called with."""

    def __init__(self) -> None:
        self.labels: list[float] = []
        self.dtypes: set[str] = set()

    def __call__(self, x: Any, t: Any) -> Any:
        self.labels.append(float(t[0]))
        self.dtypes.add(str(t.dtype))
        return 0.3 * x


def plannable(nfe: int, **arguments: Any) -> list[str]:
    """The solvers that can spend a budget on DISCRETE."""
    names = []
    for name in UNCALIBRATED:
        try:
            dpm.make_plan(name, DISCRETE, nfe, **arguments)
        except dpm.PlanError:
            continue
        names.append(name)
    return names


def test_fault_01_duplicate_rounded_steps_do_not_move_the_run() -> None:
    """A plan is indexed by a counter: where rounded labels coincide, each evaluation still has its own place and coefficients."""
    few = dpm.schedules.Discrete(betas=np.linspace(0.02, 0.3, 10))
    plan = dpm.make_plan("dpm++2m", few, 30)
    rounded, exact = Recorder(), Recorder()
    x = dpm.initial_noise(few, (3, 2))
    given = dpm.sample(dpm.Denoiser(rounded, few, "data", time_label="round"), x, plan=plan)
    wanted = dpm.sample(dpm.Denoiser(exact, few, "data"), x, plan=plan)
    assert len(rounded.labels) == len(exact.labels) == 30
    assert len(set(rounded.labels)) <= 10
    assert len(set(exact.labels)) == 30
    np.testing.assert_array_equal(given, wanted)


def test_fault_01_steps_between_the_trained_ones_are_where_they_say() -> None:
    """Labels that no training step had are handed over as they are, in the order of the grid; none falls back on the last index."""
    grid = dpm.grids.from_labels(DISCRETE, [999.0, 640.25, 640.0, 333.3, 0.5, 0.0])
    network = Recorder()
    states = list(dpm.iterate(dpm.Denoiser(network, DISCRETE, "data"), X_T, nfe=5, grid=grid))
    np.testing.assert_allclose(network.labels, [999.0, 640.25, 640.0, 333.3, 0.5], rtol=1e-12)
    assert [state.index for state in states] == list(range(6))


def test_fault_01_equal_times_are_refused_before_a_run() -> None:
    """A grid with a duplicate is an error of planning, not a step of length zero."""
    with pytest.raises(dpm.PlanError, match=r"followed by 0\.5 at index 1"):
        dpm.make_plan("dpm++2m", VP, 3, grid=[1.0, 0.5, 0.5, 0.1])


def test_fault_02_a_run_leaves_nothing_behind() -> None:
    """A run of another shape, one that was left half-way, one that failed and one at the same time do not reach the next run."""
    plan = dpm.make_plan("dpm++3m", VP, 8)
    denoiser = GAUSSIAN.denoiser(VP)
    first = dpm.sample(denoiser, X_T, plan=plan)
    half_way = dpm.iterate(denoiser, 3 * X_T, plan=plan)
    next(half_way)
    next(half_way)
    dpm.sample(denoiser, dpm.initial_noise(VP, (7, 2)), plan=plan)
    with pytest.raises(dpm.SamplingError):
        dpm.sample(dpm.Denoiser(lambda x, t: x * math.nan, VP), X_T, plan=plan)
    np.testing.assert_array_equal(dpm.sample(denoiser, X_T, plan=plan), first)
    states = [dpm.initial_noise(VP, (1 + i, 2), seed=i) for i in range(8)]
    alone = [dpm.sample(denoiser, x, plan=plan) for x in states]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: dpm.sample(denoiser, x, plan=plan), states))
    for given, wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(given, wanted)


@pytest.mark.parametrize("solver", plannable(6, end=0.0))
def test_fault_03_sigma_zero_is_a_row_of_finite_coefficients(solver: str) -> None:
    """A run to sigma = 0 ends there without NaN, for every solver, at the x_0 that the network predicted last or nearby."""
    for grid in ("logsnr", "time", "karras"):
        plan = dpm.make_plan(solver, DISCRETE, 6, grid, end=0.0)
        assert (plan.end.alpha, plan.end.sigma) == (1.0, 0.0)
        x = dpm.sample(dpm.Denoiser(lambda x, t: 0.0 * x + 0.25, DISCRETE, "data"), X_T, plan=plan, generator=0)
        # Steps in v are exact for normal data, and only near for data of one point.
        np.testing.assert_allclose(x, 0.25, atol=0.1 if solver.startswith("arc") else 1e-9, err_msg=grid)


@pytest.mark.parametrize(
    "middle", [[0.5, 0.5], [0.5, 0.6], [1.0, 0.5], [0.3, math.nan]], ids=["duplicate", "rises", "start", "nan"]
)
def test_fault_03_a_grid_that_does_not_fall_is_refused_at_planning(middle: list[float]) -> None:
    """No solver ever sees a step of no length or of the wrong sign."""
    for name, solver in UNCALIBRATED.items():
        if solver.evaluations is None:
            with pytest.raises(dpm.PlanError, match=r"must fall|outside this schedule"):
                dpm.make_plan(name, VP, 3 * solver.evaluations_per_step, grid=[1.0, *middle, 0.1])


@pytest.mark.parametrize("solver", list(UNCALIBRATED))
@pytest.mark.parametrize("end", [None, 0.3, 1e-3, 0.0])
def test_fault_04_the_noise_that_is_left_is_the_noise_of_the_chosen_end(solver: str, end: float | None) -> None:
    """The variance of the result is alpha^2 c + sigma^2 at plan.end, which is where `end` says: no hidden last step, none missing."""
    nfe = next(n for n in range(24, 40) if _can(solver, n))
    if end == 0.0 and SOLVERS[solver].finite:
        with pytest.raises(dpm.PlanError, match="no step to or from sigma = 0"):
            dpm.make_plan(solver, DISCRETE, nfe, end=end)
        return
    plan = dpm.make_plan(solver, DISCRETE, nfe, end=end)
    assert plan.end.time == (DISCRETE.t_min if end is None else end)
    if plan.stochastic or not plan.keeps_marginals:
        # In law instead, and as well as a solver that leaves the marginals does it; exactly at sigma = 0.
        mean, variance = plan.moments([0.5, -1.0], 0.0)
        allowed = 1e-9 if plan.keeps_marginals or (end == 0.0 and not solver.startswith("arc")) else 0.2
        np.testing.assert_allclose(mean, plan.end.alpha * np.array([0.5, -1.0]), atol=allowed)
        np.testing.assert_allclose(np.sqrt(variance), plan.end.sigma, atol=allowed)
        return
    # Data that are one point: the exact solver of any order keeps (x - alpha mu)/sigma.
    mu = np.array([0.5, -1.0])
    denoiser = dpm.models.Gaussian(mean=mu, variance=[0.0, 0.0]).denoiser(DISCRETE)
    result = dpm.sample(denoiser, X_T, plan=plan)
    start = plan.start
    wanted = plan.end.alpha * mu + plan.end.sigma * (X_T - start.alpha * mu) / start.sigma
    np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-7)
    assert plan.end.sigma == pytest.approx(float(DISCRETE.sigma(plan.end.time)))


def _can(solver: str, nfe: int) -> bool:
    try:
        dpm.make_plan(solver, VP, nfe)
    except dpm.PlanError:
        return False
    return True


def test_fault_05_labels_are_rounded_only_on_request() -> None:
    """By default the network gets floats at full precision, float32 at least, also where it computes in half."""
    plan = dpm.make_plan("dpm++2m", DISCRETE, 12)
    exact = [row.point.label for row in plan.rows]
    assert sum(label != round(label) for label in exact) > 6
    network = Recorder()
    dpm.sample(dpm.Denoiser(network, DISCRETE, "data"), X_T, plan=plan)
    assert network.labels == exact
    for dtype in ("float16", "bfloat16"):
        network = Recorder()
        dpm.sample(dpm.Denoiser(network, DISCRETE, "data", dtype=dtype), torch.from_numpy(X_T).float(), plan=plan)
        assert network.dtypes == {"torch.float32"}
        assert network.labels == [float(np.float32(label)) for label in exact]
    network = Recorder()
    dpm.sample(dpm.Denoiser(network, DISCRETE, "data", time_label="round"), X_T, plan=plan)
    assert network.labels == [round(label) for label in exact]
    assert network.dtypes == {"int64"}


@pytest.mark.parametrize("schedule", [VP, EDM, DISCRETE, dpm.schedules.Flow()])
def test_fault_06_add_noise_is_alpha_x_plus_sigma_eps(schedule: Any) -> None:
    """At a step's time it uses that step's alpha and sigma, not its neighbour's and not in reverse order."""
    x0, noise = np.random.default_rng(0).standard_normal((2, 4, 3))
    times = np.linspace(schedule.t_min, schedule.t_max, 4)
    together = dpm.add_noise(schedule, x0, noise, times)
    for i, t in enumerate(times):
        wanted = schedule.alpha(t) * x0[i] + schedule.sigma(t) * noise[i]
        np.testing.assert_allclose(together[i], wanted, rtol=1e-13)
    gaps = [abs(together[i] - x0[i]).mean() for i in range(4)]
    assert gaps[0] < gaps[-1]


def test_fault_06_add_noise_agrees_with_the_training_steps() -> None:
    """Step n of a discrete model is sqrt(alphas_cumprod[n]) x_0 + sqrt(1 - alphas_cumprod[n]) eps, for the first, last and any n."""
    x0, noise = np.random.default_rng(0).standard_normal((2, 4, 3))
    products = np.cumprod(1 - BETAS)
    for n in (0, 1, 499, 998, 999):
        wanted = np.sqrt(products[n]) * x0 + np.sqrt(1 - products[n]) * noise
        given = dpm.add_noise(DISCRETE, x0, noise, DISCRETE.time_from_label(n))
        np.testing.assert_allclose(given, wanted, rtol=1e-10)


@pytest.mark.parametrize("t", [1e-5, 1e-4, 0.3, 1.0])
def test_fault_07_log_snr_keeps_its_digits_at_both_ends(t: float) -> None:
    """lambda(t) to 1e-13 relative, against 50 digits: float32 arithmetic is off by 6e-3 at t = 1e-5."""
    with localcontext() as context:
        context.prec = 50
        time, low, high = (Decimal(value) for value in (t, VP.beta_min, VP.beta_max))
        log_alpha = -time * time * (high - low) / 4 - time * low / 2
        exact = float(log_alpha - (1 - (2 * log_alpha).exp()).ln() / 2)
    assert VP.half_log_snr(t) == pytest.approx(exact, rel=1e-13)
    log_alpha32 = np.float32(-0.25 * t * t * 19.9 - 0.05 * t)
    naive = log_alpha32 - np.log(np.sqrt(np.float32(1) - np.exp(2 * log_alpha32)))
    if t == 1e-5:
        assert abs(float(naive) - exact) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_fault_07_a_half_precision_network_runs_to_the_last_time(dtype: torch.dtype) -> None:
    """Host scalars are float64 and the state is float32 whatever the network is: the plan is the same and nothing overflows."""
    x = torch.from_numpy(X_T).to(dtype)
    plan = dpm.make_plan("dpm++2m", VP, 10, end=1e-5)
    name = str(dtype).removeprefix("torch.")
    states = list(dpm.iterate(dpm.Denoiser(lambda x, t: 0.3 * x, VP, "data", dtype=name), x, plan=plan))
    assert {state.x.dtype for state in states} == {torch.float32}
    wanted = dpm.sample(dpm.Denoiser(lambda x, t: 0.3 * x, VP, "data"), x.double(), plan=plan)
    torch.testing.assert_close(states[-1].x.double(), wanted, rtol=0, atol=0.02)


def test_fault_08_dynamic_thresholding_is_dynamic() -> None:
    """Where the quantile s exceeds 1, x_0 is divided by s, and a run without a hook is not thresholded at all."""
    x0 = np.linspace(-4.0, 4.0, 400).reshape(1, 400)
    s = np.quantile(abs(x0), 0.995)
    point = Point.at(VP, 0.5)
    assert s > 3.9
    np.testing.assert_allclose(dynamic()(x0, point), np.clip(x0, -s, s) / s, rtol=1e-12)
    assert abs(dynamic()(x0, point) - np.clip(x0, -1, 1)).max() > 0.7
    denoiser = dpm.Denoiser(lambda x, t: np.broadcast_to(x0, x.shape), VP, "data")
    states = list(dpm.iterate(denoiser, np.ones((1, 400)), nfe=4))
    np.testing.assert_array_equal(states[-1].denoised, x0)
    states = list(dpm.iterate(denoiser.replace(data_hook=dynamic()), np.ones((1, 400)), nfe=4))
    np.testing.assert_allclose(states[-1].denoised, np.clip(x0, -s, s) / s, rtol=1e-12)


def test_fault_09_noise_belongs_to_the_sample() -> None:
    """Initial and added noise of sample i depend on its seed alone, and a generator that is given is used."""
    options: dict[str, Any] = {"nfe": 5, "solver": "ddim", "eta": 1.0}
    denoiser = GAUSSIAN.denoiser(VP)
    np.testing.assert_array_equal(dpm.initial_noise(VP, (9, 2), seed=4)[:3], dpm.initial_noise(VP, (3, 2), seed=4))
    whole = dpm.sample(denoiser, X_T, generator=[10, 11, 12], **options)
    for i in range(3):
        np.testing.assert_array_equal(dpm.sample(denoiser, X_T[i : i + 1], generator=[10 + i], **options)[0], whole[i])
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    first = dpm.sample(denoiser, X_T, generator=generator, **options)
    assert not torch.equal(before, generator.get_state())
    assert abs(dpm.sample(denoiser, X_T, generator=generator, **options) - first).min() > 0


def test_fault_09_global_randomness_is_neither_used_nor_moved() -> None:
    """A seeded run does not depend on numpy's and torch's global generators and leaves them where they were."""
    options: dict[str, Any] = {"nfe": 5, "solver": "ddim", "eta": 1.0, "generator": 1}
    denoiser = GAUSSIAN.denoiser(VP)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = dpm.sample(denoiser, torch.from_numpy(X_T), **options)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(dpm.sample(denoiser, torch.from_numpy(X_T), **options), first)


def test_fault_11_schedules_plans_and_denoisers_are_frozen() -> None:
    """Nothing of a configuration can be assigned to after it was made."""
    plan = dpm.make_plan("dpm++2m", DISCRETE, 4)
    denoiser = dpm.Denoiser(lambda x, t: x, DISCRETE)
    things: list[tuple[Any, str]] = [
        (VP, "beta_max"),
        (EDM, "sigma_max"),
        (DISCRETE, "betas"),
        (plan, "rows"),
        (plan.rows[0], "advance"),
        (plan.end, "time"),
        (denoiser, "predicts"),
        (SOLVERS["ddim"], "order"),
    ]
    for thing, name in things:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, None)


def test_fault_11_planning_and_sampling_change_nothing_they_were_given() -> None:
    """Arrays, options and mappings of the caller read the same after planning and running, and changing them later has no effect."""
    betas, grid = BETAS.copy(), np.linspace(1.0, 1e-3, 7)
    schedule = dpm.schedules.Discrete(betas=betas)
    options = {"lower_order_final": False}
    plan = dpm.make_plan("dpm++2m", schedule, 6, grid, **options)
    text = plan.to_json()
    kwargs = {"gain": 0.3}
    denoiser = dpm.Denoiser(lambda x, t, gain: gain * x, schedule, network_kwargs=kwargs)
    first = dpm.sample(denoiser, X_T, plan=plan)
    np.testing.assert_array_equal(betas, BETAS)
    np.testing.assert_array_equal(grid, np.linspace(1.0, 1e-3, 7))
    assert (options, kwargs, plan.to_json()) == ({"lower_order_final": False}, {"gain": 0.3}, text)
    grid[:] = 0.0
    betas[:] = 0.5
    assert plan.to_json() == text
    assert schedule.half_log_snr(0.5) == DISCRETE.half_log_snr(0.5)
    np.testing.assert_array_equal(dpm.sample(denoiser, X_T, plan=plan), first)


def test_fault_12_adaptive_samples_do_not_influence_each_other() -> None:
    """A far-away neighbour leaves the steps and the result of a sample as they are, to the bit."""
    denoiser = GAUSSIAN.denoiser(VP)
    hard = np.concatenate([X_T, 1e3 * X_T[:1]])
    together = dpm.sample_adaptive(denoiser, hard)
    np.testing.assert_array_equal(together[:3], dpm.sample_adaptive(denoiser, X_T))


def test_fault_12_an_adaptive_run_always_ends() -> None:
    """A NaN network, a hopeless tolerance and the inverse direction each end: with an error, an error, and a result."""
    with pytest.raises(dpm.SamplingError, match="NaN or infinity at evaluation 1"):
        dpm.sample_adaptive(dpm.Denoiser(lambda x, t: x * math.nan, VP), X_T)
    with pytest.raises(dpm.SamplingError, match="max_nfe=40"):
        dpm.sample_adaptive(GAUSSIAN.denoiser(VP), X_T, atol=1e-14, rtol=1e-14, max_nfe=40)
    x0 = GAUSSIAN.sample(3)
    up = dpm.sample_adaptive(GAUSSIAN.denoiser(VP), x0, start=1e-3, end=1.0, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(up, GAUSSIAN.trajectory(VP, x0, 1e-3, 1.0), rtol=0, atol=0.01)


@pytest.mark.parametrize("num", [10, 100, 4000])
def test_fault_13_labels_are_stored_with_the_plan(num: int) -> None:
    """The label of each knot is t N - 1 with the model's own N, kept in the plan and its JSON, not recomputed with a thousand."""
    schedule = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, num))
    plan = dpm.make_plan("dpm++2m", schedule, 5)
    np.testing.assert_allclose(
        [r.point.label for r in plan.rows], [r.point.time * num - 1 for r in plan.rows], atol=1e-9
    )
    assert plan.start.label == num - 1
    rows = json.loads(plan.to_json())["rows"]
    assert [row["point"]["label"] for row in rows] == [row.point.label for row in plan.rows]
    moved = tuple(
        dataclasses.replace(r, point=dataclasses.replace(r.point, label=r.point.label + 0.125)) for r in plan.rows
    )
    network = Recorder()
    x = dpm.initial_noise(schedule, (2, 2))
    dpm.sample(dpm.Denoiser(network, schedule, "data"), x, plan=dataclasses.replace(plan, rows=moved))
    assert network.labels == [row.point.label for row in moved]


def test_fault_13_the_cosine_schedules_labels_are_its_times() -> None:
    """No clip moves them: from t_max to the end, the network is told where it is."""
    schedule = dpm.schedules.CosineVP()
    network = Recorder()
    plan = dpm.make_plan("dpm++2m", schedule, 8, "time")
    dpm.sample(dpm.Denoiser(network, schedule, "data"), X_T, plan=plan)
    np.testing.assert_allclose(network.labels, np.linspace(0.9946, plan.end.time, 9)[:-1], rtol=1e-12)


@pytest.mark.parametrize("end", [9.9e-4, 1e-5, -1e-3])
def test_fault_14_an_end_below_the_first_training_step_is_refused(end: float) -> None:
    """Between 0 and 1/N the model knows nothing: the error says which times are accepted, for plans, encoding and adaptive runs."""
    network = Recorder()
    denoiser = dpm.Denoiser(network, DISCRETE, "data")
    message = r"outside this schedule: accepted are 0\.001 <= (start|end) <= 1 and 0"
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample(denoiser, X_T, nfe=5, end=end)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.encode(denoiser, X_T, nfe=5, start=end)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample_adaptive(denoiser, X_T, end=end)
    assert not network.labels


@pytest.mark.parametrize("grid", ["logsnr", "karras", "time", "quadratic", "trailing", "beta", "shifted"])
def test_fault_15_a_grid_means_the_same_times_for_every_solver(grid: str) -> None:
    """Whatever the solver, its steps begin and end at the grid's times; what it evaluates between them is its own."""
    for name, solver in UNCALIBRATED.items():
        nfe = next(n for n in range(12, 30) if _can(name, n))
        steps = len(solver.spend(nfe))
        plan = dpm.make_plan(name, VP, nfe, grid, end=1e-3)
        times = dpm.grids.make_grid(VP, steps, grid, end=1e-3)
        points = [row.point.time for row in plan.rows] + [plan.end.time]
        assert set(times) <= set(points), name
        if plan.nfe == steps:
            assert points == list(times), name


def test_fault_15_grids_of_the_literature_are_what_their_names_say() -> None:
    """karras is uniform in sigma^(1/7), logsnr in log sigma, time in sigma itself for EDM."""
    sigmas = dpm.grids.make_grid(EDM, 10, "karras", end=0.002)
    np.testing.assert_allclose(np.diff(sigmas ** (1 / 7)), (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 10, rtol=1e-9)
    sigmas = dpm.grids.make_grid(EDM, 10, "logsnr", end=0.002)
    np.testing.assert_allclose(np.diff(np.log(sigmas)), math.log(0.002 / 80) / 10, rtol=1e-9)
    sigmas = dpm.grids.make_grid(EDM, 10, "time", end=0.002)
    np.testing.assert_allclose(np.diff(sigmas), (0.002 - 80) / 10, rtol=1e-9)
