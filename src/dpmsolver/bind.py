"""A plan beside the arrays that it runs on."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError
from dpmsolver.loop import Table
from dpmsolver.plan import Combination, Plan, Row

__all__ = ["placed"]


def placed(plan: Plan, backend: Backend, like: Any) -> Table:
    """Return the plan with the arrays among its coefficients in the framework, in the type and on the device of a state.

    Raises:
        PlanError: arrays that do not fit the state.
    """

    def moved(coefficient: Any) -> Any:
        if not isinstance(coefficient, np.ndarray):
            return coefficient
        shape, own = tuple(like.shape[1:]), coefficient.shape
        if len(own) > len(shape) or any(c not in (1, s) for c, s in zip(own[::-1], shape[::-1], strict=False)):
            raise PlanError(f"this plan was calibrated for states of shape {coefficient.shape}, x_T has {shape}")
        return backend.from_numpy(coefficient, like)

    def there(c: Combination | None) -> Combination | None:
        if c is None or not c.elementwise:
            return c
        return Combination(moved(c.state), tuple(map(moved, c.outputs)), c.noise, moved(c.constant))

    rows = plan.rows
    if plan.elementwise:
        rows = tuple(Row(r.point, there(r.advance), there(r.predict), there(r.output)) for r in plan.rows)
    return Table(plan.start, there(plan.begin), rows, plan.history, plan.noise_history)
