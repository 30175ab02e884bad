"""Grids that somebody measured: the published tables of Align Your Steps, and GITS on a model of your own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers.schedulers import AysSchedules

import dpmsolver as dpm
from cases import SCHEDULES
from dpmsolver.errors import PlanError
from dpmsolver.grids import AYS_SD15, AYS_SDXL, AYS_SVD, gits, gits_costs, make_grid
from dpmsolver.schedules import EDM, Discrete, Flow, LinearVP, NoiseSchedule

SD = SCHEDULES["discrete-scaled-linear"]
TABLES = {"ays-sd15": AYS_SD15, "ays-sdxl": AYS_SDXL, "ays-svd": AYS_SVD}
OWN = {"ays-sd15": SD, "ays-sdxl": SD, "ays-svd": EDM(sigma_min=0.002, sigma_max=700.0)}
THERE = {"ays-sd15": "StableDiffusion", "ays-sdxl": "StableDiffusionXL", "ays-svd": "StableDiffusionVideo"}
EVERY = pytest.mark.parametrize("grid", sorted(TABLES))


def levels(schedule: NoiseSchedule, times: Any) -> np.ndarray:
    """sigma/alpha; infinite at alpha = 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(schedule.sigma(times)) / np.asarray(schedule.alpha(times))


@EVERY
def test_ten_steps_on_the_tables_own_model_are_the_published_noise_levels(grid: str) -> None:
    """Table 3 of the paper, and diffusers' copy of it, which ends at 0: the inner knots exactly, the ends to their last figure."""
    schedule = OWN[grid]
    published = AysSchedules[f"{THERE[grid]}Sigmas"]
    assert list(TABLES[grid][:-1]) == published[:-1]
    to_clean = levels(schedule, make_grid(schedule, 10, grid, end=0.0))
    np.testing.assert_allclose(to_clean[1:-1], published[1:-1], rtol=1e-9)
    np.testing.assert_allclose(to_clean[[0, -1]], published[:1] + published[-1:], rtol=1e-4)
    to_last = levels(schedule, make_grid(schedule, 10, grid, end=schedule.t_min))
    np.testing.assert_allclose(to_last[1:-1], TABLES[grid][1:-1], rtol=1e-9)
    np.testing.assert_allclose(to_last, TABLES[grid], atol=5e-4)


@pytest.mark.parametrize("grid", ["ays-sd15", "ays-sdxl"])
def test_the_published_timesteps_are_those_of_the_table(grid: str) -> None:
    """The table's three decimals place a training step to within one."""
    times = make_grid(SD, 10, grid, end=0.0)
    theirs = AysSchedules[f"{THERE[grid]}Timesteps"]
    np.testing.assert_allclose([SD.label(t) for t in times[:-1]], theirs, atol=1.0)


@EVERY
@pytest.mark.parametrize("steps", [1, 5, 7, 20, 64])
def test_other_numbers_of_steps_interpolate_the_logarithm(grid: str, steps: int) -> None:
    """The quick-start guide: log sigma is linear in the position between the table's knots, position i/steps of the whole."""
    table = TABLES[grid]
    schedule = EDM(sigma_min=table[-1], sigma_max=table[0])
    times = make_grid(schedule, steps, grid, end=table[-1])
    for i, sigma in enumerate(times):
        knot = min(int(10 * i / steps), 9)
        part = 10 * i / steps - knot
        assert sigma == pytest.approx(table[knot] ** (1 - part) * table[knot + 1] ** part, rel=1e-9)


@EVERY
@pytest.mark.parametrize("name", ["flow", "cosine-vp-to-1"])
def test_pure_noise_and_clean_data_leave_the_published_knots_between(grid: str, name: str) -> None:
    """alpha = 0 takes the place of the first level and sigma = 0 that of the last."""
    schedule = SCHEDULES[name]
    found = levels(schedule, make_grid(schedule, 10, grid, start=schedule.t_max, end=0.0))
    assert (found[0], found[-1]) == (math.inf, 0.0)
    np.testing.assert_allclose(found[1:-1], TABLES[grid][1:-1], rtol=1e-8)


@pytest.mark.parametrize("steps", [2, 10, 300])
@EVERY
def test_no_knot_lies_below_what_the_network_was_trained_on(grid: str, steps: int) -> None:
    """A run to clean data evaluates no later than at t_min, where the table goes on (to 0.002) or is rounded (0.029 for 0.02917)."""
    times = make_grid(SD, steps, grid, end=0.0)
    assert times[-1] == 0.0
    assert times[-2] >= SD.t_min
    with pytest.raises(PlanError, match=r"no knots between t=0\.001 and t=0\.0:"):
        make_grid(SD, 2, grid, start=SD.t_min, end=0.0)


