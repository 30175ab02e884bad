"""torch's backend on devices that have no float64, and on numbers of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.host import to_host
from dpmsolver.plans import Point

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from dpmsolver.backends import arrays  # noqa: E402
from dpmsolver.backends.torch import BACKEND  # noqa: E402

VP, EDM = dpm.schedules.LinearVP(), dpm.schedules.EDM()
X = torch.linspace(-2.0, 2.0, 24).reshape(3, 8)


class NoFloat64(TorchDispatchMode):
    """As MPS: whatever has to do with float32 tensors of the device cannot become float64 there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        given = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else [arg])]
        single = any(isinstance(a, torch.Tensor) and a.dtype == torch.float32 for a in given)
        outs = out if isinstance(out, (list, tuple)) else [out]
        if single and any(isinstance(o, torch.Tensor) and o.dtype == torch.float64 for o in outs):
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype: {function}")
        return out


def test_the_mode_finds_float64() -> None:
    """The test's own instrument: it refuses what MPS refuses."""
    with NoFloat64(), pytest.raises(TypeError, match="float64"):
        X.double()


class Module(torch.nn.Module):
    """Weights, and the usual embedding of t."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(1, 8)

    def forward(self, x: Any, t: Any) -> Any:
        return x + self.linear(t[:, None].sin())


FUNCTIONS: dict[str, Any] = {
    "state": lambda: BACKEND.state(X),
    "combine": lambda: BACKEND.combine([1.0, 0.5], [X, X]),
    "combine_each": lambda: arrays.combine_each(BACKEND, [np.ones(3), np.arange(3.0)], [X, X]),
    "linear": lambda: arrays.linear(BACKEND, (1.0, np.arange(3.0)), (X, X)),
    "labels": lambda: arrays.labels(BACKEND, np.ones((2, 1)), X, arrays.label_dtype(BACKEND, None, X)),
    "finite": lambda: BACKEND.finite(X) and arrays.not_finite(X),
    "from_numpy": lambda: BACKEND.from_numpy(np.ones(3), X),
    "normals": lambda: BACKEND.normals([(0,), (1,)], 0, (8,), X),
    "deviation": lambda: arrays.deviation(BACKEND, X),
    "moved_to": lambda: arrays.moved_to(BACKEND, np.ones(3), X),
    "copy_to": lambda: BACKEND.copy_to(X),
    "quantile": lambda: arrays.quantile(X, 0.995),
    "cast": lambda: arrays.cast(X, torch.float16),
    "where": lambda: arrays.where(BACKEND, np.array([True, False, True]), X, -X),
    "error_norm": lambda: arrays.error_norm(X, 0 * X, X, 0.1, 0.1),
    "gradient": lambda: BACKEND.autograd.gradient("it", lambda x, t: (-(x**2).sum(dim=1), None), X, X[:, 0], {})[0],
    "thresholding": lambda: dpm.thresholding.dynamic()(X, Point.at(VP, 0.5)),
    "preconditioning": lambda: dpm.edm_preconditioned(Module())(X, torch.ones(3)),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_no_function_of_the_backend_makes_float64_on_the_device(function: Any) -> None:
    """A float32 tensor never meets float64."""
    with torch.no_grad(), NoFloat64():
        function()


def denoiser(**options: Any) -> dpm.Denoiser:
    return dpm.Denoiser(lambda x, t, **kwargs: 0.1 * x + 0.01 * t[:, None], VP, **options)


DATA = dpm.Denoiser(lambda x, t: 0.5 * torch.tanh(x), VP, "data")
CLASSIFIER = dpm.guidance.Classifier([0.1, 0.2, 0.3], lambda x, t: -(x**2).sum(dim=1))
FREE = dpm.guidance.ClassifierFree([1.0, 2.0, 3.0], {"y": 1}, {"y": 1})
RUNS: dict[str, Any] = {
    "sample": lambda: dpm.sample(denoiser(), X, nfe=6),
    "stages": lambda: dpm.sample(denoiser(), X, nfe=6, solver="dpm-3"),
    "sde": lambda: dpm.sample(denoiser(), X, nfe=6, solver="dpm++2m-sde", generator=0),
    "thresholded": lambda: dpm.sample(denoiser(data_hook=dpm.thresholding.dynamic()), X, nfe=6),
    "rounded labels": lambda: dpm.sample(denoiser(time_label="round"), X, nfe=6),
    "classifier": lambda: dpm.sample(denoiser(guidance=CLASSIFIER), X, nfe=6),
    "classifier-free": lambda: dpm.sample(denoiser(guidance=FREE), X, nfe=6),
    "inpaint": lambda: dpm.sample(denoiser(), X, nfe=6, state_hook=dpm.inpaint(X, X > 0, X)),
    "iterate": lambda: list(dpm.iterate(denoiser(), X, nfe=4))[-1].x,
    "encode": lambda: dpm.encode(denoiser(), X, nfe=6),
    "adaptive": lambda: dpm.sample_adaptive(denoiser(), X),
    "adaptive, guided": lambda: dpm.sample_adaptive(denoiser(guidance=FREE), X),
    "rk45": lambda: dpm.sample_rk45(denoiser(), X, rtol=1e-2, atol=1e-2).x,
    "noise": lambda: dpm.add_noise(VP, X, X, [0.1, 0.2, 0.3]) + dpm.initial_noise(VP, (3, 8), like=X),
    "calibrated": lambda: dpm.sample(DATA, X, 5, solver="dpm-v3", statistics=dpm.calibrate(DATA, X, levels=8, draws=1)),
}


@pytest.mark.filterwarnings("ignore:this plan multiplies")  # statistics of three random points
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_no_run_makes_float64_on_the_device(run: Any) -> None:
    """From a float32 state to a float32 result, whatever the loop, with float64 coefficients that come from the host."""
    with NoFloat64():
        result = run()
    assert result.dtype == torch.float32


@pytest.mark.parametrize("size", [1.0, 1e-25, 1e25])
def test_the_error_norm_of_float32_does_not_overflow(size: float) -> None:
    """RMS((high - low)/max(atol, rtol max(|low|, |before|))) per sample, also where its square is beyond float32."""
    rng = np.random.default_rng(0)
    high, low, before = rng.standard_normal((3, 4, 50)) * size
    wanted = np.sqrt(np.mean(((high - low) / np.maximum(0.1, 1e-3 * np.maximum(abs(low), abs(before)))) ** 2, axis=1))
    given = arrays.error_norm(*(torch.tensor(v, dtype=torch.float32) for v in (high, low, before)), 0.1, 1e-3)
    np.testing.assert_allclose(given, wanted, rtol=1e-5)
    assert arrays.error_norm(X, X, X, 0.1, 0.1).tolist() == [0.0, 0.0, 0.0]


NUMBERS = [0.25, 0.5, 0.75]
KINDS: dict[str, Any] = {
    "list": NUMBERS,
    "numpy": np.array(NUMBERS, dtype=np.float16),
    "tensor": torch.tensor(NUMBERS),
    "bfloat16": torch.tensor(NUMBERS).bfloat16(),
    "gradients": torch.tensor(NUMBERS).double().requires_grad_(),
    "list of tensors": [torch.tensor(v, requires_grad=True) for v in NUMBERS],
    "mixed": [torch.tensor(0.25), 0.5, np.float32(0.75)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_every_kind_come_to_the_host(kind: str) -> None:
    """As float64, as a copy."""
    given = to_host(KINDS[kind])
    assert given.dtype == np.float64
    np.testing.assert_array_equal(given, NUMBERS)
    given[:] = 7.0
    np.testing.assert_array_equal(to_host(KINDS[kind]), NUMBERS)


@pytest.mark.parametrize("kind", KINDS)
def test_betas_and_times_may_be_of_every_kind(kind: str) -> None:
    """Schedules and `add_noise` take what they would as float64."""
    schedule, wanted = (dpm.schedules.Discrete(betas=v) for v in (KINDS[kind], NUMBERS))
    times = np.array([0.4, 0.9])
    np.testing.assert_array_equal(schedule.alpha(times), wanted.alpha(times))
    falling = KINDS[kind][::-1] if not isinstance(KINDS[kind], torch.Tensor) else KINDS[kind].flip(0)
    assert dpm.schedules.Discrete(alphas_cumprod=falling).alpha(1.0) == 0.5
    noisy = dpm.add_noise(VP, X, X, KINDS[kind])
    np.testing.assert_array_equal(noisy.numpy(), dpm.add_noise(VP, X, X, np.array(NUMBERS)).numpy())


def test_alphas_cumprod_that_bfloat16_made_equal_are_refused() -> None:
    """Rounding to 8 bits makes steps of no length: the usual error."""
    products = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)[100:].bfloat16()
    with pytest.raises(ValueError, match="alphas_cumprod must decrease strictly"):
        dpm.schedules.Discrete(alphas_cumprod=products)


# Randomness.


def torch_generators(seeds: list[int]) -> list[Any]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def numpy_generators(seeds: list[int]) -> list[Any]:
    return [np.random.default_rng(seed) for seed in seeds]


@pytest.mark.parametrize("noise", ["independent", "brownian"])
@pytest.mark.parametrize("make", [torch_generators, numpy_generators])
def test_one_generator_per_sample(make: Any, noise: Any) -> None:
    """Sample i depends on generator i alone, in `initial_noise` and in runs."""
    together = dpm.initial_noise(VP, (3, 2), make([5, 6, 7]))
    options: dict[str, Any] = {"nfe": 4, "solver": "euler-ancestral", "noise": noise}
    samples = dpm.sample(denoiser(), together, generator=make([1, 2, 3]), **options)
    for i in range(3):
        np.testing.assert_array_equal(together[i], dpm.initial_noise(VP, (1, 2), make([5 + i]))[0])
        alone = dpm.sample(denoiser(), together[i : i + 1], generator=make([1 + i]), **options)
        np.testing.assert_allclose(samples[i], alone[0], rtol=1e-12)
    assert abs(together[0] - together[1]).min() > 0


@pytest.mark.parametrize(
    "seeds",
    [torch.tensor([3, 1, 2]), np.array([3, 1, 2]), [torch.tensor(3), np.int32(1), 2], [(3,), 1, 2]],
    ids=["tensor", "array", "mixed", "tuples"],
)
def test_seeds_may_be_tensors_and_arrays(seeds: Any) -> None:
    """They mean what a list of ints means, and a tensor of one int what the int does."""
    wanted = dpm.initial_noise(VP, (3, 2), [3, 1, 2])
    np.testing.assert_array_equal(dpm.initial_noise(VP, (3, 2), seeds), wanted)
    np.testing.assert_array_equal(dpm.initial_noise(VP, (3, 2), torch.tensor(4)), dpm.initial_noise(VP, (3, 2), 4))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (torch.tensor([1.0, 2.0, 3.0]), r"seeds must be integers, got \[1\.0, 2\.0, 3\.0\]"),
        (torch.tensor([1, 2]), "one seed per sample is needed: 3 samples, 2 seeds"),
        (torch.tensor([[1, 2], [1, 2], [1, 2]]), "seeds must be integers"),
        (torch.tensor([1, -2, 3]), "seeds must be >= 0"),
        (torch_generators([1, 2]), "one seed per sample is needed: 3 samples, 2 seeds"),
        (
            [1, 2, None],
            "generator must be an int, a numpy or torch Generator, or one of these per sample, got NoneType",
        ),
        (torch.nn.Linear(1, 1), "generator must be a torch.Generator, got Linear"),
    ],
)
def test_seeds_that_are_none_are_refused(seeds: Any, message: str) -> None:
    """One sentence, before the first evaluation."""
    with pytest.raises(dpm.PlanError, match=message):
        dpm.initial_noise(VP, (3, 2), seeds)
    with pytest.raises(dpm.PlanError, match=message):
        dpm.sample(denoiser(), X, nfe=3, generator=seeds)
