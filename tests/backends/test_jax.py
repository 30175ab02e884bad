"""JAX: every plan's run is NumPy's; under jit, vmap and grad it is one function; what cannot be is refused."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import a_budget, answering
from dpmsolver.evaluation.convergence import some_statistics
from dpmsolver.solvers import SOLVERS

jax = pytest.importorskip("jax")
jnp = jax.numpy
# Older ones have it among the experiments.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64

SCHEDULE = dpm.schedules.LinearVP()
MIXTURE = dpm.models.Mixture([[1.0, -0.5, 0.25]], [[0.25, 0.5, 0.01]])
X_T = np.random.default_rng(0).standard_normal((4, 3))


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with enable_x64(True):
        yield


def network(x: Any, t: Any) -> Any:
    return 0.3 * jnp.tanh(x + t[:, None])


def in_numpy(x: Any, t: Any) -> Any:
    return 0.3 * np.tanh(x + t[:, None])


DENOISER = dpm.Denoiser(network, SCHEDULE)


SOME = ["dpm++2m", "unipc-2", "dpm-3", "velocity-3m", "dpm++2m-sde", "dpm-v3"]


def a_plan(name: str) -> dpm.Plan:
    options = {"statistics": some_statistics(MIXTURE)} if SOLVERS[name].calibrated else {}
    return dpm.make_plan(name, SCHEDULE, a_budget(SOLVERS[name]), **options)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_gives_the_trajectory_of_numpy(name: str) -> None:
    """To 1e-12 of the largest number in float64; of some, by the plain loop as well, and to 3e-6 in float32."""
    plan = a_plan(name)
    denoiser = answering(DENOISER, plan)
    states = list(dpm.iterate(denoiser.replace(network=in_numpy), X_T, plan=plan, generator=5, noise="host"))
    size = max(abs(state.x).max() for state in states)
    found = dpm.sample(denoiser, jnp.asarray(X_T), plan=plan, generator=5, noise="host")
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, states[-1].x, rtol=0, atol=1e-12 * size)
    if name not in SOME:
        return
    recorded = dpm.sample(DENOISER, jnp.asarray(X_T), plan=plan, generator=5, noise="host", differentiable=True)
    np.testing.assert_allclose(recorded, states[-1].x, rtol=0, atol=1e-12 * size)
    single = dpm.sample(DENOISER, jnp.asarray(X_T, jnp.float32), plan=plan, generator=5, noise="host")
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, states[-1].x, rtol=0, atol=3e-6 * size)


@pytest.mark.parametrize("name", SOME)
def test_a_run_compiles_maps_and_differentiates(name: str) -> None:
    """jit of the whole run; vmap over noises; the gradient along a direction is that of finite differences."""
    plan = a_plan(name)

    def run(x_T: Any) -> Any:
        return dpm.sample(DENOISER, x_T, plan=plan, generator=5, noise="host")

    plain = run(jnp.asarray(X_T))
    np.testing.assert_allclose(jax.jit(run)(jnp.asarray(X_T)), plain, rtol=1e-11, atol=1e-12)
    several = jnp.stack([jnp.asarray(X_T), 2.0 * jnp.asarray(X_T)])
    np.testing.assert_allclose(jax.vmap(run)(several)[0], plain, rtol=1e-11, atol=1e-12)
    direction = jnp.asarray(np.random.default_rng(1).standard_normal(X_T.shape))
    gradient = jax.grad(lambda x: (run(x) ** 2).sum())(jnp.asarray(X_T))
    ahead, behind = ((run(jnp.asarray(X_T) + s * direction) ** 2).sum() for s in (1e-6, -1e-6))
    assert float((gradient * direction).sum()) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6)


def test_conditions_are_mapped_and_differentiated() -> None:
    """vmap and grad over what the network takes beside x and t."""
    plan = dpm.make_plan("dpm++2m", SCHEDULE, 6)

    def run(shift: Any) -> Any:
        denoiser = dpm.Denoiser(lambda x, t, shift: network(x + shift, t), SCHEDULE, network_kwargs={"shift": shift})
        return dpm.sample(denoiser, jnp.asarray(X_T), plan=plan).sum()

    shifts = jnp.array([0.0, 0.5])
    np.testing.assert_allclose(jax.vmap(run)(shifts), [run(shift) for shift in shifts], rtol=1e-12)
    expected = (run(shifts[1] + 1e-6) - run(shifts[1] - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(run)(shifts[1]), expected, rtol=1e-6)


def test_checkpoints_change_no_gradient() -> None:
    def loss(x_T: Any, checkpoint: bool) -> Any:
        return (dpm.sample(DENOISER, x_T, nfe=5, differentiable=True, checkpoint=checkpoint) ** 2).sum()

    plain, saved = (jax.grad(loss)(jnp.asarray(X_T), checkpoint) for checkpoint in (False, True))
    np.testing.assert_allclose(plain, saved, rtol=1e-12)


def test_the_rest_of_the_library_takes_its_arrays() -> None:
    """Initial noise, guidance, thresholding, hooks, adaptive steps, encode and check for NaN."""
    like = jnp.zeros((), jnp.float32)
    x_T = dpm.initial_noise(SCHEDULE, (4, 3), seed=0, like=like, noise="host")
    np.testing.assert_allclose(x_T, dpm.initial_noise(SCHEDULE, (4, 3), seed=0), rtol=1e-6)
    classifier = dpm.guidance.Classifier(1.0, lambda x, t: -0.1 * (x**2).sum(axis=1))
    guided = DENOISER.replace(guidance=classifier, data_hook=dpm.thresholding.dynamic(0.9, 1.0))
    assert bool(jnp.isfinite(dpm.sample(guided, x_T, nfe=6)).all())
    hooked = dpm.sample(DENOISER, x_T, nfe=4, state_hook=lambda x, point: 0.0 * x)
    assert float(abs(hooked).max()) == 0.0
    assert dpm.sample_adaptive(DENOISER, x_T).shape == (4, 3)
    back = dpm.encode(DENOISER, dpm.sample(DENOISER, x_T, nfe=60, solver="dpm-3", end=1e-3), nfe=60, start=1e-3)
    np.testing.assert_allclose(back, x_T, atol=1e-2)
    with pytest.raises(dpm.SamplingError, match="evaluation 1 of 3"):
        dpm.sample(DENOISER.replace(network=lambda x, t: x * jnp.nan), x_T, nfe=3)


NOISY = dpm.make_plan("dpm++2m-sde", SCHEDULE, 2)


def noisy(x_T: Any, seed: Any, **options: Any) -> Any:
    return dpm.sample(DENOISER, x_T, plan=NOISY, generator=seed, **options)


def test_a_seed_is_an_argument_of_a_compiled_run() -> None:
    """A traced int draws what the int draws, and an array of them what a list does; also for initial noise, and of more than 32 bits."""
    x_T = jnp.asarray(X_T)
    compiled = jax.jit(noisy)
    for seed in (5, 2**40 + 5):
        np.testing.assert_allclose(compiled(x_T, seed), noisy(x_T, seed), rtol=1e-11)
    assert float(abs(compiled(x_T, 5) - compiled(x_T, 2**40 + 5)).min()) > 0
    np.testing.assert_allclose(compiled(x_T, jnp.array([3, 1, 2, 5])), noisy(x_T, [3, 1, 2, 5]), rtol=1e-11)
    np.testing.assert_allclose(jax.vmap(noisy, (None, 0))(x_T, jnp.array([4, 5]))[1], noisy(x_T, 5), rtol=1e-11)
    np.testing.assert_allclose(noisy(x_T[2:], [(5, 2), (5, 3)]), noisy(x_T, 5)[2:], rtol=1e-11)
    start = jax.jit(lambda seed: dpm.initial_noise(SCHEDULE, (4, 3), seed, like=x_T))
    np.testing.assert_allclose(start(7), dpm.initial_noise(SCHEDULE, (4, 3), 7, like=x_T), rtol=1e-12)
    closed = jax.jit(lambda seed: noisy(x_T, seed))  # what a jitted function closes over is concrete
    np.testing.assert_allclose(closed(5), noisy(x_T, 5), rtol=1e-11)


def test_jaxs_own_keys_are_seeds() -> None:
    """One for the batch, or one for each sample; sample i depends on its key alone."""
    x_T, key = jnp.asarray(X_T), jax.random.key(3)
    np.testing.assert_allclose(jax.jit(noisy)(x_T, key), noisy(x_T, key), rtol=1e-11)
    keys = jax.random.split(key, 4)
    np.testing.assert_allclose(noisy(x_T[1:], keys[1:]), noisy(x_T, keys)[1:], rtol=1e-11)
    stepper = dpm.Stepper(NOISY, x_T, generator=keys)
    while not stepper.done:
        stepper.step(network(stepper.x, jnp.full(4, stepper.point.label)))
    np.testing.assert_allclose(stepper.x, noisy(x_T, keys), rtol=1e-11)
    with pytest.raises(dpm.PlanError, match="keys of JAX and traced seeds are for noise='independent'"):
        stepper.state_dict()
    with pytest.raises(dpm.PlanError, match="keys of JAX and traced seeds are for noise='independent'"):
        noisy(x_T, key, noise="host")
    with pytest.raises(dpm.PlanError, match="states of JAX"):
        noisy(X_T, key)
    with pytest.raises(dpm.PlanError, match="states of JAX"):
        dpm.initial_noise(SCHEDULE, (4, 3), key)
    with pytest.raises(dpm.PlanError, match="one seed per sample is needed: 4 samples"):
        noisy(x_T, keys[:3])
    with pytest.raises(dpm.PlanError, match="seeds must be integers, got float"):
        jax.jit(noisy)(x_T, 1.5)


def test_inpainting_is_traced_too() -> None:
    """A hook that is made of traced arrays keeps what is known."""
    mask = np.array([[True, False, True]])

    def run(x0: Any) -> Any:
        keep = dpm.inpaint(x0, mask, jnp.ones_like(x0))
        return dpm.sample(DENOISER, jnp.asarray(X_T), nfe=3, end=0.0, state_hook=keep)

    np.testing.assert_allclose(jax.jit(run)(jnp.asarray(X_T))[:, [0, 2]], X_T[:, [0, 2]], rtol=1e-12)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TypeError, match="the state must be floating point, got int"):
        dpm.sample(DENOISER, jnp.ones((2, 3), int), nfe=3)
    with pytest.raises(ValueError, match="at least one element"):
        dpm.sample(DENOISER, jnp.ones((0, 3)), nfe=3)
    with enable_x64(False), pytest.raises(dpm.PlanError, match="needs JAX's 64-bit numbers"):
        dpm.sample(DENOISER.replace(dtype="float64"), jnp.ones((2, 3)), nfe=3)
