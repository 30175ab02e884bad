"""Grids of rectified flow: a uniform grid shifted towards the noise, by a fixed amount or by one that depends on the size of the image."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from dpmsolver.errors import PlanError, unknown
from dpmsolver.grids.ends import pinned
from dpmsolver.option import Option, takes
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["dynamic_shift", "shifted"]


@takes(Option("shift", "a number", "above 1 the steps are dense at the noisy end"))
def shifted(schedule: NoiseSchedule, steps: int, start: float, end: float, shift: float = 3.0) -> Floats:
    """Return a uniform grid after the flow shift t -> shift t / (1 + (shift - 1) t), for times in [0, 1] (Esser et al. 2024, eq. 23).

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> shifted(Flow(), 4, 1.0, 0.0).round(3)
        array([1.  , 0.9 , 0.75, 0.5 , 0.  ])
    """
    if not shift > 0 or max(start, end) > 1:
        raise PlanError(
            f"the shifted grid needs shift > 0 and times in [0, 1], got shift={shift}, start={start}, end={end}"
        )
    first, last = (t / (shift - (shift - 1.0) * t) for t in (start, end))
    even = np.linspace(first, last, steps + 1)
    return pinned(shift * even / (1.0 + (shift - 1.0) * even), start, end)


@takes(
    Option("image_seq_len", "a number", "tokens of one image"),
    Option("mu", "a number", "the shift itself, in place of the line over the tokens", or_none=True),
    Option("base_seq_len", "a number", "the tokens at which mu is base_shift"),
    Option("max_seq_len", "a number", "the tokens at which mu is max_shift"),
    Option("base_shift", "a number", "mu of few tokens"),
    Option("max_shift", "a number", "mu of many tokens"),
    Option("kind", "a word", "'exponential': shift by exp(mu), 'linear': by mu"),
)
def dynamic_shift(
    schedule: NoiseSchedule,
    steps: int,
    start: float,
    end: float,
    image_seq_len: float = 4096,
    mu: float | None = None,
    base_seq_len: float = 256,
    max_seq_len: float = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
    kind: Literal["exponential", "linear"] = "exponential",
) -> Floats:
    """Return a uniform grid after a flow shift by exp(mu), where mu grows with the number of tokens of the image, for times in [0, 1].

    Flux and SD3.5 use it. mu is base_shift at base_seq_len tokens and max_shift at max_seq_len, and linear in the number of tokens. The
    defaults are the models' own. On `Flow()` the times are the noise levels sigma; a shift of the schedule would be applied in addition.

    Args:
        image_seq_len: the number of tokens of one image, for Flux height/16 * width/16. The default is that of 1024 by 1024 pixels.
        mu: the value of mu, in place of the linear rule.
        kind: "exponential" shifts by exp(mu); "linear" shifts by mu, which must be positive.

    Raises:
        PlanError: the kind is unknown, lengths are not positive or are equal, the shift is not positive, or times are above 1.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> dynamic_shift(Flow(), 4, 1.0, 0.0, image_seq_len=1024).round(4)
        array([1.    , 0.8492, 0.6525, 0.3849, 0.    ])

    Source: the resolution-dependent shift of Esser et al. 2024 (arXiv 2403.03206, section 5.3.2), with the line for its logarithm that
    Flux's published sampling code introduced.
    """
    if kind not in ("exponential", "linear"):
        raise PlanError(unknown("kind", kind, ("exponential", "linear")))
    if mu is None:
        if not (image_seq_len > 0 and base_seq_len > 0 and max_seq_len > 0 and base_seq_len != max_seq_len):
            raise PlanError(
                "image_seq_len, base_seq_len and max_seq_len must be positive, and the last two must differ, "
                f"got {image_seq_len}, {base_seq_len}, {max_seq_len}"
            )
        mu = base_shift + (max_shift - base_shift) * (image_seq_len - base_seq_len) / (max_seq_len - base_seq_len)
    return shifted(schedule, steps, start, end, shift=math.exp(mu) if kind == "exponential" else mu)
