"""The fingerprint of a network: the SHA-256 sum of its weights, which distinguishes sets of weights that have the same name.

Importing this module imports no framework.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.schedules import NoiseSchedule

__all__ = ["elsewhere", "fingerprint", "fits", "like_weights", "said_of"]

# What their functions and objects refer to is no network's, and changes while they run; torch modules and tensors are known by type.
_FRAMEWORKS = {"torch", "numpy", "scipy", "jax"}
_LIBRARIES = {*_FRAMEWORKS, "diffusers", "transformers", "dpmsolver"}
_KNOWN: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()  # fingerprints of networks that plans were run with


def fingerprint(network: Any) -> str | None:
    """Return the SHA-256 sum of a network's weights, or None for a function without weights.

    Weights are the state of torch modules and arrays; of JAX arrays, those that are not traced. They are searched where a function can hold
    them: in its attributes, its closure, its defaults, the arguments of a `partial` and the global names that it uses. Names, types, shapes
    and bytes enter the sum.

    A function around a network that adds no weights may declare so by an attribute `weights_of` that is the network.

    Args:
        network: a torch module, a function or any other callable.

    Examples:
        >>> import numpy as np
        >>> def scaled(weights):
        ...     return lambda x, t: weights * x
        >>> fingerprint(scaled(np.ones(2))) == fingerprint(scaled(np.ones(2)))
        True
        >>> fingerprint(scaled(np.ones(2))) == fingerprint(scaled(np.ones(3)))
        False
        >>> fingerprint(lambda x, t: 0.5 * x) is None
        True
    """
    total, found = hashlib.sha256(), False
    for name, kind, array in _weights(network, "", {}):
        found = True
        total.update(f"{name} {kind} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest() if found else None


def _weights(value: Any, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Name, type and content of every array that a value holds, each once, in an order that depends on the code alone."""
    # What has been seen is kept alive: the id of something that is gone may be given to something else.
    if id(value) in seen or isinstance(value, (str, bytes, int, float, complex, type, ModuleType, NoiseSchedule)):
        return
    seen[id(value)] = value
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if isinstance(value, (FunctionType, partial)) and "weights_of" in vars(value):
        yield from _weights(vars(value)["weights_of"], name, seen)
    elif isinstance(value, np.ndarray):
        if not value.dtype.hasobject:
            yield name, str(value.dtype), value
    elif torch is not None and isinstance(value, torch.Tensor):
        if not value.is_meta:
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            yield f"{name} {tuple(value.shape)}", str(value.dtype), raw
    elif jax is not None and isinstance(value, jax.Array):
        if not isinstance(value, jax.core.Tracer):
            yield name, str(value.dtype), np.asarray(value)
    elif torch is not None and isinstance(value, torch.nn.Module):
        for key, tensor in value.state_dict().items():
            yield from _weights(tensor, key.removeprefix("_orig_mod."), seen)  # as torch.compile calls what it compiled
    else:
        for key, held in _held(value):
            yield from _weights(held, key, seen)


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container, a function or an object holds, by its name there."""
    if isinstance(value, Mapping):
        yield from ((str(key), each) for key, each in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(index), each) for index, each in enumerate(value))
    elif isinstance(value, MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, partial):
        yield from (("function", value.func), ("arguments", value.args), ("keywords", value.keywords))
    elif isinstance(value, FunctionType):
        yield from _held_by_function(value)
    elif _root(type(value).__module__) not in _FRAMEWORKS and hasattr(value, "__dict__"):
        yield from vars(value).items()
        yield "call", vars(type(value)).get("__call__")


def _held_by_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a name that is bound later
            continue
    yield "defaults", function.__defaults__
    yield "keyword defaults", function.__kwdefaults__
    yield from vars(function).items()
    if _root(function.__globals__.get("__name__", "")) in _LIBRARIES:
        return
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _global_names(code: CodeType) -> Iterator[str]:
    """The names that a function looks up outside itself, those of functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _root(module: str) -> str:
    return module.split(".")[0]


def elsewhere(x: Any, label: Any) -> Any:
    """Stand in for a network that other code evaluates, such as a pipeline, and that has no fingerprint."""
    raise AssertionError("whoever runs the plan evaluates the network, and hands its output over")


def said_of(denoiser: Denoiser, *, keep: bool = False) -> dict[str, str]:
    """Return what a plan fitted to a denoiser records about it: the fingerprint of the network, and the guidance in words.

    Args:
        keep: use the fingerprint computed earlier for this network object, even if the network was trained since.
    """
    guidance = denoiser.guidance
    scale = getattr(guidance, "scale", None)
    rule = getattr(guidance, "rule", None)
    kind = type(guidance).__name__ + (f"[{rule}]".replace(" ", "") if rule is not None else "")
    words = "none" if guidance is None else f"{kind} {_named(scale)}"
    known = _kept(denoiser.network) if keep else fingerprint(denoiser.network)
    return {"network": (known or "without weights")[:16], "guidance": words}


def fits(fitted: Mapping[str, Any], said: Mapping[str, str]) -> bool:
    """Return whether a plan fitted to one denoiser suits another, both as described by `said_of`.

    The network must be the same, and the guidance of the same kind, with scales among the fitted ones.

    Examples:
        >>> fitted = {"network": "a", "guidance": "ClassifierFree 1 to 4"}
        >>> fits(fitted, {"network": "a", "guidance": "ClassifierFree 2"})
        True
        >>> fits({"network": "a", "guidance": "none"}, {"network": "a", "guidance": "ClassifierFree 2"})
        False
    """
    if fitted.get("network") != said["network"]:
        return False
    wanted, given = str(fitted.get("guidance", "none")), said["guidance"]
    if wanted == given:
        return True
    (kind, low, high), (own, lowest, highest) = map(_range, (wanted, given))
    return kind == own and low <= lowest <= highest <= high


def _range(guidance: str) -> tuple[str, float, float]:
    """The kind of a guidance and its scales; none at all is classifier-free guidance of scale 1."""
    if guidance == "none":
        return "ClassifierFree", 1.0, 1.0
    kind, _, scales = guidance.partition(" ")
    try:
        ends = [float(end) for end in scales.split(" to ")]
        return kind, min(ends), max(ends)
    except ValueError:  # of a function of the time, which has a name alone
        return guidance, 0.0, 0.0


def _kept(network: Any) -> str | None:
    """The fingerprint of a network, computed once for each object: that of a large one takes seconds."""
    try:
        if network not in _KNOWN:
            _KNOWN[network] = fingerprint(network)
        return _KNOWN[network]
    except TypeError:  # an object that cannot be a key
        return fingerprint(network)


def _named(scale: Any) -> str:
    if isinstance(scale, tuple):
        return f"{min(scale):g} to {max(scale):g}"
    return f"{scale:g}" if isinstance(scale, (int, float)) else str(getattr(scale, "__name__", "of the time"))


def like_weights(network: Any) -> Any:
    """Return an empty array of the framework and on the device of a network's weights; None for NumPy and for no weights."""
    parameters = getattr(network, "parameters", None)
    first = next(iter(parameters()), None) if callable(parameters) else None
    return None if first is None else first.detach().new_empty(0)
