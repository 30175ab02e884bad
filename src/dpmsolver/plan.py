"""Plan: a whole sampling run as a table of coefficients.

Every fixed-step sampler only forms linear combinations of the state, of network outputs and of noise, with coefficients that depend on
the schedule and the grid alone. A Plan holds them, one row per network evaluation, and `dpmsolver.sample` executes it:

    x = u = x_T
    for row in plan.rows:
        outputs = (denoiser(u, row.point), *outputs)
        x = row.advance(x, outputs, noise)   if row.advance else x
        u = row.predict(x, outputs, noise)   if row.predict else x
    return x

A plan preserves marginals: data of one point keep the alpha and sigma that each point declares. This is checked when it is made, unless
the plan says that it does not (`keeps_marginals`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

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

    @property
    def rho(self) -> float:
        """sigma/alpha, the noise level as EDM and k-diffusion count it."""
        return math.inf if self.alpha == 0.0 else self.sigma / self.alpha


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

    def after(self, inner: Combination) -> Combination:
        """This combination of what `inner` makes of x, as one: both use the same outputs and the same noise.

        Examples:
            >>> Combination(2.0, (1.0,)).after(Combination(0.5, (3.0, 4.0)))
            Combination(state=1.0, outputs=(7.0, 8.0), noise=())
        """

        def merged(own: tuple[float, ...], others: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(a + self.state * b for a, b in zip_longest(own, others, fillvalue=0.0))

        return Combination(
            self.state * inner.state, merged(self.outputs, inner.outputs), merged(self.noise, inner.noise)
        )

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
        keeps_marginals: False for the few whose rows do not: Runge-Kutta methods in time, noise prediction with noise, tuned plans.

    Raises:
        PlanError: no rows, coefficients that are not finite, outputs or noise older than the run, a row that breaks the marginals.
    """

    prediction: Prediction
    rows: tuple[Row, ...]
    end: Point
    solver: str = ""
    keeps_marginals: bool = True

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
        if self.keeps_marginals:
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

    def moments(self, mean: ArrayLike, variance: ArrayLike) -> tuple[Floats, Floats]:
        """Mean and variance of the result for Gaussian data and the optimal network, exactly: nothing is drawn.

        The optimal network of Gaussian data is affine in the state. So the result is an affine function of independent normals, the
        start and each draw of noise, and is followed coefficient by coefficient. The start has the data's marginal at `start`.

        Args:
            mean, variance: of independent coordinates, shape (D,) or numbers. Data with a covariance: its eigenvalues, and the mean in
                its eigenbasis; every linear solver acts on each coordinate alone.

        Returns:
            mean and variance of the result, each float64 (D,).

        Examples:
            >>> from dpmsolver import make_plan, schedules
            >>> mean, variance = make_plan("ddim", schedules.EDM(), nfe=500).moments(1.0, 0.25)
            >>> mean.round(6), variance.round(2)
            (array([1.]), array([0.25]))
        """
        mean, variance = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (mean, variance))
        size = self.nfe + 2  # rows: the constant 1, the normal of the start, one normal per evaluation
        x = np.zeros((size, *np.broadcast_shapes(mean.shape, variance.shape)))
        x[0] = self.start.alpha * mean
        x[1] = np.sqrt(self.start.alpha**2 * variance + self.start.sigma**2)
        u = x
        outputs: list[Floats] = []
        noise: list[Floats] = []
        for index, row in enumerate(self.rows):
            alpha, sigma = row.point.alpha, row.point.sigma
            gap = u / (alpha**2 * variance + sigma**2)
            gap[0] -= alpha * mean / (alpha**2 * variance + sigma**2)
            output = sigma * gap if self.prediction == "noise" else alpha * variance * gap
            if self.prediction == "data":
                output[0] += mean
            outputs, noise = [output, *outputs][: self.history], [np.zeros_like(x), *noise][: self.noise_history]
            if noise:
                noise[0][index + 2] = 1.0
            x = x if row.advance is None else row.advance(x, outputs, noise)
            u = x if row.predict is None else row.predict(x, outputs, noise)
        return x[0], np.square(x[1:]).sum(axis=0)

    def wasserstein(self, mean: ArrayLike, variance: ArrayLike, *, to: Literal["data", "end"] = "data") -> float:
        """The 2-Wasserstein distance between the result and Gaussian data, exactly (see `moments`): how good a plan is, in no time.

        Args:
            to: "data", or "end": the data's marginal at the end of the run, which leaves the solver's error alone.

        Examples:
            >>> from dpmsolver import make_plan, schedules
            >>> good, poor = (make_plan(s, schedules.EDM(), nfe=10).wasserstein(0.0, 0.25) for s in ("dpm++2m", "ddim"))
            >>> good < poor
            True
        """
        reached, spread = self.moments(mean, variance)
        alpha, sigma = (1.0, 0.0) if to == "data" else (self.end.alpha, self.end.sigma)
        deviation = np.sqrt(alpha**2 * np.asarray(variance, dtype=np.float64) + sigma**2)
        gaps = np.square(reached - alpha * np.asarray(mean)) + np.square(np.sqrt(spread) - deviation)
        return float(np.sqrt(gaps.sum()))

    def table(self) -> str:
        """The plan as text: one line per evaluation."""
        lines = [
            f"{self.solver or 'plan'}: {self.nfe} evaluations, {self.prediction} prediction"
            + ("" if self.keeps_marginals else ", leaves the marginals")
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
            "keeps_marginals": self.keeps_marginals,
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
            end, keeps = Point(**document["end"]), document["keeps_marginals"]
            return cls(document["prediction"], rows, end, document["solver"], keeps)
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
