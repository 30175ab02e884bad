"""Classical Runge-Kutta methods: in sigma/alpha (Euler, Heun, DPM2, with EDM's churn), in time and in lambda.

Those in sigma/alpha are exact in the linear part, because y = x/alpha has dy/drho = eps; they keep the marginals. The others treat the
whole right-hand side numerically, like the baselines in table 1 of DPM-Solver, and leave the marginals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.adams import rho_step
from dpmsolver.solvers.ddim import ancestral_split
from dpmsolver.solvers.exponential import require_finite, scale_noise
from dpmsolver.solvers.options import ETA, S_NOISE
from dpmsolver.solvers.singlestep import block, stage
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "ancestral", "churned", "runge_kutta"]


class Step(Protocol):
    """A function that returns the rows of one step with a given number of evaluations."""

    def __call__(self, schedule: NoiseSchedule, source: Point, target: Point, *, evaluations: int) -> Iterator[Row]: ...


def euler(schedule: NoiseSchedule, source: Point, target: Point, *, evaluations: int) -> Iterator[Row]:
    """Return the rows of an Euler step, dy = (rho_t - rho_s) eps_s."""
    yield Row(source, advance=rho_step(source, target, [source]))


def heun(schedule: NoiseSchedule, source: Point, target: Point, *, evaluations: int) -> Iterator[Row]:
    """Return the rows of an Euler step and the trapezoidal rule (Karras et al. 2022, algorithm 1); of Euler's for one evaluation.

    The network is not evaluated at sigma = 0. A step that ends there with two evaluations takes the second at t_min and integrates the
    line.
    """
    if evaluations == 1:
        yield from euler(schedule, source, target, evaluations=1)
        return
    end = target if target.sigma else Point.at(schedule, schedule.t_min)
    yield Row(source, predict=rho_step(source, end, [source]))
    yield Row(end, advance=rho_step(source, target, [end, source] if end.rho != source.rho else [source]))


def dpm2(schedule: NoiseSchedule, source: Point, target: Point, *, evaluations: int) -> Iterator[Row]:
    """Return the rows of k-diffusion's DPM2: the midpoint rule with the geometric mean of both sigmas as its middle."""
    if evaluations == 1:
        yield from euler(schedule, source, target, evaluations=1)
        return
    middle = stage(schedule, source, target, 0.5)
    yield Row(source, predict=rho_step(source, middle, [source]))
    yield Row(middle, advance=rho_step(source, target, [middle]))


def dpmpp_2s(schedule: NoiseSchedule, source: Point, target: Point, *, evaluations: int) -> Iterator[Row]:
    """Return the rows of a step of DPM-Solver++(2S), or of order 1 for one evaluation."""
    return block(schedule, source, target, order=evaluations, prediction="data", quadrature="published")


