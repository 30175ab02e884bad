"""Grids: strictly monotone from start to end for every schedule, and equal to their published formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from cases import SCHEDULES, pinned_grids
from dpmsolver.errors import PlanError
from dpmsolver.grids import AYS_SD15, AYS_SDXL, AYS_SVD, GRIDS, from_labels, from_sigmas, make_grid
from dpmsolver.schedules import EDM, Discrete, Flow, LinearVP, NoiseSchedule

LOGSNR_GRIDS = ("logsnr", "exponential", "polyexponential", "karras", "sigma-polynomial", "sigma")
AYS = {"ays-sd15": AYS_SD15, "ays-sdxl": AYS_SDXL, "ays-svd": AYS_SVD}
OF_COMFYUI = ("simple", "normal", "sgm-uniform")  # whose values are tested in integrations/test_comfyui.py
FROM_PURE_NOISE = [name for name, s in SCHEDULES.items() if s.half_log_snr(s.t_max) == -math.inf]


def check(times: np.ndarray, steps: int, start: float, end: float) -> None:
    """What every grid promises: its length, its exact ends, and strict monotony from start to end."""
    assert times.dtype == np.float64
    assert times.shape == (steps + 1,)
    assert (times[0], times[-1]) == (start, end)
    assert (np.diff(times) * np.sign(end - start) > 0).all()


def refusal(schedule: NoiseSchedule, grid: str, steps: int, late: float, early: float) -> str | None:
    """What the message says where a grid does not serve such a run; None where it must."""
    if grid in ("shifted", "dynamic-shift") and late > 1:
        return r"times in \[0, 1\]"
    if grid in ("linspace", "leading") and not isinstance(schedule, Discrete):
        return "needs a Discrete schedule"
    if grid in OF_COMFYUI and not isinstance(schedule, (Discrete, Flow)):
        return "needs a Discrete schedule or a Flow"
    if grid == "leading" and late != schedule.t_max:
        return "chooses its own start"
    if grid == "trailing" and early >= late / steps * (1 - 1e-12):
        return "room for"
    if grid in AYS and steps > 1 and math.isinf(schedule.half_log_snr(late)):
        above = schedule.half_log_snr(early) <= -math.log(AYS[grid][0])
        return "no knots between" if above else None
    return None


@settings(deadline=None, max_examples=400)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    grid=st.sampled_from(sorted(GRIDS)),
    steps=st.integers(1, 60),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    rising=st.booleans(),
)
def test_every_grid_goes_strictly_from_start_to_end(
    name: str, grid: str, steps: int, fractions: tuple[float, float], rising: bool
) -> None:
    """Any schedule, grid, number of steps and pair of times, falling or rising; pure noise (alpha = 0) included."""
    schedule = SCHEDULES[name]
    late, early = (schedule.t_min + f * (schedule.t_max - schedule.t_min) for f in sorted(fractions, reverse=True))
    assume(late - early > 0.02 * schedule.t_max)
    # Float64 times cannot resolve a log-SNR that is nearly -inf: either the limit itself, or a little away from it.
    late = schedule.t_max if late > 0.9999 * schedule.t_max else late
    start, end = (early, late) if rising else (late, early)
    message = refusal(schedule, grid, steps, late, early)
    if message is not None:
        with pytest.raises(PlanError, match=message):
            make_grid(schedule, steps, grid, start, end)
        return
    assume(grid not in OF_COMFYUI)  # which end below the first training step, see below
    assume(grid != "leading")  # the one grid with a start of its own, see test_grids_diffusers.py
    assume(grid != "linspace" or schedule.label(late) - schedule.label(early) > steps)
    check(make_grid(schedule, steps, grid, start, end), steps, start, end)


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    grid=st.sampled_from([*sorted(GRIDS), None]),
    steps=st.integers(1, 30),
)
def test_every_grid_covers_the_default_run(name: str, grid: str | None, steps: int) -> None:
    """Without start and end: from `default_start` to `default_end`, which is sigma = 0 for EDM and flow."""
    schedule = SCHEDULES[name]
    assume(grid is None or grid in pinned_grids(schedule, 0))
    # N training steps have N - 1 steps between them that end at 1/N, all that "trailing" and "linspace" can use.
    counted = grid in ("trailing", "linspace") and isinstance(schedule, Discrete)
    assume(not (counted and steps >= schedule.num_steps))
    check(make_grid(schedule, steps, grid), steps, schedule.default_start(), schedule.default_end(steps))


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    grid=st.sampled_from(LOGSNR_GRIDS),
    steps=st.integers(1, 40),
    fraction=st.floats(0.5, 1.0),
    rising=st.booleans(),
)
def test_logsnr_grids_take_one_step_to_each_limit(
    name: str, grid: str, steps: int, fraction: float, rising: bool
) -> None:
    """sigma = 0 and alpha = 0 lie infinitely far in log-SNR: one step goes there, and the grid covers the finite range."""
    schedule = SCHEDULES[name]
    late = schedule.t_max if fraction > 0.75 else fraction * schedule.t_max
    start, end = (0.0, late) if rising else (late, 0.0)
    times = make_grid(schedule, steps, grid, start, end)
    check(times, steps, start, end)
    lam = np.sort(schedule.half_log_snr(times))
    limits = 1 + (late == schedule.t_max and name in FROM_PURE_NOISE)
    assert np.isinf(lam).sum() == limits
    inner = times[1:-1] if limits == 2 else times[1:] if rising else times[:-1]
    if len(inner) > 1:
        inside = make_grid(schedule, len(inner) - 1, grid, inner[0], inner[-1])
        np.testing.assert_allclose(inner, inside, rtol=1e-12)
        assert min(inner) == schedule.last_time(steps)


@pytest.mark.parametrize("name", FROM_PURE_NOISE)
@pytest.mark.parametrize("rising", [False, True])
def test_default_grid_is_uniform_in_time_where_pure_noise_is_an_end(name: str, rising: bool) -> None:
    """A schedule with alpha(t_max) = 0 has no uniform log-SNR grid: time is the default, in both directions."""
    schedule = SCHEDULES[name]
    ends = (schedule.t_min, schedule.t_max) if rising else (schedule.t_max, schedule.t_min)
    np.testing.assert_array_equal(make_grid(schedule, 7, None, *ends), np.linspace(*ends, 8))


def test_default_grid_is_uniform_in_log_snr_elsewhere() -> None:
    """DPM-Solver's own grid, and the same in both directions."""
    schedule = LinearVP()
    np.testing.assert_array_equal(make_grid(schedule, 9), make_grid(schedule, 9, "logsnr"))
    there, back = make_grid(schedule, 9, start=1.0, end=0.01), make_grid(schedule, 9, start=0.01, end=1.0)
    np.testing.assert_allclose(there, back[::-1], rtol=1e-12)


