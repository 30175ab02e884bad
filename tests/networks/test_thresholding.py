"""Thresholding: the formula by hand, per sample, and through a denoiser whatever its plan predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.backends.arrays import quantile
from dpmsolver.networks.thresholding import dynamic, static
from dpmsolver.plans import Point

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
POINT = Point.at(VP, 0.5)
# 201 values with |x| = 0.00, 0.01 … 2.00: the quantile 0.995 of |x| is the 200th of them, 1.99, without interpolation.
WIDE = np.linspace(0.0, 2.0, 201) * np.where(np.arange(201) % 2, 1.0, -1.0)
BOTH = np.stack([WIDE, 0.25 * WIDE]).reshape(2, 1, 3, 67)
ARRAYS = [np.asarray, torch.from_numpy]


@pytest.mark.parametrize("array", ARRAYS)
def test_dynamic_divides_by_the_quantile_where_it_exceeds_one(array: Any) -> None:
    """s = 1.99 > 1: x_0 <- clip(x_0, -1.99, 1.99)/1.99. Not the static clip to [-1, 1], which would flatten half of the values."""
    given = np.asarray(dynamic()(array(BOTH), POINT))
    np.testing.assert_allclose(given[0].ravel(), np.clip(WIDE, -1.99, 1.99) / 1.99, rtol=1e-12)
    assert (abs(given[0]) < 0.999).sum() == 199
    assert abs(given[0] - np.clip(BOTH[0], -1, 1)).max() > 0.4


@pytest.mark.parametrize("array", ARRAYS)
def test_dynamic_leaves_a_sample_inside_the_range_alone(array: Any) -> None:
    """s is never below max_value: a sample of small contrast is not stretched."""
    np.testing.assert_array_equal(np.asarray(dynamic()(array(BOTH), POINT))[1], BOTH[1])


@pytest.mark.parametrize("array", ARRAYS)
def test_dynamic_looks_at_each_sample_and_not_at_the_batch(array: Any) -> None:
    """A sample comes out the same alone and beside any other."""
    together = np.asarray(dynamic()(array(BOTH), POINT))
    for i in range(2):
        np.testing.assert_array_equal(np.asarray(dynamic()(array(BOTH[i : i + 1]), POINT))[0], together[i])


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize(("ratio", "max_value"), [(0.9, 1.0), (0.995, 0.5), (1.0, 1.0), (0.5, 1.5)])
def test_dynamic_is_the_published_formula(array: Any, ratio: float, max_value: float) -> None:
    """s = max(quantile_ratio |x_0|, max_value) per sample, x_0 <- clip(x_0, -s, s)/s max_value, for any ratio and range."""
    expected = []
    for x0 in BOTH:
        s = max(np.quantile(abs(x0), ratio), max_value)
        expected.append(np.clip(x0, -s, s) / s * max_value)
    np.testing.assert_allclose(np.asarray(dynamic(ratio, max_value)(array(BOTH), POINT)), expected, rtol=1e-12)


@pytest.mark.parametrize("q", [1e-3, 0.3, 0.5, 0.995, 1.0])
@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_the_quantile_is_the_interpolated_one(size: int, q: float) -> None:
    """That of np.quantile and torch.quantile, per sample."""
    x = np.random.default_rng(size).standard_normal((3, size))
    given = quantile(torch.from_numpy(x), q)
    np.testing.assert_allclose(given[:, 0].numpy(), np.quantile(abs(x), q, axis=1), rtol=1e-12)
    np.testing.assert_allclose(given[:, 0], torch.from_numpy(x).abs().quantile(q, dim=1), rtol=1e-12)
    np.testing.assert_allclose(quantile(x, q)[:, 0], np.quantile(abs(x), q, axis=1), rtol=1e-12)


@pytest.mark.parametrize("array", ARRAYS)
def test_samples_may_have_more_than_2_to_the_24_values(array: Any) -> None:
    """torch.quantile refuses them, and float32 cannot count them: the quantile of 0 … n - 1 is found to the value."""
    n = 2**24 + 8
    x = array(np.arange(n, dtype=np.float32)[None])
    place = 0.9999999 * (n - 1)
    assert abs(float(quantile(x, 0.9999999)[0, 0]) - place) <= 2.0


@pytest.mark.parametrize("array", ARRAYS)
def test_static_clips(array: Any) -> None:
    """Values inside are kept to the bit, values outside become the limit."""
    np.testing.assert_array_equal(np.asarray(static(0.75)(array(BOTH), POINT)), np.clip(BOTH, -0.75, 0.75))


@pytest.mark.parametrize("hook", [dynamic(), static()])
def test_float32_stays_float32_on_both_frameworks(hook: Any) -> None:
    """Same numbers and the input's type on NumPy and torch."""
    x0 = BOTH.astype(np.float32)
    on_numpy, on_torch = hook(x0, POINT), hook(torch.from_numpy(x0), POINT)
    assert (on_numpy.dtype, on_torch.dtype) == (np.float32, torch.float32)
    np.testing.assert_allclose(on_torch.numpy(), on_numpy, rtol=1e-6)


