"""Samples as files: one sheet of pictures, a folder of pictures, or an array, each written aside and renamed, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpmsolver.cli.shared import check_writable
from dpmsolver.files import written_aside
from dpmsolver.generation.pictures import Pixels, sheet, to_pixels

__all__ = ["Output", "output"]

_SHEETS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def output(text: str) -> Output:
    """Read --out: the ending of a name says the format, and a folder is one that exists, or a name without an ending or with / after it.

    Raises:
        ValueError: another ending, a folder to write in that is missing or cannot be written to.
    """
    if not text.strip():
        raise ValueError("--out is empty: name a file that ends in .png, .jpg or .npz, or a folder")
    path = Path(text)
    there = path.is_dir()
    if there or text.endswith(("/", os.sep)) or not path.suffix:
        if path.exists() and not there:
            raise ValueError(f"--out {text} is a file: name a folder, or a file that ends in .png, .jpg or .npz")
        kind = "folder"
    elif path.suffix.lower() in (*_SHEETS, ".npz"):
        kind = path.suffix.lower()
    else:
        raise ValueError(
            f"--out {text}: a name ends in .png, .jpg or .npz, or is a folder (no ending, or / after it), got {path.suffix}"
        )
    folder = path if there else path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"--out {text}: there is no folder {path.parent}")
    check_writable(path, folder)
    return Output(path, kind)


@dataclass(frozen=True)
class Output:
    """A place for samples and the format that its name says: ".png", ".jpg", ".npz", or "folder"."""

    path: Path
    kind: str

    def check_channels(self, channels: int) -> None:
        """Raise ValueError for samples that are no pictures, unless they go into an array."""
        if self.kind != ".npz" and channels not in (1, 3):
            raise ValueError(
                f"pictures have 1 or 3 channels, and the samples of this model have {channels}: write an .npz file"
            )

    def write(self, samples: NDArray[np.float32], labels: Sequence[int] | None, seed: int) -> None:
        """Write samples (num, channels, height, width) in [-1, 1]."""
        pixels = to_pixels(samples)
        if self.kind == "folder":
            _write_folder(pixels, seed, self.path)
        elif self.kind == ".npz":
            with written_aside(self.path) as aside, aside.open("wb") as file:
                arrays = [pixels] if labels is None else [pixels, np.array(labels, dtype=np.int64)]
                np.savez(file, *arrays)
        else:
            with written_aside(self.path) as aside:
                _save(sheet(pixels), aside, _SHEETS[self.kind])


def _write_folder(pixels: Pixels, seed: int, folder: Path) -> None:
    """One PNG for each sample, named by the seed and its number in the run: both together draw it again."""
    with _folder_aside(folder) as aside:
        for i, picture in enumerate(pixels):
            _save(picture, aside / f"seed{seed}_{i:05d}.png", "PNG")


@contextmanager
def _folder_aside(folder: Path) -> Iterator[Path]:
    """A new folder beside the given one; what is in it moves over when the block ends, and goes if it fails."""
    aside = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        yield aside
        if not folder.exists():
            os.replace(aside, folder)
            return
        for file in sorted(aside.iterdir()):
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _save(pixels: Pixels, path: Path, kind: str) -> None:
    from PIL import Image

    options = {"quality": 95} if kind == "JPEG" else {}
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, format=kind, **options)
