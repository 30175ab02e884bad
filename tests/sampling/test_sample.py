"""The loop that executes a plan: against a reference written by hand, and everything a run promises its caller."""

from __future__ import annotations

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import UNCALIBRATED
from dpmsolver import backends
from dpmsolver.plans import Combination, Point, Row
from dpmsolver.solvers import SOLVERS

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
EDM = dpm.schedules.EDM()
X_T = dpm.initial_noise(VP, (3, 2, 4), seed=11)
GAUSSIAN = dpm.models.Gaussian(mean=[0.5, -1.0], variance=[0.3, 1.5])
ARRAYS = [np.array, torch.tensor]  # each makes a copy


def v_network(x: Any, t: Any) -> Any:
    """A smooth network that predicts v."""
    return 0.5 * (torch.tanh(x) if isinstance(x, torch.Tensor) else np.tanh(x))


DENOISER = dpm.Denoiser(v_network, VP, "v")


def copied(x: Any) -> Any:
    """A NumPy copy of an array of either framework."""
    return np.asarray(x).copy()


def budget(name: str, at_least: int = 6) -> int:
    """The smallest number of evaluations from `at_least` on that a solver can spend."""
    for nfe in range(at_least, at_least + 20):
        try:
            dpm.make_plan(name, VP, nfe)
        except dpm.PlanError:
            continue
        return nfe
    raise AssertionError(f"{name} can spend nothing")


def reference(plan: dpm.Plan, x: Any, seed: int = 0) -> tuple[Any, list[Any], list[Any]]:
    """The loop of the design in NumPy: the result, the inputs of the network and the predicted x_0 (all VP, v prediction)."""
    keys = [(seed, i) for i in range(len(x))]
    u, outputs, noise, inputs, denoised = x, [], [], [], []

    def combine(c: Combination) -> Any:
        total = c.state * x
        for coefficient, output in zip(c.outputs, outputs, strict=False):
            total = total + coefficient * output
        for coefficient, z in zip(c.noise, noise, strict=False):
            total = total + coefficient * z
        return total

    for index, row in enumerate(plan.rows):
        alpha, sigma, v = row.point.alpha, row.point.sigma, v_network(u, None)
        inputs.append(u)
        denoised.append(alpha * u - sigma * v)
        outputs.insert(0, denoised[-1] if plan.prediction == "data" else sigma * u + alpha * v)
        if row.output:
            outputs[0] = row.output.state * u + row.output.outputs[0] * outputs[0]
        noise.insert(0, backends.standard_normals(keys, index + 1, x.shape[1:]))
        x = combine(row.advance) if row.advance else x
        u = combine(row.predict) if row.predict else x
    return x, inputs, denoised


