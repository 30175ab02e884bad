"""The abstract's claims without a network, on laws with the statistics of CIFAR-10's pictures (`dpmsolver.models.cifar10_laws`).

    python -m benchmarks.paper.cifar10 [--json FILE] [--spectrum cifar10.npy]                  (two minutes on one core)

`gaussian`: the 2-Wasserstein distance to the Gaussian, exact, by evaluations, for DDIM (the best of three grids) and DPM-Solver, in
continuous and in discrete time; and the fewest evaluations with which DDIM comes as near. Runs end at t = 1e-3.

`rank`: the RMS distance to the end of the exact trajectory on the mixture, beside published FIDs of the same samplers on CIFAR-10's
networks, and Spearman's rank correlation of the two at each budget. A distance is not an FID: ranks are compared, values are not.

`pierret_galerne`: the table of Pierret & Galerne (arXiv 2405.14250) again. Its spectrum, of CIFAR-10 itself, is the file `cifar10.npy` of
their repository (github.com/emilePi/Preprint_code), which `--spectrum` names; the cells under `ours` are those of the law that ships.

Published figures: Lu et al. 2022 (arXiv 2206.00927); Zheng et al. 2023 (arXiv 2310.13268), ScoreSDE's network; Zhou et al. 2023 (arXiv
2312.00094; github.com/zju-pi/diff-sampler), EDM's network, with the grids that are said there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import dpmsolver as dpm
from benchmarks.paper.common import about_this_run, run_command, write_json
from dpmsolver.models import cifar10_laws
from dpmsolver.plans import Combination, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers import Solver

RESULTS = Path("benchmarks/results/paper-cifar10.json")
END = 1e-3
BUDGETS = (10, 12, 15, 20)
BASELINE = (10, 15, 20, 30, 44, 50, 70, 100, 150, 200, 300)
GRIDS = ("time", "logsnr", "quadratic")
SCHEDULES: dict[str, NoiseSchedule] = {
    "continuous": dpm.schedules.LinearVP(),
    "discrete": dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000)),
}
NUM, SEED = 24, 1  # of the mixture's samples

# FID of 50,000 samples by budget; solver and grid here. Published names and settings: see the module's docstring.
PUBLISHED: dict[str, dict[str, Any]] = {
    "VP": {
        "budgets": [5, 6, 8, 10, 12, 15, 20],
        "source": "Zheng et al. 2023, arXiv 2310.13268",
        "rows": {
            "DDIM": ("ddim", "time", [54.56, 41.92, 27.51, 20.11, 15.64, 12.05, 9.00]),
            "DPM-Solver": ("dpm-fast", "logsnr", [290.51, 23.78, 23.51, 4.67, 4.97, 3.34, 2.85]),
            "DPM-Solver++(3M)": ("dpm++3m", "logsnr", [28.53, 13.48, 5.34, 4.01, 4.04, 3.32, 2.90]),
            "UniPC-3": ("unipc-3", "logsnr", [23.71, 10.41, 5.16, 3.93, 3.88, 3.05, 2.73]),
            "DPM-Solver-v3": ("dpm-v3", "logsnr", [12.76, 7.40, 3.94, 3.40, 3.24, 2.91, 2.71]),
        },
    },
    "EDM": {
        "budgets": [5, 6, 7, 8, 9, 10],
        "source": "Zhou et al. 2023, arXiv 2312.00094",
        "rows": {
            "Euler": ("ddim", "karras", [49.66, 35.62, 27.93, 22.32, 18.43, 15.69]),
            "DPM-Solver++(3M)": ("dpm++3m", "logsnr", [24.97, 11.99, 6.74, 4.54, 3.42, 3.00]),
            "UniPC-3": ("unipc-3", "logsnr", [23.98, 11.14, 5.83, 3.99, 3.21, 2.89]),
            "DEIS-tAB3": ("deis-tab3", "vp-quadratic", [14.39, 9.40, 6.94, 5.55, 4.68, 4.09]),
            "Heun": ("heun", "karras", [None, 99.74, None, 38.06, None, 15.93]),
            "DPM-Solver-2": ("dpm2", "karras", [None, 60.00, None, 10.30, None, 5.01]),
            "iPNDM-4": ("ipndm-4", "karras", [13.59, 7.05, 5.08, 3.69, 3.17, 2.77]),
            "iPNDM_v-4": ("ipndm-v-4", "karras", [23.58, 14.00, 9.83, 7.34, 5.93, 4.95]),
        },
    },
}

POINTS = (50, 250, 500, 1000)  # of a grid: one more than it has steps
ENDS = (0.0, 1e-5, 1e-3, 1e-2)
SCHEMES = ("EM", "EI", "Euler", "Heun")
# As printed: for each scheme and end, the continuous limit and the grids of POINTS, each from p_T and from N(0, I).
PRINTED: dict[str, list[list[float]]] = {
    "EM": [
        [0, 6.7e-4, 4.77, 4.77, 0.65, 0.65, 0.31, 0.31, 0.15, 0.16],
        [2.5e-3, 2.6e-3, 4.77, 4.77, 0.65, 0.65, 0.31, 0.31, 0.16, 0.16],
        [0.17, 0.17, 4.67, 4.67, 0.69, 0.69, 0.39, 0.39, 0.27, 0.27],
        [1.35, 1.35, 4.56, 4.56, 1.69, 1.69, 1.50, 1.50, 1.42, 1.42],
    ],
    "EI": [
        [0, 6.7e-4, 2.81, 2.81, 0.57, 0.57, 0.30, 0.30, 0.16, 0.16],
        [2.5e-3, 2.6e-3, 2.81, 2.81, 0.57, 0.57, 0.30, 0.30, 0.16, 0.16],
        [0.17, 0.17, 2.91, 2.91, 0.66, 0.66, 0.41, 0.41, 0.28, 0.28],
        [1.35, 1.35, 3.93, 3.93, 1.76, 1.76, 1.55, 1.55, 1.45, 1.45],
    ],
    "Euler": [
        [0, 0.07, 1.72, 1.78, 0.38, 0.44, 0.19, 0.26, 0.10, 0.17],
        [2.5e-3, 0.07, 1.72, 1.78, 0.38, 0.44, 0.20, 0.26, 0.10, 0.17],
        [0.17, 0.19, 1.72, 1.78, 0.42, 0.48, 0.27, 0.32, 0.21, 0.25],
        [1.35, 1.36, 2.21, 2.25, 1.41, 1.43, 1.37, 1.38, 1.36, 1.37],
    ],
    "Heun": [
        [0, 0.07, 7.09, 7.09, 0.72, 0.73, 0.21, 0.22, 0.05, 0.09],
        [2.5e-3, 0.07, 6.48, 6.48, 0.64, 0.65, 0.18, 0.20, 0.05, 0.09],
        [0.17, 0.19, 0.56, 0.57, 0.13, 0.15, 0.16, 0.18, 0.17, 0.19],
        [1.35, 1.36, 1.37, 1.38, 1.35, 1.36, 1.35, 1.36, 1.35, 1.36],
    ],
}
_ZERO = 1e-9  # for their end at 0: a network of noise has no output at t = 0, and between the two nothing moves


def score_frozen(schedule: NoiseSchedule, times: Floats) -> dpm.Plan:
    """The exponential integrator of the reverse SDE with the score held over a step, as Pierret & Galerne have it (their eq. 12).

    With r = alpha_t/alpha_s:  x <- r x - 2 (r - 1) eps/sigma_s + sqrt(r^2 - 1) z.
    """
    points = [Point.at(schedule, t) for t in times]
    rows = []
    for s, t in pairwise(points):
        ratio = t.alpha / s.alpha
        step = Combination(ratio, (-2.0 * (ratio - 1.0) / s.sigma,), (float(np.sqrt(ratio**2 - 1.0)),))
        rows.append(Row(s, advance=step))
    return dpm.Plan("noise", tuple(rows), points[-1], keeps_marginals=False)


_EI = Solver(
    name="score-frozen",
    build=score_frozen,
    prediction="noise",
    order=1,
    description="the score held over a step",
    source="arXiv 2405.14250, eq. 12",
    finite=True,
)
# Of their four schemes the registry has three: Euler and Heun in time are those of the SDE without its noise.
_PLANS: dict[str, tuple[Any, dict[str, float]]] = {
    "EM": ("euler-maruyama", {}),
    "EI": (_EI, {}),
    "Euler": ("euler-maruyama", {"eta": 0.0}),
    "Heun": ("improved-reverse-sde", {"eta": 0.0}),
}


def pierret_galerne(spectrum: Floats, points: tuple[int, ...] = POINTS) -> dict[str, list[list[float]]]:
    """Distances of the schemes' results to the centred Gaussian, as `PRINTED` has them, without the columns of the limit."""
    found: dict[str, list[list[float]]] = {}
    for scheme in SCHEMES:
        solver, options = _PLANS[scheme]
        for end in ENDS:
            schedule, row = dpm.schedules.LinearVP(t_min=_ZERO), []
            for count in points:
                nfe = (count - 1) * (2 if scheme == "Heun" else 1)
                plan = dpm.make_plan(solver, schedule, nfe, "time", start=1.0, end=end or _ZERO, **options)
                row += [plan.wasserstein(0.0, spectrum, begins=begins) for begins in ("marginal", "noise")]  # type: ignore[arg-type]
            found.setdefault(scheme, []).append(row)
    return found


