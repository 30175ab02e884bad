"""`solver="auto"`: the solver and the grid that measurements recommend for a budget. It is the default of `sample`.

No solver is the best everywhere. For each kind of schedule, the recommended pair has the smallest worst ratio of its error to that of the
best candidate, over small trained networks (two thirds of the testbeds) and laws in closed form. `benchmarks/choice` measures the
candidates and judges the choice on other testbeds, docs/choosing.md shows the comparison, and a test checks that both agree.
"""

from __future__ import annotations

import math
from typing import Any

from dpmsolver.grids import are_times
from dpmsolver.host import to_host
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.schedules.span import has_little_signal, one_time
from dpmsolver.solvers.solver import check_nfe

__all__ = ["CANDIDATE_GRIDS", "CANDIDATE_SOLVERS", "choice_of", "kind_of", "recommended", "run_of"]

# What measurements compare: `benchmarks/choice`, and `dpmsolver.tuning` on a user's network.
CANDIDATE_SOLVERS = (
    *("ddim", "dpm++2m", "dpm++3m", "dpm++fast", "dpm-2m", "dpm-3m"),
    *("unipc-2", "unipc-3", "unipc-2-noise", "unipc-3:variant=bh1"),
    *("deis-tab2", "ipndm-3", "ipndm-4", "lms-4", "velocity-2m", "velocity-3m"),
)
CANDIDATE_GRIDS = (
    *("logsnr", "quadratic", "karras", "time", "beta", "beta:a=0.5:b=0.7", "beta:a=0.6:b=0.7", "leading", "rectified"),
)

# (largest budget, solver, grid), by kind of schedule. Budgets above 20 were not measured: there log-SNR and order 3 are known to be good.
_MANY = 10**9
_BETA57 = "beta:a=0.5:b=0.7"
_CHOICES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "variance preserving": ((7, "unipc-2", "quadratic"), (24, "ipndm-3", _BETA57), (_MANY, "unipc-3", "logsnr")),
    # Networks disagree from 8 evaluations on: digits want "rectified", pictures in colour and their statistics "karras".
    "variance exploding": (
        (7, "unipc-3:variant=bh1", "rectified"),
        (11, "dpm-3m", "karras"),
        (_MANY, "unipc-3", "logsnr"),
    ),
    "no signal at the start": (
        (13, "deis-tab2", "beta"),
        (17, "ipndm-3", "beta"),
        (24, "ipndm-3", _BETA57),
        (_MANY, "unipc-3", "quadratic"),
    ),
    # A network that predicts noise starts late there: the first step of a grid in time is then a long one, and multiplies its error.
    # So does ipndm-3 with 5 evaluations: samples of a network that is 1 % off are up to 1.45 times too wide.
    "noise where there is no signal": (
        (5, "dpm-2m", "karras"),
        (9, "ipndm-3", "karras"),
        (17, "ipndm-3", "logsnr"),
        (_MANY, "unipc-3:variant=bh1", "logsnr"),
    ),
    # Flows end at sigma = 0, too far away for a grid in log-SNR of few steps.
    "noise on a flow": ((17, "ipndm-3", "beta"), (24, "deis-tab2", "beta"), (_MANY, "unipc-3", "logsnr")),
}


def run_of(
    schedule: NoiseSchedule, nfe: int, predicts: str | None, grid: Any, start: float | None
) -> tuple[str, Any, float | None]:
    """Return the solver, the grid and the start of a run with solver="auto".

    A caller's grid replaces the recommended one. Solvers that predict noise have no step from alpha = 0. If the caller's times begin there,
    a solver that predicts data is taken; if the caller's `start` lies there, the run begins at the schedule's own start, just above which
    such a solver starts. A network that predicts noise cannot start at alpha = 0 with any solver; its start is kept, and refused later.
    """
    check_nfe(nfe)
    solver, suited = recommended(schedule, nfe, predicts)
    if are_times(grid):
        return "unipc-2" if _begin_without_signal(schedule, grid) else solver, grid, start
    if start is not None and predicts not in ("noise", "score"):
        start = None if schedule.alpha(one_time(schedule, "start", start)) == 0.0 else start
    return solver, suited if grid is None else grid, start


def _begin_without_signal(schedule: NoiseSchedule, times: Any) -> bool:
    """Whether given times begin at alpha = 0; times that are wrong are refused elsewhere."""
    first = to_host(times).ravel()[:1]
    return bool(len(first)) and float(first[0]) == schedule.t_max and schedule.alpha(schedule.t_max) == 0.0


def recommended(schedule: NoiseSchedule, nfe: int, predicts: str | None = None) -> tuple[str, str]:
    """Return the solver and the grid for a budget, by the kind of schedule and by what the network predicts.

    There are three kinds of schedules: alpha falls, alpha is 1, or alpha falls to 0 or nearly so (flows, zero SNR, cosine betas). In the
    third kind, networks that predict noise or score form a kind of their own.

    Examples:
        >>> from dpmsolver.schedules import EDM, Flow, LinearVP
        >>> recommended(LinearVP(), 6)
        ('unipc-2', 'quadratic')
        >>> recommended(EDM(), 50)
        ('unipc-3', 'logsnr')
        >>> recommended(Flow(), 10, "velocity"), recommended(Flow(), 10, "noise")
        (('deis-tab2', 'beta'), ('ipndm-3', 'beta'))
    """
    return choice_of(kind_of(schedule, predicts), nfe)


def choice_of(kind: str, nfe: int) -> tuple[str, str]:
    """Return the solver and the grid for a kind of run and a budget."""
    return next((solver, grid) for largest, solver, grid in _CHOICES[kind] if nfe <= largest)


def kind_of(schedule: NoiseSchedule, predicts: str | None) -> str:
    """Return the kind of a run, a key of the choices."""
    if float(schedule.alpha(schedule.default_start())) == 1.0:
        return "variance exploding"
    if not has_little_signal(schedule):
        return "variance preserving"
    if predicts not in ("noise", "score"):
        return "no signal at the start"
    middle = schedule.time(0.0)
    preserving = abs(math.hypot(schedule.alpha(middle), schedule.sigma(middle)) - 1.0) < 1e-3
    return "noise where there is no signal" if preserving else "noise on a flow"