@pytest.mark.parametrize("solver", list(UNCALIBRATED))
def test_the_loop_is_the_one_of_the_design_for_every_solver(solver: str) -> None:
    """NumPy and torch in float64 equal the reference to 1e-12, torch in float32 to 1e-4, of the largest value."""
    plan = dpm.make_plan(solver, VP, budget(solver))
    expected, inputs, _ = reference(plan, X_T)
    size = max(abs(u).max() for u in [*inputs, expected])
    on_numpy = dpm.sample(DENOISER, X_T, plan=plan, generator=0)
    on_torch = dpm.sample(DENOISER, torch.from_numpy(X_T), plan=plan, generator=0, noise="host").numpy()
    single = dpm.sample(DENOISER, torch.from_numpy(X_T).float(), plan=plan, generator=0, noise="host").numpy()
    np.testing.assert_allclose(on_numpy, expected, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(on_torch, expected, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(single, expected, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("solver", list(UNCALIBRATED))
def test_exactly_nfe_calls_and_nfe_plus_one_states(solver: str, array: Any) -> None:
    """A run spends the budget to the call; iterate yields what the network saw, when, and the x_0 it predicted, and then the result."""
    plan = dpm.make_plan(solver, VP, budget(solver))
    calls = []

    def network(x: Any, t: Any) -> Any:
        calls.append((copied(x), float(t[0])))
        return v_network(x, t)

    denoiser = DENOISER.replace(network=network)
    states = list(dpm.iterate(denoiser, array(X_T), plan=plan, generator=0, noise="host"))
    assert len(calls) == plan.nfe
    assert [state.index for state in states] == list(range(plan.nfe + 1))
    assert [state.time for state in states] == [row.point.time for row in plan.rows] + [plan.end.time]
    assert [t for _, t in calls] == [row.point.label for row in plan.rows]
    expected, _, denoised = reference(plan, X_T)
    size = max(abs(u).max() for u, _ in calls)
    for state, (seen, _), x0 in zip(states, calls, denoised, strict=False):
        np.testing.assert_array_equal(np.asarray(state.x), seen)
        np.testing.assert_allclose(np.asarray(state.denoised), x0, rtol=0, atol=1e-11 * size)
    np.testing.assert_allclose(np.asarray(states[-1].x), expected, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(np.asarray(states[-1].denoised), denoised[-1], rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3", "dpm++3s", "ddim"])
def test_states_are_independent_copies(solver: str, array: Any) -> None:
    """States that are collected keep their values, share no memory, and writing into one changes neither the others nor the run."""
    expected = dpm.sample(DENOISER, array(X_T), nfe=6, solver=solver)
    kept, at_once = [], []
    for state in dpm.iterate(DENOISER, array(X_T), nfe=6, solver=solver):
        kept.append(state)
        at_once.append((copied(state.x), copied(state.denoised)))
    for state, (x, denoised) in zip(kept, at_once, strict=True):
        np.testing.assert_array_equal(np.asarray(state.x), x)
        np.testing.assert_array_equal(np.asarray(state.denoised), denoised)
    arrays = [np.asarray(a) for state in kept for a in (state.x, state.denoised)]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    for state in dpm.iterate(DENOISER, array(X_T), nfe=6, solver=solver):
        result = copied(state.x)
        state.x[:] = 1e9
        state.denoised[:] = 1e9
    np.testing.assert_array_equal(result, np.asarray(expected))


def test_iterate_is_lazy_and_a_run_can_be_left() -> None:
    """The network is called when a state is asked for, once each; a run that is dropped costs no more."""
    calls = []
    denoiser = DENOISER.replace(network=lambda x, t: calls.append(t) or v_network(x, t))
    states = dpm.iterate(denoiser, X_T, nfe=8)
    assert not calls
    next(states)
    next(states)
    assert len(calls) == 2


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3"])
def test_the_callback_gets_the_states_of_iterate(solver: str) -> None:
    """callback sees every state that iterate yields, in order, and does not change the result."""
    states: list[dpm.State] = []
    result = dpm.sample(DENOISER, X_T, nfe=6, solver=solver, callback=states.append)
    expected = list(dpm.iterate(DENOISER, X_T, nfe=6, solver=solver))
    assert [(s.index, s.time) for s in states] == [(s.index, s.time) for s in expected]
    for given, wanted in zip(states, expected, strict=True):
        np.testing.assert_array_equal(given.x, wanted.x)
        np.testing.assert_array_equal(given.denoised, wanted.denoised)
    np.testing.assert_array_equal(result, dpm.sample(DENOISER, X_T, nfe=6, solver=solver))


def test_the_progress_bar_counts_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    """progress=True ends at nfe of nfe evaluations; without it nothing is written."""
    pytest.importorskip("tqdm")
    dpm.sample(DENOISER, X_T, nfe=7, progress=True)
    assert "7/7" in capsys.readouterr().err
    dpm.sample(DENOISER, X_T, nfe=7)
    assert capsys.readouterr().err == ""


def test_the_progress_bar_names_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tqdm, progress=True says what to install."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        dpm.sample(DENOISER, X_T, nfe=3, progress=True)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3", "ddim"])
def test_x_T_is_not_changed(solver: str, array: Any) -> None:
    """Neither sample, encode nor the adaptive loop writes into its input, and the result is not a view of it."""
    x = array(X_T)
    result = dpm.sample(DENOISER, x, nfe=6, solver=solver)
    dpm.encode(DENOISER, x, nfe=6, solver=solver)
    dpm.sample_adaptive(DENOISER, x, order=2, atol=0.5, rtol=0.5)
    np.testing.assert_array_equal(np.asarray(x), X_T)
    assert not np.shares_memory(np.asarray(result), np.asarray(x))


@pytest.mark.parametrize(
    ("given", "returned"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
def test_the_result_is_float32_unless_x_T_is_float64(array: Any, given: str, returned: str) -> None:
    """Half-precision states are computed and returned in float32, float64 ones in float64; the shape is kept."""
    result = dpm.sample(DENOISER, array(X_T.astype(given)), nfe=4)
    assert str(result.dtype).removeprefix("torch.") == returned
    assert tuple(result.shape) == X_T.shape


def test_a_strided_x_T_is_taken_as_it_reads() -> None:
    """A transposed or sliced input gives what its contiguous copy gives."""
    for x in (X_T[::2], X_T.transpose(0, 2, 1), torch.from_numpy(X_T).transpose(1, 2)):
        expected = dpm.sample(DENOISER, np.ascontiguousarray(np.asarray(x)), nfe=4)
        np.testing.assert_allclose(np.asarray(dpm.sample(DENOISER, x, nfe=4)), expected, rtol=1e-12)


def test_a_plan_does_what_its_arguments_do() -> None:
    """plan= gives what the same arguments give to sample, iterate and encode, bit for bit."""
    arguments: dict[str, Any] = {"nfe": 6, "grid": "karras", "start": 0.9, "end": 1e-2, "rho": 5.0}
    plan = dpm.make_plan("dpm++3m", VP, **arguments)
    np.testing.assert_array_equal(
        dpm.sample(DENOISER, X_T, plan=plan), dpm.sample(DENOISER, X_T, solver="dpm++3m", **arguments)
    )
    again = dpm.Plan.from_json(plan.to_json())
    np.testing.assert_array_equal(dpm.sample(DENOISER, X_T, plan=plan), dpm.sample(DENOISER, X_T, 6, plan=again))
    up = dpm.make_plan("dpm-2m", VP, 6, start=1e-3, end=1.0)
    np.testing.assert_array_equal(dpm.encode(DENOISER, X_T, plan=up), dpm.encode(DENOISER, X_T, nfe=6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nfe": 7}, "nfe=7 but the plan spends 6"),
        ({"grid": "karras"}, "a plan already says its solver, grid, start, end and options"),
        ({"solver": "ddim"}, "a plan already says its solver"),
        ({"start": 0.5}, "a plan already says its"),
        ({"end": 0.5}, "a plan already says its"),
        ({"eta": 1.0}, "a plan already says its"),
    ],
)
def test_a_plan_beside_arguments_that_it_already_says_is_refused(arguments: dict[str, Any], message: str) -> None:
    """What would be ignored in silence is an error."""
    plan = dpm.make_plan("dpm++2m", VP, 6)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample(DENOISER, X_T, plan=plan, **arguments)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.iterate(DENOISER, X_T, plan=plan, **arguments)


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3", "dpm++2s"])
def test_a_state_hook_is_applied_at_every_evaluation_and_to_the_result(solver: str, array: Any) -> None:
    """The network sees what the hook returned, at every point of the plan and once more at its end."""
    points, returned, seen = [], [], []

    def hook(x: Any, point: Point) -> Any:
        points.append(point)
        returned.append(x.clip(-0.5, 0.5))
        return returned[-1]

    def network(x: Any, t: Any) -> Any:
        seen.append(copied(x))
        return v_network(x, t)

    plan = dpm.make_plan(solver, VP, 6)
    result = dpm.sample(DENOISER.replace(network=network), array(X_T), plan=plan, state_hook=hook)
    assert points == [row.point for row in plan.rows] + [plan.end]
    for x, wanted in zip([*seen, np.asarray(result)], returned, strict=True):
        np.testing.assert_array_equal(x, np.asarray(wanted))


@pytest.mark.parametrize("array", ARRAYS)
def test_a_state_hook_cannot_change_the_shape_or_the_type_of_the_state(array: Any) -> None:
    """Another shape is refused; another float type is cast back."""
    with pytest.raises(ValueError, match=r"state_hook must return the state's shape \(3, 2, 4\), got \(1, 2, 4\)"):
        dpm.sample(DENOISER, array(X_T), nfe=3, state_hook=lambda x, point: x[:1])
    single = array(X_T.astype(np.float32))
    double = array(X_T)
    result = dpm.sample(DENOISER, single, nfe=3, state_hook=lambda x, point: 0.5 * double)
    assert result.dtype == single.dtype


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3"])
def test_an_array_that_a_state_hook_keeps_is_not_written_into(solver: str, array: Any) -> None:
    """A hook may return its own array at every call: the run computes in copies of it."""
    known = array(X_T)
    dpm.sample(DENOISER, array(X_T), nfe=6, solver=solver, state_hook=lambda x, point: known)
    np.testing.assert_array_equal(np.asarray(known), X_T)


@pytest.mark.parametrize("solver", ["dpm-3", "dpm++3s", "dpm++2m", "dpm-2m"])
@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("kind", [np.float64, bool])
def test_inpainting_keeps_the_known_pixels_at_every_stage(solver: str, array: Any, kind: type) -> None:
    """Where mask = 1 the network sees alpha x_0 + sigma noise at each of its calls, stages of singlestep solvers included."""
    rng = np.random.default_rng(0)
    x0, noise = rng.standard_normal((2, *X_T.shape))
    mask = np.zeros((2, 4))
    mask[0, 1:3] = 1
    seen = []

    def network(x: Any, t: Any) -> Any:
        seen.append(copied(x))
        return v_network(x, t)

    plan = dpm.make_plan(solver, VP, 6)
    hook = dpm.inpaint(array(x0), array(mask.astype(kind)), array(noise))
    dpm.sample(DENOISER.replace(network=network), array(X_T), plan=plan, state_hook=hook)
    free = []
    dpm.sample(DENOISER.replace(network=lambda x, t: free.append(copied(x)) or v_network(x, t)), array(X_T), plan=plan)
    assert len(seen) == plan.nfe
    for x, row in zip(seen, plan.rows, strict=True):
        wanted = row.point.alpha * x0 + row.point.sigma * noise
        np.testing.assert_allclose(x[:, 0, 1:3], wanted[:, 0, 1:3], rtol=1e-13)
    np.testing.assert_array_equal(seen[0][:, 1], X_T[:, 1])
    assert abs(seen[-1] - free[-1])[:, 0, 1:3].min() > 1e-6


@pytest.mark.parametrize("array", ARRAYS)
def test_inpainting_returns_the_known_pixels_themselves_where_the_run_ends_clean(array: Any) -> None:
    """At sigma = 0 the known pixels of the result are x_0 to the bit, and the others are not."""
    rng = np.random.default_rng(1)
    x0, noise = rng.standard_normal((2, 3, 2))
    mask = np.array([[1.0, 0.0]])
    hook = dpm.inpaint(array(x0), array(mask), array(noise))
    x = array(dpm.initial_noise(EDM, (3, 2)))
    denoiser = GAUSSIAN.denoiser(EDM)
    result = np.asarray(dpm.sample(denoiser, x, nfe=6, state_hook=hook))
    np.testing.assert_array_equal(result[:, 0], x0[:, 0])
    assert abs(result[:, 1] - x0[:, 1]).min() > 1e-3


@pytest.mark.parametrize("array", ARRAYS)
def test_add_noise_is_the_forward_process_and_nothing_else(array: Any) -> None:
    """alpha(t) x_0 + sigma(t) noise, for one time and for a time per sample."""
    x0, noise = np.random.default_rng(2).standard_normal((2, 3, 2, 4))
    times = np.array([0.05, 1.0, 0.4])
    each = np.asarray(dpm.add_noise(VP, array(x0), array(noise), times))
    for i, t in enumerate(times):
        wanted = VP.alpha(t) * x0 + VP.sigma(t) * noise
        np.testing.assert_allclose(each[i], wanted[i], rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(np.asarray(dpm.add_noise(VP, array(x0), array(noise), t)), wanted, rtol=1e-13)
    np.testing.assert_array_equal(np.asarray(dpm.add_noise(VP, array(x0), array(noise), 0.0)), x0)


@pytest.mark.parametrize("array", ARRAYS)
def test_add_noise_refuses_what_does_not_fit(array: Any) -> None:
    """Noise of another shape, a wrong number of times, times outside the schedule, integers: the error says so."""
    x0, noise = array(np.ones((3, 2))), array(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"noise must have the data's shape \(3, 2\), got \(2, 2\)"):
        dpm.add_noise(VP, x0, noise[:2], 0.5)
    with pytest.raises(ValueError, match=r"one float or one per sample \(3\), got shape \(2,\)"):
        dpm.add_noise(VP, x0, noise, [0.5, 0.5])
    with pytest.raises(ValueError, match=r"time 500\.0 is outside this schedule"):
        dpm.add_noise(VP, x0, noise, 500.0)
    with pytest.raises(TypeError, match=r"x0 and noise must be floating point, got .*int64"):
        dpm.add_noise(VP, array(np.ones((3, 2), np.int64)), noise, [0.5, 0.5, 0.5])


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3"])
def test_image_to_image_starts_in_the_middle(solver: str) -> None:
    """add_noise at 0.5 and start=0.5: the first evaluation is there, and the exact ODE from there is followed."""
    x0, noise = GAUSSIAN.sample(5, seed=1), np.random.default_rng(3).standard_normal((5, 2))
    x = dpm.add_noise(VP, x0, noise, 0.5)
    states = list(dpm.iterate(GAUSSIAN.denoiser(VP), x, nfe=60, solver=solver, start=0.5))
    assert states[0].time == 0.5
    np.testing.assert_array_equal(states[0].x, x)
    np.testing.assert_allclose(states[-1].x, GAUSSIAN.trajectory(VP, x, 0.5, 1e-4), rtol=0, atol=5e-3)


def encoders() -> list[str]:
    """The solvers whose plan from small to large times exists and is deterministic.

    Without heunpp2, which spends three evaluations on a step of order 1: its round trip takes hundreds of them.
    """
    names = []
    for name in sorted(UNCALIBRATED.keys() - {"heunpp2"}):
        try:
            plan = dpm.make_plan(name, VP, budget(name, 12), start=1e-2, end=1.0)
        except dpm.PlanError:
            continue
        if not plan.stochastic:
            names.append(name)
    return names


def test_the_solvers_of_the_paper_can_encode() -> None:
    """Inversion is for every ODE solver of the DPM-Solver family, so the list that is tested below is not empty by accident."""
    family = {
        "ddim",
        "dpm-1",
        "dpm-2",
        "dpm-3",
        "dpm-fast",
        "dpm-2m",
        "dpm-3m",
        "dpm++2s",
        "dpm++3s",
        "dpm++2m",
        "dpm++3m",
    }
    assert family <= set(encoders())


@pytest.mark.parametrize("solver", encoders())
def test_encode_then_sample_is_a_round_trip(solver: str) -> None:
    """On a batch of Gaussian data the round trip's error falls with nfe, and what is encoded is what the exact ODE encodes."""
    x0, denoiser = GAUSSIAN.sample(4, seed=1), GAUSSIAN.denoiser(VP)
    errors = []
    for nfe in (budget(solver, n) for n in (12, 24, 48)):
        x_T = dpm.encode(denoiser, x0, nfe=nfe, solver=solver, start=1e-2)
        errors.append(abs(dpm.sample(denoiser, x_T, nfe=nfe, solver=solver, end=1e-2) - x0).max())
    first_order = SOLVERS[solver].order == 1
    # A polynomial in sigma/alpha is a poor one of what is smooth in its logarithm.
    in_rho = solver.startswith(("deis-rhoab", "lms", "ipndm-v"))
    assert errors[0] > 1.6 * errors[1] > 1.6**2 * errors[2]
    assert errors[2] < (0.15 if first_order else 6e-3 if in_rho else 2e-3)
    exact = GAUSSIAN.trajectory(VP, x0, 1e-2, 1.0)
    assert abs(x_T - exact).max() < (0.1 if first_order else 2e-2)


@pytest.mark.parametrize("array", ARRAYS)
def test_encode_runs_from_the_last_time_to_t_max_by_default(array: Any) -> None:
    """Its defaults are dpm-2m from last_time to t_max; grids by name, by array, callbacks and hooks work as in sample."""
    states: list[dpm.State] = []
    x_T = dpm.encode(DENOISER, array(X_T), nfe=5, callback=states.append)
    assert (states[0].time, states[-1].time) == (1e-3, 1.0)
    times = [state.time for state in states]
    np.testing.assert_allclose(
        np.asarray(dpm.encode(DENOISER, array(X_T), nfe=5, grid=times)), np.asarray(x_T), rtol=1e-12
    )
    plan = dpm.make_plan("dpm-2m", VP, 5, start=1e-3, end=1.0)
    np.testing.assert_array_equal(np.asarray(dpm.sample(DENOISER, array(X_T), plan=plan)), np.asarray(x_T))
    assert abs(dpm.encode(DENOISER, X_T, nfe=5, grid="time") - np.asarray(x_T)).max() > 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plan": dpm.make_plan("ddim", VP, 4, eta=1.0)}, "adds noise: a stochastic plan cannot be run backwards"),
        ({"plan": dpm.make_plan("ddim", VP, 4)}, "runs towards the data: make it with start < end"),
        ({"nfe": 4, "start": 0.9, "end": 0.1}, r"from small to large times, got start=0\.9, end=0\.1"),
        ({"nfe": 4, "solver": "ddim", "eta": 1.0}, "eta > 0 adds noise and cannot run backwards"),
        ({"nfe": 4, "grid": [1.0, 0.5, 0.3, 0.2, 0.1]}, "runs towards the data"),
        ({"nfe": 4, "solver": "dpm++2m", "start": 0.0}, "cannot leave sigma = 0"),
        ({}, "how many network evaluations"),
        ({"nfe": 4, "eat": 1.0}, "unknown option 'eat'"),
    ],
)
def test_encode_refuses_what_has_no_inverse(arguments: dict[str, Any], message: str) -> None:
    """Stochastic plans, the wrong direction, data prediction from clean data: refused before the network is called."""
    calls = []
    denoiser = DENOISER.replace(network=lambda x, t: calls.append(t) or x)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.encode(denoiser, X_T, **arguments)
    assert not calls


def test_initial_noise_of_a_sample_does_not_depend_on_the_batch() -> None:
    """Sample i is the same in a batch of 3 and of 50, different samples and seeds differ."""
    few, many = (dpm.initial_noise(VP, (n, 5), seed=9) for n in (3, 50))
    np.testing.assert_array_equal(few, many[:3])
    assert len(np.unique(many.round(12))) == many.size
    assert abs(few - dpm.initial_noise(VP, (3, 5), seed=10)).min() > 0


@pytest.mark.parametrize("schedule", [VP, EDM, dpm.schedules.Flow(), dpm.schedules.CosineVP()])
def test_initial_noise_has_the_standard_deviation_of_the_start(schedule: dpm.schedules.NoiseSchedule) -> None:
    """sigma(t_max): 80 for EDM, 1 for flows."""
    noise = dpm.initial_noise(schedule, (400, 100))
    assert noise.std() == pytest.approx(schedule.sigma(schedule.t_max), rel=0.02)
    assert abs(noise.mean()) < 0.02 * noise.std()


def test_initial_noise_takes_seeds_and_generators() -> None:
    """A list gives each sample its seed, wherever it stands; NumPy's and torch's generators are drawn from and move on."""
    a, b = dpm.initial_noise(VP, (2, 5), seed=[3, 8]), dpm.initial_noise(VP, (3, 5), seed=[8, 1, 3])
    np.testing.assert_array_equal(a[[1, 0]], b[[0, 2]])
    for make in (np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)):
        generator = make(5)
        first, second = (dpm.initial_noise(VP, (2, 5), generator) for _ in range(2))
        np.testing.assert_array_equal(first, dpm.initial_noise(VP, (2, 5), make(5)))
        assert abs(first - second).min() > 0


def test_initial_noise_like_an_array() -> None:
    """It has the framework and the type of `like`; the host's numbers are the same on both frameworks, the frameworks' own are not."""
    like = torch.zeros(1, dtype=torch.float32)
    on_torch, own = (dpm.initial_noise(VP, (2, 5), like=like, noise=noise) for noise in ("host", "independent"))
    assert on_torch.dtype == own.dtype == torch.float32
    wanted = dpm.initial_noise(VP, (2, 5)).astype(np.float32)
    np.testing.assert_array_equal(on_torch.numpy(), wanted)
    np.testing.assert_allclose(dpm.initial_noise(VP, (2, 5), like=wanted), wanted, rtol=2e-7)
    assert abs(own.numpy() - wanted).min() > 0
    torch.testing.assert_close(own[1:], dpm.initial_noise(VP, (1, 5), [(0, 1)], like=like))
    with pytest.raises(dpm.PlanError, match="brownian"):
        dpm.initial_noise(VP, (2, 5), noise="brownian")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ([1, 2], "one seed per sample is needed: 3 samples, 2 seeds"),
        (-1, "seeds must be >= 0"),
        ([1, -2, 3], "seeds must be >= 0"),
        ([0.1, 0.2, 0.3], r"seeds must be integers, got \[0\.1"),
        ("abc", "generator must be an int.*got str"),
        (1.5, "generator must be an int.*got float"),
        (True, "generator must be an int.*got bool"),
    ],
)
def test_randomness_that_is_not_a_seed_is_refused(seed: Any, message: str) -> None:
    """For initial noise and for stochastic solvers alike, before the network is called."""
    with pytest.raises(dpm.PlanError, match=message):
        dpm.initial_noise(VP, (3, 2), seed)
    calls = []
    denoiser = DENOISER.replace(network=lambda x, t: calls.append(t) or x)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample(denoiser, X_T, nfe=3, solver="ddim", eta=1.0, generator=seed)
    assert not calls


def test_normals_of_different_keys_and_intervals_differ() -> None:
    """No two pairs of key and interval share a stream, not even those whose numbers read the same in a row."""
    pairs = [((7,), 3), ((7, 3), 0), ((7, 3), 1), ((3,), 7), ((7,), 0), ((7, 3), 3), ((3, 7), 0), ((7, 1), 3)]
    drawn = np.concatenate([backends.standard_normals([key], interval, (4,)) for key, interval in pairs])
    gaps = abs(drawn[:, None] - drawn[None]).max(axis=2)
    assert gaps[~np.eye(len(pairs), dtype=bool)].min() > 0.1


STOCHASTIC: dict[str, Any] = {"nfe": 6, "solver": "ddim", "eta": 1.0}


def test_stochastic_samples_do_not_depend_on_the_batch() -> None:
    """ddim with eta = 1: sample i of a batch is the same whatever the batch around it, from an int, and from a seed each."""
    whole = dpm.sample(DENOISER, X_T, generator=3, **STOCHASTIC)
    np.testing.assert_array_equal(dpm.sample(DENOISER, X_T[:1], generator=3, **STOCHASTIC), whole[:1])
    seeded = dpm.sample(DENOISER, X_T, generator=[5, 6, 7], **STOCHASTIC)
    np.testing.assert_array_equal(dpm.sample(DENOISER, X_T[[2, 0]], generator=[7, 5], **STOCHASTIC), seeded[[2, 0]])


def test_stochastic_samples_are_the_seeds() -> None:
    """The same seed gives the same samples, another seed others, no seed fresh ones; generators of both frameworks are used."""
    first = dpm.sample(DENOISER, X_T, generator=3, **STOCHASTIC)
    np.testing.assert_array_equal(dpm.sample(DENOISER, X_T, generator=3, **STOCHASTIC), first)
    assert abs(dpm.sample(DENOISER, X_T, generator=4, **STOCHASTIC) - first).min() > 0
    fresh = [dpm.sample(DENOISER, X_T, **STOCHASTIC) for _ in range(2)]
    assert abs(fresh[0] - fresh[1]).min() > 0
    for make in (np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)):
        same = [dpm.sample(DENOISER, X_T, generator=make(seed), **STOCHASTIC) for seed in (1, 1, 2)]
        np.testing.assert_array_equal(same[0], same[1])
        assert abs(same[0] - same[2]).min() > 0


