"""Guidance: how a condition steers the samples, and how often the network is called for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.networks.guidance import Classifier, ClassifierFree

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


# What conditions may be.


class Pair(NamedTuple):
    """A container of its own kind."""

    gain: Any
    shift: Any


class Nested:
    """A network whose condition lies in dicts, lists, tuples and named tuples, as SDXL's and ControlNet's do; it records its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(
        self, x: Any, t: Any, added: Any = None, residuals: Any = (), table: Any = None, mode: Any = None
    ) -> Any:
        self.batches.append(len(x))
        out = 0.1 * x if table is None else 0.1 * x * table
        if added is not None:
            assert len(added["pooled"]["text"]) == len(x)
            out = out + added["pooled"]["text"][:, None] * added["pair"].gain[:, None] + added["pair"].shift[:, None]
        for residual in residuals:
            out = out + residual
        return out if mode is None else mode * out


def nested(value: float, array: Any) -> dict[str, Any]:
    each = array(np.arange(1.0, BATCH + 1.0) * value)
    return {
        "added": {"pooled": {"text": each}, "pair": Pair(each, 2.0 * each)},
        "residuals": [each[:, None], (0.5 * each)[:, None]],
        "mode": 2.0,
    }


def by_two_calls(network: Any, scale: float, condition: Any, unconditional: Any) -> dpm.Denoiser:
    """unconditional + scale (conditional - unconditional), written out."""

    def guided(x: Any, t: Any) -> Any:
        without = network(x, t, **unconditional)
        return without + scale * (network(x, t, **condition) - without)

    return dpm.Denoiser(guided, VP, "data")


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor])
def test_conditions_may_be_nested(array: Any, batched: bool) -> None:
    """Dicts, lists, tuples and named tuples of arrays reach the network as they are, one batched call or two."""
    condition, unconditional = nested(0.3, array), nested(-0.1, array)
    table = array(np.array([[0.9, 1.1]]))  # one object on both sides, and its first axis is no batch: shared
    condition["table"] = unconditional["table"] = table
    network = Nested()
    guidance = ClassifierFree(3.0, condition, unconditional, batched=batched)
    given = dpm.sample(dpm.Denoiser(network, VP, "data", guidance=guidance), array(X_T), nfe=NFE)
    assert network.batches == ([2 * BATCH] * NFE if batched else [BATCH] * (2 * NFE))
    wanted = dpm.sample(by_two_calls(Nested(), 3.0, condition, unconditional), array(X_T), nfe=NFE)
    np.testing.assert_allclose(np.asarray(given), np.asarray(wanted), rtol=1e-12)


@pytest.mark.parametrize(
    ("unconditional", "defaults"),
    [
        (None, {}),
        ({}, {}),
        ({"mode": 2.0}, {"mode": 2.0}),
        ({"added": None, "mode": 2.0, "residuals": ()}, {"added": None, "mode": 2.0, "residuals": ()}),
    ],
    ids=["None", "empty", "one name", "None as a value"],
)
def test_what_unconditional_lacks_is_the_networks_default(unconditional: Any, defaults: dict[str, Any]) -> None:
    """Such names are left out of the unconditional call, which is then one of its own; None as a value arrives as None."""
    condition, network = nested(0.3, np.asarray), Nested()
    condition["residuals"] = ()
    guidance = ClassifierFree(3.0, condition, unconditional)
    given = dpm.sample(dpm.Denoiser(network, VP, "data", guidance=guidance), X_T, nfe=NFE)
    assert network.batches == [BATCH] * (2 * NFE)
    np.testing.assert_allclose(
        given, dpm.sample(by_two_calls(Nested(), 3.0, condition, defaults), X_T, nfe=NFE), rtol=1e-12
    )


