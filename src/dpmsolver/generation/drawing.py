"""Draw a shard. Every worker runs this code, in every engine.

A note on reproducibility. A network gives the same sample different last bits in a batch of another size, because the library below picks
other kernels, which add in another order (measured on `digits` with one thread: batches of 20 to 100 agree in every bit, 8 and 40 differ by
3e-5). Therefore the batch size belongs to the run: it is chosen before the first shard and recorded in the manifest, and every sample of a
run is drawn in a batch of that size and at the same position in it. Chunks are counted from the first seed that a shard may have, and a
chunk is drawn whole even if a run wants only a part of it. If memory becomes short, a worker falls back on a smaller batch whose bits on a
probe equal those of the whole batch at the beginning of the run (`preparing.probed`), and on no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.brief import one_line
from dpmsolver.generation.devices import free_memory, is_out_of_memory, set_threads
from dpmsolver.generation.formats import Format, Samples, format_of
from dpmsolver.generation.job import Job
from dpmsolver.generation.manifest import SAMPLES, STATISTICS, Record, combined, stem
from dpmsolver.generation.pictures import png, sheet, to_pixels
from dpmsolver.generation.preparing import probed, sizes
from dpmsolver.generation.sources import Source, load_source
from dpmsolver.generation.statistics import Eyes, eyes_of
from dpmsolver.generation.targets import Target, open_target
from dpmsolver.plans.plan import Plan
from dpmsolver.sampling.runs import sample

__all__ = ["FIRST", "Artist", "sampled"]

FIRST = "first-shard.png"
_ON_SHEET = 64
_ENCODERS = 4  # threads that make PNG files while a GPU draws
Progress = Callable[[int], object]  # samples that were drawn since the last call


def sampled(source: Source, plan: Plan, seeds: Sequence[int]) -> NDArray[Any]:
    """Draw the samples of some seeds in one batch, and return them on the host, as the sampler's output or as the model decodes it."""
    job = source.job
    x = sample(source.denoiser(seeds), source.start(seeds), plan=plan, generator=list(seeds), noise=job.noise)
    return source.on_host(source.finished(x))


