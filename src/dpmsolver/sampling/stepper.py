"""A run that the caller drives: hand in one network output after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Generic

from dpmsolver import backends
from dpmsolver.backends import arrays, noise_keys
from dpmsolver.backends.keys import Keys
from dpmsolver.brief import brief
from dpmsolver.errors import PlanError
from dpmsolver.networks.reading import recorded_state
from dpmsolver.plans.caution import warn_of_start
from dpmsolver.plans.loop import Moment, steps
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.plans.targets import Predicts, conversion
from dpmsolver.sampling.finite import at_evaluation, require_finite, require_finite_output
from dpmsolver.sampling.noise import NoiseName, noise_source
from dpmsolver.sampling.placing import placed
from dpmsolver.sampling.saving import loaded, saved
from dpmsolver.typing import Array

__all__ = ["Stepper"]


class Stepper(Generic[Array]):
    """A run of a plan in a loop of your own: evaluate the network at `x` and `point`, and hand its output to `step`.

    In a run of torch tensors, gradients flow from the result to x_T and to everything that the outputs depend on.

    Args:
        plan: from `make_plan` or `Plan.from_json`. For a network that predicts noise or score, give `predicts=` to `make_plan`.
        x_T: the start, shape (B, …), NumPy or torch, with the standard deviation of the plan's start: see `initial_noise`. It is not
            changed.
        predicts: what the network returns: "noise" (eps), "data" (x_0), "v", "score" or "velocity" (eps - x_0).
        generator: the randomness of stochastic plans: a seed, a generator, or one of these per sample, as in `sample`.
        noise: "independent", "host" or "brownian", as in `sample`.

    Attributes:
        x: the network's next input, the state or a stage of a step; after the last step, the result. It is a copy.
        done: True after the last evaluation.

    Raises:
        PlanError, ValueError, TypeError: x_T is not a floating-point array or not finite, an unknown prediction, a plan that a network
            of this prediction cannot start.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> schedule = dpm.schedules.LinearVP()
        >>> network = dpm.models.Gaussian(mean=[1.0], variance=[0.25]).denoiser(schedule).network
        >>> stepper = dpm.Stepper(dpm.make_plan("dpm++2m", schedule, nfe=10), np.ones((4, 1)), predicts="noise")
        >>> while not stepper.done:
        ...     x = stepper.step(network(stepper.x, np.full(4, stepper.point.label)))
        >>> x.shape
        (4, 1)
    """

    def __init__(
        self,
        plan: Plan,
        x_T: Array,
        predicts: Predicts = "noise",
        *,
        generator: Any = None,
        noise: NoiseName = "independent",
    ) -> None:
        if not isinstance(plan, Plan):
            raise TypeError(f"plan must be a Plan, from make_plan or Plan.from_json, got {type(plan).__name__}")
        self.plan, self._backend = plan, backends.of(x_T)
        state = self._backend.state(x_T)
        require_finite(self._backend, state, "x_T")
        if plan.end.time < plan.start.time:
            warn_of_start(state, arrays.deviation(self._backend, state), plan.start)
        state = recorded_state(self._backend, x_T, state)
        columns = plan.columns
        self._conversions = conversion(predicts, plan.prediction, columns["alpha"][:-1], columns["sigma"][:-1])
        needed = plan.stochastic or generator is not None
        self._noise = noise
        self._keys: Keys = noise_keys(generator, len(state)) if needed else []
        self.x: Array = state
        self._moment: Moment | None = None
        self._result: Any = None
        self._begin(state, None)

    def __repr__(self) -> str:
        where = "done" if self.done else f"at evaluation {self.index} of {self.plan.nfe}"
        return f"<Stepper of {self.plan.solver or 'a plan'}, {where}, x {brief(self.x)}>"

    @property
    def done(self) -> bool:
        """True after the last evaluation."""
        return self._moment is None

    @property
    def index(self) -> int:
        """The number of the next evaluation, which is the number of outputs that were handed in."""
        return self.plan.nfe if self._moment is None else self._moment.number

    @property
    def point(self) -> Point:
        """The point of the next evaluation: time, label, alpha and sigma; after the last step, the end of the run."""
        return self.plan.end if self._moment is None else self._moment.point

    def step(self, output: Array | Sequence[Array]) -> Array:
        """Advance the run by the network's output at `x` and `point`, and return the next `x`.

        Args:
            output: what the network returned, an array of x's shape and framework. A plan whose evaluations give several outputs takes a
                tuple or list of them, in the plan's order.

        Raises:
            PlanError: the run is over. TypeError, ValueError: an output of another kind or shape. SamplingError: an output with NaN or
                infinity. After an error the stepper is unchanged.
        """
        if self._moment is None:
            raise PlanError(f"the run is over: its {self.plan.nfe} evaluations are made, and x is the result")
        moment, wanted = self._moment, self.plan.answers
        outputs = [output] if wanted == 1 else output
        if not isinstance(outputs, (tuple, list)) or len(outputs) != wanted:
            got = (
                f"{type(output).__name__} of {len(output)}"
                if isinstance(output, (tuple, list))
                else type(output).__name__
            )
            raise TypeError(f"this plan wants {wanted} outputs of each evaluation, in a tuple or a list, got {got}")
        self._advance(tuple(self._read(each, moment) for each in outputs))
        return self.x

    def state_dict(self) -> dict[str, Any]:
        """Return the run as plain arrays, with its history, its noise and its seeds: `load_state_dict` resumes it from them.

        Returns:
            A dict of arrays. The state and the outputs are arrays of the run's framework on their device; numbers are NumPy arrays.
        """
        reached = self._result if self._moment is None else self._moment
        return saved(self._backend, self.plan, self._keys, reached)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume a run from what `state_dict` returned, in a stepper of the same plan and shape.

        Raises:
            PlanError: the state belongs to another plan, or is incomplete. TypeError, ValueError: arrays of another framework or shape.
                After an error the stepper is unchanged.
        """
        self._keys, reached = loaded(self._backend, self.plan, self.x, state)
        if isinstance(reached, Moment):
            self._begin(reached.x, reached)
        else:
            self._finish(reached)

    def _begin(self, x: Any, since: Moment | None) -> None:
        """Start the run, or resume it."""
        done = 0 if since is None else since.number + self.plan.draws - self.plan.nfe
        keys = self._keys if len(self._keys) else None
        draws = islice(noise_source(self._noise, self.plan, keys, self._backend, x), done, None)
        self._run = steps(placed(self.plan, self._backend, x), x, draws, since=since)
        self._advance(None)

    def _advance(self, m: Any) -> None:
        try:
            self._moment = moment = self._run.send(m)
            self.x = self._backend.copy_to(moment.u)
        except StopIteration as end:
            self._finish(end.value)

    def _finish(self, result: Any) -> None:
        self._moment, self._result, self.x = None, result, self._backend.copy_to(result)

    def _read(self, output: Any, moment: Moment) -> Any:
        """What the plan calls the output, from what the network returned."""
        backend, seen = self._backend, moment.u
        if not arrays.is_float_array(backend, output):
            raise TypeError(f"output must be a floating-point array like x, got {type(output).__name__}")
        if output.shape != seen.shape:
            raise ValueError(f"output must have x's shape {tuple(seen.shape)}, got {tuple(output.shape)}")
        require_finite_output(backend, output, at_evaluation(self.plan, moment.number))
        a, b = (float(numbers[moment.number]) for numbers in self._conversions)
        output = arrays.cast(output, seen.dtype)
        return arrays.linear(backend, (a, b), (seen, output)) if a else arrays.linear(backend, (b,), (output,))
