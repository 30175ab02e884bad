"""Combination: the linear combination of which every step of every solver consists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np

from dpmsolver.brief import brief_repr
from dpmsolver.typing import Prediction

__all__ = ["Coefficient", "Combination", "Prediction", "from_dict", "to_dict"]

Coefficient: TypeAlias = Any  # float, or float64 array that broadcasts against a state without its batch


@dataclass(frozen=True, eq=False)
class Combination:
    """A linear combination of the state x, the network outputs m and the noise z, newest first:

        state * x + sum_i outputs[i] * m_{k-i} + sum_i noise[i] * z_{k-i} + constant

    Coefficients are floats. Those of calibrated solvers, and `constant`, may be float64 arrays that broadcast against one state.

    Examples:
        >>> step = Combination(0.5, (0.6,))
        >>> print(step)
        +0.5 x +0.6 m
        >>> step(2.0, (1.0,), ())
        1.6
    """

    state: Coefficient
    outputs: tuple[Coefficient, ...] = ()
    noise: tuple[float, ...] = ()
    constant: Coefficient = 0.0

    __repr__ = brief_repr

    def __call__(self, x: Any, outputs: Sequence[Any] = (), noise: Sequence[Any] = (), one: Any = 1.0) -> Any:
        """The combination of any arrays; outputs and noise newest first, more of them than needed are ignored.

        Args:
            noise: a draw without a coefficient may be None.
            one: the array that represents the constant 1.

        Examples:
            >>> Combination(0.5, (2.0, -1.0))(10.0, [1.0, 3.0])
            4.0
        """
        total = self.state * x
        for coefficients, arrays in ((self.outputs, outputs), (self.noise, noise)):
            for coefficient, array in zip(coefficients, arrays, strict=False):
                if array is not None:  # a draw that no coefficient uses
                    total = total + coefficient * array
        return total + self.constant * one if self.has_constant else total

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """All coefficients: of the state, the outputs, the noise, and the constant."""
        return (self.state, *self.outputs, *self.noise, self.constant)

    @property
    def has_constant(self) -> bool:
        """True if a constant is added."""
        return not isinstance(self.constant, float) or self.constant != 0.0

    @property
    def elementwise(self) -> bool:
        """True if coefficients are arrays or a constant is added, so that elements of the state are treated differently."""
        return self.has_constant or any(isinstance(c, np.ndarray) for c in (self.state, *self.outputs))

    def after(self, inner: Combination) -> Combination:
        """Return the combination that applies `inner` to x and then this one; both use the same outputs and the same noise.

        Examples:
            >>> print(Combination(2.0, (1.0,)).after(Combination(0.5, (3.0, 4.0))))
            +1 x +7 m +8 m-1
        """

        def merged(own: Sequence[Coefficient], others: Sequence[Coefficient]) -> tuple[Coefficient, ...]:
            return tuple(a + self.state * b for a, b in zip_longest(own, others, fillvalue=0.0))

        noise = merged(self.noise, inner.noise)
        constant = self.constant + self.state * inner.constant
        return Combination(self.state * inner.state, merged(self.outputs, inner.outputs), noise, constant)

    def marginal(self, state: tuple[float, float], outputs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Return the alpha and sigma of the result.

        Args:
            state: alpha and sigma of the state.
            outputs: those of each output, newest first: (1, 0) for the exact data, (0, 1) for the exact noise.

        Examples:
            >>> Combination(0.5, (0.25,)).marginal((1.0, 2.0), [(1.0, 0.0)])
            (0.75, 1.0)
        """
        terms = list(zip(self.outputs, outputs, strict=False))
        alpha, sigma = (math.fsum([self.state * own, *(c * m[i] for c, m in terms)]) for i, own in enumerate(state))
        return alpha, math.hypot(sigma, *self.noise)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Combination):
            return NotImplemented
        shape = (len(self.outputs), len(self.noise)) == (len(other.outputs), len(other.noise))
        return shape and all(map(np.array_equal, self.coefficients, other.coefficients))

    def __hash__(self) -> int:
        return hash(tuple(c if isinstance(c, float) else c.tobytes() for c in map(_plain, self.coefficients)))

    def __str__(self) -> str:
        terms = [f"{_shown(self.state)} x"]
        terms += [f"{_shown(c)} m{'' if i == 0 else -i}" for i, c in enumerate(self.outputs)]
        terms += [f"{_shown(c)} z{'' if i == 0 else -i}" for i, c in enumerate(self.noise)]
        return " ".join(terms + [_shown(self.constant)] * self.has_constant)


def _plain(coefficient: Coefficient) -> Coefficient:
    return coefficient if isinstance(coefficient, np.ndarray) else float(coefficient)


def _shown(coefficient: Coefficient) -> str:
    """A number; of an array its mean, marked as such."""
    return f"~{np.mean(coefficient):+.6g}" if isinstance(coefficient, np.ndarray) else f"{coefficient:+.6g}"


def to_dict(combination: Combination | None) -> dict[str, Any] | None:
    """Return a combination as a dict without empty entries; arrays become lists of lists."""
    if combination is None:
        return None

    def listed(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    values: dict[str, Any] = {"state": listed(combination.state)}
    for name in ("outputs", "noise"):
        if coefficients := getattr(combination, name):
            values[name] = [listed(c) for c in coefficients]
    return values | ({"constant": listed(combination.constant)} if combination.has_constant else {})


def from_dict(values: Mapping[str, Any] | None) -> Combination | None:
    """Return the combination that `to_dict` wrote."""
    if values is None:
        return None

    def read(value: Any) -> Any:
        return np.array(value, dtype=np.float64) if isinstance(value, list) else value

    outputs, noise = (tuple(map(read, values.get(name, ()))) for name in ("outputs", "noise"))
    return Combination(read(values["state"]), outputs, noise, read(values.get("constant", 0.0)))
