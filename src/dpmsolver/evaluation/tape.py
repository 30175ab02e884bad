"""A record of the network's outputs in an incomplete batch, written every few seconds: a stopped batch resumes in its middle.

A run is determined by its noise and by the outputs of its network. So it suffices to keep the outputs, for any sampler: a run that resumes
gets the kept outputs for the same inputs, and evaluates the network from there on.
"""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.backends.arrays import is_float_array
from dpmsolver.files import written_aside
from dpmsolver.host import to_host

__all__ = ["Tape"]

EVERY = 2.0  # seconds between two files
_LARGEST = 2**26  # bytes of outputs that are held in memory before they are written


class Tape:
    """The outputs of a network during one batch.

    Each output is kept with a checksum of its input. A different input ends the replay, so that a tape of another plan or another version
    costs evaluations but never falsifies a result.

    Args:
        folder: the folder, created at the first write.
        like: an array with the framework, type and device of the states.

    Examples:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> import tempfile
        >>> calls = []
        >>> def network(x, t):
        ...     calls.append(t)
        ...     return 0.5 * x
        >>> one = np.ones(2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tape = Tape(Path(folder), like=one)
        ...     first = tape(network, one, one)
        ...     tape.write()  # here the process may be killed
        ...     again = Tape(Path(folder), like=one)
        ...     second, third = again(network, one, one), again(network, first, one)
        >>> second.tolist(), third.tolist(), len(calls)
        ([0.5, 0.5], [0.25, 0.25], 2)
    """

    def __init__(self, folder: Path, like: Any) -> None:
        self.folder, self.like = folder, like
        self.kept = sum(stop - start for _, start, stop in self._files())
        self.seconds = 0.0  # that earlier processes spent on what is kept
        self._replay = self._outputs()
        self._count = 0
        self._held: list[tuple[int, NDArray[Any]]] = []
        self._since = time.perf_counter()

    def __call__(self, network: Callable[..., Any], x: Any, t: Any, **kwargs: Any) -> Any:
        """What network(x, t, **kwargs) is, from the tape if it is there."""
        check = zlib.crc32(_compact(t).data, zlib.crc32(_compact(x).data))
        if self.replaying:
            kept, output = next(self._replay)
            if kept == check:
                self._count += 1
                return backends.of(self.like).from_numpy(output, self.like)
            shutil.rmtree(self.folder)
            self.kept = self._count = 0
        output = network(x, t, **kwargs)
        if is_float_array(backends.of(x), output):  # what is none is refused by whoever called
            self._held.append((check, _compact(output)))
        late = time.perf_counter() - self._since > EVERY
        if late or sum(each.nbytes for _, each in self._held) > _LARGEST:
            self.write()
        return output

    @property
    def replaying(self) -> bool:
        """True if the next output is one of the kept ones."""
        return self._count < self.kept

    def write(self) -> None:
        """Write the outputs since the last write."""
        if self._held:
            self.folder.mkdir(parents=True, exist_ok=True)
            start, stop = self.kept, self.kept + len(self._held)
            spent = time.perf_counter() - self._since
            checks, outputs = zip(*self._held, strict=True)
            with written_aside(self.folder / f"{start:06}-{stop:06}.npz") as aside, aside.open("wb") as file:
                np.savez(file, outputs=np.stack(outputs), checks=checks, seconds=spent)
            self.kept = self._count = stop
            self._held = []
        self._since = time.perf_counter()

    def _files(self) -> list[tuple[Path, int, int]]:
        """The files in order, with the evaluations that each holds: those that follow on each other."""
        found, at = [], 0
        for path in sorted(self.folder.glob("*-*.npz")):
            start, stop = map(int, path.stem.split("-"))
            if start == at:
                found.append((path, start, stop))
                at = stop
        return found

    def _outputs(self) -> Iterator[tuple[int, NDArray[Any]]]:
        for path, _, _ in self._files():
            with np.load(path) as file:
                outputs, checks = file["outputs"], file["checks"].tolist()
                self.seconds += float(file["seconds"])
            yield from zip(checks, outputs, strict=True)


def _compact(array: Any) -> NDArray[Any]:
    """A host copy without loss: float64 for float64, else float32, which holds all of the smaller types."""
    host = to_host(array)
    return np.array(host, dtype=np.float64 if "float64" in str(array.dtype) else np.float32, order="C")
