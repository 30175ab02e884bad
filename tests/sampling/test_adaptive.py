"""The adaptive loop: its published step rule, its error control per sample, and that it always ends."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.sampling.adaptive import AdaptiveState

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
GAUSSIAN = dpm.models.Gaussian(mean=[0.5, -1.0], variance=[0.3, 1.5])
DENOISER = GAUSSIAN.denoiser(VP)
X_T = dpm.initial_noise(VP, (4, 2), seed=2)
START = 0.4
EXACT = GAUSSIAN.trajectory(VP, X_T, 1.0, 1e-3)


def folded(x: Any, t: Any, gain: Any) -> Any:
    """Predicts data as a zigzag of x, of each sample's own steepness: straight for a small gain, hard to integrate for a large one.

    It is made of operations that are rounded the same wherever a sample stands in memory.
    """
    y = gain.reshape(-1, *[1] * (x.ndim - 1)) * x + 0.25
    return abs(y - y.round())


def folded_denoiser(gain: Any) -> dpm.Denoiser:
    return dpm.Denoiser(folded, VP, "data", network_kwargs={"gain": gain})


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("order", [2, 3])
def test_the_error_falls_with_the_tolerance(order: int, prediction: Any) -> None:
    """On Gaussian data, against the exact ODE: each tolerance ten times tighter is at least 3 times nearer, for more evaluations."""
    errors, spent = [], []
    for tolerance in (1e-1, 1e-2, 1e-3):
        states: list[AdaptiveState] = []
        x = dpm.sample_adaptive(
            DENOISER,
            X_T,
            order=order,
            prediction=prediction,
            atol=tolerance,
            rtol=tolerance,
            end=1e-3,
            callback=states.append,
        )
        errors.append(abs(x - EXACT).max())
        spent.append(states[-1].nfe)
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 5e-3
    assert spent == sorted(set(spent))


@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("order", [2, 3])
def test_a_sample_does_not_depend_on_its_neighbours(order: int, array: Any) -> None:
    """Sample i of a batch is sample i alone to the bit, even beside one that needs ten times its evaluations."""
    gains = np.array([0.05, 5.0, 0.1, 0.02])
    counts = []

    def run(x: Any, gain: Any) -> Any:
        states: list[AdaptiveState] = []
        options: dict[str, Any] = {"atol": 1e-3, "rtol": 1e-3, "end": 1e-3, "max_nfe": 20000}
        result = dpm.sample_adaptive(
            folded_denoiser(array(gain)), array(x), order=order, prediction="data", callback=states.append, **options
        )
        counts.append(states[-1].nfe)
        return np.asarray(result)

    together = run(X_T, gains)
    for i in range(len(X_T)):
        np.testing.assert_array_equal(run(X_T[i : i + 1], gains[i : i + 1])[0], together[i])
    assert counts[0] == max(counts[1:])
    assert counts[2] > 3 * counts[1]


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("order", [2, 3])
def test_torch_equals_numpy(order: int, prediction: Any) -> None:
    """The same steps and the same samples on both frameworks in float64."""
    runs = []
    for x in (X_T, torch.from_numpy(X_T)):
        states: list[AdaptiveState] = []
        result = dpm.sample_adaptive(DENOISER, x, order=order, prediction=prediction, callback=states.append)
        runs.append((np.asarray(result), states))
    np.testing.assert_allclose(runs[1][0], runs[0][0], rtol=1e-10)
    for on_numpy, on_torch in zip(runs[0][1], runs[1][1], strict=True):
        assert on_numpy.nfe == on_torch.nfe
        np.testing.assert_array_equal(on_torch.accepted, on_numpy.accepted)
        np.testing.assert_allclose(on_torch.times, on_numpy.times, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_float32_states_stay_float32(dtype: Any) -> None:
    """As in sample: float32 unless x_T is float64; the shape is kept, also that of a batch of numbers."""
    for x in (X_T.astype(dtype), torch.from_numpy(X_T.astype(dtype))):
        result = dpm.sample_adaptive(DENOISER, x)
        assert str(result.dtype).removeprefix("torch.") == "float32"
        assert tuple(result.shape) == (4, 2)
        assert tuple(dpm.sample_adaptive(folded_denoiser(x[:, 0]), x[:, 0]).shape) == (4,)


def by_hand(order: int, h: float, x: Any, start: float) -> tuple[Any, Any]:
    """x_low and x_high of a step from lambda = start: algorithms 6 and 7 of the paper's appendix C, noise prediction."""

    def point(lam: float) -> tuple[float, float]:
        t = VP.time(lam)
        return VP.alpha(t), VP.sigma(t)

    def eps(u: Any, alpha: float, sigma: float) -> Any:
        return (u - alpha * GAUSSIAN.predict_data(u, alpha, sigma)) / sigma

    (a_s, s_s), (a_t, s_t) = point(start), point(start + h)
    e_s, em = eps(x, a_s, s_s), math.expm1
    if order == 2:
        a_1, s_1 = point(start + h / 2)
        u = a_1 / a_s * x - s_1 * em(h / 2) * e_s
        return a_t / a_s * x - s_t * em(h) * e_s, a_t / a_s * x - s_t * em(h) * eps(u, a_1, s_1)
    r1, r2 = 1 / 3, 2 / 3
    (a_1, s_1), (a_2, s_2) = point(start + r1 * h), point(start + r2 * h)
    u_1 = a_1 / a_s * x - s_1 * em(r1 * h) * e_s
    d_1 = eps(u_1, a_1, s_1) - e_s
    u_2 = a_2 / a_s * x - s_2 * em(r2 * h) * e_s - s_2 * r2 / r1 * (em(r2 * h) / (r2 * h) - 1) * d_1
    d_2 = eps(u_2, a_2, s_2) - e_s
    low = a_t / a_s * x - s_t * em(h) * e_s - s_t / (2 * r1) * em(h) * d_1
    return low, a_t / a_s * x - s_t * em(h) * e_s - s_t / r2 * (em(h) / h - 1) * d_2


