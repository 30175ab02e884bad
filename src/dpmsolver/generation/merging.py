"""One .npz file of all shards, for guided-diffusion's evaluator, read and written shard by shard."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from dpmsolver.errors import ConventionWarning
from dpmsolver.generation.manifest import SAMPLES, Merged, Record, stem
from dpmsolver.generation.targets import Target

__all__ = ["merge_npz"]


def merge_npz(
    target: Target, records: Sequence[Record], num: int, shape: Sequence[int], known: Merged | None, *, whole: bool
) -> Merged:
    """Write `samples_50000x32x32x3.npz` from the shards of format npz, unless it exists as the manifest knows it.

    The memory is that of one shard, whatever the number of samples.

    Args:
        known: the file in the manifest, or None.
        whole: whether the content of a file that exists is compared, or only its size.

    Warns:
        ConventionWarning: the file is damaged and made again.
    """
    name = f"samples_{'x'.join(map(str, (num, *shape)))}.npz"
    if known is not None and known.name == name:
        cause = _damage(known, target, whole)
        if not cause:
            return known
        warnings.warn(f"{name} in {target.url} {cause}: it is made again", ConventionWarning, stacklevel=4)
    with target.writing(name) as file:
        stream = _Stream(file)
        _merge(stream, target, records, num)
    return Merged(name, stream.size, stream.sha256.hexdigest())


def _damage(known: Merged, target: Target, whole: bool) -> str:
    """Return what is wrong with the merged file, in words. With whole=True its content is read."""
    size = target.size(known.name)
    if size is None:
        return "is gone"
    if size != known.size:
        return f"has {size:,} bytes instead of {known.size:,}"
    if whole and target.sha256(known.name) != known.sha256:
        return f"has not the sha256 of the manifest, {known.sha256[:16]}…"
    return ""


def _merge(stream: _Stream, target: Target, records: Sequence[Record], num: int) -> None:
    """Write the arrays of all shards, one array after the other."""
    with zipfile.ZipFile(stream, "w", allowZip64=True) as archive:
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


class _Stream:
    """A file that cannot seek, like those of stores, so that the bytes are the same everywhere. It counts and sums them."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, content: bytes, /) -> int:
        self.size += len(content)
        self.sha256.update(content)
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
