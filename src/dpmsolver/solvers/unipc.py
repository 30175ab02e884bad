"""Predictor-corrector solvers that reuse the evaluation at the predicted point: UniPC (and UniP, its predictor), and SA-Solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.option import Option
from dpmsolver.plans.plan import Combination, Plan, Point, Prediction, Row
from dpmsolver.schedules import Floats, NoiseSchedule
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.multistep import orders_of_steps
from dpmsolver.solvers.options import LOWER_ORDER_FINAL, RAMP
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "predictor_corrector", "sa_solver", "unipc"]

Eta: TypeAlias = float | Sequence[float] | Callable[[float], float]


def predictor_corrector(
    points: Sequence[Point],
    predict: Callable[[int], Combination],
    correct: Callable[[int], Combination | None],
    prediction: Prediction,
    keeps_marginals: bool = True,
    output: Callable[[Point], Combination] | None = None,
) -> Plan:
    """Return the plan of a method that predicts step k by `predict(k)`, and repeats it by `correct(k)` after its end was evaluated.

    A predicted end is the input of the next evaluation and does not replace the state: the corrector starts where the predictor did. The
    last step has no evaluation after it and stays predicted. `correct(k)` is None for a step that is not corrected.

    Args:
        output: what the steps combine in place of the network's output, as a combination of its input and of it at a point.
    """
    rows = []
    corrected: Combination | None = None
    for k in range(len(points) - 1):
        ahead, corrector = predict(k), correct(k) if k + 2 < len(points) else None
        kept = output and output(points[k])
        if corrector is None:
            rows.append(Row(points[k], advance=ahead.after(corrected) if corrected else ahead, output=kept))
        else:
            rows.append(Row(points[k], advance=corrected, predict=ahead, output=kept))
        # The corrector acts one evaluation later, on the same draw of noise.
        corrected = corrector and replace(corrector, noise=(0.0, *corrector.noise) if corrector.noise else ())
    return Plan(prediction, tuple(rows), points[-1], keeps_marginals=keeps_marginals)


def unipc(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    order: int,
    prediction: Prediction = "data",
    variant: Literal["bh1", "bh2"] = "bh2",
    corrector_from: int | None = 1,
    lower_order_final: bool = True,
    ramp: Sequence[int] | None = None,
) -> Plan:
    """Return the plan of UniPC: the predictor UniP-p through p outputs, and the corrector UniC-p, which adds the output at its end.

    The corrector with two or more outputs, and the predictor with three or more, are the exact step through their nodes, whatever B(h) is.
    With fewer outputs, the paper sets the one free weight to B(h)/2.

    Args:
        variant: B(h) = h ("bh1") or e^h - 1 ("bh2", with the sign of the prediction).
        corrector_from: the first evaluation (1, 2, …) that corrects the step before it; None never corrects, which is UniP.
        lower_order_final, ramp: see `orders_of_steps`.

    Source: Zhao et al. 2023, arXiv 2302.04867, algorithms 1 to 4 and appendix A. Order p + 1 with the corrector, p without.
    """
    if variant not in ("bh1", "bh2"):
        raise PlanError(f"variant must be 'bh1' or 'bh2', got {variant!r}")
    if corrector_from is not None and corrector_from < 1:
        raise PlanError(
            f"corrector_from must be >= 1, the first evaluation that can correct a step, got {corrector_from}"
        )
    points = [Point.at(schedule, t) for t in times]
    orders = orders_of_steps(len(points) - 1, order, lower_order_final, ramp)

    def step(k: int, nodes: Sequence[Point]) -> Combination:
        quadrature: Literal["exact", "published", "bh1"] = "exact"
        if len(nodes) == 2:
            quadrature = "published" if variant == "bh2" else "bh1"
        return exponential_step(prediction, points[k], points[k + 1], nodes, quadrature=quadrature)

    def predict(k: int) -> Combination:
        return step(k, points[k::-1][: orders[k]])

    def correct(k: int) -> Combination | None:
        if corrector_from is None or k + 1 < corrector_from:
            return None
        return step(k, [points[k + 1], *points[k::-1][: orders[k]]])

    return predictor_corrector(points, predict, correct, prediction)


def sa_solver(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    predictor_order: int = 3,
    corrector_order: int = 4,
    eta: Eta = 1.0,
    lower_order_final: bool = True,
) -> Plan:
    """Return the plan of SA-Solver: stochastic Adams-Bashforth and -Moulton steps of the reverse SDE, with a variable strength of noise.

    Args:
        predictor_order: the number of outputs of the predictor, 1 to 4.
        corrector_order: the number of outputs of the corrector, the newest one included, 1 to 4, or 0 for none.
        eta: the paper's tau, >= 0: a number, one per step, or a function of sigma/alpha at the step's start (the paper has noise in the
            middle of the noise levels only, section 6.1). 0 is the ODE, 1 the reverse SDE.

    Source: Xue et al. 2023, arXiv 2309.05019, algorithm 1, eq. 14 and 17.
    """
    _check_adams_orders(predictor_order, corrector_order)
    points = [Point.at(schedule, t) for t in times]
    strengths = _strengths(eta, points)
    steps = len(points) - 1
    orders = orders_of_steps(steps, predictor_order, lower_order_final)
    corrected_with = [min(corrector_order, steps - k + 1 if lower_order_final else 4) for k in range(steps)]

    def predict(k: int) -> Combination:
        return exponential_step("data", points[k], points[k + 1], points[k::-1][: orders[k]], eta=strengths[k])

    def correct(k: int) -> Combination | None:
        nodes = [points[k + 1], *points[k::-1]][: corrected_with[k]]
        return exponential_step("data", points[k], points[k + 1], nodes, eta=strengths[k]) if nodes else None

    return predictor_corrector(points, predict, correct, "data")


def sa_solver_pece(
    schedule: NoiseSchedule,
    times: Floats,
    *,
    predictor_order: int = 3,
    corrector_order: int = 4,
    eta: Eta = 1.0,
    lower_order_final: bool = True,
) -> Plan:
    """Return the plan of SA-Solver with a second evaluation at each corrected state, whose output replaces that at the predicted one.

    A step predicts, evaluates, corrects and evaluates again: two evaluations a step, and one in the last step, which stays predicted. The
    arguments are those of `sa_solver`.

    Source: Xue et al. 2023, arXiv 2309.05019, algorithm 1, in the PECE form of its code.
    """
    _check_adams_orders(predictor_order, corrector_order)
    points = [Point.at(schedule, t) for t in times]
    strengths, steps = _strengths(eta, points), len(points) - 1
    orders = orders_of_steps(steps, predictor_order, lower_order_final)
    rows: list[Row] = []
    for k in range(steps):
        source, target = points[k], points[k + 1]
        ahead = exponential_step("data", source, target, _every_second(points[k::-1][: orders[k]]), eta=strengths[k])
        if k + 1 == steps:
            rows.append(Row(source, advance=ahead))
            continue
        nodes = [target, *points[k::-1]][: min(corrector_order, steps - k + 1 if lower_order_final else 4)]
        corrector = ahead
        if nodes:
            behind = _every_second(nodes[1:])
            corrector = exponential_step("data", source, target, [target, *behind], eta=strengths[k])
        else:  # nothing corrects: the step is the predicted one, whose outputs are one older by now
            corrector = replace(ahead, outputs=(0.0, *ahead.outputs))
        noise = (0.0, *corrector.noise) if corrector.noise else ()
        rows += [Row(source, predict=ahead), Row(target, advance=replace(corrector, noise=noise))]
    return Plan("data", tuple(rows), points[-1])


def _every_second(nodes: Sequence[Point]) -> list[Point | None]:
    """Nodes of corrected states among all outputs, newest first: before each but the oldest is one of a predicted state, not used."""
    return [each for node in nodes for each in (node, None)][: 2 * len(nodes) - 1]


def _odd(nfe: int) -> tuple[int, ...]:
    if nfe % 2 == 0:
        raise PlanError(
            f"sa-solver-pece spends 2 evaluations a step and 1 on the last, so it cannot spend nfe={nfe}: nearest is {nfe - 1} or {nfe + 1}"
        )
    return (*[2] * (nfe // 2), 1)


def _check_adams_orders(predictor_order: int, corrector_order: int) -> None:
    for name, value, least in (("predictor_order", predictor_order, 1), ("corrector_order", corrector_order, 0)):
        if not least <= value <= 4:
            raise PlanError(f"{name} must be {least} to 4, got {value}")


def _strengths(eta: Eta, points: Sequence[Point]) -> list[float]:
    """Return the eta of each step. Raise PlanError for another number of them than steps, or one that is negative."""
    steps = len(points) - 1
    if callable(eta):
        values = np.array([eta(point.rho) for point in points[:-1]], dtype=np.float64)
    else:
        values = np.array(eta, dtype=np.float64)
        values = np.full(steps, values) if values.ndim == 0 else values
    if values.shape != (steps,):
        raise PlanError(
            f"eta must be a number, a function of sigma, or one value for each of {steps} steps, got shape {values.shape}"
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise PlanError(f"eta must be finite and >= 0, got {values}")
    return [float(v) for v in values]


_VARIANT = Option("variant", "a word", "B(h) of the paper: 'bh1' or 'bh2'")
_CORRECTOR_FROM = Option(
    "corrector_from",
    "a whole number",
    "the first evaluation that corrects the step before it; None is never",
    or_none=True,
)
_ORDERS = (LOWER_ORDER_FINAL, RAMP)
_ADAMS = (
    Option("predictor_order", "a whole number", "outputs of the predictor, 1 to 4"),
    Option("corrector_order", "a whole number", "outputs of the corrector, 0 (none) to 4"),
    Option(
        "eta",
        "a number or one per step",
        "the strength of the noise, or a function of sigma/alpha; 0 is the ODE",
    ),
    LOWER_ORDER_FINAL,
)
_UNIPC = "Zhao et al. 2023, arXiv 2302.04867"
SOLVERS = (
    *(
        Solver(
            name=f"unipc-{order}",
            build=partial(unipc, order=order),
            prediction="data",
            order=order + 1,
            description=f"UniPC-{order}: predictor and corrector, one evaluation a step",
            source=f"{_UNIPC}, algorithms 1 and 2",
            options=(_VARIANT, _CORRECTOR_FROM, *(_ORDERS if order > 1 else ())),
            family="UniPC",
        )
        for order in (1, 2, 3)
    ),
    *(
        Solver(
            name=f"unipc-{order}-noise",
            build=partial(unipc, order=order, prediction="noise"),
            prediction="noise",
            order=order + 1,
            description=f"UniPC-{order} with noise prediction",
            source=f"{_UNIPC}, appendix A",
            options=(_VARIANT, _CORRECTOR_FROM, *_ORDERS),
            family="UniPC",
        )
        for order in (2, 3)
    ),
    *(
        Solver(
            name=f"unip-{order}",
            build=partial(unipc, order=order, corrector_from=None),
            prediction="data",
            order=order,
            description=f"UniP-{order}: the predictor of UniPC alone",
            source=f"{_UNIPC}, algorithm 2",
            options=(_VARIANT, *_ORDERS) if order > 1 else (),
            family="UniPC",
        )
        for order in (1, 2, 3)
    ),
    Solver(
        name="sa-solver",
        build=sa_solver,
        prediction="data",
        order=2,
        description="stochastic Adams predictor and corrector, eta may change with sigma",
        source="Xue et al. 2023, arXiv 2309.05019, algorithm 1",
        options=_ADAMS,
        family="stochastic",
        stochastic=True,
    ),
    Solver(
        name="sa-solver-pece",
        build=sa_solver_pece,
        prediction="data",
        order=2,
        description="sa-solver with a second evaluation at each corrected state",
        source="Xue et al. 2023, arXiv 2309.05019, algorithm 1, PECE",
        options=_ADAMS,
        evaluations_per_step=2,
        evaluations=_odd,
        family="stochastic",
        stochastic=True,
    ),
)
