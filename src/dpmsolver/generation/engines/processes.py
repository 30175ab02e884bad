"""The engine of processes: one per device, or several on a CPU. A process that dies is replaced, and its shard is drawn again."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from dpmsolver.errors import SamplingError
from dpmsolver.generation.devices import count_devices
from dpmsolver.generation.engines.base import MOST_DEATHS, Engine, Finished, Progress, packed, rebuilt
from dpmsolver.generation.job import Job, Prepared

__all__ = ["Processes"]


class Processes(Engine):
    """Processes of this machine, started when they are needed and ended with the engine.

    Args:
        workers: the number of processes; by default one per GPU for the device "cuda", else one.
        device: "cuda" is distributed as "cuda:0", "cuda:1", …
        threads: the threads of a worker on a CPU; by default the number of cores divided by the number of workers.
    """

    def __init__(self, workers: int | None = None, device: str | None = None, threads: int = 0) -> None:
        self.devices = count_devices(device)
        self.device, self.workers = device, workers or self.devices
        self.threads = threads or max(1, (os.cpu_count() or 1) // self.workers)
        self.running: set[_Process] = set()
        self.first: _Process | None = None  # has loaded the model already
        self.stopped = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped = True
        for process in list(self.running):
            process.end()

    def prepare(self, job: Job) -> Prepared:
        job_there = packed(self._placed(job, 0))
        process = self.first = self._started()
        try:
            process.send("prepare", job_there)
            kind, *content = process.answer()
        except EOFError:
            raise SamplingError(f"a worker died while it loaded the model ({process.death()})") from None
        if kind == "error":
            raise rebuilt(*content)
        prepared: Prepared = content[0]
        return prepared

    def draw(self, job: Job, shards: Iterable[int], progress: Progress, finished: Finished) -> None:
        events: queue.Queue[tuple[str, Any]] = queue.Queue()
        waiting = _Waiting(iter(shards))
        jobs = [packed(self._placed(job, number)) for number in range(self.workers)]
        threads = [
            threading.Thread(target=self._serve, args=(number, jobs[number], waiting, events), daemon=True)
            for number in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            kind, content = events.get()
            if kind == "drawn":
                progress(content)
            elif kind == "record":
                finished(content)
            elif kind == "end":
                left -= 1
            else:
                raise content

    def _placed(self, job: Job, number: int) -> Job:
        """The job for a worker: with a GPU of its own."""
        device = f"cuda:{number % self.devices}" if self.device == "cuda" else self.device
        return job.replace(device=device, threads=self.threads)

    def _started(self) -> _Process:
        process = _Process(
            {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        )
        self.running.add(process)
        return process

    def _serve(self, number: int, job: bytes, waiting: _Waiting, events: queue.Queue[tuple[str, Any]]) -> None:
        """Keep a worker at work until no shard is left; a thread for each."""
        try:
            while not self.stopped and (shard := waiting.take()) is not None:
                process = self._started() if number or self.first is None else self.first
                self.first = self.first if number else None
                self._until_death(process, job, shard, waiting, events)
            events.put(("end", None))
        except Exception as error:
            events.put(("error", error))

    def _until_death(
        self, process: _Process, job: bytes, first: int, waiting: _Waiting, events: queue.Queue[tuple[str, Any]]
    ) -> None:
        """Have one process draw shards until none is left, or it dies: the shard that it had waits again."""
        shard: int | None = first
        try:
            process.send("job", job)
            while shard is not None and not self.stopped:
                self._one(process, shard, events)
                shard = waiting.take()
        except EOFError:
            assert shard is not None
            waiting.put(shard)
            if not self.stopped and waiting.deaths[shard] >= MOST_DEATHS:
                raise SamplingError(f"shard {shard} ended {MOST_DEATHS} workers ({process.death()})") from None
        finally:
            process.end()
            self.running.discard(process)

    def _one(self, process: _Process, shard: int, events: queue.Queue[tuple[str, Any]]) -> None:
        """Have a shard drawn. EOFError where the worker dies over it: what it has told of samples is taken back."""
        process.send("draw", shard)
        told = 0
        try:
            while True:
                kind, *content = process.answer()
                if kind == "drawn":
                    told += content[0]
                    events.put(("drawn", content[0]))
                elif kind == "error":
                    raise rebuilt(*content)
                elif kind == "record":
                    events.put(("record", content[0]))
                    return
        except EOFError:
            events.put(("drawn", -told))
            raise


class _Waiting:
    """The shards that wait, for several threads."""

    def __init__(self, shards: Iterator[int]) -> None:
        self.shards, self.again, self.lock = shards, list[int](), threading.Lock()
        self.deaths: dict[int, int] = {}

    def take(self) -> int | None:
        with self.lock:
            return self.again.pop() if self.again else next(self.shards, None)

    def put(self, shard: int) -> None:
        with self.lock:
            self.again.append(shard)
            self.deaths[shard] = self.deaths.get(shard, 0) + 1


class _Process:
    """A worker's process, with the pipes to it."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "dpmsolver.generation.engines.worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def send(self, kind: str, content: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the next answer says so
            pickle.dump((kind, content), self.process.stdin)
            self.process.stdin.flush()

    def answer(self) -> tuple[Any, ...]:
        """The next answer. EOFError where there is none any more."""
        assert self.process.stdout is not None
        try:
            answer: tuple[Any, ...] = pickle.load(self.process.stdout)
        except (pickle.UnpicklingError, OSError, ValueError) as error:  # cut off in its middle
            raise EOFError from error
        return answer

    def death(self) -> str:
        """How the process died, in words."""
        code = self.process.wait()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"{name}: perhaps the machine is out of memory" if -code == signal.SIGKILL else name

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
