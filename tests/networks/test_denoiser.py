"""What a network predicts, how it is called, and what it must return."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dpmsolver as dpm
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans import Point
from dpmsolver.plans.targets import conversion

torch = pytest.importorskip("torch")

PREDICTIONS = ["noise", "data", "v", "score", "velocity"]
PAIRS = list(itertools.product(PREDICTIONS, PREDICTIONS))
VP = dpm.schedules.LinearVP()
DISCRETE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
EDM = dpm.schedules.EDM()
MEAN, VARIANCE = np.array([0.7, -0.4]), np.array([0.3, 1.2])
X_T = dpm.initial_noise(VP, (3, 2), seed=5)
PICTURES = dpm.initial_noise(VP, (2, 3, 4, 4), seed=1)


def target(name: str, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
    """The five predictions as their papers write them."""
    return {
        "noise": eps,
        "data": x0,
        "v": alpha * eps - sigma * x0,
        "score": -eps / sigma,
        "velocity": eps - x0,
    }[name]


def optimal(predicts: str) -> Any:
    """The optimal network of N(MEAN, VARIANCE) under VP, written out by hand."""

    def network(x: Any, t: Any) -> Any:
        time = float(t[0])
        alpha, sigma = VP.alpha(time), VP.sigma(time)
        x0 = MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x - alpha * MEAN)
        return target(predicts, x0, (x - alpha * x0) / sigma, alpha, sigma)

    return network


class Recorder:
    """A network that predicts clean data 0.3 tanh(x) and remembers what it was given."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.labels: list[Any] = []

    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any:
        self.inputs.append(x)
        self.labels.append(t)
        return 0.3 * (torch.tanh(x) if isinstance(x, torch.Tensor) else np.tanh(x))


class Module(torch.nn.Module):
    """A torch network with weights of a float type; it fails, as real ones do, on an input of another."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.5, 0.125], [-0.25, 0.5]]))
            self.linear.bias.zero_()
        self.to(dtype)
        self.seen: list[tuple[torch.dtype, torch.dtype]] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.seen.append((x.dtype, t.dtype))
        return self.linear(x)


@pytest.mark.parametrize(("predicts", "wanted"), PAIRS)
@settings(deadline=None, max_examples=40)
@given(alpha=st.floats(1e-2, 2.0), sigma=st.floats(1e-2, 80.0), x0=st.floats(-3.0, 3.0), eps=st.floats(-4.0, 4.0))
def test_every_prediction_converts_to_every_other(
    predicts: str, wanted: str, alpha: float, sigma: float, x0: float, eps: float
) -> None:
    """a x + b output is what is wanted: to 1e-12 in float64 and to float32's precision in float32, in units of its terms."""
    x, output, expected = (
        alpha * x0 + sigma * eps,
        target(predicts, x0, eps, alpha, sigma),
        target(wanted, x0, eps, alpha, sigma),
    )
    a, b = conversion(predicts, wanted, alpha, sigma)
    # A network's output, too, is a sum whose terms may cancel.
    terms = [abs(target(predicts, *part, alpha, sigma)) for part in ((x0, 0.0), (0.0, eps))]
    size = abs(a) * (abs(alpha * x0) + abs(sigma * eps)) + abs(b) * sum(terms) + abs(expected)
    assert abs(a * x + b * output - expected) <= 1e-12 * size + 1e-300
    single = np.float32(a) * np.float32(x) + np.float32(b) * np.float32(output)
    assert abs(float(single) - expected) <= 1e-6 * size + 1e-30


@pytest.mark.parametrize(("predicts", "wanted"), PAIRS)
@settings(deadline=None, max_examples=20)
@given(alpha=st.floats(1e-2, 2.0), sigma=st.floats(1e-2, 80.0))
def test_converting_there_and_back_changes_nothing(predicts: str, wanted: str, alpha: float, sigma: float) -> None:
    """A conversion followed by its inverse is the identity to 1e-12."""
    a, b = conversion(predicts, wanted, alpha, sigma)
    back, scale = conversion(wanted, predicts, alpha, sigma)
    assert scale * b == pytest.approx(1.0, rel=1e-12)
    assert abs(back + scale * a) <= 1e-12 * (1.0 + abs(back))