def test_texts_of_unequal_length_need_two_calls() -> None:
    """77 and 154 tokens: two calls with batched=False, and else an error that names the condition and both shapes, not what is in them."""

    def network(x: Any, t: Any, added: Any) -> Any:
        return x * added["text"].mean()

    condition = {"added": {"text": np.full((BATCH, 154, 8), 0.123)}}
    unconditional = {"added": {"text": np.full((BATCH, 77, 8), 0.456)}}
    guidance = ClassifierFree(2.0, condition, unconditional, batched=False)
    given = dpm.sample(dpm.Denoiser(network, VP, "data", guidance=guidance), X_T, nfe=4)
    wanted = dpm.sample(by_two_calls(network, 2.0, condition, unconditional), X_T, nfe=4)
    np.testing.assert_allclose(given, wanted, rtol=1e-12)
    batched = dpm.Denoiser(network, VP, "data", guidance=ClassifierFree(2.0, condition, unconditional))
    with pytest.raises(dpm.PlanError, match=r"'added.text'.*\(3, 154, 8\).*\(3, 77, 8\).*batched=False") as caught:
        dpm.sample(batched, X_T, nfe=4)
    assert "0.123" not in str(caught.value)


def test_network_kwargs_are_handed_to_either_call_as_they_are() -> None:
    """One batched call does not double them: with two calls, an array of the batch may be among them."""
    extra, seen = np.ones((BATCH, 2)), []

    def network(x: Any, t: Any, y: Any, extra: Any) -> Any:
        seen.append(extra)
        return 0.1 * x + y[:, None]

    for batched in (True, False):
        guidance = ClassifierFree(2.0, {"y": CONDITION}, {"y": NOTHING}, batched=batched)
        dpm.sample(dpm.Denoiser(network, VP, network_kwargs={"extra": extra}, guidance=guidance), X_T, nfe=2)
    assert len(seen) == 6
    assert all(each is extra for each in seen)


@pytest.mark.parametrize(
    "run", [dpm.sample, lambda denoiser, x, nfe: dpm.sample_adaptive(denoiser, x)], ids=["plan", "adaptive"]
)
@pytest.mark.parametrize(
    ("condition", "unconditional", "message"),
    [
        ({"y": CONDITION}, {"z": NOTHING}, r"unconditional has \['z'\], which condition lacks.*condition has \['y'\]"),
        (
            {"y": CONDITION[:2]},
            {"y": NOTHING[:2]},
            r"'y' needs two arrays of equal shape with 3 rows.*\(2,\).*batched=False",
        ),
        (
            {"y": CONDITION},
            {"y": NOTHING[:1]},
            r"'y' needs two arrays of equal shape with 3 rows.*\(1,\).*batched=False",
        ),
        (
            {"y": "a cat"},
            {"y": ""},
            "'y' needs two arrays.*got str as condition and str as unconditional.*batched=False",
        ),
        ({"y": 1.0}, {"y": 0.0}, "'y' needs two arrays.*got float as condition.*batched=False"),
        (
            {"y": CONDITION},
            {"y": torch.zeros(3)},
            r"'y' needs two arrays.*ndarray of shape \(3,\).*Tensor of shape \(3,\)",
        ),
        ({"y": [CONDITION]}, {"y": [NOTHING, NOTHING]}, "'y' needs two arrays.*list of length 1.*list of length 2"),
        ({"y": [CONDITION, {"z": 1}]}, {"y": [NOTHING, {"z": 2}]}, r"'y\[1\]\.z' needs two arrays"),
    ],
)
def test_conditions_that_cannot_be_batched_are_refused_before_the_network_is_called(
    condition: Any, unconditional: Any, message: str, run: Any
) -> None:
    """The error names the argument, the number of rows and the way out; it prints no contents."""
    network = Conditional()
    with pytest.raises(dpm.PlanError, match=message) as caught:
        run(dpm.Denoiser(network, VP, "data", guidance=ClassifierFree(2.0, condition, unconditional)), X_T, nfe=2)
    assert not network.batches
    assert "a cat" not in str(caught.value)


