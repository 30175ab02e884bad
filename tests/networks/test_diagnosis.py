"""`dpm.check`: a right convention fits, and each of the usual mistakes is named, on `digits` and on trained two-moons networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.networks.diagnosis import Diagnosis
from dpmsolver.networks.guidance import ClassifierFree

torch = pytest.importorskip("torch")

BETAS = np.linspace(1e-4, 0.02, 1000)
DISCRETE, FLOW, EDM, VP = (
    dpm.schedules.Discrete(betas=BETAS),
    dpm.schedules.Flow(),
    dpm.schedules.EDM(),
    dpm.schedules.LinearVP(),
)
ALPHAS_CUMPROD = dpm.schedules.Discrete(betas=np.cumprod(1.0 - BETAS))  # the mistake: betas that are alphas_cumprod
LAMBDAS = DISCRETE.half_log_snr(np.arange(1, 1001) / 1000)


def meant(found: Diagnosis, declared: dpm.Denoiser) -> dpm.Denoiser:
    """The denoiser that the suggested code makes."""
    names = {"dpm": dpm, "np": np, "math": math, "denoiser": declared}
    return eval(found.code, {**names, "network": declared.network, "schedule": declared.schedule})  # type: ignore[no-any-return]


# Two moons: small networks that are trained here ----------------------------------------------------------------------------------


def moons(num: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    angle, upper = rng.uniform(0.0, np.pi, num), rng.integers(0, 2, num)
    x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    return np.stack([x, y], axis=1) + 0.05 * rng.standard_normal((num, 2))


def trained(forward: Callable[[Any], tuple[Any, Any]], target: Callable[[Any, Any], Any], seed: int) -> Any:
    """A network (x, t) with t in [0, 1]: one hidden layer of 300, whose output weights are trained on 20000 points by least squares."""
    rng = np.random.default_rng(seed)
    x0, noise, t = moons(20000, seed), rng.standard_normal((20000, 2)), rng.random(20000)
    alpha, sigma = (part[:, None] for part in forward(t))
    weights, bias = 2.0 * rng.standard_normal((3, 300)) * [[1.0], [1.0], [1.5]], rng.uniform(-4.0, 4.0, 300)

    def hidden(x: Any, t: Any) -> Any:
        z = np.column_stack([x, t])
        return np.column_stack([np.tanh(z @ weights + bias), z, np.ones(len(z))])

    # Where there is much noise, a small error of the output is a large one of the data.
    units, trust = hidden(alpha * x0 + sigma * noise, t), np.minimum(sigma / alpha, 10.0) + 0.3
    left = (units * trust).T @ (units * trust) + 1e-3 * np.eye(units.shape[1])
    solution = np.linalg.solve(left, (units * trust).T @ (target(x0, noise) * trust))
    return lambda x, t: (hidden(x, t) @ solution).astype(x.dtype)


@pytest.fixture(scope="module")
def noise_network() -> Any:
    """(x, n) -> eps for the steps n = 0 … 999 of 1000 linear betas."""

    def forward(t: Any) -> tuple[Any, Any]:
        times = np.clip(np.ceil(1000 * t), 1, 1000) / 1000
        return DISCRETE.alpha(times), DISCRETE.sigma(times)

    network = trained(forward, lambda x0, noise: noise, seed=0)
    return lambda x, n: network(x, n / 1000)


@pytest.fixture(scope="module")
def flow_network() -> Any:
    """(x, sigma) -> eps - x_0."""
    return trained(lambda t: (1.0 - t, t), lambda x0, noise: noise - x0, seed=1)


def of_noise(change: Callable[[Any], Any], schedule: Any, predicts: Any = "noise", **settings: Any) -> Any:
    return lambda noise, flow: dpm.Denoiser(change(noise), schedule, predicts, **settings)


def of_flow(change: Callable[[Any], Any], schedule: Any, predicts: Any = "velocity", **settings: Any) -> Any:
    return lambda noise, flow: dpm.Denoiser(change(flow), schedule, predicts, **settings)


def as_it_is(network: Any) -> Any:
    return network


def reversed_flow(network: Any) -> Any:
    return lambda x, t: -network(x, 1.0 - t)


MOONS_RIGHT = {
    "noise": of_noise(as_it_is, DISCRETE),
    "noise with n/N": of_noise(lambda f: lambda x, t: f(x, 1000 * t), DISCRETE, time_label=lambda n: n / 1000),
    "velocity": of_flow(as_it_is, FLOW),
    "velocity, shifted": of_flow(as_it_is, dpm.schedules.Flow(shift=3.0)),
    "velocity, the other way": of_flow(lambda f: lambda x, t: f(x, 1.0 - t), FLOW, time_label=lambda s: 1.0 - s),
    "velocity, a reversed flow": of_flow(reversed_flow, dpm.schedules.Flow(reversed=True)),
    "velocity, 1000 sigma": of_flow(lambda f: lambda x, t: f(x, t / 1000), dpm.schedules.Flow(label_scale=1000.0)),
}
MOONS_WRONG = {
    "t is n/N": (
        of_noise(lambda f: lambda x, t: f(x, 1000 * t), DISCRETE),
        "t is n/N",
        "time_label=lambda label: label / 1000",
    ),
    "t is n": (
        of_noise(as_it_is, DISCRETE, time_label=lambda n: n / 1000),
        "t is the step number n",
        "time_label=lambda label: label",
    ),
    "v for velocity": (of_flow(as_it_is, FLOW, "v"), "it predicts the velocity", "predicts='velocity'"),
    "data for noise": (of_noise(as_it_is, DISCRETE, "data"), "it predicts the noise", "predicts='noise'"),
    "the other sign": (
        of_flow(lambda f: lambda x, t: -f(x, t), FLOW),
        "it predicts minus the velocity",
        "-network(x, t",
    ),
    "alphas_cumprod": (
        of_noise(as_it_is, ALPHAS_CUMPROD),
        "what was given as betas is alphas_cumprod",
        "schedule=dpm.schedules.Discrete(alphas_cumprod=schedule.betas)",
    ),
    "the other way": (
        of_flow(reversed_flow, FLOW),
        "t is 1 - sigma, the other way round",
        "denoiser.replace(schedule=dpm.schedules.Flow(reversed=True))",
    ),
    "1000 t": (
        of_flow(lambda f: lambda x, t: f(x, t / 1000), FLOW),
        "t is 1000 sigma",
        "denoiser.replace(schedule=dpm.schedules.Flow(label_scale=1000.0))",
    ),
}


@pytest.mark.parametrize("make", MOONS_RIGHT.values(), ids=MOONS_RIGHT)
def test_trained_moons_networks_fit_what_they_are(make: Any, noise_network: Any, flow_network: Any) -> None:
    found = dpm.check(make(noise_network, flow_network), moons(256, seed=7))
    assert found.fits
    assert found.code == ""
    assert found.declared.error < 0.99


@pytest.mark.parametrize(("make", "name", "code"), MOONS_WRONG.values(), ids=MOONS_WRONG)
def test_mistakes_are_named_on_trained_moons_networks(
    make: Any, name: str, code: str, noise_network: Any, flow_network: Any
) -> None:
    """The finding names the mistake and the code to write instead, and what that code makes fits, on other data."""
    declared = make(noise_network, flow_network)
    found = dpm.check(declared, moons(256, seed=7))
    assert not found.fits
    assert f"it fits if {name}" in found.finding
    assert code in found.code
    assert found.code in found.finding
    assert dpm.check(meant(found, declared), moons(256, seed=8), seed=1).fits


# digits ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[dpm.Denoiser, Any]:
    """The denoiser of a 3 and a 7, and such pictures."""
    model = dpm.models.load("digits")
    pictures = dpm.sample(model.denoiser([3, 7], guidance=1.5), model.initial_noise(2, seed=1), nfe=8)
    return model.denoiser([3, 7]), pictures


def each(values: Any, x: Any) -> Any:
    return values.reshape(-1, *[1] * (x.ndim - 1))


def noise_at(network: Any, x: Any, half_log_snr: Any, **kwargs: Any) -> Any:
    """eps of the digits network for a state x of variance 1 at any log-SNR."""
    label = np.interp(-half_log_snr.double().numpy(), -LAMBDAS, np.arange(1000.0))
    return network(x, torch.tensor(label, dtype=torch.float32), **kwargs)


def velocity(network: Any) -> Any:
    """The digits network as that of a flow: the state is rescaled to variance 1, the level chosen by its log-SNR."""

    def flow(x: Any, sigma: Any, **kwargs: Any) -> Any:
        s = sigma.clamp(1e-4, 1.0 - 1e-3)
        norm = each(((1.0 - s) ** 2 + s**2).sqrt(), x)
        eps = noise_at(network, x / norm, torch.log((1.0 - s) / s), **kwargs)
        return eps - (x - each(s, x) * eps) / each(1.0 - s, x)

    return flow


def of_edm(network: Any) -> Any:
    """The digits network as one that predicts the noise of EDM's states."""
    return lambda x, sigma, **kwargs: noise_at(
        network, x / each((1.0 + sigma**2).sqrt(), x), -torch.log(sigma), **kwargs
    )