class Artist:
    """Draws the shards of a job. It holds the network, and memory for one shard.

    Args:
        job: the job, with its plan and its batch.
        source, target: given if they exist already.

    Raises:
        ValueError: the network is not the one with which the run was begun.
    """

    def __init__(self, job: Job, source: Source | None = None, target: Target | None = None) -> None:
        self.job = job
        self.source = source or load_source(job)
        set_threads(job.threads)
        self.target = target or open_target(job.out)
        self.plan = Plan.from_json(job.plan)
        self.format: Format = format_of(job.format, self.source.pictures)
        self.batch = job.batch
        self.eyes: Eyes | None = None
        self.looked = False
        if job.network and source is None and self.source.fingerprint() != job.network:
            raise ValueError(
                f"the network that {job.name} names here has other weights than the one that the run was begun with: "
                "every worker needs the same files"
            )
        on_cpu = "cuda" not in str(getattr(self.source.testbed.like, "device", "cpu"))
        self.encoders = ThreadPoolExecutor(1 if on_cpu else _ENCODERS)

    def draw(self, shard: int, progress: Progress = lambda drawn: None) -> Record:
        """Draw a shard and write it unless it exists; return its record.

        Raises:
            ValueError: files of another run are in its place. MemoryError: memory is short. OSError: it cannot be written.
            SamplingError: the network returned NaN.
        """
        there = Record.read(self.target, shard)
        if there is not None:
            there.require(self.job.run_sum, self.target)
            progress(there.num)
            return there
        try:
            drawn = self._drawn(shard, progress)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"memory is too short for the features of a batch of {self.job.batch} ({one_line(error, 120)}): free some, or begin "
                "another folder with a smaller batch or with features='none'"
            ) from error
        return self._commit(shard, *drawn)

    def _drawn(self, shard: int, progress: Progress) -> tuple[Samples, bytes | None]:
        """Draw the samples of a shard, and return them with the file of its statistics."""
        job, wanted = self.job, self.job.seeds.of_shard(shard)
        block, inside = job.seeds.block(shard), set(wanted)
        values, features, seen, pngs = [], [], [], []
        for start in range(block.start, block.stop, job.batch):
            chunk = range(start, min(start + job.batch, block.stop))
            rows = [index for index, seed in enumerate(chunk) if seed in inside]
            if not rows:
                continue
            stored = self._stored(chunk)
            eyes = self._eyes(stored)
            if eyes is not None:
                features.append(eyes.features(stored)[rows])
                if (
                    eyes.classify is not None
                    and self.job.prompts is None
                    and eyes.num_classes == self.source.num_classes
                ):
                    seen.append(eyes.classify(stored)[rows])
            kept = stored[rows] if len(rows) < len(chunk) else stored
            values.append(kept)
            if self._with_pngs(kept):
                pngs += [self.encoders.submit(png, picture) for picture in kept]
            progress(len(rows))
        samples = Samples(
            np.concatenate(values),
            wanted,
            self.source.labels(wanted),
            self._prompts(wanted),
            [p.result() for p in pngs] or None,
        )
        return samples, self._statistics(shard, samples.labels, features, seen)

    def _stored(self, chunk: range) -> NDArray[Any]:
        """The samples of a chunk as they are stored: bytes for pictures, unless floats are wanted."""
        drawn = self._in_memory(chunk)
        return to_pixels(drawn) if self.source.pictures and not self.format.floats else drawn

    def _in_memory(self, chunk: range) -> NDArray[Any]:
        """A chunk, in smaller batches of the same bits where memory is short."""
        batch, cause = self.job.batch, ""
        for size in [self.batch, *(size for size in sizes(self.job.seeds.size, self.batch)[::-1] if batch % size == 0)]:
            try:
                # The batch of the run is tried twice: what torch kept for later has been given back by then.
                if size < self.batch and probed(self.source, batch, size) != self.job.probe:
                    continue
                drawn = [sampled(self.source, self.plan, chunk[at : at + size]) for at in range(0, len(chunk), size)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                cause = one_line(error, 120)
                free_memory()
                continue
            self.batch = size
            return drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
        hint = (
            "take a smaller model or another device"
            if batch == 1
            else "free some, or begin another folder with a smaller batch"
        )
        raise MemoryError(
            f"memory is too short for this run's batch of {batch}, and no smaller one that fits gives the same bits ({cause}): {hint}"
        )

    def _eyes(self, stored: NDArray[Any]) -> Eyes | None:
        if not self.looked:
            self.eyes, self.looked = eyes_of(self.source, self.job.features, stored.shape[1:]), True
        return self.eyes

    def _with_pngs(self, values: NDArray[Any]) -> bool:
        return self.format.pngs and values.dtype == np.uint8

    def _prompts(self, seeds: Sequence[int]) -> list[str] | None:
        prompts = self.job.prompts
        return None if prompts is None else [prompts[seed % len(prompts)] for seed in seeds]

    def _statistics(self, shard: int, labels: Any, features: list[Any], seen: list[Any]) -> bytes | None:
        if self.eyes is None:
            return None
        # Rows are for what needs them, and for as many samples as papers take: the moments are enough for the rest.
        rows = (shard - self.job.seeds.first) * self.job.seeds.size < self.job.rows
        found = np.concatenate(seen) if seen else None
        return self.eyes.of_shard(np.concatenate(features), found, labels, rows).content()

    def _commit(self, shard: int, samples: Samples, statistics: bytes | None) -> Record:
        """Write the files of a shard, then its record: with that it is there."""
        files = {f"{SAMPLES}/{name}": content for name, content in self.format.files(samples, stem(shard)).items()}
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._put(files, sums)
        extra = None
        if statistics is not None:
            extra = hashlib.sha256(statistics).hexdigest()
            self.target.write(f"{STATISTICS}/{stem(shard)}.npz", statistics)
        if shard == self.job.seeds.first and samples.values.dtype == np.uint8:
            self.target.write(FIRST, png(sheet(samples.values[:_ON_SHEET])))
        size = sum(map(len, files.values()))
        job = self.job
        record = Record(shard, len(samples.seeds), len(files), size, combined(sums), extra, job.made_with, job.run_sum)
        # A record that a power failure takes away, or empties, costs a shard that is drawn again.
        self.target.write(record.name, record.text(), lasting=False)
        return record

    def _put(self, files: dict[str, bytes], sums: dict[str, str]) -> None:
        """Write the files that do not exist yet; some do after a death before the record. ValueError for one of another content."""
        there = self.target.read_all(list(files))
        for name, content in there.items():
            if hashlib.sha256(content).hexdigest() != sums[name]:
                raise ValueError(
                    f"{name} in {self.target.url} is not of this run: no record has it, and its bytes are not those of its seeds: "
                    "move it away, and start again"
                )
        self.target.write_all({name: content for name, content in files.items() if name not in there})
