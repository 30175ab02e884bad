"""What a comparison has drawn so far, on disk: one file for each batch of each run, written aside and renamed.

A process that is killed at any moment loses the batch it was drawing, and nothing is counted twice: a batch is there whole, or not.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.files import written_aside

__all__ = ["Arrays", "Store"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Store:
    """The batches of a comparison in a folder.

    Args:
        folder: made if it is not there.
        made_with: what every batch depends on. A folder that was begun with something else is refused.

    Raises:
        ValueError: the folder holds a comparison made with something else, or files that are no comparison.
    """

    folder: Path
    made_with: Mapping[str, Any]

    def __post_init__(self) -> None:
        record = self.folder / "made_with.json"
        if not record.exists():
            if (self.folder / "batches").exists():
                raise ValueError(f"{self.folder} holds batches but no made_with.json: name another folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_aside(record) as aside:
                aside.write_text(json.dumps(self.made_with, indent=2) + "\n")
            return
        try:
            there = json.loads(record.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{record} cannot be read ({error}): name another folder") from error
        asked = json.loads(json.dumps(self.made_with))
        differing = sorted(key for key in {*there, *asked} if there.get(key) != asked.get(key))
        if differing:
            said = "; ".join(f"{key} was {there.get(key)!r} and is {asked.get(key)!r}" for key in differing)
            raise ValueError(f"{self.folder} holds another comparison ({said}): name another folder")

    def has(self, run: str, setting: float, part: range) -> bool:
        """Whether a batch is there: the samples with these indices."""
        return self._path(run, setting, part).exists()

    def write(self, run: str, setting: float, part: range, arrays: Arrays) -> None:
        """Store a batch: arrays by name, those with one row per sample and numbers of the batch."""
        path = self._path(run, setting, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def read(self, run: str, setting: float, part: range) -> Arrays:
        """A stored batch."""
        with np.load(self._path(run, setting, part)) as file:
            return {name: file[name] for name in file.files}

    def _path(self, run: str, setting: float, part: range) -> Path:
        # A name may hold what a file's name may not; the sum keeps names apart that differ in such letters alone.
        readable = re.sub(r"[^\w.+-]+", "_", run)
        return (
            self.folder
            / "batches"
            / f"{readable}-{zlib.crc32(run.encode()):08x}"
            / f"{setting:g}"
            / f"{part.start}-{part.stop}.npz"
        )