def test_noise_of_the_host_is_the_same_on_both_frameworks() -> None:
    """torch and NumPy use the same numbers; torch's own are others, and NumPy's own are the host's."""
    host = dpm.sample(DENOISER, X_T, generator=3, noise="host", **STOCHASTIC)
    np.testing.assert_array_equal(dpm.sample(DENOISER, X_T, generator=3, **STOCHASTIC), host)
    own = dpm.sample(DENOISER, torch.from_numpy(X_T), generator=3, **STOCHASTIC)
    assert abs(own.numpy() - host).max() > 0.1
    on_torch = dpm.sample(DENOISER, torch.from_numpy(X_T), generator=3, noise="host", **STOCHASTIC)
    np.testing.assert_allclose(on_torch.numpy(), dpm.sample(DENOISER, X_T, generator=3, **STOCHASTIC), rtol=1e-12)


def test_initial_noise_and_the_steps_noise_of_one_seed_are_independent() -> None:
    """The usual seed=0 for both does not add x_T to itself."""
    x = dpm.initial_noise(VP, (1, 4000), seed=0)
    states = list(dpm.iterate(dpm.Denoiser(lambda x, t: 0.0 * x, VP, "data"), x, generator=0, **STOCHASTIC))
    plan = dpm.make_plan("ddim", VP, 6, eta=1.0)
    added = states[1].x - plan.rows[0].advance.state * x  # type: ignore[union-attr]
    assert abs(np.corrcoef(added[0], x[0])[0, 1]) < 0.06


