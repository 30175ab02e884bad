"""Pictures of the same seeds, a row for each sampler: docs/images/cifar10-seeds.png, and cifar10-five.png of the README.

    python -m benchmarks.pictures --model cifar10 --out docs/images/cifar10-seeds.png \\
        "ddim@time=10" "ddim@time=50" "dpm++2m=5" "auto=5" "benchmarks/results/plans-cifar10=5" "dpm++3m-exact=100"
    python -m benchmarks.pictures --model cifar10 --num 12 --plain --out docs/images/cifar10-five.png \\
        "ddim@time=5" "benchmarks/results/plans-cifar10=5" "dpm++3m-exact=64"

A row is NAME=EVALUATIONS, with names as `dpmsolver compare` takes them: solver@grid:option=value, a file or a folder of plans.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dpmsolver.evaluation.samplers import Sampler, samplers_from_names
from dpmsolver.files import written_aside
from dpmsolver.host import to_host
from dpmsolver.models.testbeds import Testbed, load_testbed


def row_of(text: str) -> tuple[Sampler, int]:
    """A row's sampler and its evaluations. ValueError for what is not NAME=EVALUATIONS."""
    name, _, nfe = text.rpartition("=")
    if not name or not nfe.isdigit():
        raise ValueError(f"a row is NAME=EVALUATIONS, such as auto=5, got {text!r}")
    (sampler,) = samplers_from_names([name])
    return sampler, int(nfe)


def drawn(testbed: Testbed, sampler: Sampler, nfe: int, num: int, seed: int) -> Any:
    """The first samples of a seed, as bytes (num, height, width, channels)."""
    part = range(num)
    denoiser = testbed.denoiser(testbed.labels(part))
    x = sampler.draw(denoiser, testbed.initial_noise(part, seed), nfe, testbed.keys(part, seed))
    return np.rint(to_host(x).clip(-1.0, 1.0) * 127.5 + 127.5).astype(np.uint8).transpose(0, 2, 3, 1)


def figure(rows: list[tuple[str, Any]]) -> Any:
    """Rows of pictures with their names on the left."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    num = len(rows[0][1])
    made, axes = pyplot.subplots(len(rows), 1, figsize=(0.62 * num + 2.2, 0.62 * len(rows)), layout="constrained")
    for axis, (name, pictures) in zip(np.atleast_1d(axes), rows, strict=True):
        axis.imshow(np.concatenate(list(pictures), axis=1).squeeze(), cmap="gray", interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return made


def sheet(rows: list[tuple[str, Any]], scale: int = 2, gap: int = 4) -> Any:
    """Rows of colour pictures without names, enlarged, on no background."""
    from PIL import Image

    num, height, width, _ = rows[0][1].shape
    step = scale * height + gap, scale * width + gap
    whole = Image.new("RGBA", (num * step[1] - gap, len(rows) * step[0] - gap), (255, 255, 255, 0))
    for i, (_, pictures) in enumerate(rows):
        for k, picture in enumerate(pictures):
            enlarged = Image.fromarray(picture).resize((scale * width, scale * height), Image.Resampling.LANCZOS)
            whole.paste(enlarged, (k * step[1], i * step[0]))
    return whole


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=row_of, metavar="NAME=EVALUATIONS")
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--num", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="no names beside the rows")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    testbed = load_testbed(args.model, features="none")
    rows = []
    for sampler, nfe in args.rows:
        name = "tuned" if "/" in sampler.name else sampler.name
        rows.append((f"{name}\n{nfe} evaluations", drawn(testbed, sampler, nfe, args.num, args.seed)))
    with written_aside(args.out) as aside:
        if args.plain:
            sheet(rows).save(aside, format="PNG", optimize=True)
        else:
            figure(rows).savefig(aside, format="png", dpi=150)


if __name__ == "__main__":
    main()