@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_a_rising_grid_is_the_falling_one_read_backwards(grid: str) -> None:
    """Encoding retraces the times of sampling, so that one undoes the other (beta with a = b, and every other grid)."""
    counted = grid in ("linspace", "leading", *OF_COMFYUI)
    schedule: NoiseSchedule = SCHEDULES["discrete-linear-1000"] if counted else LinearVP()
    late, early = 1.0 if grid == "leading" else 0.9, 0.0 if grid in OF_COMFYUI else 0.01
    there = make_grid(schedule, 6, grid, start=late, end=early)
    np.testing.assert_allclose(make_grid(schedule, 6, grid, start=early, end=late), there[::-1], rtol=1e-12)


@pytest.mark.parametrize("grid", OF_COMFYUI)
@pytest.mark.parametrize("name", ["discrete-linear-1000", "discrete-linear-10", "flow", "flow-shift-3"])
def test_grids_of_comfyui_have_a_training_step_above_their_end(name: str, grid: str) -> None:
    """They run to clean data from any start; to an end that a step of theirs would pass, or in too many steps, they have no room."""
    schedule = SCHEDULES[name]
    for steps, late in ((1, 1.0), (5, 1.0), (5, 0.6), (3, 0.8)):
        check(make_grid(schedule, steps, grid, late, 0.0), steps, late, 0.0)
    with pytest.raises(PlanError, match=f"grid '{grid}' .*has no room for 3 steps from t=1 to t=0.9.*take fewer"):
        make_grid(schedule, 3, grid, 1.0, 0.9)
    if grid == "simple":
        with pytest.raises(PlanError, match="has no room for 2000 steps"):
            make_grid(schedule, 2000, grid, 1.0, 0.0)
    with pytest.raises(PlanError, match="counts training steps and needs a Discrete schedule or a Flow, not EDM"):
        make_grid(EDM(), 3, grid)


