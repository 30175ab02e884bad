"""torch.compile: a run is one graph without breaks, its result is the run's that is not compiled, and noise is drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import a_budget
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.convergence import some_statistics
from dpmsolver.host import settled
from dpmsolver.solvers import SOLVERS

torch = pytest.importorskip("torch")

SCHEDULE = dpm.schedules.LinearVP()
X_T = torch.tensor(np.random.default_rng(0).standard_normal((4, 3)))
ONES, ZEROS = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
PLAN = dpm.make_plan("dpm++2m", SCHEDULE, nfe=3)
NOISY = dpm.make_plan("dpm++2m-sde", SCHEDULE, nfe=3)


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 3).double()

    def forward(self, x: Any, t: Any, y: Any = None) -> Any:
        found = 0.3 * torch.tanh(self.linear(x) + t[:, None])
        return found if y is None else found + 0.1 * y[:, None]


DENOISER = dpm.Denoiser(Network(), SCHEDULE)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What other tests compiled counts towards a limit of torch's."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(run: Callable[[Any], Any], backend: str = "eager") -> Callable[[Any], Any]:
    """One graph, or an error; the backend "eager" runs it as it was traced."""
    found: Callable[[Any], Any] = torch.compile(run, fullgraph=True, backend=backend)
    return found


def require_same(run: Callable[[Any], Any], backend: str = "eager", x: Any = X_T) -> None:
    """The compiled run gives what the run gives, also at its second call and for another batch."""
    found = compiled(run, backend)
    for start in (x, 0.9 * x, x[:2]):
        expected = run(start)
        torch.testing.assert_close(found(start), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def a_plan(name: str, nfe: int | None = None) -> dpm.Plan:
    options: dict[str, Any] = {}
    if SOLVERS[name].calibrated:
        options["statistics"] = some_statistics(dpm.models.Mixture([[1.0, -0.5, 0.25]], [[0.25, 0.5, 0.01]]))
    return dpm.make_plan(name, SCHEDULE, nfe or a_budget(SOLVERS[name]), **options)


@pytest.mark.parametrize("name", ["dpm++2m", "unipc-2", "heun", "dpm++2m-sde"])
def test_a_run_is_one_graph(name: str) -> None:
    """A multistep solver, a predictor-corrector, one with stages, one with noise: traced without a break, equal to the plain run.

    What follows it in the graph takes its result as any other tensor.
    """
    plan = a_plan(name, nfe=3 if name != "heun" else 2)

    def run(x: Any) -> Any:
        return dpm.sample(DENOISER, x, plan=plan, generator=5)

    torch.testing.assert_close(compiled(lambda x: run(x).square().mean())(X_T), run(X_T).square().mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_is_one_graph(name: str) -> None:
    """All of the registry, calibrated solvers with their arrays of coefficients included."""
    plan = a_plan(name)

    def run(x: Any) -> Any:
        return dpm.sample(DENOISER, x, plan=plan, generator=5).square().sum(1)

    torch.testing.assert_close(compiled(run)(X_T), run(X_T))


@pytest.mark.slow
def test_the_plan_may_be_made_inside() -> None:
    """With nfe=… alone: the plan is made while the run is traced."""
    require_same(lambda x: dpm.sample(DENOISER, x, nfe=3))


GUIDED = {
    "one call": dpm.guidance.ClassifierFree(2.0, {"y": ONES}, {"y": ZEROS}),
    "two calls, an interval": dpm.guidance.ClassifierFree(
        lambda t: 2.0 + t, {"y": ONES}, interval=(0.1, 0.6), batched=False
    ),
    "a rule": dpm.guidance.ClassifierFree(2.0, {"y": ONES}, {"y": ZEROS}, rule=dpm.guidance.Rescaled(0.7)),
    "a rule on the data, with momentum": dpm.guidance.ClassifierFree(
        2.0, {"y": ONES}, {"y": ZEROS}, rule=dpm.guidance.Projected(threshold=2.0, momentum=-0.5)
    ),
    "one scale per sample": dpm.guidance.ClassifierFree([1.0, 2.0, 3.0, 4.0], {"y": ONES}, {"y": ZEROS}),
    "classifier": dpm.guidance.Classifier(0.1, lambda x, t: -(x**2).sum(1)),
    "loss": dpm.guidance.Loss(lambda x0: 0.01 * (x0[:, 0] - 1.0) ** 2, 2.0),
}


@pytest.mark.parametrize(
    "name", [name if name == "one call" else pytest.param(name, marks=pytest.mark.slow) for name in GUIDED]
)
def test_guidance_is_traced(name: str) -> None:
    """Classifier-free guidance, and gradients of a classifier or a loss, which are computed inside the graph."""
    run = lambda x: dpm.sample(DENOISER.replace(guidance=None), x, plan=PLAN)  # noqa: E731
    guided = DENOISER.replace(guidance=GUIDED[name])
    found, expected = compiled(lambda x: dpm.sample(guided, x, plan=PLAN))(X_T), dpm.sample(guided, X_T, plan=PLAN)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not torch.allclose(expected, run(X_T))


@pytest.mark.slow
def test_hooks_and_thresholding_are_traced() -> None:
    """A state hook, inpainting, and a hook of the predicted data."""
    keep = dpm.inpaint(torch.ones_like(X_T), (X_T > 0).double(), torch.ones_like(X_T))
    clipped = DENOISER.replace(data_hook=dpm.thresholding.dynamic())

    def run(x: Any) -> Any:
        return dpm.sample(clipped, x, plan=PLAN, state_hook=keep)

    torch.testing.assert_close(compiled(run)(X_T), run(X_T))


@pytest.mark.slow
def test_encoding_is_traced() -> None:
    """From data to noise, with the plan made inside."""
    require_same(lambda x: dpm.encode(DENOISER, x, nfe=3))


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_flow_through_a_compiled_run(checkpoint: bool) -> None:
    """To x_T and to the weights: those of the plain run, by AOTAutograd, which is what inductor differentiates with."""
    network = DENOISER.network

    def gradients(run: Callable[[Any], Any]) -> list[Any]:
        start = X_T.clone().requires_grad_()
        return list(torch.autograd.grad(run(start).square().sum(), [start, *network.parameters()]))

    def run(x: Any) -> Any:
        return dpm.sample(DENOISER, x, plan=PLAN, differentiable=True, checkpoint=checkpoint)

    for found, expected in zip(gradients(compiled(run, "aot_eager")), gradients(run), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_noise_without_a_seed_is_drawn_anew_in_every_run() -> None:
    """By torch's own generator, which `torch.manual_seed` sets; the moments are those of the plan."""
    wide = torch.zeros(20_000, 3, dtype=torch.float64)
    plan = dpm.make_plan("ddpm", SCHEDULE, nfe=2)
    ideal = dpm.models.Gaussian([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]).denoiser(SCHEDULE)
    run = compiled(lambda x: dpm.sample(dpm_like, x, plan=plan))
    dpm_like = dpm.Denoiser(lambda x, t: 0.0 * x, ideal.schedule, "data")  # all data are 0: what is left is the noise
    torch.manual_seed(1)
    first, second = run(wide), run(wide)
    torch.manual_seed(1)
    assert torch.equal(run(wide), first)
    assert not torch.equal(first, second)
    plain = dpm.sample(dpm_like, wide, plan=plan, generator=0)
    assert float(first.std()) == pytest.approx(float(plain.std()), rel=0.02)


