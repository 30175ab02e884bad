"""The execution of a plan: the loop, with a denoiser as its network and with the hooks of the caller.

A run's state belongs to the run: plans and denoisers are frozen and may be shared between threads.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias

from dpmsolver import backends
from dpmsolver.backends import Backend, arrays
from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.reading import recorded_state
from dpmsolver.plans.caution import warn_of_start
from dpmsolver.plans.fused import fused
from dpmsolver.plans.loop import Hook, steps
from dpmsolver.plans.plan import Plan
from dpmsolver.plans.targets import conversion
from dpmsolver.sampling.bind import bind
from dpmsolver.sampling.forward import StateHook
from dpmsolver.sampling.noise import NoiseName, noise_source
from dpmsolver.sampling.placing import placed
from dpmsolver.typing import Array

__all__ = ["Evaluated", "Recorded", "Run", "State"]

# Inside a run: the index of an evaluation, what the network saw, and what the run keeps of it; None after the last one.
Evaluated: TypeAlias = tuple[int, Any, Any]


@dataclass(frozen=True)
class State(Generic[Array]):
    """The state of a run at one network evaluation, or its result.

    Args:
        index: the number of the evaluation, from 0 to nfe - 1; nfe for the result.
        time: the schedule's time of the evaluation; for the result the end of the run.
        x: the network's input at this evaluation, an array (B, …); for the result the samples.
        denoised: the x_0 that is predicted from this evaluation; for the result that of the last evaluation.
    """

    index: int
    time: float
    x: Array
    denoised: Array

    __repr__ = brief_repr


class Run:
    """One execution of a plan, with a denoiser as its network and with the hooks of the caller."""

    checkpoint = False  # whether the network is evaluated again for its derivative

    def __init__(
        self,
        denoiser: Denoiser,
        x_T: Any,
        plan: Plan,
        generator: Any,
        noise: NoiseName,
        state_hook: StateHook | None,
    ) -> None:
        self.backend: Backend = backends.of(x_T)
        self.plan, self.state_hook = plan, state_hook
        self.x = self.backend.state(x_T)
        self.bound = bind(plan, denoiser, self.backend, self.x)
        self.bound.watch.check(-1, self.x)
        self.noise = noise_source(noise, plan, generator, self.backend, self.x)
        self.denoised: Any = None

    def evaluations(self) -> Iterator[Evaluated]:
        """Drive the loop: yield every evaluation and the result. The run overwrites the arrays in the next evaluation."""
        plan, bound = self.plan, self.bound
        deviation = arrays.deviation(self.backend, self.x) if plan.end.time < plan.start.time else None
        if isinstance(deviation, float):
            warn_of_start(self.x, deviation, plan.start)
        run, kept = fused(bound.steps, self.backend, self.x, iter(self.noise), self.hook), None
        for _ in range(plan.nfe):
            index, u, spare = run.send(kept)
            kept = bound(index, u, spare)
            yield index, u, kept
        x = _result(run, kept)
        bound.watch.finish(x)
        if deviation is not None and not isinstance(deviation, float):  # now nobody waits for the device any more
            warn_of_start(x, deviation, plan.start)
        yield plan.nfe, x, None

    @property
    def hook(self) -> Hook | None:
        """The state hook in the form that the loop takes. It checks what the hook returns, and copies it."""
        state_hook, backend = self.state_hook, self.backend
        if state_hook is None:
            return None
        points = [*(row.point for row in self.plan.rows), self.plan.end]

        def hooked(u: Any, number: int) -> Any:
            seen = state_hook(u, points[number])
            if not arrays.is_float_array(backend, seen):
                raise TypeError(f"state_hook must return the state, an array like its input, got {type(seen).__name__}")
            if seen.shape != u.shape:
                raise ValueError(f"state_hook must return the state's shape {tuple(u.shape)}, got {tuple(seen.shape)}")
            return backend.copy_to(arrays.cast(seen, u.dtype))

        return hooked

    def snapshots(self) -> Iterator[State[Any]]:
        """Yield every state as a snapshot. Gradients are not recorded inside; outside, the mode of the caller holds."""
        evaluations = self.evaluations()
        while True:
            with self.backend.autograd.no_grad():
                evaluated = next(evaluations, None)
                if evaluated is None:
                    return
                snapshot = self.snapshot(evaluated)
            yield snapshot

    def snapshot(self, evaluated: Evaluated) -> State[Any]:
        """Return the state of an evaluation, with copies and with the newest predicted x_0."""
        index, x, kept = evaluated
        point = self.plan.end if kept is None else self.plan.rows[index].point
        with self.backend.autograd.no_grad():
            if kept is not None:
                self.denoised = self.predicted_data(index, x, kept)
            return State(index, point.time, self.backend.copy_to(x), self.backend.copy_to(self.denoised))

    def predicted_data(self, index: int, u: Any, kept: Any) -> Any:
        """Return the x_0 predicted by evaluation `index`, from its input and from what the run kept of its output."""
        return self.bound.denoised(index, u, kept)


class Recorded(Run):
    """A run that records gradients. It drives the plain loop, whose arrays are never overwritten."""

    def __init__(
        self,
        denoiser: Denoiser,
        x_T: Any,
        plan: Plan,
        generator: Any,
        noise: NoiseName,
        state_hook: StateHook | None,
        checkpoint: bool,
    ) -> None:
        super().__init__(denoiser, x_T, plan, generator, noise, state_hook)
        if not self.backend.autograd.differentiates:
            raise TypeError(
                f"differentiable=True needs a framework that records, got {type(x_T).__name__}: give a torch tensor"
            )
        rule = getattr(denoiser.guidance, "rule", None)
        if checkpoint and rule is not None and rule.remembers:
            raise PlanError(
                f"checkpoint=True evaluates the network again out of its order, and {rule} depends on the evaluations before: "
                "give checkpoint=False, or momentum=0"
            )
        self.checkpoint = checkpoint
        self.x = recorded_state(self.backend, x_T, self.x)

    def evaluations(self) -> Iterator[Evaluated]:
        """Drive the plain loop: yield every evaluation and the result."""
        plan, bound, backend = self.plan, self.bound, self.backend
        if plan.end.time < plan.start.time:
            warn_of_start(self.x, arrays.deviation(backend, self.x), plan.start)
        run, m = steps(placed(plan, backend, self.x), self.x, iter(self.noise), hook=self.hook), None
        for index in range(plan.nfe):
            u = run.send(m).u
            m = (
                backend.autograd.checkpointed(partial(bound.recorded, index), u)
                if self.checkpoint
                else bound.recorded(index, u)
            )
            yield index, u, m
        x = _result(run, m)
        bound.watch.finish(x)
        yield plan.nfe, x, None

    def predicted_data(self, index: int, u: Any, kept: Any) -> Any:
        """Return the predicted x_0; this run keeps m itself."""
        point, kept = self.plan.rows[index].point, kept if self.plan.answers == 1 else kept[0]
        return self.backend.combine(conversion(self.plan.prediction, "data", point.alpha, point.sigma), (u, kept))


def _result(run: Generator[Any, Any, Any], kept: Any) -> Any:
    """What a loop returns when it is sent the last output."""
    try:
        run.send(kept)
    except StopIteration as end:
        return end.args[0]  # which compilers find, and `value` not
    raise AssertionError("the loop wants more evaluations than its plan has rows")
