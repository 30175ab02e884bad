"""The samples that a comparison has drawn so far, on disk: one file for each batch of each run, written aside and renamed.

A process that is killed at any moment loses nothing that is stored, and nothing is counted twice: a batch exists whole, or not at all.
Batches may have any size: a range of samples is read from whichever batches contain it.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.files import written_aside

__all__ = ["Arrays", "Store"]

Arrays = dict[str, NDArray[Any]]
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Store:
    """The batches of a comparison in a folder.

    Args:
        folder: the folder, created if it does not exist.
        made_with: everything that a batch depends on. A folder with batches of something else is refused; one without batches is reused.

    Raises:
        ValueError: the folder holds a comparison made with something else, or batches of unknown origin.
    """

    folder: Path
    made_with: Mapping[str, Any]

    def __post_init__(self) -> None:
        record = self.folder / "made_with.json"
        made_with = json.loads(json.dumps(self.made_with))
        there = None
        if any((self.folder / "batches").rglob("*.npz")):
            there = _recorded(record)
            if refused := _differences(there, made_with):
                raise ValueError(f"{self.folder} holds another comparison ({refused}): name another folder")
        elif record.exists() and record.read_text() != _text(made_with):
            shutil.rmtree(self.folder / "begun", ignore_errors=True)
        if there is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_aside(record) as aside:
                aside.write_text(_text(made_with))

    def reach(self, run: str, setting: float) -> int:
        """Return the number of samples that are stored without a gap: those with the indices 0 … reach - 1."""
        reach = 0
        for part in sorted(_ranges(self._folder("batches", run, setting), ".npz"), key=lambda part: part.start):
            if part.start > reach:
                break
            reach = max(reach, part.stop)
        return reach

    def has(self, run: str, setting: float, part: range) -> bool:
        """Return whether the samples with these indices are stored, and all before them."""
        return part.stop <= self.reach(run, setting)

    def write(self, run: str, setting: float, part: range, arrays: Arrays) -> None:
        """Store a batch: arrays by name, some with one row per sample and some for the whole batch. Its record is removed."""
        path = self._folder("batches", run, setting) / f"{part.start}-{part.stop}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        record = self.record(run, setting, part)
        shutil.rmtree(record, ignore_errors=True)
        with suppress(OSError):  # of another batch or run, or not there
            for folder in (record.parent, record.parent.parent, self.folder / "begun"):
                folder.rmdir()

    def read(self, run: str, setting: float, part: range) -> list[Arrays]:
        """Return the samples with these indices, in order, piece by piece: rows of batches, and the numbers of each batch.

        Raises:
            KeyError: some of them are not stored.
        """
        folder = self._folder("batches", run, setting)
        ranges = _ranges(folder, ".npz")
        pieces, at = [], part.start
        while at < part.stop:
            batch = max((r for r in ranges if at in r), key=lambda r: r.stop, default=None)
            if batch is None:
                raise KeyError(f"sample {at} of {run} with {setting:g} is not in {self.folder}")
            stop = min(batch.stop, part.stop)
            with np.load(folder / f"{batch.start}-{batch.stop}.npz") as file:
                rows = slice(at - batch.start, stop - batch.start)
                pieces.append({name: file[name][rows] if file[name].ndim else file[name] for name in file.files})
            pieces[-1]["size"] = np.array(stop - at)
            pieces[-1]["share"] = np.array((stop - at) / len(batch))
            at = stop
        return pieces

    def record(self, run: str, setting: float, part: range) -> Path:
        """Return the folder for the record of a batch that is not complete."""
        return self._folder("begun", run, setting) / f"{part.start}-{part.stop}"

    def begun(self, run: str, setting: float) -> list[range]:
        """Return the batches that were begun and are not complete."""
        return _ranges(self._folder("begun", run, setting), "")

    def _folder(self, kind: str, run: str, setting: float) -> Path:
        # A name may hold what a file's name may not; the sum keeps names apart that differ in such letters alone.
        readable = re.sub(r"[^\w.+-]+", "_", run)
        return self.folder / kind / f"{readable}-{zlib.crc32(run.encode()):08x}" / f"{setting:g}"


def _ranges(folder: Path, suffix: str) -> list[range]:
    """The ranges of samples that the files in a folder are named after."""
    names = (path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    return [range(int(match[1]), int(match[2])) for match in map(_RANGE.fullmatch, names) if match]


def _text(made_with: Mapping[str, Any]) -> str:
    return json.dumps(made_with, indent=2) + "\n"


def _recorded(record: Path) -> dict[str, Any]:
    """What the batches of a folder were made with."""
    if not record.exists():
        raise ValueError(f"{record.parent} holds batches but no made_with.json: name another folder")
    try:
        there: dict[str, Any] = json.loads(record.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{record} cannot be read ({error}): name another folder") from error
    return there


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How two comparisons differ, in words; empty where they do not."""
    differing = [key for key in sorted({*there, *now}) if key not in there or there[key] != now.get(key)]
    return "; ".join(
        f"{key} was {there[key]!r} and is {now.get(key)!r}" if key in there else f"its {key} was not recorded"
        for key in differing
    )
