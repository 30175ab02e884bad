"""A plan beside the network and the arrays that it runs on.

`bind` checks once that the three fit, folds what makes the plan's outputs from the network's into the plan's coefficients, in float64 on
the host, and moves labels and arrays to the device. What is left for each evaluation is one call and one multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError, SamplingError, in_samples
from dpmsolver.networks.denoiser import Denoiser, evaluate
from dpmsolver.networks.lending import Lending
from dpmsolver.plans.caution import warn_of_large_factor
from dpmsolver.plans.combination import Coefficient
from dpmsolver.plans.loop import Step, Steps, Table
from dpmsolver.plans.plan import Combination, Plan, Row
from dpmsolver.plans.targets import conversion

__all__ = ["Bound", "bind", "placed"]


def bind(plan: Plan, denoiser: Denoiser, backend: Backend, like: Any) -> Bound:
    """Return what runs a plan with a network on states like `like`.

    Raises:
        PlanError: the plan was made for another schedule or another shape, or for a network that predicts something else; classifier
            guidance that is not defined at the start; conditions of another batch than the state's.
    """
    known = _FOLDED.get(denoiser)
    if known is None or known.plan() is not plan:
        known = _folded(plan, denoiser)
    if denoiser.steers and plan.prediction == "data" and plan.rows[0].point.alpha == 0.0:
        raise PlanError(
            "guidance of a data prediction by a gradient is not defined at alpha = 0: start later (start=…), or take noise prediction"
        )
    if denoiser.guidance is not None:
        denoiser.guidance.check(len(like), [row.point.time for row in plan.rows])
    reads, steps = known.reads, known.steps
    if plan.elementwise:
        _require_shape(plan, tuple(like.shape[1:]))
        reads, steps = (_moved(part, backend, like) for part in (reads, steps))
    return Bound(
        plan,
        denoiser,
        backend,
        steps,
        reads,
        denoiser.labels(backend, plan.columns["label"][:-1, None], like),
        backend.network_dtype(denoiser.network, denoiser.dtype),
        known.plain,
    )


class Read(NamedTuple):
    """What a run keeps of an evaluation with input u and raw output r.

    conversion: (a, b) with m = a u + b r. output: what the plan keeps of u and m, where that is not m itself. numbers: the run keeps
    numbers[0] u + numbers[1] r + numbers[2], or r itself where they are None. scale: what it keeps times this is what the plan's
    coefficients are for.
    """

    conversion: tuple[float, float]
    output: Combination | None
    numbers: tuple[Coefficient, ...] | None
    scale: Coefficient


@dataclass
class Bound:
    """A plan, bound to a network and to states of one kind; it belongs to one run.

    Where asking whether numbers are finite would wait for a device, `finish` asks once at the end.
    """

    plan: Plan
    denoiser: Denoiser
    backend: Backend
    steps: Steps
    reads: tuple[Read, ...]
    labels: Sequence[Any]
    dtype: Any
    plain: bool
    lending: Lending = field(init=False)
    pending: list[tuple[int, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lending = Lending(self.backend)

    def __call__(self, index: int, u: Any, out: Any = None) -> Any:
        """Evaluate the network on u, the input of evaluation `index`, and return what the run keeps, written into `out`."""
        read = self.reads[index]
        raw, steer = self._answer(index, u)
        if not self.plain:
            m = self._output(index, u, raw, steer)
            return m if read.output is None else read.output(u, (m,))
        if read.numbers is None:
            return self.backend.copy_to(raw, out)
        return self.steps.combine(self.backend, read.numbers, (u, raw, 1.0)[: len(read.numbers)], out)

    def recorded(self, index: int, u: Any) -> Any:
        """Evaluate the network on u and return what the plan calls its output, with its derivative.

        Raises:
            PlanError: the network's output records none.
        """
        raw, steer = self._answer(index, u)
        if not self.backend.records(raw):
            raise PlanError(
                "differentiable=True, but the network's output records no gradient: x_T, the weights or the condition must require one, "
                "and the network must not run under torch.no_grad()"
            )
        return self._output(index, u, raw, steer)

    def _answer(self, index: int, u: Any) -> tuple[Any, tuple[Any, Any] | None]:
        """The network's answer at evaluation `index`, seen to be finite."""
        time = self.plan.rows[index].point.time
        answer = self.denoiser.answer(self.backend, u, self.labels[index], time, self.dtype, self.lending)
        self.check(index, answer[0])
        return answer

    def _output(self, index: int, u: Any, raw: Any, steer: tuple[Any, Any] | None) -> Any:
        """What the plan calls the output of evaluation `index`."""
        point, coefficients = self.plan.rows[index].point, self.reads[index].conversion
        return evaluate(self.denoiser, self.backend, self.plan.prediction, u, raw, steer, point, coefficients)

    def denoised(self, index: int, u: Any, kept: Any) -> Any:
        """Return the predicted x_0 from what the run kept of evaluation `index`."""
        point, read = self.plan.rows[index].point, self.reads[index]
        a, b = conversion(self.plan.prediction, "data", point.alpha, point.sigma)
        if read.output is None:
            return self.steps.combine(self.backend, (a, b * read.scale), (u, kept))
        share, weight, constant = read.output.state, read.output.outputs[0], read.output.constant
        return a * u + b / weight * (read.scale * kept - share * u - constant)

    def check(self, index: int, values: Any) -> None:
        """See that what evaluation `index` returned is finite, or the start (index -1), or the result (index nfe)."""
        flag = self.backend.finite(values)
        if flag is True:
            return
        self.pending.append((index, flag))
        if flag is False:
            self._refuse(index, values)

    def finish(self, x: Any) -> None:
        """Raise for what was not finite since the start, or for the run's result x: here where asking a device had to wait."""
        self.check(self.plan.nfe, x)
        if self.pending:
            place = self.backend.first_false([flag for _, flag in self.pending])
            if place is not None:
                self._refuse(self.pending[place][0], x)

    def _refuse(self, index: int, values: Any) -> None:
        """ValueError for the start, else SamplingError. `values` tell which samples are meant: what is not finite stays so to the end."""
        where = in_samples(self.backend.not_finite(values), len(values))
        if index < 0:
            start = "x0" if self.plan.end.time > self.plan.start.time else "x_T"
            raise ValueError(f"{start} has NaN or infinity{where}: the run starts from it, so it must be finite")
        if index == self.plan.nfe:
            raise SamplingError(
                f"the result is not finite{where}, though the network was: look at the hooks and the guidance gradient"
            )
        p = self.plan.rows[index].point
        raise SamplingError(
            f"the network returned NaN or infinity at evaluation {index + 1} of {self.plan.nfe} (t={p.time:.6g}, label={p.label:.6g}, "
            f"alpha={p.alpha:.6g}, sigma={p.sigma:.6g}){where}: check its precision and the range of its input there"
        )


