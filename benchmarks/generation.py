"""What `dpm.generate` costs beside the network: throughput, the price of a shard on Ray, memory for a million seeds, 50,000 digits.

    python -m benchmarks.generation throughput [--num 2000] [--json FILE]   # against a loop of the network alone, in turn
    python -m benchmarks.generation ray [--shards 10000]                    # a network that sleeps: what is left is the scheduler's
    python -m benchmarks.generation million [--num 1000000]                 # mixture-16 on Ray, with the memory of its workers
    python -m benchmarks.generation digits [--num 50000]                    # two processes, then Ray, then a fifth by this one

The last one draws for about half an hour on two free cores: each of its three runs may be stopped and resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpmsolver.generation.drawing import Artist
from dpmsolver.generation.generating import generate
from dpmsolver.generation.job import Job
from dpmsolver.generation.manifest import SAMPLES
from dpmsolver.generation.preparing import prepare
from dpmsolver.generation.seeds import Seeds
from dpmsolver.generation.sources import Source, load_source
from dpmsolver.models.testbeds import Testbed, load_testbed

NFE = 10
BLOCK = 50  # samples of one shard, and of one stretch of the bare loop
BATCH = 50


def bare(source: Source, num: int) -> None:
    """The network alone: as many calls as `num` samples take, with their labels, on one batch that never changes."""
    import torch

    seeds = list(range(BATCH))
    x, denoiser = source.start(seeds), source.denoiser(seeds)
    t = torch.full((BATCH,), 500.0)
    with torch.no_grad():
        for _ in range(num // BATCH * NFE):
            denoiser.network(x, t, **denoiser.network_kwargs)


def one_worker(num: int, threads: int) -> dict[str, float]:
    """Seconds of `num` digits by an artist, with files and statistics, and of the bare loop, in turn, block after block."""
    import torch

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            "digits",
            folder,
            Seeds.of(range(num), BLOCK),
            None,
            wanted=("auto", NFE, None),
            batch=BATCH,
            threads=threads,
        )
        source = load_source(job)
        prepared = prepare(job, source)
        job = job.replace(plan=prepared.plan, format=prepared.format, features=prepared.features, probe=prepared.probe)
        artist = Artist(job, Source(source.testbed, job))
        bare(source, BLOCK)
        spent = {f"{name}{kind}": 0.0 for name in ("generate", "bare") for kind in ("", " cpu")}
        for shard in job.seeds.shards:
            for name, work in (("generate", partial(artist.draw, shard)), ("bare", partial(bare, source, BLOCK))):
                begin, worked = time.perf_counter(), time.process_time()
                work()
                spent[name] += time.perf_counter() - begin
                spent[f"{name} cpu"] += time.process_time() - worked
    return spent


def throughput(num: int) -> dict[str, Any]:
    """Samples per second of the bare loop and of `generate`, for one worker with all cores and for one worker on each."""
    cores = os.cpu_count() or 1
    found: dict[str, Any] = {"num": num, "cores": cores}
    for workers, threads in ((cores, 1), (1, cores)):
        each = num // workers
        command = [
            sys.executable,
            "-m",
            "benchmarks.generation",
            "worker",
            "--num",
            str(each),
            "--threads",
            str(threads),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        running = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(workers)
        ]
        spent = [json.loads(process.communicate()[0]) for process in running]
        rates = {name: sum(each / one[name] for one in spent) for name in ("bare", "generate")}
        # On a machine that others use, the time of the processors says more than the clock.
        worked = {name: sum(one[f"{name} cpu"] for one in spent) for name in ("bare", "generate")}
        found[f"{workers} x {threads} threads"] = {
            **rates,
            "share": rates["generate"] / rates["bare"],
            "share by processor time": worked["bare"] / worked["generate"],
        }
        print(json.dumps(found), file=sys.stderr)
    return found


def sleeping(seconds: float = 0.02) -> Testbed:
    """A network of the plane that sleeps: as a GPU does what it is asked for while a processor waits."""
    plain = load_testbed("mixture-2")

    def denoiser(labels: Any) -> Any:
        own = plain.network_denoiser(labels)
        return own.replace(network=partial(_asleep, seconds))

    return Testbed("sleeping", plain.schedule, plain.shape, np.empty(0), denoiser)


def _asleep(seconds: float, x: Any, t: Any) -> Any:
    time.sleep(seconds)
    return 0.0 * x


def on_ray(shards: int, workers: int = 8) -> dict[str, Any]:
    """What a shard costs on Ray beside its network, which sleeps 40 ms: two evaluations of one batch."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        place = f"{Path(__file__)}:sleeping"
        made = generate(
            place, 10 * shards, 2, out=folder, shard=10, batch=10, features="none", engine="ray", workers=workers
        )
        whole = time.perf_counter() - begun
    slept = 0.04 * shards / workers
    return {
        "shards": shards,
        "workers": workers,
        "seconds": made.seconds,
        "slept": slept,
        "with start": whole,
        "ms per shard": 1000.0 * (made.seconds - slept) / shards,
        "ms per shard and worker": 1000.0 * (made.seconds - slept) / shards * workers,
    }


