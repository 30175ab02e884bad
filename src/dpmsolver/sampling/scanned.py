"""Trace a long run as one loop: the network is traced and compiled once, whatever the number of evaluations.

The plan becomes arrays with a row for each evaluation. Every combination is padded with zeros to the longest history, so that all rows
have one shape and one body serves them all.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans.plan import Combination, Plan
from dpmsolver.sampling.execution import Run

__all__ = ["LONG", "is_scanned", "scanned"]

LONG = 20  # evaluations: a traced run of more of them is scanned


class _Row(NamedTuple):
    """What the body needs of an evaluation.

    label: (B,). read: the factors of u and of the network's output in what the run keeps. advance, predict: the factors of the state, the
    outputs and the noise. draw: its normal where the host drew it, else its number.
    """

    label: Any
    read: Any
    advance: Any
    predict: Any
    draw: Any


def is_scanned(run: Run) -> bool:
    """Return whether a run is traced as one loop.

    The framework must have a traced loop and must be tracing x_T, and the plan must have more than `LONG` rows. Nothing in the run may
    depend on the number of the evaluation: no hooks, and no guidance except classifier-free guidance that is the same at all evaluations.
    The plan must not begin with a step of its own, and its coefficients must be numbers.
    """
    plan, denoiser, guidance = run.plan, run.bound.denoiser, run.bound.denoiser.guidance
    traced = run.backend.scan is not None and run.backend.place(run.x) == "nowhere"
    alike = plan.nfe > LONG and plan.begin is None and not plan.elementwise
    hooked = run.state_hook is not None or denoiser.data_hook is not None
    steady = guidance is None or (isinstance(guidance, ClassifierFree) and guidance.constant)
    return traced and alike and steady and not hooked


def scanned(run: Run) -> Any:
    """Run a plan as one traced loop, and return its result."""
    plan, bound, backend, source = run.plan, run.bound, run.backend, run.noise
    time, kept = plan.start.time, _noise_kept(plan)

    def body(carry: Any, row: _Row) -> Any:
        x, u, outputs, noise = carry
        raws, _ = bound.raws(u, row.label, time)
        outputs = (*(_mixed(row.read, (u, raw)) for raw in raws), *outputs)[: plan.history]
        if kept:
            noise = (source.drawn(row.draw) if source.name == "independent" else row.draw, *noise)[:kept]
        x = _mixed(row.advance, (x, *outputs, *noise))
        return x, _mixed(row.predict, (x, *outputs, *noise)), outputs, noise

    def again(carry: Any, row: _Row) -> Any:
        return backend.autograd.checkpointed(lambda both: body(*both), (carry, row))

    assert backend.scan is not None
    nothing = backend.xp.zeros_like(run.x)
    start = run.x, run.x, (nothing,) * plan.history, (nothing,) * kept
    return backend.scan(again if run.checkpoint else body, start, _rows(run))[0]


def _noise_kept(plan: Plan) -> int:
    return plan.noise_history if plan.stochastic else 0


def _mixed(factors: Any, arrays: tuple[Any, ...]) -> Any:
    total = factors[0] * arrays[0]
    for i, array in enumerate(arrays[1:], start=1):
        total = total + factors[i] * array
    return total


def _rows(run: Run) -> _Row:
    """All rows, as arrays whose first axis is the number of the evaluation."""
    plan, place = run.plan, partial(run.backend.from_numpy, like=run.x)
    draw: Any = np.arange(plan.nfe)
    if plan.stochastic and run.noise.name != "independent":
        draw = place(np.stack([np.zeros(run.x.shape) if z is None else z for z in run.noise.from_host()]))
    return _Row(
        run.backend.xp.asarray(run.bound.labels),
        place(np.array([read.factors for read in run.bound.reads])),
        place(np.array([_padded(row.advance, plan) for row in plan.rows])),
        place(np.array([_padded(row.predict, plan) for row in plan.rows])),
        draw,
    )


def _padded(c: Combination | None, plan: Plan) -> list[float]:
    """The factors of a combination; none leaves the state as it is."""
    if c is None:
        c = Combination(1.0)
    factors = [c.state]
    for own, width in ((c.outputs, plan.history), (c.noise, _noise_kept(plan))):
        factors += [*own, *[0.0] * width][:width]
    return factors