def test_conditions_of_a_late_interval_are_refused_at_the_start() -> None:
    """Not half-way, where guidance begins."""
    network = Conditional()
    guidance = ClassifierFree(2.0, {"y": CONDITION}, {"y": NOTHING[:1]}, interval=(0.0, 0.2))
    with pytest.raises(dpm.PlanError, match="'y' needs two arrays"):
        dpm.sample(dpm.Denoiser(network, VP, "data", guidance=guidance), X_T, nfe=8)
    assert not network.batches


@pytest.mark.parametrize("side", ["condition", "unconditional"])
def test_conditions_are_keyword_arguments(side: str) -> None:
    """A bare array for the mapping is named."""
    sides: dict[str, Any] = {"condition": {}, "unconditional": {}}
    with pytest.raises(TypeError, match=rf"{side} must be keyword arguments such as \{{'y': labels\}}, got ndarray"):
        ClassifierFree(2.0, **{**sides, side: CONDITION})


# Scales.

EACH = np.array([0.5, 1.0, 4.0])
SCALES: dict[str, Any] = {
    "list": EACH.tolist(),
    "tuple of tensors": tuple(torch.tensor(each) for each in EACH),
    "numpy": EACH,
    "float32": EACH.astype(np.float32),
    "torch": torch.from_numpy(EACH),
    "bfloat16 with gradients": torch.from_numpy(EACH).bfloat16().requires_grad_(),
}


def per_sample(scale: Any, interval: tuple[float, float] = (0.0, 1.0)) -> dpm.Denoiser:
    """The same from two calls, with a scale and a time per sample."""

    def network(x: Any, t: Any) -> Any:
        with_condition, without = Conditional()(x, t, CONDITION), Conditional()(x, t, NOTHING)
        each = np.array([scale(time) for time in t]) if callable(scale) else scale
        inside = (t >= interval[0]) & (t <= interval[1])
        return without + np.where(inside, each, 1.0)[:, None] * (with_condition - without)

    return dpm.Denoiser(network, VP, "data")


def with_scale(scale: Any, interval: Any = None, **options: Any) -> dpm.Denoiser:
    guidance = ClassifierFree(scale, {"y": CONDITION}, {"y": NOTHING}, interval, **options)
    return dpm.Denoiser(Conditional(), VP, "data", guidance=guidance)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_a_scale_may_be_one_number_per_sample(scale: Any, batched: bool) -> None:
    """Each sample is guided by its own, wherever the numbers lie, as if it were alone."""
    given = dpm.sample(with_scale(scale, batched=batched), X_T, nfe=NFE)
    np.testing.assert_allclose(given, dpm.sample(per_sample(EACH), X_T, nfe=NFE), rtol=1e-12)
    for i, single in enumerate(EACH):
        alone = dpm.sample(by_hand(single), X_T, nfe=NFE)[i]
        np.testing.assert_allclose(given[i], alone, rtol=1e-12)


