"""Seeds and shards: every seed in one shard, whose bounds do not depend on the run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmsolver.generation.seeds import Seeds

RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=5)


@given(RANGES, st.integers(1, 37))
def test_shards_hold_every_seed_once_in_blocks_that_no_run_moves(gaps: list[tuple[int, int]], size: int) -> None:
    """Whatever the ranges: the shards together are the seeds, in order, and a shard's seeds lie in its block."""
    ranges, at = [], 0
    for gap, length in gaps:
        ranges.append(range(at + gap, at + gap + length))
        at = ranges[-1].stop
    seeds = Seeds.of(ranges, size)
    shards = list(seeds.shards)
    found = [seed for shard in shards for seed in seeds.of_shard(shard)]
    assert found == [seed for part in ranges for seed in part]
    assert len(seeds) == len(found)
    assert len(shards) == seeds.num_shards == len(set(shards))
    assert shards[0] == seeds.first
    assert all(seed // size == shard for shard in shards for seed in seeds.of_shard(shard))
    assert Seeds.of(str(seeds), size) == seeds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-5-3", "seeds must be >= 0, got '-5-3'"),
        ("0-9,5-12", "seeds overlap: 5 is named twice"),
        ("9-0", "run backwards: write 0-9"),
        ("a lot", "seeds are written 0-49999"),
        ("", "seeds are written 0-49999"),
    ],
)
def test_seeds_that_cannot_be_are_refused_in_a_sentence(text: str, said: str) -> None:
    """Negative, twice, backwards, no numbers."""
    with pytest.raises(ValueError, match=said):
        Seeds.of(text)


def test_ranges_that_cannot_be_are_refused() -> None:
    """From Python: a negative start, a step, nothing at all, a shard of nothing."""
    for wrong in (range(-3, 5), range(0, 10, 2), range(0), [range(4), range(2, 6)]):
        with pytest.raises(ValueError, match="seeds"):
            Seeds.of(wrong)
    with pytest.raises(ValueError, match="shard=0"):
        Seeds.of(range(5), 0)
