"""Fingerprints: the same weights have the same, others have another, wherever a network holds them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.models.testbeds import TESTBEDS, load_testbed
from dpmsolver.networks.fingerprint import fingerprint, fits

SCHEDULE = dpm.schedules.LinearVP()


class Held:
    """A network as an object."""

    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def __call__(self, x: Any, t: Any) -> Any:
        return self.weights * x

    def method(self, x: Any, t: Any) -> Any:
        return self.weights * x


def in_a_closure(weights: Any) -> Callable[..., Any]:
    return lambda x, t: weights * x


def in_globals(weights: Any) -> Callable[..., Any]:
    """A function of somebody's script, whose weights are a global name that a function in it uses."""
    names = {"weights": weights, "__name__": "script"}
    code = compile("def network(x, t):\n    return (lambda: weights * x)()\n", "script.py", "exec")
    exec(code, names)
    assert isinstance(names["network"], FunctionType)
    return names["network"]


HOLDERS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "an object": Held,
    "a method": lambda weights: Held(weights).method,
    "a closure": in_a_closure,
    "globals": in_globals,
    "a default": lambda weights: lambda x, t, w=weights: w * x,
    "a partial": lambda weights: functools.partial(lambda w, x, t: w * x, weights),
    "a partial with a name": lambda weights: functools.partial(lambda x, t, w: w * x, w=weights),
    "a container": lambda weights: Held({"layers": [(weights,)]}).method,
    "a wrapper of a wrapper": lambda weights: in_a_closure(Held(weights)),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_weights_are_found_wherever_a_function_holds_them(holder: str) -> None:
    """Equal ones are the same network; another value, type or shape is another."""
    make, weights = HOLDERS[holder], np.arange(4.0)
    own = fingerprint(make(weights))
    assert own is not None
    assert own == fingerprint(make(weights.copy()))
    others = [weights + 1e-12, weights.astype(np.float32), weights.reshape(2, 2), weights[:3]]
    assert len({own, *(fingerprint(make(other)) for other in others)}) == 5


@pytest.mark.parametrize("name", [name for name in TESTBEDS if name != "digits"])
def test_closed_forms_have_one(name: str) -> None:
    """Of their parameters: the same each time they are made, and no two alike."""
    found = {each: fingerprint(load_testbed(each).denoiser().network) for each in TESTBEDS if each != "digits"}
    assert found[name] == fingerprint(load_testbed(name).denoiser().network)
    assert list(found.values()).count(found[name]) == 1


def test_use_does_not_change_it() -> None:
    """Neither a run nor what the framework remembers of it is part of the network."""
    testbed = load_testbed("mixture-2")
    denoiser = testbed.denoiser()
    before = fingerprint(denoiser.network)
    dpm.sample(denoiser, testbed.initial_noise(range(2)), nfe=3)
    assert fingerprint(denoiser.network) == before


def test_a_function_without_weights_has_none() -> None:
    """Nothing is claimed of it, rather than something that would change with the version of Python."""
    assert fingerprint(lambda x, t: 0.5 * x) is None
    assert fingerprint(dpm.Denoiser(lambda x, t: np.tanh(x), SCHEDULE).network) is None


def test_a_torch_module_is_its_state() -> None:
    """One number of one layer tells it apart; how it is wrapped and called does not."""
    torch = pytest.importorskip("torch")
    from dpmsolver.models.acceleration import in_bfloat16

    def module() -> Any:
        layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).requires_grad_(False)
        for parameter in layers.parameters():
            parameter.fill_(0.5)
        return layers

    one, other = module(), module()
    own = fingerprint(one)
    assert own == fingerprint(other)
    assert own == fingerprint(lambda x, t: one(x)) == fingerprint(in_bfloat16(one, "cpu"))
    assert own != fingerprint(module().to(torch.bfloat16))
    other[0].bias[1] += 1e-3
    assert own != fingerprint(other)


@pytest.mark.parametrize(
    ("fitted", "run", "fit"),
    [
        ("none", "none", True),
        ("none", "ClassifierFree 1", True),
        ("none", "ClassifierFree 2", False),
        ("ClassifierFree 2", "none", False),
        ("ClassifierFree 1 to 4", "none", True),
        ("ClassifierFree 1 to 4", "ClassifierFree 2.5", True),
        ("ClassifierFree 1 to 4", "ClassifierFree 2 to 3", True),
        ("ClassifierFree 1 to 4", "ClassifierFree 2 to 5", False),
        ("ClassifierFree 1 to 4", "Classifier 2", False),
        ("ClassifierFree rising", "ClassifierFree rising", True),
        ("ClassifierFree rising", "ClassifierFree falling", False),
    ],
)
def test_a_fitted_plan_is_for_the_guidance_that_it_was_fitted_with(fitted: str, run: str, fit: bool) -> None:
    """The same kind, with scales among those of the fit; and never another network."""
    assert fits({"network": "a", "guidance": fitted}, {"network": "a", "guidance": run}) == fit
    assert not fits({"network": "a", "guidance": fitted}, {"network": "b", "guidance": run})


def test_a_function_around_a_network_may_say_that_it_has_its_weights() -> None:
    """Whatever else it holds, as the counters of a comparison do."""
    network, others = in_a_closure(np.ones(3)), np.zeros(5)

    def around(x: Any, t: Any) -> Any:
        return network(x, t) + others.sum()

    assert fingerprint(around) != fingerprint(network)
    around.weights_of = network  # type: ignore[attr-defined]
    assert fingerprint(around) == fingerprint(network)


def test_weights_of_jax_are_weights() -> None:
    jax = pytest.importorskip("jax")
    one, again, other = (fingerprint(in_a_closure(jax.numpy.ones(3) * scale)) for scale in (1.0, 1.0, 2.0))
    assert one == again != other