@pytest.mark.slow
def test_a_seed_gives_the_numbers_of_the_plain_run() -> None:
    """Of seeds the noise is known when the run is traced: "independent" normals of torch, and those of the host."""
    for noise in ("independent", "host"):
        run = lambda x, noise=noise: dpm.sample(DENOISER, x, plan=NOISY, generator=[7, 8, 9, 10], noise=noise)  # noqa: E731
        torch.testing.assert_close(compiled(run)(X_T), run(X_T))


def test_randomness_that_tracing_would_use_up_is_refused() -> None:
    """A Generator, and noise of the host without a seed: the message says what to give instead."""
    for given in ({"generator": torch.Generator()}, {"noise": "host"}, {"noise": "brownian", "generator": 0}):
        torch.compiler.reset()
        with pytest.raises(Exception, match="compiled run") as caught:
            compiled(lambda x, given=given: dpm.sample(DENOISER, x, plan=NOISY, **given))(X_T)
        assert "PlanError" in str(caught.value) or isinstance(caught.value, PlanError)


def test_settled_is_what_torch_calls_a_constant_result() -> None:
    """The mark is the one that `torch.compiler.assume_constant_result` makes."""

    def one() -> int:
        return 1

    def other() -> int:
        return 1

    assert vars(settled(one)) == vars(torch.compiler.assume_constant_result(other)) != {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpm++2m", "dpm-2", "unipc-2", "dpm++2m-sde"])
def test_inductor_gives_the_plain_run(name: str) -> None:
    """Compiled to machine code, on the CPU, in float32."""
    plan = a_plan(name, nfe=4)
    denoiser = DENOISER.replace(network=Network().float())
    require_same(lambda x: dpm.sample(denoiser, x, plan=plan, generator=5), "inductor", X_T.float())


@pytest.mark.slow
def test_weights_that_change_are_seen() -> None:
    """A compiled run belongs to the network, not to the weights that it had."""
    denoiser = DENOISER.replace(network=Network())
    run = compiled(lambda x: dpm.sample(denoiser, x, plan=PLAN), "inductor")
    before = run(X_T)
    with torch.no_grad():
        denoiser.network.linear.weight.mul_(2.0)
    after = run(X_T)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, dpm.sample(denoiser, X_T, plan=PLAN))
