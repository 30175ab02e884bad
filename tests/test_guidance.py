"""Guidance: how a condition steers the samples, and how often the network is called for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.guidance import Classifier, ClassifierFree

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
BATCH, NFE = 3, 6
X_T = dpm.initial_noise(VP, (BATCH, 2), seed=4)
CONDITION, NOTHING = np.array([1.0, -0.5, 0.3]), np.zeros(BATCH)
SOLVERS = ["dpm++2m", "dpm-2m", "dpm-3", "dpm++2s"]


class Conditional:
    """A network that predicts clean data from a condition y, and counts its calls."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.conditions: list[Any] = []

    def __call__(self, x: Any, t: Any, y: Any, **kwargs: Any) -> Any:
        self.batches.append(len(x))
        self.conditions.append(y)
        tanh = torch.tanh if isinstance(x, torch.Tensor) else np.tanh
        return 0.5 * tanh(x + y[:, None]) + 0.2 * y[:, None]


def guided(scale: float, interval: tuple[float, float] | None = None, array: Any = np.asarray) -> dpm.Denoiser:
    guidance = ClassifierFree(scale, {"y": array(CONDITION)}, {"y": array(NOTHING)}, interval)
    return dpm.Denoiser(Conditional(), VP, "data", guidance=guidance)


def by_hand(scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> dpm.Denoiser:
    """The same combination from two calls, with a time per sample."""

    def network(x: Any, t: Any) -> Any:
        with_condition, without = Conditional()(x, t, CONDITION), Conditional()(x, t, NOTHING)
        inside = ((t >= interval[0]) & (t <= interval[1]))[:, None]
        return np.where(inside, without + scale * (with_condition - without), with_condition)

    return dpm.Denoiser(network, VP, "data")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.7, 1.0, 4.0])
def test_classifier_free_guidance_equals_two_calls_by_hand(scale: float, solver: str) -> None:
    """unconditional + scale (conditional - unconditional), for noise and data plans, NumPy and torch."""
    expected = dpm.sample(by_hand(scale), X_T, nfe=NFE, solver=solver)
    size = abs(expected).max()
    given = dpm.sample(guided(scale), X_T, nfe=NFE, solver=solver)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-12 * size)
    given = dpm.sample(guided(scale, array=torch.from_numpy), torch.from_numpy(X_T), nfe=NFE, solver=solver)
    np.testing.assert_allclose(given.numpy(), expected, rtol=0, atol=1e-12 * size)


@pytest.mark.parametrize(("scale", "batch"), [(0.0, 2 * BATCH), (3.0, 2 * BATCH), (1.0, BATCH)])
def test_each_evaluation_is_one_batched_call(scale: float, batch: int) -> None:
    """nfe calls in all, each of twice the batch; scale 1 is the conditional network alone, at the price of the plain batch."""
    denoiser = guided(scale)
    dpm.sample(denoiser, X_T, nfe=NFE)
    assert denoiser.network.batches == [batch] * NFE


def test_scale_one_gives_the_condition_itself() -> None:
    """At scale 1 the network sees the caller's condition and nothing of the unconditional one."""
    denoiser = guided(1.0)
    dpm.sample(denoiser, X_T, nfe=2)
    assert all(np.array_equal(y, CONDITION) for y in denoiser.network.conditions)


def test_scale_zero_is_the_unconditional_network() -> None:
    """At scale 0 the condition has no influence."""
    plain = dpm.Denoiser(lambda x, t: 0.5 * np.tanh(x), VP, "data")
    np.testing.assert_allclose(
        dpm.sample(guided(0.0), X_T, nfe=NFE), dpm.sample(plain, X_T, nfe=NFE), rtol=0, atol=1e-13
    )


def test_outside_its_interval_guidance_costs_nothing() -> None:
    """Times outside (low, high) are one plain conditional batch; inside, the guided one; the samples are those by hand."""
    interval = (0.2, 0.7)
    denoiser = guided(3.0, interval)
    plan = dpm.make_plan("dpm++2m", VP, NFE, "time")
    given = dpm.sample(denoiser, X_T, plan=plan)
    expected = [2 * BATCH if 0.2 <= row.point.time <= 0.7 else BATCH for row in plan.rows]
    assert denoiser.network.batches == expected
    assert set(expected) == {BATCH, 2 * BATCH}
    np.testing.assert_allclose(given, dpm.sample(by_hand(3.0, interval), X_T, plan=plan), rtol=0, atol=1e-12)


