"""The warning of a start whose standard deviation is far from the plan's: what it says, and every run that it leaves alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm

torch = pytest.importorskip("torch")

EDM, VP, FLOW = dpm.schedules.EDM(), dpm.schedules.LinearVP(), dpm.schedules.Flow()
DISCRETE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
NORMALS = np.random.default_rng(0).standard_normal((4, 3, 8, 8))
PICTURES = np.random.default_rng(1).uniform(-1.0, 1.0, NORMALS.shape)


def denoiser(schedule: Any) -> dpm.Denoiser:
    return dpm.Denoiser(lambda x, t: 0.1 * x, schedule, "data")


RUNS: dict[str, Callable[[dpm.Denoiser, Any], Any]] = {
    "sample": lambda d, x: dpm.sample(d, x, nfe=3),
    "iterate": lambda d, x: [state.index for state in dpm.iterate(d, x, nfe=3)],
    "sample_adaptive": lambda d, x: dpm.sample_adaptive(d, x, rtol=10.0, atol=10.0),
    "sample_rk45": lambda d, x: dpm.sample_rk45(d, x, rtol=1.0, atol=1.0),
}


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_unit_normals_for_edm_are_told_of(run: Callable[[dpm.Denoiser, Any], Any], framework: str) -> None:
    """`randn` instead of 80 `randn`: one warning, at the caller's line, with both deviations and the function that does it right."""
    x_T = NORMALS if framework == "numpy" else torch.from_numpy(NORMALS)
    with pytest.warns(
        dpm.ConventionWarning, match=r"deviation of (0\.9\d*|1\.0\d*), .* sigma=80: start from dpm"
    ) as told:
        run(denoiser(EDM), x_T)
    assert len(told) == 1
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("schedule", "x_T"),
    [
        (VP, 80.0 * NORMALS),  # the start of EDM
        (DISCRETE, np.random.default_rng(2).random(NORMALS.shape)),  # rand for randn
        (FLOW, 0.1 * NORMALS),
        (DISCRETE, 255.0 * NORMALS),
    ],
    ids=["EDM's noise for VP", "uniform numbers", "a tenth", "bytes"],
)
def test_other_wrong_starts_are_told_of(schedule: Any, x_T: Any) -> None:
    with pytest.warns(dpm.ConventionWarning, match="x_T has a standard deviation of"):
        dpm.sample(denoiser(schedule), x_T, nfe=2)


def silently(run: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(*arguments, nfe=2, **settings)


@pytest.mark.parametrize("schedule", [EDM, VP, FLOW, DISCRETE, dpm.schedules.SubVP()], ids=repr)
def test_right_starts_are_left_alone(schedule: Any) -> None:
    """initial_noise at temperatures from 0.7 to 1.5, image to image from every level, one colour, and a state far from zero."""
    asked = denoiser(schedule)
    for temperature in (0.7, 0.9, 1.0, 1.1, 1.5):
        silently(dpm.sample, asked, temperature * dpm.initial_noise(schedule, NORMALS.shape))
    for share in (0.01, 0.1, 0.3, 0.6, 0.9, 1.0):
        start = schedule.t_min + share * (schedule.t_max - schedule.t_min)
        for data in (PICTURES, np.full_like(PICTURES, 0.7), 3.0 + PICTURES):
            noisy = dpm.add_noise(schedule, data, NORMALS, start)
            silently(dpm.sample, asked, noisy, start=start)


def test_states_that_say_nothing_are_left_alone() -> None:
    """Constants, which nobody takes for noise, fewer than 100 numbers, and runs towards the noise."""
    for constant in (np.ones((4, 3, 8, 8)), np.full((4, 3, 8, 8), 0.7, np.float32), torch.full((4, 3, 8, 8), 0.7)):
        silently(dpm.sample, denoiser(EDM), constant)
        silently(dpm.sample, denoiser(VP), constant)
    silently(dpm.sample, denoiser(EDM), NORMALS[:1, :, :4, :8])
    silently(dpm.encode, denoiser(EDM), 0.01 * PICTURES)


def test_a_large_state_is_judged_by_a_thousand_numbers_of_all_its_samples() -> None:
    """Two samples of which one is right: the deviation is of both, whatever their order, and costs no pass over the state."""
    from dpmsolver import backends
    from dpmsolver.backends import arrays

    half = np.concatenate([np.zeros((1, 3, 64, 64)), np.ones((1, 3, 64, 64))])
    for x in (half, half[::-1], torch.from_numpy(half)):
        assert arrays.deviation(backends.of(x), x) == pytest.approx(0.5, abs=1e-3)


def test_a_device_that_must_not_be_waited_for_is_asked_after_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the deviation is a device scalar, nothing reads it before the last evaluation; then it is told as elsewhere."""
    from dpmsolver.backends import arrays

    order: list[str] = []

    class Scalar:
        def __float__(self) -> float:
            order.append("read")
            return 1.0

    def network(x: Any, t: Any) -> Any:
        order.append("evaluated")
        return 0.1 * x

    monkeypatch.setattr(arrays, "deviation", lambda backend, x: Scalar())
    with pytest.warns(dpm.ConventionWarning) as told:
        dpm.sample(dpm.Denoiser(network, EDM, "data"), torch.from_numpy(NORMALS), nfe=3)
    assert order == ["evaluated"] * 3 + ["read"]
    assert told[0].filename == __file__
    monkeypatch.setattr(arrays, "deviation", lambda backend, x: None)  # while a CUDA graph is captured
    silently(dpm.sample, denoiser(EDM), torch.from_numpy(NORMALS))
