"""A run that a pipeline drives: the loop of plans, fed with outputs that the pipeline computes from states that it may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from dpmsolver import backends
from dpmsolver.adapters.diffusers.reading import Reading
from dpmsolver.backends import Backend
from dpmsolver.backends.arrays import cast
from dpmsolver.errors import SamplingError
from dpmsolver.networks.reading import prediction_of, recorded_state
from dpmsolver.plans.fused import Step, stepped
from dpmsolver.plans.loop import Moment, Table, steps
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.bind import Bound, bind
from dpmsolver.sampling.noise import NoiseName, noise_source

__all__ = ["Run"]


class _Handed(Bound):
    """A plan beside a network whose outputs are handed in."""

    reading: Reading
    output: Any = None

    def _answers(self, index: int, u: Any) -> tuple[tuple[Any, ...], None]:
        """The output that was handed in, as the denoiser's network returns it, seen to be finite."""
        learned = (
            tuple(getattr(self.output, "shape", ())) == (u.shape[0], 2 * u.shape[1], *u.shape[2:])
            if u.ndim > 1
            else False
        )
        raw = cast(prediction_of(self.backend, self.output, u, learned), u.dtype)
        try:
            self.watch.check(index, raw)
        except SamplingError:
            self.watch.pending.clear()  # the run may go on with another output
            raise
        factors = self.reading.preconditioning(self.plan.rows[index].point.sigma)
        return (raw if factors is None else self.backend.combine(factors, (u, raw)),), None


class _Made(NamedTuple):
    """A step of a plan with its numbers on a backend, called as a `Combination` is."""

    backend: Backend
    step: Step

    def __call__(self, x: Any, outputs: Any, noise: Any, one: Any) -> Any:
        return stepped(self.step, self.backend, x, outputs, noise)


class _Row(NamedTuple):
    """A row of a plan for the loop, whose outputs are what the run keeps."""

    point: Any
    advance: _Made | None
    predict: _Made | None
    output: None = None


class Run:
    """A run of a plan, from the state with which a pipeline begins.

    The state is kept in float32 (float64 if the pipeline's is), and the pipeline gets it in its own type. Arrays that the pipeline has seen
    are never overwritten.

    Args:
        plan, reading: the plan, and the conventions of the pipeline.
        sample: the state with which the pipeline begins.
        generator: a torch generator, or one per sample; None takes torch's default generator.
        noise: the source of a stochastic plan's noise, as in `sample`.

    Raises:
        PlanError, ValueError, TypeError: the state is not a finite floating-point tensor, or the plan is for another shape.
    """

    def __init__(self, plan: Plan, reading: Reading, sample: Any, generator: Any, noise: NoiseName) -> None:
        self.plan, self._backend = plan, backends.of(sample)
        state = recorded_state(self._backend, sample, self._backend.state(sample))
        bound = bind(plan, reading.denoiser, self._backend, state)
        self._bound = _Handed(*(getattr(bound, each.name) for each in fields(bound)))
        self._bound.reading = reading
        self._bound.watch.check(-1, state)
        source = noise_source(noise, plan, generator if plan.stochastic else None, self._backend, state)
        self._variance_noise: Any = None
        self._draws = self._drawn(source)
        self._table = self._compiled()
        self._moments = steps(self._table, state, self._draws)
        self._moment: Moment | None = next(self._moments)
        self.shape, self.device = tuple(sample.shape), sample.device
        self._shown, self._result = sample, None

    @property
    def index(self) -> int:
        """The number of outputs that were handed in."""
        return self.plan.nfe if self._moment is None else self._moment.number

    def step(self, output: Any, sample: Any, variance_noise: Any = None) -> Any:
        """Advance by the network's output for `sample`, and return the network's next input, in the type of `sample`.

        Args:
            sample: what the run returned last. If the pipeline has changed it, the changed state replaces the run's.
            variance_noise: the normal of this step, in place of the run's own.
        """
        moment = self._seen(sample)
        self._bound.output, self._variance_noise = output, variance_noise
        kept = self._bound(moment.number, moment.u, self._spare(moment, output))
        self._last = moment.number, moment.u, kept
        try:
            self._moment = self._moments.send(kept)
            following = self._moment.u
        except StopIteration as end:
            self._moment, self._result = None, end.value
            following = end.value
            self._bound.watch.finish(following)
        self._bound.output = self._variance_noise = None
        self._shown = cast(following, sample.dtype)
        return self._shown

    def denoised(self, dtype: Any) -> Any:
        """Return the predicted x_0 of the newest evaluation, in a float type."""
        return cast(self._bound.denoised(*self._last), dtype)

    def _spare(self, moment: Moment, output: Any) -> Any:
        """The memory of the output that no later step uses; None where there is none, or where derivatives are recorded."""
        if (
            len(moment.outputs) < self.plan.history
            or self._backend.autograd.records(output)
            or self._backend.autograd.records(moment.u)
        ):
            return None
        return moment.outputs[-1]

    def _seen(self, sample: Any) -> Moment:
        """The moment of the run with what the network saw: where the pipeline changed the state, the changed one."""
        moment = self._moment
        assert moment is not None
        if sample is self._shown or moment.number == 0:
            return moment
        backend, u = self._backend, moment.u
        if sample.dtype == u.dtype:
            seen = backend.copy_to(sample)
        else:  # a change, with the digits that the pipeline's type does not have
            shown = cast(self._shown, u.dtype)
            seen = backend.combine((1.0, 1.0, -1.0), (u, cast(sample, u.dtype), shown))
        moment = moment._replace(u=seen, x=seen if moment.x is u else moment.x)
        self._moments = steps(self._table, moment.x, self._draws, since=moment)
        self._moment = next(self._moments)
        self._shown = sample
        return self._moment

    def _drawn(self, source: Iterable[Any]) -> Iterator[Any]:
        """The run's normals, or the caller's in their place."""
        for z in source:
            given = self._variance_noise
            yield z if z is None or given is None else cast(given, z.dtype)

    def _compiled(self) -> Any:
        """The plan's steps as the loop takes them, with the conversions of the outputs in their numbers."""
        bound, plan = self._bound, self.plan

        def made(step: Step | None) -> _Made | None:
            return None if step is None else _Made(self._backend, step)

        rows = tuple(
            _Row(row.point, made(advance), made(predict))
            for row, (advance, predict) in zip(plan.rows, bound.steps.rows, strict=True)
        )
        begin: Any = made(bound.steps.begin)
        found: Any = rows
        return Table(plan.start, begin, found, plan.history, plan.noise_history, plan.answers)