def test_an_adaptive_run_applies_the_interval_to_each_samples_own_time() -> None:
    """Where samples are at different times, each is guided or not by its own."""
    interval = (0.2, 0.7)
    given = dpm.sample_adaptive(guided(3.0, interval), X_T, order=2)
    np.testing.assert_allclose(given, dpm.sample_adaptive(by_hand(3.0, interval), X_T, order=2), rtol=0, atol=1e-10)


def test_an_argument_that_both_networks_share_is_passed_on() -> None:
    """An equal value that is not an array is handed over as it is."""
    seen = []

    def network(x: Any, t: Any, y: Any, mode: str) -> Any:
        seen.append(mode)
        return 0.1 * x

    guidance = ClassifierFree(2.0, {"y": CONDITION, "mode": "text"}, {"y": NOTHING, "mode": "text"})
    dpm.sample(dpm.Denoiser(network, VP, guidance=guidance), X_T, nfe=2)
    assert seen == ["text", "text"]


@pytest.mark.parametrize(
    ("condition", "unconditional", "message"),
    [
        ({"y": CONDITION}, {"z": NOTHING}, r"same names, got \['y'\] and \['z'\]"),
        ({"y": CONDITION[:2]}, {"y": NOTHING[:2]}, r"'y' needs two arrays of equal shape with 3 rows.*\(2,\)"),
        ({"y": CONDITION}, {"y": NOTHING[:1]}, r"'y' needs two arrays of equal shape with 3 rows.*\(1,\)"),
        ({"y": CONDITION}, {"y": None}, "'y' needs two arrays of equal shape"),
        ({"y": "a cat"}, {"y": ""}, "'y' must be an array of 3 rows.*'a cat'"),
    ],
)
def test_conditions_that_cannot_be_batched_are_refused_before_the_network_is_called(
    condition: Any, unconditional: Any, message: str
) -> None:
    """The error names the argument and the number of rows that are needed."""
    network = Conditional()

    def run() -> None:
        guidance = ClassifierFree(2.0, condition, unconditional)
        dpm.sample(dpm.Denoiser(network, VP, "data", guidance=guidance), X_T, nfe=2)

    with pytest.raises(dpm.PlanError, match=message):
        run()
    assert not network.batches


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_scales_must_be_finite(scale: float) -> None:
    """Either kind of guidance refuses a scale that is not a number."""
    with pytest.raises(dpm.PlanError, match=f"guidance scale must be finite, got {scale}"):
        ClassifierFree(scale, {}, {})
    with pytest.raises(dpm.PlanError, match=f"guidance scale must be finite, got {scale}"):
        Classifier(scale, gradient=np.negative)


@pytest.mark.parametrize("interval", [(0.7, 0.2), (0.5, 0.5), (-1.0, 0.5)])
def test_intervals_must_rise(interval: tuple[float, float]) -> None:
    """(low, high) with 0 <= low < high."""
    with pytest.raises(dpm.PlanError, match=r"interval is \(low, high\)"):
        ClassifierFree(2.0, {}, {}, interval)
    with pytest.raises(dpm.PlanError, match=r"interval is \(low, high\)"):
        Classifier(2.0, gradient=np.negative, interval=interval)


# Data N(MEAN, VARIANCE), of which y = x_0 + N(0, SPREAD) was observed: everything is Gaussian and known in closed form.
MEAN, VARIANCE, OBSERVED, SPREAD = np.array([0.7, -0.4]), np.array([0.3, 1.2]), np.array([-1.0, 1.5]), 0.5
POSTERIOR_VARIANCE = 1.0 / (1.0 / VARIANCE + 1.0 / SPREAD)
POSTERIOR_MEAN = POSTERIOR_VARIANCE * (MEAN / VARIANCE + OBSERVED / SPREAD)


