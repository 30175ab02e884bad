"""A long traced run is one scan: the numbers of the loop, in a function whose size does not grow with the evaluations."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import a_budget, answering
from dpmsolver.backends.numpy import NumpyBackend
from dpmsolver.sampling.execution import Run
from dpmsolver.sampling.scanned import LONG, is_scanned, scanned
from dpmsolver.solvers import SOLVERS

SCHEDULE = dpm.schedules.LinearVP()
X_T = np.random.default_rng(0).standard_normal((4, 3))


def by_a_loop(body: Any, carry: Any, rows: Any) -> Any:
    """What a scan does, in Python."""
    for each in zip(*rows, strict=True):
        carry = body(carry, type(rows)(*each))
    return carry


@pytest.mark.parametrize("name", [name for name in SOLVERS if not SOLVERS[name].calibrated])
def test_every_solver_is_the_same_in_arrays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The padded rows give the run of the plan's own, to rounding, with the noise of the host and with the framework's."""
    monkeypatch.setattr(NumpyBackend, "scan", staticmethod(by_a_loop))
    plan = dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]))
    assert plan.begin is None
    assert not plan.elementwise
    denoiser = answering(dpm.Denoiser(lambda x, t: 0.3 * np.tanh(x + t[:, None]), SCHEDULE), plan)
    for noise in ("host", "independent"):
        states = list(dpm.iterate(denoiser, X_T, plan=plan, generator=5, noise=noise))
        size = max(abs(state.x).max() for state in states)
        found = scanned(Run(denoiser, X_T, plan, 5, noise, None))
        np.testing.assert_allclose(found, states[-1].x, rtol=0, atol=1e-13 * size)


jax = pytest.importorskip("jax")
# Older ones have it among the experiments.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64
jnp = jax.numpy


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with enable_x64(True):
        yield


def network(x: Any, t: Any, shift: Any = 0.0) -> Any:
    return 0.3 * jnp.tanh(x + shift + t[:, None])


DENOISER = dpm.Denoiser(network, SCHEDULE)
LONG_ONE, NOISY = (dpm.make_plan(name, SCHEDULE, LONG + 1) for name in ("unipc-2", "dpm++2m-sde"))


def equations(plan: dpm.Plan) -> int:
    """How many equations there are in a traced run, those of inner functions included."""
    traced = jax.make_jaxpr(lambda x, seed: dpm.sample(DENOISER, x, plan=plan, generator=seed))(jnp.asarray(X_T), 5)
    return str(traced).count(" = ")


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm++2m-sde"])
def test_the_traced_run_does_not_grow_with_the_evaluations(solver: str) -> None:
    """200 steps are as large as 21, and smaller than 20, which are not scanned."""
    short, long, longer = (equations(dpm.make_plan(solver, SCHEDULE, nfe)) for nfe in (LONG, LONG + 1, 200))
    assert long == longer < short


@pytest.mark.parametrize("noise", ["independent", "host"])
@pytest.mark.parametrize("plan", [LONG_ONE, NOISY], ids=["unipc-2", "dpm++2m-sde"])
def test_a_compiled_scan_is_the_loop(plan: dpm.Plan, noise: Any) -> None:
    """And so is the scan of a float32 state, where JAX computes in float64 if it is asked to."""

    def run(x_T: Any) -> Any:
        return dpm.sample(DENOISER, x_T, plan=plan, generator=5, noise=noise)

    x_T = jnp.asarray(X_T)
    np.testing.assert_allclose(jax.jit(run)(x_T), run(x_T), rtol=1e-11, atol=1e-12)
    single = jax.jit(run)(x_T.astype(jnp.float32))
    assert single.dtype == jnp.float32


def test_a_scan_is_mapped_and_differentiated() -> None:
    """Over noises and conditions; checkpoints change no gradient."""

    def run(x_T: Any, shift: Any = 0.0, **options: Any) -> Any:
        denoiser = DENOISER.replace(network_kwargs={"shift": shift})
        return dpm.sample(denoiser, x_T, plan=LONG_ONE, **options)

    x_T = jnp.asarray(X_T)
    plain, shifted = run(x_T), run(x_T, 0.5)
    np.testing.assert_allclose(jax.vmap(run)(jnp.stack([2.0 * x_T, x_T]))[1], plain, rtol=1e-11)
    both = jax.jit(jax.vmap(run, (None, 0)))(x_T, jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(both, [plain, shifted], rtol=1e-11)
    direction = jnp.asarray(np.random.default_rng(1).standard_normal(X_T.shape))
    gradient = jax.grad(lambda x: (run(x) ** 2).sum())(x_T)
    ahead, behind = ((run(x_T + s * direction) ** 2).sum() for s in (1e-6, -1e-6))
    assert float((gradient * direction).sum()) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6)
    saved = jax.grad(lambda x: (run(x, differentiable=True, checkpoint=True) ** 2).sum())(x_T)
    np.testing.assert_allclose(saved, gradient, rtol=1e-10)
    slope = jax.jit(jax.grad(lambda shift: run(x_T, shift).sum()))(0.5)
    assert float(slope) == pytest.approx(float((run(x_T, 0.5 + 1e-6) - run(x_T, 0.5 - 1e-6)).sum()) / 2e-6, rel=1e-6)


FREE = {"condition": {"shift": 0.5}, "unconditional": {"shift": 0.0}, "batched": False}
CASES: dict[str, tuple[bool, Any]] = {
    "plain": (True, {}),
    "guided": (True, {"guidance": dpm.guidance.ClassifierFree(2.0, **FREE)}),
    "one scale per sample": (True, {"guidance": dpm.guidance.ClassifierFree([1.0, 2.0, 3.0, 4.0], **FREE)}),
    "a scale of time": (False, {"guidance": dpm.guidance.ClassifierFree(lambda t: 1.0 + t, **FREE)}),
    "an interval": (False, {"guidance": dpm.guidance.ClassifierFree(2.0, interval=(0.2, 0.8), **FREE)}),
    "a loss": (False, {"guidance": dpm.guidance.Loss(lambda x0: (x0**2).sum(axis=1), 0.1)}),
    "thresholds": (False, {"data_hook": dpm.thresholding.static(1.0)}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_wants_to_know_where_it_is_is_not_scanned(case: str) -> None:
    """One rule, and the same numbers on both sides of it."""
    wanted, options = CASES[case]
    denoiser, seen = DENOISER.replace(**options), []

    def run(x_T: Any) -> Any:
        seen.append(is_scanned(Run(denoiser, x_T, LONG_ONE, None, "independent", None)))
        return dpm.sample(denoiser, x_T, plan=LONG_ONE)

    plain = run(jnp.asarray(X_T))
    if wanted:
        np.testing.assert_allclose(jax.jit(run)(jnp.asarray(X_T)), plain, rtol=1e-11)
    else:
        jax.eval_shape(run, jnp.asarray(X_T))
    assert seen == [False, wanted]


def test_short_plans_hooks_and_callbacks_are_not_scanned() -> None:
    """Callbacks and progress are called as in any run."""
    told: list[int] = []

    def run(x_T: Any) -> Any:
        assert not is_scanned(Run(DENOISER, x_T, dpm.make_plan("ddim", SCHEDULE, LONG), None, "independent", None))
        assert not is_scanned(Run(DENOISER, x_T, LONG_ONE, None, "independent", lambda x, point: x))
        return dpm.sample(DENOISER, x_T, plan=LONG_ONE, progress=lambda done, total: told.append(done))

    jax.eval_shape(run, jnp.asarray(X_T))
    assert told == list(range(LONG + 2))