def churned(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    evaluations: Sequence[int],
    step: Step,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Plan:
    """Return the plan of a method in sigma with EDM's stochastic churn: noise raises sigma by min(s_churn/N, sqrt 2 - 1) before a step.

    The first step is not churned, and sigma is never raised above that of t_max. Algorithm 2 also churns the first step: to reproduce it,
    start the run at the raised sigma, with that noise in x_T.

    Args:
        s_churn: the strength of the churn, >= 0; 0 is the ODE.
        s_tmin, s_tmax: the range of sigma/alpha in which steps are churned.
        s_noise: a factor of the noise, >= 0; values other than 1 leave the marginals.

    Source: Karras et al. 2022, arXiv 2206.00364, algorithm 2.
    """
    if not (s_churn >= 0.0 and 0.0 <= s_tmin <= s_tmax):
        raise PlanError(f"churn needs s_churn >= 0 and 0 <= s_tmin <= s_tmax, got {s_churn}, {s_tmin}, {s_tmax}")
    if s_churn and times[0] < times[-1]:
        raise PlanError("a solver with s_churn > 0 adds noise and cannot run backwards: encode with s_churn = 0")
    points = [Point.at(schedule, t) for t in times]
    factor = 1.0 + min(s_churn / (len(points) - 1), math.sqrt(2.0) - 1.0)
    top = float(schedule.half_log_snr(schedule.t_max))
    rows: list[Row] = []
    source = points[0]
    for target, spent in zip(points[1:], evaluations, strict=True):
        rows += step(schedule, source, target, evaluations=spent)
        source = target
        if s_churn and target is not points[-1] and s_tmin <= target.rho <= s_tmax:
            source = Point.at(schedule, schedule.time(max(target.half_log_snr - math.log(factor), top)))
            rows[-1] = Row(rows[-1].point, advance=_raised(target, source).after(_of(rows[-1])))
    return scale_noise(Plan("noise", tuple(rows), points[-1]), s_noise)


def _raised(target: Point, source: Point) -> Combination:
    """From a point to one of more noise: the forward process."""
    state = source.alpha / target.alpha
    return Combination(state, (), (math.sqrt(max(source.sigma**2 - (state * target.sigma) ** 2, 0.0)),))


def _of(row: Row) -> Combination:
    assert row.advance is not None
    return row.advance


def ancestral(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    evaluations: Sequence[int],
    step: Step,
    prediction: Prediction = "noise",
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Plan:
    """Return the plan of an ancestral sampler of k-diffusion: each step solves the ODE to a smaller noise sigma_down and adds noise back.

    The noise is s_noise eta sigma_t sqrt(1 - e^{-2h}), which is DDIM's for s_noise = 1; other values leave the marginals. A step to sigma =
    0 adds none.
    """
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    for (source, target), spent in zip(pairwise(points), evaluations, strict=True):
        sigma, noise = ancestral_split(source, target, eta)
        down = Point(target.time, target.label, target.alpha, sigma)
        block = list(step(schedule, source, down, evaluations=spent))
        last = _of(block[-1])
        rows += [
            *block[:-1],
            Row(block[-1].point, advance=Combination(last.state, last.outputs, (noise,) if noise else ())),
        ]
    return scale_noise(Plan(prediction, tuple(rows), points[-1]), s_noise)


# Explicit tableaux: the nodes c_2 …, and for each stage after the first, and for the step, its weights.
_TABLEAUX: dict[int, tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]] = {
    2: ((1 / 2,), ((1 / 2,), (0.0, 1.0))),  # midpoint
    3: ((1 / 3, 2 / 3), ((1 / 3,), (0.0, 2 / 3), (1 / 4, 0.0, 3 / 4))),  # Heun's of order 3
    4: ((1 / 2, 1 / 2, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))),
}


def runge_kutta(schedule: NoiseSchedule, times: Floats, *, order: int, variable: str) -> Plan:
    """Return the plan of an explicit Runge-Kutta method for the whole diffusion ODE, in time or in lambda.

    The ODE is dx/ds = (d log alpha/ds) x - sigma (d lambda/ds) eps. Order 2 is the midpoint rule, 3 Heun's, 4 the classical one. The plan
    leaves the marginals, because its linear part is not exact.

    Source: DPM-Solver, arXiv 2206.00927, eq. 2.7 and 3.1 and table 1.
    """
    points = [Point.at(schedule, t) for t in times]
    require_finite(points)
    nodes, stages = _TABLEAUX[order]
    rows: list[Row] = []
    for source, target in pairwise(points):
        length = target.time - source.time if variable == "time" else target.half_log_snr - source.half_log_snr
        inside = [source, *(_fraction(schedule, source, target, c, variable) for c in nodes)]
        # Each stage's slope as (coefficient of x, coefficients of the outputs, oldest first).
        slopes: list[tuple[float, list[float]]] = []
        state, outputs = 1.0, [0.0] * len(inside)
        for k, (point, weights) in enumerate(zip(inside, stages, strict=True)):
            linear, factor = _rates(schedule, point, variable)
            slope = [linear * value for value in outputs]
            slope[k] += factor
            slopes.append((linear * state, slope))
            state = 1.0 + length * sum(w * s[0] for w, s in zip(weights, slopes, strict=True))
            outputs = [
                length * sum(w * s[1][j] for w, s in zip(weights, slopes, strict=True)) for j in range(len(inside))
            ]
            step = Combination(state, tuple(outputs[k::-1]))
            last = k + 1 == len(inside)
            rows.append(Row(point, advance=step if last else None, predict=None if last else step))
    return Plan("noise", tuple(rows), points[-1], keeps_marginals=False)


