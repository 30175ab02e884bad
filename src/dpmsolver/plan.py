"""Plan: a whole sampling run as a table of coefficients.

Every fixed-step sampler only forms linear combinations of the state, of network outputs and of noise, with coefficients that depend on
the schedule and the grid alone. A Plan holds them, one row per network evaluation, and `dpmsolver.sample` executes it:

    x = u = x_T
    for row in plan.rows:
        outputs = (denoiser(u, row.point), *outputs)
        x = row.advance(x, outputs, noise)   if row.advance else x
        u = row.predict(x, outputs, noise)   if row.predict else x
    return x

A plan preserves marginals: data of one point keep the alpha and sigma that each point declares. This is checked when it is made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["Combination", "Plan", "Point", "Prediction", "Row"]

Prediction: TypeAlias = Literal["noise", "data"]

_FORMAT = 1
_TOLERANCE = 1e-8  # of hypot(alpha, sigma): far above rounding (1e-13 over 1000 rows), far below any wrong coefficient


@dataclass(frozen=True)
class Point:
    """A place on the schedule: its time, the network's label for it, alpha and sigma."""

    time: float
    label: float
    alpha: float
    sigma: float

    @classmethod
    def at(cls, schedule: NoiseSchedule, time: float) -> Point:
        """The point of a schedule at a time. ValueError outside the schedule."""
        time = float(time)
        return cls(time, schedule.label(time), float(schedule.alpha(time)), float(schedule.sigma(time)))

    @property
    def half_log_snr(self) -> float:
        """lambda = log(alpha/sigma)."""
        if self.sigma == 0.0:
            return math.inf
        return -math.inf if self.alpha == 0.0 else math.log(self.alpha) - math.log(self.sigma)


def columns(points: Sequence[Point]) -> dict[str, Floats]:
    """time, label, alpha and sigma of points, each as a float64 vector."""
    return {name: np.array([getattr(p, name) for p in points]) for name in ("time", "label", "alpha", "sigma")}


@dataclass(frozen=True)
class Combination:
    """state * x + sum_i outputs[i] * m_{k-i} + sum_i noise[i] * z_{k-i}: newest first."""

    state: float
    outputs: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()

    def __call__(self, x: Any, outputs: Sequence[Any] = (), noise: Sequence[Any] = ()) -> Any:
        """The combination of any arrays; outputs and noise newest first, more of them than needed are ignored.

        Examples:
            >>> Combination(0.5, (2.0, -1.0))(10.0, [1.0, 3.0])
            4.0
        """
        total = self.state * x
        for coefficients, arrays in ((self.outputs, outputs), (self.noise, noise)):
            for coefficient, array in zip(coefficients, arrays, strict=False):
                total = total + coefficient * array
        return total

    def marginal(self, prediction: Prediction, alpha: float, sigma: float) -> tuple[float, float]:
        """The alpha and sigma of the result, for a state that has `alpha` and `sigma` and outputs that are exact and constant."""
        total, spread = math.fsum(self.outputs), math.fsum(c * c for c in self.noise)
        if prediction == "data":
            return self.state * alpha + total, math.hypot(self.state * sigma, math.sqrt(spread))
        return self.state * alpha, math.hypot(self.state * sigma + total, math.sqrt(spread))

    def __str__(self) -> str:
        terms = [f"{self.state:+.6g} x"]
        terms += [f"{c:+.6g} m{'' if i == 0 else -i}" for i, c in enumerate(self.outputs)]
        terms += [f"{c:+.6g} z{'' if i == 0 else -i}" for i, c in enumerate(self.noise)]
        return " ".join(terms)


@dataclass(frozen=True)
class Row:
    """One network evaluation: where (`point`), the step that commits the state, and the one that makes the next evaluation's input."""

    point: Point
    advance: Combination | None = None
    predict: Combination | None = None


