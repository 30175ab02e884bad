"""Rules of classifier-free guidance, which combine a conditional and an unconditional output into the guided one.

Pass one as `ClassifierFree(scale, condition, unconditional, rule=…)` to replace the formula unconditional + scale (conditional -
unconditional). At scale 1 each rule gives the conditional output, and with neutral arguments it gives that formula. Norms, standard
deviations and products are taken within a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.backends.arrays import linear
from dpmsolver.errors import PlanError
from dpmsolver.networks.lending import Lending

__all__ = ["Outputs", "Projected", "Rescaled", "Rule", "ZeroStar"]


class Outputs(NamedTuple):
    """The outputs of an evaluation that a rule combines.

    Args:
        conditional, unconditional: the network's outputs, in the state's type.
        scale: a float, or float64 (B,).
        x: the state.
        to_data: (a, b) with x_0 = a x + b output, or None for a rule that does not need it.
        calls: the calls of the run.
    """

    backend: Backend
    conditional: Any
    unconditional: Any
    scale: Any
    x: Any
    to_data: tuple[Any, Any] | None
    calls: Lending

    def plain(self, unconditional: Any = None) -> Any:
        """Return unconditional + scale (conditional - unconditional)."""
        without = self.unconditional if unconditional is None else unconditional
        return linear(self.backend, [1.0 - self.scale, self.scale], [without, self.conditional])


@dataclass(frozen=True)
class Rescaled:
    """Guidance that rescales the output to the standard deviation of the conditional one, which avoids too much contrast.

    The guided output m = unconditional + scale (conditional - unconditional) becomes (phi std(conditional)/std(m) + 1 - phi) m. The rule
    acts on the network's output, as in the paper, whose network predicts v.

    Args:
        phi: the share of the rescaled output, in [0, 1]; the paper takes 0.7.

    Raises:
        PlanError: phi lies outside [0, 1].

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> schedule, sides = dpm.schedules.LinearVP(), ({"y": np.ones((2, 3))}, {"y": np.zeros((2, 3))})
        >>> guidance = dpm.guidance.ClassifierFree(4.0, *sides, rule=dpm.guidance.Rescaled(0.7))
        >>> denoiser = dpm.Denoiser(lambda x, t, y: 0.5 * x + y, schedule, "v", guidance=guidance)
        >>> dpm.sample(denoiser, np.ones((2, 3)), nfe=5).shape
        (2, 3)

    Source: Lin et al. 2024, arXiv 2305.08891, eq. 15 and 16.
    """

    phi: float = 0.7

    acts_on_data = remembers = False
    zero = 0

    def __post_init__(self) -> None:
        _require("phi", self.phi, 0.0, 1.0)

    def guided(self, outputs: Outputs) -> Any:
        """Return the guided output."""
        plain = outputs.plain()
        wanted, own = (_flat(array) for array in (outputs.conditional, plain))
        xp = outputs.backend.xp
        wanted, own = (xp.std(each, axis=1) for each in (wanted, own))
        tiny = float(xp.finfo(own.dtype).smallest_normal)  # of a constant output, which no factor changes
        factor = xp.where(own > tiny, wanted / own.clip(tiny), xp.ones_like(own))
        return plain * _beside(1.0 + self.phi * (factor - 1.0), plain)


@dataclass(frozen=True)
class Projected:
    """Adaptive projected guidance (APG): it reduces the part of the update that is parallel to the prediction, which saturates colours.

    The rule acts on the predicted data D, whatever the network predicts, as in the paper. The update conditional - unconditional is
    shortened to the norm `threshold`, and its part parallel to D(conditional) is multiplied by eta. The guided D is D(conditional) + (scale
    - 1) update.

    Args:
        eta: the weight of the parallel part; 1 is plain guidance, 0 the value of the paper.
        threshold: the largest norm of the update of a sample (the paper's r, 2.5 to 15 there; it grows with the number of values). None
            does not shorten the update.
        momentum: the factor of the sum of earlier updates, which is added to the update of an evaluation. It is negative in the paper (-0.5
            or -0.75); 0 uses no earlier updates. All evaluations of a plan enter the sum, stages included. Adaptive runs, which reject some
            evaluations, refuse a momentum, as does checkpoint=True.

    Raises:
        PlanError: eta or momentum is not finite, |momentum| >= 1, or threshold <= 0. Before the first evaluation also: the network's output
            does not determine the data at some point.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> schedule, sides = dpm.schedules.LinearVP(), ({"y": np.ones((2, 3))}, {"y": np.zeros((2, 3))})
        >>> rule = dpm.guidance.Projected(threshold=2.5, momentum=-0.5)
        >>> guidance = dpm.guidance.ClassifierFree(4.0, *sides, rule=rule)
        >>> denoiser = dpm.Denoiser(lambda x, t, y: 0.5 * x + y, schedule, "noise", guidance=guidance)
        >>> dpm.sample(denoiser, np.ones((2, 3)), nfe=5).shape
        (2, 3)

    Source: Sadat et al. 2024, arXiv 2410.02416, algorithm 1 and section 3.
    """

    eta: float = 0.0
    threshold: float | None = None
    momentum: float = 0.0

    acts_on_data = True
    zero = 0

    def __post_init__(self) -> None:
        _require("eta", self.eta, -math.inf, math.inf)
        _require("momentum", self.momentum, -1.0, 1.0, inside=True)
        if self.threshold is not None:
            _require("threshold", self.threshold, 0.0, math.inf, inside=True)

    @property
    def remembers(self) -> bool:
        """True if an evaluation depends on the ones before it."""
        return self.momentum != 0.0

    def guided(self, outputs: Outputs) -> Any:
        """Return the guided output, which moves the predicted data of the conditional one by (scale - 1) update."""
        backend, xp = outputs.backend, outputs.backend.xp
        assert outputs.to_data is not None
        a, b = outputs.to_data
        data = linear(backend, (a, b), (outputs.x, outputs.conditional))
        update = linear(backend, (b, -b), (outputs.conditional, outputs.unconditional))
        if outputs.calls.number is not None and self.remembers:
            if outputs.calls.kept is not None:
                update = update + self.momentum * outputs.calls.kept
            outputs.calls.kept = update
        if self.threshold is not None:
            norm = xp.sqrt(xp.sum(_flat(update) ** 2, axis=1))
            update = update * _beside(self.threshold / norm.clip(self.threshold), update)
        tiny = float(xp.finfo(data.dtype).smallest_normal)
        share = xp.sum(_flat(update) * _flat(data), axis=1) / xp.sum(_flat(data) ** 2, axis=1).clip(tiny)
        update = update - _beside((1.0 - self.eta) * share, data) * data
        return linear(backend, (1.0, (outputs.scale - 1.0) / b), (outputs.conditional, update))


@dataclass(frozen=True)
class ZeroStar:
    """CFG-Zero*: guidance from a multiple of the unconditional output, the one that is nearest to the conditional output.

    With s = <conditional, unconditional>/|unconditional|^2 the guided output is s unconditional + scale (conditional - s unconditional).
    The rule acts on the network's output, as in the paper, whose network predicts a velocity.

    Args:
        zero: the number of evaluations at the beginning of a run whose velocity is set to 0, so that early errors do not move the state.
            The network is evaluated there too, so that a run still costs nfe evaluations. Only for networks that predict velocity.

    Raises:
        PlanError: zero is not an integer >= 0, or zero > 0 and the network does not predict velocity.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> schedule, sides = dpm.schedules.Flow(), ({"y": np.ones((2, 3))}, {"y": np.zeros((2, 3))})
        >>> guidance = dpm.guidance.ClassifierFree(4.0, *sides, rule=dpm.guidance.ZeroStar(zero=1))
        >>> denoiser = dpm.Denoiser(lambda x, t, y: 0.5 * x + y, schedule, "velocity", guidance=guidance)
        >>> dpm.sample(denoiser, np.ones((2, 3)), nfe=5).shape
        (2, 3)

    Source: Fan et al. 2025, arXiv 2503.18886, eq. 6 and 7, algorithm 1.
    """

    zero: int = 0

    acts_on_data = remembers = False

    def __post_init__(self) -> None:
        if not isinstance(self.zero, int) or isinstance(self.zero, bool) or self.zero < 0:
            raise PlanError(
                f"zero must be an integer >= 0, how many first evaluations have no velocity, got {self.zero!r}"
            )

    def guided(self, outputs: Outputs) -> Any:
        """Return the guided output."""
        xp, without = outputs.backend.xp, outputs.unconditional
        flat, tiny = _flat(without), float(outputs.backend.xp.finfo(without.dtype).smallest_normal)
        factor = xp.sum(_flat(outputs.conditional) * flat, axis=1) / xp.sum(flat**2, axis=1).clip(tiny)
        return outputs.plain(without * _beside(factor, without))


Rule: TypeAlias = Rescaled | Projected | ZeroStar


def _require(name: str, value: Any, low: float, high: float, inside: bool = False) -> None:
    """Raise PlanError unless a value is a finite number between two others, or inside of them."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
    if number and (low < value < high or (not inside and low <= value <= high)):
        return
    if math.isinf(high):
        wanted = "finite" if math.isinf(low) else f"finite and > {low:g}"
    else:
        wanted = f"between {low:g} and {high:g}" if inside else f"in [{low:g}, {high:g}]"
    raise PlanError(f"{name} must be {wanted}, got {value!r}")


def _flat(x: Any) -> Any:
    """An array as (B, numbers of a sample)."""
    return x.reshape(len(x), -1)


def _beside(values: Any, like: Any) -> Any:
    """One number per sample, (B,), as an array (B, 1, …)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
