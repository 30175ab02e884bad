"""Formats of shards: the files into which samples are written, the same bytes in every process, and reading them back.

- `webdataset`: a tar file with three files for each sample: SEED.png (SEED.npy if the sample is not a picture), SEED.cls with its class,
  and SEED.json with the other information. webdataset, and the format "webdataset" of datasets, read it.
- `parquet`: the columns image (an `Image` for datasets; "sample", a list of numbers, if it is not a picture), seed, label and prompt.
- `npz`: arr_0, bytes (n, height, width, channels), and arr_1, the classes, for guided-diffusion's evaluator.
- `png`: a PNG for each sample, in folders of 1000 named after their first seed, like those of EDM's generate.py, which its fid.py reads.
- `npy`: an array of the sampler's floats, and the classes in a second array, for latents and other samples that are not pictures.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmsolver.errors import unknown

__all__ = ["FORMATS", "Format", "Samples", "format_of"]

_FOLDER = 1000  # pictures of a folder, as EDM has them
Files = dict[str, bytes]


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples that are written to files or read from them.

    Args:
        values: bytes (n, height, width, channels) for pictures; floats (n, …) for other samples and for formats that keep floats.
        seeds, labels, prompts: one per sample, or None.
        pngs: the pictures as PNG files, for formats that need them.
    """

    values: NDArray[Any]
    seeds: Sequence[int]
    labels: Sequence[int] | None = None
    prompts: Sequence[str] | None = None
    pngs: Sequence[bytes] | None = None

    def about(self, index: int) -> dict[str, Any]:
        """Return the information about a sample besides its values."""
        known: dict[str, Any] = {"seed": self.seeds[index]}
        if self.labels is not None:
            known["label"] = self.labels[index]
        if self.prompts is not None:
            known["prompt"] = self.prompts[index]
        return known


@dataclass(frozen=True)
class Format:
    """A format of shards.

    Args:
        files: a function (samples, stem) -> the content of each file by its name.
        read: the inverse function.
        pictures: True if it holds only pictures.
        floats: True if it keeps the sampler's floats, even those of pictures.
        pngs: True if it consists of PNG files.
    """

    name: str
    files: Callable[[Samples, str], Files]
    read: Callable[[Mapping[str, bytes]], Samples]
    pictures: bool = False
    floats: bool = False
    pngs: bool = False
    needs: str = ""

    def check(self, pictures: bool, shard: int) -> None:
        """Raise ValueError if samples or a size of shards do not suit this format, and ImportError if a package is missing."""
        if self.pictures and not pictures:
            raise ValueError(
                f"format {self.name!r} holds pictures with 1 or 3 channels, and these samples are none: take 'npy'"
            )
        if self.name == "png" and shard != _FOLDER:
            raise ValueError(
                f"format 'png' has folders of {_FOLDER}, so a shard has {_FOLDER} seeds, got shard={shard}"
            )
        if self.needs:
            try:
                __import__(self.needs)
            except ImportError as error:
                raise ImportError(
                    f"format {self.name!r} needs {self.needs} ({error}): pip install 'dpmsolver[generate]'"
                ) from error


def format_of(name: str | None, pictures: bool) -> Format:
    """Return the format of a name; by default webdataset for pictures and npy for other samples. Raise ValueError for an unknown name."""
    chosen = name or ("webdataset" if pictures else "npy")
    if chosen not in FORMATS:
        raise ValueError(unknown("format", chosen, FORMATS))
    return FORMATS[chosen]


def _webdataset(samples: Samples, stem: str) -> Files:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index, seed in enumerate(samples.seeds):
            key = f"{seed:09d}"
            if samples.pngs is not None:
                _add(tar, f"{key}.png", samples.pngs[index])
            else:
                _add(tar, f"{key}.npy", _npy(samples.values[index]))
            if samples.labels is not None and samples.prompts is None:
                _add(tar, f"{key}.cls", str(samples.labels[index]).encode())
            if samples.prompts is not None:
                _add(tar, f"{key}.txt", samples.prompts[index].encode())
            _add(tar, f"{key}.json", json.dumps(samples.about(index)).encode())
    return {f"{stem}.tar": file.getvalue()}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of nobody, and of 1970: the same bytes everywhere
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _read_webdataset(files: Mapping[str, bytes]) -> Samples:
    pixels, known = [], []
    for content in files.values():
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                if member.name.endswith((".png", ".npy")):
                    pixels.append(_array(member.name, file.read()))
                elif member.name.endswith(".json"):
                    known.append(json.loads(file.read()))
    return _with_known(pixels, known)


def _with_known(values: list[NDArray[Any]], known: list[dict[str, Any]]) -> Samples:
    labels, prompts = ([each[key] for each in known] if key in known[0] else None for key in ("label", "prompt"))
    return Samples(np.stack(values), [each["seed"] for each in known], labels, prompts)


