"""A plan beside the network and the arrays that it runs on.

`bind` checks once that the three fit, folds the denoiser's conversions into the plan's coefficients (`folding`), and moves labels and
arrays to the device. Each evaluation then costs one call of the network and one multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.networks.lending import Lending
from dpmsolver.networks.reading import evaluate
from dpmsolver.plans.fused import Steps, combined
from dpmsolver.plans.plan import Plan
from dpmsolver.plans.targets import conversion
from dpmsolver.sampling.finite import Watch
from dpmsolver.sampling.folding import Read, folded
from dpmsolver.sampling.placing import moved, require_shape

__all__ = ["Bound", "bind"]


def bind(plan: Plan, denoiser: Denoiser, backend: Backend, like: Any) -> Bound:
    """Bind a plan to a network, for states like `like`.

    Raises:
        PlanError: the plan was made for another schedule, shape or prediction; it needs several outputs of an evaluation and the denoiser
            gives one; guidance is not defined at the start; or conditions have another batch than the state.
    """
    known = folded(plan, denoiser)
    if denoiser.steers and plan.prediction == "data" and plan.rows[0].point.alpha == 0.0:
        raise PlanError(
            "guidance of a data prediction by a gradient is not defined at alpha = 0: start later (start=…), or take noise prediction"
        )
    guidance, times = denoiser.guidance, [row.point.time for row in plan.rows]
    if isinstance(guidance, ClassifierFree):
        guidance.check(len(like), times, plan.answers)
    elif guidance is not None:
        guidance.check(len(like), times)
    reads, steps = known.reads, known.steps
    if plan.elementwise:
        require_shape(plan, tuple(like.shape[1:]))
        reads, steps = (moved(part, backend, like) for part in (reads, steps))
    labels = denoiser.placed_labels(backend, known.labels, like)
    return Bound(plan, denoiser, backend, steps, reads, labels, known.plain)


@dataclass
class Bound:
    """A plan bound to a network and to states of one kind, for one run."""

    plan: Plan
    denoiser: Denoiser
    backend: Backend
    steps: Steps
    reads: tuple[Read, ...]
    labels: Sequence[Any]
    plain: bool

    def __post_init__(self) -> None:
        self.dtype = self.backend.network_dtype(self.denoiser.network, self.denoiser.dtype)
        self.lending = Lending(self.backend)
        self.watch = Watch(self.plan, self.backend)

    def __call__(self, index: int, u: Any, out: Any = None) -> Any:
        """Evaluate the network on u, the input of evaluation `index`, and return what the run keeps, the first of it in `out`.

        Of a plan that wants several outputs that is a tuple.
        """
        raws, steer = self._answers(index, u)
        if self.plan.answers == 1:
            return self._kept(index, u, raws[0], steer, out)
        return tuple(self._kept(index, u, raw, steer, None if i else out) for i, raw in enumerate(raws))

    def recorded(self, index: int, u: Any) -> Any:
        """Evaluate the network on u and return what the plan calls its output, with its derivative.

        Raises:
            PlanError: the network's output records none.
        """
        raws, steer = self._answers(index, u)
        if not any(map(self.backend.autograd.records, raws)):
            raise PlanError(
                "differentiable=True, but the network's output records no gradient: x_T, the weights or the condition must require one, "
                "and the network must not run under torch.no_grad()"
            )
        outputs = tuple(self._output(index, u, raw, steer) for raw in raws)
        return outputs if self.plan.answers > 1 else outputs[0]

    def raws(self, u: Any, label: Any, time: Any) -> tuple[tuple[Any, ...], tuple[Any, Any] | None]:
        """Return the network's outputs, as many as the plan wants, and the guidance that `Denoiser.answer` returns with them."""
        given = (self.backend, u, label, time, self.dtype, self.lending)
        if self.plan.answers > 1:
            return self.denoiser.pair(*given), None
        raw, steer = self.denoiser.answer(*given)
        return (raw,), steer

    def _answers(self, index: int, u: Any) -> tuple[tuple[Any, ...], tuple[Any, Any] | None]:
        """The network's outputs at evaluation `index`, seen to be finite."""
        self.lending.number = index
        raws, steer = self.raws(u, self.labels[index], self.plan.rows[index].point.time)
        for raw in raws:
            self.watch.check(index, raw)
        return raws, steer

    def _kept(self, index: int, u: Any, raw: Any, steer: tuple[Any, Any] | None, out: Any) -> Any:
        """What the run keeps of an output, written into `out`."""
        read = self.reads[index]
        if not self.plain:
            m = self._output(index, u, raw, steer)
            return m if read.output is None else read.output(u, (m,))
        if read.numbers is None:
            return self.backend.copy_to(raw, out)
        return combined(self.backend, read.numbers, (u, raw, 1.0)[: len(read.numbers)], out)

    def _output(self, index: int, u: Any, raw: Any, steer: tuple[Any, Any] | None) -> Any:
        """What the plan calls the output of evaluation `index`."""
        point, coefficients = self.plan.rows[index].point, self.reads[index].conversion
        return evaluate(self.denoiser, self.backend, self.plan.prediction, u, raw, steer, point, coefficients)

    def denoised(self, index: int, u: Any, kept: Any) -> Any:
        """Return the predicted x_0, of several the guided one, from what the run kept of evaluation `index`."""
        kept = kept if self.plan.answers == 1 else kept[0]
        point, read = self.plan.rows[index].point, self.reads[index]
        a, b = conversion(self.plan.prediction, "data", point.alpha, point.sigma)
        if read.output is None:
            return combined(self.backend, (a, b * read.scale), (u, kept))
        share, weight, constant = read.output.state, read.output.outputs[0], read.output.constant
        return a * u + b / weight * (read.scale * kept - share * u - constant)