def placed(plan: Plan, backend: Backend, like: Any) -> Table:
    """Return the plan with the arrays among its coefficients in the framework, in the type and on the device of a state.

    Raises:
        PlanError: arrays that do not fit the state.
    """
    table = Table(plan.start, plan.begin, plan.rows, plan.history, plan.noise_history, plan.answers)
    if not plan.elementwise:
        return table
    _require_shape(plan, tuple(like.shape[1:]))
    moved: Table = _moved(table, backend, like)
    return moved


def _require_shape(plan: Plan, shape: tuple[int, ...]) -> None:
    """PlanError for coefficients that do not fit a state of this shape."""
    for number in (number for c in plan.combinations() for number in c.coefficients):
        own = np.shape(number)
        if len(own) > len(shape) or any(c not in (1, s) for c, s in zip(own[::-1], shape[::-1], strict=False)):
            raise PlanError(f"this plan was calibrated for states of shape {own}, x_T has {shape}")


def _moved(value: Any, backend: Backend, like: Any) -> Any:
    """The same, with every NumPy array in it where a state is."""
    if isinstance(value, np.ndarray):
        return backend.from_numpy(value, like)
    if isinstance(value, tuple):
        parts = (_moved(part, backend, like) for part in value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, Row):
        return Row(value.point, *(_moved(c, backend, like) for c in (value.advance, value.predict, value.output)))
    if isinstance(value, Combination):
        return Combination(*_moved((value.state, value.outputs, value.noise, value.constant), backend, like))
    return value


class _Folded(NamedTuple):
    """A plan with a denoiser's conversions folded in, on the host."""

    plan: ref[Plan]
    reads: tuple[Read, ...]
    steps: Steps
    plain: bool


# The newest plan of each denoiser: its next run is checked and folded already. Neither a plan nor a denoiser holds it.
_FOLDED: WeakKeyDictionary[Denoiser, _Folded] = WeakKeyDictionary()


def _folded(plan: Plan, denoiser: Denoiser) -> _Folded:
    _check(plan, denoiser)
    columns = plan.columns
    a, b = denoiser.conversion(plan.prediction, columns["alpha"][:-1], columns["sigma"][:-1])
    warn_of_large_factor(plan, denoiser.schedule, denoiser.predicts, b)
    plain = denoiser.data_hook is None and not denoiser.steers
    reads = tuple(
        _read(row, both, plain) for row, both in zip(plan.rows, zip(a.tolist(), b.tolist(), strict=True), strict=True)
    )
    scales = [read.scale for read in reads]
    rows = ((_step(r.advance, scales, k), _step(r.predict, scales, k)) for k, r in enumerate(plan.rows))
    steps = Steps(_step(plan.begin, [], -1), tuple(rows), plan.history, plan.noise_history)
    found = _FOLDED[denoiser] = _Folded(ref(plan), reads, steps, plain)
    return found


def _read(row: Row, conversion: tuple[float, float], plain: bool) -> Read:
    output = row.output
    if not plain:
        return Read(conversion, output, None, 1.0)
    a, b = conversion
    if output is not None:
        a, b = output.state + output.outputs[0] * a, output.outputs[0] * b
        if output.elementwise:
            return Read(conversion, output, (a, b, output.constant) if output.has_constant else (a, b), 1.0)
    return Read(conversion, output, (1.0, b / a) if a else None, a or b)


def _step(c: Combination | None, scales: Sequence[Coefficient], index: int) -> Step | None:
    """A combination in row `index` with the scales of its outputs folded in."""
    if c is None:
        return None
    drawn = [(age, z) for age, z in enumerate(c.noise) if z]  # a draw without a coefficient may not have been made
    numbers = [c.state, *(w * scales[index - age] for age, w in enumerate(c.outputs)), *(z for _, z in drawn)]
    return Step(
        tuple([*numbers, c.constant] if c.has_constant else numbers),
        len(c.outputs),
        tuple(age for age, _ in drawn),
        c.has_constant,
        c.elementwise or any(not isinstance(number, (float, int)) for number in numbers),
    )


def _check(plan: Plan, denoiser: Denoiser) -> None:
    if plan.answers != 1:
        raise PlanError(
            f"this plan wants {plan.answers} outputs of each evaluation, and a denoiser gives one: run it with dpm.Stepper"
        )
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