def _fraction(schedule: NoiseSchedule, source: Point, target: Point, c: float, variable: str) -> Point:
    if c == 1.0:
        return target
    if variable == "time":
        return Point.at(schedule, source.time + c * (target.time - source.time))
    return stage(schedule, source, target, c)


def _rates(schedule: NoiseSchedule, point: Point, variable: str) -> tuple[float, float]:
    """d log alpha/ds, and -sigma d lambda/ds."""
    log_alpha, half_log_snr = schedule.rates(point.time)
    return (log_alpha, -point.sigma * half_log_snr) if variable == "time" else (log_alpha / half_log_snr, -point.sigma)


def _two_or_one(nfe: int) -> tuple[int, ...]:
    """Two evaluations a step, and one for the last if the budget is odd."""
    return (2,) * (nfe // 2) + (1,) * (nfe % 2)


_CHURN = (
    Option("s_churn", "a number", "how far noise raises sigma before the steps, over all of them; 0 is the ODE"),
    Option("s_tmin", "a number", "the smallest sigma/alpha that is raised"),
    Option("s_tmax", "a number", "the largest sigma/alpha that is raised"),
    S_NOISE,
)
_EDM, _K = "Karras et al. 2022, arXiv 2206.00364", "k-diffusion"
_CHURNED = (
    Solver(
        name="euler",
        build=partial(churned, step=euler),
        prediction="noise",
        order=1,
        description="first order in sigma, with churn",
        source=f"{_EDM}, algorithm 2",
        options=_CHURN,
        takes_evaluations=True,
        family="classical",
    ),
    Solver(
        name="heun",
        build=partial(churned, step=heun),
        prediction="noise",
        order=2,
        description="EDM's sampler: Heun in sigma, with churn; an odd budget ends in an Euler step",
        source=f"{_EDM}, algorithms 1 and 2",
        options=_CHURN,
        evaluations_per_step=2,
        evaluations=_two_or_one,
        takes_evaluations=True,
        family="classical",
    ),
    Solver(
        name="dpm2",
        build=partial(churned, step=dpm2),
        prediction="noise",
        order=2,
        description="midpoint in sigma at the geometric mean, with churn; an odd budget ends in an Euler step",
        source=f"{_EDM}; {_K}, sample_dpm_2",
        options=_CHURN,
        evaluations_per_step=2,
        evaluations=_two_or_one,
        takes_evaluations=True,
        family="classical",
    ),
)
_ANCESTRAL = (
    Solver(
        name="euler-ancestral",
        build=partial(ancestral, step=euler, prediction="noise"),
        prediction="noise",
        order=1,
        description="Euler in sigma with ancestral noise",
        source=f"{_K}, sample_euler_ancestral",
        options=(ETA, S_NOISE),
        takes_evaluations=True,
        family="stochastic",
        stochastic=True,
    ),
    Solver(
        name="dpm++2s-ancestral",
        build=partial(ancestral, step=dpmpp_2s, prediction="data"),
        prediction="data",
        order=2,
        description="DPM-Solver++(2S) with ancestral noise",
        source=f"{_K}, sample_dpmpp_2s_ancestral",
        options=(ETA, S_NOISE),
        evaluations_per_step=2,
        evaluations=_two_or_one,
        takes_evaluations=True,
        family="stochastic",
        stochastic=True,
    ),
    Solver(
        name="dpm2-ancestral",
        build=partial(ancestral, step=dpm2, prediction="noise"),
        prediction="noise",
        order=2,
        description="DPM2 with ancestral noise",
        source=f"{_K}, sample_dpm_2_ancestral",
        options=(ETA, S_NOISE),
        evaluations_per_step=2,
        evaluations=_two_or_one,
        takes_evaluations=True,
        family="stochastic",
        stochastic=True,
    ),
)
_BASELINES = tuple(
    Solver(
        name=f"rk{order}-{short}",
        build=partial(runge_kutta, order=order, variable=variable),
        prediction="noise",
        order=order,
        description=f"explicit Runge-Kutta of order {order} in {variable}: a baseline",
        source="Lu et al. 2022, arXiv 2206.00927, table 1",
        evaluations_per_step=order,
        family="classical",
        finite=True,
    )
    for order in (2, 3, 4)
    for short, variable in (("t", "time"), ("lambda", "lambda"))
)
SOLVERS = (*_CHURNED, *_ANCESTRAL, *_BASELINES)
