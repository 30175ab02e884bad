"""Compare samplers: all of them start from the same noise, every network evaluation is counted, and every figure has a confidence interval.

An interrupted comparison resumes from its folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.evaluation.distances import trajectory_error
from dpmsolver.evaluation.jobs import Item, Job, Run, Start, can_spend_any, table_sum
from dpmsolver.evaluation.measures import Measure, Observation, host, measures_of
from dpmsolver.evaluation.reference import REFERENCE_NFE, REFERENCE_SOLVER, Reference
from dpmsolver.evaluation.samplers import Counter, Sampler, rewired
from dpmsolver.evaluation.store import Arrays, Store
from dpmsolver.evaluation.tape import Tape
from dpmsolver.host import to_host
from dpmsolver.models.testbeds import Testbed
from dpmsolver.networks.fingerprint import fingerprint
from dpmsolver.sampling.runs import sample
from dpmsolver.solvers.registry import make_plan

__all__ = ["CHECKED", "EXACT_DRAWS", "HALVED", "REFERENCE", "Comparison"]

REFERENCE, HALVED = "reference", "reference, halved"  # the names that the converged runs have in the store
EXACT_DRAWS = "exact draws"  # the name in the store of draws of the data's law itself
_EXACT_SEED = 2  # of those draws
CHECKED = 50  # samples that the error of the converged run is measured on
_BATCH = 100
_FEWEST, _FEW = 10, 4  # samples of a batch at least, and of one that is timed
_EVALUATION = 1.0  # seconds that an evaluation of a batch may take, where nothing is said of the batch
_SHORT = 3.0  # seconds of a batch of which nothing is kept before it is whole
_PICTURES, _POINTS = 16, 1000  # samples that a report shows: pictures side by side, points of a plane in one picture

Progress = Callable[[int, int, str], object]  # evaluations done, evaluations in all, what is being drawn


@dataclass
class Comparison:
    """A comparison of samplers on a testbed.

    Args:
        testbed: the testbed: see `dpmsolver.models.testbeds`.
        samplers: the samplers, with different names: see `samplers_from_names`.
        nfes: budgets of network evaluations. A budget that a sampler cannot spend is left out for it, and the report says why.
        num: the number of samples of each run. Sample i starts from the same noise in all runs.
        seed: the seed of the noise.
        folder: the folder in which batches are stored. The same comparison resumes from it, even within a batch. Samplers, budgets and
            samples may be added later, and the batch size may change.
        batch: the number of samples that are drawn at once. None takes 100, or fewer on a CPU, down to 10, if 100 take long.
        reference_nfe, reference_solver: the budget and the solver of the converged run with which results are compared.
        resamples: the number of bootstrap resamples for an interval, and a tenth of it for Frechet distances of more than 256 features.

    Raises:
        ValueError: names are not unique, budgets or counts are not positive integers, no run is possible, or the folder belongs to another
            comparison or to other weights under the same name.
        PlanError: a solver, a grid or an option is unknown. It is raised before the first evaluation.

    Examples:
        >>> import tempfile
        >>> from dpmsolver.evaluation.samplers import samplers_from_names
        >>> from dpmsolver.models.testbeds import load_testbed
        >>> samplers = samplers_from_names(["ddim", "dpm++2m"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     comparison = Comparison(load_testbed("gaussian"), samplers, [5, 10], num=20, folder=folder)
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
    batch: int | None = None
    reference_nfe: int = REFERENCE_NFE
    reference_solver: str = REFERENCE_SOLVER
    resamples: int = 200
    network: str | None = field(init=False)  # the fingerprint of its weights
    runs: list[Run] = field(init=False)
    skipped: list[tuple[str, float, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        self.reference = Reference(self.testbed, self.reference_nfe, self.reference_solver)
        self.measures: tuple[Measure, ...] = measures_of(self.testbed)
        self.runs, self.skipped = self._runs()
        self._exact_draws: NDArray[np.float64] | None = None
        self._pace: float | None = None  # seconds of an evaluation of one sample in the batch before
        if not self.runs:
            raise ValueError(f"none of the samplers can spend any of nfe={list(self.nfes)}: {self.skipped[0][2]}")
        denoiser = self.testbed.denoiser(self.testbed.labels(range(1)))
        self.network = fingerprint((denoiser.network, denoiser.guidance))
        made_with = {
            "testbed": self.testbed.name,
            "shape": list(self.testbed.shape),
            "seed": self.seed,
            "schedule": repr(self.testbed.schedule),
            "predicts": self.testbed.predicts,
            "reference": self.reference.description,
            "reference_table": None if self.reference.exact else table_sum(*self.reference.plans(0.0)),
            "bfloat16": self.testbed.bfloat16,
            "network": self.network,
            "features": fingerprint(self.testbed.features),
        }
        self.store = Store(Path(self.folder), made_with)

    def _check(self) -> None:
        names = [sampler.name for sampler in self.samplers]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"samplers must be at least one, with names of their own, got {names}")
        if {REFERENCE, HALVED} & {*names}:
            raise ValueError(f"{REFERENCE!r} is the name of the converged run: name the sampler differently")
        if EXACT_DRAWS in names:
            raise ValueError(f"{EXACT_DRAWS!r} is the name of draws of the data's law: name the sampler differently")
        for name, value in (
            ("num", self.num),
            ("batch", 1 if self.batch is None else self.batch),
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
                    plan = sampler.plan and sampler.plan(self.testbed.schedule, int(setting), self.testbed.predicts)
                    end = plan.end.time if plan else sampler.end_time(self.testbed.schedule, setting)
                except PlanError as error:
                    if not can_spend_any(sampler, self.testbed):
                        raise
                    skipped.append((sampler.name, setting, str(error)))
                    continue
                cost = 50 if sampler.plan is None and sampler.settings is not None else int(setting)
                stochastic = plan.stochastic if plan else sampler.stochastic
                runs.append(Run(sampler, setting, end, stochastic, cost, plan))
        return runs, skipped

    @property
    def ends(self) -> list[float]:
        """The times to which the converged run is followed."""
        return sorted({run.end for run in self.runs if not run.stochastic}, reverse=True)

    def draw(self, progress: Progress | None = None) -> None:
        """Draw the samples that are not yet stored. The call may be interrupted at any moment and repeated.

        Args:
            progress: a function (done, total, what), called before each batch, after each network evaluation, and at the end. The numbers
                are evaluations of one sample. The total is constant; for samplers that choose their own steps it contains an estimate.
        """
        jobs = self._missing()
        total, done = sum(job.cost for job in jobs), 0
        for job in jobs:

            def told(calls: int, job: Job = job, before: int = done) -> None:
                if progress is not None:
                    progress(before + min(max(calls - job.kept, 0) * len(job.part), job.cost), total, job.what)

            told(0)
            self._draw(job, told)
            done += job.cost
        if progress is not None:
            progress(total, total, "done")

    def evaluations(self, *, missing: bool = False) -> int:
        """Return the number of evaluations of one sample, in all or missing ones; an estimate for samplers that choose their own steps."""
        return sum(
            item.evaluations * max(item.num - (self.store.reach(item.run, item.setting) if missing else 0), 0)
            for item in self._items()
        )

    @property
    def shown(self) -> int:
        """The number of samples that are kept for the pictures of a report."""
        return _PICTURES if self.testbed.pictures else _POINTS if self.testbed.shape == (2,) else 0

    @property
    def has_floor(self) -> bool:
        """True if exact draws of the data, as many as the samples, show the smallest possible Frechet distance."""
        return self.testbed.data is not None and any(measure.key == "frechet" for measure in self.measures)

    def _items(self) -> Iterator[Item]:
        """What is drawn, in the order in which each batch needs it."""
        for end in self.ends:
            yield Item(
                REFERENCE, end, self.num, self.reference_cost(end), "the reference", partial(self._draw_reference, end)
            )
        if self.ends and not self.reference.exact:
            evaluations = max(1, self.reference_nfe // 2)
            what = "the error of the reference"
            yield Item(HALVED, self.ends[0], min(self.num, CHECKED), evaluations, what, self._draw_halved)
        if self.has_floor:
            # Draws depend on how many are made at once: another number is another set.
            yield Item(EXACT_DRAWS, float(self.num), self.num, 0, "exact draws of the data", self._draw_exactly)
        for run in self.runs:
            name = f"{run.sampler.name} with {run.setting:g}"
            yield Item(run.key, run.setting, self.num, run.cost, name, partial(self._draw_run, run))

    def _missing(self) -> list[Job]:
        """What is not stored, batch by batch: all runs have a batch before any has the next. A batch that was begun ends as it began."""
        items = list(self._items())
        reached = [self.store.reach(item.run, item.setting) for item in items]
        begun = [{part.start: part for part in self.store.begun(item.run, item.setting)} for item in items]
        if all(at >= item.num for item, at in zip(items, reached, strict=True)):
            return []
        batch, jobs = self._batch_size(), []
        for goal in range(batch, self.num + batch, batch):
            for index, item in enumerate(items):
                while (at := reached[index]) < min(goal, item.num):
                    part = begun[index].get(at, range(0))
                    if not at < part.stop <= item.num:
                        part = range(at, min(goal, item.num))
                    kept = Tape(self.store.record(item.run, item.setting, part), self.testbed.like).kept
                    jobs.append(Job(item, part, kept))
                    reached[index] = part.stop
        return jobs

    def _batch_size(self) -> int:
        """Samples that are drawn at once; by default fewer where each takes long, apart from what every call costs."""
        if self.batch is not None:
            return self.batch
        if str(getattr(self.testbed.like, "device", "cpu")) != "cpu":
            return _BATCH
        try:
            one, few = self._seconds(1), self._seconds(_FEW)
        except (PlanError, SamplingError):  # a network that fails is told of where it is drawn
            return _BATCH
        each = max((few - one) / (_FEW - 1), 1e-9)
        return min(max(_FEWEST, int(_EVALUATION / each)), _BATCH)

    def _seconds(self, num: int) -> float:
        """What an evaluation of so many samples takes: the shorter of two, as the first may have to prepare things."""
        part = range(num)
        denoiser, x_T = self.testbed.denoiser(self.testbed.labels(part)), self.testbed.initial_noise(part, self.seed)
        plan, seconds = make_plan("ddim", self.testbed.schedule, 1, predicts=self.testbed.predicts), math.inf
        for _ in range(2):
            begin = time.perf_counter()
            sample(denoiser, x_T, plan=plan)
            seconds = min(seconds, time.perf_counter() - begin)
        return seconds

    def reference_cost(self, end: float) -> int:
        """Evaluations of a converged run to an end, for each sample. One to sigma = 0 resumes from the one before it, if that is wanted."""
        resumes = end == 0.0 and not self.reference.exact and self.reference.last_time in self.ends
        return 1 if resumes else self.reference.cost(end)

    def _draw(self, job: Job, told: Callable[[int], None]) -> None:
        """Draw a batch. What the network says is kept on the way, unless the batch is drawn again in a moment."""
        part, item = job.part, job.item
        labels = self.testbed.labels(part)
        denoiser, tape = self.testbed.denoiser(labels), None
        if job.kept or self._pace is None or self._pace * job.cost > _SHORT:
            tape = Tape(self.store.record(item.run, item.setting, part), self.testbed.like)
            denoiser = rewired(denoiser, partial(tape, denoiser.network))
        denoiser = Counter(seen=told).counted(denoiser)
        begin = time.perf_counter()
        try:
            item.draw(Start(part, labels, denoiser, self.testbed.initial_noise(part, self.seed), tape))
        except BaseException:
            if tape is not None:
                tape.write()
            raise
        if job.cost:
            self._pace = (time.perf_counter() - begin) / job.cost

    def _draw_reference(self, end: float, start: Start) -> None:
        part, x_T = start.part, start.x_T
        last = self.reference.last_time
        if end == 0.0 and not self.reference.exact and self.store.has(REFERENCE, last, part):
            there = self._stored_reference(last, part)
            samples = self.reference.last_step(start.denoiser, backends.of(x_T).from_numpy(there, x_T))
        else:
            samples = self.reference.end_states(start.denoiser, x_T, end)
        self._keep(REFERENCE, end, start, samples, {"samples": host(samples).astype(self._precision)})

    def _stored_reference(self, end: float, part: range) -> NDArray[np.float64]:
        pieces = [piece["samples"] for piece in self.store.read(REFERENCE, end, part)]
        return np.concatenate(pieces).astype(np.float64)

    def _draw_exactly(self, start: Start) -> None:
        """Draws of the data's law itself: even they have a Frechet distance to it, for their number is finite."""
        if self._exact_draws is None:
            assert self.testbed.data is not None
            self._exact_draws = self.testbed.data(self.num, _EXACT_SEED)
        drawn = self._exact_draws[start.part.start : start.part.stop]
        self._keep(EXACT_DRAWS, float(self.num), start, backends.of(start.x_T).from_numpy(drawn, start.x_T), {})

    def _draw_halved(self, start: Start) -> None:
        """The converged run with half the evaluations: how far it is from the whole bounds the error of the whole."""
        halved = replace(self.reference, nfe=max(1, self.reference_nfe // 2))
        samples = halved.end_states(start.denoiser, start.x_T, self.ends[0])
        error = trajectory_error(host(samples), self._stored_reference(self.ends[0], start.part))
        self.store.write(HALVED, self.ends[0], start.part, {"error": error})

    def _draw_run(self, run: Run, start: Start) -> None:
        name, part = run.key, start.part
        counter, begin = Counter(), time.perf_counter()
        try:
            keys = self.testbed.keys(part, self.seed)
            samples = run.sampler.draw(counter.counted(start.denoiser), start.x_T, run.setting, keys)
            if not np.isfinite(host(samples)).all():
                raise SamplingError(f"{name} ended with samples that are not finite")
        except SamplingError as error:
            self.store.write(name, run.setting, part, {"failed": np.array(str(error))})
            return
        seconds = time.perf_counter() - begin + (start.tape.seconds if start.tape is not None else 0.0)
        extra = {"evaluations": np.array(counter.calls), "seconds": np.array(seconds)}
        reference = None if run.stochastic else self._stored_reference(run.end, part)
        self._keep(name, run.setting, start, samples, extra, reference)

    def _keep(
        self,
        name: str,
        setting: float,
        start: Start,
        samples: Any,
        extra: Arrays,
        reference: Any = None,
    ) -> None:
        seen = Observation(self.testbed, samples, start.labels, reference)
        arrays = dict(extra)
        for measure in self.measures:
            if measure.keeps not in arrays and (rows := measure.rows(seen)) is not None:
                arrays[measure.keeps] = rows
        shown = host(samples[: max(0, self.shown - start.part.start)])
        if len(shown):
            arrays["shown"] = shown.astype(np.float32)
        self.store.write(name, setting, start.part, arrays)

    @property
    def _precision(self) -> Any:
        return to_host(self.testbed.like).dtype
