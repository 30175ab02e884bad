"""The interface of engines, and how a job and its errors travel to workers and back."""

from __future__ import annotations

import io
import pickle
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from dpmsolver.brief import one_line
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.generation.job import Job, Prepared
from dpmsolver.generation.manifest import Record

__all__ = ["MOST_DEATHS", "Engine", "Finished", "Progress", "packed", "rebuilt", "said"]

MOST_DEATHS = 5  # of workers over one shard

Progress = Callable[[int], object]  # samples that were drawn since the last call
Finished = Callable[[Record], object]
_KINDS: tuple[type[Exception], ...] = (
    PlanError,
    SamplingError,
    MemoryError,
    ImportError,
    OSError,
    TypeError,
    ValueError,
)


class Engine(ABC):
    """Workers, which exist while the engine is entered."""

    workers: int = 1
    reports: bool = True  # whether workers tell of samples before their shard is finished

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def prepare(self, job: Job) -> Prepared:
        """Run `preparing.prepare` where the job will run."""

    @abstractmethod
    def draw(self, job: Job, shards: Iterable[int], progress: Progress, finished: Finished) -> None:
        """Draw shards in any order, and report each when it is finished. The first error of a worker is raised."""


def packed(job: Job, pickler: Any = pickle) -> bytes:
    """Return a job as bytes.

    Raises:
        ValueError: the model cannot be sent to another process.
    """
    try:
        content: bytes = pickler.dumps(job)
    except Exception as error:  # pickle raises errors of many kinds
        raise ValueError(
            f"the model cannot be sent to another process ({one_line(error, 160)}): give its name, "
            "path/to/file.py:function or module:function, which every worker calls for itself; or take engine='inline'"
        ) from error
    if not isinstance(job.model, str) and b"__main__" in content and pickler is pickle:
        raise ValueError(
            "the model is defined in the script that runs, which other processes do not import: put it into a module of its own, "
            "or give path/to/file.py:function"
        )
    return content


def said(error: Exception) -> tuple[str, str]:
    """Return an error as two texts, its kind and its message; an unexpected error gets the place where it was raised."""
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), None)
    if kind is not None:
        return kind.__name__, str(error) or kind.__name__
    trace = io.StringIO()
    traceback.print_exception(error, file=trace)
    return "RuntimeError", f"a worker failed with {type(error).__name__}: {error}\n{trace.getvalue()}"


def rebuilt(kind: str, message: str) -> Exception:
    """Return the error that `said` turned into texts."""
    known = {each.__name__: each for each in _KINDS}
    return known.get(kind, RuntimeError)(message)
