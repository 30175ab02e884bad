"""Formats: what is written is read by the library that each is for, and is the same bytes every time."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_models import HERE, leftovers, sums

import dpmsolver as dpm
from dpmsolver.generation import targets
from dpmsolver.generation.formats import FORMATS, Samples
from dpmsolver.generation.generating import generate
from dpmsolver.generation.pictures import png

pytest.importorskip("torch")
MODEL = f"{HERE}:tiny_pictures"


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The pictures as bytes, from the format that shows them as they are."""
    out = tmp_path_factory.mktemp("formats")
    generate(MODEL, 12, 3, out=out, format="npz", shard=12, batch=4)
    with np.load(out / "samples" / "00000000.npz") as arrays:
        return arrays["arr_0"]


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_tar_files(tmp_path: Path, pixels: np.ndarray) -> None:
    """Keys are seeds of nine digits, with the picture, the class and what is known beside it."""
    webdataset = pytest.importorskip("webdataset")
    generate(MODEL, 12, 3, out=tmp_path, shard=5, batch=4)
    urls = [str(path) for path in sorted((tmp_path / "samples").glob("*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    gc.collect()
    assert [each["__key__"] for each in read] == [f"{seed:09d}" for seed in range(12)]
    assert [each["cls"] for each in read] == [seed % 4 for seed in range(12)]
    assert [each["json"]["seed"] for each in read] == list(range(12))
    assert np.array_equal(np.stack([each["png"] for each in read]), pixels)


@pytest.mark.parametrize("name", ["webdataset", "parquet"])
def test_datasets_reads_tar_and_parquet(name: str, tmp_path: Path, pixels: np.ndarray) -> None:
    """The picture is an Image, the class a number, in the order of the seeds."""
    datasets = pytest.importorskip("datasets")
    generate(MODEL, 12, 3, out=tmp_path / "run", format=name, shard=6, batch=3)  # type: ignore[arg-type]
    files = [str(path) for path in sorted((tmp_path / "run" / "samples").iterdir())]
    datasets.disable_progress_bars()
    read = datasets.load_dataset(name, data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    image, label = ("image", "label") if name == "parquet" else ("png", "cls")
    assert isinstance(read.features[image], datasets.Image)
    assert np.array_equal(np.stack([np.asarray(each) for each in read[image]]), pixels)
    assert list(read[label]) == [seed % 4 for seed in range(12)]


def test_npz_is_what_guided_diffusion_reads(tmp_path: Path, pixels: np.ndarray) -> None:
    """One file of all shards, arr_0 in bytes NHWC and arr_1 the classes; the same bytes as in another run."""
    for name in ("a", "b"):
        generate(MODEL, 12, 3, out=tmp_path / name, format="npz", shard=5, batch=5)
    with np.load(tmp_path / "a" / "samples_12x8x8x3.npz") as arrays:
        assert arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_0"].shape == pixels.shape
        assert arrays["arr_1"].tolist() == [seed % 4 for seed in range(12)]
    assert (tmp_path / "a" / "samples_12x8x8x3.npz").read_bytes() == (
        tmp_path / "b" / "samples_12x8x8x3.npz"
    ).read_bytes()


@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: content[:-99] + b"x" + content[-98:]])
def test_a_merged_file_that_was_cut_off_or_changed_is_made_again(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """The manifest has its sha256; nothing is drawn for it, and a folder whose manifest does not know the file gets it anew."""
    given: dict[str, Any] = {"num": 12, "nfe": 2, "format": "npz", "shard": 6, "batch": 3, "out": tmp_path}
    generate(MODEL, **given)
    merged, manifest = tmp_path / "samples_12x8x8x3.npz", tmp_path / "manifest.json"
    whole, before = merged.read_bytes(), merged.stat().st_mtime_ns
    generate(MODEL, **given)
    assert merged.stat().st_mtime_ns == before
    merged.write_bytes(damage(whole))
    with pytest.warns(dpm.ConventionWarning, match=r"samples_12x8x8x3\.npz in .* has .*: it is made again"):
        assert generate(MODEL, **given).drawn == 0
    assert merged.read_bytes() == whole
    known = json.loads(manifest.read_text())
    assert known.pop("merged")["sha256"] == hashlib.sha256(whole).hexdigest()
    manifest.write_text(json.dumps(known))
    merged.write_bytes(damage(whole))
    assert generate(MODEL, **given).drawn == 0
    assert merged.read_bytes() == whole


def test_png_is_in_folders_of_1000_as_edm_has_them(tmp_path: Path) -> None:
    """Named by seed, in a folder named by its first seed; nothing else in `samples` looks like a picture."""
    from PIL import Image

    generate(MODEL, seeds="996-1003", nfe=2, out=tmp_path, format="png", batch=4)
    names = sorted(str(path.relative_to(tmp_path / "samples")) for path in (tmp_path / "samples").rglob("*.png"))
    assert names == [f"{seed - seed % 1000:06d}/{seed:06d}.png" for seed in range(996, 1004)]
    with Image.open(tmp_path / "samples" / names[0]) as picture:
        assert picture.size == (8, 8)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files")
def test_pictures_are_durable_before_their_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is synced before it is renamed, then their folder, then the record is written."""
    events: list[str] = []
    sync, rename = os.fsync, os.replace

    def synced(handle: int) -> None:
        sync(handle)
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)

    def renamed(old: Path, new: Path) -> None:
        rename(old, new)
        events.append(f"to {Path(new).name}")

    monkeypatch.setattr(targets.os, "fsync", synced)
    monkeypatch.setattr(targets.os, "replace", renamed)
    generate(MODEL, 40, 2, out=tmp_path, format="png", batch=10, features="none")
    names = [f"{seed:06d}.png" for seed in range(40)]
    last = max(events.index(f"to {name}") for name in names)
    for name in names:
        aside = next(index for index, event in enumerate(events) if event.startswith(f".{name}."))
        assert aside < events.index(f"to {name}")
    assert last < events.index("000000", last) < events.index("to 00000000.json")


def test_a_shard_of_pictures_that_was_interrupted_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a record it is drawn again, and the pictures that lie there are kept."""
    given: dict[str, Any] = {"num": 40, "nfe": 2, "format": "png", "batch": 10}
    generate(MODEL, **given, out=tmp_path / "a")
    rename, done = os.replace, list[str]()

    def renamed(old: Path, new: Path) -> None:
        if Path(new).suffix == ".png" and len(done) >= 20:
            raise OSError("the disk is gone")
        rename(old, new)
        done.append(Path(new).name)

    with monkeypatch.context() as patch:
        patch.setattr(targets.os, "replace", renamed)
        with pytest.raises(OSError, match="the disk is gone"):
            generate(MODEL, **given, out=tmp_path / "b")
    assert 0 < len(sums(tmp_path / "b")) < len(sums(tmp_path / "a"))
    assert not json.loads((tmp_path / "b" / "manifest.json").read_text())["shards"]
    assert generate(MODEL, **given, out=tmp_path / "b").drawn == 40
    assert sums(tmp_path / "b") == sums(tmp_path / "a")
    assert not leftovers(tmp_path / "b")


def test_npy_keeps_what_the_sampler_left(tmp_path: Path) -> None:
    """Floats, not clipped, of anything; their rounding is what the other formats hold."""
    generate(MODEL, 12, 3, out=tmp_path / "floats", format="npy", shard=12, batch=4)
    floats = np.load(tmp_path / "floats" / "samples" / "00000000.npy")
    assert floats.dtype == np.float32
    assert floats.shape == (12, 3, 8, 8)
    assert np.load(tmp_path / "floats" / "samples" / "00000000.labels.npy").tolist() == [seed % 4 for seed in range(12)]
    generate("mixture-2", 10, 3, out=tmp_path / "points")
    assert np.load(tmp_path / "points" / "samples" / "00000000.npy").shape == (10, 2)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_what_it_writes(name: str) -> None:
    """Values and classes, and the same files from the same samples."""
    kind = FORMATS[name]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 6, 5, 1), dtype=np.uint8)
    values = rng.standard_normal((4, 2, 3)).astype(np.float32) if kind.floats else pixels
    pngs = [png(picture) for picture in pixels] if kind.pngs else None
    samples = Samples(values, [3, 4, 5, 6], [1, 0, 1, 2], None, pngs)
    files = kind.files(samples, "00000000")
    assert files == kind.files(samples, "00000000")
    read = kind.read(files)
    assert np.array_equal(read.values, values)
    assert read.labels == [1, 0, 1, 2]


def test_what_is_no_picture_is_refused_by_png_and_taken_by_the_others(tmp_path: Path) -> None:
    """Points go into tar files as .npy, into parquet as lists."""
    with pytest.raises(ValueError, match="'png' holds pictures"):
        generate("mixture-2", 10, 3, out=tmp_path / "png", format="png")
    assert not (tmp_path / "png").exists()
    with pytest.raises(ValueError, match="folders of 1000"):
        generate(MODEL, 12, 3, out=tmp_path / "png", format="png", shard=6)
    for name in ("webdataset", "parquet", "npz"):
        generate("mixture-2", 10, 3, out=tmp_path / name, format=name)  # type: ignore[arg-type]
        files = {path: (tmp_path / name / path).read_bytes() for path in sums(tmp_path / name)}
        assert FORMATS[name].read(files).values.shape == (10, 2)
