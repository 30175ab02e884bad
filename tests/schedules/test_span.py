"""Where runs start and end by default: what a network is evaluated at, and what becomes of its errors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import SCHEDULES, UNCALIBRATED, a_budget, budgets, cosine_betas, zero_terminal_betas
from dpmsolver.errors import PlanError
from dpmsolver.grids import GRIDS, from_labels, from_sigmas, make_grid
from dpmsolver.schedules import EDM, CosineVP, Custom, Discrete, Flow, LinearVP, NoiseSchedule, SubVP
from dpmsolver.schedules.span import default_start
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.auto import recommended

COSINE = Discrete(betas=cosine_betas(1000))
ZERO_SNR = Discrete(betas=zero_terminal_betas(1000))
LOWEST = -5.1


# --- The start -------------------------------------------------------------------------------------------------------------------------


class Asked:
    """A network that knows that all data are 0.5, predicts what it is told to, and records where it was evaluated."""

    def __init__(self, schedule: NoiseSchedule, predicts: str) -> None:
        self.schedule, self.predicts, self.levels = schedule, predicts, []

    def __call__(self, x: Any, t: Any) -> Any:
        time = self.schedule.time_from_label(float(t[0]))
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        self.levels.append(float(self.schedule.half_log_snr(time)))
        eps = (x - alpha * 0.5) / sigma
        return {
            "noise": eps,
            "score": -eps / sigma,
            "data": 0.5 + 0 * x,
            "v": alpha * eps - sigma * 0.5,
            "velocity": eps - 0.5,
        }[self.predicts]


def lowest_level(schedule: NoiseSchedule, predicts: str, **arguments: Any) -> float:
    network = Asked(schedule, predicts)
    x0 = dpm.sample(dpm.Denoiser(network, schedule, predicts), np.ones((1, 2)), **arguments)
    assert np.isfinite(x0).all()
    return min(network.levels)


LATE = {
    "cosine": COSINE,
    "zero SNR": ZERO_SNR,
    "cosine VP": CosineVP(t_max=1.0),
    "flow": Flow(),
    "flow 3": Flow(shift=3.0),
}


@pytest.mark.parametrize("solver", list(UNCALIBRATED))
def test_a_network_of_noise_is_not_evaluated_below_the_limit_by_any_solver(solver: str) -> None:
    """Half-log-SNR -5.1 is the lowest level of a network that predicts noise or score, on whatever schedule, with whatever solver."""
    nfe = a_budget(UNCALIBRATED[solver])
    for schedule in LATE.values():
        for predicts in ("noise", "score"):
            plan = dpm.make_plan(solver, schedule, nfe, predicts=predicts)
            levels = [row.point.half_log_snr for row in plan.rows]
            assert min(levels) >= LOWEST - 1e-9


@pytest.mark.parametrize("schedule", LATE.values(), ids=LATE)
def test_what_a_network_predicts_decides_where_a_run_starts(schedule: NoiseSchedule) -> None:
    """Noise and score start at -5.1; data, v and velocity at the schedule's own start; so do they all where the caller says."""
    bottom = schedule.half_log_snr(schedule.t_max)
    for predicts in ("noise", "score"):
        assert lowest_level(schedule, predicts, nfe=6) == pytest.approx(LOWEST)
    for predicts in ("data", "v", "velocity"):
        assert lowest_level(schedule, predicts, nfe=6, solver="dpm++2m") == pytest.approx(bottom)
    early = schedule.time(-6.5)
    assert lowest_level(schedule, "noise", nfe=6, start=early) == pytest.approx(-6.5)


@pytest.mark.parametrize(
    "name", [name for name in SCHEDULES if name not in ("discrete-cosine-1000", "discrete-cosine-100")]
)
def test_no_schedule_that_starts_above_the_limit_is_touched(name: str) -> None:
    schedule = SCHEDULES[name]
    if schedule.half_log_snr(schedule.t_max) >= LOWEST:
        assert default_start(schedule, "noise", needs_signal=True) == schedule.t_max


