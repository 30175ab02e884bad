"""Compare samplers: the same noise for all of them, every evaluation counted, every figure with its interval, resumed where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpmsolver import backends
from dpmsolver.denoiser import Denoiser
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.evaluation.distances import trajectory_error
from dpmsolver.evaluation.measures import Measure, Observation, host, measures_of
from dpmsolver.evaluation.reference import REFERENCE_NFE, REFERENCE_SOLVER, Reference
from dpmsolver.evaluation.samplers import Counter, Sampler
from dpmsolver.evaluation.store import Arrays, Store
from dpmsolver.models.testbeds import Testbed

__all__ = ["HALVED", "REFERENCE", "Comparison", "Run"]

REFERENCE, HALVED = "reference", "reference, halved"  # the names that the converged runs have in the store
_PICTURES, _POINTS = 16, 1000  # samples that a report shows: pictures side by side, points of a plane in one picture

Progress = Callable[[int, int, str], object]  # evaluations done, evaluations in all, what is being drawn


@dataclass(frozen=True)
class Run:
    """A sampler with a setting: one point of its curve."""

    sampler: Sampler
    setting: float
    end: float
    stochastic: bool
    cost: int  # network evaluations per sample, a guess for those that choose their own steps


@dataclass
class Comparison:
    """A comparison of samplers on a testbed.

    Args:
        testbed: see `dpmsolver.models.testbeds`.
        samplers: with different names, see `samplers_from_names`.
        nfes: budgets of network evaluations. A sampler that cannot spend one is left out there, and the report says why.
        num: samples of each run. Sample i starts from the same noise in all of them.
        seed: of the noise.
        folder: where batches are stored. The same comparison resumes from it; more samplers, budgets or samples may be added later.
        batch: samples that are drawn at once.
        reference_nfe, reference_solver: of the converged run that errors are measured against.
        resamples: how often samples are drawn anew for an interval.

    Raises:
        ValueError: names that are not unique, budgets or counts that are not positive integers, nothing that can be run, a folder of
            another comparison. PlanError: a solver, grid or option that there is not. All before the first evaluation.

    Examples:
        >>> import tempfile
        >>> from dpmsolver.evaluation.samplers import samplers_from_names
        >>> from dpmsolver.models.testbeds import load_testbed
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     comparison = Comparison(load_testbed("gaussian"), samplers_from_names(["ddim", "dpm++2m"]), [5, 10], num=20, folder=folder)
        ...     comparison.draw()
        >>> [(run.sampler.name, run.setting) for run in comparison.runs]
        [('ddim', 5), ('ddim', 10), ('dpm++2m', 5), ('dpm++2m', 10)]
    """

    testbed: Testbed
    samplers: Sequence[Sampler]
    nfes: Sequence[int]
    num: int = 2000
    seed: int = 0
    folder: str | Path = "comparison"
    batch: int = 100
    reference_nfe: int = REFERENCE_NFE
    reference_solver: str = REFERENCE_SOLVER
    resamples: int = 200
    runs: list[Run] = field(init=False)
    skipped: list[tuple[str, float, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        self.reference = Reference(self.testbed, self.reference_nfe, self.reference_solver)
        self.measures: tuple[Measure, ...] = measures_of(self.testbed)
        self.runs, self.skipped = self._runs()
        if not self.runs:
            raise ValueError(f"none of the samplers can spend any of nfe={list(self.nfes)}: {self.skipped[0][2]}")
        made_with = {
            "testbed": self.testbed.name,
            "shape": list(self.testbed.shape),
            "seed": self.seed,
            "reference": self.reference.description,
            "bfloat16": self.testbed.bfloat16,
        }
        self.store = Store(Path(self.folder), made_with)

    def _check(self) -> None:
        names = [sampler.name for sampler in self.samplers]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"samplers must be at least one, with names of their own, got {names}")
        if {REFERENCE, HALVED} & {*names}:
            raise ValueError(f"{REFERENCE!r} is the name of the converged run: name the sampler differently")
        for name, value in (
            ("num", self.num),
            ("batch", self.batch),
            ("reference_nfe", self.reference_nfe),
            ("resamples", self.resamples),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if self.num < 2:
            raise ValueError("num must be at least 2: an interval needs two samples")
        if not self.nfes or len(set(self.nfes)) < len(self.nfes):
            raise ValueError(f"nfe must be at least one budget, each once, got {list(self.nfes)}")

    def _runs(self) -> tuple[list[Run], list[tuple[str, float, str]]]:
        """What can be run, and what cannot, with the reason."""
        runs, skipped = [], []
        for sampler in self.samplers:
            for setting in sampler.settings or self.nfes:
                try:
                    end = sampler.end_time(self.testbed.schedule, setting)
                except PlanError as error:
                    if not _any_budget(sampler, self.testbed):
                        raise
                    skipped.append((sampler.name, setting, str(error)))
                    continue
                cost = 50 if sampler.plan is None and sampler.settings is not None else int(setting)
                stochastic = sampler.adds_noise(self.testbed.schedule, setting)
                runs.append(Run(sampler, setting, end, stochastic, cost))
        return runs, skipped

    @property
    def ends(self) -> list[float]:
        """The times that converged runs are wanted at."""
        return sorted({run.end for run in self.runs if not run.stochastic}, reverse=True)

    def draw(self, progress: Progress | None = None) -> None:
        """Draw what is not yet stored. It may be stopped at any moment and called again."""
        work = list(self._missing())
        total, done = sum(cost for cost, _, _ in work), 0
        for cost, what, job in work:
            if progress is not None:
                progress(done, total, what)
            job()
            done += cost
        if progress is not None:
            progress(total, total, "done")

    @property
    def shown(self) -> int:
        """The number of samples that are kept for a report to show."""
        return _PICTURES if self.testbed.pictures else _POINTS if self.testbed.shape == (2,) else 0

    @property
    def parts(self) -> list[range]:
        """The batches, as ranges of samples."""
        return [range(first, min(first + self.batch, self.num)) for first in range(0, self.num, self.batch)]

    def _missing(self) -> Iterator[tuple[int, str, Callable[[], None]]]:
        """What is not stored, as (evaluations, what, how to draw it). All runs have a batch before any has the next."""
        for part in self.parts:
            for end in self.ends:
                if not self.store.has(REFERENCE, end, part):
                    cost = self.reference_cost(end) * len(part)
                    yield cost, f"{REFERENCE}, samples from {part.start}", partial(self._draw_reference, part, end)
            if (
                part.start == 0
                and self.ends
                and not self.reference.exact
                and not self.store.has(HALVED, self.ends[0], part)
            ):
                yield (
                    self.reference_nfe // 2 * len(part),
                    "the error of the reference",
                    partial(self._draw_halved, part),
                )
            for run in self.runs:
                if not self.store.has(run.sampler.name, run.setting, part):
                    what = f"{run.sampler.name} with {run.setting:g}, samples from {part.start}"
                    yield run.cost * len(part), what, partial(self._draw_run, part, run)

    def reference_cost(self, end: float) -> int:
        """Evaluations of a converged run to an end, for each sample. One to sigma = 0 goes on from the one before it, if that is wanted."""
        goes_on = end == 0.0 and not self.reference.exact and self.reference.last_time in self.ends
        return 1 if goes_on else self.reference.cost(end)

    def _draw_reference(self, part: range, end: float) -> None:
        labels, denoiser, x_T = self._start(part)
        last = self.reference.last_time
        if end == 0.0 and not self.reference.exact and self.store.has(REFERENCE, last, part):
            there = self.store.read(REFERENCE, last, part)["samples"]
            samples = self.reference.last_step(denoiser, backends.of(x_T).from_numpy(there.astype(np.float64), x_T))
        else:
            samples = self.reference.end_states(denoiser, x_T, end)
        self._keep(REFERENCE, end, part, samples, labels, {"samples": host(samples).astype(self._precision)})

    def _draw_halved(self, part: range) -> None:
        """The converged run with half the evaluations: how far it is from the whole bounds the error of the whole."""
        _, denoiser, x_T = self._start(part)
        halved = replace(self.reference, nfe=max(1, self.reference_nfe // 2)).end_states(denoiser, x_T, self.ends[0])
        whole = self.store.read(REFERENCE, self.ends[0], part)["samples"]
        self.store.write(HALVED, self.ends[0], part, {"error": trajectory_error(host(halved), whole)})

    def _draw_run(self, part: range, run: Run) -> None:
        labels, denoiser, x_T = self._start(part)
        counter, begin = Counter(), time.perf_counter()
        try:
            samples = run.sampler.draw(counter.counted(denoiser), x_T, run.setting, self.testbed.keys(part, self.seed))
            if not np.isfinite(host(samples)).all():
                raise SamplingError(f"{run.sampler.name} ended with samples that are not finite")
        except SamplingError as error:
            self.store.write(run.sampler.name, run.setting, part, {"failed": np.array(str(error))})
            return
        extra = {"evaluations": np.array(counter.calls), "seconds": np.array(time.perf_counter() - begin)}
        reference = None if run.stochastic else self.store.read(REFERENCE, run.end, part)["samples"]
        self._keep(run.sampler.name, run.setting, part, samples, labels, extra, reference)

    def _start(self, part: range) -> tuple[list[int] | None, Denoiser, Any]:
        """Classes, denoiser and noise of a batch: the same for every run."""
        labels = self.testbed.labels(part)
        return labels, self.testbed.denoiser(labels), self.testbed.initial_noise(part, self.seed)

    def _keep(
        self,
        name: str,
        setting: float,
        part: range,
        samples: Any,
        labels: list[int] | None,
        extra: Arrays,
        reference: Any = None,
    ) -> None:
        seen = Observation(self.testbed, samples, labels, reference)
        arrays = dict(extra) | {"size": np.array(len(part))}
        for measure in self.measures:
            if measure.keeps not in arrays and (rows := measure.rows(seen)) is not None:
                arrays[measure.keeps] = rows
        shown = host(samples[: max(0, self.shown - part.start)])
        if len(shown):
            arrays["shown"] = shown.astype(np.float32)
        self.store.write(name, setting, part, arrays)

    @property
    def _precision(self) -> Any:
        return backends.of(self.testbed.like).to_numpy(self.testbed.like).dtype


def _any_budget(sampler: Sampler, testbed: Testbed) -> bool:
    """Whether there is a budget that it can spend; if not, it is not the budget that is wrong."""
    if sampler.plan is None:
        return True
    for nfe in range(1, 41):
        try:
            sampler.plan(testbed.schedule, nfe)
        except PlanError:
            continue
        return True
    return False
