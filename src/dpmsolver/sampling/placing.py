"""Move the coefficients of a plan that are arrays to the framework, the type and the device of the states."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError
from dpmsolver.plans.fused import Step, Steps
from dpmsolver.plans.loop import Table
from dpmsolver.plans.plan import Combination, Plan, Row
from dpmsolver.sampling.folding import Read

__all__ = ["moved", "placed", "require_shape"]

_NAMED = (Read, Step, Steps, Table)


def placed(plan: Plan, backend: Backend, like: Any) -> Table:
    """Return the plan with the arrays among its coefficients in the framework, in the type and on the device of a state.

    Raises:
        PlanError: arrays do not fit the state.
    """
    table = Table(plan.start, plan.begin, plan.rows, plan.history, plan.noise_history, plan.answers)
    if not plan.elementwise:
        return table
    require_shape(plan, tuple(like.shape[1:]))
    found: Table = moved(table, backend, like)
    return found


def require_shape(plan: Plan, shape: tuple[int, ...]) -> None:
    """Raise PlanError for coefficients that do not fit a state of this shape."""
    for number in (number for c in plan.combinations() for number in c.coefficients):
        own = np.shape(number)
        if len(own) > len(shape) or any(c not in (1, s) for c, s in zip(own[::-1], shape[::-1], strict=False)):
            raise PlanError(f"this plan was calibrated for states of shape {own}, x_T has {shape}")


def moved(value: Any, backend: Backend, like: Any) -> Any:
    """Return the same object, with every NumPy array in it moved to the framework and device of a state."""
    if isinstance(value, np.ndarray):
        return backend.from_numpy(value, like)
    if isinstance(value, tuple):
        parts = [moved(part, backend, like) for part in value]
        kind: Any
        for kind in _NAMED:  # not the value's own type, which is nothing that a compiler can trace
            if isinstance(value, kind):
                return kind(*parts)
        return tuple(parts)
    if isinstance(value, Row):
        return Row(value.point, *(moved(c, backend, like) for c in (value.advance, value.predict, value.output)))
    if isinstance(value, Combination):
        return Combination(*moved((value.state, value.outputs, value.noise, value.constant), backend, like))
    return value
