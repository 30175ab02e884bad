"""evaluate: the statistics that were kept on the way are those of the samples, and say what a pass over them would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from generation_models import HERE
from hypothesis import given, settings
from hypothesis import strategies as st

import dpmsolver as dpm
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.evaluation.precision_recall import precision_recall
from dpmsolver.generation.evaluating import evaluate
from dpmsolver.generation.generating import generate
from dpmsolver.generation.statistics import Moments, ShardStatistics, merged


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 100))
def test_moments_merge_to_those_of_all_rows(lengths: list[int], seed: int) -> None:
    """However the rows are cut, and far from zero."""
    rows = np.random.default_rng(seed).standard_normal((sum(lengths), 3)) * np.array([1.0, 10.0, 1e-3]) + np.array(
        [1e4, 0.0, 5.0]
    )
    parts = np.split(rows, np.cumsum(lengths)[:-1])
    found = merged(Moments.of(part) for part in parts)
    assert found.num == len(rows)
    assert np.allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    if len(rows) > 1:
        assert np.allclose(found.covariance, np.cov(rows.T), rtol=1e-9, atol=1e-12)


def test_statistics_of_a_shard_survive_their_file() -> None:
    """With and without rows, exactly."""
    rows = np.random.default_rng(0).standard_normal((9, 4))
    for kept in (ShardStatistics(Moments.of(rows)), ShardStatistics(Moments.of(rows), rows.astype(np.float32), 5)):
        read = ShardStatistics.read(kept.content())
        assert np.array_equal(read.moments.mean, kept.moments.mean)
        assert np.array_equal(read.moments.scatter, kept.moments.scatter)
        assert (read.moments.num, read.right) == (9, kept.right)
        assert (read.features is None) == (kept.features is None)


def test_precision_and_recall_of_known_sets() -> None:
    """Of a set with itself both are 1; of one half of the data recall is about a half; far away both are 0."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((400, 2)) + np.array([at, 0.0]) for at in (-20.0, 20.0))
    both = np.concatenate([left, right])
    assert precision_recall(both, both) == (1.0, 1.0)
    precision, recall = precision_recall(both, rng.standard_normal((400, 2)) + np.array([20.0, 0.0]))
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    assert precision_recall(both, both + 1000.0) == (0.0, 0.0)
    with pytest.raises(ValueError, match="3 neighbours need more rows"):
        precision_recall(both, both[:3])


def test_the_distance_of_a_folder_is_that_of_its_samples(tmp_path: Path) -> None:
    """Of all and of each range of seeds, from the statistics that were kept; the shard that is left over is in no range."""
    generate("mixture-2", 700, 5, out=tmp_path, shard=100)
    points = np.concatenate([np.load(path) for path in sorted((tmp_path / "samples").glob("*.npy"))])
    testbed = dpm.models.testbeds.load_testbed("mixture-2")
    assert testbed.data is not None
    data = testbed.data(600, 1)
    found = evaluate(tmp_path, data=data)
    mean, covariance = data.mean(axis=0), np.cov(data.T)
    assert found.frechet == pytest.approx(frechet_distance_to(points, mean, covariance), rel=1e-9)
    assert found.per_range == 200
    for number, value in enumerate(found.ranges):
        part = points[200 * number : 200 * (number + 1)]
        assert value == pytest.approx(frechet_distance_to(part, mean, covariance), rel=1e-9)
    assert (found.lowest, found.mean) == (min(found.ranges), pytest.approx(np.mean(found.ranges)))
    # The rows are kept as float32.
    assert (found.precision, found.recall) == pytest.approx(precision_recall(data, points[:600]), abs=0.01)
    assert "lowest" in str(found)


def test_digits_are_recognised_and_measured_on_the_way(tmp_path: Path) -> None:
    """Class accuracy and distance, the same as by reading the pictures again."""
    pytest.importorskip("diffusers")
    generate("digits", 40, 4, out=tmp_path, shard=20, batch=20, features="digits")
    kept = evaluate(tmp_path)
    assert kept.accuracy is not None
    assert kept.accuracy > 0.8
    assert kept.frechet is not None
    assert kept.yardstick is not None
    generate("digits", 40, 4, out=tmp_path / "plain", shard=20, batch=20, features="none")
    with pytest.raises(ValueError, match="this run kept none"):
        evaluate(tmp_path / "plain")
    read = evaluate(tmp_path / "plain", "digits")
    assert read.frechet == pytest.approx(kept.frechet, rel=1e-4)
    assert read.accuracy == kept.accuracy


def test_what_cannot_be_measured_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """No run, nothing to compare with, other features, data of another shape."""
    with pytest.raises(ValueError, match=r"there is no manifest\.json"):
        evaluate(tmp_path)
    generate("mixture-2", 20, 3, out=tmp_path)
    with pytest.raises(ValueError, match="nothing to compare samples features with"):
        evaluate(tmp_path)
    with pytest.raises(ValueError, match="features='nose' cannot be evaluated"):
        evaluate(tmp_path, "nose")
    with pytest.raises(ValueError, match="sees pictures"):
        evaluate(tmp_path, "digits")
    with pytest.raises(ValueError, match="data have the shape"):
        evaluate(tmp_path, data=np.zeros((9, 3)))
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match="the statistics hold 3 features, samples has 2"):
        evaluate(tmp_path, statistics=tmp_path / "other.npz")


def test_what_is_damaged_is_told_with_its_shard(tmp_path: Path) -> None:
    """Statistics that were cut off, and samples, where those are read."""
    generate("mixture-2", 20, 3, out=tmp_path / "run", shard=10)
    data = np.random.default_rng(0).standard_normal((30, 2))
    (tmp_path / "run" / "statistics" / "00000001.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"the statistics of shard 1 are gone from .*, or damaged"):
        evaluate(tmp_path / "run", data=data)
    generate("mixture-2", 20, 3, out=tmp_path / "plain", shard=10, features="none", format="webdataset")
    (tmp_path / "plain" / "samples" / "00000001.tar").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"shard 1 in .* is gone, or damaged"):
        evaluate(tmp_path / "plain", "samples", data=data)


def test_statistics_without_rows_beyond_the_first_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are kept of the first 50,000 samples, here of 100; the moments of all."""
    from dpmsolver.generation import job

    monkeypatch.setattr(
        job.Job.__init__,
        "__defaults__",
        tuple(100 if value == 50_000 else value for value in job.Job.__init__.__defaults__ or ()),
    )
    generate("mixture-2", 300, 3, out=tmp_path, shard=100)
    kept = [ShardStatistics.read(path.read_bytes()) for path in sorted((tmp_path / "statistics").iterdir())]
    assert [part.features is None for part in kept] == [False, True, True]
    assert sum(part.moments.num for part in kept) == 300


def test_pictures_of_a_testbed_have_a_contact_sheet(tmp_path: Path) -> None:
    """Of the first shard, as square as can be."""
    pytest.importorskip("torch")
    from PIL import Image

    generate(f"{HERE}:tiny_pictures", 12, 2, out=tmp_path, shard=6, batch=6)
    with Image.open(tmp_path / "first-shard.png") as sheet:
        assert sheet.size == (3 * 8 * 8, 2 * 8 * 8)
