"""Seeds: sample i is seed i. Seeds are cut into shards, blocks of consecutive seeds whose bounds do not depend on the run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Seeds", "SeedsLike"]

SeedsLike = str | range | Sequence[range]
_MOST = 2**63  # what 64 bits with a sign hold, as the column of parquet has
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Seeds:
    """Ranges of seeds, ascending and disjoint, and the shards into which they are cut.

    Shard k holds those of the seeds k size … (k + 1) size - 1 that are wanted. So two runs with one size agree on their common shards.

    Args:
        ranges: the ranges, from `Seeds.of`.
        size: the number of seeds in a complete shard.

    Examples:
        >>> seeds = Seeds.of("0-9,25-27", size=10)
        >>> len(seeds), list(seeds.shards), seeds.of_shard(2)
        (13, [0, 2], [25, 26, 27])
        >>> str(seeds)
        '0-9,25-27'
    """

    ranges: tuple[range, ...]
    size: int

    @classmethod
    def of(cls, seeds: SeedsLike, size: int = 1000) -> Seeds:
        """Read seeds: a range, several ranges, or text such as "0-49999" or "0-99,500-599", both ends included.

        Raises:
            ValueError: a text has another form, seeds are negative or missing, ranges overlap, or the size is below 1.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"a shard has at least one seed, got shard={size!r}")
        if isinstance(seeds, str):
            parts = _read(seeds)
        else:
            parts = [seeds] if isinstance(seeds, range) else list(seeds) if isinstance(seeds, Iterable) else []
        if not all(isinstance(part, range) and part.step == 1 for part in parts) or not any(parts):
            raise ValueError(
                f"seeds are a range such as range(50000), several, or text such as '0-49999', got {seeds!r}"
            )
        ordered = sorted((part for part in parts if part), key=lambda part: part.start)
        if ordered[0].start < 0:
            raise ValueError(f"seeds must be >= 0, got {ordered[0].start}")
        if ordered[-1].stop > _MOST:
            raise ValueError(f"seeds must be below 2^63, got {ordered[-1].stop - 1}")
        joined = ordered[:1]
        for part in ordered[1:]:
            if part.start < joined[-1].stop:
                raise ValueError(f"seeds overlap: {part.start} is named twice in {_text(ordered)}")
            if part.start == joined[-1].stop:
                joined[-1] = range(joined[-1].start, part.stop)
            else:
                joined.append(part)
        return cls(tuple(joined), size)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __str__(self) -> str:
        return _text(self.ranges)

    @cached_property
    def first(self) -> int:
        """The number of the first shard."""
        return self.ranges[0].start // self.size

    @property
    def shards(self) -> Iterator[int]:
        """The numbers of the shards, ascending."""
        last = -1
        for part in self.ranges:
            for number in range(max(part.start // self.size, last + 1), (part.stop - 1) // self.size + 1):
                last = number
                yield number

    @cached_property
    def num_shards(self) -> int:
        """The number of shards."""
        return sum(1 for _ in self.shards)

    def block(self, shard: int) -> range:
        """Return all seeds that a shard may have, wanted or not."""
        return range(shard * self.size, (shard + 1) * self.size)

    def of_shard(self, shard: int) -> list[int]:
        """Return the seeds of a shard, ascending."""
        block = self.block(shard)
        parts = (range(max(part.start, block.start), min(part.stop, block.stop)) for part in self.ranges)
        return [seed for part in parts for seed in part]


def _read(text: str) -> list[range]:
    found = []
    for part in text.replace(" ", "").split(","):
        match = _RANGE.fullmatch(part)
        if not match:
            cause = "seeds must be >= 0" if part.startswith("-") else "seeds are written 0-49999, or 0-99,500-599"
            raise ValueError(f"{cause}, got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"seeds {part} run backwards: write {last}-{first}")
        found.append(range(first, last + 1))
    return found


def _text(ranges: Iterable[range]) -> str:
    return ",".join(f"{part.start}-{part.stop - 1}" if len(part) > 1 else f"{part.start}" for part in ranges)
