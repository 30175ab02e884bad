"""Watching: rates and times left over all workers, in a file that says so also when nobody is at work any more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dpmsolver.generation.generating import generate
from dpmsolver.generation.targets import open_target
from dpmsolver.generation.watching import Status, Watcher, status


def test_the_rate_is_that_of_the_last_two_minutes_and_says_what_is_left(tmp_path: Path) -> None:
    """A hundred samples a minute at first, then a thousand: after five minutes the rest is told at the new pace."""
    now = [0.0]
    told: list[Status] = []
    watcher = Watcher(open_target(tmp_path), (100_000, 100), (5000, 5), 4, told.append, clock=lambda: now[0])
    for minute in range(1, 11):
        now[0] = 60.0 * minute
        watcher.advance(100 if minute <= 5 else 1000)
    last = told[-1]
    assert last.samples == 5000 + 5 * 100 + 5 * 1000
    assert last.rate == pytest.approx(1000 / 60)
    assert last.left == pytest.approx((100_000 - last.samples) / last.rate)
    watcher.finish(1000, counted=True)
    assert (told[-1].samples, told[-1].shards) == (last.samples, 6)
    assert "16.7 samples/s with 4 workers, about 1 h 29 min left" in str(last)


def test_samples_of_a_worker_that_died_are_taken_back(tmp_path: Path) -> None:
    """They will be drawn again."""
    watcher = Watcher(open_target(tmp_path), (100, 2), (0, 0), 2, None)
    watcher.advance(30)
    watcher.advance(-30)
    assert watcher.status("drawing").samples == 0


def test_a_run_says_how_far_it_is_while_it_is_drawn_and_after(tmp_path: Path) -> None:
    """Every batch is told; the end is 'done'."""
    told: list[Status] = []
    generate("mixture-2", 200, 3, out=tmp_path, shard=100, batch=50, progress=told.append)
    assert [each.samples for each in told] == [50, 100, 100, 150, 200, 200]
    assert status(str(tmp_path)).state == "done"
    assert str(status(str(tmp_path))).startswith("done: 200 of 200 samples (100 %), 2 of 2 shards")


def test_a_run_that_nobody_draws_is_stopped(tmp_path: Path) -> None:
    """What is there is counted from the manifest and the records beside it."""
    generate("mixture-2", 300, 3, out=tmp_path, shard=100)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    record = manifest["shards"].pop()
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "shards": manifest["shards"][:1]}))
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "00000002.json").write_text(json.dumps(record))
    said = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps({**said, "state": "drawing", "updated": time.time() - 100}))
    found = status(str(tmp_path))
    assert (found.state, found.samples, found.shards, found.all_shards) == ("stopped", 200, 2, 3)
    assert "the same command resumes" in str(found)
    (tmp_path / "status.json").write_text("")  # as a power failure leaves it
    assert status(str(tmp_path)).samples == 200
    with pytest.raises(ValueError, match="holds no run"):
        status(str(tmp_path / "nowhere"))


def test_a_shard_that_takes_minutes_is_at_work_and_a_killed_driver_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written while nothing is finished; a driver of this machine whose process is gone is told at once."""
    generate("mixture-2", 100, 3, out=tmp_path, shard=50)
    place, now = tmp_path / "status.json", time.time()
    monkeypatch.setattr("dpmsolver.generation.watching._BEAT", 0.01)
    watcher = Watcher(open_target(tmp_path), (100, 2), (0, 0), 2, None)
    watcher.write("drawing")
    with watcher.at_work():
        limit = time.monotonic() + 10
        while json.loads(place.read_text())["updated"] < now + 0.1 and time.monotonic() < limit:
            time.sleep(0.01)
    assert json.loads(place.read_text())["updated"] >= now + 0.1
    assert status(str(tmp_path)).state == "drawing"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place.write_text(json.dumps({**json.loads(place.read_text()), "process": gone.pid}))
    assert status(str(tmp_path)).state == "done"
