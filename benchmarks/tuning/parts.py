"""Parts: what is measured of which cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.tuning import ablation, gain, quality, special, stability, transfer
from benchmarks.tuning.cases import CASES

__all__ = ["PARTS", "run"]

_EVERY = tuple(case.name for case in CASES)
PARTS: dict[str, tuple[Callable[..., None], Sequence[str]]] = {
    "gain": (gain.measure, _EVERY),
    "ablation": (ablation.measure, ("mixture-16", "moons-flow", "cifar10-mixture", "digits")),
    "special": (special.measure, ("mixture-16", "moons-linear", "cifar10-mixture")),
    "stability": (stability.measure, tuple(stability.COUNTS)),
    "transfer": (transfer.measure, transfer.SHARED[::-1]),
    "quality": (quality.measure, tuple(case.name for case in CASES if case.pictures)),
}


def run(part: str, only: str = "", nfes: Sequence[int] = (), device: str | None = None) -> None:
    """Measure the cases of a part whose name a regular expression finds, at some budgets or all, with networks on a device."""
    measure, names = PARTS[part]
    by_name = {case.name: case for case in CASES}
    for name in names:
        if re.search(only, name):
            print(f"{part}: {name}", flush=True)
            measure(replace(by_name[name], device=device), nfes or ())