def _parquet(samples: Samples, stem: str) -> Files:
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {}
    features: dict[str, Any] = {}
    if samples.pngs is not None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [
            {"bytes": content, "path": f"{seed:09d}.png"}
            for content, seed in zip(samples.pngs, samples.seeds, strict=True)
        ]
        columns["image"], features["image"] = pa.array(rows, kind), {"_type": "Image"}
    else:
        flat = samples.values.reshape(len(samples.seeds), -1)
        columns["sample"] = pa.array(list(flat), pa.list_(pa.from_numpy_dtype(flat.dtype)))
        features["sample"] = {"_type": "List", "feature": {"_type": "Value", "dtype": str(flat.dtype)}}
    columns["seed"], features["seed"] = pa.array(samples.seeds, pa.int64()), {"_type": "Value", "dtype": "int64"}
    if samples.labels is not None:
        columns["label"], features["label"] = pa.array(samples.labels, pa.int64()), {"_type": "Value", "dtype": "int64"}
    if samples.prompts is not None:
        columns["prompt"], features["prompt"] = pa.array(samples.prompts), {"_type": "Value", "dtype": "string"}
    about = {"huggingface": json.dumps({"info": {"features": features}}), "shape": json.dumps(samples.values.shape[1:])}
    table = pa.table(columns).replace_schema_metadata(about)
    file = io.BytesIO()
    parquet.write_table(table, file)
    return {f"{stem}.parquet": file.getvalue()}


def _read_parquet(files: Mapping[str, bytes]) -> Samples:
    from pyarrow import parquet

    (content,) = files.values()
    table = parquet.read_table(io.BytesIO(content))
    rows = {name: table.column(name).to_pylist() for name in table.column_names}
    if "image" in rows:
        values = np.stack([_array(".png", each["bytes"]) for each in rows["image"]])
    else:
        kind = np.float64 if "double" in str(table.schema.field("sample").type) else np.float32
        values = np.array(rows["sample"], dtype=kind).reshape(-1, *json.loads(table.schema.metadata[b"shape"]))
    return Samples(values, rows["seed"], rows.get("label"), rows.get("prompt"))


def _npz(samples: Samples, stem: str) -> Files:
    file = io.BytesIO()
    arrays = [samples.values, *([] if samples.labels is None else [np.array(samples.labels, dtype=np.int64)])]
    np.savez(file, *arrays)
    return {f"{stem}.npz": file.getvalue()}


def _read_npz(files: Mapping[str, bytes]) -> Samples:
    (content,) = files.values()
    with np.load(io.BytesIO(content)) as arrays:
        labels = arrays["arr_1"].tolist() if "arr_1" in arrays.files else None
        return Samples(arrays["arr_0"], [], labels)


def _pngs(samples: Samples, stem: str) -> Files:
    assert samples.pngs is not None
    named = zip(samples.seeds, samples.pngs, strict=True)
    files = {f"{seed - seed % _FOLDER:06d}/{seed:06d}.png": content for seed, content in named}
    if samples.labels is not None:  # as EDM's dataset.json has them
        folder = min(files).split("/")[0]
        pairs = [[name, label] for name, label in zip(files, samples.labels, strict=True)]
        files[f"{folder}/labels.json"] = json.dumps({"labels": pairs}).encode()
    return files


def _read_pngs(files: Mapping[str, bytes]) -> Samples:
    names = sorted(name for name in files if name.endswith(".png"))
    labels = next((json.loads(content)["labels"] for name, content in files.items() if name.endswith(".json")), None)
    seeds = [int(name.rpartition("/")[2].removesuffix(".png")) for name in names]
    values = np.stack([_array(".png", files[name]) for name in names])
    return Samples(values, seeds, None if labels is None else [label for _, label in labels])


def _npys(samples: Samples, stem: str) -> Files:
    files = {f"{stem}.npy": _npy(samples.values)}
    if samples.labels is not None:
        files[f"{stem}.labels.npy"] = _npy(np.array(samples.labels, dtype=np.int64))
    return files


def _read_npys(files: Mapping[str, bytes]) -> Samples:
    arrays = {name: _array(name, content) for name, content in files.items()}
    labels = next((array.tolist() for name, array in arrays.items() if name.endswith(".labels.npy")), None)
    values = next(array for name, array in arrays.items() if not name.endswith(".labels.npy"))
    return Samples(values, [], labels)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _array(name: str, content: bytes) -> NDArray[Any]:
    """The array of an .npy file, or the pixels (height, width, channels) of a picture."""
    if name.endswith(".npy"):
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


_ALL = (
    Format("webdataset", _webdataset, _read_webdataset, pngs=True),
    Format("parquet", _parquet, _read_parquet, pngs=True, needs="pyarrow"),
    Format("npz", _npz, _read_npz),
    Format("png", _pngs, _read_pngs, pictures=True, pngs=True),
    Format("npy", _npys, _read_npys, floats=True),
)
FORMATS: dict[str, Format] = {each.name: each for each in _ALL}