@EVERY
def test_image_to_image_takes_the_rest_of_the_table(grid: str) -> None:
    """A run that starts on the table's fifth knot has the knots after it, and encoding the same backwards."""
    table = TABLES[grid]
    schedule = OWN[grid]
    start = schedule.time(-math.log(table[4]))
    times = make_grid(schedule, 6, grid, start=start, end=0.0)
    np.testing.assert_allclose(levels(schedule, times), [*table[4:-1], 0.0], rtol=1e-9)
    np.testing.assert_array_equal(make_grid(schedule, 6, grid, start=0.0, end=start), times[::-1])


def test_a_table_stretches_to_the_ends_of_a_wider_run() -> None:
    """A run from above the table's first level to below its last: these two stand for the run's own, the others stay."""
    times = make_grid(EDM(), 10, "ays-sd15", end=0.002)
    np.testing.assert_allclose(times, [80.0, *AYS_SD15[1:-1], 0.002], rtol=1e-12)
    finer = make_grid(EDM(), 20, "ays-sd15", end=0.002)
    assert finer[1] == pytest.approx(math.sqrt(80.0 * 6.475), rel=1e-12)


def test_a_table_of_ones_own_is_a_grid() -> None:
    """`interpolated` takes any table, through make_plan too."""
    plan = dpm.make_plan("ddim", EDM(), 3, dpm.grids.interpolated, end=0.002, sigmas=[80.0, 5.0, 0.5, 0.002])
    assert [row.point.time for row in plan.rows] == pytest.approx([80.0, 5.0, 0.5])


def test_dynamic_programming_finds_the_cheapest_of_all_grids() -> None:
    """Every choice of knots by brute force: cost c[0, i] + gamma (c[i, j] + gamma (…)), for a random table of costs."""
    rng = np.random.default_rng(3)
    times = np.linspace(1.0, 0.1, 9)
    for gamma, steps in itertools.product((0.7, 1.0, 1.15), range(1, 9)):
        costs = rng.exponential(size=(9, 9))

        def total(inner: tuple[int, ...], costs: np.ndarray = costs, gamma: float = gamma) -> float:
            knots = [0, *inner, 8]
            return sum(gamma**k * costs[i, j] for k, (i, j) in enumerate(itertools.pairwise(knots)))

        best = min(itertools.combinations(range(1, 8), steps - 1), key=total)
        assert gits(times, costs, steps, gamma).tolist() == times[[0, *best, 8]].tolist()


