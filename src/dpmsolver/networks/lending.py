"""The calls of one run: how it lends its state to a network, which may write into its input, and what it remembers of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpmsolver.backends import Backend
from dpmsolver.errors import SamplingError

__all__ = ["Lending"]


@dataclass
class Lending:
    """The calls of one run. A network that writes into its input, as a first layer ReLU(inplace=True) does, leaves the run as it was.

    The first call gets a copy, and shows whether the network writes into it: one that does gets copies for the rest of the run, any
    other gets the state itself. Later calls are checked by the count of writes that torch keeps for each tensor, which costs nothing.
    Where there is no such count, on NumPy and for tensors made under inference mode, every call gets a copy: a read-only view would
    stop compiled functions and torch.from_numpy, which only read.

    Args:
        backend: of the state.
        writes: whether the network writes into its input; None before the first call.
        number: which evaluation of a plan is being made; None where there is no plan.
        kept: what a rule of guidance keeps from one evaluation for the next.
    """

    backend: Backend
    writes: bool | None = None
    number: int | None = None
    kept: Any = None
    _given: Any = None
    _count: int | None = None

    def lend(self, x: Any) -> Any:
        """What to call the network with: x, or a copy."""
        count = self.backend.version(x)
        if count is None:
            return self.backend.copy_to(x)
        if self.writes is not False:
            x = self.backend.copy_to(x)
            count = self.backend.version(x)
        self._given, self._count = x, count
        return x

    def take_back(self) -> None:
        """Look at what was lent, after the call.

        Raises:
            SamplingError: the network wrote into the state, though it left its input alone at its first call.
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