@pytest.mark.parametrize("solver", ["dpm++3m", "dpm-3", "dpm++2m", "dpm-2m", "ddim"])
@pytest.mark.parametrize("predicts", ["noise", "data", "v"])
def test_a_network_that_returns_its_own_input_does_no_harm(solver: str, predicts: Any) -> None:
    """The identity without a copy gives what the identity with a copy gives, to the bit."""
    for x in (X_T, torch.from_numpy(X_T)):
        unsafe = dpm.sample(dpm.Denoiser(lambda x, t: x, VP, predicts), x, nfe=6, solver=solver)
        safe = dpm.sample(dpm.Denoiser(lambda x, t: 1.0 * x, VP, predicts), x, nfe=6, solver=solver)
        np.testing.assert_array_equal(np.asarray(unsafe), np.asarray(safe))


@pytest.mark.parametrize("solver", ["dpm++3m", "dpm-3", "dpm++2m", "dpm-2m", "ddim"])
@pytest.mark.parametrize("predicts", ["noise", "data", "v"])
def test_a_network_that_reuses_its_output_buffer_does_no_harm(solver: str, predicts: Any) -> None:
    """One buffer for every output, as captured graphs have it: earlier outputs are kept apart from it."""
    for x, buffer in ((X_T, np.empty_like(X_T)), (torch.from_numpy(X_T), torch.empty(X_T.shape, dtype=torch.float64))):

        def reuse(x: Any, t: Any, buffer: Any = buffer) -> Any:
            buffer[:] = v_network(x, t)
            return buffer

        unsafe = dpm.sample(dpm.Denoiser(reuse, VP, predicts), x, nfe=6, solver=solver)
        safe = dpm.sample(dpm.Denoiser(v_network, VP, predicts), x, nfe=6, solver=solver)
        np.testing.assert_array_equal(np.asarray(unsafe), np.asarray(safe))


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-3"])
def test_threads_share_a_plan_and_a_denoiser(solver: str) -> None:
    """Runs of different shapes at the same time, from one plan and one denoiser, each give what they give alone."""
    plan = dpm.make_plan(solver, VP, 9)
    states = [dpm.initial_noise(VP, (1 + i % 3, 2 + i % 5), seed=i) for i in range(24)]
    alone = [dpm.sample(DENOISER, x, plan=plan) for x in states]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: dpm.sample(DENOISER, x, plan=plan), states))
    for given, wanted in zip(together, alone, strict=True):
        np.testing.assert_array_equal(given, wanted)


