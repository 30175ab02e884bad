"""Parts: some noises with the denoiser that they are for, and the network as a function of a state and a point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.rows import Point
from dpmsolver.sampling.calls import Calls
from dpmsolver.schedules import Floats

__all__ = ["DenoiserOf", "Noises", "Part", "denoiser_of"]

DenoiserOf = Callable[[NDArray[np.int64]], Denoiser]  # the denoiser of some of the noises, by their numbers


class Noises:
    """Noises with their denoiser, from which parts are taken.

    Args:
        denoiser: for all noises, of which the arrays in its conditions with as many rows are divided as the noises are; or a function
            that returns the denoiser of some noises, given their numbers.
        x_T: (N, …), noises of the schedule's start.

    Attributes:
        evaluations: how many samples the network has evaluated so far, over all parts.
        told: a function that is called after each evaluation of a part, or None.
    """

    def __init__(self, denoiser: Denoiser | DenoiserOf, x_T: Any) -> None:
        self.backend = backends.of(x_T)
        self.x_T, self.evaluations, self._denoiser = x_T, 0, denoiser
        self.told: Callable[[], object] | None = None

    def __len__(self) -> int:
        return len(self.x_T)

    def part(self, numbers: Sequence[int] | NDArray[np.int64], room: int = 1) -> Part:
        """Return the noises of these numbers, with their denoiser. `room`: the samples that the network may evaluate at once."""
        chosen = np.asarray(numbers, dtype=np.int64)
        if isinstance(self._denoiser, Denoiser):
            own = _of_samples(self._denoiser, chosen, len(self))
        else:
            own = denoiser_of(self._denoiser, chosen)
        return Part(self, chosen, own, room)

    def parts(self, numbers: Sequence[int], batch: int) -> list[Part]:
        """Return parts of at most `batch` noises each."""
        return [self.part(numbers[first : first + batch], batch) for first in range(0, len(numbers), batch)]


class Part:
    """A batch of noises with its denoiser. Called with a state and a point, or a point for each sample, it returns the predicted x_0.

    Attributes:
        like: a state of one noise, whose shape, type and device are those of all.
        room: the number of samples that the network may evaluate at once; a smaller part is evaluated several times abreast.
    """

    def __init__(self, noises: Noises, numbers: NDArray[np.int64], denoiser: Denoiser, room: int = 1) -> None:
        self.denoiser, self.backend = denoiser, noises.backend
        self.like = self.backend.state(noises.x_T[numbers[:1]])
        self._noises, self._numbers, self.room = noises, numbers, room
        self._repeated: dict[int, Part] = {}
        self._calls = Calls(denoiser, self.backend, "data", 10**12)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def x(self) -> Any:
        """The noises as a state, (B, …), taken anew from all noises each time, so that a part holds none."""
        return self.backend.state(self._noises.x_T[self._numbers])

    def __call__(self, x: Any, point: Point | list[Point]) -> Any:
        with self.backend.autograd.no_grad():
            found = self._calls(x, point if isinstance(point, list) else [point] * len(x))
        self._noises.evaluations += len(self)
        if self._noises.told is not None:
            self._noises.told()
        return found

    def first(self, count: int) -> Part:
        """Return a part of the first `count` noises."""
        return self._noises.part(self._numbers[:count], self.room)

    def repeated(self, count: int) -> Part:
        """Return a part that holds these noises `count` times, one copy after another."""
        if count == 1:
            return self
        if count not in self._repeated:  # it asks the caller for a denoiser
            self._repeated[count] = self._noises.part(np.tile(self._numbers, count), self.room)
        return self._repeated[count]

    def combine(self, coefficients: Sequence[float] | Floats, arrays: Sequence[Any]) -> Any:
        """Return a linear combination of arrays like the state."""
        return self.backend.combine([float(c) for c in coefficients], arrays)

    def flat(self, x: Any) -> Floats:
        """Return an array like the state on the host, float64 (B, D)."""
        return to_host(x).reshape(len(self), -1)


def denoiser_of(function: DenoiserOf, numbers: NDArray[np.int64]) -> Denoiser:
    """Return the denoiser that a caller's function gives for some noises. Raise TypeError for anything else."""
    own = function(numbers)
    if not isinstance(own, Denoiser):
        raise TypeError(f"the function of noises must return dpm.Denoiser(…), got {type(own).__name__}")
    return own


def _of_samples(denoiser: Denoiser, chosen: NDArray[np.int64], total: int) -> Denoiser:
    """The denoiser of some samples of its batch: conditions with one row per sample lose the other rows."""

    def taken(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: taken(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            if len(value) == total and all(isinstance(each, (int, float, str)) for each in value):
                return type(value)(value[i] for i in chosen)
            return type(value)(taken(each) for each in value)
        shape: tuple[int, ...] = getattr(value, "shape", ())
        return value[chosen] if len(shape) and shape[0] == total else value

    guidance = denoiser.guidance
    if guidance is not None:
        scale = getattr(guidance, "scale", None)
        if isinstance(scale, tuple) and len(scale) != total:
            raise PlanError(
                f"guidance has {len(scale)} scales, and there are {total} noises: give one scale, or one for each noise"
            )
        own = {each.name: taken(getattr(guidance, each.name)) for each in fields(guidance) if each.name in _CONDITIONS}
        guidance = replace(guidance, **own)
    return denoiser.replace(network_kwargs=taken(denoiser.network_kwargs), guidance=guidance)


_CONDITIONS = ("scale", "condition", "unconditional", "kwargs")  # fields of guidance that may have one row per sample