@pytest.mark.parametrize("array", ARRAYS)
def test_states_without_further_axes(array: Any) -> None:
    """A batch of numbers, shape (B,), is a batch of samples of one value each."""
    x0 = np.array([3.0, -0.5])
    np.testing.assert_allclose(np.asarray(dynamic()(array(x0), POINT)), [1.0, -0.5])


@pytest.mark.parametrize("arguments", [{"ratio": 0.0}, {"ratio": 1.1}, {"max_value": 0.0}, {"ratio": float("nan")}])
def test_dynamic_refuses_what_cannot_be(arguments: dict[str, float]) -> None:
    """A quantile outside (0, 1], a range that is not positive."""
    with pytest.raises(ValueError, match=r"ratio must lie in \(0, 1\] and max_value be positive"):
        dynamic(**arguments)


def test_static_refuses_what_cannot_be() -> None:
    """A range that is not positive."""
    with pytest.raises(ValueError, match=r"max_value must be positive, got -1\.0"):
        static(-1.0)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("hook", [dynamic(), static(0.8)])
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm++3s", "dpm-2m", "dpm-3"])
@pytest.mark.parametrize("predicts", ["noise", "data"])
def test_every_predicted_x0_is_corrected_whatever_the_plan_works_on(
    hook: Any, solver: str, predicts: Any, array: Any
) -> None:
    """At every evaluation of a noise or a data plan, the x_0 that the run uses is the hook of the network's x_0."""

    def x0_of(x: Any) -> Any:
        return 2.5 * np.tanh(x) + 0.1

    def network(x: Any, t: Any) -> Any:
        alpha, sigma = VP.alpha(float(t[0])), VP.sigma(float(t[0]))
        x0 = x0_of(np.asarray(x))
        return array(x0 if predicts == "data" else (np.asarray(x) - alpha * x0) / sigma)

    x_T = array(dpm.initial_noise(VP, (2, 1, 5, 5), seed=8))
    denoiser = dpm.Denoiser(network, VP, predicts, data_hook=hook)
    states = list(dpm.iterate(denoiser, x_T, nfe=6, solver=solver))
    for state in states[:-1]:
        raw = x0_of(np.asarray(state.x))
        expected = hook(raw, POINT)
        np.testing.assert_allclose(np.asarray(state.denoised), expected, rtol=1e-9, atol=1e-9)
        assert abs(raw - expected).max() > 0.1


def test_the_hook_sees_the_point_of_each_evaluation() -> None:
    """A correction that depends on the noise level gets the alpha, sigma and time of the evaluation."""
    seen = []

    def hook(x0: Any, point: Point) -> Any:
        seen.append(point)
        return x0

    plan = dpm.make_plan("dpm-3", VP, 6)
    dpm.sample(dpm.Denoiser(lambda x, t: x, VP, data_hook=hook), np.ones((1, 2)), plan=plan)
    assert seen == [row.point for row in plan.rows]


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-2m"])
def test_an_array_that_a_hook_keeps_is_not_written_into(array: Any, solver: str) -> None:
    """A hook may return its own array at every call: the run's buffers are never the caller's."""
    known = array(np.full((1, 2), 0.5))
    denoiser = dpm.Denoiser(lambda x, t: 0.0 * x, VP, "data", data_hook=lambda x0, point: known)
    dpm.sample(denoiser, array(np.ones((1, 2))), nfe=6, solver=solver)
    np.testing.assert_array_equal(np.asarray(known), 0.5)


@pytest.mark.parametrize("array", [np.array, torch.tensor])
@pytest.mark.parametrize("solver", ["dpm++3m", "dpm-3m", "dpm-3"])
def test_a_hook_may_reuse_its_buffer(array: Any, solver: str) -> None:
    """A hook that writes each x_0 into one array of its own does not change the outputs that the run still needs."""
    x = array(dpm.initial_noise(VP, (2, 3), seed=1))
    buffer = array(np.empty((2, 3)))

    def reuse(x0: Any, point: Point) -> Any:
        buffer[:] = x0.clip(-0.5, 0.5)
        return buffer

    unsafe, safe = (
        dpm.sample(dpm.Denoiser(lambda x, t: 0.9 * x, VP, "data", data_hook=hook), x, nfe=6, solver=solver)
        for hook in (reuse, lambda x0, point: x0.clip(-0.5, 0.5))
    )
    np.testing.assert_array_equal(np.asarray(unsafe), np.asarray(safe))


def test_a_hook_of_another_shape_is_refused() -> None:
    """It is not broadcast in silence."""
    denoiser = dpm.Denoiser(lambda x, t: 0.0 * x, VP, "data", data_hook=lambda x0, point: x0[:1])
    with pytest.raises(ValueError, match=r"data_hook must return x0's shape \(2, 2\), got \(1, 2\)"):
        dpm.sample(denoiser, np.ones((2, 2)), nfe=3)