def million(num: int) -> dict[str, Any]:
    """A million seeds of ten Gaussians in 16 dimensions on Ray, with the memory of the workers over time."""
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        made = generate("mixture-16", num, NFE, out=folder, shard=5000, batch=5000, engine="ray")
    return {
        "num": num,
        "seconds": made.seconds,
        "rate": num / made.seconds,
        "MiB of a worker by tenths": memory.tenths(),
    }


class Memory:
    """The largest resident memory of an actor, looked at twice a second."""

    def __enter__(self) -> Memory:
        self.seen: list[float] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def _look(self) -> None:
        import psutil

        own = psutil.Process()
        while not self.over.wait(0.5):
            try:
                actors = [child for child in own.children(recursive=True) if "MapWorker" in " ".join(child.cmdline())]
                sizes = [child.memory_full_info().uss / 2**20 for child in actors]
            except psutil.Error:
                continue
            if sizes:
                self.seen.append(max(sizes))

    def tenths(self) -> list[int]:
        """The largest in each tenth of the run."""
        return [round(max(part)) for part in np.array_split(np.array(self.seen), 10) if len(part)]


def digits(num: int, folder: Path) -> dict[str, Any]:
    """Fifty thousand digits by two processes and by Ray, the first fifth of them by this process, and whether they are the same bytes."""
    runs: dict[str, tuple[int, dict[str, Any]]] = {
        "processes": (num, {"engine": "processes", "workers": 2, "threads": 1}),
        "ray": (num, {"engine": "ray", "workers": 2, "threads": 1}),
        "inline": (num // 5, {"engine": "inline", "threads": 1}),
    }
    found: dict[str, Any] = {"num": num}
    sums: dict[str, dict[str, str]] = {}
    for name, (count, settings) in runs.items():
        generate("digits", count, NFE, out=folder / name, batch=BATCH, **settings)
        files = sorted((folder / name / SAMPLES).iterdir())
        sums[name] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        found[name] = {"settings": settings, "num": count, "shards": len(files)}
    found["same bytes"] = all(each.items() <= sums["processes"].items() for each in sums.values())
    return found


def main() -> None:
    """Run one of the measurements and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "ray", "million", "digits", "worker"))
    parser.add_argument("--num", type=int)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("generated"), help="of digits: its three runs stay there")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any]
    if given.what == "worker":
        print(json.dumps(one_worker(given.num or 1000, given.threads)))
        return
    if given.what == "throughput":
        found = throughput(given.num or 2000)
    elif given.what == "ray":
        found = on_ray(given.shards)
    elif given.what == "million":
        found = million(given.num or 1_000_000)
    else:
        found = digits(given.num or 50_000, given.folder)
    print(json.dumps(found, indent=1))
    if given.json is not None:
        known = json.loads(given.json.read_text()) if given.json.exists() else {}
        given.json.write_text(json.dumps({**known, given.what: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
