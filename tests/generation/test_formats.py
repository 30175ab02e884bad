"""Formats: what is written is read by the library that each is for, and is the same bytes every time."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from generation_models import HERE, sums

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


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its files to be collected
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


def test_png_is_in_folders_of_1000_as_edm_has_them(tmp_path: Path) -> None:
    """Named by seed, in a folder named by its first seed; nothing else in `samples` looks like a picture."""
    from PIL import Image

    generate(MODEL, seeds="996-1003", nfe=2, out=tmp_path, format="png", batch=4)
    names = sorted(str(path.relative_to(tmp_path / "samples")) for path in (tmp_path / "samples").rglob("*.png"))
    assert names == [f"{seed - seed % 1000:06d}/{seed:06d}.png" for seed in range(996, 1004)]
    with Image.open(tmp_path / "samples" / names[0]) as picture:
        assert picture.size == (8, 8)


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
