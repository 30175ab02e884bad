"""The engine on Ray: Ray Data maps groups of shards over a pool of actors, one per GPU or per few cores.

Ray restarts an actor that dies, on another node if its own is gone, and gives it its group again; shards of the group that have a record
are not drawn twice. A shard that has ended five workers stops the run. The groups are small, about 64 for each worker, so that all workers
finish at about the same time.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from types import TracebackType
from typing import Any

import numpy as np

from dpmsolver.brief import one_line
from dpmsolver.errors import SamplingError
from dpmsolver.generation.drawing import Artist
from dpmsolver.generation.engines.base import MOST_DEATHS, Engine, Finished, Progress, packed, rebuilt, said
from dpmsolver.generation.job import Job, Prepared
from dpmsolver.generation.manifest import Record
from dpmsolver.generation.preparing import prepare

__all__ = ["OnRay"]

_LOOK = 0.2  # seconds between two looks for the raylet
_PATIENCE = 10.0  # seconds for a cluster to answer
_MEMORY = 200 * 2**20  # of a cluster that is started here: what travels is numbers of shards
_WITHOUT_END = {"max_restarts": -1, "max_task_retries": -1}
_GROUPS = 64  # of shards, for each worker


class OnRay(Engine):
    """A cluster of Ray.

    Args:
        workers: the number of actors; by default one per GPU of the cluster for the device "cuda", else one for every `threads` cores.
        device: "cuda" for workers with a GPU.
        threads: the cores of a worker.
        address: the address of the cluster; "auto" is the one that this machine belongs to. By default one is started here, and ended.
    """

    reports = False

    def __init__(
        self, workers: int | None = None, device: str | None = None, threads: int = 0, address: str | None = None
    ) -> None:
        try:
            self.ray = _ray()
        except ImportError as error:
            raise ImportError(f"engine='ray' needs Ray ({error}): pip install 'dpmsolver[ray]'") from error
        self.wanted, self.device, self.threads, self.address = workers, device, threads or 1, address
        self.own = False

    def __enter__(self) -> Engine:
        ray, quiet = self.ray, {"log_to_driver": False, "logging_level": logging.ERROR}
        if not ray.is_initialized():
            _require_somebody(self.address)
            self.own = True
            given: dict[str, Any] = {"address": self.address}
            if self.address is None:
                cores = self.threads * (self.wanted or max(1, (os.cpu_count() or 1) // self.threads))
                given = {"address": "local", "num_cpus": cores, "object_store_memory": _MEMORY}
                given["include_dashboard"] = False
            try:
                ray.init(**given, **quiet)
            except Exception as error:  # Ray raises errors of many kinds for a cluster that is not there
                raise ValueError(
                    f"the Ray cluster at {self.address or 'this machine'} cannot be reached ({one_line(error, 200)})"
                ) from error
        there = ray.cluster_resources()
        kind, each = ("GPU", 1) if self.on_gpu else ("CPU", self.threads)
        most = int(there.get(kind, 0) // each)
        if most < 1:
            self.__exit__(None, None, None)
            raise ValueError(
                f"the Ray cluster has no {kind} to draw with: it has {', '.join(sorted(there)) or 'nothing'}"
            )
        self.workers = min(self.wanted or most, most)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.own:
            self.ray.shutdown()

    @property
    def on_gpu(self) -> bool:
        """True if a worker has a GPU."""
        return (self.device or "").startswith("cuda")

    @property
    def _share(self) -> dict[str, Any]:
        """What a worker takes of its node."""
        return {"num_gpus": 1} if self.on_gpu else {"num_cpus": self.threads}

    def prepare(self, job: Job) -> Prepared:
        ray = self.ray
        content = packed(job.replace(threads=self.threads), ray.cloudpickle)
        try:
            answer = ray.get(ray.remote(_prepared).options(max_retries=3, **self._share).remote(content))
        except ray.exceptions.RayError as error:
            raise SamplingError(f"a worker died while it loaded the model ({_cause(error)})") from None
        if isinstance(answer, tuple):
            raise rebuilt(*answer)
        prepared: Prepared = answer
        return prepared

    def draw(self, job: Job, shards: Iterable[int], progress: Progress, finished: Finished) -> None:
        import ray.data as data

        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        content = packed(job.replace(threads=self.threads), self.ray.cloudpickle)
        waiting = list(shards)
        size = -(-len(waiting) // (self.workers * _GROUPS))
        groups = [{"shards": json.dumps(waiting[at : at + size])} for at in range(0, len(waiting), size)]
        drawn = data.from_items(groups, override_num_blocks=len(groups)).map_batches(
            _Actor,
            fn_constructor_args=(content, self.ray.remote(_Attempts).options(num_cpus=0, **_WITHOUT_END).remote()),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self.workers, len(groups))),
            **self._share,
        )
        try:
            for rows in drawn.iter_batches(batch_size=None, prefetch_batches=0):
                for text in rows["answer"]:
                    answer = json.loads(str(text))
                    if "error" in answer:
                        raise rebuilt(*answer["error"])
                    finished(Record(**answer))
        except self.ray.exceptions.RayError as error:
            raise SamplingError(f"Ray ended the run ({_cause(error)}): the same call resumes") from None


class _Actor:
    """An artist in an actor. Errors are answers: Ray would try again what cannot succeed."""

    def __init__(self, content: bytes, attempts: Any) -> None:
        self.ray, self.attempts = _ray(), attempts
        self.replaces_another = bool(self.ray.get_runtime_context().was_current_actor_reconstructed)
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        self.artist: Artist | None = None
        self.failure: tuple[str, str] | None = None
        try:
            self.artist = Artist(self.ray.cloudpickle.loads(content))
        except Exception as error:
            self.failure = said(error)

    def __call__(self, group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for shard in json.loads(str(group["shards"][0])):
            yield {"answer": np.array([self._answer(shard)], dtype=object)}

    def _answer(self, shard: int) -> str:
        if self.artist is None:
            return json.dumps({"error": self.failure})
        try:
            attempt = self.attempts.begin.remote(shard)
            # Ray gives a shard that ended a worker to one that took the place of a dead one: only those have to wait for the answer.
            if self.replaces_another and self.ray.get(attempt) > MOST_DEATHS:
                raise SamplingError(f"shard {shard} ended {MOST_DEATHS} workers")
            record = self.artist.draw(shard)
            self.attempts.end.remote(shard)
            return json.dumps(asdict(record))
        except Exception as error:
            return json.dumps({"error": said(error)})


class _Attempts:
    """A count of the unfinished attempts at each shard. Ray retries without end, and some shards end every worker that draws them."""

    def __init__(self) -> None:
        self.times: dict[int, int] = {}

    def begin(self, shard: int) -> int:
        self.times[shard] = self.times.get(shard, 0) + 1
        return self.times[shard]

    def end(self, shard: int) -> None:
        self.times.pop(shard, None)


def _cause(error: BaseException) -> str:
    """Return the kind of an error of Ray and the first line of its message."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"


def _end_with(parent: int) -> None:
    """End this process when its node's raylet has died: Ray notices later, and somebody may have begun again by then."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _prepared(content: bytes) -> Prepared | tuple[str, str]:
    try:
        return prepare(_ray().cloudpickle.loads(content))
    except Exception as error:
        return said(error)


def _require_somebody(address: str | None) -> None:
    """Raise ValueError where nobody listens at an address: Ray would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise ValueError(f"the Ray cluster at {address} cannot be reached ({error})") from error


def _ray() -> Any:
    """The package, told to be quiet and to send nothing about its use."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    return ray