def test_runs_can_be_interleaved() -> None:
    """Two runs of one plan, advanced in turn, do not touch each other."""
    plan = dpm.make_plan("dpm++3m", VP, 6)
    pair = [list(s) for s in zip(*(dpm.iterate(DENOISER, x, plan=plan) for x in (X_T, -2 * X_T)), strict=True)]
    for run, x in enumerate((X_T, -2 * X_T)):
        np.testing.assert_array_equal(pair[-1][run].x, dpm.sample(DENOISER, x, plan=plan))


def test_memory_on_numpy_is_the_state_two_outputs_and_one_temporary() -> None:
    """Peak allocation of dpm++2m, with a network that owns its output: 4 states of 8 MB, and nothing that grows with nfe."""
    x, buffer = np.ones((4, 2**18)), np.empty((4, 2**18))
    denoiser = dpm.Denoiser(lambda x, t: np.multiply(x, 0.3, out=buffer), VP)
    plan = dpm.make_plan("dpm++2m", VP, 8)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        dpm.sample(denoiser, x, plan=plan)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert 2.9 < peak / x.nbytes < 4.05


def test_memory_on_torch_is_the_state_two_outputs_and_one_temporary() -> None:
    """Peak of torch's own allocations for dpm++2m on 4 million elements, with a network that owns its output, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    x, buffer = torch.ones(4, 2**20), torch.empty(4, 2**20)
    denoiser = dpm.Denoiser(lambda x, t: torch.mul(x, 0.3, out=buffer), VP)
    plan = dpm.make_plan("dpm++2m", VP, 5)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        dpm.sample(denoiser, x, plan=plan)
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    peak = np.cumsum(changes).max() / (4 * x.numel())
    assert 2.9 < peak < 4.05


def test_progress_may_be_a_function() -> None:
    """It is told (evaluations done, evaluations in all) before each evaluation and after the last."""
    seen: list[tuple[int, int]] = []
    denoiser = dpm.Denoiser(lambda x, t: 0 * x, dpm.schedules.LinearVP(), "data")
    dpm.sample(denoiser, np.ones((1, 2)), nfe=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_interrupted_run_leaves_no_open_bar() -> None:
    """A KeyboardInterrupt in the network closes the progress bar, also while a traceback keeps the run alive."""
    tqdm = pytest.importorskip("tqdm.auto").tqdm

    def interrupted(x: Any, t: Any) -> Any:
        raise KeyboardInterrupt

    denoiser = dpm.Denoiser(interrupted, dpm.schedules.LinearVP())
    with pytest.raises(KeyboardInterrupt) as kept:
        dpm.sample(denoiser, np.ones((1, 2)), nfe=3, progress=True)
    assert kept.value is not None
    assert not tqdm._instances


def test_a_plan_that_uses_no_output_runs() -> None:
    """No combination needs an output: the run still makes its evaluation, and keeps the output for nobody."""
    start, end = (Point.at(VP, t) for t in (1.0, 0.5))
    plan = dpm.Plan("data", (Row(start, advance=Combination(0.5)),), end, keeps_marginals=False)
    x = dpm.sample(dpm.Denoiser(lambda x, t: 0 * x, VP, "data"), np.ones((1, 1)), plan=plan)
    np.testing.assert_array_equal(x, [[0.5]])