def test_kl_optimal_is_even_in_the_arctangent() -> None:
    times = make_grid(EDM(), 6, "kl-optimal", 80.0, 0.01)
    np.testing.assert_allclose(np.diff(np.arctan(times)), (math.atan(0.01) - math.atan(80.0)) / 6, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20])
def test_linear_quadratic_is_even_and_then_a_parabola(steps: int) -> None:
    """Half of the steps, rounded down, go `threshold` of the way; the others' second differences are equal, and the slope goes on."""
    way = 1.0 - make_grid(Flow(), steps, "linear-quadratic", 1.0, 0.0, threshold=0.03)
    even = steps // 2
    if even:
        np.testing.assert_allclose(np.diff(way)[:even], 0.03 / even, rtol=1e-12)
    bends = np.diff(way[even:], 2)
    np.testing.assert_allclose(bends, bends[:1].repeat(len(bends)), rtol=1e-9)
    if even and len(bends):
        assert np.diff(way)[even] - bends[0] / 2 == pytest.approx(0.03 / even, rel=1e-9)
    with pytest.raises(PlanError, match="threshold must be above 0 and small enough"):
        make_grid(Flow(), steps, "linear-quadratic", 1.0, 0.0, threshold=1.0)


@pytest.mark.parametrize("name", ["linear-vp", "edm", "discrete-linear-1000", "custom-vp"])
@pytest.mark.parametrize("grid", ["logsnr", "exponential"])
def test_logsnr_has_equal_steps_of_log_snr(name: str, grid: str) -> None:
    """DPM-Solver, section 3.4: lambda_i = lambda_T + i/M (lambda_0 - lambda_T)."""
    schedule = SCHEDULES[name]
    times = make_grid(schedule, 12, grid, schedule.t_max, schedule.t_min)
    lam = [math.log(schedule.alpha(t) / schedule.sigma(t)) for t in times]
    expected = [lam[0] + i / 12 * (lam[-1] - lam[0]) for i in range(13)]
    assert lam == pytest.approx(expected, abs=1e-9)


def test_exponential_is_the_geometric_sequence_of_sigmas() -> None:
    """k-diffusion's get_sigmas_exponential on a VE schedule: sigmas with a constant ratio."""
    times = make_grid(EDM(), 10, "exponential", 80.0, 0.002)
    np.testing.assert_allclose(times, np.geomspace(80.0, 0.002, 11), rtol=1e-12)


@pytest.mark.parametrize("rho", [7.0, 3.0, 1.0])
def test_karras_is_edms_equation_5(rho: float) -> None:
    """sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho for i < N, and sigma_N = 0."""
    n, low, high = 18, 0.002 ** (1 / rho), 80.0 ** (1 / rho)
    expected = [(high + i / (n - 1) * (low - high)) ** rho for i in range(n)] + [0.0]
    options = {} if rho == 7.0 else {"rho": rho}
    np.testing.assert_allclose(make_grid(EDM(), n, "karras", **options), expected, rtol=1e-11)


def test_karras_means_sigma_over_alpha_on_any_schedule() -> None:
    """On a VP schedule EDM's sigma is sigma/alpha, the noise level of the rescaled state."""
    schedule = LinearVP()
    times = make_grid(schedule, 8, "karras", 1.0, 1e-3)
    levels = schedule.sigma(times) / schedule.alpha(times)
    roots = levels ** (1 / 7)
    np.testing.assert_allclose(np.diff(roots), (roots[-1] - roots[0]) / 8, rtol=1e-9)