def other_way(network: Any) -> Any:
    flow = velocity(network)
    return lambda x, t, **kwargs: -flow(x, 1.0 - t, **kwargs)


DIGITS_WRONG: dict[str, tuple[Any, Any, Any, str, str]] = {
    "t is n/N": (
        lambda f: lambda x, t, **k: f(x, 1000 * t, **k),
        DISCRETE,
        "noise",
        "t is n/N",
        "denoiser.replace(time_label=lambda label: label / 1000)",
    ),
    "v for velocity": (velocity, FLOW, "v", "it predicts the velocity", "denoiser.replace(predicts='velocity')"),
    "alphas_cumprod": (
        as_it_is,
        ALPHAS_CUMPROD,
        "noise",
        "what was given as betas is alphas_cumprod",
        "denoiser.replace(schedule=dpm.schedules.Discrete(alphas_cumprod=schedule.betas))",
    ),
    "the other way": (
        other_way,
        FLOW,
        "velocity",
        "t is 1 - sigma, the other way round",
        "denoiser.replace(schedule=dpm.schedules.Flow(reversed=True))",
    ),
}


@pytest.mark.parametrize(("change", "schedule", "predicts", "name", "code"), DIGITS_WRONG.values(), ids=DIGITS_WRONG)
def test_mistakes_are_named_on_digits(
    change: Any, schedule: Any, predicts: Any, name: str, code: str, digits: tuple[dpm.Denoiser, Any]
) -> None:
    declared = digits[0].replace(network=change(digits[0].network), schedule=schedule, predicts=predicts)
    found = dpm.check(declared, digits[1], levels=3)
    assert not found.fits
    assert f"it fits if {name}" in found.finding
    assert found.code == code


