"""Check that the numbers of a run are finite, and report where they are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpmsolver.backends import Backend, arrays
from dpmsolver.errors import SamplingError, in_samples
from dpmsolver.plans.plan import Plan

__all__ = ["Watch", "at_evaluation", "require_finite", "require_finite_output"]


def require_finite(backend: Backend, values: Any, name: str) -> None:
    """Raise ValueError, naming the samples, unless all numbers of a start are finite."""
    if not bool(backend.finite(values)):
        raise _infinite_start(backend, values, name)


def require_finite_output(backend: Backend, values: Any, where: str) -> None:
    """Raise SamplingError unless all numbers that a network returned are finite; `where` names the evaluation."""
    if not bool(backend.finite(values)):
        raise _infinite_output(backend, values, where)


def at_evaluation(plan: Plan, index: int) -> str:
    """Return the words that name an evaluation of a plan."""
    p = plan.rows[index].point
    numbers = f"t={p.time:.6g}, label={p.label:.6g}, alpha={p.alpha:.6g}, sigma={p.sigma:.6g}"
    return f"at evaluation {index + 1} of {plan.nfe} ({numbers})"


@dataclass
class Watch:
    """Checks that the numbers of one run of a plan are finite.

    If a check would have to wait for a device, `finish` checks once at the end instead.
    """

    plan: Plan
    backend: Backend
    pending: list[tuple[int, Any]] = field(default_factory=list)

    def check(self, index: int, values: Any) -> None:
        """Check what evaluation `index` returned, the start (index -1), or the result (index nfe)."""
        flag = self.backend.finite(values)
        if flag is True:
            return
        self.pending.append((index, flag))
        if flag is False:
            raise self._error(index, values)

    def finish(self, x: Any) -> None:
        """Raise for numbers that were not finite since the start, or in the result x, if earlier checks had to wait for a device."""
        self.check(self.plan.nfe, x)
        if self.pending:
            place = arrays.first_false([flag for _, flag in self.pending])
            if place is not None:
                raise self._error(self.pending[place][0], x)

    def _error(self, index: int, values: Any) -> Exception:
        """The error for an index. `values` tell which samples are meant: what is not finite stays so to the end."""
        if index < 0:
            backwards = self.plan.end.time > self.plan.start.time
            return _infinite_start(self.backend, values, "x0" if backwards else "x_T")
        if index < self.plan.nfe:
            return _infinite_output(self.backend, values, at_evaluation(self.plan, index))
        samples = _samples(self.backend, values)
        return SamplingError(
            f"the result is not finite{samples}, though the network was: look at the hooks and the guidance gradient"
        )


def _samples(backend: Backend, values: Any) -> str:
    return in_samples(arrays.not_finite(values), len(values))


def _infinite_start(backend: Backend, values: Any, name: str) -> ValueError:
    samples = _samples(backend, values)
    return ValueError(f"{name} has NaN or infinity{samples}: the run starts from it, so it must be finite")


def _infinite_output(backend: Backend, values: Any, where: str) -> SamplingError:
    samples = _samples(backend, values)
    return SamplingError(
        f"the network returned NaN or infinity {where}{samples}: check its precision and the range of its input there"
    )
