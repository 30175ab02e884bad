"""Rules of classifier-free guidance: closed forms, the guiders of diffusers, and what a run owns of them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.networks.fingerprint import fits, said_of
from dpmsolver.networks.guidance import ClassifierFree, Projected, Rescaled, ZeroStar
from dpmsolver.plans import Point
from dpmsolver.plans.targets import conversion

torch = pytest.importorskip("torch")

VP, FLOW = dpm.schedules.LinearVP(), dpm.schedules.Flow()
SHAPE = (3, 2, 4)
RNG = np.random.default_rng(5)
X = RNG.standard_normal(SHAPE)
CONDITIONAL, WITHOUT = RNG.standard_normal(SHAPE), RNG.standard_normal(SHAPE)
RULES = [Rescaled(0.7), Projected(0.0, 2.0), Projected(0.3), ZeroStar()]


def denoiser(rule: Any, scale: Any = 3.0, predicts: Any = "data", schedule: Any = VP, **options: Any) -> dpm.Denoiser:
    """A network whose two outputs are given arrays, whatever the state."""

    def network(x: Any, t: Any, y: Any) -> Any:
        return y + 0.0 * x

    like = options.pop("like", np.asarray)
    guidance = ClassifierFree(scale, {"y": like(CONDITIONAL)}, {"y": like(WITHOUT)}, rule=rule, **options)
    return dpm.Denoiser(network, schedule, predicts, guidance=guidance)


def guided(rule: Any, scale: Any = 3.0, **options: Any) -> Any:
    return denoiser(rule, scale, **options).at(X, 0.5)


def norms(x: Any) -> Any:
    return np.sqrt((x**2).sum(axis=(1, 2), keepdims=True))


# Closed forms --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_at_scale_one_it_is_the_conditional_output(rule: Any, batched: bool) -> None:
    """Also where the other samples have another scale."""
    np.testing.assert_allclose(guided(rule, 1.0, batched=batched), CONDITIONAL, rtol=1e-12)
    mixed = guided(rule, [1.0, 4.0, 1.0], batched=batched)
    np.testing.assert_allclose(mixed[[0, 2]], CONDITIONAL[[0, 2]], rtol=1e-12)
    np.testing.assert_allclose(mixed[1], guided(rule, 4.0)[1], rtol=1e-12)


def test_a_rule_that_changes_nothing_is_plain_guidance() -> None:
    plain = guided(None)
    np.testing.assert_allclose(plain, WITHOUT + 3.0 * (CONDITIONAL - WITHOUT), rtol=1e-12)
    for rule in (Rescaled(0.0), Projected(eta=1.0), Projected(eta=1.0, threshold=1e6)):
        np.testing.assert_allclose(guided(rule), plain, rtol=1e-12)


def test_rescaled_has_the_conditional_deviation() -> None:
    """All of it at phi = 1, and a mean of both outputs between."""
    full, half, plain = guided(Rescaled(1.0)), guided(Rescaled(0.5)), guided(None)
    deviations = [each.std(axis=(1, 2)) for each in (full, CONDITIONAL)]
    np.testing.assert_allclose(*deviations, rtol=1e-12)
    np.testing.assert_allclose(half, 0.5 * (full + plain), rtol=1e-12)


def test_rescaled_acts_on_what_the_network_returns() -> None:
    """A network of noise: its noise has the deviation of the conditional noise, the data need not."""
    point = Point.at(VP, 0.5)
    noise = denoiser(Rescaled(1.0), predicts="noise").at(X, 0.5, "noise")
    np.testing.assert_allclose(noise.std(axis=(1, 2)), CONDITIONAL.std(axis=(1, 2)), rtol=1e-12)
    data = (X - point.sigma * CONDITIONAL) / point.alpha
    assert abs(((X - point.sigma * noise) / point.alpha).std(axis=(1, 2)) / data.std(axis=(1, 2)) - 1.0).max() > 1e-2


def test_a_constant_output_is_left_as_it_is() -> None:
    """Its deviation is 0, and no factor is taken of it: also for states of one number a sample."""

    def network(x: Any, t: Any, y: Any) -> Any:
        return y.reshape(-1, *[1] * (x.ndim - 1)) + 0.0 * x

    guidance = ClassifierFree(2.0, {"y": np.array([1.0, 2.0])}, {"y": np.array([0.5, 0.0])}, rule=Rescaled(1.0))
    made = dpm.Denoiser(network, VP, "data", guidance=guidance)
    for x in (np.ones((2, 4)), np.ones(2)):
        np.testing.assert_allclose(made.at(x, 0.5).reshape(2, -1)[:, 0], [1.5, 4.0])


def test_projected_is_orthogonal_shortened_and_weighed() -> None:
    """The update is orthogonal to the conditional data at eta = 0, its length at most the threshold, and eta its parallel part."""
    update = (guided(Projected()) - CONDITIONAL) / 2.0
    np.testing.assert_allclose((update * CONDITIONAL).sum(axis=(1, 2)), 0.0, atol=1e-12)
    difference = CONDITIONAL - WITHOUT
    along = difference - update
    np.testing.assert_allclose(
        along, (along * CONDITIONAL).sum(axis=(1, 2), keepdims=True) / norms(CONDITIONAL) ** 2 * CONDITIONAL
    )
    np.testing.assert_allclose((guided(Projected(eta=0.4)) - CONDITIONAL) / 2.0, update + 0.4 * along, rtol=1e-11)
    short = (guided(Projected(eta=1.0, threshold=1.5)) - CONDITIONAL) / 2.0
    np.testing.assert_allclose(short, difference * np.minimum(1.0, 1.5 / norms(difference)), rtol=1e-11)


@pytest.mark.parametrize("predicts", ["noise", "v", "score"])
def test_projected_acts_on_the_data_whatever_the_network_predicts(predicts: Any) -> None:
    """A network whose outputs mean the same data gives the same guided data."""
    point = Point.at(VP, 0.5)
    a, b = conversion("data", predicts, point.alpha, point.sigma)

    def network(x: Any, t: Any, y: Any) -> Any:
        return a * x + b * y

    guidance = ClassifierFree([3.0, 1.5, 8.0], {"y": CONDITIONAL}, {"y": WITHOUT}, rule=Projected(0.2, 2.0))
    made = dpm.Denoiser(network, VP, predicts, guidance=guidance)
    np.testing.assert_allclose(made.at(X, 0.5), guided(Projected(0.2, 2.0), [3.0, 1.5, 8.0]), rtol=1e-9, atol=1e-10)


def test_zero_star_takes_the_nearest_multiple() -> None:
    """conditional - s unconditional is orthogonal to the unconditional output."""
    made = guided(ZeroStar(), 2.0)
    factor = (CONDITIONAL * WITHOUT).sum(axis=(1, 2), keepdims=True) / norms(WITHOUT) ** 2
    rest = CONDITIONAL - factor * WITHOUT
    np.testing.assert_allclose((rest * WITHOUT).sum(axis=(1, 2)), 0.0, atol=1e-12)
    np.testing.assert_allclose(made, factor * WITHOUT + 2.0 * rest, rtol=1e-12)


# diffusers -----------------------------------------------------------------------------------------------------------------------


def test_they_are_the_guiders_of_diffusers() -> None:
    """On the outputs themselves, to rounding: theirs adds 1e-8 to a squared norm, and projects what it is given."""
    guiders = pytest.importorskip("diffusers.guiders")
    c, u = torch.from_numpy(CONDITIONAL), torch.from_numpy(WITHOUT)
    plain = guiders.ClassifierFreeGuidance(guidance_scale=3.0, guidance_rescale=0.7)
    np.testing.assert_allclose(guided(Rescaled(0.7)), plain.forward(c, u).pred, rtol=1e-12)
    zero = guiders.ClassifierFreeZeroStarGuidance(guidance_scale=3.0, zero_init_steps=0)
    zero.set_state(step=0, num_inference_steps=10, timestep=None)
    np.testing.assert_allclose(guided(ZeroStar()), zero.forward(c, u).pred, rtol=2e-6)
    apg = guiders.AdaptiveProjectedGuidance(
        guidance_scale=2.0, adaptive_projected_guidance_rescale=2.5, eta=0.3, use_original_formulation=True
    )
    apg.set_state(step=0, num_inference_steps=10, timestep=None)
    np.testing.assert_allclose(guided(Projected(0.3, 2.5)), apg.forward(c, u).pred, rtol=1e-12)


def test_momentum_is_that_of_diffusers_and_belongs_to_the_run() -> None:
    """DDIM by hand with their buffer; a second run begins anew, and stages count as evaluations."""
    guiders = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance")

    def network(x: Any, t: Any, y: Any) -> Any:
        return np.tanh(x + y) + 0.3 * y

    rule = Projected(eta=0.1, threshold=2.0, momentum=-0.5)
    guidance = ClassifierFree(3.0, {"y": CONDITIONAL}, {"y": WITHOUT}, rule=rule)
    made = dpm.Denoiser(network, VP, "data", guidance=guidance)
    plan = dpm.make_plan("ddim", VP, 6)
    buffer, x = guiders.MomentumBuffer(-0.5), X
    points = [*(row.point for row in plan.rows), plan.end]
    for s, t in pairwise(points):
        pair = (torch.from_numpy(network(x, None, y)) for y in (CONDITIONAL, WITHOUT))
        g = guiders.normalized_guidance(*pair, 2.0, buffer, 0.1, 2.0, use_original_formulation=True).numpy()
        x = t.alpha * g + t.sigma * (x - s.alpha * g) / s.sigma
    first = dpm.sample(made, X, plan=plan)
    np.testing.assert_allclose(first, x, rtol=1e-10)
    np.testing.assert_array_equal(dpm.sample(made, X, plan=plan), first)
    forgetful = ClassifierFree(3.0, {"y": CONDITIONAL}, {"y": WITHOUT}, rule=Projected(0.1, 2.0))
    assert abs(dpm.sample(made.replace(guidance=forgetful), X, plan=plan) - first).max() > 1e-3
    tensor = torch.from_numpy
    on_torch = dpm.Denoiser(
        lambda x, t, y: torch.tanh(x + y) + 0.3 * y,
        VP,
        "data",
        guidance=ClassifierFree(3.0, {"y": tensor(CONDITIONAL)}, {"y": tensor(WITHOUT)}, rule=rule),
    )
    np.testing.assert_allclose(dpm.sample(on_torch, tensor(X), plan=plan).numpy(), first, rtol=1e-10)
    singlestep = dpm.make_plan("dpm++2s", VP, 6)
    *_, last = dpm.iterate(made, X, plan=singlestep)
    np.testing.assert_array_equal(last.x, dpm.sample(made, X, plan=singlestep))


# Runs ----------------------------------------------------------------------------------------------------------------------------


def test_the_first_velocities_are_zero() -> None:
    """`zero` evaluations leave x where it is, for Euler; the network is called at each of them all the same."""
    calls = []

    def network(x: Any, t: Any, y: Any) -> Any:
        calls.append(len(x))
        return y + 0.0 * x

    guidance = ClassifierFree(2.0, {"y": CONDITIONAL}, {"y": WITHOUT}, rule=ZeroStar(zero=2))
    made = dpm.Denoiser(network, FLOW, "velocity", guidance=guidance)
    states = [state.x for state in dpm.iterate(made, X, 5, solver="ddim", start=1.0)]
    np.testing.assert_allclose(states[1], X, rtol=1e-12)
    np.testing.assert_allclose(states[2], X, rtol=1e-12)
    assert abs(states[3] - X).max() > 0.1
    assert calls == [3, 3, 6, 6, 6]
    # Outside of a run there is no first evaluation.
    assert abs(made.at(X, 0.5, "velocity")).max() > 0.1
    both = dpm.sample(made, X, 5, solver="ddim-cfg++", start=1.0)
    assert np.isfinite(both).all()


@pytest.mark.parametrize("rule", [*RULES, Projected(0.1, 2.0, -0.5)], ids=repr)
def test_frameworks_and_half_precision_agree(rule: Any) -> None:
    """torch to rounding, and with a network in half precision to its own; the state stays float32."""
    expected = dpm.sample(denoiser(rule), X, 5)
    made = dpm.sample(denoiser(rule, like=torch.from_numpy), torch.from_numpy(X), 5)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-9)
    half = denoiser(rule, like=lambda y: torch.from_numpy(y).to(torch.bfloat16)).replace(dtype="bfloat16")
    made = dpm.sample(half, torch.from_numpy(X).float(), 5)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("nfe", [4, 24])
@pytest.mark.parametrize("rule", [Rescaled(0.7), Projected(0.1, 2.0, -0.5), ZeroStar()], ids=repr)
def test_jax_traces_them(rule: Any, nfe: int) -> None:
    """Under jit; a rule that an evaluation depends on by its time or its number is not scanned."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    expected = dpm.sample(denoiser(rule), X, nfe)
    made = jax.jit(lambda x: dpm.sample(denoiser(rule, like=jnp.asarray), x, nfe))(jnp.asarray(X))
    np.testing.assert_allclose(made, expected, rtol=2e-4, atol=2e-4)