def test_one_rule_for_all_kinds_of_run() -> None:
    """sample, iterate, the adaptive solver, RK45, encoding and calibration keep to the same limit."""
    x, model = np.full((2, 2), 0.7), dpm.models.Gaussian(mean=[0.5, 0.5], variance=[0.2, 0.2])
    runs: dict[str, Callable[[dpm.Denoiser], object]] = {
        "iterate": lambda d: list(dpm.iterate(d, x, nfe=5)),
        "adaptive": lambda d: dpm.sample_adaptive(d, x, order=2),
        "rk45": lambda d: dpm.sample_rk45(d, x, rtol=0.1, atol=0.1),
        "encode": lambda d: dpm.encode(d, x, nfe=5),
        "calibrate": lambda d: dpm.calibrate(d, model.sample(5), levels=4),
    }
    for name, run in runs.items():
        network = Asked(COSINE, "noise")
        run(dpm.Denoiser(network, COSINE, "noise"))
        assert min(network.levels) >= LOWEST - 1e-9, name
        if name != "encode":
            assert min(network.levels) == pytest.approx(LOWEST), name


def test_encoding_comes_back() -> None:
    """Noise that encoding made leads back to the data: both ends of a run are the same rule's."""
    model = dpm.models.Gaussian(mean=[0.3], variance=[0.25])
    denoiser = model.denoiser(COSINE, predicts="noise")
    x0 = np.linspace(-1.0, 1.0, 8)[:, None]
    noise = dpm.encode(denoiser, x0, nfe=60)
    assert abs(dpm.sample(denoiser, noise, nfe=60, solver="unipc-3", grid="logsnr") - x0).max() < 5e-3


def test_x_T_is_scaled_where_the_variance_explodes() -> None:
    """A run on EDM up to sigma = 700 starts at sigma = e^5.1, and its x_T, drawn with deviation 700, is scaled to that."""
    schedule = EDM(sigma_max=700.0)
    model = dpm.models.Gaussian(mean=[0.5], variance=[0.25])
    x_T = dpm.initial_noise(schedule, (2000, 1), seed=1)
    for solver in ("dpm++2m", "heun", "unipc-2", "dpm-3", "euler-ancestral"):
        plan = dpm.make_plan(solver, schedule, 60, predicts="noise")
        assert plan.start.sigma == pytest.approx(700.0)
        assert plan.rows[0].point.half_log_snr == pytest.approx(LOWEST)
        x0 = dpm.sample(model.denoiser(schedule, predicts="noise"), x_T, plan=plan, generator=0)
        assert abs(x0.std() - 0.5) < (0.06 if plan.stochastic else 0.04), solver
        assert abs(x0.mean() - 0.5) < 0.05, solver
    adaptive = dpm.sample_adaptive(model.denoiser(schedule, predicts="noise"), x_T[:200])
    assert abs(adaptive.std() - 0.5) < 0.1
    assert dpm.Plan.from_json(plan.to_json()) == plan


# What an error of the network becomes: the bar is a spread of at most 1.3 times the data's.

BETAS: dict[str, Callable[[int], Discrete]] = {
    "linear": lambda num: Discrete(betas=np.linspace(1e-4, 0.02, num)),
    "linear, scaled to N": lambda num: Discrete(betas=np.linspace(0.1 / num, min(20.0 / num, 0.999), num)),
    "cosine": lambda num: Discrete(betas=cosine_betas(num)),
    "sigmoid": lambda num: Discrete(betas=1e-4 + (0.02 - 1e-4) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, num)))),
    "zero SNR": lambda num: Discrete(alphas_cumprod=zero_snr(np.linspace(0.1 / num, min(20.0 / num, 0.999), num))),
}
VARIANCE = 0.25


def zero_snr(betas: np.ndarray) -> np.ndarray:
    alphas = np.sqrt(np.cumprod(1.0 - betas))
    return ((alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))) ** 2


