"""On Ray: the same bytes, whatever of it is killed, and a price for each shard that is small beside a network."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from generation_models import HERE, leftovers, sums

from dpmsolver.generation.generating import generate

pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")
DRIVER = str(Path(__file__).with_name("generate_once.py"))
RUN: dict[str, Any] = {"num": 1500, "nfe": 4, "shard": 50, "batch": 25}
RAY: dict[str, Any] = {"engine": "ray", "workers": 2}


def driver(out: Path, model: str = "sleeper", **changes: Any) -> subprocess.Popen[bytes]:
    """A run on Ray in a process of its own, which starts Ray and ends it."""
    given = {"model": f"{HERE}:{model}", "out": str(out), **RUN, **RAY, **changes}
    # By default Ray's workers are 15 nicer than the driver, so that whatever else runs on the machine starves them.
    return subprocess.Popen(
        [sys.executable, DRIVER, json.dumps(given)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "RAY_worker_niceness": "0"},
    )


def gone(processes: list[Any]) -> None:
    """Wait until they are, and end what is left of a Ray that lost its driver."""
    for process in psutil.wait_procs(processes, timeout=15)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.mark.slow
def test_ray_draws_the_bytes_of_this_process(tmp_path: Path) -> None:
    """With one worker and with two; what a run has begun elsewhere, Ray ends."""
    generate("mixture-2", **RUN, out=tmp_path / "here")
    for workers in (1, 2):
        process = driver(tmp_path / f"{workers}", "slow", workers=workers)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
        assert sums(tmp_path / f"{workers}") == sums(tmp_path / "here")
        assert leftovers(tmp_path / f"{workers}") == []


def named(process: Any, name: str) -> bool:
    """Whether a process is there and has a name."""
    try:
        return name in process.name() or name in " ".join(process.cmdline())
    except psutil.Error:
        return False


def struck(process: subprocess.Popen[bytes], kills: int, rng: random.Random) -> int:
    """Kill the driver, an actor or the raylet at random moments, until the run has ended; return how many were killed."""
    own, family, done, lost = psutil.Process(process.pid), list[Any](), 0, False
    while done < kills and process.poll() is None:
        family = own.children(recursive=True)
        workers = [each for each in family if named(each, "MapWorker")]
        if not workers:
            time.sleep(0.1)
            continue
        time.sleep(rng.uniform(0.0, 2.0))
        victim = rng.choice(("driver", "worker", "raylet"))
        chosen = {"driver": [own], "worker": workers, "raylet": [each for each in family if named(each, "raylet")]}[
            victim
        ]
        if not chosen:  # the run is ending
            continue
        with contextlib.suppress(psutil.Error):
            chosen[0].send_signal(signal.SIGKILL)
        done += 1
        lost = victim != "worker"
        if lost:
            break
    try:
        process.communicate(timeout=10 if lost else 120)
    except subprocess.TimeoutExpired:  # a driver that waits for its raylet
        process.kill()
        process.communicate()
    gone(family)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kills"), [(0, 5), (1, 5), (2, 100)])
def test_killed_drivers_workers_and_raylets_leave_the_bytes_of_an_undisturbed_run(
    seed: int, kills: int, tmp_path: Path
) -> None:
    """Ray mends an actor's death; after that of a raylet or a driver the same command resumes; an ended run is followed by another."""
    generate("mixture-2", **RUN, out=tmp_path / "here")
    rng, done, ended = random.Random(seed), 0, 0
    while done < kills or not ended:
        out = tmp_path / f"killed-{ended}"
        process = driver(out)
        struck_now = struck(process, kills - done, rng)
        done += struck_now
        assert struck_now or process.returncode == 0
        if process.returncode == 0:
            assert sums(out) == sums(tmp_path / "here")
            assert leftovers(out) == []
            ended += 1


@pytest.mark.slow
def test_an_error_of_a_worker_is_told_as_it_is(tmp_path: Path) -> None:
    """And not tried again: a network that returns NaN, a model that is not there; one that ends its process is tried five times."""
    for model, said, changes in (
        ("broken", "NaN", {}),
        ("missing", "unknown function", {}),
        ("deadly_to_load", "a worker died while it loaded the model", {}),
        ("deadly", "shard 0 ended 5 workers", {"num": 10, "shard": 10, "batch": 7, "workers": 1}),
    ):
        process = driver(tmp_path / model, model, **changes)
        _, text = process.communicate(timeout=400)
        assert process.returncode == 1
        assert said in text.decode().strip().splitlines()[-1]


def test_a_cluster_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    """At once, and nothing is made."""
    with pytest.raises(ValueError, match=r"the Ray cluster at 127\.0\.0\.1:9 cannot be reached"):
        generate("mixture-2", **RUN, out=tmp_path / "out", engine="ray", address="127.0.0.1:9")
    assert not (tmp_path / "out").exists()