def test_sigma_grids_are_powers_of_the_noise_level() -> None:
    """sigma is uniform in sigma/alpha; sigma-polynomial is karras under its general name, with the same rho."""
    schedule = LinearVP()
    times = make_grid(schedule, 8, "sigma", 1.0, 1e-3)
    levels = schedule.sigma(times) / schedule.alpha(times)
    np.testing.assert_allclose(levels, np.linspace(levels[0], levels[-1], 9), rtol=1e-9)
    np.testing.assert_array_equal(make_grid(EDM(), 9, "sigma"), make_grid(EDM(), 9, "sigma-polynomial", rho=1.0))
    np.testing.assert_array_equal(make_grid(EDM(), 9, "karras"), make_grid(EDM(), 9, "sigma-polynomial"))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_rectified_has_equal_steps_on_the_straight_path(name: str) -> None:
    """sigma/(alpha + sigma) falls by the same amount in every step, from any start to the first time and to clean data."""
    schedule = SCHEDULES[name]
    for end in (schedule.t_min, 0.0):
        times = make_grid(schedule, 5, "rectified", schedule.t_max, end)
        places = [schedule.sigma(t) / (schedule.alpha(t) + schedule.sigma(t)) for t in times]
        np.testing.assert_allclose(np.diff(places), (places[-1] - places[0]) / 5, rtol=1e-7)


def test_rectified_is_uniform_in_time_on_a_flow() -> None:
    np.testing.assert_allclose(make_grid(Flow(), 7, "rectified"), make_grid(Flow(), 7, "time"), atol=1e-12)


def test_rectified_leaves_one_step_below_the_first_time() -> None:
    """Many steps to clean data: those that would lie below the schedule's first time end there, and one is left."""
    schedule = SCHEDULES["discrete-linear-1000"]
    start = 4 * schedule.t_min
    times = make_grid(schedule, 8, "rectified", start, 0.0)
    check(times, 8, start, 0.0)
    assert times[-2] == schedule.t_min
    np.testing.assert_allclose(make_grid(schedule, 8, "rectified", 0.0, start), times[::-1], rtol=1e-9)


@pytest.mark.parametrize("rho", [0.5, 1.0, 2.0])
def test_polyexponential_is_k_diffusions_formula(rho: float) -> None:
    """sigma_i = exp((1 - i/(n-1))^rho (log sigma_max - log sigma_min) + log sigma_min) for i < n, and sigma_n = 0."""
    n = 12
    ramp = [(1 - i / (n - 1)) ** rho for i in range(n)]
    expected = [math.exp(r * math.log(80.0 / 0.002) + math.log(0.002)) for r in ramp] + [0.0]
    np.testing.assert_allclose(make_grid(EDM(), n, "polyexponential", rho=rho), expected, rtol=1e-10)


def test_cosine_is_flow_matchings_with_time_turned_round() -> None:
    """CosyVoice: tau_i = 1 - cos(pi/2 i/N) from noise to data, where ours is t = 1 - tau; between other ends in proportion."""
    tau = np.array([1 - math.cos(0.5 * math.pi * i / 9) for i in range(10)])
    np.testing.assert_allclose(make_grid(Flow(), 9, "cosine"), 1 - tau, atol=1e-15)
    np.testing.assert_allclose(make_grid(LinearVP(), 9, "cosine", 0.9, 0.1), 0.9 - 0.8 * tau, rtol=1e-12)


def test_half_a_cosine_is_the_beta_grid_with_one_half() -> None:
    """The quantiles of the arcsine distribution, Beta(1/2, 1/2), are (1 + cos(pi i/N))/2."""
    half = [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(9)]
    np.testing.assert_allclose(make_grid(Flow(), 8, "beta", a=0.5, b=0.5), half, atol=1e-12)


def test_time_is_uniform() -> None:
    """t_i = t_0 + i/N (t_N - t_0)."""
    expected = [0.9 + i / 8 * (0.1 - 0.9) for i in range(9)]
    np.testing.assert_allclose(make_grid(LinearVP(), 8, "time", 0.9, 0.1), expected, rtol=1e-14)


def test_quadratic_is_uniform_in_the_square_root() -> None:
    """DDIM, appendix D.3: t_i = (c i)^2, between any two ends."""
    expected = [(0.9 + i / 5 * (0.2 - 0.9)) ** 2 for i in range(6)]
    np.testing.assert_allclose(make_grid(LinearVP(), 5, "quadratic", 0.81, 0.04), expected, rtol=1e-12)


def test_trailing_is_lins_formula() -> None:
    """Lin et al. 2024, table 2: the labels N - i N/S, without the rounding; here 1000 steps in 10 and in 7."""
    schedule = SCHEDULES["discrete-linear-1000"]
    for steps in (10, 7):
        labels = [schedule.label(t) for t in make_grid(schedule, steps, "trailing")]
        expected = [1000 - i * 1000 / steps - 1 for i in range(steps)] + [0.0]
        assert labels == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (1.0, 1.0), (0.8, 2.0)])