@pytest.mark.parametrize("interval", [None, (0.2, 0.7)])
@pytest.mark.parametrize("scale", [EACH, lambda time: 1.0 + 5.0 * time, lambda time: torch.tensor(2.0)])
def test_scales_and_intervals_hold_in_plans_and_adaptive_runs(scale: Any, interval: Any) -> None:
    """A function is called with the schedule's time, of each sample where times differ; outside the interval the scale is 1."""
    wanted = per_sample(scale, interval or (0.0, 1.0))
    given = dpm.sample(with_scale(scale, interval), X_T, nfe=NFE, solver="dpm-3")
    np.testing.assert_allclose(given, dpm.sample(wanted, X_T, nfe=NFE, solver="dpm-3"), rtol=1e-10)
    given = dpm.sample_adaptive(with_scale(scale, interval), X_T, order=2)
    np.testing.assert_allclose(given, dpm.sample_adaptive(wanted, X_T, order=2), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (float("nan"), "guidance scale must be finite, got nan"),
        (float("inf"), "guidance scale must be finite, got inf"),
        ([1.0, float("nan")], "guidance scale must be finite"),
        ("seven", "must be a number, one number per sample or a function of time, got str"),
        ("7", "must be a number, one number per sample or a function of time, got str"),
        (np.ones((3, 1)), r"one number per sample.*got ndarray of shape \(3, 1\)"),
        ({"a": 1}, "one number per sample or a function of time, got dict"),
    ],
)
def test_scales_that_are_none_are_refused(scale: Any, message: str) -> None:
    """Either kind of guidance refuses a scale that is not a finite number, a vector of them or a function."""
    with pytest.raises(dpm.PlanError, match=message):
        ClassifierFree(scale, {}, {})
    with pytest.raises(dpm.PlanError, match=message):
        Classifier(scale, gradient=np.negative)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ([1.0, 2.0], "guidance scale must be one number or one per sample: 3 samples, 2 numbers"),
        (lambda time: float("nan"), r"guidance scale must return one finite number, at t=1 it returned nan"),
        (lambda time: [1.0, 2.0, 3.0], r"guidance scale must return one finite number, at t=1 it returned"),
        (lambda time: 1.0 if time > 0.5 else float("inf"), "must return one finite number, at t=0.* it returned inf"),
    ],
)
def test_scales_that_do_not_fit_the_run_are_refused_before_the_network_is_called(scale: Any, message: str) -> None:
    """The number of samples, and what a function returns at the plan's times, are known before the first evaluation."""
    network = Conditional()
    for guidance in (ClassifierFree(scale, {"y": CONDITION}, {"y": NOTHING}), Classifier(scale, gradient=np.negative)):
        with pytest.raises(dpm.PlanError, match=message):
            dpm.sample(dpm.Denoiser(network, VP, "data", guidance=guidance), X_T, nfe=6)
    assert not network.batches


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


@pytest.mark.parametrize("prediction", ["dpm++2m", "dpm-2m"])
@pytest.mark.parametrize("scale", [[0.5, 1.0, 2.0], lambda time: 2.0 * time])
def test_a_classifiers_scale_may_differ_in_samples_and_times(scale: Any, prediction: str) -> None:
    """eps moves by each sample's own scale; a function of time is the gradient times that function."""

    def scaled(x: Any, t: Any, y: Any) -> Any:
        each = np.array([scale(time) for time in t]) if callable(scale) else np.array(scale)
        return each[:, None] * gradient(x, t, y)

    def run(scale: Any, function: Any) -> Any:
        denoiser = PRIOR.denoiser(VP).replace(guidance=Classifier(scale, gradient=function, kwargs={"y": OBSERVED}))
        plan = dpm.sample(denoiser, X_T, nfe=8, solver=prediction)
        return plan, dpm.sample_adaptive(denoiser, X_T, order=2)

    for given, wanted in zip(run(scale, gradient), run(1.0, scaled), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-9, atol=1e-12)


def test_a_gradient_of_another_shape_is_refused() -> None:
    """It is not broadcast in silence."""
    denoiser = PRIOR.denoiser(VP).replace(guidance=Classifier(1.0, gradient=lambda x, t: x[0]))
    with pytest.raises(ValueError, match=r"gradient must return x's shape \(3, 2\), got \(2,\)"):
        dpm.sample(denoiser, X_T, nfe=3)


def test_a_classifier_cannot_steer_data_at_pure_noise() -> None:
    """sigma^2/alpha is infinite at alpha = 0: refused before the network is called."""
    network = Conditional()
    guidance = Classifier(1.0, gradient=lambda x, t: -x)
    denoiser = dpm.Denoiser(network, dpm.schedules.Flow(), "velocity", guidance=guidance)
    with pytest.raises(dpm.PlanError, match="not defined at alpha = 0: start later"):
        dpm.sample(denoiser, X_T, nfe=3, solver="dpm++2m")
    assert not network.batches
    plain = denoiser.replace(network=lambda x, t: 0.0 * x)
    assert np.isfinite(dpm.sample(plain, X_T, nfe=3)).all()  # noise prediction, from just above