def record(schedule: NoiseSchedule, times: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """The exact states of centred Gaussian data from x = (1, -2) times the prior's deviation, and their predicted x_0, by hand."""
    alpha, sigma = np.asarray(schedule.alpha(times)), np.asarray(schedule.sigma(times))
    states = np.sqrt(alpha**2 * variance + sigma**2)[:, None, None] * np.array([[1.0], [-2.0]])
    denoised = (alpha * variance / (alpha**2 * variance + sigma**2))[:, None, None] * states
    return states, denoised[:-1]


@pytest.mark.parametrize("schedule", [EDM(), LinearVP(), Flow(), SCHEDULES["discrete-zero-terminal"]], ids=repr)
def test_costs_of_gaussian_data_are_those_worked_out_by_hand(schedule: NoiseSchedule) -> None:
    """With q = sigma/alpha the state is w sqrt(c + q^2): a jump's error is |w| |r (c + s q)/(c + q^2) - sqrt(c + s^2)|, r = sqrt(c + q^2).

    The same for every schedule at the same noise levels, from pure noise (q infinite) included; q sqrt(…) cancels there to r.
    """
    q = np.geomspace(15.0, 0.05, 6)
    times = np.asarray(schedule.time(-np.log(q)))
    c = 0.3
    costs = gits_costs(schedule, times, *record(schedule, times, c))
    weight = (1.0 + 2.0) / 2
    for i, j in itertools.combinations(range(6), 2):
        r = math.sqrt(c + q[i] ** 2)
        by_hand = weight * abs(r * (c + q[j] * q[i]) / (c + q[i] ** 2) - math.sqrt(c + q[j] ** 2))
        assert costs[i, j] == pytest.approx(by_hand, rel=1e-7)
    assert not np.tril(costs).any()


def test_a_jump_towards_a_single_point_costs_nothing() -> None:
    """Data without variance, x_0 = 0.7: alpha 0.7 + sigma z is met by every jump, from pure noise (alpha = 0) to clean data."""
    times = make_grid(Flow(), 8, "time")
    alpha, sigma = np.asarray(Flow().alpha(times)), np.asarray(Flow().sigma(times))
    states = 0.7 * alpha[:, None, None] + sigma[:, None, None] * np.array([[1.0], [-2.0]])
    np.testing.assert_allclose(gits_costs(Flow(), times, states, np.full((8, 2, 1), 0.7)), 0.0, atol=1e-14)


@pytest.mark.parametrize("schedule", [EDM(), LinearVP()], ids=repr)
def test_five_steps_on_the_measured_grid_beat_the_usual_grids(schedule: NoiseSchedule) -> None:
    """Measured on one batch, tried on another: DDIM's distance from the converged result is less than 0.8 of the best usual grid's."""
    model = dpm.models.Mixture(
        means=[[-1.0, 0.3], [1.0, -0.2], [0.2, 0.9]], variances=[[0.01, 0.02], [0.01, 0.01], [0.05, 0.01]]
    )
    denoiser = model.denoiser(schedule)
    fine = list(dpm.iterate(denoiser, dpm.initial_noise(schedule, (64, 2)), nfe=40, solver="ddim", grid="karras"))
    times, states, denoised = ([getattr(state, name) for state in fine] for name in ("time", "x", "denoised"))
    measured = gits(times, gits_costs(schedule, times, states, denoised[:-1]), steps=5)
    noise = dpm.initial_noise(schedule, (256, 2), seed=9)
    target = dpm.sample(denoiser, noise, nfe=200, solver="dpm++2m", grid="logsnr")

    def error(grid: Any) -> float:
        return float(np.sqrt(((dpm.sample(denoiser, noise, nfe=5, solver="ddim", grid=grid) - target) ** 2).mean()))

    assert error(measured) < 0.8 * min(error(grid) for grid in ("karras", "logsnr", "time"))


TIMES = np.array([1.0, 0.5, 0.1])
STATES, DENOISED = np.ones((3, 4, 2)), np.ones((2, 4, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_grid(Flow(), 4, "ays-sd15", 1.0, 0.99),
            "from sigma/alpha = 14.615 to 0.029 has no knots between",
        ),
        (lambda: make_grid(EDM(), 4, dpm.grids.interpolated, sigmas=[1.0, 2.0]), r"strictly falling.*got \[1.0, 2.0\]"),
        (lambda: make_grid(EDM(), 4, dpm.grids.interpolated, sigmas=[1.0, 0.0]), "positive, strictly falling"),
        (lambda: make_grid(EDM(), 4, dpm.grids.interpolated, sigmas=[1.0]), "at least two"),
        (lambda: gits_costs(LinearVP(), TIMES[::-1], STATES, DENOISED), "times must fall, as in sampling"),
        (lambda: gits_costs(LinearVP(), 2 * TIMES, STATES, DENOISED), "time 2.0 is outside"),
        (
            lambda: gits_costs(LinearVP(), TIMES, STATES, STATES),
            r"denoised \(2, B, …\), got \(3, 4, 2\) and \(3, 4, 2\)",
        ),
        (lambda: gits_costs(LinearVP(), TIMES, STATES[:, 0, 0], DENOISED), r"states \(3, B, …\).*got \(3,\)"),
        (lambda: gits_costs(LinearVP(), TIMES, STATES * math.nan, DENOISED), "must be finite"),
        (lambda: gits(TIMES, np.ones((2, 2)), 2), r"got \(3,\) and \(2, 2\)"),
        (lambda: gits(TIMES, -np.ones((3, 3)), 2), "finite and >= 0 above the diagonal"),
        (lambda: gits(TIMES, np.full((3, 3), math.nan), 2), "finite and >= 0 above the diagonal"),
        (lambda: gits(TIMES, np.ones((3, 3)), 3), "an integer from 1 to 2, the steps of the fine grid, got 3"),
        (lambda: gits(TIMES, np.ones((3, 3)), 0), "an integer from 1 to 2"),
        (lambda: gits(TIMES, np.ones((3, 3)), 1.5), "an integer from 1 to 2"),  # type: ignore[arg-type]
        (lambda: gits(TIMES, np.ones((3, 3)), 2, gamma=0.0), "gamma must be positive, got 0.0"),
    ],
)
def test_what_cannot_be_measured_or_fitted_is_refused_with_its_cause(make: Callable[[], Any], message: str) -> None:
    """Each wrong table, recording or request raises a PlanError that names what was given and what is accepted."""
    with pytest.raises(PlanError, match=message):
        make()


def test_the_published_levels_are_inside_their_models_schedule_up_to_the_last_figure() -> None:
    """The tables end where Stable Diffusion's betas do: 14.6146 and 0.02917, printed as 14.615 and 0.029."""
    assert isinstance(SD, Discrete)
    assert levels(SD, [SD.t_max, SD.t_min]) == pytest.approx([AYS_SD15[0], AYS_SD15[-1]], abs=5e-4)
