"""The sampling loop: it executes a plan on arrays of any kind.

The network stays outside. `steps` is a coroutine that stops at each evaluation and resumes when it is sent the output. The code that
drives it decides what an array and what a network is: `sample` sends the outputs of a denoiser, a `Stepper` those of its user, the law of
a plan sends the coefficients of the optimal network, and a symbolic transform sends symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from dpmsolver.errors import PlanError

if TYPE_CHECKING:
    from dpmsolver.plans.combination import Combination
    from dpmsolver.plans.plan import Plan
    from dpmsolver.plans.rows import Point, Row

Hook = Callable[[Any, int], Any]  # (the network's input, the number of the evaluation) -> what takes its place

__all__ = ["Hook", "Moment", "Table", "answers_of", "hooked", "run", "steps"]


class Table(NamedTuple):
    """The part of a plan that the loop needs, with coefficients of any kind; those of a plan are floats and NumPy arrays."""

    start: Point
    begin: Combination | None
    rows: tuple[Row, ...]
    history: int
    noise_history: int
    answers: int


class Moment(NamedTuple):
    """A run that waits for evaluation `number`, with everything that it needs to resume.

    Args:
        number: the number of the evaluation.
        point: where the network is evaluated.
        x: the state.
        u: the network's input, which is x unless a step predicted it.
        outputs, noise: the outputs and draws that later steps may use, newest first.
    """

    number: int
    point: Point
    x: Any
    u: Any
    outputs: tuple[Any, ...] = ()
    noise: tuple[Any, ...] = ()


def steps(
    plan: Plan | Table,
    x: Any,
    draws: Iterator[Any] | None = None,
    *,
    one: Any = 1.0,
    hook: Hook | None = None,
    since: Moment | None = None,
) -> Generator[Moment, Any, Any]:
    """Run a plan: yield a `Moment` at each evaluation, receive the output of the network by `send`, and return the result.

    A plan whose evaluations give several outputs (`Plan.answers`) is sent a tuple of them.

    Args:
        plan: the plan to run.
        x: x_T, an array of any framework, or another object that can be multiplied by numbers and added. It is not changed.
        draws: standard normals, one for each row, after one for `plan.begin` if the plan has it. A draw that no coefficient uses may be
            None; a plan without noise needs none.
        one: the array that represents the constant 1.
        hook: a function (u, number of the evaluation) -> u, applied to every input of the network and to the result.
        since: a moment of an earlier run of this plan, from which this run resumes; x is then ignored, and `draws` are the remaining ones.

    Raises:
        PlanError: the number of outputs that are sent differs from the plan's `answers`.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> run = steps(make_plan("ddim", schedules.LinearVP(), nfe=2), 1.0)
        >>> [next(run).number, run.send(0.5).number]
        [0, 1]
    """
    draws = repeat(None) if draws is None else draws
    first, _, x, u, outputs, noise = since or Moment(0, plan.start, x, x)
    if since is None and plan.begin is not None:
        noise = (next(draws),)
        u = plan.begin(x, (), noise, one)
    for index, row in islice(enumerate(plan.rows), first, None):
        x, u = hooked(hook, x, u, index)
        m = yield Moment(index, row.point, x, u, outputs, noise)
        answers = answers_of(m, plan.answers)
        if row.output is not None:
            answers = tuple(row.output(u, (answer,), (), one) for answer in answers)
        outputs = (*answers, *outputs)[: plan.history]
        noise = (next(draws), *noise)[: plan.noise_history]
        x = x if row.advance is None else row.advance(x, outputs, noise, one)
        u = x if row.predict is None else row.predict(x, outputs, noise, one)
    return hooked(hook, x, x, len(plan.rows))[0]


def answers_of(m: Any, wanted: int) -> tuple[Any, ...]:
    """Return what was sent to the loop as a tuple, after a check of the number of outputs."""
    answers = m if isinstance(m, tuple) else (m,)
    if len(answers) != wanted:
        raise PlanError(f"an evaluation of this plan gives {wanted} outputs, in a tuple, got {len(answers)}")
    return answers


def hooked(hook: Hook | None, x: Any, u: Any, number: int) -> tuple[Any, Any]:
    """Return the state and the network's input after the hook. The hook is applied to the input, which is the state or a stage."""
    if hook is None:
        return x, u
    seen = hook(u, number)
    return (seen if u is x else x), seen


def run(moments: Generator[Moment, Any, Any], network: Callable[[Any, Point], Any]) -> Any:
    """Drive a loop to its end with a network: `network(u, point)` returns what the plan calls its output.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> plan = make_plan("ddim", schedules.LinearVP(), nfe=5)
        >>> reached = run(steps(plan, plan.start.sigma), lambda u, point: 0.0)  # all data are 0: noise is left
        >>> round(reached - plan.end.sigma, 12)
        0.0
    """
    try:
        moment = next(moments)
        while True:
            moment = moments.send(network(moment.u, moment.point))
    except StopIteration as end:
        return end.value