def moments(t: Any, array: Any) -> tuple[Any, Any, Any]:
    """alpha, gain d E[x_0 | x]/dx, and the variance of x_0 given x, for a time per sample."""
    times = np.asarray(t, dtype=np.float64)
    alpha, sigma = VP.alpha(times)[:, None], VP.sigma(times)[:, None]
    total = alpha**2 * VARIANCE + sigma**2
    return array(alpha), array(alpha * VARIANCE / total), array(VARIANCE * sigma**2 / total)


def log_probability(x: Any, t: Any, y: Any) -> Any:
    """log p(y | x_t) up to a constant, in torch."""
    alpha, gain, variance = moments(t, torch.from_numpy)
    mean = torch.from_numpy(MEAN)
    gap = y - mean - gain * (x - alpha * mean)
    return -0.5 * (gap**2 / (SPREAD + variance)).sum(dim=1)


def gradient(x: Any, t: Any, y: Any) -> Any:
    """Its gradient by hand, in NumPy."""
    alpha, gain, variance = moments(t, np.asarray)
    return gain * (y - MEAN - gain * (x - alpha * MEAN)) / (SPREAD + variance)


PRIOR = dpm.models.Gaussian(MEAN, VARIANCE)
POSTERIOR = dpm.models.Gaussian(POSTERIOR_MEAN, POSTERIOR_VARIANCE)


def steered(scale: float = 1.0, **options: Any) -> dpm.Denoiser:
    classifier = Classifier(scale, gradient=gradient, kwargs={"y": OBSERVED}, **options)
    return PRIOR.denoiser(VP).replace(guidance=classifier)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("predicts", ["noise", "data", "v"])
def test_a_classifier_at_scale_one_turns_the_prior_into_the_posterior(solver: str, predicts: str) -> None:
    """Guidance by the exact p(y | x_t) samples p(x_0 | y), step for step, whatever the network predicts and the plan needs."""
    classifier = Classifier(1.0, gradient=gradient, kwargs={"y": OBSERVED})
    denoiser = PRIOR.denoiser(VP, predicts).replace(guidance=classifier)
    given = dpm.sample(denoiser, X_T, nfe=12, solver=solver)
    np.testing.assert_allclose(
        given, dpm.sample(POSTERIOR.denoiser(VP), X_T, nfe=12, solver=solver), rtol=1e-9, atol=1e-9
    )


def test_guided_samples_have_the_posteriors_mean_and_variance() -> None:
    """With enough evaluations the guided ODE carries x_T where the posterior's exact ODE does."""
    given = dpm.sample(steered(), X_T, nfe=200)
    np.testing.assert_allclose(given, POSTERIOR.trajectory(VP, X_T, 1.0, 1e-4), rtol=0, atol=2e-4)
    assert abs(given - PRIOR.trajectory(VP, X_T, 1.0, 1e-4)).max() > 0.5


@pytest.mark.parametrize("solver", SOLVERS)
def test_torch_differentiates_the_log_probability(solver: str) -> None:
    """log_probability under autograd equals the gradient by hand, also where the network itself runs without gradients."""
    classifier = Classifier(2.0, log_probability, kwargs={"y": torch.from_numpy(OBSERVED)})
    denoiser = PRIOR.denoiser(VP).replace(guidance=classifier)
    given = dpm.sample(denoiser, torch.from_numpy(X_T), nfe=12, solver=solver)
    np.testing.assert_allclose(given.numpy(), dpm.sample(steered(2.0), X_T, nfe=12, solver=solver), rtol=1e-9)
    assert not given.requires_grad


def test_torch_takes_a_gradient_function_too() -> None:
    """gradient= works on torch tensors, and under torch.no_grad."""

    def torch_gradient(x: Any, t: Any, y: Any) -> Any:
        return torch.from_numpy(gradient(x.numpy(), t.numpy(), y))

    classifier = Classifier(1.0, gradient=torch_gradient, kwargs={"y": OBSERVED})
    with torch.no_grad():
        given = dpm.sample(PRIOR.denoiser(VP).replace(guidance=classifier), torch.from_numpy(X_T), nfe=6)
    np.testing.assert_allclose(given.numpy(), dpm.sample(steered(), X_T, nfe=6), rtol=1e-10)