def test_edm_started_from_unit_normals_is_named_on_digits(digits: tuple[dpm.Denoiser, Any]) -> None:
    """The network is right and fits; the start is not, and is told of; with sigma_max in it both are right."""
    declared = digits[0].replace(network=of_edm(digits[0].network), schedule=EDM)
    x_T = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = dpm.check(declared, digits[1], x_T=x_T, levels=2)
    assert not found.fits
    assert "sigma=80: start from dpm.initial_noise" in found.finding
    assert "The network fits what is declared" in found.finding
    assert dpm.check(declared, digits[1], x_T=80.0 * x_T, levels=2).fits


def test_digits_fits_what_it_is_with_classes_guidance_and_neither(digits: tuple[dpm.Denoiser, Any]) -> None:
    """Guidance is measured without its scale: the conditional network is what was trained to be the best guess."""
    model, pictures = dpm.models.load("digits"), digits[1]
    plain = dpm.check(digits[0], pictures, levels=2)
    assert plain.fits
    assert plain.declared.error < 0.65
    guided = dpm.check(model.denoiser([3, 7], guidance=4.0), pictures, levels=2)
    assert guided.declared == plain.declared
    assert dpm.check(model.denoiser(), pictures, levels=2).fits


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda x: ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8), "data = data / 127.5 - 1"),
        (lambda x: (x + 1.0) / 2.0, "data = 2 * data - 1"),
    ],
    ids=["bytes", "[0, 1]"],
)
def test_pictures_of_another_range_are_named_on_digits(
    change: Any, code: str, digits: tuple[dpm.Denoiser, Any]
) -> None:
    found = dpm.check(digits[0], change(digits[1]), levels=2)
    assert not found.fits
    assert "it fits if the data lie in [-1, 1] instead of" in found.finding
    assert found.code == code