def test_conversion_takes_one_point_per_sample() -> None:
    """Arrays of alpha and sigma give what each pair of numbers gives alone."""
    alpha, sigma = np.array([0.9, 0.5, 0.1]), np.array([0.2, 0.6, 0.99])
    a, b = conversion("v", "noise", alpha, sigma)
    for i in range(3):
        assert (a[i], b[i]) == conversion("v", "noise", alpha[i], sigma[i])


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm-2m", "dpm-3"])
@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_networks_that_predict_each_of_the_five_give_the_same_samples(predicts: str, solver: str) -> None:
    """What a network predicts is a detail of its output: the samples of a noise and a data plan do not depend on it."""
    expected = dpm.sample(dpm.Denoiser(optimal("data"), VP, "data"), X_T, nfe=12, solver=solver)
    given = dpm.sample(dpm.Denoiser(optimal(predicts), VP, predicts), X_T, nfe=12, solver=solver)  # type: ignore[arg-type]
    np.testing.assert_allclose(given, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("predicts", "wanted"), [("noise", "data"), ("score", "data"), ("noise", "v")])
def test_pure_noise_cannot_be_converted_from_a_noise_prediction(predicts: str, wanted: str) -> None:
    """At alpha = 0 the noise says nothing about the data: an error that names both, and what to do."""
    with pytest.raises(dpm.PlanError, match=f"predicts {predicts} does not determine {wanted}.*start later"):
        conversion(predicts, wanted, 0.0, 1.0)
    with pytest.raises(dpm.PlanError, match="does not determine"):
        conversion(predicts, wanted, np.array([0.5, 0.0]), np.array([0.5, 1.0]))


@pytest.mark.parametrize(("predicts", "wanted"), [("data", "noise"), ("data", "velocity")])
def test_clean_data_cannot_be_converted_from_a_data_prediction(predicts: str, wanted: str) -> None:
    """At sigma = 0 the data say nothing about the noise."""
    with pytest.raises(dpm.PlanError, match=f"predicts {predicts} does not determine {wanted}"):
        conversion(predicts, wanted, 1.0, 0.0)


@pytest.mark.parametrize(("predicts", "wanted"), [("score", "noise"), ("v", "score")])
def test_there_is_no_score_without_noise(predicts: str, wanted: str) -> None:
    """The score is refused at sigma = 0, in both directions."""
    with pytest.raises(dpm.PlanError, match="score is not defined at sigma = 0"):
        conversion(predicts, wanted, 1.0, 0.0)


@pytest.mark.parametrize("predicts", ["v", "velocity", "data"])
def test_v_velocity_and_data_work_at_pure_noise(predicts: str) -> None:
    """Zero terminal SNR is an ordinary point for a network that can answer there: E[x_0] is what it predicts."""
    a, b = conversion(predicts, "data", 0.0, 1.0)
    x0, eps = 0.4, -1.3
    assert a * eps + b * target(predicts, x0, eps, 0.0, 1.0) == pytest.approx(x0, abs=1e-15)


def test_a_noise_network_cannot_start_at_pure_noise() -> None:
    """A run from alpha = 0 with a noise network is refused before it is called."""
    network = Recorder()
    with pytest.raises(dpm.PlanError, match="does not determine data"):
        dpm.sample(dpm.Denoiser(network, dpm.schedules.Flow()), X_T, nfe=4, start=1.0)
    assert not network.inputs


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_learned_variance_keeps_the_first_half_of_the_channels(channels: int) -> None:
    """Of 2C channels the first C are the prediction, whatever C is; the rest changes nothing."""
    x = torch.from_numpy(dpm.initial_noise(DISCRETE, (2, channels, 4, 4), seed=3))

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 * x, torch.full_like(x, 1e6)], dim=1)

    given = dpm.sample(dpm.Denoiser(network, DISCRETE, learned_variance=True), x, nfe=5)
    assert torch.equal(given, dpm.sample(dpm.Denoiser(lambda x, t: 0.5 * x, DISCRETE), x, nfe=5))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_learned_variance_that_is_not_declared_is_named(channels: int) -> None:
    """Twice the channels without learned_variance=True: the error says what to pass."""
    x = np.ones((2, channels, 4, 4))
    with pytest.raises(ValueError, match="learned_variance=True"):
        dpm.sample(dpm.Denoiser(lambda x, t: np.concatenate([x, x], axis=1), DISCRETE), x, nfe=5)