@pytest.mark.parametrize("prediction", ["noise", "data"])
def test_an_adaptive_run_is_guided_at_each_samples_own_time(prediction: Any) -> None:
    """The adaptive loop reaches the same posterior with a time per sample."""
    options = {"order": 3, "prediction": prediction, "atol": 1e-6, "rtol": 1e-6}
    given = dpm.sample_adaptive(steered(), X_T, **options)
    np.testing.assert_allclose(given, POSTERIOR.trajectory(VP, X_T, 1.0, 1e-4), rtol=0, atol=1e-3)
    np.testing.assert_allclose(given, dpm.sample_adaptive(POSTERIOR.denoiser(VP), X_T, **options), rtol=1e-7)


def test_scale_moves_eps_by_minus_sigma_times_the_gradient() -> None:
    """eps <- eps - scale sigma grad log p, which moves x_0 by scale sigma^2/alpha grad log p: seen in the first prediction."""
    point = dpm.make_plan("dpm++2m", VP, 3).start
    push = gradient(X_T, np.full(BATCH, point.time), OBSERVED)
    for solver in ("dpm++2m", "dpm-2m"):
        first = next(iter(dpm.iterate(steered(2.5), X_T, nfe=3, solver=solver))).denoised
        plain = PRIOR.predict_data(X_T, point.alpha, point.sigma)
        np.testing.assert_allclose(first, plain + 2.5 * point.sigma**2 / point.alpha * push, rtol=1e-10)


def test_outside_its_interval_a_classifier_is_not_asked() -> None:
    """The gradient is computed once per evaluation inside the interval and never outside."""
    times = []

    def counted(x: Any, t: Any, y: Any) -> Any:
        times.append(float(t[0]))
        return gradient(x, t, y)

    classifier = Classifier(1.0, gradient=counted, kwargs={"y": OBSERVED}, interval=(0.2, 0.7))
    plan = dpm.make_plan("dpm++2m", VP, 10, "time")
    dpm.sample(PRIOR.denoiser(VP).replace(guidance=classifier), X_T, plan=plan)
    assert times == [row.point.time for row in plan.rows if 0.2 <= row.point.time <= 0.7]
    assert 0 < len(times) < 10


def test_a_classifier_of_scale_zero_changes_nothing() -> None:
    """Scale 0 is the plain network, bit for bit."""
    assert np.array_equal(dpm.sample(steered(0.0), X_T, nfe=5), dpm.sample(PRIOR.denoiser(VP), X_T, nfe=5))


@pytest.mark.parametrize("functions", [{}, {"log_probability": log_probability, "gradient": gradient}])
def test_a_classifier_has_exactly_one_function(functions: dict[str, Any]) -> None:
    """Neither or both are refused."""
    with pytest.raises(dpm.PlanError, match="exactly one of log_probability and gradient"):
        Classifier(1.0, **functions)


def test_numpy_cannot_differentiate_and_says_so() -> None:
    """log_probability with NumPy arrays: the error names what to give instead."""
    denoiser = PRIOR.denoiser(VP).replace(guidance=Classifier(1.0, log_probability, kwargs={"y": OBSERVED}))
    with pytest.raises(TypeError, match="give classifier guidance a `gradient` function"):
        dpm.sample(denoiser, X_T, nfe=3)


def test_a_gradient_of_another_shape_is_refused() -> None:
    """It is not broadcast in silence."""
    denoiser = PRIOR.denoiser(VP).replace(guidance=Classifier(1.0, gradient=lambda x, t: x[0]))
    with pytest.raises(ValueError, match=r"gradient must return x's shape \(3, 2\), got \(2,\)"):
        dpm.sample(denoiser, X_T, nfe=3)


def test_a_classifier_cannot_steer_data_at_pure_noise() -> None:
    """sigma^2/alpha is infinite at alpha = 0: refused before the network is called."""
    network = Conditional()
    guidance = Classifier(1.0, gradient=lambda x, t: -x)
    with pytest.raises(dpm.PlanError, match="not defined at alpha = 0: start later"):
        dpm.sample(dpm.Denoiser(network, dpm.schedules.Flow(), "velocity", guidance=guidance), X_T, nfe=3)
    assert not network.batches
