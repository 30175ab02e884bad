"""Jobs of a comparison: its runs, and the batches that are drawn for each of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dpmsolver.errors import PlanError
from dpmsolver.evaluation.samplers import Sampler
from dpmsolver.evaluation.tape import Tape
from dpmsolver.models.testbeds import Testbed
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.plan import Plan

__all__ = ["Item", "Job", "Run", "Start", "can_spend_any", "table_sum"]


@dataclass(frozen=True)
class Run:
    """A sampler with a setting: one point of its curve.

    Args:
        setting: the budget of network evaluations, or the tolerance of a sampler that chooses its own steps.
        end: the time at which the run ends.
        cost: network evaluations per sample; an estimate for a sampler that chooses its own steps.
        plan: the plan of a sampler that has one.
    """

    sampler: Sampler
    setting: float
    end: float
    stochastic: bool
    cost: int
    plan: Plan | None = None

    @property
    def key(self) -> str:
        """The name in the store: the name of the sampler and a sum of its table, so that batches of another table are not reused."""
        return self.sampler.name if self.plan is None else f"{self.sampler.name} {table_sum(self.plan)}"


@dataclass(frozen=True)
class Start:
    """The start of a batch: the same for every run, except for the denoiser, which counts the evaluations and keeps their outputs.

    Args:
        part: the numbers of the samples. labels: their classes, if there are any. tape: what keeps the outputs of the network, if it does.
    """

    part: range
    labels: list[int] | None
    denoiser: Denoiser
    x_T: Any
    tape: Tape | None


@dataclass(frozen=True)
class Item:
    """Samples 0 … num - 1 of a run.

    Args:
        run: the name in the store. evaluations: those of one sample. title: the name for people. draw: the function that draws a batch.
    """

    run: str
    setting: float
    num: int
    evaluations: int
    title: str
    draw: Callable[[Start], None]


@dataclass(frozen=True)
class Job:
    """A batch of an item.

    Args:
        part: the numbers of the samples. kept: the evaluations that are on the batch's tape.
    """

    item: Item
    part: range
    kept: int

    @property
    def cost(self) -> int:
        """Evaluations of one sample each that are still to be made."""
        return max(self.item.evaluations - self.kept, 0) * len(self.part)

    @property
    def what(self) -> str:
        """The batch in words."""
        return f"{self.item.title}, samples from {self.part.start}"


def table_sum(*plans: Plan) -> str:
    """Return a checksum of the numbers of some plans, whatever their provenance."""
    tables = [replace(plan, solver="", schedule="", grid="", options={}).to_json() for plan in plans]
    return f"{zlib.crc32(''.join(tables).encode()):08x}"


def can_spend_any(sampler: Sampler, testbed: Testbed) -> bool:
    """Return True if a sampler can spend some budget up to 40; if it cannot, the budget is not what is wrong."""
    if sampler.plan is None:
        return True
    for nfe in range(1, 41):
        try:
            sampler.plan(testbed.schedule, nfe, testbed.predicts)
        except PlanError:
            continue
        return True
    return False