def test_learned_variance_that_is_absent_is_named() -> None:
    """learned_variance=True on a network without it: the error says what was wanted and what came."""
    with pytest.raises(ValueError, match=r"2C channels.*got shape \(2, 3, 4, 4\)"):
        dpm.sample(dpm.Denoiser(lambda x, t: x, DISCRETE, learned_variance=True), PICTURES, nfe=5)


def test_float_labels_are_the_schedules_and_are_not_rounded() -> None:
    """time_label="float" hands over the plan's label t N - 1 to every digit, one per sample."""
    network = Recorder()
    plan = dpm.make_plan("dpm++2m", DISCRETE, nfe=7)
    dpm.sample(dpm.Denoiser(network, DISCRETE, "data"), X_T, plan=plan)
    assert [label.tolist() for label in network.labels] == [[row.point.label] * 3 for row in plan.rows]
    assert any(row.point.label % 1 for row in plan.rows)


def test_round_labels_are_the_nearest_integers_as_int64() -> None:
    """time_label="round" hands over the nearest step number as int64: an embedding table can be indexed with it."""
    plan = dpm.make_plan("dpm++2m", DISCRETE, nfe=7)
    for x, kind in ((X_T, np.int64), (torch.from_numpy(X_T), torch.int64)):
        network = Recorder()
        dpm.sample(dpm.Denoiser(network, DISCRETE, "data", time_label="round"), x, plan=plan)
        assert [int(label[0]) for label in network.labels] == [round(row.point.label) for row in plan.rows]
        assert {label.dtype for label in network.labels} == {np.dtype(kind) if kind is np.int64 else kind}


