"""Warnings about runs that are possible but probably not intended.

Each is one `ConventionWarning` at the caller's line that names the remedy.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpmsolver.errors import ConventionWarning
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.schedules.span import LARGEST_FACTOR, default_start

__all__ = ["far_deviation", "warn_of_large_factor", "warn_of_other_network", "warn_of_start"]

_FEWEST = 100  # numbers whose deviation is known to about 7 %
_CONSTANT = 1e-6  # times sigma: the deviation that rounding gives a constant


def far_deviation(shape: tuple[int, ...], deviation: float, point: Point) -> str | None:
    """Return a sentence if the standard deviation of a start of this shape is far from that of a state at a point, else None.

    A state alpha x_0 + sigma eps has at least the standard deviation sigma: too small means less than half of it. The upper bound depends
    on the data, whose standard deviation is taken to be 10 at most: too large means more than twice sigma + 10 alpha. Starts with fewer
    than 100 numbers and constant starts are not judged.
    """
    if math.prod(shape) < _FEWEST or deviation <= _CONSTANT * point.sigma:
        return None
    if 0.5 * point.sigma <= deviation <= 2.0 * (point.sigma + 10.0 * point.alpha):
        return None
    return (
        f"x_T has a standard deviation of {deviation:.3g}, and a state at t={point.time:.4g} has sigma={point.sigma:.4g}: "
        "start from dpm.initial_noise(schedule, shape), which is sigma times standard normals."
    )


def warn_of_start(x: Any, deviation: Any, point: Point) -> None:
    """Warn if `far_deviation` returns a sentence; `deviation` is the result of `Backend.deviation`."""
    far = None if deviation is None else far_deviation(tuple(x.shape), float(deviation), point)
    if far is not None:
        warnings.warn(far, ConventionWarning, stacklevel=_callers_depth())


def warn_of_large_factor(plan: Plan, schedule: NoiseSchedule, predicts: str, conversions: Floats) -> None:
    """Warn if a plan multiplies the network's output by more than `LARGEST_FACTOR`, in the conversion to m or in a step.

    Args:
        conversions: the factor of each evaluation's output in m, float64 (nfe,). An output is counted in units of its own size, which is
            1, and for a score 1/sigma.
    """
    factors = abs(conversions)
    if predicts == "score":
        factors = factors / plan.columns["sigma"][:-1]
    kept = [1.0 if row.output is None else float(np.max(np.abs(row.output.outputs[0]))) for row in plan.rows]
    factors = factors * kept  # what a calibrated solver keeps of an output
    largest = factors.copy() if plan.prediction == "data" and predicts in ("noise", "score") else np.zeros_like(factors)
    for k, row in enumerate(plan.rows):
        for combination in (row.advance, row.predict):
            for place, weight in enumerate(combination.outputs if combination is not None else ()):
                age = place // plan.answers
                largest[k - age] = max(largest[k - age], float(np.max(np.abs(weight))) * factors[k - age])
    k = int(np.argmax(largest))
    if largest[k] <= LARGEST_FACTOR:
        return
    point, late = plan.rows[k].point, default_start(schedule, predicts)
    instead = "start later (start=…), or take more steps"
    if point.half_log_snr > 0.0:
        instead = "take a solver of data prediction, as dpm++2m, or end earlier (end=…)"
    elif late < point.time:
        instead = (
            f"start at t={late:.6g} or later, as dpm.sample does by itself and make_plan(…, predicts={predicts!r}) does"
        )
    warnings.warn(
        f"this plan multiplies the network's output by up to {largest[k]:.2g} (at t={point.time:.6g}, half-log-SNR "
        f"{point.half_log_snr:.3g}), and the network's error with it: {instead}",
        ConventionWarning,
        stacklevel=_callers_depth(),
    )


def warn_of_other_network(plan: Plan, said: Mapping[str, str]) -> None:
    """Warn that a plan was fitted to another network or guidance (`said` names it) than the one it runs with."""
    fitted = f"the network {plan.options['network']} with guidance {plan.options.get('guidance', 'none')}"
    warnings.warn(
        f"this plan was fitted to {fitted}, and runs with the network {said['network']} with guidance {said['guidance']}: it may be no "
        "better there than an untuned one; fit one with dpm.tune, or sample with nfe=… alone",
        ConventionWarning,
        stacklevel=_callers_depth(),
    )


def _callers_depth() -> int:
    """The stacklevel at which a warning of this module names the first line that is not the package's."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "dpmsolver":
        depth, frame = depth + 1, frame.f_back
    return depth
