"""The picture of the README: the same noises, drawn by DDIM, by a fitted plan, and by a run that is converged.

    python -m benchmarks.pictures        writes docs/images/cifar10-five.png, in some minutes on a processor

A column is a noise, the first ones of seed 0 with the ten classes in turn: nothing is picked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import dpmsolver as dpm
from dpmsolver.files import written_aside

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images" / "cifar10-five.png"
PLAN = ROOT / "benchmarks" / "results" / "plans-cifar10" / "plan-5.json"
COLUMNS, SCALE, GAP = 12, 2, 4


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args(argv).out
    model = dpm.models.load("cifar10")
    denoiser, x_T = model.denoiser([k % 10 for k in range(COLUMNS)]), model.initial_noise(COLUMNS, seed=0)
    plan = dpm.Plan.from_json(PLAN.read_text())
    end = plan.end.time
    exact = dpm.sample(denoiser, x_T, nfe=64, solver="dpm++3m-exact", end=end).numpy()
    rows = [
        dpm.sample(denoiser, x_T, nfe=5, solver="ddim", grid="time", end=end).numpy(),
        dpm.sample(denoiser, x_T, plan=plan).numpy(),
        exact,
    ]
    for row in rows[:2]:
        print(f"mean error {np.sqrt(np.square(row - exact).mean(axis=(1, 2, 3))).mean():.3f}")
    with written_aside(out) as aside:
        sheet(rows).save(aside, format="PNG", optimize=True)
    return 0


def sheet(rows: list[np.ndarray]) -> Image.Image:
    """Pictures (K, 3, H, W) in [-1, 1], a row each, on no background."""
    height, width = SCALE * rows[0].shape[2], SCALE * rows[0].shape[3]
    whole = Image.new(
        "RGBA", (len(rows[0]) * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), (255, 255, 255, 0)
    )
    for i, row in enumerate(rows):
        levels = np.rint((np.clip(row, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
        for k, picture in enumerate(levels):
            enlarged = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
            whole.paste(enlarged, (k * (width + GAP), i * (height + GAP)))
    return whole


if __name__ == "__main__":
    raise SystemExit(main())
