"""A run's arrays are its own: what networks, hooks and guidance write into them, or keep of them, changes nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.networks.guidance import Classifier, ClassifierFree

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
X_T = dpm.initial_noise(VP, (3, 4), seed=1)
SOLVERS = ["ddim", "dpm++2m", "dpm-3", "heun", "euler-ancestral", "unipc-2"]
ARRAYS = {"numpy": np.array, "torch": torch.tensor}
MODES = {"no mode": contextlib.nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}


def pure(x: Any, t: Any, **kwargs: Any) -> Any:
    return 0.3 * (0.5 * x.clip(0.0, None)) + 0.01 * t[:, None]


def in_place(x: Any, t: Any, **kwargs: Any) -> Any:
    """The same numbers; the first layer works on the input, as ReLU(inplace=True) does, and t is scaled where it lies."""
    x.clip(0.0, None, out=x) if isinstance(x, np.ndarray) else torch.nn.functional.relu(x, inplace=True)
    x *= 0.5
    t *= 0.01
    return 0.3 * x + t[:, None]


def runs(network: Any, x: Any, solver: str, **options: Any) -> Any:
    return dpm.sample(dpm.Denoiser(network, VP, **options), x, nfe=6, solver=solver, generator=0)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_network_that_writes_into_its_input_gives_what_the_pure_one_gives(solver: str, array: Any, mode: Any) -> None:
    """For every kind of plan and mode of torch, with exactly nfe calls, and x_T is left as it was."""
    calls = []
    x = array(X_T)

    def network(x: Any, t: Any) -> Any:
        calls.append(1)
        return in_place(x, t)

    with mode():
        given = runs(network, x, solver)
    assert len(calls) == 6
    np.testing.assert_array_equal(np.asarray(x), X_T)
    np.testing.assert_allclose(np.asarray(given), np.asarray(runs(pure, array(X_T), solver)), rtol=1e-12, atol=1e-12)


GUIDANCE: dict[str, Any] = {
    "batched": ClassifierFree(3.0, {"y": 1}, {"y": 1}),
    "two calls": ClassifierFree(3.0, {"y": 1}, None),
    "classifier": Classifier(0.5, gradient=lambda x, t: in_place(x, t)),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_guidance_and_networks_that_write_do_not_meet(guidance: str, array: Any) -> None:
    """Neither the second call of a guided evaluation nor the classifier sees what the first call wrote into x or t."""
    wanted = GUIDANCE[guidance]
    if guidance == "classifier":
        wanted = Classifier(0.5, gradient=pure)
    given = runs(in_place, array(X_T), "dpm-2m", guidance=GUIDANCE[guidance])
    np.testing.assert_allclose(
        np.asarray(given), np.asarray(runs(pure, array(X_T), "dpm-2m", guidance=wanted)), rtol=1e-12
    )


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_adaptive_runs_rk45_and_calibration_lend_alike(array: Any) -> None:
    """The loops beside the plan's give the same for a network that writes into its input."""
    for run in (
        lambda network: dpm.sample_adaptive(dpm.Denoiser(network, VP), array(X_T)),
        lambda network: dpm.sample_rk45(dpm.Denoiser(network, VP), array(X_T), rtol=1e-2, atol=1e-2).x,
        lambda network: dpm.calibrate(dpm.Denoiser(network, VP), array(X_T), levels=4, draws=1).scale,
    ):
        np.testing.assert_allclose(np.asarray(run(in_place)), np.asarray(run(pure)), rtol=1e-9)


def test_a_pure_network_gets_the_state_itself_after_its_first_call() -> None:
    """Nothing is copied for it: all calls but the first see the memory of the run's state."""
    places = []

    def network(x: Any, t: Any) -> Any:
        places.append(x.data_ptr())
        return 0.1 * x

    dpm.sample(dpm.Denoiser(network, VP), torch.from_numpy(X_T), nfe=8, solver="dpm++2m")
    assert len(set(places[1:])) == 1