def test_a_function_makes_the_labels() -> None:
    """time_label may be a function of the schedule's label, such as ScoreSDE's 999 t."""
    network = Recorder()
    plan = dpm.make_plan("dpm++2m", VP, nfe=4)
    dpm.sample(dpm.Denoiser(network, VP, "data", time_label=lambda t: 999.0 * t), X_T, plan=plan)
    assert [float(label[0]) for label in network.labels] == [999.0 * row.point.time for row in plan.rows]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_have_the_states_float_type(dtype: str) -> None:
    """float32 states give float32 labels, float64 states float64 ones, on NumPy and torch."""
    for x in (X_T.astype(dtype), torch.from_numpy(X_T.astype(dtype))):
        network = Recorder()
        dpm.sample(dpm.Denoiser(network, VP, "data"), x, nfe=2)
        assert {str(label.dtype).removeprefix("torch.") for label in network.labels} == {dtype}
        assert {tuple(label.shape) for label in network.labels} == {(3,)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_module_gets_half_inputs_and_nothing_else_is_half(dtype: torch.dtype) -> None:
    """Only the network's border is half: its input is, its label is float32, and so are every state and the result."""
    network = Module(dtype)
    states: list[dpm.State] = []
    hooked: list[torch.dtype] = []

    def hook(x: torch.Tensor, point: Point) -> torch.Tensor:
        hooked.append(x.dtype)
        return x

    x = torch.from_numpy(X_T).float()
    denoiser = dpm.Denoiser(network, VP, "data")
    result = dpm.sample(denoiser, x, nfe=5, callback=states.append, state_hook=hook)
    assert network.seen == [(dtype, torch.float32)] * 5
    assert {s.x.dtype for s in states} | {s.denoised.dtype for s in states} | set(hooked) == {torch.float32}
    assert result.dtype == torch.float32
    single = dpm.sample(denoiser.replace(network=Module(torch.float32)), x, nfe=5)
    torch.testing.assert_close(result, single, rtol=0, atol=0.03)
    assert not torch.equal(result, single)


def test_a_half_precision_state_is_kept_in_float32() -> None:
    """x_T in half with a half network: the state between its calls is still float32."""
    result = dpm.sample(dpm.Denoiser(Module(torch.float16), VP, "data"), torch.from_numpy(X_T).half(), nfe=3)
    assert result.dtype == torch.float32


def test_dtype_by_name_for_a_plain_function() -> None:
    """A function has no weights to look at: dtype="bfloat16" says what it computes in, and its labels are float32."""
    network = Recorder()
    result = dpm.sample(dpm.Denoiser(network, VP, "data", dtype="bfloat16"), torch.from_numpy(X_T), nfe=3)
    assert {x.dtype for x in network.inputs} == {torch.bfloat16}
    assert {t.dtype for t in network.labels} == {torch.float32}
    assert result.dtype == torch.float64


def test_dtype_by_name_on_numpy() -> None:
    """The same on NumPy for the types it has, and a reason for the one it has not."""
    network = Recorder()
    result = dpm.sample(dpm.Denoiser(network, VP, "data", dtype="float16"), X_T, nfe=3)
    assert {x.dtype for x in network.inputs} == {np.dtype(np.float16)}
    assert result.dtype == np.float64
    with pytest.raises(TypeError, match="NumPy has no bfloat16"):
        dpm.sample(dpm.Denoiser(network, VP, "data", dtype="bfloat16"), X_T, nfe=3)


def test_a_float64_state_with_a_float32_module() -> None:
    """The module gets its own type, the state stays float64."""
    network = Module(torch.float32)
    result = dpm.sample(dpm.Denoiser(network, VP, "data"), torch.from_numpy(X_T), nfe=3)
    assert {seen[0] for seen in network.seen} == {torch.float32}
    assert result.dtype == torch.float64


class Embedding(torch.nn.Module):
    """The usual embedding of t by a linear layer, which takes no other float type than its weights'."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.arange(4) * -2.0))
        self.linear = torch.nn.Linear(4, 2)
        self.to(dtype)
        self.labels: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.labels.append(t.clone())
        return x + self.linear((t[:, None] * self.frequencies).sin())

    def steered(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self(x, t)


@pytest.mark.parametrize("call", [lambda m: m, lambda m: m.steered, lambda m: functools.partial(m.steered)])
@pytest.mark.parametrize("state", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
def test_labels_have_the_float_type_of_a_modules_weights(weights: Any, state: Any, call: Any) -> None:
    """Whatever the state's: a float32 module under a float64 state runs, as does a method of it, and float64 labels keep their digits."""
    torch.manual_seed(0)
    module, x = Embedding(weights), torch.from_numpy(X_T).to(state)
    plan = dpm.make_plan("dpm++2m", DISCRETE, 5)
    assert dpm.sample(dpm.Denoiser(call(module), DISCRETE), x, plan=plan).dtype == state
    assert {label.dtype for label in module.labels} == {weights}
    exact = torch.tensor([row.point.label for row in plan.rows], dtype=torch.float64)
    assert torch.equal(torch.stack(module.labels)[:, 0], exact.to(weights))


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16])
def test_labels_of_half_precision_modules_are_never_rounded_to_half(weights: Any) -> None:
    """Also where the state is float64: step 999.5 would become 1000."""
    seen: list[Any] = []
    network = Module(weights)
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].clone()))
    plan = dpm.make_plan("dpm++2m", DISCRETE, 5)
    for state in (torch.float32, torch.float64):
        dpm.sample(dpm.Denoiser(network, DISCRETE), torch.from_numpy(X_T).to(state), plan=plan)
    exact = torch.tensor([row.point.label for row in plan.rows] * 2, dtype=torch.float32)
    assert torch.equal(torch.stack(seen)[:, 0], exact)


