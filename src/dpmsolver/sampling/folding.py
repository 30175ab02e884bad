"""A plan with a denoiser's conversions folded into its coefficients, in float64 on the host.

Two numbers for each evaluation give the plan's output m = a u + b r from the network's output r and its input u. A run keeps a multiple of
m that is cheap to compute, and the steps that use it have the factor in their coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.host import settled
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.fingerprint import elsewhere, fits, said_of
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans.caution import warn_of_large_factor, warn_of_other_network
from dpmsolver.plans.combination import Coefficient
from dpmsolver.plans.fused import Step, Steps
from dpmsolver.plans.plan import Combination, Plan, Row
from dpmsolver.schedules import Floats

__all__ = ["Folded", "Read", "folded"]


class Read(NamedTuple):
    """What a run keeps of an evaluation with input u and raw output r.

    Args:
        conversion: (a, b) with m = a u + b r.
        output: the combination of u and m that the plan keeps, if it is not m itself.
        numbers: the run keeps numbers[0] u + numbers[1] r + numbers[2], or r itself if they are None.
        scale: the factor that turns what the run keeps into what the plan's coefficients are for.
    """

    conversion: tuple[float, float]
    output: Combination | None
    numbers: tuple[Coefficient, ...] | None
    scale: Coefficient

    @property
    def factors(self) -> tuple[Coefficient, Coefficient]:
        """The factors of u and of r in what the plan keeps, without a constant."""
        a, b = self.conversion
        if self.output is None:
            return a, b
        return self.output.state + self.output.outputs[0] * a, self.output.outputs[0] * b


class Folded(NamedTuple):
    """A plan for one denoiser.

    Args:
        plan: the plan, as long as it is referenced elsewhere.
        reads: what is kept of each evaluation.
        steps: the plan's steps for `fused`.
        labels: the network's label at each evaluation, (nfe, 1).
        plain: whether an output depends only on the network, without a hook or a gradient that steers.
    """

    plan: ref[Plan]
    reads: tuple[Read, ...]
    steps: Steps
    labels: Floats
    plain: bool


# The newest plan of each denoiser: its next run is checked and folded already. Neither a plan nor a denoiser holds it.
_NEWEST: WeakKeyDictionary[Denoiser, Folded] = WeakKeyDictionary()


@settled
def folded(plan: Plan, denoiser: Denoiser) -> Folded:
    """Return the plan with the denoiser's conversions folded in.

    Raises:
        PlanError: the plan was made for another schedule or another prediction, or it needs several outputs of an evaluation and the
            denoiser gives one.
    """
    plan.settle()
    known = _NEWEST.get(denoiser)
    if known is None or known.plan() is not plan:
        known = _NEWEST[denoiser] = _fold(plan, denoiser)
    return known


def _fold(plan: Plan, denoiser: Denoiser) -> Folded:
    _check_answers(plan, denoiser)
    _check_schedule(plan, denoiser)
    columns = plan.columns
    if denoiser.guided_in_data:  # refused here where the network's output does not determine the data
        denoiser.conversion("data", columns["alpha"][:-1], columns["sigma"][:-1])
    a, b = denoiser.conversion(plan.prediction, columns["alpha"][:-1], columns["sigma"][:-1])
    if "network" in plan.options:  # a fitted plan says what to; its error there was measured, large factors included
        if denoiser.network is not elsewhere and not fits(plan.options, said := said_of(denoiser, keep=True)):
            warn_of_other_network(plan, said)
    else:
        warn_of_large_factor(plan, denoiser.schedule, denoiser.predicts, b)
    plain = denoiser.data_hook is None and not denoiser.steers
    reads = tuple(
        _read(row, both, plain) for row, both in zip(plan.rows, zip(a.tolist(), b.tolist(), strict=True), strict=True)
    )
    scales = [read.scale for read in reads]
    answers = plan.answers
    rows = (
        (_step(r.advance, scales, k, answers), _step(r.predict, scales, k, answers)) for k, r in enumerate(plan.rows)
    )
    steps = Steps(_step(plan.begin, [], -1, answers), tuple(rows), plan.history, plan.noise_history, answers)
    return Folded(ref(plan), reads, steps, denoiser.label_values(columns["label"][:-1, None]), plain)


def _read(row: Row, conversion: tuple[float, float], plain: bool) -> Read:
    output = row.output
    if not plain:
        return Read(conversion, output, None, 1.0)
    a, b = Read(conversion, output, None, 1.0).factors
    if output is not None and output.elementwise:
        return Read(conversion, output, (a, b, output.constant) if output.has_constant else (a, b), 1.0)
    return Read(conversion, output, (1.0, b / a) if a else None, a or b)


def _step(c: Combination | None, scales: Sequence[Coefficient], index: int, answers: int) -> Step | None:
    """A combination in row `index` with the scales of its outputs folded in."""
    if c is None:
        return None
    drawn = [(age, z) for age, z in enumerate(c.noise) if z]  # a draw without a coefficient may not have been made
    numbers = [c.state, *(w * scales[index - i // answers] for i, w in enumerate(c.outputs)), *(z for _, z in drawn)]
    return Step(
        tuple([*numbers, c.constant] if c.has_constant else numbers),
        len(c.outputs),
        tuple(age for age, _ in drawn),
        c.has_constant,
        c.elementwise or any(not isinstance(number, (float, int)) for number in numbers),
    )


def _check_answers(plan: Plan, denoiser: Denoiser) -> None:
    if plan.answers > 2:
        raise PlanError(
            f"this plan wants {plan.answers} outputs of each evaluation, and a denoiser gives two at most: run it with dpm.Stepper"
        )
    if plan.answers == 2 and not isinstance(denoiser.guidance, ClassifierFree):
        raise PlanError(
            "this plan wants 2 outputs of each evaluation, the guided and the unconditional one, and this denoiser gives one: give it "
            "guidance=dpm.guidance.ClassifierFree(scale, condition, unconditional), or run the plan with dpm.Stepper"
        )


def _check_schedule(plan: Plan, denoiser: Denoiser) -> None:
    schedule = denoiser.schedule
    times, alphas, sigmas = (plan.columns[name] for name in ("time", "alpha", "sigma"))
    try:
        alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    except ValueError as error:
        raise PlanError(f"the plan does not fit this denoiser's schedule: {error}") from None
    misses = np.maximum(abs(alpha - alphas), abs(sigma - sigmas)) > 1e-6 * (alpha + sigma)
    if misses.any():
        k = int(np.argmax(misses))
        raise PlanError(
            f"the plan was made for another schedule: at t={times[k]:.6g} it has alpha={alphas[k]:.6g}, sigma={sigmas[k]:.6g}, "
            f"this denoiser's {schedule!r} has alpha={alpha[k]:.6g}, sigma={sigma[k]:.6g}"
        )
    # Labels belong to the plan, which may have moved them a little; another scale or direction is no little.
    labels, wanted = plan.columns["label"], np.array([schedule.label(t) for t in times.tolist()])
    misses = abs(wanted - labels) > 0.25 * abs(wanted).max()
    if misses.any():
        k = int(np.argmax(misses))
        raise PlanError(
            f"the plan was made for another schedule: at t={times[k]:.6g} its label is {labels[k]:.6g}, this denoiser's "
            f"{schedule!r} has label {wanted[k]:.6g}: make the plan with that schedule"
        )