@pytest.mark.slow
@pytest.mark.parametrize("case", ["c_noise", "raw", "variance preserving", "other betas"])
def test_more_mistakes_on_digits(case: str, digits: tuple[dpm.Denoiser, Any]) -> None:
    """EDM's c_noise and its raw network, a network of another scale, and betas of another model; the suggested code fits."""
    network = digits[0].network
    edm = of_edm(network)

    def data(x: Any, sigma: Any, **kwargs: Any) -> Any:
        return x - each(sigma, x) * edm(x, sigma, **kwargs)

    def raw(x: Any, label: Any, **kwargs: Any) -> Any:
        sigma = torch.exp(4.0 * label)
        total = each(sigma**2 + 0.25, x)
        state = x * total.sqrt()
        return (data(state, sigma, **kwargs) - 0.25 / total * state) / (0.5 * each(sigma, x) / total.sqrt())

    changes, name = {
        "c_noise": (
            {"network": lambda x, c, **k: data(x, torch.exp(4.0 * c), **k), "schedule": EDM, "predicts": "data"},
            "t is ln(sigma)/4",
        ),
        "raw": ({"network": raw, "schedule": EDM, "predicts": "data"}, "it is a raw network of EDM"),
        "variance preserving": (
            {"network": lambda x, s, **k: noise_at(network, x, -torch.log(s), **k), "schedule": EDM},
            "x has alpha^2 + sigma^2 = 1",
        ),
        "other betas": (
            {"schedule": dpm.schedules.Discrete(betas=dpm.schedules.scaled_linear_betas())},
            "the betas are linear from 1e-4 to 0.02",
        ),
    }[case]
    declared = digits[0].replace(**changes)
    found = dpm.check(declared, digits[1])
    assert f"it fits if {name}" in found.finding
    assert dpm.check(meant(found, declared), digits[1]).fits


# Closed forms: exact networks, and imperfect ones -----------------------------------------------------------------------------------

LAWS: dict[str, Any] = {
    "gaussian": dpm.models.Gaussian(mean=[0.5, -0.2], variance=[0.3, 1.2]),
    "normal": dpm.models.Gaussian(mean=[0.0, 0.0], variance=[1.0, 1.0]),
    "far from zero": dpm.models.Gaussian(mean=[10.0, 8.0], variance=[0.04, 0.01]),
    "two points": dpm.models.Mixture(means=[[-1.0, 0.0], [1.0, 0.5]], variances=[[0.01, 0.01]] * 2),
}
PREDICTIONS = ("noise", "data", "v", "score", "velocity")


SOME = [DISCRETE, EDM, FLOW]
SOME_IDS = ["discrete", "edm", "flow"]


@pytest.mark.parametrize("schedule", SOME, ids=SOME_IDS)
@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_exact_prediction_fits(law: Any, schedule: Any) -> None:
    """Whatever is predicted: the exact network fits; declared as data when it predicts noise, it does not."""
    data = law.sample(100, seed=1)
    for predicts in PREDICTIONS:
        assert dpm.check(law.denoiser(schedule, predicts), data, levels=4).fits, predicts
    assert not dpm.check(law.denoiser(schedule, "noise").replace(predicts="data"), data, levels=4).fits


@pytest.mark.parametrize("kind", ["larger", "smaller", "another function of x"])
@pytest.mark.parametrize("predicts", ["noise", "data", "velocity"])
@pytest.mark.parametrize("schedule", SOME, ids=SOME_IDS)
def test_imperfect_networks_fit(schedule: Any, predicts: str, kind: str) -> None:
    """Outputs 10 % too large or small, or off by a fixed function of x and t of a tenth their size, are no mistake of convention."""
    for law in (LAWS["gaussian"], LAWS["two points"]):
        exact = law.denoiser(schedule, predicts)

        def network(x: Any, t: Any, exact: Any = exact.network) -> Any:
            out = exact(x, t)
            wave = np.sqrt(2.0 * np.mean(out**2)) * np.sin(7.0 * x[:, ::-1] + np.log1p(abs(t))[:, None])
            return out + 0.1 * {"larger": out, "smaller": -out}.get(kind, wave)

        assert dpm.check(exact.replace(network=network), law.sample(100, seed=1), levels=4).fits


# What it says where it does not know, and what it costs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [lambda x, t: 0.0 * x, lambda x, t: np.tanh(3.0 * x[::-1]), lambda x, t: np.full_like(x, np.nan)],
    ids=["zero", "other samples'", "NaN"],
)
def test_a_network_that_knows_nothing_fits_nothing(network: Any) -> None:
    """No convention is offered with confidence to a network without knowledge of the data."""
    found = dpm.check(dpm.Denoiser(network, DISCRETE), moons(100, seed=0))
    assert not found.fits
    assert "it fits if" not in found.finding


