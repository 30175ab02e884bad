"""Draw many samples in shards, stop in the middle, resume, and measure them.

    python many_samples.py folder [--num 20000]

Sample i is seed i: the second call draws what the first one did not.
"""

from __future__ import annotations

import argparse
from typing import Any

import dpmsolver as dpm
from dpmsolver.generation.evaluating import evaluate
from dpmsolver.models.testbeds import load_testbed


def main(arguments: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--num", type=int, default=20000)
    given = parser.parse_args(arguments)

    def stop(status: Any) -> None:
        if status.samples >= given.num // 2:
            raise KeyboardInterrupt

    try:
        dpm.generate("mixture-16", given.num, nfe=10, out=given.folder, progress=stop)
    except KeyboardInterrupt:
        print("stopped in the middle")
    made = dpm.generate("mixture-16", given.num, nfe=10, out=given.folder)
    print(f"{made.samples} samples in {made.shards} shards, {made.drawn} of them drawn by the second call")
    print(evaluate(given.folder, data=load_testbed("mixture-16").data(2000, 1)))
    return made


if __name__ == "__main__":
    main()
