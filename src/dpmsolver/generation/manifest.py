"""The manifest of a run: what made the samples, and the sha256 of every finished shard.

A shard is finished when its record exists. A worker writes the files of a shard and then its record, `records/00000012.json`. The driver
moves the records of finished shards into `manifest.json` when a run starts and when it ends. A process that is killed between the two
leaves files without a record: the shard is drawn again, and its bytes are compared with the files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpmsolver.brief import brief
from dpmsolver.generation.targets import Target

__all__ = [
    "MANIFEST",
    "RECORDS",
    "SAMPLES",
    "STATISTICS",
    "Manifest",
    "Merged",
    "Record",
    "combined",
    "digest",
    "files_by_shard",
    "stem",
    "sum_of",
]

MANIFEST, RECORDS, SAMPLES, STATISTICS = "manifest.json", "records", "samples", "statistics"
_VERSION = 1
_RECORD = re.compile(RECORDS + r"/\d+\.json")
# The types of the fields of a run that are read again.
_KINDS = {"seeds": str, "shard": int, "batch": int, "features": str, "format": str, "shape": list}


def stem(shard: int) -> str:
    """Return the file name of a shard, without an ending.

    Examples:
        >>> stem(12)
        '00000012'
    """
    return f"{shard:08d}"


def sum_of(run: Mapping[str, Any]) -> str:
    """Return a short sum of a run, which its records carry."""
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:8]


def digest(files: Mapping[str, bytes]) -> str:
    """Return the sha256 of a shard: that of its file, or that of the output of `sha256sum` for several files in order of their names."""
    return combined({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def combined(sums: Mapping[str, str]) -> str:
    """Return the sha256 of a shard from those of its files, by name."""
    if len(sums) == 1:
        return next(iter(sums.values()))
    return hashlib.sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """The record of a finished shard.

    Args:
        shard: the number of the shard.
        num: the number of its samples.
        files, size: the number of its files, and their bytes in all.
        sha256: see `digest`.
        statistics: the sha256 of the file of its statistics, or None.
        made_with: the environment of the manifest in which it was drawn.
        run: a short sum of the run that it belongs to.
    """

    shard: int
    num: int
    files: int
    size: int
    sha256: str
    statistics: str | None = None
    made_with: str = ""
    run: str = ""

    def __post_init__(self) -> None:
        if any(type(value) is not int for value in (self.shard, self.num, self.files, self.size)):
            raise TypeError(f"the record of shard {self.shard!r} has numbers that are none")

    def require(self, run: str, target: Target) -> None:
        """Raise ValueError if the record belongs to another run: stores have no locks, and two runs may write to one folder."""
        if self.run not in ("", run):
            raise ValueError(
                f"{self.name} in {target.url} is of another run, which may be at work there: name another folder"
            )

    @property
    def name(self) -> str:
        """The name of its own file, before it is moved into the manifest."""
        return f"{RECORDS}/{stem(self.shard)}.json"

    def text(self) -> bytes:
        """Return the record as the content of a file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, target: Target, shard: int) -> Record | None:
        """Return the record of a shard from its own file, or None if there is no file."""
        return cls.parsed(target.read(f"{RECORDS}/{stem(shard)}.json"))

    @classmethod
    def parsed(cls, content: bytes | None) -> Record | None:
        """Return a record from the content of its file, or None for no content or one that a power failure left empty."""
        try:
            return None if content is None else cls(**json.loads(content))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Merged:
    """The file of all samples at the end of a run, with its size and its sha256."""

    name: str
    size: int
    sha256: str


@dataclass
class Manifest:
    """The manifest of a folder.

    Args:
        run: everything on which the samples depend, by name; see `Job.run`.
        model: the name of the model, which may change as long as its weights do not.
        environments: the versions and devices with which shards were drawn, by a short sum of them.
        shards: the records by shard.
        merged: the file of all samples, once it exists; only the format npz has one.
    """

    run: dict[str, Any]
    model: str = ""
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    shards: dict[int, Record] = field(default_factory=dict)
    merged: Merged | None = None

    @classmethod
    def read(cls, target: Target) -> Manifest | None:
        """Return the manifest of a folder, with the records in files of their own, or None if there is none.

        Raises:
            ValueError: the manifest cannot be read.
        """
        content = target.read(MANIFEST)
        if content is None:
            return None
        try:
            found = json.loads(content)
            if found["version"] != _VERSION:
                raise ValueError(f"it has version {found['version']}, and {_VERSION} is read")
            shards = {each["shard"]: Record(**each) for each in found["shards"]}
            merged = None if found.get("merged") is None else Merged(**found["merged"])
            manifest = cls(found["run"], found["model"], found["environments"], shards, merged)
            manifest.check()
        except KeyError as error:
            raise ValueError(
                f"{MANIFEST} in {target.url} cannot be read (it lacks {error}): name another folder"
            ) from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{MANIFEST} in {target.url} cannot be read ({error}): name another folder") from None
        manifest.collect(target)
        return manifest

    def check(self) -> None:
        """Raise KeyError or TypeError if parts are missing or of another type, as in a file that somebody has edited."""
        for name, kind in _KINDS.items():
            if not isinstance(self.run[name], kind):
                raise TypeError(f"{name} is {brief(self.run[name])}")
        known = self.environments
        if not isinstance(known, dict) or not all(isinstance(each, dict) for each in known.values()):
            raise TypeError(f"its environments are {brief(known)}")

    def collect(self, target: Target) -> None:
        """Add the records that are in files of their own.

        Raises:
            ValueError: a record belongs to another run.
        """
        for content in target.read_all([name for name in target.sizes(RECORDS) if _RECORD.fullmatch(name)]).values():
            record = Record.parsed(content)
            if record is not None:
                record.require(sum_of(self.run), target)
                self.shards[record.shard] = record

    def write(self, target: Target) -> None:
        """Write the manifest, and remove the files of the records that it contains."""
        shards = [asdict(self.shards[number]) for number in sorted(self.shards)]
        for each in shards:
            del each["run"]  # that of the manifest
        whole = {
            "version": _VERSION,
            "model": self.model,
            "run": self.run,
            "environments": self.environments,
            **({} if self.merged is None else {"merged": asdict(self.merged)}),
            "shards": [],
        }
        head = json.dumps(whole, indent=1).removesuffix("[]\n}")
        # A shard a line: a manifest that can be read with grep, and compared with diff.
        lines = ",\n".join(json.dumps(each) for each in shards)
        target.write(MANIFEST, f"{head}[\n{lines}\n]\n}}\n".encode())
        there = target.sizes(RECORDS)
        target.remove_all([record.name for record in self.shards.values() if record.name in there])

    def differences(self, run: Mapping[str, Any]) -> list[str]:
        """Return the differences of another run in words; an empty list if there is none."""
        now = json.loads(json.dumps(run))
        return [
            f"{key} was {_short(self.run.get(key))} and is {_short(now.get(key))}"
            for key in dict.fromkeys((*self.run, *now))
            if self.run.get(key) != now.get(key)
        ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]} … ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def files_by_shard(names: Iterable[str], size: int) -> dict[int | None, list[str]]:
    """Return the files in `samples` by the shard that their names tell; None holds names that belong to no shard."""
    found: dict[int | None, list[str]] = {}
    for name in names:
        inside = name.removeprefix(f"{SAMPLES}/")
        first = inside.partition("/")[0].partition(".")[0]
        known = first.isdigit()
        shard = (int(first) // size if "/" in inside else int(first)) if known else None
        found.setdefault(shard, []).append(name)
    return found