def nearest(schedule: NoiseSchedule, nfe: int, mean: Floats | float, variance: Floats) -> tuple[float, str]:
    """DDIM's distance on the best of its grids, and that grid."""
    found = ((dpm.make_plan("ddim", schedule, nfe, grid, end=END).wasserstein(mean, variance), grid) for grid in GRIDS)
    return min(found)


def needed(target: float, distance: Callable[[int], float], most: int = 900) -> int:
    """The fewest evaluations whose distance is at most the target, of a distance that falls."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if distance(middle) <= target else (middle + 1, high)
    return low


def against_ddim(schedule: NoiseSchedule, mean: Floats | float, variance: Floats) -> dict[str, Any]:
    """DPM-Solver's distances, DDIM's, and the evaluations with which DDIM comes as near."""

    def of(solver: str, nfe: int) -> float:
        return float(dpm.make_plan(solver, schedule, nfe, "logsnr", end=END).wasserstein(mean, variance))

    own = [of("dpm-fast", nfe) for nfe in BUDGETS]
    return {
        "dpm-fast": own,
        "unipc-3": [of("unipc-3", nfe) for nfe in BUDGETS],
        "ddim": [nearest(schedule, nfe, mean, variance)[0] for nfe in BASELINE],
        "ddim_grids": [nearest(schedule, nfe, mean, variance)[1] for nfe in BASELINE],
        "needed": [needed(target, lambda n: nearest(schedule, n, mean, variance)[0]) for target in own],
        "floor": float(of("unipc-3", 500)),
    }


def rank(name: str) -> dict[str, Any]:
    """RMS distances of the samplers of a published table, and the rank correlation with it at each budget."""
    table, law = PUBLISHED[name], cifar10_laws.mixture()
    schedule: NoiseSchedule = dpm.schedules.EDM() if name == "EDM" else dpm.schedules.LinearVP()
    end = schedule.t_min if name == "EDM" else END
    denoiser, start = law.denoiser(schedule), dpm.initial_noise(schedule, (NUM, *law.shape), seed=SEED)

    def run(solver: str, nfe: int, grid: str, **more: Any) -> Any:
        if grid == "vp-quadratic":
            plan = dpm.make_plan(solver, schedule, nfe, vp_quadratic(schedule, nfe), **more)
        else:
            plan = dpm.make_plan(solver, schedule, nfe, grid, end=end, **more)
        return dpm.sample(denoiser, start, plan=plan)

    exact = run("unipc-3", 100, "logsnr")
    measured = {}
    if any(solver == "dpm-v3" for solver, _, _ in table["rows"].values()):
        measured = {"statistics": dpm.calibrate(denoiser, law.sample(64, seed=2), levels=40, draws=1, seed=3)}
    rows = {}
    for label, (solver, grid, fids) in table["rows"].items():
        more = measured if solver == "dpm-v3" else {}
        published = zip(table["budgets"], fids, strict=True)
        rows[label] = [None if fid is None else _rms(run(solver, n, grid, **more), exact) for n, fid in published]
    return {"rows": rows, "spearman": correlations(name, rows)}


def vp_quadratic(schedule: NoiseSchedule, steps: int) -> Floats:
    """The published grid of DEIS: the square roots of a linear VP process' times are equally far apart; as times of EDM."""
    vp, (first, last) = SCHEDULES["continuous"], (schedule.t_max, schedule.t_min)
    roots = np.linspace(*(np.sqrt(vp.time(-np.log(sigma))) for sigma in (first, last)), steps + 1)
    times: Floats = np.exp(-vp.half_log_snr(roots**2))
    times[[0, -1]] = first, last
    return times


