"""Killed anywhere, again and again, a run ends with the bytes of one that nobody disturbed, and leaves nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generation_models import HERE, leftovers, sums

from dpmsolver.generation.engines import processes
from dpmsolver.generation.generating import generate

psutil = pytest.importorskip("psutil")
DRIVER = str(Path(__file__).with_name("generate_once.py"))
RUN: dict[str, Any] = {"num": 3000, "nfe": 4, "shard": 50, "batch": 25}
WORKERS: dict[str, Any] = {"engine": "processes", "workers": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The sums of the files of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed")
    generate("mixture-2", **RUN, out=out)
    return sums(out)


def driver(out: Path, **changes: Any) -> subprocess.Popen[bytes]:
    """The same run in a process, with a network that takes its time."""
    given = {"model": f"{HERE}:slow", "out": str(out), **RUN, **changes}
    return subprocess.Popen(
        [sys.executable, DRIVER, json.dumps(given)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def wait(process: subprocess.Popen[bytes], out: Path, seconds: float) -> bool:
    """Wait for so long after this process has begun to draw; whether it is still at work."""
    if process.poll() is not None:
        return False
    since, begun, limit = psutil.Process(process.pid).create_time(), None, time.monotonic() + 60
    while process.poll() is None and time.monotonic() < limit:
        with contextlib.suppress(FileNotFoundError):
            if begun is None and (out / "status.json").stat().st_mtime > since + 0.1:  # not that of the one before
                begun = time.monotonic()
        if begun is not None and time.monotonic() - begun >= seconds:
            return True
        time.sleep(0.005)
    return False


def kill(process: subprocess.Popen[bytes], victim: str, rng: random.Random) -> None:
    """Kill the driver, or one of its workers, with a signal that nobody can catch."""
    children = psutil.Process(process.pid).children() if victim == "worker" else []
    with contextlib.suppress(psutil.NoSuchProcess):
        if children:
            rng.choice(children).send_signal(signal.SIGKILL)
        else:
            process.kill()
            process.wait()


def survive(out: Path, undisturbed: dict[str, str], kills: int, seed: int) -> int:
    """Kill drivers and workers at random moments, so many times, and compare whenever a run ends; return how many runs did.

    Each start takes an engine at random: one goes on with what the other has begun.
    """
    rng, ended, done = random.Random(seed), 0, 0
    while done < kills or not ended:
        folder = out / str(ended)
        given = rng.choice(({}, WORKERS))
        process = driver(folder, **given)
        while done < kills and wait(process, folder, rng.uniform(0.0, 0.8)):
            kill(process, rng.choice(("driver", "worker")) if given else "driver", rng)
            done += 1
        _, said = process.communicate(timeout=120)
        if process.returncode == 0:
            assert sums(folder) == undisturbed
            assert leftovers(folder) == []
            ended += 1
        elif process.returncode != -signal.SIGKILL:
            pytest.fail(f"a run ended by itself: {said.decode()}")
    return ended


def test_five_kills_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """The driver and workers, with SIGKILL."""
    assert survive(tmp_path, undisturbed, 5, seed=0)


@pytest.mark.slow
def test_a_hundred_kills_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """The same for longer."""
    assert survive(tmp_path, undisturbed, 100, seed=1) > 1


def test_workers_do_not_outlive_their_driver(tmp_path: Path) -> None:
    """Whatever kills it: they read from its pipe."""
    process, children, limit = driver(tmp_path / "run", **WORKERS), [], time.monotonic() + 60
    while len(children) < WORKERS["workers"] and process.poll() is None and time.monotonic() < limit:
        children = psutil.Process(process.pid).children()
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    assert len(children) >= WORKERS["workers"]
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_a_worker_that_always_dies_stops_the_run_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard is given to a few, here to two, not for ever."""
    monkeypatch.setattr(processes, "MOST_DEATHS", 2)
    with pytest.raises(RuntimeError, match=r"shard 0 ended 2 workers \(exit code 3\)"):
        generate(f"{HERE}:deadly", 20, 2, out=tmp_path, shard=10, batch=7, engine="processes", workers=1)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own, where the machine lets one have it."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.name != "posix", reason="mount")
@pytest.mark.parametrize("engine", ["inline", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    engine: str, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """Nothing half-written stays."""
    given: dict[str, Any] = {**RUN, "engine": engine, **({"workers": 2} if engine == "processes" else {})}
    with mounted(tmp_path / "small", "size=96k") as small:
        with pytest.raises(OSError, match="No space left"):
            generate("mixture-2", **given, out=small / "run")
        assert leftovers(small / "run") == ["records"]
        kept = sums(small / "run")
        assert 0 < len(kept) < len(undisturbed)
        assert kept.items() <= undisturbed.items()
        subprocess.run(["mount", "-o", "remount,size=16m", str(small)], check=True)
        assert generate("mixture-2", **given, out=small / "run").drawn < RUN["num"]
        assert sums(small / "run") == undisturbed
        assert leftovers(small / "run") == []


def test_a_target_that_is_for_reading_is_refused(tmp_path: Path) -> None:
    """Before a model is loaded; also for root, whom permissions do not stop."""
    with mounted(tmp_path / "mounted", "size=1m") as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(ValueError, match="cannot be written to"):
            generate("mixture-2", **RUN, out=folder / "run")