@pytest.mark.parametrize(
    ("order", "h_init", "tolerance", "accepted"),
    [
        (2, 0.05, 1e-3, {True}),
        (2, 0.05, 1e-4, {True, False}),
        (2, 0.5, 1e-4, {False}),
        (3, 0.5, 1e-2, {True}),
        (3, 1.5, 1e-3, {False}),
    ],
)
def test_the_first_step_is_the_published_one(order: int, h_init: float, tolerance: float, accepted: set[bool]) -> None:
    """E = RMS((x_high - x_low)/max(atol, rtol max(|x_low|, |x_prev|))), accepted when E <= 1, h <- min(theta h E^(-1/order), rest)."""
    atol, rtol, theta = tolerance, 3 * tolerance, 0.8
    states: list[AdaptiveState] = []
    options: dict[str, Any] = {"atol": atol, "rtol": rtol, "theta": theta, "h_init": h_init, "max_nfe": 5000}
    dpm.sample_adaptive(DENOISER, X_T, order=order, start=START, end=1e-3, callback=states.append, **options)
    low, high = by_hand(order, h_init, X_T, VP.half_log_snr(START))
    delta = np.maximum(atol, rtol * np.maximum(abs(low), abs(X_T)))
    error = np.sqrt((((high - low) / delta) ** 2).mean(axis=1))
    first, ok = states[0], error <= 1.0
    assert first.nfe == order
    assert set(ok.tolist()) == accepted
    np.testing.assert_allclose(first.errors, error, rtol=1e-6)
    np.testing.assert_array_equal(first.accepted, ok)
    np.testing.assert_allclose(first.x, np.where(ok[:, None], high, X_T), rtol=1e-10)
    start, goal = float(VP.half_log_snr(START)), float(VP.half_log_snr(1e-3))
    reached = start + h_init * ok
    np.testing.assert_allclose(first.times, VP.time(reached), rtol=1e-12)
    np.testing.assert_allclose(
        first.steps, np.minimum(theta * h_init * error ** (-1 / order), goal - reached), rtol=1e-6
    )


@pytest.mark.parametrize("order", [2, 3])
def test_the_second_step_measures_against_the_lower_order_result_of_the_first(order: int) -> None:
    """x_prev of the tolerance is x_low of the last accepted step, as published, and each sample steps with its own h."""
    h, atol, rtol = 0.2, 1e-6, 0.02
    states: list[AdaptiveState] = []
    options: dict[str, Any] = {"atol": atol, "rtol": rtol, "h_init": h, "start": START, "end": 1e-3}
    dpm.sample_adaptive(DENOISER, X_T, order=order, callback=states.append, **options)
    first, second = states[:2]
    assert first.accepted.all()
    start = VP.half_log_snr(START)
    previous, x = by_hand(order, h, X_T, start)
    for i in range(len(X_T)):
        low, high = by_hand(order, first.steps[i], x[i : i + 1], start + h)
        delta = np.maximum(atol, rtol * np.maximum(abs(low), abs(previous[i])))
        assert second.errors[i] == pytest.approx(np.sqrt((((high - low) / delta) ** 2).mean()), rel=1e-6)