def test_a_network_that_begins_to_write_later_is_told() -> None:
    """It would have spoilt the state: the error says what to do."""
    calls = []

    def network(x: Any, t: Any) -> Any:
        calls.append(1)
        return 0.1 * (x.mul_(0.5) if len(calls) == 3 else x)

    with pytest.raises(dpm.SamplingError, match=r"wrote into its input, though not at its first call.*x\.clone\(\)"):
        dpm.sample(dpm.Denoiser(network, VP), torch.from_numpy(X_T), nfe=5)
    assert len(calls) == 3


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("predicts", ["noise", "data"])
def test_a_network_may_return_its_input_or_one_array_of_its_own(predicts: str, solver: str, array: Any) -> None:
    """The input itself, a view of it, and a buffer that every call fills again, as compiled networks do."""
    buffer = array(np.zeros_like(X_T))

    def reuses(x: Any, t: Any) -> Any:
        buffer[...] = x
        return buffer

    networks = [lambda x, t: x + 0.0, lambda x, t: x, lambda x, t: x[:], reuses]
    wanted, *others = (runs(network, array(X_T), solver, predicts=predicts) for network in networks)
    for other in others:
        np.testing.assert_array_equal(np.asarray(other), np.asarray(wanted))


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_two_guided_calls_may_return_the_same_memory(array: Any) -> None:
    """A network that fills one buffer at each call is guided right."""
    buffer = array(np.zeros_like(X_T))

    def reuses(x: Any, t: Any, y: float = 0.0) -> Any:
        buffer[...] = y * x
        return buffer

    guidance = ClassifierFree(3.0, {"y": 0.1}, None)
    wanted = runs(lambda x, t, y=0.0: y * x, array(X_T), "dpm++2m", guidance=guidance)
    np.testing.assert_array_equal(
        np.asarray(runs(reuses, array(X_T), "dpm++2m", guidance=guidance)), np.asarray(wanted)
    )


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3"])
def test_hooks_and_callbacks_may_write_into_what_they_get(solver: str, array: Any) -> None:
    """What they return counts, and nothing else; a callback's arrays are copies."""

    def spoils(state: Any) -> None:
        state.x[...] = np.nan
        state.denoised[...] = np.nan

    def writes(x: Any, point: Any) -> Any:
        out = 0.9 * x
        x[...] = np.nan
        return out

    def denoiser(hook: Any) -> dpm.Denoiser:
        return dpm.Denoiser(pure, VP, data_hook=hook)

    given = dpm.sample(denoiser(writes), array(X_T), 6, solver=solver, state_hook=writes, callback=spoils)
    wanted = dpm.sample(denoiser(lambda x, p: 0.9 * x), array(X_T), 6, solver=solver, state_hook=lambda x, p: 0.9 * x)
    np.testing.assert_array_equal(np.asarray(given), np.asarray(wanted))


def test_a_callback_of_an_adaptive_run_cannot_change_its_steps() -> None:
    """Times, steps, errors and x of an `AdaptiveState` are copies."""

    def spoils(state: Any) -> None:
        for array in (state.times, state.steps, state.errors, state.x):
            array[...] = 7.0
        state.accepted[...] = False

    denoiser = dpm.models.Gaussian(mean=[0.5], variance=[0.25]).denoiser(VP)
    wanted = dpm.sample_adaptive(denoiser, X_T[:, :1])
    np.testing.assert_array_equal(dpm.sample_adaptive(denoiser, X_T[:, :1], callback=spoils), wanted)


@pytest.mark.parametrize("writes", [False, True])
def test_a_classifier_under_inference_mode_and_one_that_writes(writes: bool) -> None:
    """log_probability is differentiated under inference_mode, with labels made there, and may begin with ReLU(inplace=True)."""

    def log_probability(x: Any, t: Any, y: Any, more: Any) -> Any:
        x = torch.nn.functional.relu(x, inplace=True) if writes else torch.nn.functional.relu(x)
        return -((x - y) ** 2 * more["weights"][0]).sum(dim=1) * t

    def run() -> Any:
        kwargs = {"y": torch.full((3, 4), 0.5, dtype=torch.float64), "more": {"weights": [torch.ones(4)]}}
        guidance = Classifier(0.2, log_probability, kwargs=kwargs)
        x = torch.tensor(X_T)
        return [runs(pure, x, solver, guidance=guidance) for solver in ("dpm++2m", "dpm-3")] + [
            dpm.sample_adaptive(dpm.Denoiser(pure, VP, guidance=guidance), x)
        ]

    wanted = run()
    with torch.inference_mode():
        given = run()
    for a, b in zip(given, wanted, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, t: x, r"log_probability must return one number per sample, shape \(3,\), got \(3, 4\)"),
        (lambda x, t: x.sum(), r"one number per sample, shape \(3,\), got \(\)"),
        (lambda x, t: x.detach().sum(dim=1), "log_probability must be differentiable in x"),
        (lambda x, t: torch.ones(3, requires_grad=True), "log_probability must be differentiable in x"),
    ],
)
def test_a_log_probability_that_is_none_is_refused(function: Any, message: str) -> None:
    """Logits of many classes are not summed in silence, and a constant is not a raw error of autograd."""
    with pytest.raises(ValueError, match=message):
        runs(pure, torch.tensor(X_T), "dpm++2m", guidance=Classifier(1.0, function))