def test_where_a_network_is_no_better_than_a_guess_it_is_said() -> None:
    """On normal data even the exact network is a linear guess: it fits, and the finding says what that is worth."""
    law = LAWS["normal"]
    found = dpm.check(law.denoiser(VP, "noise"), law.sample(200))
    assert found.fits
    assert "no better than a guess without the network" in found.finding


def test_labels_that_a_network_refuses_are_passed_over() -> None:
    """A network that raises for labels it was never trained on is checked all the same; what it raises as declared is its user's to see."""
    exact = LAWS["two points"].denoiser(DISCRETE, "noise").network

    def strict(x: Any, t: Any) -> Any:
        if t.min() < 1.0:
            raise IndexError("no such step")
        return exact(x, t)

    assert dpm.check(dpm.Denoiser(strict, DISCRETE), LAWS["two points"].sample(100)).fits
    with pytest.raises(IndexError, match="no such step"):
        dpm.check(dpm.Denoiser(strict, DISCRETE, time_label=lambda n: n / 1000), LAWS["two points"].sample(100))


def test_every_call_is_of_the_whole_batch_at_one_time_and_counted() -> None:
    """At most 40 per level; conditions that fit the batch go along; the same seed gives the same diagnosis, in torch as in NumPy."""
    law, seen = LAWS["two points"], []
    exact = law.denoiser(DISCRETE, "noise").network

    def network(x: Any, t: Any, y: Any) -> Any:
        assert len(x) == len(t) == len(y) == 64
        assert len(np.unique(np.asarray(t))) == 1
        seen.append(t)
        return exact(x, t)

    def free(ones: Any) -> ClassifierFree:
        return ClassifierFree(3.0, {"y": ones}, {"y": 0.0 * ones})

    data = law.sample(64)
    first = dpm.check(dpm.Denoiser(network, DISCRETE, guidance=free(np.ones(64))), data, levels=4)
    assert first.calls == len(seen) <= 40 * 4
    again = dpm.check(dpm.Denoiser(network, DISCRETE, guidance=free(np.ones(64))), data, levels=4)
    assert again == first
    assert dpm.check(dpm.Denoiser(network, DISCRETE, guidance=free(np.ones(64))), data, levels=4, seed=1) != first
    tensors = dpm.check(
        dpm.Denoiser(network, DISCRETE, guidance=free(torch.ones(64))), torch.from_numpy(data), levels=4
    )
    assert tensors.fits
    assert tensors.declared.errors == pytest.approx(first.declared.errors, rel=1e-6)
    before = len(seen)
    nothing = dpm.check(
        dpm.Denoiser(lambda x, t, y: 0.0 * network(x, t, y), DISCRETE, network_kwargs={"y": np.ones(64)}), data
    )
    assert nothing.calls == len(seen) - before <= 40 * 6


def test_the_report_prints_the_finding_and_the_table() -> None:
    law = LAWS["two points"]
    found = dpm.check(law.denoiser(FLOW, "velocity").replace(predicts="v"), law.sample(100), levels=3)
    lines = str(found).splitlines()
    assert lines[0] == found.finding
    assert lines[2].split()[:2] == ["convention", "error"]
    assert lines[3].startswith("as declared")
    assert lines[4].startswith("it predicts the velocity")
    assert len({len(line) for line in lines[2:-1]}) == 1
    assert len(found.times) == 3
    assert list(found.times) == sorted(found.times, reverse=True)
    assert len(found.table(rows=3).splitlines()) == 5


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (np.ones((10, 2)), {}, "the data are all alike"),
        (np.full((10, 2), np.nan), {}, "NaN or infinity"),
        (np.arange(3.0)[:, None], {}, "at least two samples and 16 numbers"),
        (np.arange(32.0)[None], {}, "at least two samples"),
        (moons(20, 0), {"levels": 0}, "levels must be an integer >= 1, got 0"),
    ],
)
def test_data_that_tell_nothing_are_refused(data: Any, settings: Any, message: str) -> None:
    def network(x: Any, t: Any) -> Any:
        raise AssertionError("refused before the network is called")

    with pytest.raises(dpm.PlanError, match=message):
        dpm.check(dpm.Denoiser(network, VP), data, **settings)


def test_a_denoiser_is_needed() -> None:
    with pytest.raises(TypeError, match=r"denoiser must be dpm\.Denoiser"):
        dpm.check(lambda x, t: x, moons(20, 0))  # type: ignore[arg-type]