def test_every_attempt_keeps_to_the_step_rule() -> None:
    """Through a whole run: nfe grows by order, times fall only where a step was accepted, and the next step follows from the error."""
    states: list[AdaptiveState] = []
    dpm.sample_adaptive(DENOISER, X_T, order=2, atol=1e-2, rtol=1e-2, end=1e-3, callback=states.append)
    goal = float(VP.half_log_snr(1e-3))
    assert [s.nfe for s in states] == [2 * (i + 1) for i in range(len(states))]
    for before, after in pairwise(states):
        active = before.times - 1e-3 > 1e-5
        rest = goal - VP.half_log_snr(after.times)
        wanted = np.minimum(0.9 * before.steps * np.maximum(after.errors, 1e-10) ** -0.5, rest)
        np.testing.assert_allclose(after.steps[active], wanted[active], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(after.accepted, active & (after.errors <= 1.0))
        np.testing.assert_array_equal(after.times < before.times, after.accepted)
    assert (abs(states[-1].times - 1e-3) <= 1e-5).all()


def test_callback_states_are_copies() -> None:
    """States that are collected keep their values, and writing into one does not change the run."""
    states: list[AdaptiveState] = []
    result = dpm.sample_adaptive(DENOISER, X_T, callback=states.append)
    np.testing.assert_array_equal(states[-1].x, result)
    assert abs(states[0].x - result).max() > 0.1

    def spoil(state: AdaptiveState) -> None:
        state.x[:] = 1e9

    np.testing.assert_array_equal(dpm.sample_adaptive(DENOISER, X_T, callback=spoil), result)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("at", [1, 5])
def test_a_network_that_is_not_finite_ends_the_run(at: int, array: Any, bad: float) -> None:
    """SamplingError naming the evaluation, at that evaluation: not an endless loop."""
    calls = []

    def network(x: Any, t: Any) -> Any:
        calls.append(t)
        return x * bad if len(calls) == at else 0.1 * x

    with pytest.raises(dpm.SamplingError, match=f"NaN or infinity at evaluation {at}"):
        dpm.sample_adaptive(dpm.Denoiser(network, VP), array(X_T))
    assert len(calls) == at


def test_max_nfe_ends_a_run_that_cannot_converge() -> None:
    """A network that is different at each call is never accepted: SamplingError after max_nfe evaluations and no more."""
    calls = []

    def network(x: Any, t: Any) -> Any:
        calls.append(t)
        return np.full_like(x, 1e3 * (-1) ** len(calls))

    with pytest.raises(dpm.SamplingError, match="used up max_nfe=50 evaluations"):
        dpm.sample_adaptive(dpm.Denoiser(network, VP, "data"), X_T, order=2, max_nfe=50)
    assert len(calls) == 50


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("order", [2, 3])
def test_backwards_it_ends_and_comes_back(order: int, prediction: Any) -> None:
    """start < end encodes: it arrives where the exact ODE does, and sampling from there gives the data again."""
    x0 = GAUSSIAN.sample(4, seed=3)
    options: dict[str, Any] = {"order": order, "prediction": prediction, "atol": 1e-4, "rtol": 1e-4, "max_nfe": 5000}
    x_T = dpm.sample_adaptive(DENOISER, x0, start=1e-3, end=1.0, **options)
    np.testing.assert_allclose(x_T, GAUSSIAN.trajectory(VP, x0, 1e-3, 1.0), rtol=0, atol=5e-3)
    np.testing.assert_allclose(dpm.sample_adaptive(DENOISER, x_T, end=1e-3, **options), x0, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        (dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000)), 1.0, 1e-3),
        (dpm.schedules.EDM(), 80.0, 0.002),
        (dpm.schedules.CosineVP(), 0.9946, 1e-4),
        (dpm.schedules.Flow(), 0.999, 1e-4),
    ],
)
def test_every_schedule_is_followed(schedule: Any, start: float, end: float) -> None:
    """Discrete, VE, cosine and flow models reach their exact solution."""
    x = dpm.initial_noise(schedule, (3, 2), seed=1)
    given = dpm.sample_adaptive(
        GAUSSIAN.denoiser(schedule), x, start=start, end=end, atol=1e-4, rtol=1e-4, max_nfe=5000
    )
    np.testing.assert_allclose(given, GAUSSIAN.trajectory(schedule, x, start, end), rtol=0, atol=5e-3)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("prediction", ["noise", "data"])
