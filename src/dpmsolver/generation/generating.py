"""`generate` draws many samples into a folder, by any engine. An interrupted run resumes by the same call and ends with the same bytes."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpmsolver.brief import one_line
from dpmsolver.errors import ConventionWarning, SamplingError, unknown
from dpmsolver.generation.engines import Engine, EngineName, engine_of
from dpmsolver.generation.formats import FORMATS
from dpmsolver.generation.job import ClassesLike, DtypeName, Job, Prepared
from dpmsolver.generation.manifest import (
    MANIFEST,
    RECORDS,
    SAMPLES,
    STATISTICS,
    Manifest,
    Record,
    digest,
    files_by_shard,
    stem,
    sum_of,
)
from dpmsolver.generation.merging import merge_npz
from dpmsolver.generation.seeds import Seeds, SeedsLike
from dpmsolver.generation.targets import Target, open_target
from dpmsolver.generation.watching import Status, Watcher
from dpmsolver.grids import AnyGrid
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.noise import NoiseName
from dpmsolver.sampling.runs import DEFAULT_SOLVER
from dpmsolver.solvers.names import resolved
from dpmsolver.solvers.registry import SOLVERS
from dpmsolver.solvers.solver import AnySolver

__all__ = ["Generated", "generate"]

_SHARD = 1000
_OWN = (SAMPLES, STATISTICS, RECORDS)  # the folders of a run


@dataclass(frozen=True)
class Generated:
    """The result of a finished run.

    Args:
        out: the folder or URL.
        samples, shards: the numbers of samples and shards.
        drawn: the number of samples that this call drew.
        batch: the number of samples in a batch of the network.
        seconds: the time of drawing.
        redrawn: a sentence for each shard that was found damaged and drawn again.
    """

    out: str
    samples: int
    shards: int
    drawn: int
    batch: int
    seconds: float
    redrawn: tuple[str, ...] = ()


def generate(
    model: Any,
    num: int | None = None,
    nfe: int | None = None,
    *,
    out: str | Path,
    seeds: SeedsLike | None = None,
    solver: AnySolver | None = None,
    grid: AnyGrid | None = None,
    plan: Plan | None = None,
    guidance: float | None = None,
    classes: ClassesLike = "all",
    prompts: Sequence[str] | None = None,
    format: Literal["webdataset", "parquet", "npz", "png", "npy"] | None = None,
    shape: Sequence[int] | None = None,
    shard: int | None = None,
    batch: int | Literal["auto"] = "auto",
    dtype: DtypeName = "float32",
    compile: bool = False,
    device: str | None = None,
    noise: NoiseName = "host",
    features: str = "auto",
    engine: EngineName = "inline",
    workers: int | None = None,
    threads: int = 0,
    address: str | None = None,
    verify: Literal["sha256", "size"] = "sha256",
    progress: Callable[[Status], object] | None = None,
) -> Generated:
    """Draw many samples into a folder, in shards of consecutive seeds. Sample i is seed i, the same bytes on any number of workers.

    The same call resumes an interrupted run: existing shards are verified and skipped, and nothing is drawn twice. `manifest.json` records
    what made the samples, with the sha256 of each shard. The following call draws sample i again, by itself:
    `dpm.sample(denoiser, dpm.initial_noise(schedule, (1, *shape), [i], noise="host", like=…), plan=plan, generator=[i], noise="host")`.

    Args:
        model: a model of `dpmsolver compare` (a name, a folder, a hub id, path/to/file.py:function), a Testbed, or a Denoiser with `shape`.
        num: the number of samples; their seeds are 0 to num - 1.
        nfe: the network evaluations of each sample. Required unless a plan is given.
        out: a folder, or a URL that fsspec knows, such as s3://bucket/folder.
        seeds: in place of num, a range of seeds, several ranges, or text such as "50000-99999".
        solver, grid, plan: as in `sample`.
        guidance: the scale of classifier-free guidance; 1 is none. By default none, and a pipeline's own scale for prompts.
        classes: classes that the seeds take in turn; "all" for all classes of the model; "random" draws one for each seed; None for no
            class.
        prompts: prompts that the seeds take in turn, for a text-to-image pipeline.
        format: see `dpmsolver.generation.formats`; by default webdataset for pictures and npy for other samples.
        shape: the shape of a sample. Required if the model is a Denoiser.
        shard: the number of seeds in a shard; by default 1000, or fewer if there are fewer samples.
        batch: the number of samples in a batch of the network. By default it is found by trial. It is kept in the manifest, because the
            last bits of a network's output depend on it.
        dtype: "float16" or "bfloat16" runs the network under torch's autocast.
        compile: True runs the network through torch.compile.
        device: the device, such as "cuda". With several workers, "cuda" means all GPUs, with a worker for each.
        noise: the noise of stochastic solvers, as in `sample`; that of the host is the same everywhere.
        features: the features whose statistics are kept for `dpmsolver evaluate`: "digits", "cifar10", "efficientnet", "inception",
            "samples" (their values), "none", or "auto" for features that cost little.
        engine: "inline" (this process), "processes" or "ray".
        workers, threads, address: see `engine_of`.
        verify: how existing shards are verified: "sha256" by their content, or "size" only by their size, which suffices for a store that
            checks sums.
        progress: called with each `Status`.

    Returns:
        A summary of the run.

    Raises:
        ValueError, PlanError, TypeError, ImportError: an argument is wrong, or a package is missing. They are raised before anything is
            drawn or changed. The folder of another run is refused, with the fields that differ.
        MemoryError: one sample does not fit into memory, or the batch of an earlier call does not.
        OSError: the folder cannot be written to. SamplingError: the network returned NaN, workers died, or Ray ended the run.

    Warns:
        ConventionWarning: a shard is damaged and drawn again, the file of all samples is damaged and made again, or shards of a run were
            drawn with different versions or devices.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = generate("mixture-2", 100, 5, out=folder, shard=50)
        ...     again = generate("mixture-2", 100, 5, out=folder, shard=50)
        >>> made.samples, made.shards, made.drawn, again.drawn
        (100, 2, 100, 0)
    """
    wanted = _seeds(num, seeds, shard, format)
    if verify not in ("sha256", "size"):
        raise ValueError(f"verify is 'sha256' or 'size', got {verify!r}")
    target = open_target(out)
    job = Job(
        _anywhere(model),
        target.address,
        wanted,
        format,
        plan="" if plan is None else plan.to_json(),
        wanted=_wanted(solver, nfe, grid, plan),
        shape=None if shape is None else tuple(shape),
        batch=_batch(batch),
        guidance=_guidance(guidance),
        classes=_classes(classes),
        prompts=_prompts(prompts),
        noise=noise,
        dtype=dtype,
        compiled=compile,
        device=device,
        threads=threads,
        features=features,
    )
    if format is not None and format not in FORMATS:
        raise ValueError(unknown("format", format, FORMATS))
    target.check()
    known = Manifest.read(target)
    if known is not None and not job.batch:
        job = job.replace(batch=int(known.run["batch"]))
    with engine_of(engine, workers, device, threads, address) as entered:
        prepared = entered.prepare(job)
        return _run(job, prepared, entered, target, verify, progress)


def _run(
    job: Job,
    prepared: Prepared,
    engine: Engine,
    target: Target,
    verify: str,
    progress: Callable[[Status], object] | None,
) -> Generated:
    """Draw what is missing."""
    run = job.run(prepared)
    job = job.replace(
        plan=prepared.plan,
        batch=prepared.batch,
        probe=prepared.probe,
        features=prepared.features,
        format=prepared.format,
        network=prepared.network,
        made_with=prepared.made_with,
        run_sum=sum_of(run),
        wanted=("", None, None),
    )
    with target.locked():
        known = Manifest.read(target)
        _check_same(known, run, target)
        target.sweep(_OWN)
        manifest = known or Manifest(run, job.name)
        _warn_of_others(manifest, prepared)
        manifest.environments[prepared.made_with] = prepared.environment
        damaged = _verified(manifest, job.seeds, target, verify)
        manifest.write(target)
        done = sum(record.num for record in manifest.shards.values())
        watcher = Watcher(
            target, (len(job.seeds), job.seeds.num_shards), (done, len(manifest.shards)), engine.workers, progress
        )

        def finished(record: Record) -> None:
            if record.shard not in manifest.shards:
                manifest.shards[record.shard] = record
                watcher.finish(record.num, counted=engine.reports)

        missing = [shard for shard in job.seeds.shards if shard not in manifest.shards]
        try:
            watcher.write("drawing")
            if missing:
                with watcher.at_work():
                    engine.draw(job, missing, watcher.advance, finished)
                if lost := [shard for shard in missing if shard not in manifest.shards]:
                    raise SamplingError(f"{len(lost)} shards were not drawn, such as {lost[0]}: the same call resumes")
            if job.format == "npz":
                records = [manifest.shards[shard] for shard in job.seeds.shards]
                manifest.merged = merge_npz(
                    target, records, len(job.seeds), prepared.shape, manifest.merged, whole=verify == "sha256"
                )
        except BaseException as error:
            _stopped(watcher, target, error)
            raise
        manifest.write(target)
        target.sweep(_OWN)
        watcher.write("done")
        seconds = watcher.clock() - watcher.start
    drawn = len(job.seeds) - done
    return Generated(target.url, len(job.seeds), len(manifest.shards), drawn, job.batch, seconds, tuple(damaged))


def _stopped(watcher: Watcher, target: Target, error: BaseException) -> None:
    with suppress(Exception):  # a disk that is full: the error that is raised says so
        watcher.write("stopped", f"{type(error).__name__}: {one_line(error, 280)}")
        target.sweep(_OWN)


def _anywhere(model: Any) -> Any:
    """The name of a model that lies in a file or a folder as a worker finds it that runs elsewhere on this file system."""
    if not isinstance(model, str):
        return model
    file, _, function = model.rpartition(":")
    if file.endswith(".py"):
        return f"{Path(file).expanduser().absolute()}:{function}"
    folder = Path(model).expanduser()
    return str(folder.absolute()) if model.startswith((".", "~")) and folder.is_dir() else model


def _seeds(num: int | None, seeds: SeedsLike | None, shard: int | None, format: str | None) -> Seeds:
    if (num is None) == (seeds is None):
        raise ValueError("give one of num (how many samples) and seeds (which), such as num=50000 or seeds='0-49999'")
    if num is not None and (isinstance(num, bool) or not isinstance(num, int) or num < 1):
        raise ValueError(f"num is an integer >= 1, got {num!r}")
    wanted: SeedsLike = range(num) if num is not None else seeds  # type: ignore[assignment]
    found = Seeds.of(wanted, shard or _SHARD)
    if shard is None and format != "png" and len(found) < _SHARD:
        return Seeds.of(wanted, len(found))
    return Seeds.of(wanted, shard) if shard is not None else found


def _wanted(solver: Any, nfe: int | None, grid: Any, plan: Plan | None) -> tuple[Any, int | None, Any]:
    """What makes the plan, checked as far as names and budgets go."""
    if plan is not None:
        if (solver, grid) != (None, None) or nfe not in (None, plan.nfe):
            raise ValueError(
                f"a plan says its solver, its grid and its {plan.nfe} evaluations by itself: leave solver, grid and nfe out"
            )
        return "", None, None
    if nfe is None:
        raise ValueError("nfe is needed: how many network evaluations a sample takes, such as nfe=10; or a plan")
    chosen, *_ = resolved(SOLVERS, solver or DEFAULT_SOLVER, grid, None, None, {})
    if isinstance(chosen, str) and chosen in SOLVERS:
        SOLVERS[chosen].spend(nfe)
    return solver or DEFAULT_SOLVER, nfe, grid


def _guidance(scale: float | None) -> float | None:
    if scale is not None and not 0.0 <= scale < math.inf:
        raise ValueError(f"guidance is a finite number >= 0 (1 is none), got {scale!r}")
    return None if scale is None else float(scale)


def _classes(classes: Any) -> Any:
    if classes is None or (isinstance(classes, str) and classes in ("all", "random")):
        return classes
    try:
        found = () if isinstance(classes, str) else tuple(operator.index(each) for each in classes)
    except TypeError:
        found = ()
    if not found:
        raise ValueError(f"classes are integers such as [3, 7], 'all', 'random' or None, got {classes!r}")
    return found


def _prompts(prompts: Any) -> tuple[str, ...] | None:
    if prompts is None:
        return None
    if isinstance(prompts, str) or not prompts or not all(isinstance(each, str) for each in prompts):
        raise ValueError(f"prompts are texts, one for each sample in turn, such as ['a lighthouse'], got {prompts!r}")
    return tuple(prompts)


def _batch(batch: int | str) -> int:
    if batch == "auto":
        return 0
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch is an integer >= 1, or 'auto', got {batch!r}")
    return batch


def _check_same(known: Manifest | None, run: dict[str, Any], target: Target) -> None:
    """Raise ValueError for a folder of another run, or of nobody knows what."""
    if known is None:
        if there := [folder for folder in _OWN if target.sizes(folder)]:
            raise ValueError(
                f"out {target.url} holds {there[0]} and no {MANIFEST}, so nobody knows what made them: name another folder"
            )
        return
    if differing := known.differences(run):
        raise ValueError(f"out {target.url} holds another run ({'; '.join(differing)}): name another folder")


def _warn_of_others(manifest: Manifest, prepared: Prepared) -> None:
    for there in manifest.environments.values():
        differing = [
            f"{key} was {there.get(key)!r} and is {prepared.environment.get(key)!r}"
            for key in dict.fromkeys((*there, *prepared.environment))
            if there.get(key) != prepared.environment.get(key)
        ]
        if differing and prepared.made_with not in manifest.environments:
            warnings.warn(
                f"this run was begun elsewhere ({'; '.join(differing)}): its samples may differ in the last bits from here on",
                ConventionWarning,
                stacklevel=4,
            )


def _verified(manifest: Manifest, seeds: Seeds, target: Target, verify: str) -> list[str]:
    """Forget, and remove, the shards whose files are not what their records say, and return a sentence for each.

    Raises:
        ValueError: files that belong to no shard of the run.
    """
    there = target.sizes(SAMPLES)
    found = files_by_shard(there, seeds.size)
    expected = set(seeds.shards)
    if strangers := [name for shard, names in found.items() if shard not in expected for name in names]:
        raise ValueError(f"{strangers[0]} in {target.url} belongs to no shard of this run: move it away")
    looked_at = target.sizes(STATISTICS)
    said = []
    for shard, record in sorted(manifest.shards.items()):
        names = found.get(shard, [])
        sizes = {name: there[name] for name in names}
        cause = _damage(record, sizes, looked_at, target, verify == "sha256")
        if not cause:
            continue
        said.append(f"shard {shard} in {target.url} {cause}: it is drawn again")
        warnings.warn(said[-1], ConventionWarning, stacklevel=4)
        for name in names if "statistics" not in cause else ():
            target.remove(name)
        target.remove(record.name)
        del manifest.shards[shard]
    return said


def _damage(record: Record, sizes: dict[str, int], looked_at: dict[str, int], target: Target, whole: bool) -> str:
    """Return what is wrong with the files of a shard, in words. With whole=True their content is read."""
    if not sizes:
        return "is gone"
    size = sum(sizes.values())
    if (len(sizes), size) != (record.files, record.size):
        return f"has {size:,} bytes in {len(sizes)} files instead of {record.size:,} in {record.files}"
    if whole and digest({name: target.read(name) or b"" for name in sizes}) != record.sha256:
        return f"has not the sha256 of its record, {record.sha256[:16]}…"
    if record.statistics is not None:
        name = f"{STATISTICS}/{stem(record.shard)}.npz"
        if not looked_at.get(name) or (whole and digest({name: target.read(name) or b""}) != record.statistics):
            return "has lost its statistics"
    return ""