@dataclass(frozen=True)
class Plan:
    """A sampling run: what outputs mean, one row per network evaluation, and the point where the run ends.

    Args:
        prediction: what each output m_k is: "noise" or "data".
        rows: in the order of evaluation; `nfe == len(rows)`.
        end: the point of the result.
        solver: the name of the solver that made it, for people.
        tuned: a tuned plan may leave the marginals; nothing else may.

    Raises:
        PlanError: no rows, coefficients that are not finite, outputs or noise older than the run, a row that breaks the marginals.
    """

    prediction: Prediction
    rows: tuple[Row, ...]
    end: Point
    solver: str = ""
    tuned: bool = False

    def __post_init__(self) -> None:
        if self.prediction not in ("noise", "data"):
            raise PlanError(f"prediction must be 'noise' or 'data', got {self.prediction!r}")
        if not self.rows:
            raise PlanError("a plan needs at least one row")
        if self.rows[-1].advance is None:
            raise PlanError("the last row must advance the state, or its evaluation is lost")
        if self.rows[-1].predict is not None:
            raise PlanError("the last row must not predict: no evaluation follows it")
        for index, row in enumerate(self.rows):
            for combination in (row.advance, row.predict):
                if combination is not None:
                    _check_combination(combination, index)
        if not self.tuned:
            _check_marginals(self)

    @property
    def nfe(self) -> int:
        """Network evaluations of a run."""
        return len(self.rows)

    @property
    def start(self) -> Point:
        """Where the run starts: the first evaluation's point."""
        return self.rows[0].point

    @cached_property
    def stochastic(self) -> bool:
        """Whether any row adds noise."""
        return any(c is not None and any(c.noise) for row in self.rows for c in (row.advance, row.predict))

    @cached_property
    def history(self) -> int:
        """How many network outputs have to be kept at once."""
        return max(len(c.outputs) for row in self.rows for c in (row.advance, row.predict) if c is not None)

    @cached_property
    def noise_history(self) -> int:
        """How many draws of noise have to be kept at once."""
        return max(len(c.noise) for row in self.rows for c in (row.advance, row.predict) if c is not None)

    @cached_property
    def columns(self) -> dict[str, Floats]:
        """time, label, alpha and sigma of the points and of the end, each float64 (nfe + 1,)."""
        return columns([*(row.point for row in self.rows), self.end])

    def table(self) -> str:
        """The plan as text: one line per evaluation."""
        lines = [
            f"{self.solver or 'plan'}: {self.nfe} evaluations, {self.prediction} prediction"
            + (", tuned" if self.tuned else "")
        ]
        lines.append(f"{'':>4} {'time':>10} {'label':>10} {'alpha':>10} {'sigma':>10} {'lambda':>8}  combination")
        for index, row in enumerate(self.rows):
            what = [f"x <- {row.advance}"] * (row.advance is not None) + [f"u <- {row.predict}"] * (
                row.predict is not None
            )
            lines.append(f"{index:>4} {_columns(row.point)}  {';  '.join(what)}")
        lines.append(f" end {_columns(self.end)}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The plan as JSON text; floats keep every digit."""
        rows = [
            {"point": vars(r.point), "advance": _to_dict(r.advance), "predict": _to_dict(r.predict)} for r in self.rows
        ]
        document = {
            "format": _FORMAT,
            "solver": self.solver,
            "prediction": self.prediction,
            "tuned": self.tuned,
            "rows": rows,
            "end": vars(self.end),
        }
        return json.dumps(document, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote, checked again. PlanError for anything else."""
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise PlanError(f"this plan has format {document['format']}, this version reads {_FORMAT}")
            rows = tuple(
                Row(Point(**r["point"]), _from_dict(r["advance"]), _from_dict(r["predict"])) for r in document["rows"]
            )
            return cls(document["prediction"], rows, Point(**document["end"]), document["solver"], document["tuned"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise PlanError(f"not a plan in JSON: {type(error).__name__}: {error}") from None

    def __str__(self) -> str:
        return self.table()


def _columns(point: Point) -> str:
    return (
        f"{point.time:>10.6g} {point.label:>10.6g} {point.alpha:>10.6g} {point.sigma:>10.6g} {point.half_log_snr:>8.4g}"
    )


def _to_dict(combination: Combination | None) -> dict[str, Any] | None:
    return None if combination is None else {k: v for k, v in vars(combination).items() if k == "state" or v}


def _from_dict(values: Mapping[str, Any] | None) -> Combination | None:
    if values is None:
        return None
    return Combination(values["state"], tuple(values.get("outputs", ())), tuple(values.get("noise", ())))


def _check_combination(combination: Combination, index: int) -> None:
    if not all(math.isfinite(c) for c in (combination.state, *combination.outputs, *combination.noise)):
        raise PlanError(f"row {index} has a coefficient that is not finite: {combination}")
    if max(len(combination.outputs), len(combination.noise)) > index + 1:
        raise PlanError(
            f"row {index} uses {len(combination.outputs)} outputs but only {index + 1} exist by then: {combination}"
        )


def _check_marginals(plan: Plan) -> None:
    """Follow (alpha, sigma) of the state through the rows and hold it against every point where the network is evaluated."""
    state = (plan.start.alpha, plan.start.sigma)
    points = [row.point for row in plan.rows[1:]] + [plan.end]
    for index, (row, target) in enumerate(zip(plan.rows, points, strict=True)):
        if row.advance is not None:
            state = row.advance.marginal(plan.prediction, *state)
        reached = state if row.predict is None else row.predict.marginal(plan.prediction, *state)
        miss = math.hypot(reached[0] - target.alpha, reached[1] - target.sigma)
        if not miss <= _TOLERANCE * math.hypot(target.alpha, target.sigma):
            raise PlanError(
                f"row {index} leaves the marginals: it reaches alpha={reached[0]:.9g}, sigma={reached[1]:.9g} where the schedule has "
                f"alpha={target.alpha:.9g}, sigma={target.sigma:.9g} (t={target.time:.6g})"
            )