def test_exact_phi_functions_reach_the_closed_form(order: int, prediction: Any) -> None:
    """quadrature="exact" solves the same ODE as closely as its tolerance says, by other steps than the published form."""
    ends = {"start": 0.9, "end": 1e-3}
    found, published = (
        dpm.sample_adaptive(
            GAUSSIAN.denoiser(VP),
            X_T,
            order=order,
            prediction=prediction,
            quadrature=form,
            atol=1e-4,
            rtol=1e-4,
            max_nfe=5000,
            **ends,
        )
        for form in ("exact", "published")
    )
    np.testing.assert_allclose(found, GAUSSIAN.trajectory(VP, X_T, 0.9, 1e-3), rtol=0, atol=2e-3)
    assert not np.array_equal(found, published)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 1}, "order must be 2 .* or 3 .*, got 1"),
        ({"order": "3"}, "order must be 2 .* or 3 .*, got '3'"),
        ({"prediction": "v"}, "prediction must be 'noise' or 'data', got 'v'"),
        ({"quadrature": "bh1"}, "quadrature must be 'published' or 'exact', got 'bh1'"),
        ({"atol": 0.0}, "atol must be positive and finite, got 0"),
        ({"rtol": -1.0}, "rtol must be positive and finite, got -1"),
        ({"h_init": math.inf}, "h_init must be positive and finite, got inf"),
        ({"theta": math.nan}, "theta must be positive and finite, got nan"),
        ({"t_err": 0.0}, "t_err must be positive and finite, got 0"),
        ({"start": 0.0, "end": 0.5}, r"0 < alpha and 0 < sigma, got start=0\.0, end=0\.5"),
        ({"start": 0.5, "end": 0.5}, "two different times"),
        ({"end": 1e-7}, "end=1e-07 is outside this schedule"),
        ({"start": 1.5}, "start=1.5 is outside this schedule"),
    ],
)
def test_bad_arguments_are_refused_before_the_network_is_called(arguments: dict[str, Any], message: str) -> None:
    """The error names the argument, what was given and what is accepted."""
    calls = []
    denoiser = dpm.Denoiser(lambda x, t: calls.append(t) or x, VP)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample_adaptive(denoiser, X_T, **arguments)
    assert not calls


def test_pure_noise_is_no_place_to_adapt_from() -> None:
    """At alpha = 0 there is no finite log-SNR to step in: a run starts just above by default, and says so if told to start there."""
    model = dpm.models.Gaussian(mean=[0.3], variance=[0.25])
    flow = dpm.schedules.Flow()
    x0 = dpm.sample_adaptive(model.denoiser(flow), dpm.initial_noise(flow, (200, 1), seed=2))
    assert abs(x0.std() - 0.5) < 0.1
    with pytest.raises(dpm.PlanError, match=r"0 < alpha and 0 < sigma, got start=1\.0"):
        dpm.sample_adaptive(model.denoiser(flow), x0, start=1.0)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("prediction", ["noise", "data"])
def test_a_process_takes_the_same_steps_on_any_scale(prediction: str, order: int) -> None:
    """The variance-exploding form of a process, x/alpha, is solved as the variance-preserving one is: same steps, same samples."""
    vp = dpm.schedules.LinearVP()
    ve = dpm.schedules.Custom(
        alpha=lambda t: 1.0, sigma=lambda t: vp.sigma(t) / vp.alpha(t), t_min=vp.t_min, t_max=vp.t_max
    )
    model = dpm.models.Gaussian(mean=[0.3], variance=[0.25])
    x_T = dpm.initial_noise(vp, (10, 1), seed=2)
    runs = []
    for schedule, start in ((vp, x_T), (ve, x_T / vp.alpha(1.0))):
        seen: list[list[float]] = []
        options = {
            "order": order,
            "prediction": prediction,
            "end": 1e-3,
            "callback": lambda s, seen=seen: seen.append(s.times),
        }
        x = dpm.sample_adaptive(model.denoiser(schedule), start, **options)
        runs.append((x / schedule.alpha(1e-3), np.array(seen)))
    (a, times), (b, others) = runs
    np.testing.assert_allclose(times, others, rtol=1e-6)
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_samples_of_an_exploding_process_are_as_wide_as_the_data() -> None:
    """On EDM, with the default tolerances."""
    schedule, model = dpm.schedules.EDM(), dpm.models.Gaussian(mean=[0.3], variance=[0.25])
    x0 = dpm.sample_adaptive(model.denoiser(schedule), dpm.initial_noise(schedule, (200, 1), seed=2))
    assert abs(x0.std() - 0.5) < 0.1


@pytest.mark.parametrize("prediction", ["noise", "data"])
def test_a_run_may_end_at_clean_data(prediction: str) -> None:
    """end=0 adds one evaluation at the last time, and its predicted x_0 is the result."""
    schedule = dpm.schedules.LinearVP()
    model = dpm.models.Gaussian(mean=[0.3], variance=[0.25])
    x_T = dpm.initial_noise(schedule, (20, 1), seed=2)
    calls = []
    denoiser = model.denoiser(schedule)
    counted = denoiser.replace(network=lambda x, t: calls.append(1) or denoiser.network(x, t))
    last = dpm.sample_adaptive(counted, x_T, prediction=prediction)
    before = len(calls)
    clean = dpm.sample_adaptive(counted, x_T, prediction=prediction, end=0.0)
    assert len(calls) == 2 * before + 1
    np.testing.assert_allclose(clean, denoiser.network(last, np.full(20, 1e-4)), rtol=1e-9)
