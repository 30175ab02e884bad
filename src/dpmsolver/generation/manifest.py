"""The manifest of a run: what made it, and the sha256 of every shard that is there.

A shard is there when its record is. A worker writes the files of a shard, then its record, `records/00000012.json`; the driver moves the
records of finished shards into `manifest.json` when a run starts and when it ends. A process that is killed between the two leaves files
without a record: the shard is drawn again, and its bytes are compared with those that lie there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dpmsolver.generation.targets import Target

__all__ = ["MANIFEST", "RECORDS", "SAMPLES", "STATISTICS", "Manifest", "Record", "digest", "stem"]

MANIFEST, RECORDS, SAMPLES, STATISTICS = "manifest.json", "records", "samples", "statistics"
_VERSION = 1


def stem(shard: int) -> str:
    """Return the name of a shard, without an ending.

    Examples:
        >>> stem(12)
        '00000012'
    """
    return f"{shard:08d}"


def digest(files: Mapping[str, bytes]) -> str:
    """Return the sha256 of a shard: that of its file; of several, that of what `sha256sum` prints of them in the order of their names."""
    return combined({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def combined(sums: Mapping[str, str]) -> str:
    """Return the sha256 of a shard from those of its files, by name."""
    if len(sums) == 1:
        return next(iter(sums.values()))
    return hashlib.sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()).hexdigest()


@dataclass(frozen=True)
class Record:
    """What is known of a shard that is there.

    Args:
        shard: its number. num: of samples. files, size: how many files there are, and their bytes in all.
        sha256: see `digest`. statistics: the sha256 of the file of its statistics, None where there is none.
        made_with: which of the manifest's environments drew it.
    """

    shard: int
    num: int
    files: int
    size: int
    sha256: str
    statistics: str | None = None
    made_with: str = ""

    @property
    def name(self) -> str:
        """That of its own file, before the manifest has it."""
        return f"{RECORDS}/{stem(self.shard)}.json"

    def text(self) -> bytes:
        """Return the record as a file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, target: Target, shard: int) -> Record | None:
        """Return the record of a shard that has its own file; None where there is none."""
        return cls.parsed(target.read(f"{RECORDS}/{stem(shard)}.json"))

    @classmethod
    def parsed(cls, content: bytes | None) -> Record | None:
        """Return a record from its file; None for one that is not there, or that a power failure left empty."""
        try:
            return None if content is None else cls(**json.loads(content))
        except (ValueError, TypeError):
            return None


@dataclass
class Manifest:
    """What a folder holds.

    Args:
        run: what the samples depend on, by name; see `Job.run`.
        model: its name, which may change where its weights do not.
        environments: versions and devices that shards were drawn with, by a short sum of them.
        shards: the records by shard.
    """

    run: dict[str, Any]
    model: str = ""
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    shards: dict[int, Record] = field(default_factory=dict)

    @classmethod
    def read(cls, target: Target) -> Manifest | None:
        """Return the manifest of a folder, with the records beside it; None where there is none.

        Raises:
            ValueError: it cannot be read.
        """
        content = target.read(MANIFEST)
        if content is None:
            return None
        try:
            found = json.loads(content)
            if found["version"] != _VERSION:
                raise ValueError(f"it has version {found['version']}, and {_VERSION} is read")
            shards = {each["shard"]: Record(**each) for each in found["shards"]}
            manifest = cls(found["run"], found["model"], found["environments"], shards)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{MANIFEST} in {target.url} cannot be read ({error}): name another folder") from None
        manifest.collect(target)
        return manifest

    def collect(self, target: Target) -> None:
        """Take in the records that lie beside the manifest."""
        for content in target.read_all(list(target.sizes(RECORDS))).values():
            record = Record.parsed(content)
            if record is not None:
                self.shards[record.shard] = record

    def write(self, target: Target) -> None:
        """Write the manifest, and remove the records that are in it."""
        shards = [asdict(self.shards[number]) for number in sorted(self.shards)]
        whole = {
            "version": _VERSION,
            "model": self.model,
            "run": self.run,
            "environments": self.environments,
            "shards": [],
        }
        head = json.dumps(whole, indent=1).removesuffix("[]\n}")
        # A shard a line: a manifest that can be read with grep, and compared with diff.
        lines = ",\n".join(json.dumps(each) for each in shards)
        target.write(MANIFEST, f"{head}[\n{lines}\n]\n}}\n".encode())
        target.remove_all(list(target.sizes(RECORDS)))

    def differences(self, run: Mapping[str, Any]) -> list[str]:
        """How another run differs, in words; nothing where it does not."""
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
    """Return the files in `samples` by the shard that their names say; None: names that no shard has."""
    found: dict[int | None, list[str]] = {}
    for name in names:
        inside = name.removeprefix(f"{SAMPLES}/")
        first = inside.partition("/")[0].partition(".")[0]
        known = first.isdigit()
        shard = (int(first) // size if "/" in inside else int(first)) if known else None
        found.setdefault(shard, []).append(name)
    return found