def test_beta_takes_the_quantiles_of_scipys_beta_distribution(a: float, b: float) -> None:
    """t_i = t_N + (t_0 - t_N) ppf(1 - i/N), which the incomplete beta function inverts."""
    times = make_grid(LinearVP(), 9, "beta", 0.9, 0.1, **({} if a == b == 0.6 else {"a": a, "b": b}))
    by_hand = [0.1 + 0.8 * stats.beta(a, b).ppf(1 - i / 9) for i in range(10)]
    np.testing.assert_allclose(times, by_hand, rtol=1e-12)
    np.testing.assert_allclose(special.betainc(a, b, (times - 0.1) / 0.8), 1 - np.arange(10) / 9, atol=1e-9)


@pytest.mark.parametrize("shift", [3.0, 1.0, 0.5])
def test_shifted_is_the_flow_shift_of_a_uniform_grid(shift: float) -> None:
    """Esser et al. 2024, eq. 23: t = s u / (1 + (s - 1) u) with u uniform between the ends' own u."""
    u = np.linspace(1.0, 0.0, 11)
    expected = shift * u / (1 + (shift - 1) * u)
    np.testing.assert_allclose(make_grid(Flow(), 10, "shifted", shift=shift), expected, rtol=1e-12)
    times = make_grid(LinearVP(), 5, "shifted", 0.9, 0.2, shift=shift)
    back = times / (shift - (shift - 1) * times)
    np.testing.assert_allclose(np.diff(back, 2), 0.0, atol=1e-14)


def test_shifted_grid_on_flow_is_the_uniform_grid_on_shifted_flow() -> None:
    """The shift may live in the schedule or in the grid: the noise levels are the same."""
    on_grid = Flow().sigma(make_grid(Flow(), 8, "shifted", shift=3.0))
    in_schedule = Flow(shift=3.0).sigma(make_grid(Flow(shift=3.0), 8, "time"))
    np.testing.assert_allclose(on_grid, in_schedule, rtol=1e-12)


def test_edm_ends_at_sigma_zero_after_sigma_min() -> None:
    """The last step of a default EDM run goes from sigma_min to exactly 0."""
    for grid in LOGSNR_GRIDS:
        assert make_grid(EDM(), 10, grid)[-2:].tolist() == [0.002, 0.0]


@pytest.mark.parametrize("name", FROM_PURE_NOISE)
@pytest.mark.parametrize("grid", LOGSNR_GRIDS)
def test_pure_noise_is_left_by_a_hundredth_of_a_uniform_step(name: str, grid: str) -> None:
    """From alpha = 0 the first step goes just to where the log-SNR is finite."""
    schedule = SCHEDULES[name]
    times = make_grid(schedule, 10, grid)
    assert times[0] == schedule.t_max
    assert times[0] - times[1] == pytest.approx(0.01 * (schedule.t_max - schedule.t_min) / 10, rel=1e-9)


def test_arrays_and_functions_are_grids() -> None:
    """An array of steps + 1 times is taken as it is and copied; a function gets the ends and its options."""
    given = np.array([1.0, 0.5, 0.2])
    times = make_grid(LinearVP(), 2, given)
    np.testing.assert_array_equal(times, given)
    times[0] = 0.7
    assert given[0] == 1.0
    assert make_grid(LinearVP(), 2, [1, 0.5, 0.2]).tolist() == [1.0, 0.5, 0.2]

    def bent(schedule: NoiseSchedule, steps: int, start: float, end: float, power: float = 2.0) -> np.ndarray:
        return end + (start - end) * np.linspace(1, 0, steps + 1) ** power

    assert make_grid(LinearVP(), 2, bent, 1.0, 0.5, power=1.0).tolist() == [1.0, 0.75, 0.5]


