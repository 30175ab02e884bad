"""One .npz file of all shards, for guided-diffusion's evaluator, read and written shard by shard."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from dpmsolver.generation.manifest import SAMPLES, Record, stem
from dpmsolver.generation.targets import Target

__all__ = ["merge_npz"]


def merge_npz(target: Target, records: Sequence[Record], num: int, shape: Sequence[int]) -> str:
    """Write `samples_50000x32x32x3.npz` from the shards of format npz, unless it exists complete, and return its name.

    The memory is that of one shard, whatever the number of samples.
    """
    name = f"samples_{'x'.join(map(str, (num, *shape)))}.npz"
    if target.has(name):
        return name
    with target.writing(name) as file, zipfile.ZipFile(_Stream(file), "w", allowZip64=True) as archive:
        for key in ("arr_0", "arr_1"):
            entry: IO[bytes] | None = None
            for record in records:
                with np.load(io.BytesIO(target.read(f"{SAMPLES}/{stem(record.shard)}.npz") or b"")) as arrays:
                    if key not in arrays.files:
                        break
                    rows = arrays[key]
                if entry is None:
                    # A name alone, as NumPy's own writer has it, is of 1980: the same bytes in every run.
                    entry = archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True)
                    _header(entry, rows, num)
                entry.write(np.ascontiguousarray(rows).tobytes())
            if entry is not None:
                entry.close()
    return name


class _Stream:
    """A file that cannot go back, as those of stores cannot: so the bytes are the same everywhere."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, content: bytes, /) -> int:
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """The target closes it."""


def _header(file: IO[bytes], rows: Any, num: int) -> None:
    described = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": (num, *rows.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, described)
