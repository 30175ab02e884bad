"""Code shared by the long-running commands `compare` and `tune`: how they stop, report progress and write results."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpmsolver.cli.shared import check_writable

__all__ = ["FIRST_LINE", "INTERRUPTED", "Lines", "check_folder", "numbers", "terminated_as_interrupted"]

INTERRUPTED = 130  # the exit code of what was stopped, as a shell has it
FIRST_LINE, _LATER_LINES = 10.0, 30.0  # seconds


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, so that drawn samples are kept and the terminal is restored."""
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Lines:
    """Progress as lines, for where there is no terminal: the first after ten seconds, then one in thirty.

    Args:
        write: what takes a line. clock: seconds, of any beginning.

    Examples:
        >>> seconds = iter([0.0, 5.0, 12.0, 15.0, 60.0])
        >>> lines = Lines(print, clock=lambda: next(seconds))
        >>> for done in (0, 100, 240, 300, 1000):
        ...     lines(done, 1000, "ddim with 5")
        24 % of 1,000 evaluations after 12 s, about 38 s left (ddim with 5)
        100 % of 1,000 evaluations after 1 min 0 s (ddim with 5)
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self.begin: float | None = None
        self.next = FIRST_LINE

    def __call__(self, done: int, total: int, what: str) -> None:
        now = self.clock()
        self.begin = now if self.begin is None else self.begin
        elapsed = now - self.begin
        if elapsed < self.next or not total:
            return
        self.next = elapsed + _LATER_LINES
        left = f", about {_duration(elapsed * (total - done) / done)} left" if 0 < done < total else ""
        share = 100 * done // total
        self.write(f"{share} % of {total:,} evaluations after {_duration(elapsed)}{left} ({what})")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def check_folder(out: Path) -> None:
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is a file: name a folder")
    check_writable(out, there)


def numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--nfe takes numbers with commas between, such as 5,10,20, got {text!r}") from None
    if min(found) < 1:
        raise ValueError(f"--nfe {text}: nfe must be an integer >= 1, got {min(found)}")
    if len(set(found)) < len(found):
        raise ValueError(f"--nfe {text}: name each number once")
    return found
