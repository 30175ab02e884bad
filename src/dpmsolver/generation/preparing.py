"""The preparation of a run: the plan, the batch, the fingerprint of the network, and all checks that can be made before drawing."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator

import numpy as np

from dpmsolver.errors import ConventionWarning
from dpmsolver.generation.devices import environment, free_memory, is_out_of_memory, set_threads, synchronize
from dpmsolver.generation.formats import format_of
from dpmsolver.generation.job import Job, Prepared
from dpmsolver.generation.pictures import to_pixels
from dpmsolver.generation.sources import Source, load_source
from dpmsolver.generation.statistics import eyes_of
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.runs import sample
from dpmsolver.solvers import make_plan

__all__ = ["prepare", "probed", "sizes"]

_FIRST = 8  # the batch that is tried first
_GAIN = 1.05  # of the rate, that a larger batch has to bring
_PATIENCE = 20.0  # seconds for one trial, after which no larger batch is tried


def prepare(job: Job, source: Source | None = None) -> Prepared:
    """Load the model of a job where it will run, and determine what the job leaves open.

    Raises:
        ValueError, PlanError: parts of the job do not fit together. MemoryError: one sample is too large. ImportError: a package is
            missing.
    """
    source = source or load_source(job)
    set_threads(job.threads)
    source.check()
    kept = format_of(job.format, source.pictures)
    kept.check(source.pictures, job.seeds.size)
    plan = Plan.from_json(job.plan) if job.plan else _plan(job, source)
    _check_plan(plan, source)
    batch = job.batch or _found(source)
    probe = probed(source, batch, batch)
    one = source.on_host(_end(source, [source.job.seeds.ranges[0].start], decoded=not kept.floats))
    stored = to_pixels(one) if source.pictures and not kept.floats else one
    eyes = eyes_of(source, job.features, stored.shape[1:])
    return Prepared(
        network=source.fingerprint(),
        plan=plan.to_json(),
        batch=batch,
        probe=probe,
        classes=source.num_classes,
        format=kept.name,
        shape=tuple(stored.shape[1:]),
        pictures=source.pictures,
        features="none" if eyes is None else eyes.name,
        environment=environment(source.testbed.like),
    )


def _plan(job: Job, source: Source) -> Plan:
    solver, nfe, grid = job.wanted
    assert nfe is not None
    return make_plan(solver, source.testbed.schedule, nfe, grid, predicts=source.denoiser([0]).predicts)


def _check_plan(plan: Plan, source: Source) -> None:
    """Begin a run of the plan, as far as it goes without the network: it tells what does not fit."""
    from dpmsolver.sampling.execution import Run

    seeds = [source.job.seeds.ranges[0].start]
    Run(source.denoiser(seeds), source.start(seeds), plan, seeds, source.job.noise, None)


def _end(source: Source, seeds: list[int], decoded: bool = False) -> object:
    """Where two evaluations lead: as much work as two of any plan's, and samples of the right kind."""
    plan = make_plan("ddim", source.testbed.schedule, 2, predicts=source.denoiser(seeds).predicts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConventionWarning)
        x = sample(source.denoiser(seeds), source.start(seeds), plan=plan)
    return source.decode(x) if decoded and source.decode is not None else x


def probed(source: Source, batch: int, parts: int) -> str:
    """Return a sum of the outputs of two evaluations of the first chunk of a run, evaluated in parts: equal sums mean equal bits."""
    start = source.job.seeds.first * source.job.seeds.size
    total = hashlib.sha256()
    for at in range(start, start + batch, parts):
        drawn = source.on_host(_end(source, list(range(at, min(at + parts, start + batch)))))
        total.update(np.ascontiguousarray(drawn).tobytes())
    return total.hexdigest()


def sizes(shard: int, most: int | None = None) -> list[int]:
    """Return batch sizes that divide a shard, ascending, each at least twice the one before.

    Examples:
        >>> sizes(1000)
        [1, 2, 4, 8, 20, 40, 100, 200, 500, 1000]
        >>> sizes(1000, most=64)
        [1, 2, 4, 8, 20, 40]
    """
    found: list[int] = []
    for size in range(1, min(shard, most or shard) + 1):
        if shard % size == 0 and size >= 2 * (found[-1] if found else 0):
            found.append(size)
    return found


def _found(source: Source) -> int:
    """The smallest batch that is about as fast as any, by trying."""
    seeds = source.job.seeds
    candidates = sizes(seeds.size, max(1, min(seeds.size, len(seeds))))
    first = max((size for size in candidates if size <= _FIRST), default=1)
    smaller = [size for size in candidates if size < first]
    best, fastest = 0, 0.0
    for size, seconds in _trials(source, [size for size in candidates if size >= first]):
        rate = size / seconds
        if best and rate < _GAIN * fastest:
            break
        best, fastest = size, rate
        if seconds > _PATIENCE:
            break
    if not best:
        best = next((size for size, _ in _trials(source, smaller[::-1], all_of_them=True)), 0)
    if not best:
        raise MemoryError(
            "memory is too short for a single sample (a batch of 1): take a smaller model or another device"
        )
    return best


def _trials(source: Source, candidates: list[int], *, all_of_them: bool = False) -> Iterator[tuple[int, float]]:
    """Batches with the seconds that two evaluations take, until memory is short; all_of_them: also after that."""
    start, warm = source.job.seeds.first * source.job.seeds.size, False
    for size in candidates:
        chunk = list(range(start, start + size))
        try:
            if not warm:
                _end(source, chunk)  # the first call compiles, and loads libraries
                warm = True
            synchronize(source.testbed.like)
            begin = time.perf_counter()
            _end(source, chunk)
            synchronize(source.testbed.like)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            if all_of_them:
                continue
            return
        yield size, max(time.perf_counter() - begin, 1e-9)
