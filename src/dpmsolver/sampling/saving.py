"""Save a run in its middle as plain arrays, and load it: what `Stepper.state_dict` writes and `load_state_dict` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.backends.arrays import cast, is_float_array
from dpmsolver.backends.keys import Keys, require_host_keys
from dpmsolver.errors import PlanError
from dpmsolver.plans.loop import Moment
from dpmsolver.plans.plan import Plan

__all__ = ["loaded", "saved"]


def saved(backend: Backend, plan: Plan, keys: Keys, reached: Any) -> dict[str, Any]:
    """Return a run as a dict of arrays: those of the state in its framework, numbers as NumPy arrays.

    Args:
        keys: the keys of the run's noise, one per sample; empty if it draws none.
        reached: the moment at which the run waits, or its result.

    Raises:
        PlanError: the noise comes from JAX's own keys.
    """
    moment = reached if isinstance(reached, Moment) else Moment(plan.nfe, plan.end, reached, None)
    state = {
        "plan": _digest(plan),
        "index": np.array(moment.number),
        "keys": np.array(require_host_keys(keys), dtype=np.uint64),
        "x": backend.copy_to(moment.x),
    }
    if moment.u is not None:
        state["u"] = backend.copy_to(moment.u)
    for name in ("outputs", "noise"):
        arrays = getattr(moment, name)
        state |= {f"{name}.{age}": backend.copy_to(array) for age, array in enumerate(arrays) if array is not None}
    return state


def loaded(backend: Backend, plan: Plan, like: Any, state: Mapping[str, Any]) -> tuple[Keys, Any]:
    """Return the keys, and the moment or the result, of a run that `saved` wrote.

    Args:
        like: an array of the run.

    Raises:
        PlanError: the state belongs to another plan, or is incomplete. TypeError, ValueError: arrays of another framework or shape.
    """
    missing = [name for name in ("plan", "index", "keys", "x") if name not in state]
    if missing:
        raise PlanError(f"not the state of a Stepper: it lacks {', '.join(missing)}")
    if not np.array_equal(state["plan"], _digest(plan)):
        raise PlanError("this is the state of another plan: make the Stepper with the plan that it was saved with")
    index = int(state["index"])
    keys = [tuple(int(part) for part in key) for key in np.asarray(state["keys"])]
    arrays = {
        name: _fitting(backend, like, name, each)
        for name, each in state.items()
        if name not in ("plan", "index", "keys")
    }
    if index == plan.nfe:
        return keys, arrays["x"]
    kept = [f"outputs.{age}" for age in range(min(index * plan.answers, plan.history))]
    lost = [name for name in ("u", *kept) if name not in arrays]
    if lost:
        raise PlanError(f"the state lacks {', '.join(lost)}, which evaluation {index + 1} needs")
    drawn = index + plan.draws - plan.nfe  # with the draw of `begin`
    noise = (arrays.get(f"noise.{age}") for age in range(min(drawn, plan.noise_history)))
    outputs = tuple(arrays[name] for name in kept)
    return keys, Moment(index, plan.rows[index].point, arrays["x"], arrays["u"], outputs, tuple(noise))


def _fitting(backend: Backend, like: Any, name: str, array: Any) -> Any:
    """A copy of a saved array, in the type of the run's."""
    if not is_float_array(backend, array):
        raise TypeError(f"{name} of the state must be an array like x_T, got {type(array).__name__}")
    if array.shape != like.shape:
        raise ValueError(f"{name} of the state has shape {tuple(array.shape)}, this run's arrays {tuple(like.shape)}")
    return cast(backend.copy_to(array), like.dtype)


def _digest(plan: Plan) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A fingerprint of a plan's numbers: uint8 (32,)."""
    return np.frombuffer(hashlib.sha256(plan.to_json().encode()).digest(), dtype=np.uint8)
