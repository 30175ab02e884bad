"""The preparation of a run: the plan, the batch, the fingerprint of the network, and all checks that can be made before drawing."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator

import numpy as np

from dpmsolver.brief import one_line
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

__all__ = ["loaded", "prepare", "probed", "sizes"]

_FIRST = 8  # the batch that is tried first
_GAIN = 1.05  # of the rate, that a larger batch has to bring
_PATIENCE = 20.0  # seconds for one trial, after which no larger batch is tried
# Seconds: whatever else runs may disturb a trial below `_SHORT`; one of `_LONG` is measured once, shorter ones up to `_REPEATS` times.
_SHORT, _LONG = 0.05, 0.3
_REPEATS = 5
_NOT_ONE = "memory is too short for a single sample (a batch of 1): take a smaller model or another device"


def prepare(job: Job, source: Source | None = None) -> Prepared:
    """Load the model of a job where it will run, and determine what the job leaves open.

    Raises:
        ValueError, PlanError: parts of the job do not fit together. MemoryError: one sample is too large. ImportError: a package is
            missing.
    """
    source = source or loaded(job)
    job = source.job
    set_threads(job.threads)
    source.check()
    kept = format_of(job.format, source.pictures)
    kept.check(source.pictures, job.seeds.size)
    plan = Plan.from_json(job.plan) if job.plan else _plan(job, source)
    _check_plan(plan, source)
    batch = job.batch or _found(source)
    try:
        probe = probed(source, batch, batch)
        one = source.on_host(_end(source, [job.seeds.ranges[0].start]))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            _NOT_ONE
            if batch == 1
            else f"memory is too short for a batch of {batch} ({one_line(error, 120)}): free some, or take a smaller batch, "
            "and another folder if a run has begun in this one"
        ) from error
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


def loaded(job: Job) -> Source:
    """Load the source of a job. If it is compiled and its batch is not known, find the batch first, and load it again.

    A compiled network remembers the sizes of its trials, fills smaller batches up to the largest, and so would give this worker other bits
    than the others.
    """
    source = load_source(job)
    if not job.compiled or job.batch:
        return source
    import torch

    set_threads(job.threads)
    source.check()
    found = job.replace(batch=_found(source))
    torch.compiler.reset()
    return load_source(found)


def _plan(job: Job, source: Source) -> Plan:
    solver, nfe, grid = job.wanted
    assert nfe is not None
    return make_plan(solver, source.testbed.schedule, nfe, grid, predicts=source.denoiser([0]).predicts)


def _check_plan(plan: Plan, source: Source) -> None:
    """Raise ValueError if the plan does not fit the source, by beginning a run as far as it goes without the network."""
    from dpmsolver.sampling.execution import Run

    seeds = [source.job.seeds.ranges[0].start]
    Run(source.denoiser(seeds), source.start(seeds), plan, seeds, source.job.noise, None)


def _end(source: Source, seeds: list[int]) -> object:
    """Return the result of two evaluations, decoded as samples are: as much work as two of any plan, and samples of the right kind."""
    plan = make_plan("ddim", source.testbed.schedule, 2, predicts=source.denoiser(seeds).predicts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConventionWarning)
        x = sample(source.denoiser(seeds), source.start(seeds), plan=plan)
    return source.finished(x)


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
    """Return the smallest batch that is about as fast as any, found by trial."""
    seeds = source.job.seeds
    candidates = sizes(seeds.size, max(1, min(seeds.size, len(seeds))))
    first = max((size for size in candidates if size <= _FIRST), default=1)
    smaller = [size for size in candidates if size < first]
    rates: dict[int, float] = {}
    fastest, idle = 0.0, 0
    for size, seconds in _trials(source, [size for size in candidates if size >= first]):
        rates[size] = size / seconds
        # A short trial is disturbed by whatever else runs, and costs nothing: only longer ones without a gain end the search, two or one.
        idle = 0 if rates[size] >= _GAIN * fastest else idle + (seconds > _SHORT)
        fastest = max(fastest, rates[size])
        if idle > (seconds < _LONG) or seconds > _PATIENCE:
            break
    if rates:
        return next(size for size, rate in rates.items() if rate * _GAIN >= fastest)
    best = next((size for size, _ in _trials(source, smaller[::-1], all_of_them=True)), 0)
    if not best:
        raise MemoryError(_NOT_ONE)
    return best


def _trials(source: Source, candidates: list[int], *, all_of_them: bool = False) -> Iterator[tuple[int, float]]:
    """Yield each batch with the seconds of two evaluations, until memory is short.

    Args:
        all_of_them: go on with smaller batches when memory is short.
    """
    start = source.job.seeds.first * source.job.seeds.size
    for size in candidates:
        chunk = list(range(start, start + size))
        try:
            _end(source, chunk)  # the first call of a size compiles, loads libraries and chooses kernels
            seconds = [_timed(source, chunk)]
            while len(seconds) < _REPEATS and sum(seconds) < _LONG:
                seconds.append(_timed(source, chunk))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            if all_of_them:
                continue
            return
        yield size, max(min(seconds), 1e-9)


def _timed(source: Source, chunk: list[int]) -> float:
    """Return the seconds of two evaluations."""
    synchronize(source.testbed.like)
    begin = time.perf_counter()
    _end(source, chunk)
    synchronize(source.testbed.like)
    return time.perf_counter() - begin
