"""The five targets that networks predict. Each is a linear combination of the clean data x_0 and the noise eps, as is the state.

So every conversion has the form a x + b output, with two numbers that depend only on the point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from dpmsolver.errors import PlanError, unknown
from dpmsolver.typing import Predicts

__all__ = ["PREDICTIONS", "Predicts", "conversion"]

PREDICTIONS: tuple[Predicts, ...] = get_args(Predicts)

# Each target as (coefficient of x_0, coefficient of eps) at a point.
_TARGETS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "noise": lambda _alpha, _sigma: (0.0, 1.0),
    "data": lambda _alpha, _sigma: (1.0, 0.0),
    "v": lambda alpha, sigma: (-sigma, alpha),  # Salimans & Ho 2022, appendix D
    "score": lambda _alpha, sigma: (0.0, -1.0 / sigma),  # Song et al. 2021
    "velocity": lambda _alpha, _sigma: (-1.0, 1.0),  # Liu et al. 2023
}


def conversion(predicts: str, wanted: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """Return the numbers (a, b) of the conversion wanted = a x + b output, for a state x = alpha x_0 + sigma eps.

    Args:
        predicts, wanted: "noise" (eps), "data" (x_0), "v" (alpha eps - sigma x_0), "score" (-eps/sigma), "velocity" (eps - x_0).
        alpha, sigma: floats, or float64 arrays with one value per sample.

    Raises:
        PlanError: a name is unknown, or the output does not determine what is wanted at this point (as noise at alpha = 0).

    Examples:
        >>> conversion("noise", "data", 0.8, 0.6)  # x_0 = (x - sigma eps) / alpha
        (1.25, -0.7499999999999999)
    """
    for name in (predicts, wanted):
        if name not in _TARGETS:
            raise PlanError(unknown("prediction", name, _TARGETS))
    if predicts == wanted:
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    if "score" in (predicts, wanted) and np.any(np.asarray(sigma) == 0.0):
        raise PlanError("the score is not defined at sigma = 0")
    (p, q), (r, s) = _TARGETS[predicts](alpha, sigma), _TARGETS[wanted](alpha, sigma)
    determinant = alpha * q - sigma * p
    singular = np.asarray(determinant) == 0.0
    if singular.any():
        alpha, sigma = (float(np.broadcast_to(value, singular.shape)[singular][0]) for value in (alpha, sigma))
        raise PlanError(
            f"a network that predicts {predicts} does not determine {wanted} at alpha={alpha}, sigma={sigma}: "
            f"start later (start=…), as dpm.sample does by itself and make_plan(…, predicts={predicts!r}) does, "
            "or use a network that predicts v, velocity or data"
        )
    return (r * q - s * p) / determinant, (alpha * s - sigma * r) / determinant
