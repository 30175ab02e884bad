"""A worker of the engine `processes`: it reads commands from its standard input, and ends with it.

    ("prepare", job), ("job", job), ("draw", shard)    ->    ("prepared", …), ("drawn", samples), ("record", …), ("error", …)

Each is one pickle. What the model prints goes to standard error.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

from dpmsolver.generation.drawing import Artist
from dpmsolver.generation.engines.base import said
from dpmsolver.generation.preparing import loaded, prepare
from dpmsolver.generation.sources import Source

__all__ = ["main"]


def main() -> None:
    """Serve until the standard input ends, which happens when the driver ends for any reason."""
    # Ctrl-C goes to all processes of a terminal, and the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    commands: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(commands,), daemon=True).start()

    def answer(*message: Any) -> None:
        pickle.dump(message, answers)
        answers.flush()

    artist: Artist | None = None
    source: Source | None = None
    while True:
        kind, content = commands.get()
        try:
            if kind == "prepare":
                job = pickle.loads(content)
                source = loaded(job)
                answer("prepared", prepare(job, source))
            elif kind == "job":
                job = pickle.loads(content)
                artist = Artist(job, None if source is None else replace(source, job=job))
            else:
                assert artist is not None
                answer("record", artist.draw(content, lambda samples: answer("drawn", samples)))
        except BrokenPipeError:
            os._exit(1)
        except Exception as error:
            answer("error", *said(error))


def _listen(commands: queue.Queue[Any]) -> None:
    """Take commands as they come. Their end is the driver's, and a worker without one draws nothing more."""
    while True:
        try:
            commands.put(pickle.load(sys.stdin.buffer))
        except Exception:
            os._exit(0)


if __name__ == "__main__":
    main()
