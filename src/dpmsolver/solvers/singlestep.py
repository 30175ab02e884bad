"""Singlestep exponential solvers: every step is independent of the others and has stages of its own.

DPM-Solver-1/2/3 and -fast (noise prediction), DPM-Solver++(2S/3S) (data prediction), and with noise DPM-Solver++ SDE and SEEDS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import Quadrature, exponential_step, noise_left, scale_noise
from dpmsolver.solvers.options import ETA, QUADRATURE, R1, R2, S_NOISE
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "block", "fast_orders", "singlestep", "stage"]


def fast_orders(nfe: int) -> tuple[int, ...]:
    """Return the orders of the steps of DPM-Solver-fast for a budget: as many steps of order 3 as fit, and the rest at the end.

    Source: DPM-Solver, Lu et al. 2022, arXiv 2206.00927, appendix B and section 3.4.

    Examples:
        >>> fast_orders(10), fast_orders(11), fast_orders(12)
        ((3, 3, 3, 1), (3, 3, 3, 2), (3, 3, 3, 2, 1))
    """
    steps = nfe // 3 + 1
    return {0: (3,) * (steps - 2) + (2, 1), 1: (3,) * (steps - 1) + (1,), 2: (3,) * (steps - 1) + (2,)}[nfe % 3]


def singlestep(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    evaluations: Sequence[int],
    prediction: Prediction,
    quadrature: Quadrature,
    eta: float = 0.0,
    r1: float | None = None,
    r2: float | None = None,
) -> Plan:
    """Return a plan whose steps are independent of each other, each of the order that its evaluations allow.

    Args:
        evaluations: 1, 2 or 3 for each step; `len(times) == len(evaluations) + 1`.
        eta: the strength of the noise; 0 is the ODE, 1 the reverse SDE.
        r1, r2: the positions of the stages inside a step, in units of its length in log-SNR; by default 1/2 for order 2, 1/3 and 2/3 for
            order 3. Order 3 holds at the defaults; in the published form it requires r2 = 2/3, in the exact form r1 = 1/3 too.

    Source: DPM-Solver, algorithms 1, 2, 4 and 5 ("published"), appendix B.4 ("exact"); DPM-Solver++, algorithm 1.
    """
    if len(times) != len(evaluations) + 1:
        raise PlanError(f"{len(evaluations)} steps need {len(evaluations) + 1} times, got {len(times)}")
    points = [Point.at(schedule, t) for t in times]
    rows: list[Row] = []
    for (source, target), order in zip(pairwise(points), evaluations, strict=True):
        rows.extend(
            block(
                schedule,
                source,
                target,
                order=order,
                prediction=prediction,
                quadrature=quadrature,
                eta=eta,
                r1=r1,
                r2=r2,
            )
        )
    return Plan(prediction, tuple(rows), points[-1], keeps_marginals=prediction == "data" or eta == 0.0)


def block(
    schedule: NoiseSchedule,
    source: Point,
    target: Point,
    *,
    order: int,
    prediction: Prediction,
    quadrature: Quadrature,
    eta: float = 0.0,
    r1: float | None = None,
    r2: float | None = None,
) -> Iterator[Row]:
    """Return the rows of one step from `source` to `target`.

    With noise, all combinations of a step see one path: each stage draws the normal of the way to the next one, and later stages use the
    earlier draws too.
    """
    first = (1 / 2 if order == 2 else 1 / 3) if r1 is None else r1
    second = 2 / 3 if r2 is None else r2
    if not eta >= 0:
        raise PlanError(f"eta must be >= 0, got {eta}")
    if order > 1 and (not 0 < first <= 1 or (order == 3 and not first < second <= 1)):
        raise PlanError(f"stages need 0 < r1 < r2 <= 1, got r1={first}, r2={second}")
    stages = [source, *(stage(schedule, source, target, r) for r in (first, second)[: order - 1])]

    if eta and not math.isfinite(target.half_log_snr - source.half_log_snr):
        # A limit is of first order, and each stage has its own noise: the step goes from stage to stage.
        for a, b in pairwise([*stages, target]):
            yield Row(a, advance=exponential_step(prediction, a, b, [a], eta=eta))
        return

    def step(index: int, to: Point, nodes: Sequence[Point | None], quadrature: Quadrature) -> Combination:
        combination = exponential_step(prediction, source, to, nodes, quadrature=quadrature, eta=eta)
        passed = [*stages[: index + 1], to]
        noise = [noise_left(prediction, a, b, to, eta) for a, b in pairwise(passed)]
        return replace(combination, noise=tuple(noise[::-1]) if combination.noise else ())

    if order == 1:
        yield Row(source, advance=step(0, target, [source], "exact"))
        return
    one = stages[1]
    yield Row(source, predict=step(0, one, [source], "exact"))
    if order == 2:
        yield Row(one, advance=step(1, target, [one, source], quadrature))
        return
    two = stages[2]
    yield Row(one, predict=step(1, two, [one, source], "exact"))
    yield Row(two, advance=step(2, target, [two, None if quadrature == "published" else one, source], "exact"))


def stage(schedule: NoiseSchedule, source: Point, target: Point, r: float) -> Point:
    """Return the point a fraction r of the way in log-SNR; if the way is infinite, a fraction r in time, but not below t_min."""
    h = target.half_log_snr - source.half_log_snr
    if math.isfinite(h):  # at r = 1 the target itself, which rounding would leave a little aside
        return target if r == 1.0 else Point.at(schedule, schedule.time(source.half_log_snr + r * h))
    return Point.at(schedule, max(source.time + r * (target.time - source.time), schedule.t_min))


def singlestep_sde(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    evaluations: Sequence[int],
    prediction: Prediction,
    quadrature: Quadrature = "published",
    eta: float = 1.0,
    r1: float | None = None,
    r2: float | None = None,
    s_noise: float = 1.0,
) -> Plan:
    """Return the plan of `singlestep` for the reverse SDE. A factor s_noise other than 1 scales its noise and leaves the marginals.

    Source: SEEDS (Gonzalez et al. 2023, arXiv 2305.14267), algorithms 1 to 4.
    """
    plan = singlestep(
        schedule, times, evaluations=evaluations, prediction=prediction, quadrature=quadrature, eta=eta, r1=r1, r2=r2
    )
    return scale_noise(plan, s_noise)


_FORMS: tuple[tuple[Quadrature, str, str], ...] = (
    ("published", "", "as published"),
    ("exact", "-exact", "exact phi-functions"),
)


_DPM, _PLUS = "Lu et al. 2022, arXiv 2206.00927", "Lu et al. 2022, arXiv 2211.01095"
# The places of the stages that a step of so many evaluations has.
_STAGES: dict[int, tuple[Option, ...]] = {1: (), 2: (R1,), 3: (R1, R2)}


def _entries() -> list[Solver]:
    forms: tuple[tuple[Prediction, str, str], ...] = (
        ("noise", "dpm-{}", f"{_DPM}, algorithms 1 and 2"),
        ("data", "dpm++{}s", f"{_PLUS}, algorithm 1"),
    )
    return [
        Solver(
            name=pattern.format(order) + suffix,
            build=partial(singlestep, prediction=prediction, quadrature=quadrature),
            prediction=prediction,
            order=order,
            description=f"singlestep, order {order}, {form}",
            source=source,
            options=_STAGES[order],
            evaluations_per_step=order,
            takes_evaluations=True,
            family="DPM-Solver",
        )
        for prediction, pattern, source in forms
        for order in (2, 3)
        for quadrature, suffix, form in _FORMS
    ]


def _fast() -> list[Solver]:
    forms: tuple[tuple[str, Prediction, str, str], ...] = (
        ("dpm-fast", "noise", "singlestep of order 3", f"{_DPM}, section 3.4"),
        (
            "dpm++fast",
            "data",
            "singlestep of order 3 with data prediction",
            f"{_PLUS}, algorithm 1; the official code's singlestep method of order 3",
        ),
    )
    return [
        Solver(
            name=name,
            build=partial(singlestep, prediction=prediction, quadrature="published"),
            prediction=prediction,
            order=2,
            description=f"{what}, the rest of the budget at order 2 and 1",
            source=source,
            evaluations=fast_orders,
            takes_evaluations=True,
            family="DPM-Solver",
        )
        for name, prediction, what, source in forms
    ]


def _stochastic() -> list[Solver]:
    seeds = "Gonzalez et al. 2023, arXiv 2305.14267, algorithm {}"
    forms: tuple[tuple[str, Prediction, int, str], ...] = (
        ("dpm++sde", "data", 2, f"k-diffusion, sample_dpmpp_sde; {_PLUS}"),
        ("seeds-1", "noise", 1, seeds.format(1)),
        ("seeds-2", "noise", 2, seeds.format(2)),
        ("seeds-3", "noise", 3, seeds.format(3)),
    )
    return [
        Solver(
            name=name,
            build=partial(singlestep_sde, prediction=prediction),
            prediction=prediction,
            order=min(each, 2),
            description=f"singlestep SDE solver of {each} evaluations",
            source=source,
            options=(ETA, S_NOISE, *_STAGES[each], *([QUADRATURE] if each > 1 else [])),
            evaluations_per_step=each,
            takes_evaluations=True,
            family="stochastic",
            stochastic=True,
        )
        for name, prediction, each, source in forms
    ]


_DPM_1 = Solver(
    name="dpm-1",
    build=partial(singlestep, prediction="noise", quadrature="published"),
    prediction="noise",
    order=1,
    description="first order: DDIM from noise prediction",
    source=f"{_DPM}, eq. 3.7",
    takes_evaluations=True,
    family="first order",
)
SOLVERS = (_DPM_1, *_fast(), *_entries(), *_stochastic())
