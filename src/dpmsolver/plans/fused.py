"""A second sampling loop, for backends that can write into buffers: the same run with as little memory as possible."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from dpmsolver.plans.loop import Hook, answers_of, hooked

__all__ = ["Step", "Steps", "combined", "fused", "stepped"]


class Step(NamedTuple):
    """A combination for `fused`: the numbers of the state, of `outputs` outputs, of the draws of these ages, and of the constant."""

    numbers: tuple[Any, ...]
    outputs: int
    draws: tuple[int, ...]
    constant: bool
    elementwise: bool


class Steps(NamedTuple):
    """A plan for `fused`: its analytic first step, the `advance` and `predict` of each row, and the number of outputs it keeps."""

    begin: Step | None
    rows: tuple[tuple[Step | None, Step | None], ...]
    history: int
    noise_history: int
    answers: int = 1


# Functions and not methods: what a compiler takes as a constant has none.
def stepped(step: Step, backend: Any, x: Any, outputs: Sequence[Any], noise: Sequence[Any], out: Any = None) -> Any:
    """Return the combination of a step, in `out` if the framework can write into it."""
    arrays = [x, *outputs[: step.outputs], *(noise[age] for age in step.draws)]
    if step.elementwise:
        return combined(backend, step.numbers, [*arrays, 1.0] if step.constant else arrays)
    return backend.combine(step.numbers, arrays, out)


def combined(backend: Any, numbers: Sequence[Any], arrays: Sequence[Any], out: Any = None) -> Any:
    """Combine arrays, in `out` if the numbers are floats; they may also be arrays of the framework."""
    if all(isinstance(number, float) for number in numbers):
        return backend.combine(numbers, arrays, out)
    total = numbers[0] * arrays[0]
    for number, array in zip(numbers[1:], arrays[1:], strict=True):
        total = total + number * array
    return total


def fused(
    table: Steps, backend: Any, x: Any, draws: Iterator[Any], hook: Hook | None = None
) -> Generator[tuple[int, Any, Any], Any, Any]:
    """Run a plan like `steps`, in as few buffers as possible: x itself, the outputs that are kept, and one stage.

    Yield the number of an evaluation, its input, and a buffer for what is sent back, or None if there is no free buffer.

    Args:
        table: the plan's steps, with the scales of the outputs in their numbers.
        backend: whose `combine` writes into its `out`.
        x: x_T, which the run overwrites.
        draws: as in `steps`. hook: as in `steps`; the run writes into what it returns.
    """

    outputs: list[Any] = []
    noise: list[Any] = []
    u, stage = x, None
    if table.begin is not None:
        noise = [next(draws)]
        u = stage = stepped(table.begin, backend, x, outputs, noise)
    for index, (advance, predict) in enumerate(table.rows):
        x, u = hooked(hook, x, u, index)
        spare = outputs.pop() if len(outputs) == table.history else None
        kept = yield index, u, spare
        if table.answers == 1:
            outputs.insert(0, kept)
        else:
            outputs = [*answers_of(kept, table.answers), *outputs][: table.history]
        if table.noise_history:
            noise = [next(draws), *noise][: table.noise_history]
        if advance is not None:
            x = stepped(advance, backend, x, outputs, noise, x)
        u = x
        if predict is not None:
            u = stage = stepped(predict, backend, x, outputs, noise, stage)
    return hooked(hook, x, x, len(table.rows))[0]