def test_gradients_flow_through_a_rule() -> None:
    x = torch.from_numpy(X).requires_grad_()
    made = denoiser(Projected(0.2, 2.0, -0.5), like=torch.from_numpy)
    made = made.replace(network=lambda x, t, y: torch.tanh(x) + y)
    (gradient,) = torch.autograd.grad(dpm.sample(made, x, 4, differentiable=True).sum(), x)
    step = torch.zeros(SHAPE, dtype=torch.float64)
    step[1, 0, 2] = 1e-6
    values = [float(dpm.sample(made, torch.from_numpy(X) + sign * step, 4).sum()) for sign in (1, -1)]
    assert float(gradient[1, 0, 2]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    with pytest.raises(dpm.PlanError, match="checkpoint=True evaluates the network again out of its order"):
        dpm.sample(made, x, 4, differentiable=True, checkpoint=True)


def test_adaptive_runs_take_rules_of_one_evaluation_alone() -> None:
    plain = dpm.sample_adaptive(denoiser(Rescaled(0.7)), X, order=2)
    assert np.isfinite(plain).all()
    for made in (denoiser(Projected(momentum=-0.5)), denoiser(ZeroStar(1), predicts="velocity", schedule=FLOW)):
        with pytest.raises(
            dpm.PlanError, match="depends on the evaluations before, of which an adaptive run makes some in vain"
        ):
            dpm.sample_adaptive(made, X, order=2)


def test_a_fitted_plan_knows_the_rule() -> None:
    """Scales within the fitted ones fit with the same rule alone."""
    said = [said_of(denoiser(rule)) for rule in (None, Rescaled(0.7), Rescaled(0.5))]
    assert len({each["guidance"] for each in said}) == 3
    fitted = {"network": said[1]["network"], "guidance": said[1]["guidance"].replace(" 3", " 1 to 4")}
    assert fits(fitted, said[1])
    assert not fits(fitted, said[0])
    assert not fits(fitted, said[2])


# Refused -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rescaled(1.5), r"phi must be in \[0, 1\], got 1\.5"),
        (lambda: Rescaled(math.nan), r"phi must be in \[0, 1\], got nan"),
        (lambda: Projected(eta=math.inf), "eta must be finite, got inf"),
        (lambda: Projected(threshold=0.0), r"threshold must be finite and > 0, got 0\.0"),
        (lambda: Projected(momentum=-1.0), r"momentum must be between -1 and 1, got -1\.0"),
        (
            lambda: ZeroStar(zero=-1),
            "zero must be an integer >= 0, how many first evaluations have no velocity, got -1",
        ),
        (
            lambda: denoiser(ZeroStar(zero=1)),
            r"ZeroStar\(zero=1\) sets a velocity to 0, and this network predicts data",
        ),
    ],
)
def test_values_without_a_meaning_are_refused(make: Any, message: str) -> None:
    with pytest.raises(dpm.PlanError, match=message):
        make()


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(TypeError, match=r"rule must be guidance\.Rescaled\(…\), .* got float"):
        ClassifierFree(2.0, {}, rule=0.7)  # type: ignore[arg-type]


def test_data_that_are_not_determined_are_refused_before_the_network() -> None:
    def network(x: Any, t: Any, y: Any) -> Any:
        raise AssertionError("not called")

    guidance = ClassifierFree(2.0, {"y": CONDITIONAL}, {"y": WITHOUT}, rule=Projected())
    made = dpm.Denoiser(network, FLOW, "noise", guidance=guidance)
    plan = dpm.make_plan("ddim", FLOW, 4, start=1.0)
    with pytest.raises(dpm.PlanError, match="does not determine data at alpha"):
        dpm.sample(made, X, plan=plan)
