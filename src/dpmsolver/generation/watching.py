"""The progress of a run: how much is drawn, the rate, and the remaining time, in a status file that other programs may read."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from dpmsolver.generation.manifest import RECORDS, Manifest
from dpmsolver.generation.targets import Target, open_target

__all__ = ["STATUS", "Status", "Watcher", "duration", "status"]

STATUS = "status.json"
_WINDOW = 120.0  # seconds over which the rate is taken
_BEAT = 15.0  # seconds between two writes of the file at most
_STALE = 60.0  # seconds after which a run that says nothing is not at work


@dataclass(frozen=True)
class Status:
    """The progress of a run.

    Args:
        state: "drawing", "done", or "stopped" for a run that ended early.
        samples, total: the numbers of drawn and of wanted samples.
        shards, all_shards: the numbers of written and of wanted shards.
        rate: samples per second of all workers, over the last two minutes.
        left: the remaining time at that rate in seconds.
        workers: the number of workers.
        seconds: the time since this call began.
        updated: the time of this status, in seconds since 1970.
        host, process: the host and the process number of the driver.
        cause: the reason for a stop.
    """

    state: str
    samples: int
    total: int
    shards: int
    all_shards: int
    rate: float = 0.0
    left: float | None = None
    workers: int = 0
    seconds: float = 0.0
    updated: float = 0.0
    host: str = ""
    process: int = 0
    cause: str = ""

    def __str__(self) -> str:
        share = 100 * self.samples // max(1, self.total)
        text = f"{self.state}: {self.samples:,} of {self.total:,} samples ({share} %), {self.shards:,} of {self.all_shards:,} shards"
        if self.rate and self.state == "drawing":
            text += f"; {self.rate:.3g} samples/s with {self.workers} worker{'s' if self.workers != 1 else ''}"
            text += "" if self.left is None else f", about {duration(self.left)} left"
        return text + (f"; {self.cause}" if self.cause else "")


class Watcher:
    """Counts samples and shards, and reports the progress to a function and to the status file.

    Args:
        target: the place of the status file.
        total, shards: the numbers of wanted samples and shards.
        done: the numbers of samples and shards that exist already.
        tell: called with each `Status`.
        every: the seconds between two writes of the file.
    """

    def __init__(
        self,
        target: Target,
        total: tuple[int, int],
        done: tuple[int, int],
        workers: int,
        tell: Callable[[Status], object] | None,
        every: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target, self.total, self.workers, self.tell, self.every, self.clock = (
            target,
            total,
            workers,
            tell,
            every,
            clock,
        )
        (self.written, self.shards), self.begun = done, 0
        self.start = self.last = clock()
        self.lock = threading.Lock()
        self.seen: deque[tuple[float, int]] = deque([(self.start, 0)])
        self.drawn = 0

    def advance(self, samples: int) -> None:
        """Count samples that were drawn but not written yet."""
        self.begun += samples
        self.drawn += samples
        self._told()

    def finish(self, samples: int, *, counted: bool) -> None:
        """Count a shard that was written. With counted=True, `advance` has counted its samples already."""
        self.written, self.shards = self.written + samples, self.shards + 1
        if counted:
            self.begun = max(0, self.begun - samples)
        else:
            self.drawn += samples
        self._told()

    def _told(self) -> None:
        now = self.clock()
        self.seen.append((now, self.drawn))
        while len(self.seen) > 2 and now - self.seen[1][0] > _WINDOW:
            self.seen.popleft()
        if self.tell is not None:
            self.tell(self.status("drawing"))
        if now - self.last >= self.every:
            self.last = now
            self.write("drawing")

    def status(self, state: str, cause: str = "") -> Status:
        """Return the current status."""
        now = self.clock()
        begin, before = self.seen[0]
        rate = (self.drawn - before) / (now - begin) if now > begin else 0.0
        samples = min(self.total[0], self.written + self.begun)
        left = (self.total[0] - samples) / rate if rate else None
        return Status(
            state,
            samples,
            self.total[0],
            self.shards,
            self.total[1],
            rate,
            left,
            self.workers,
            now - self.start,
            time.time(),
            socket.gethostname(),
            os.getpid(),
            cause,
        )

    def write(self, state: str, cause: str = "") -> None:
        """Write the status file."""
        with self.lock:
            said: dict[str, Any] = asdict(self.status(state, cause))
            self.target.write(STATUS, json.dumps(said, indent=1).encode(), lasting=False)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write the status file now and then, also while no batch and no shard is finished for minutes."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_BEAT):
                with suppress(Exception):  # a disk that is full: who draws says so
                    self.write("drawing")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def status(folder: str) -> Status:
    """Return the status of a run by its folder or URL, whether it is active or not.

    Raises:
        ValueError: there is no run in the folder.
    """
    target = open_target(folder)
    found = _said(target.read(STATUS))
    if found is not None and (found.state != "drawing" or _is_at_work(found)):
        return found
    manifest = Manifest.read(target)
    if manifest is None:
        raise ValueError(f"{folder} holds no run of dpmsolver generate: there is no manifest.json")
    from dpmsolver.generation.seeds import Seeds

    seeds = Seeds.of(manifest.run["seeds"], manifest.run["shard"])
    done = sum(record.num for record in manifest.shards.values())
    state = "done" if done == len(seeds) and not target.sizes(RECORDS) else "stopped"
    cause = "" if state == "done" or found is None else "nobody is at work: the same command resumes"
    return Status(state, done, len(seeds), len(manifest.shards), seeds.num_shards, cause=cause)


def _said(content: bytes | None) -> Status | None:
    """Return the status of a file; None without a file, or for one that a power failure left empty."""
    try:
        return None if content is None else Status(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _is_at_work(status: Status) -> bool:
    """Return True if the driver of a run still writes its status and, on this machine, if its process exists."""
    if time.time() - status.updated >= _STALE:
        return False
    if status.host != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(status.process, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def duration(seconds: float) -> str:
    """Return a number of seconds in words.

    Examples:
        >>> duration(42), duration(3700)
        ('42 s', '1 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
