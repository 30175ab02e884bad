"""Lending: a run lends its state to a network that may overwrite its input, and remembers what the network did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpmsolver.backends import Backend
from dpmsolver.errors import SamplingError

__all__ = ["Lending"]


@dataclass
class Lending:
    """The calls of one run. A network that overwrites its input, as a first layer ReLU(inplace=True) does, does not change the run's state.

    The first call gets a copy, and shows whether the network overwrites it. If so, all calls of the run get copies; otherwise they get the
    state itself. Later calls are checked by the count of writes that torch keeps for each tensor, at no cost. Without such a count, on
    NumPy and for tensors made under inference mode, every call gets a copy: a read-only view would break compiled functions and
    torch.from_numpy, which only read.

    Args:
        backend: the framework of the state.
        writes: whether the network overwrites its input; None before the first call.
        number: the number of the current evaluation of a plan; None without a plan.
        kept: the memory of a rule of guidance from one evaluation to the next.
    """

    backend: Backend
    writes: bool | None = None
    number: int | None = None
    kept: Any = None
    _given: Any = None
    _count: int | None = None

    def lend(self, x: Any) -> Any:
        """Return the array with which the network is called: x, or a copy."""
        count = self.backend.version(x)
        if count is None:
            return self.backend.copy_to(x)
        if self.writes is not False:
            x = self.backend.copy_to(x)
            count = self.backend.version(x)
        self._given, self._count = x, count
        return x

    def take_back(self) -> None:
        """Check the lent array after the call.

        Raises:
            SamplingError: the network overwrote the state, although it did not overwrite its input in the first call.
        """
        if self._given is None:
            return
        given, self._given = self._given, None
        wrote = self.backend.version(given) != self._count
        if self.writes is None:
            self.writes = wrote
        elif wrote and not self.writes:
            raise SamplingError(
                "the network wrote into its input, though not at its first call, which decides who gets copies: "
                "let it work on a copy of its own, with network=lambda x, t, **kwargs: network(x.clone(), t, **kwargs)"
            )
