"""What tests are parametrised over: every kind of schedule, with both of its limits."""

from __future__ import annotations

import math

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.grids import GRIDS
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans.plan import Plan
from dpmsolver.schedules import (
    EDM,
    CosineVP,
    Custom,
    Discrete,
    Flow,
    LinearVP,
    NoiseSchedule,
    SubVP,
    scaled_linear_betas,
)
from dpmsolver.solvers import SOLVERS, Solver, make_plan


def cosine_betas(num: int) -> np.ndarray:
    """Nichol & Dhariwal 2021: beta_n = min(1 - f((n+1)/N)/f(n/N), 0.999) with f(t) = cos^2(pi/2 (t + s)/(1 + s))."""
    f = np.cos(0.5 * np.pi * (np.linspace(0, 1, num + 1) + 0.008) / 1.008) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def zero_terminal_betas(num: int) -> np.ndarray:
    return np.append(np.linspace(1e-4, 0.02, num - 1), 1.0)


SCHEDULES: dict[str, NoiseSchedule] = {
    "discrete-linear-1000": Discrete(betas=np.linspace(1e-4, 0.02, 1000)),
    "discrete-linear-10": Discrete(betas=np.linspace(1e-2, 0.5, 10)),
    "discrete-scaled-linear": Discrete(betas=scaled_linear_betas()),
    "discrete-cosine-100": Discrete(betas=cosine_betas(100)),
    "discrete-cosine-1000": Discrete(betas=cosine_betas(1000)),
    "discrete-alphas-cumprod": Discrete(alphas_cumprod=np.cumprod(1 - np.linspace(1e-3, 0.1, 200))),
    "discrete-zero-terminal": Discrete(betas=zero_terminal_betas(1000)),
    "discrete-zero-terminal-10": Discrete(alphas_cumprod=np.linspace(0.99, 0.0, 10)),
    "linear-vp": LinearVP(),
    "linear-vp-narrow": LinearVP(beta_min=0.5, beta_max=8.0, t_min=1e-3),
    "sub-vp": SubVP(),
    "cosine-vp": CosineVP(),
    "cosine-vp-to-1": CosineVP(t_max=1.0),
    "edm": EDM(),
    "flow": Flow(),
    "flow-shift-3": Flow(shift=3.0),
    "custom-vp": Custom(alpha=math.cos, sigma=math.sin, t_min=1e-3, t_max=1.5),
    "custom-ve": Custom(alpha=lambda t: 1.0, sigma=lambda t: t * t, t_min=0.05, t_max=9.0),
}


def pinned_grids(schedule: NoiseSchedule, steps: int = 32) -> list[str]:
    """The names of the grids that serve a schedule from any start to any end, with up to so many steps.

    "leading" is none of them: it chooses its own start. The flow shifts need times in [0, 1], "linspace" needs training steps, and
    with few training steps the grids that count them have no room. ComfyUI's end below the first training step.
    """
    discrete = isinstance(schedule, Discrete)
    refused = {"leading", "simple", "normal", "sgm-uniform"}
    if schedule.t_max > 1:
        refused |= {"shifted", "dynamic-shift"}
    if not discrete:
        refused |= {"linspace"}
    if discrete and schedule.num_steps < 3 * steps:
        refused |= {"trailing", "linspace"}
    return [name for name in GRIDS if name not in refused]


# Solvers that need no statistics of a network, and one output of an evaluation; the others are tested in solvers/test_calibrated.py and
# solvers/test_cfgpp.py.
UNCALIBRATED = {name: solver for name, solver in SOLVERS.items() if not solver.calibrated and solver.answers == 1}


def answering(denoiser: Denoiser, plan: Plan) -> Denoiser:
    """The denoiser, with guidance where a plan wants two outputs of an evaluation: both are the network's."""
    return denoiser if plan.answers == 1 else denoiser.replace(guidance=ClassifierFree(0.7, {}))


def budgets(solver: Solver, up_to: int) -> list[int]:
    """The budgets that a solver accepts."""
    accepted = []
    for nfe in range(1, up_to + 1):
        try:
            solver.spend(nfe)
        except PlanError:
            continue
        accepted.append(nfe)
    return accepted


def a_budget(solver: Solver, up_to: int = 12) -> int:
    """The largest accepted budget up to 12, or the smallest above."""
    return (budgets(solver, up_to) or budgets(solver, 40)[:1])[-1]


KEEP_MARGINALS = [s.name for s in UNCALIBRATED.values() if make_plan(s, LinearVP(), a_budget(s)).keeps_marginals]
