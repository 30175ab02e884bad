"""Samplers for distilled networks, which predict the data from any state: LCM and TCD add fresh noise in every step.

With a network that was not distilled they do not converge: the noise does not shrink with the steps, and is removed at first order.
"""

from __future__ import annotations

import math
from itertools import pairwise

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "lcm", "tcd"]


def lcm(schedule: NoiseSchedule, times: Floats) -> Plan:
    """Return the plan of multistep consistency sampling: x_t = alpha_t x0 + sigma_t z, with fresh noise z in every step.

    Source: Song et al. 2023, arXiv 2303.01469, algorithm 1; Luo et al. 2023, arXiv 2310.04378, algorithm 3.
    """
    return tcd(schedule, times, gamma=1.0)


def tcd(schedule: NoiseSchedule, times: Floats, *, gamma: float = 0.3) -> Plan:
    """Return the plan of strategic stochastic sampling: DDIM to the time (1 - gamma) t, and the forward process from there back to t.

    Args:
        gamma: the share of each step's noise that is new, 0 to 1: 0 is DDIM, 1 is LCM. The paper recommends 0.2 to 0.3 for few steps.

    Source: Zheng et al. 2024, arXiv 2402.19159, algorithm 4.
    """
    if not 0.0 <= gamma <= 1.0:
        raise PlanError(f"gamma must lie in [0, 1], got {gamma}")
    if gamma and times[0] < times[-1]:
        raise PlanError("a solver that draws noise anew cannot run backwards: encode with an ODE solver, as ddim")
    points = [Point.at(schedule, t) for t in times]
    return Plan("data", tuple(Row(s, advance=_renewed(schedule, s, t, gamma)) for s, t in pairwise(points)), points[-1])


def _renewed(schedule: NoiseSchedule, source: Point, target: Point, gamma: float) -> Combination:
    """DDIM to less noise than the target has, and back to the target."""
    if not gamma or not target.sigma:
        return exponential_step("data", source, target, [source])
    below = (1.0 - gamma) * target.time
    if below < schedule.t_min:  # where the schedule has no time, the data
        return Combination(0.0, (target.alpha,), (target.sigma,))
    clean = Point.at(schedule, below)
    down = exponential_step("data", source, clean, [source])
    signal = target.alpha / clean.alpha
    noise = math.sqrt(max(target.sigma**2 - (signal * clean.sigma) ** 2, 0.0))
    return Combination(signal, (), (noise,)).after(down)


SOLVERS = (
    Solver(
        name="lcm",
        build=lcm,
        prediction="data",
        order=0,
        description="for distilled networks: the state drawn anew from every x_0",
        source="Luo et al. 2023, arXiv 2310.04378, algorithm 3; k-diffusion's form: ComfyUI, sample_lcm",
        family="distilled",
        stochastic=True,
    ),
    Solver(
        name="tcd",
        build=tcd,
        prediction="data",
        order=0,
        description="for distilled networks: DDIM beyond the target, and noise back; gamma=0 is DDIM, 1 is LCM",
        source="Zheng et al. 2024, arXiv 2402.19159, algorithm 4",
        options=(Option("gamma", "a number", "how much of each step's noise is new: 0 is DDIM, 1 is LCM"),),
        family="distilled",
        stochastic=True,
    ),
)
