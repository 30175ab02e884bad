"""The engine of this process: one shard after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dpmsolver.generation.drawing import Artist
from dpmsolver.generation.engines.base import Engine, Finished, Progress
from dpmsolver.generation.job import Job, Prepared
from dpmsolver.generation.preparing import loaded, prepare
from dpmsolver.generation.sources import Source, load_source

__all__ = ["Inline"]


class Inline(Engine):
    """An engine in this process. The model is loaded once."""

    def __init__(self) -> None:
        self.source: Source | None = None

    def prepare(self, job: Job) -> Prepared:
        self.source = loaded(job)
        return prepare(job, self.source)

    def draw(self, job: Job, shards: Iterable[int], progress: Progress, finished: Finished) -> None:
        source = self.source or load_source(job)
        artist = Artist(job, replace(source, job=job))
        for shard in shards:
            finished(artist.draw(shard, progress))