def _rms(found: Any, exact: Any) -> float:
    return float(np.sqrt(np.mean((found - exact) ** 2)))


def correlations(name: str, rows: dict[str, list[float | None]]) -> list[float]:
    """Spearman's rank correlation with a published table: a number for each budget, over the samplers that have it."""
    found = []
    for k in range(len(PUBLISHED[name]["budgets"])):
        pairs = [(PUBLISHED[name]["rows"][label][2][k], row[k]) for label, row in rows.items() if row[k] is not None]
        found.append(float(spearmanr(*zip(*pairs, strict=True)).statistic))
    return found


def measure(spectrum: Floats | None, progress: Callable[[str], object]) -> dict[str, Any]:
    """All figures; `spectrum` is Pierret & Galerne's."""
    law = cifar10_laws.gaussian()
    mean, variance = law.means[0], law.variances[0]
    document: dict[str, Any] = {"budgets": list(BUDGETS), "baseline": list(BASELINE)}
    progress("gaussian")
    document["gaussian"] = {name: against_ddim(each, mean, variance) for name, each in SCHEDULES.items()}
    progress("Pierret & Galerne")
    document["pierret_galerne"] = {"ours": pierret_galerne(variance)}
    if spectrum is not None:
        document["pierret_galerne"]["theirs"] = pierret_galerne(spectrum)
        document["gaussian"]["continuous, CIFAR-10's own spectrum"] = against_ddim(
            SCHEDULES["continuous"], 0.0, spectrum
        )
    document["rank"] = {}
    for name in PUBLISHED:
        progress(f"rank {name}")
        document["rank"][name] = rank(name)
    return document


def command(arguments: argparse.Namespace) -> None:
    spectrum = None
    if arguments.spectrum is not None:
        spectrum = np.load(arguments.spectrum).astype(np.float64).ravel()
        if spectrum.shape != (3072,) or not (spectrum > 0).all():
            raise ValueError(
                f"--spectrum {arguments.spectrum} must hold 3072 positive eigenvalues, it has {spectrum.size}"
            )
    document = about_this_run("cifar10", arguments.argv) | measure(spectrum, lambda name: print(name, flush=True))
    write_json(_short(document), arguments.json)
    print(f"written to {arguments.json}; the page and its figure: python -m benchmarks.render")


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help=f"the figures ({RESULTS})")
    parser.add_argument("--spectrum", type=Path, default=None, metavar="FILE", help="Pierret & Galerne's cifar10.npy")
    return run_command(parser, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
