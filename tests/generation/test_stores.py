"""Stores without a rename: a run into S3's protocol, spoken by a server on this machine, and into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_models import HERE, sums

import dpmsolver as dpm
from dpmsolver.generation.evaluating import evaluate
from dpmsolver.generation.generating import generate
from dpmsolver.generation.targets import Target, open_target
from dpmsolver.generation.watching import status

pytest.importorskip("fsspec")
RUN: dict[str, Any] = {"num": 200, "nfe": 3, "shard": 50, "batch": 25}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on a server of this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import boto3

        boto3.client("s3").create_bucket(Bucket="samples")
        yield "s3://samples"
    server.stop()


def objects(url: str) -> dict[str, str]:
    """The sha256 of the samples in a store."""
    target = open_target(url)
    return {name: hashlib.sha256(target.read(name) or b"").hexdigest() for name in target.sizes("samples")}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_store_holds_the_bytes_of_a_folder(workers: int, bucket: str, tmp_path: Path) -> None:
    """Also from two processes, and verified when the same call comes again."""
    generate("mixture-2", **RUN, out=tmp_path)
    url, engine = f"{bucket}/{workers}", {} if workers == 1 else {"engine": "processes", "workers": workers}
    assert generate("mixture-2", **RUN, **engine, out=url).drawn == 200  # type: ignore[arg-type]
    assert objects(url) == sums(tmp_path)
    assert open_target(url).sizes("records") == {}
    assert generate("mixture-2", **RUN, out=url).drawn == 0
    assert status(url).state == "done"
    assert evaluate(url, data=np.random.default_rng(0).standard_normal((100, 2))).frechet is not None


def test_a_shard_is_there_when_its_record_is(bucket: str) -> None:
    """An upload without a record is drawn again and compared; a foreign one stops the run; a damaged one is drawn again."""
    url = f"{bucket}/killed"
    generate("mixture-2", **RUN, out=url)
    whole, target = objects(url), open_target(url)
    manifest = json.loads(target.read("manifest.json") or b"")
    manifest["shards"] = manifest["shards"][:2]
    target.write("manifest.json", json.dumps(manifest).encode())
    assert generate("mixture-2", **RUN, out=url).drawn == 100
    assert objects(url) == whole
    target.write("manifest.json", json.dumps(manifest).encode())
    own = target.read("samples/00000003.npy") or b""
    target.write("samples/00000003.npy", own[:-1] + b"x")
    with pytest.raises(ValueError, match="is not of this run"):
        generate("mixture-2", **RUN, out=url)
    target.write("samples/00000003.npy", own)
    target.write("samples/00000000.npy", own[:50])
    with pytest.warns(dpm.ConventionWarning, match="shard 0"):
        generate("mixture-2", **RUN, out=url)
    assert objects(url) == whole


def test_the_merged_file_streams_into_a_store(bucket: str, tmp_path: Path) -> None:
    """The same bytes as on a disk."""
    pytest.importorskip("torch")
    given: dict[str, Any] = {"num": 40, "nfe": 2, "shard": 20, "batch": 10, "format": "npz"}
    generate(f"{HERE}:tiny_pictures", **given, out=tmp_path)
    generate(f"{HERE}:tiny_pictures", **given, out=f"{bucket}/npz")
    name = "samples_40x8x8x3.npz"
    assert open_target(f"{bucket}/npz").read(name) == (tmp_path / name).read_bytes()
    open_target(f"{bucket}/npz").write(name, b"half")
    with pytest.warns(dpm.ConventionWarning, match=f"{name} in .* has 4 bytes instead of"):
        generate(f"{HERE}:tiny_pictures", **given, out=f"{bucket}/npz")
    assert open_target(f"{bucket}/npz").read(name) == (tmp_path / name).read_bytes()


def test_pictures_as_files_of_their_own_go_into_a_store(bucket: str, tmp_path: Path) -> None:
    """Many at once; one that lies there without a record is compared with its seed."""
    pytest.importorskip("torch")
    given: dict[str, Any] = {"num": 12, "nfe": 2, "format": "png", "batch": 4}
    generate(f"{HERE}:tiny_pictures", **given, out=tmp_path)
    target = open_target(f"{bucket}/png")
    target.write("samples/000000/000003.png", (tmp_path / "samples" / "000000" / "000003.png").read_bytes())
    target.write(
        "manifest.json", json.dumps({**json.loads((tmp_path / "manifest.json").read_text()), "shards": []}).encode()
    )
    generate(f"{HERE}:tiny_pictures", **given, out=target.url)
    assert objects(target.url) == sums(tmp_path)
    target.write(
        "manifest.json", json.dumps({**json.loads((tmp_path / "manifest.json").read_text()), "shards": []}).encode()
    )
    target.write("samples/000000/000003.png", b"foreign")
    with pytest.raises(ValueError, match=r"000003\.png in .* is not of this run"):
        generate(f"{HERE}:tiny_pictures", **given, out=target.url)


def half_of(target: Target) -> None:
    """Begin a file, and fail."""
    with target.writing("half.bin") as file:
        file.write(b"half")
        raise OSError("in the middle")


def test_a_file_that_was_not_finished_does_not_appear(bucket: str, tmp_path: Path) -> None:
    """Neither in a store nor in a folder."""
    for url in (f"{bucket}/halves", str(tmp_path)):
        target = open_target(url)
        with pytest.raises(OSError, match="in the middle"):
            half_of(target)
        assert target.sizes("") == {}


def test_a_store_that_cannot_be_reached_is_told_in_a_sentence(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is not there, a server that is not there."""
    with pytest.raises(ValueError, match="no bucket 'nothing'"):
        generate("mixture-2", **RUN, out="s3://nothing/run")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ValueError, match="cannot be reached") as refused:
        generate("mixture-2", **RUN, out="s3://samples/run")
    assert "\n" not in str(refused.value)
    for call in (status, evaluate):
        with pytest.raises(OSError, match="s3://samples/run cannot be reached") as lost:
            call("s3://samples/run")
        assert "\n" not in str(lost.value)
    s3fs.S3FileSystem.clear_instance_cache()


def test_memory_is_a_store(tmp_path: Path) -> None:
    """Any protocol of fsspec."""
    generate("mixture-2", **RUN, out="memory://run")
    generate("mixture-2", **RUN, out=tmp_path)
    assert objects("memory://run") == sums(tmp_path)