def test_from_sigmas_and_from_labels_speak_the_language_of_other_libraries() -> None:
    """k-diffusion's sigmas mean sigma/alpha; diffusers' integer timesteps are labels."""
    schedule = SCHEDULES["discrete-linear-1000"]
    sigmas = np.array([14.0, 2.0, 0.3, 0.0])
    times = from_sigmas(schedule, sigmas)
    np.testing.assert_allclose(schedule.sigma(times) / schedule.alpha(times), sigmas, rtol=1e-9)
    assert times[-1] == 0.0
    assert [schedule.label(t) for t in from_labels(schedule, [999, 500, 0])] == [999.0, 500.0, 0.0]


VP = LinearVP()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_grid(VP, 4, "logsrn"),
            "unknown grid 'logsrn' .did you mean 'logsnr'.*all of them: dpm.grids.GRIDS",
        ),
        (lambda: make_grid(VP, 4, "kerras"), "did you mean 'karras'"),
        (lambda: make_grid(VP, 2, [1.0, 0.5, 0.5]), "strictly: 0.5 is followed by 0.5 at index 1"),
        (lambda: make_grid(VP, 3, [1.0, 0.4, 0.5, 0.1]), "strictly: 0.4 is followed by 0.5 at index 1"),
        (lambda: make_grid(VP, 2, [0.5, 0.2, 0.5]), "strictly: 0.5 is followed by 0.2 at index 0"),
        (lambda: make_grid(VP, 2, [1.0, math.nan, 0.1]), "time nan is outside this schedule"),
        (lambda: make_grid(VP, 2, [1.5, 0.5, 0.1]), "time 1.5 is outside this schedule: accepted are 1e-05 <= t <= 1"),
        (lambda: make_grid(VP, 2, [1.0, 0.5, 1e-6]), "time 1e-06 is outside"),
        (lambda: make_grid(VP, 4, [1.0, 0.5, 0.1]), "4 steps need 5 times, the grid has 3"),
        (lambda: make_grid(VP, 2, [[1.0, 0.5, 0.1]]), r"a grid is a vector of at least two times, got shape \(1, 3\)"),
        (lambda: make_grid(VP, 0, [1.0]), "a vector of at least two times"),
        (lambda: make_grid(VP, 2, [1.0, 0.5, 0.1], start=1.0), "drop start, end and grid options"),
        (lambda: make_grid(VP, 2, [1.0, 0.5, 0.1], end=0.1), "drop start, end and grid options"),
        (lambda: make_grid(VP, 2, [1.0, 0.5, 0.1], rho=7.0), "drop start, end and grid options"),
        (lambda: make_grid(VP, 4, start=1.2), "start=1.2 is outside this schedule"),
        (lambda: make_grid(VP, 4, end=math.nan), "end=nan is outside"),
        (lambda: make_grid(VP, 4, start=0.5, end=0.5), "two different times, got start=0.5 and end=0.5"),
        (lambda: make_grid(VP, 4, "karras", rho=0.0), "rho must be positive and finite, got 0.0"),
        (lambda: make_grid(VP, 4, "polyexponential", rho=-1.0), "rho must be positive and finite, got -1.0"),
        (lambda: make_grid(VP, 4, "beta", a=-1.0), "a and b must be positive, got a=-1.0, b=0.6"),
        (lambda: make_grid(VP, 4, "shifted", shift=0.0), "shift > 0.*got shift=0.0"),
        (lambda: make_grid(EDM(), 4, "shifted"), r"times in \[0, 1\], got shift=3.0, start=80.0"),
        (lambda: make_grid(VP, 4, "trailing", 0.9, 0.5), "room for 1 steps, not 4"),
        (lambda: make_grid(VP, 2, lambda *_: np.array([1.0, 0.1])), "2 steps need 3 times, the grid has 2"),
    ],
)
def test_what_is_no_grid_is_refused_with_its_cause(make: Callable[[], Any], message: str) -> None:
    """Each wrong grid raises a PlanError that names the argument, what was given and what is accepted."""
    with pytest.raises(PlanError, match=message):
        make()


def test_trailing_says_how_many_steps_it_has_room_for() -> None:
    """Steps even towards 0 pass an end above 0 when they are many: the message names the most there can be, and that many can."""
    schedule = SCHEDULES["discrete-linear-10"]
    with pytest.raises(PlanError, match="room for 9 steps, not 10"):
        make_grid(schedule, 10, "trailing", end=0.1)
    check(make_grid(schedule, 9, "trailing", end=0.1), 9, 1.0, 0.1)