def fixed_random(x: np.ndarray, time: float) -> np.ndarray:
    """A fixed random function of x and t whose values have a deviation of 0.01."""
    rng = np.random.default_rng(5)
    weights, phases, speeds = 2.0 * rng.normal(size=(8, 8)), rng.uniform(0.0, 2.0 * np.pi, 8), 30.0 * rng.normal(size=8)
    return 0.01 * math.sqrt(2.0) * np.sin(x @ weights + phases + speeds * time)


def spread(schedule: NoiseSchedule, nfe: int, factor: float, random: bool) -> float:
    """The deviation of the samples over the data's, with the optimal network of normal data but for its error."""

    def network(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        time = schedule.time_from_label(float(t[0]))
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        eps = factor * sigma * x / (alpha**2 * VARIANCE + sigma**2)
        return eps + fixed_random(x, float(time)) if random else eps

    x_T = dpm.initial_noise(schedule, (64, 8), seed=3)
    x_T *= schedule.sigma(schedule.t_max) / x_T.std()  # so that nothing of the bar is spent on the draw
    return float(dpm.sample(dpm.Denoiser(network, schedule), x_T, nfe=nfe).std() / math.sqrt(VARIANCE))


ERRORS = ((1.01, False), (0.99, False), (1.0, True))
FEW = (5, 6, 8, 9, 10, 15, 20, 25, 50)


def spreads_too_far(schedule: NoiseSchedule, nfes: Any) -> list[tuple[int, float, bool, float]]:
    found = [(nfe, factor, random, spread(schedule, nfe, factor, random)) for nfe in nfes for factor, random in ERRORS]
    return [case for case in found if not case[-1] <= 1.3]


@pytest.mark.parametrize("num", [20, 1000, 4000])
@pytest.mark.parametrize("betas", BETAS)
def test_one_percent_of_error_spreads_no_sample(betas: str, num: int) -> None:
    """A noise-predicting network that is 1 % off, in one direction or at random, gives samples as wide as the data by default."""
    assert not spreads_too_far(BETAS[betas](num), FEW)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_one_percent_of_error_spreads_no_sample_of_a_flow(shift: float) -> None:
    """A network of noise on a rectified flow, as robot policies have, runs by default, and its error stays small."""
    assert not spreads_too_far(Flow(shift=shift), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("num", [20, 30, 50, 100, 250, 1000, 4000])
@pytest.mark.parametrize("betas", BETAS)
def test_one_percent_of_error_spreads_no_sample_at_any_budget(betas: str, num: int) -> None:
    """The same at every budget from 5 to 50."""
    assert not spreads_too_far(BETAS[betas](num), range(5, 51))


def test_a_plan_that_multiplies_the_networks_error_is_told_of_once() -> None:
    """Cosine betas from their very start: 20,000 times eps. One warning says so and names the way out; the default gives none."""
    plan = dpm.make_plan("unipc-2", COSINE, 10, "quadratic")
    denoiser = dpm.Denoiser(Asked(COSINE, "noise"), COSINE)
    with pytest.warns(
        UserWarning, match=r"multiplies the network's output by up to 2e\+04.*make_plan\(…, predicts='noise'\)"
    ) as told:
        dpm.sample(denoiser, np.ones((1, 2)), plan=plan)
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dpm.sample(denoiser, np.ones((1, 2)), plan=plan)  # the plan remembers
        dpm.sample(denoiser, np.ones((1, 2)), nfe=10)
        dpm.sample(
            dpm.Denoiser(Asked(COSINE, "v"), COSINE, "v"), np.ones((1, 2)), plan=dpm.make_plan("dpm++2m", COSINE, 10)
        )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predicts", ["noise", "data", "v", "score", "velocity"])
def test_no_default_run_is_warned_of(name: str, predicts: Any) -> None:
    """Whatever a network predicts, defaults multiply nothing by more than a thousand: warnings are errors here."""
    schedule = SCHEDULES[name]
    for solver in ("auto", "dpm++2m") if predicts == "data" else ("auto", "dpm++2m", "heun"):
        dpm.sample(dpm.Denoiser(Asked(schedule, predicts), schedule, predicts), np.ones((1, 2)), nfe=6, solver=solver)


def test_a_plan_that_multiplies_the_error_of_predicted_data_is_told_of() -> None:
    """Heun's last step on a flow takes its second evaluation at t = 1e-4, where noise is x_0's error times 10,000."""
    denoiser = dpm.Denoiser(Asked(Flow(), "data"), Flow(), "data")
    with pytest.warns(UserWarning, match=r"at t=0\.0001.*take a solver of data prediction"):
        dpm.sample(denoiser, np.ones((1, 2)), nfe=6, solver="heun")


@pytest.mark.parametrize("schedule", LATE.values(), ids=LATE)
def test_every_solver_starts_where_alpha_is_0(schedule: NoiseSchedule) -> None:
    """On a flow and with zero terminal SNR every solver that can spend a budget runs, whatever the network predicts."""
    for solver in UNCALIBRATED.values():
        for nfe in budgets(solver, 12)[-1:]:
            for predicts in ("noise", "data", "v", "velocity"):
                plan = dpm.make_plan(solver, schedule, nfe, predicts=predicts)
                assert plan.end.time < plan.start.time


@pytest.mark.parametrize(
    "solver", ["euler", "heun", "ipndm-3", "deis-tab3", "rk4-lambda", "euler-maruyama", "dpm-3", "unipc-2"]
)
def test_a_start_just_above_pure_noise_costs_no_accuracy(solver: str) -> None:
    """A network of velocity on a flow: by default every solver comes to the data, as from the start that users gave by hand."""
    model = dpm.models.Gaussian(mean=[0.4], variance=[0.25])
    nfe = 60
    plan = dpm.make_plan(solver, Flow(), nfe, predicts="velocity")
    assert plan.wasserstein(0.4, 0.25, to="end") < (0.1 if SOLVERS[solver].stochastic else 0.02)
    x0 = dpm.sample(
        model.denoiser(Flow(), predicts="velocity"), dpm.initial_noise(Flow(), (500, 1)), nfe=nfe, solver=solver
    )
    assert abs(x0.std() - 0.5) < 0.1


@pytest.mark.parametrize("predicts", [None, "velocity", "noise"])
def test_a_flow_that_ends_below_1_is_a_flow(predicts: str | None) -> None:
    """How small alpha is tells the kind of a schedule, not that it is 0: `Flow(t_max=0.999)` and cosine betas are of a flow's kind."""
    for nfe in (5, 10, 30):
        assert recommended(Flow(t_max=0.999), nfe, predicts) == recommended(Flow(), nfe, predicts)
        if predicts != "noise":
            assert recommended(COSINE, nfe, predicts) == recommended(Flow(), nfe, predicts)
    for solver in ("dpm++2m", "unipc-3"):
        grids = {dpm.make_plan(solver, s, 8, predicts=predicts).grid for s in (Flow(t_max=0.999), Flow())}
        assert grids == {"logsnr" if predicts == "noise" else "time"}  # a network of noise starts at a finite log-SNR


def test_predicts_is_checked() -> None:
    with pytest.raises(PlanError, match=r"unknown prediction 'nose'.*did you mean 'noise'"):
        dpm.make_plan("ddim", COSINE, 5, predicts="nose")


# --- The end ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nfe", [12, 15, 16, 18, 30])
def test_one_budget_has_one_end(nfe: int) -> None:
    """Solvers that take one, two or three evaluations a step, and those without a step to sigma = 0, end at one time."""
    names = ["dpm++2m", "dpm-3", "heun", "dpm-fast", "dpm-2", "rk3-t", "unipc-3"]
    solvers = [SOLVERS[name] for name in names if nfe in budgets(SOLVERS[name], nfe)]
    assert len(solvers) >= 3
    assert {dpm.make_plan(solver, LinearVP(), nfe).end.time for solver in solvers} == {LinearVP().default_end(nfe)}


@pytest.mark.parametrize(
    "betas", [np.array([0.3, 0.5, 0.7, 0.9]), np.linspace(0.01, 0.2, 100), np.linspace(0.005, 0.3, 50)]
)
@pytest.mark.parametrize("nfe", [1, 3, 10, 15, 40])
def test_no_noise_is_left_by_default(betas: np.ndarray, nfe: int) -> None:
    """With few training steps sigma(1/N) is large, and the run ends at clean data."""
    schedule = Discrete(betas=betas)
    denoiser = dpm.Denoiser(lambda x, t: 0.5 + 0 * x, schedule, "data")
    x_T = dpm.initial_noise(schedule, (200, 3))
    for x0 in (
        dpm.sample(denoiser, x_T, nfe=nfe),
        dpm.sample(denoiser, x_T, nfe=nfe, end=0.0, grid="logsnr"),
        dpm.sample_adaptive(denoiser, x_T, prediction="data"),
        dpm.sample_rk45(denoiser, x_T, rtol=1e-3).x,
    ):
        assert abs(x0 - 0.5).max() < 1e-2


def test_ends_that_leave_nothing_to_be_seen_stay() -> None:
    """Stable Diffusion's first step has a sigma of 0.029: runs of 1000 steps end there as they did."""
    for betas in (np.linspace(1e-4, 0.02, 1000), np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, cosine_betas(1000)):
        assert Discrete(betas=betas).default_end(10) == 1e-3


@pytest.mark.parametrize("schedule", [LinearVP(), SubVP(), CosineVP(), EDM(), Flow()], ids=repr)
@pytest.mark.parametrize("times", [1.0, 2.0, 5.0, 50.0])
def test_a_short_run_never_turns_round(schedule: NoiseSchedule, times: float) -> None:
    """From a start at or below the default end the run leads to clean data: less noise than before, and never more."""
    start = times * schedule.t_min
    x0, noise = np.full((1, 4), 0.5), np.ones((1, 4))
    denoiser = dpm.Denoiser(lambda x, t: 0.5 + 0 * x, schedule, "data")
    noisy = dpm.add_noise(schedule, x0, noise, start)
    for nfe in (1, 4) if times > 1.0 else (1,):
        for grid in (None, "logsnr", "time", "quadratic", "karras", "beta", "trailing", "cosine"):
            if grid == "trailing" and nfe > times:
                continue  # no room for steps even towards 0
            plan = dpm.make_plan("ddim", schedule, nfe, grid, start=start, end=0.0 if grid == "trailing" else None)
            assert plan.end.time < start
            assert all(
                a.point.time > b.time
                for a, b in zip(plan.rows, [*(r.point for r in plan.rows[1:]), plan.end], strict=True)
            )
            out = dpm.sample(denoiser, noisy, plan=plan)
            assert abs(out - x0).max() <= abs(noisy - x0).max()
    adaptive = dpm.sample_adaptive(denoiser, noisy, start=start, prediction="data")
    assert abs(adaptive - x0).max() <= abs(noisy - x0).max()


def test_a_run_that_has_nothing_to_do_says_so() -> None:
    """From the schedule's first time there is one step to clean data, and none for solvers that cannot take it."""
    start = LinearVP().t_min
    assert dpm.make_plan("ddim", LinearVP(), 1, start=start).end.time == 0.0
    with pytest.raises(PlanError, match="room for one step, not 4"):
        dpm.make_plan("ddim", LinearVP(), 4, "time", start=start)
    with pytest.raises(PlanError, match=r"nothing to be done from start=1e-05"):
        dpm.make_plan("rk2-t", LinearVP(), 4, start=start)
    with pytest.raises(PlanError, match=r"two different times, got start=0\.2 and end=0\.2"):
        dpm.make_plan("ddim", LinearVP(), 4, start=0.2, end=0.2)


def test_rising_times_need_encode() -> None:
    """An array that rises is refused by sample and iterate, which name encode; encode takes it."""
    denoiser = dpm.models.Gaussian(mean=[0.0], variance=[1.0]).denoiser(LinearVP())
    x, times = np.ones((2, 1)), [0.01, 0.3, 0.9]
    for run in (dpm.sample, dpm.iterate):
        with pytest.raises(PlanError, match=r"times must fall.*0\.01 to 0\.9: use dpm\.encode"):
            run(denoiser, x, nfe=2, grid=times)
    assert dpm.encode(denoiser, x, nfe=2, grid=times).shape == x.shape


# --- Grids stay inside -----------------------------------------------------------------------------------------------------------------

MANY = [
    (Flow(), {"nfe": 101}),
    (Flow(), {"nfe": 50, "start": 0.1}),
    (Flow(), {"nfe": 4, "start": 0.0005}),
    (Discrete(betas=np.linspace(1e-3, 0.2, 100)), {"nfe": 15, "end": 0.0}),
    (Discrete(betas=[0.3, 0.5, 0.7, 0.9]), {"nfe": 10, "end": 0.0}),
    (Discrete(betas=np.linspace(1e-4, 0.02, 1000)), {"nfe": 32, "end": 0.0, "grid": "quadratic", "solver": "dpm++2m"}),
    (EDM(), {"nfe": 1000, "grid": "beta"}),
]


@pytest.mark.parametrize(("schedule", "arguments"), MANY)
def test_long_and_short_runs_stay_inside_the_schedule(schedule: NoiseSchedule, arguments: dict[str, Any]) -> None:
    """No grid leaves the schedule by itself: exactly nfe evaluations, all of them inside, the last knot at clean data."""
    arguments = {"solver": "auto", **arguments}
    plan = dpm.make_plan(arguments.pop("solver"), schedule, **arguments)
    times = [row.point.time for row in plan.rows]
    assert len(times) == arguments["nfe"]
    assert min(times) >= schedule.t_min
    assert plan.end.time == 0.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_grid_takes_any_number_of_steps_to_clean_data(name: str) -> None:
    """From 1 to 300 steps, from any start, on every grid that serves the schedule: monotone, inside, from start to 0."""
    schedule = SCHEDULES[name]
    starts = [schedule.t_max, *(schedule.t_min + f * (schedule.t_max - schedule.t_min) for f in (0.5, 0.01))]
    for grid in GRIDS:
        if grid in ("leading", "linspace", "simple", "normal", "sgm-uniform"):  # which count training steps
            continue
        if grid in ("shifted", "dynamic-shift") and schedule.t_max > 1:
            continue
        for start in starts:
            for steps in (1, 2, 3, 10, 120):
                # Steps even towards 0, and a table's knots, may have no room: that is told with the caller's times.
                if grid == "trailing" and start < steps * schedule.t_min:
                    with pytest.raises(PlanError, match=f"t={start}.* has room for"):
                        make_grid(schedule, steps, grid, start=start, end=0.0)
                    continue
                try:
                    times = make_grid(schedule, steps, grid, start=start, end=0.0)
                except PlanError:
                    assert grid.startswith("ays")
                    continue
                assert times[0] == start
                assert times[-1] == 0.0
                assert (np.diff(times) < 0.0).all()
                assert (times[:-1] >= schedule.t_min * (1 - 1e-12)).all()


def test_an_error_names_what_the_caller_gave() -> None:
    """A grid of the caller's that leaves the schedule is told with its start, end and number of steps."""

    def outside(schedule: NoiseSchedule, steps: int, start: float, end: float) -> np.ndarray:
        return np.linspace(start + 0.3, end, steps + 1)

    with pytest.raises(PlanError, match=r"grid outside cannot take 4 steps from start=0\.9 to end=0\.001: time 1\.2"):
        make_grid(LinearVP(), 4, outside, start=0.9, end=1e-3)
    with pytest.raises(PlanError, match=r"start=2 is outside this schedule: accepted are 1e-05 <= start <= 1 and 0"):
        dpm.make_plan("ddim", LinearVP(), 4, start=2)


@pytest.mark.parametrize("value", [np.array([0.3, 0.5]), [0.3], "0.3", True])
def test_start_and_end_are_one_time(value: Any) -> None:
    """An array, a text or a bool for a start or an end is refused by its name."""
    denoiser = dpm.models.Gaussian(mean=[0.0], variance=[1.0]).denoiser(LinearVP())
    for name in ("start", "end"):
        for run in (dpm.sample, dpm.sample_adaptive):
            arguments = {"nfe": 3} if run is dpm.sample else {}
            with pytest.raises(PlanError, match=f"{name} must be (one time for the whole batch|a number)"):
                run(denoiser, np.ones((2, 1)), **{name: value}, **arguments)
    assert dpm.make_plan("ddim", LinearVP(), 3, start=np.float32(0.5)).start.time == 0.5


# --- Tables of other programs ----------------------------------------------------------------------------------------------------------


def test_tables_in_float32_and_in_three_digits_are_taken_at_the_ends() -> None:
    """Sigmas and time steps as pipelines have them mean the schedule's ends where they differ from these by rounding."""
    schedule = Discrete(betas=np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    products = np.cumprod((1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float32) ** 2), dtype=np.float32)
    sigmas = np.sqrt((1 - products) / products)[[999, 500, 0]]
    times = from_sigmas(schedule, [*sigmas, 0.0])
    np.testing.assert_allclose(times, [1.0, 0.501, 0.001, 0.0], rtol=1e-4)
    np.testing.assert_allclose(from_sigmas(schedule, [14.6, 1.0, 0.0292, 0.0])[[0, 2, 3]], [1.0, 0.001, 0.0], rtol=5e-3)
    assert from_sigmas(EDM(), np.array([80.0, 0.002], dtype=np.float32)).tolist() == pytest.approx([80.0, 0.002])
    torch = pytest.importorskip("torch")
    assert from_sigmas(EDM(), torch.tensor([80.0, 1.0], requires_grad=True)).tolist() == [80.0, 1.0]
    assert from_labels(schedule, torch.tensor([999.0, 0.0])).tolist() == [1.0, 0.001]
    sd = EDM(sigma_min=0.029167, sigma_max=14.6146)
    assert dpm.make_plan("ddim", sd, 2, np.array([14.6146, 1.0, 0.029167], dtype=np.float32)).start.time == 14.6146


def test_what_lies_outside_is_told_in_the_callers_unit() -> None:
    """from_sigmas speaks of sigma, from_labels of labels."""
    with pytest.raises(
        PlanError, match=r"sigma 15 is outside this schedule: accepted are 0\.0291672 <= sigma <= 14\.6"
    ):
        from_sigmas(Discrete(betas=np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2), [15.0, 1.0])
    with pytest.raises(PlanError, match="label 1200 is outside this schedule: accepted are 0 to 999"):
        from_labels(COSINE, [1200, 5])
    with pytest.raises(PlanError, match=r"sigmas must be a vector of finite numbers, got shape \(2, 1\)"):
        from_sigmas(EDM(), [[1.0], [0.5]])


def test_the_solver_may_be_a_callers_own(request: pytest.FixtureRequest) -> None:
    """A solver of the caller's that predicts noise starts just above alpha = 0 like the library's."""
    euler = SOLVERS["euler"]
    mine = replace(euler, name="mine")
    assert dpm.make_plan(mine, Flow(), 5).start.time == pytest.approx(0.999, abs=1e-4)
    own = Custom(alpha=lambda t: 1.0 - t, sigma=lambda t: t, t_min=1e-4, t_max=1.0)
    assert dpm.make_plan(mine, own, 5).start.time == pytest.approx(0.999, abs=1e-4)