def test_denoisers_are_equal_only_to_themselves() -> None:
    """With arrays and tensors among their arguments they compare and hash all the same."""
    arguments: dict[str, Any] = {"network_kwargs": {"y": torch.ones(2)}}
    guidance = ClassifierFree(2.0, {"z": X_T}, {"z": X_T})
    one, other = (dpm.Denoiser(optimal("noise"), VP, guidance=guidance, **arguments) for _ in range(2))
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2
    assert guidance in {guidance}
    assert guidance != ClassifierFree(2.0, {"z": X_T}, {"z": X_T})


def test_no_gradient_is_recorded() -> None:
    """Weights that require gradients leave no graph behind."""
    x = torch.from_numpy(X_T).float().requires_grad_()
    result = dpm.sample(dpm.Denoiser(Module(torch.float32), VP, "data"), x, nfe=3)
    assert not result.requires_grad
    assert result.grad_fn is None


@pytest.mark.parametrize("array", [np.asarray, torch.from_numpy])
def test_edm_preconditioning_is_the_published_formula(array: Any) -> None:
    """D(x, sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4), with one sigma per sample."""
    data, sigma, x = 0.5, np.array([0.3, 7.0, 80.0]), np.linspace(-2.0, 2.0, 6).reshape(3, 2)
    seen = []

    def raw(y: Any, label: Any, gain: float) -> Any:
        seen.append((y, label))
        return gain * y**2

    out = dpm.edm_preconditioned(raw, sigma_data=data)(array(x), array(sigma), gain=2.0)
    s = sigma[:, None]
    c_skip, c_out = data**2 / (s**2 + data**2), s * data / np.sqrt(s**2 + data**2)
    c_in, c_noise = 1 / np.sqrt(s**2 + data**2), np.log(sigma) / 4
    np.testing.assert_allclose(np.asarray(seen[0][0]), c_in * x, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(seen[0][1]), c_noise, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(out), c_skip * x + c_out * 2.0 * (c_in * x) ** 2, rtol=1e-13)


def test_preconditioning_the_optimal_raw_network_gives_the_optimal_denoiser() -> None:
    """The F that is optimal for Gaussian data, behind preconditioning, samples as the closed-form D does."""
    data, variance = 0.5, np.array([0.04, 2.0])

    def raw(y: Any, label: Any) -> Any:
        s = np.exp(4 * label)[:, None]
        x = y * np.sqrt(s**2 + data**2)
        best = variance / (variance + s**2) * x
        return (best - data**2 / (s**2 + data**2) * x) / (s * data / np.sqrt(s**2 + data**2))

    x = dpm.initial_noise(EDM, (4, 2), seed=2)
    given = dpm.sample(dpm.Denoiser(dpm.edm_preconditioned(raw, data), EDM, "data"), x, nfe=9, grid="karras")
    optimal = dpm.models.Gaussian([0.0, 0.0], variance).denoiser(EDM)
    np.testing.assert_allclose(given, dpm.sample(optimal, x, nfe=9, grid="karras"), rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_preconditioning_casts_only_the_raw_networks_input(dtype: torch.dtype) -> None:
    """F in half, or in float32 under a float64 state, gets its own type and a float32 label; skip and scale are in the state's."""
    raw = Module(dtype)
    x = torch.from_numpy(dpm.initial_noise(EDM, (3, 2)))
    result = dpm.sample(dpm.Denoiser(dpm.edm_preconditioned(raw), EDM, "data"), x, nfe=4)
    assert raw.seen == [(dtype, torch.float32)] * 4
    assert result.dtype == torch.float64


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, float("nan")])
def test_preconditioning_needs_a_positive_sigma_data(sigma_data: float) -> None:
    """sigma_data is checked when it is given."""
    with pytest.raises(ValueError, match="sigma_data must be positive"):
        dpm.edm_preconditioned(lambda x, t: x, sigma_data)


