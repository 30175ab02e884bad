"""Noise schedules against 50 digits, their inverses over the whole range, and what they refuse."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import SCHEDULES
from dpmsolver.schedules import (
    EDM,
    CosineVP,
    Custom,
    Discrete,
    Flow,
    LinearVP,
    NoiseSchedule,
    SubVP,
    scaled_linear_betas,
)

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
DISCRETE = {name: s for name, s in SCHEDULES.items() if isinstance(s, Discrete)}


def exact_log_alphas(schedule: Discrete) -> list[mpmath.mpf]:
    """log alpha at the knots from what the schedule was given."""
    if schedule.betas is not None:
        factors = [1 - mpmath.mpf(float(b)) for b in np.asarray(schedule.betas)]
        products = [factors[0]]
        for factor in factors[1:]:
            products.append(products[-1] * factor)
    else:
        products = [mpmath.mpf(float(p)) for p in np.asarray(schedule.alphas_cumprod)]
    return [mpmath.log(p) / 2 if p > 0 else mpmath.mpf("-inf") for p in products]


def exact_discrete_alpha(schedule: Discrete, t: mpmath.mpf) -> mpmath.mpf:
    """log alpha linear in t between the knots t_n = (n + 1)/N; alpha itself linear on a last interval that ends in 0."""
    logs = exact_log_alphas(schedule)
    place = t * len(logs) - 1
    n = min(max(int(mpmath.floor(place)), 0), len(logs) - 2)
    part = place - n
    if not mpmath.isfinite(logs[n + 1]):
        return mpmath.exp(logs[n]) * (1 - part)
    return mpmath.exp(logs[n] + part * (logs[n + 1] - logs[n]))


def exact(schedule: NoiseSchedule, time: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """alpha and sigma by the published formulas, to the working precision of mpmath."""
    t, one = mpmath.mpf(time), mpmath.mpf(1)
    if isinstance(schedule, LinearVP):
        b0, b1 = mpmath.mpf(schedule.beta_min), mpmath.mpf(schedule.beta_max)
        alpha = mpmath.exp(-t * t * (b1 - b0) / 4 - t * b0 / 2)
        return alpha, 1 - alpha**2 if isinstance(schedule, SubVP) else mpmath.sqrt(1 - alpha**2)
    if isinstance(schedule, CosineVP):
        s = mpmath.mpf(schedule.s)
        alpha = mpmath.cos(mpmath.pi / 2 * (t + s) / (1 + s)) / mpmath.cos(mpmath.pi / 2 * s / (1 + s))
        return alpha, mpmath.sqrt(1 - alpha**2)
    if isinstance(schedule, EDM):
        return one, t
    if isinstance(schedule, Flow):
        sigma = schedule.shift * t / (1 + (schedule.shift - 1) * t)
        return 1 - sigma, sigma
    if isinstance(schedule, Discrete):
        alpha = exact_discrete_alpha(schedule, t)
        return alpha, mpmath.sqrt(1 - alpha**2)
    raise NotImplementedError(type(schedule))


def places(schedule: NoiseSchedule) -> list[float]:
    """Times over the whole range, dense towards both ends, the ends included."""
    low, high = schedule.t_min, schedule.t_max
    near = np.geomspace(low, high, 9)
    return sorted({low, high, *near[1:-1], *(high - (high - low) * np.geomspace(1e-6, 0.9, 9))})


@pytest.mark.parametrize(
    "schedule",
    [s for s in SCHEDULES.values() if not isinstance(s, Custom)],
    ids=[n for n, s in SCHEDULES.items() if not isinstance(s, Custom)],
)
def test_alpha_sigma_and_half_log_snr_hold_against_fifty_digits(schedule: NoiseSchedule) -> None:
    """At both ends and between: alpha and sigma to 1e-12 of themselves, lambda = log(alpha/sigma) to 1e-10."""
    with mpmath.workdps(50):
        for t in places(schedule):
            alpha, sigma = exact(schedule, t)
            if abs(alpha) < 1e-40:
                assert schedule.alpha(t) == 0.0
                assert schedule.sigma(t) == 1.0
                assert schedule.half_log_snr(t) == -math.inf
                continue
            assert abs(schedule.alpha(t) / alpha - 1) < 1e-12, f"alpha({t})"
            assert abs(schedule.sigma(t) / sigma - 1) < 1e-12, f"sigma({t})"
            assert abs(schedule.half_log_snr(t) - mpmath.log(alpha / sigma)) < 1e-10, f"half_log_snr({t})"


def test_half_log_snr_keeps_its_digits_where_float32_loses_them() -> None:
    """At t = 1e-5 the log-SNR of float32 code is off by more than 1e-3, ours by less than 1e-10."""
    t = np.float32(1e-5)
    log_alpha = np.float32(-0.25) * t * t * np.float32(19.9) - np.float32(0.5) * t * np.float32(0.1)
    naive = log_alpha - np.float32(0.5) * np.log(np.float32(1.0) - np.exp(np.float32(2.0) * log_alpha))
    with mpmath.workdps(50):
        alpha, sigma = exact(LinearVP(), 1e-5)
        truth = float(mpmath.log(alpha / sigma))
    assert abs(float(naive) - truth) > 1e-3
    assert abs(LinearVP().half_log_snr(1e-5) - truth) < 1e-10


@ALL
def test_time_inverts_half_log_snr_over_the_whole_range(schedule: NoiseSchedule) -> None:
    """time(half_log_snr(t)) = t to 1e-10 relative, in one call for an array and one by one."""
    times = np.array(places(schedule))
    np.testing.assert_allclose(schedule.time(schedule.half_log_snr(times)), times, rtol=1e-10)
    for t in times[:: len(times) // 3]:
        assert schedule.time(schedule.half_log_snr(t)) == pytest.approx(t, rel=1e-10)


@settings(deadline=None, max_examples=150)
@given(name=st.sampled_from(sorted(SCHEDULES)), part=st.floats(0, 1), logarithmic=st.booleans())
def test_time_inverts_half_log_snr_anywhere(name: str, part: float, logarithmic: bool) -> None:
    """The same round trip at times that nobody picked."""
    schedule = SCHEDULES[name]
    low, high = schedule.t_min, schedule.t_max
    t = low * (high / low) ** part if logarithmic else low + part * (high - low)
    t = min(max(t, low), high)
    assert schedule.time(schedule.half_log_snr(t)) == pytest.approx(t, rel=1e-10)


@ALL
def test_half_log_snr_falls_strictly_and_is_the_log_of_the_ratio(schedule: NoiseSchedule) -> None:
    """lambda falls with t, and e^lambda sigma = alpha."""
    times = np.array(places(schedule))
    lam = schedule.half_log_snr(times)
    assert (np.diff(lam) < 0).all()
    np.testing.assert_allclose(np.exp(lam) * schedule.sigma(times), schedule.alpha(times), rtol=1e-12)


@pytest.mark.parametrize("name", [n for n in SCHEDULES if "vp" in n or "discrete" in n])
def test_variance_is_preserved(name: str) -> None:
    """alpha^2 + sigma^2 = 1 for every VP process; the sub-VP one stays below; flow has alpha + sigma = 1."""
    schedule = SCHEDULES[name]
    times = np.array(places(schedule))
    if name == "sub-vp":
        np.testing.assert_allclose(schedule.alpha(times) ** 2 + schedule.sigma(times), 1.0, rtol=1e-14)
        assert (schedule.alpha(times) ** 2 + schedule.sigma(times) ** 2 < 1).all()
    else:
        np.testing.assert_allclose(schedule.alpha(times) ** 2 + schedule.sigma(times) ** 2, 1.0, rtol=1e-14)


def test_ve_and_flow_have_their_own_invariants() -> None:
    """EDM: alpha = 1, sigma = t. Flow: alpha + sigma = 1, shift or not."""
    times = np.array(places(EDM()))
    assert (EDM().alpha(times) == 1.0).all()
    np.testing.assert_allclose(EDM().sigma(times), times, rtol=1e-15)
    for schedule in (Flow(), Flow(shift=3.0)):
        times = np.array(places(schedule))
        np.testing.assert_allclose(schedule.alpha(times) + schedule.sigma(times), 1.0, rtol=1e-14)


@ALL
def test_time_zero_is_clean_data(schedule: NoiseSchedule) -> None:
    """alpha = 1, sigma = 0, lambda = inf at t = 0, also inside an array; and back."""
    assert (schedule.alpha(0.0), schedule.sigma(0.0), schedule.half_log_snr(0.0)) == (1.0, 0.0, math.inf)
    assert schedule.time(math.inf) == 0.0
    mixed = np.array([schedule.t_max, 0.0])
    assert schedule.sigma(mixed)[1] == 0.0
    back = schedule.time(schedule.half_log_snr(mixed))
    assert back[0] == pytest.approx(schedule.t_max, rel=1e-10)
    assert back[1] == 0.0


@ALL
def test_times_outside_are_refused_and_the_range_is_named(schedule: NoiseSchedule) -> None:
    """Below t_min, above t_max, negative and NaN: a ValueError with the time and the accepted range."""
    accepted = f"accepted are {schedule.t_min:.6g} <= t <= {schedule.t_max:.6g} and 0"
    for t in (0.5 * schedule.t_min, 1.01 * schedule.t_max, -schedule.t_max, math.nan, math.inf):
        for function in (schedule.alpha, schedule.sigma, schedule.half_log_snr):
            for times in (t, np.array([schedule.t_max, t])):
                with pytest.raises(ValueError, match=f"time {t}") as error:
                    function(times)
                assert accepted in str(error.value)


@ALL
def test_half_log_snr_outside_is_refused_and_the_range_is_named(schedule: NoiseSchedule) -> None:
    """A log-SNR that the schedule does not reach is an error, not the nearest time."""
    top = schedule.half_log_snr(schedule.t_min)
    bottom = schedule.half_log_snr(schedule.t_max)
    outside = [top + 0.1, math.nan]
    if math.isfinite(bottom):
        outside += [bottom - 0.1, -math.inf]
    else:
        assert schedule.time(-math.inf) == schedule.t_max
    for lam in outside:
        with pytest.raises(ValueError, match=f"half_log_snr {lam} is outside") as error:
            schedule.time(lam)
        assert f"from {bottom:.6g} to {top:.6g}" in str(error.value)


@ALL
def test_rounding_at_the_ends_is_forgiven(schedule: NoiseSchedule) -> None:
    """A time that lies outside by an ulp counts as the end."""
    assert schedule.alpha(np.nextafter(schedule.t_max, 2 * schedule.t_max)) == schedule.alpha(schedule.t_max)
    assert schedule.sigma(np.nextafter(schedule.t_min, 0)) == schedule.sigma(schedule.t_min)


@ALL
def test_scalars_give_floats_and_arrays_keep_their_shape(schedule: NoiseSchedule) -> None:
    """Float in, float out; (2, 3) in, (2, 3) out; the same numbers either way."""
    grid = np.linspace(0.3, 0.9, 6).reshape(2, 3) * schedule.t_max
    lam = schedule.half_log_snr(grid)
    for function, values in (
        (schedule.alpha, grid),
        (schedule.sigma, grid),
        (schedule.half_log_snr, grid),
        (schedule.time, lam),
    ):
        result = function(values)
        assert result.shape == (2, 3)
        assert result.dtype == np.float64
        single = function(float(values[1, 2]))
        assert type(single) is float
        assert single == result[1, 2]
        assert function(values.tolist()).shape == (2, 3)


@ALL
def test_label_and_its_inverse(schedule: NoiseSchedule) -> None:
    """time_from_label(label(t)) = t."""
    for t in places(schedule):
        assert schedule.time_from_label(schedule.label(t)) == pytest.approx(t, rel=1e-12)


@pytest.mark.parametrize("schedule", DISCRETE.values(), ids=DISCRETE.keys())
def test_discrete_labels_are_the_step_numbers(schedule: Discrete) -> None:
    """Exactly 0 … N-1 on the knots, where alpha^2 is the product of (1 - beta); floats between."""
    n = schedule.num_steps
    knots = np.arange(1, n + 1) / n
    assert [schedule.label(t) for t in knots] == list(range(n))
    assert [schedule.time_from_label(i) for i in range(n)] == knots.tolist()
    assert schedule.label(knots[0] + 0.25 / n) == pytest.approx(0.25, abs=1e-9)
    expected = [float(mpmath.exp(2 * v)) for v in exact_log_alphas(schedule)]
    np.testing.assert_allclose(schedule.alpha(knots) ** 2, expected, rtol=1e-12)


def test_flow_label_is_sigma() -> None:
    """The network of a flow model is told sigma, whatever the shift."""
    assert Flow(shift=3.0).label(0.5) == pytest.approx(0.75, rel=1e-15)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_labels_may_be_scaled_and_reversed(shift: float) -> None:
    """1000 sigma, or 1000 (1 - sigma) where the network counts towards the data; both are inverted, and the levels stay the same."""
    plain = Flow(shift=shift)
    for flow in (Flow(shift=shift, label_scale=1000.0), Flow(shift=shift, label_scale=1000.0, reversed=True)):
        for t in places(flow):
            level = flow.alpha(t) if flow.reversed else flow.sigma(t)
            assert flow.label(t) == pytest.approx(1000.0 * level, rel=1e-15)
            assert flow.time_from_label(flow.label(t)) == pytest.approx(t, rel=1e-10, abs=1e-12)
            assert (flow.alpha(t), flow.sigma(t)) == (plain.alpha(t), plain.sigma(t))
    assert [flow.label(t) for t in (1.0, 0.0)] == [0.0, 1000.0]


def test_only_a_reversed_flow_has_velocities_of_the_other_sign() -> None:
    """velocity_sign is +1 for noise - data, which holds for every schedule but a reversed flow."""
    assert {schedule.velocity_sign for schedule in SCHEDULES.values()} == {1.0}
    assert Flow(reversed=True).velocity_sign == -1.0


def test_a_flow_says_what_is_not_as_usual() -> None:
    assert repr(Flow(shift=3.0)) == "Flow(shift=3.0, t_min=0.0001, t_max=1.0)"
    assert repr(Flow(label_scale=1000.0, reversed=True)).endswith("t_max=1.0, label_scale=1000.0, reversed=True)")


def test_the_last_evaluation_of_a_flow_may_have_a_level_of_its_own() -> None:
    """last_sigma gives the last time; without it the times are those of the paper."""
    flow = Flow(shift=3.0, last_sigma=0.1)
    assert flow.sigma(flow.last_time(10)) == pytest.approx(0.1, rel=1e-12)
    assert flow.default_end(10) == 0.0
    assert Flow(shift=3.0).last_time(10) == 1e-3


def test_lambda_min_is_the_default_start() -> None:
    """The run starts where the half-log-SNR has that value if the schedule goes below, else at t_max."""
    betas = np.linspace(1e-4, 0.02, 1000)
    assert Discrete(betas=betas, lambda_min=-7.0).default_start() == 1.0
    clipped = Discrete(betas=betas, lambda_min=-3.0)
    assert clipped.half_log_snr(clipped.default_start()) == pytest.approx(-3.0, abs=1e-12)
    assert clipped.alpha(1.0) == Discrete(betas=betas).alpha(1.0)
    assert "lambda_min=-3" in repr(clipped)
    assert "lambda_min" not in repr(Discrete(betas=betas))
    ended = Discrete(alphas_cumprod=[0.9, 0.5, 0.1, 0.0], lambda_min=-2.0)
    assert ended.half_log_snr(ended.default_start()) == pytest.approx(-2.0, abs=1e-12)


def test_discrete_is_the_same_from_betas_and_from_alphas_cumprod() -> None:
    """Both forms of the input are one schedule."""
    betas = np.linspace(1e-4, 0.02, 1000)
    a, b = Discrete(betas=betas), Discrete(alphas_cumprod=np.cumprod(1 - betas))
    times = np.array(places(a))
    np.testing.assert_allclose(a.half_log_snr(times), b.half_log_snr(times), atol=1e-10)


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("num", [100, 1000])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_discrete_agrees_with_diffusers(beta_schedule: str, num: int, zero_snr: bool) -> None:
    """alpha(t_n)^2 is diffusers' alphas_cumprod, to the float32 in which diffusers keeps it."""
    diffusers = pytest.importorskip("diffusers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = diffusers.DDPMScheduler(num, beta_schedule=beta_schedule, rescale_betas_zero_snr=zero_snr)
    products = scheduler.alphas_cumprod.double().numpy()
    betas = scheduler.betas.double().numpy()
    knots = np.arange(1, num + 1) / num
    np.testing.assert_allclose(Discrete(alphas_cumprod=products).alpha(knots) ** 2, products, rtol=1e-12)
    np.testing.assert_allclose(Discrete(betas=betas).alpha(knots) ** 2, products, rtol=2e-5, atol=1e-30)
    assert (Discrete(betas=betas).alpha(1.0) == 0.0) == zero_snr


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Discrete(), "exactly one of betas and alphas_cumprod"),
        (lambda: Discrete(betas=[0.1, 0.2], alphas_cumprod=[0.9, 0.7]), "exactly one of betas and alphas_cumprod"),
        (lambda: Discrete(betas=[0.1, 1.2]), r"betas must lie in \(0, 1\).*1\.2.*step \[1\]"),
        (lambda: Discrete(betas=[0.0, 0.2]), r"betas must lie in \(0, 1\)"),
        (lambda: Discrete(betas=[0.1, -0.2, 0.3]), r"betas must lie in \(0, 1\).*-0\.2.*step \[1\]"),
        (lambda: Discrete(betas=[0.1, 1.0, 0.3]), r"betas must lie in \(0, 1\) \(the last may be 1\)"),
        (lambda: Discrete(betas=[0.1, math.nan]), "betas must be finite"),
        (lambda: Discrete(betas=[0.1]), "betas must be a vector of at least 2 values"),
        (lambda: Discrete(betas=[[0.1, 0.2]]), r"betas must be a vector.*shape \(1, 2\)"),
        (lambda: Discrete(alphas_cumprod=[0.9, math.nan]), "alphas_cumprod must be finite"),
        (lambda: Discrete(alphas_cumprod=[0.9, 0.95]), "alphas_cumprod must decrease strictly"),
        (lambda: Discrete(alphas_cumprod=[0.9, 0.9]), "alphas_cumprod must decrease strictly"),
        (lambda: Discrete(alphas_cumprod=[1.0, 0.9]), r"alphas_cumprod must lie in \(0, 1\)"),
        (lambda: Discrete(alphas_cumprod=[0.9, 0.0, 0.0]), r"alphas_cumprod must lie in \(0, 1\)"),
        (lambda: LinearVP(beta_min=20.0, beta_max=0.1), "0 < beta_min < beta_max"),
        (lambda: LinearVP(beta_min=math.nan), "0 < beta_min < beta_max"),
        (lambda: LinearVP(t_min=0.0), "0 < t_min < t_max"),
        (lambda: SubVP(t_min=2.0), "0 < t_min < t_max"),
        (lambda: CosineVP(t_max=1.1), "0 < t_min < t_max <= 1.0"),
        (lambda: CosineVP(s=0.0), "0 < s < 1"),
        (lambda: EDM(sigma_min=80.0, sigma_max=1.0), "0 < sigma_min < sigma_max"),
        (lambda: Flow(shift=0.0), "shift must be positive"),
        (lambda: Flow(label_scale=0.0), "label_scale must be positive, got 0.0"),
        (lambda: Flow(last_sigma=1.0), "0 <= last_sigma < 1"),
        (lambda: Discrete(betas=[0.1, 0.2], lambda_min=3.0), "lambda_min=3.0 leaves nothing of this schedule"),
        (lambda: Flow(t_max=1.5), "0 < t_min < t_max <= 1.0"),
        (lambda: Custom(math.sin, math.cos, t_min=0.1, t_max=1.5), "must fall strictly"),
        (lambda: Custom(math.cos, math.sin, t_min=0.1, t_max=3.0), r"alpha\(t\) must be finite and >= 0"),
        (lambda: Custom(math.cos, lambda t: -t, t_min=0.1, t_max=1.0), r"sigma\(t\) must be finite and >= 0"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_cause(make: Callable[[], NoiseSchedule], message: str) -> None:
    """Each wrong argument raises at once a ValueError that names it and what is accepted."""
    with pytest.raises(ValueError, match=message):
        make()


@ALL
def test_schedules_are_frozen(schedule: NoiseSchedule) -> None:
    """Configuration never changes after it is made."""
    with pytest.raises(AttributeError):
        schedule.t_max = 2.0


def test_callers_betas_are_copied() -> None:
    """A schedule does not follow later changes of the array it was made from."""
    betas = np.linspace(1e-4, 0.02, 100)
    schedule = Discrete(betas=betas)
    before = schedule.alpha(0.5)
    betas[:] = 0.5
    assert schedule.alpha(0.5) == before


@ALL
def test_default_run_lies_inside_and_ends_where_the_paper_says(schedule: NoiseSchedule) -> None:
    """Starts at t_max. Ends at 1e-3 up to 15 evaluations and 1e-4 above (VP), 1/N (discrete), sigma = 0 (EDM, flow, noise left at 1/N)."""
    assert schedule.default_start() == schedule.t_max
    ends = [schedule.default_end(n) for n in (5, 15, 16, 100)]
    if isinstance(schedule, EDM | Flow) or (isinstance(schedule, Discrete) and schedule.sigma(schedule.t_min) > 0.05):
        assert ends == [0.0] * 4
    elif isinstance(schedule, Discrete):
        assert ends == [1.0 / schedule.num_steps] * 4
    else:
        assert ends == [max(schedule.t_min, t) for t in (1e-3, 1e-3, 1e-4, 1e-4)]
    assert schedule.half_log_snr(schedule.t_max) < schedule.half_log_snr(schedule.last_time(10)) < math.inf


def test_scaled_linear_betas_are_those_of_stable_diffusion() -> None:
    """Linear in the square root from 0.00085 to 0.012."""
    betas = scaled_linear_betas()
    assert betas.shape == (1000,)
    assert (betas[0], betas[-1]) == pytest.approx((0.00085, 0.012), rel=1e-15)
    np.testing.assert_allclose(np.diff(np.sqrt(betas), 2), 0.0, atol=1e-16)


@pytest.mark.parametrize(
    ("schedule", "t", "log_alpha", "half_log_snr"),
    [
        # log alpha' = -beta/2; lambda' = log alpha'/sigma^2 for variance-preserving processes (DPM-Solver, appendix B.1).
        (LinearVP(), 0.3, -0.5 * (0.1 + 0.3 * 19.9), -0.5 * (0.1 + 0.3 * 19.9) / LinearVP().sigma(0.3) ** 2),
        (LinearVP(), 1.0, -10.0, -10.0 / LinearVP().sigma(1.0) ** 2),
        (LinearVP(), 1e-5, -0.5 * (0.1 + 1e-5 * 19.9), -0.5 * (0.1 + 1e-5 * 19.9) / LinearVP().sigma(1e-5) ** 2),
        (EDM(), 0.002, 0.0, -500.0),
        (EDM(), 3.0, 0.0, -1 / 3),
        (Flow(), 0.25, -1 / 0.75, -1 / 0.75 - 4.0),
        (Flow(), 0.9999, -1e4, -1e4 - 1 / 0.9999),
        # One interval of a discrete schedule: the slope of log alpha there is N log(1 - beta_n)/2.
        (
            Discrete(betas=np.linspace(1e-4, 0.02, 1000)),
            0.5,
            500 * math.log1p(-np.linspace(1e-4, 0.02, 1000)[499]),
            None,
        ),
    ],
)
def test_rates_are_the_derivatives(
    schedule: NoiseSchedule, t: float, log_alpha: float, half_log_snr: float | None
) -> None:
    """d log alpha/dt and d lambda/dt in closed form, at the ends of the range too."""
    rates = schedule.rates(t)
    assert rates[0] == pytest.approx(log_alpha, rel=1e-9, abs=1e-9)
    if half_log_snr is not None:
        assert rates[1] == pytest.approx(half_log_snr, rel=1e-9)
