"""Memory: the peak of a whole `dpm.tune` for 5 evaluations, with states as large as the latents of SDXL, each fit in a process of its own.

    python -m benchmarks.tuning.memory [--noises 16,64,256]

The network is the optimal one of a Gaussian law of 4 x 128 x 128 dimensions, on NumPy in float32. The effort suffices for all stages; 16
noises are too few for a search. The peak is the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile

import numpy as np

import dpmsolver as dpm

SIZE = 4 * 128 * 128
EFFORT = 40_000


def measured(count: int, stored: bool) -> str:
    """Return a row of the table: the peak of a fit, and that of the same process before the fit, in MiB."""
    schedule, rng = dpm.schedules.LinearVP(), np.random.default_rng(0)
    mean, variance = rng.normal(0.0, 0.5, SIZE), np.exp(rng.uniform(np.log(0.01), 0.0, SIZE))
    model = dpm.models.Gaussian(mean, variance)
    x_T = rng.standard_normal((count, SIZE), dtype=np.float32)
    before = _peak()
    with tempfile.TemporaryDirectory() as folder:
        report = dpm.tune(model.denoiser(schedule), x_T, 5, effort=EFFORT, store=folder if stored else None).report
    stages = ", ".join(stage.name for stage in report.stages)
    cells = count, "yes" if stored else "no", f"{before:.0f}", f"{_peak():.0f}", f"{report.seconds:.0f}"
    return f"| {' | '.join(map(str, cells))} | {report.summaries[report.winner].mean:.3g} | {stages} |"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noises", default="16,64,256", metavar="LIST", help="numbers of noises")
    parser.add_argument("--one", nargs=2, metavar=("NOISES", "STORED"), help="measure one fit in this process")
    args = parser.parse_args()
    if args.one:
        print(measured(int(args.one[0]), args.one[1] == "True"))
        return
    print("| noises | store | MiB before | peak MiB | s | mean error | stages |\n|-|-|-|-|-|-|-|", flush=True)
    for count in args.noises.split(","):
        for stored in (False, True):
            subprocess.run([sys.executable, "-m", "benchmarks.tuning.memory", "--one", count, str(stored)], check=True)


if __name__ == "__main__":
    main()