def test_network_kwargs_arrive_untouched() -> None:
    """The caller's objects themselves are handed over at every call, and their dictionary is not changed."""
    marker, kwargs_seen = object(), []

    def network(x: Any, t: Any, **kwargs: Any) -> Any:
        kwargs_seen.append(kwargs)
        return 0.1 * x

    kwargs = {"marker": marker, "scale": 3}
    dpm.sample(dpm.Denoiser(network, VP, network_kwargs=kwargs), X_T, nfe=3)
    assert len(kwargs_seen) == 3
    assert all(seen["marker"] is marker and seen["scale"] == 3 for seen in kwargs_seen)
    assert kwargs == {"marker": marker, "scale": 3}


def test_replace_makes_a_changed_copy() -> None:
    """A denoiser is frozen; `replace` leaves the first as it was and checks the second."""
    first = dpm.Denoiser(lambda x, t: x, VP)
    second = first.replace(predicts="v")
    assert (first.predicts, second.predicts) == ("noise", "v")
    assert second.network is first.network
    with pytest.raises(dpm.PlanError, match="unknown prediction"):
        first.replace(predicts="w")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": 3}, TypeError, "network must be callable.*got int"),
        ({"schedule": "linear"}, TypeError, "schedule must be a NoiseSchedule.*got str"),
        ({"predicts": "nose"}, dpm.PlanError, "unknown prediction 'nose'.*did you mean 'noise'.*velocity"),
        ({"dtype": "float61"}, dpm.PlanError, "unknown dtype 'float61'.*float16"),
        ({"time_label": "rounded"}, dpm.PlanError, "time_label must be.*got 'rounded'"),
        ({"guidance": 7.5}, TypeError, "guidance must be guidance.ClassifierFree.*got float"),
        ({"data_hook": 1.0}, TypeError, "data_hook must be a function.*got float"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_made(arguments: dict[str, Any], error: type, message: str) -> None:
    """The error names the argument, what was given and what is accepted."""
    good: dict[str, Any] = {"network": lambda x, t: x, "schedule": VP}
    with pytest.raises(error, match=message):
        dpm.Denoiser(**{**good, **arguments})


class Output:
    """What diffusers' networks return unless asked for a tuple."""

    def __init__(self, sample: Any) -> None:
        self.sample = sample


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x, t: x[:, :1], ValueError, r"must return shape \(2, 3, 4, 4\), got shape \(2, 1, 4, 4\)"),
        (lambda x, t: x[:1], ValueError, r"must return shape \(2, 3, 4, 4\), got shape \(1, 3, 4, 4\)"),
        (lambda x, t: x.to(torch.int64), TypeError, "floating-point array.*torch.int64"),
        (lambda x, t: Output(x), TypeError, r"Output.*network=lambda.*\.sample"),
        (lambda x, t: (x,), TypeError, "builtins.tuple"),
        (lambda x, t: None, TypeError, "NoneType"),
        (lambda x, t: x.numpy(), TypeError, "numpy.ndarray of type float64"),
    ],
)
def test_a_network_that_returns_something_else_is_refused_at_its_first_call(
    network: Any, error: type, message: str
) -> None:
    """Another shape, integers, a wrapper object, a tuple, nothing, or NumPy from torch: refused after one call, with the remedy."""
    calls = []

    def counted(x: Any, t: Any) -> Any:
        calls.append(t)
        return network(x, t)

    with pytest.raises(error, match=message):
        dpm.sample(dpm.Denoiser(counted, VP), torch.from_numpy(PICTURES), nfe=4)
    assert len(calls) == 1


def test_a_plan_with_other_labels_is_refused() -> None:
    """Flows that differ in their labels alone have the same alpha and sigma: the network would be told another time in silence."""
    plan = dpm.make_plan("ddim", dpm.schedules.Flow(), nfe=3)
    for schedule in (dpm.schedules.Flow(label_scale=1000.0), dpm.schedules.Flow(reversed=True)):
        denoiser = dpm.Denoiser(lambda x, t: 0.0 * x, schedule, predicts="velocity")
        with pytest.raises(
            dpm.PlanError, match=r"another schedule: at t=1 its label is 1, this denoiser's Flow\(.*has label"
        ):
            dpm.sample(denoiser, np.ones((1, 2)), plan=plan)
