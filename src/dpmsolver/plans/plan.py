"""Plan: a whole sampling run as a table of coefficients.

Every fixed-step sampler only forms linear combinations of the state, of network outputs and of noise, with coefficients that depend on
the schedule and the grid alone. A Plan holds them, one row per network evaluation, and `dpmsolver.plans.loop.steps` executes it.

A plan preserves marginals: data of one point keep the alpha and sigma that each point declares. This is checked when it is made, unless
the plan says that it does not (`keeps_marginals`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError
from dpmsolver.plans import law
from dpmsolver.plans.combination import Combination, Prediction, from_dict, to_dict
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["Combination", "Plan", "Point", "Prediction", "Row"]


_FORMAT = 2
_PROVENANCE = ("solver", "schedule", "grid", "options")
_STEPS = ("advance", "predict", "output")
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
class Row:
    """One network evaluation: where (`point`), the step that commits the state, and the one that makes the next evaluation's input.

    `output` is what a calibrated solver keeps of the evaluation instead of m: a combination of the network's input u and of m.
    """

    point: Point
    advance: Combination | None = None
    predict: Combination | None = None
    output: Combination | None = None


@dataclass(frozen=True)
class Plan:
    """A sampling run: what outputs mean, one row per network evaluation, and the point where the run ends.

    Args:
        prediction: what each output m_k is: "noise" or "data".
        rows: in the order of evaluation; `nfe == len(rows)`.
        end: the point of the result.
        solver: the name of the solver that made it, for people.
        keeps_marginals: False for the few whose rows do not: Runge-Kutta methods in time, noise prediction with noise, tuned plans.
        begin: what makes the first evaluation's input from x_T, which stays the state: a step that asks no network (None: u = x_T).
            It counts as a row for the noise, of which it may draw one normal, and has no outputs.
        origin: the point of x_T, where `begin` is not None: the first evaluation is then elsewhere.
        schedule, grid, options: what `make_plan` made the plan from, for people: text, and a mapping of plain values. Two plans with the
            same table are equal whatever these say.

    Raises:
        PlanError: no rows, coefficients that are not finite, outputs or noise older than the run, a row that breaks the marginals,
            one of `begin` and `origin` without the other.
    """

    prediction: Prediction
    rows: tuple[Row, ...]
    end: Point
    solver: str = ""
    keeps_marginals: bool = True
    begin: Combination | None = None
    origin: Point | None = None
    schedule: str = field(default="", compare=False)
    grid: str = field(default="", compare=False)
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.prediction not in ("noise", "data"):
            raise PlanError(f"prediction must be 'noise' or 'data', got {self.prediction!r}")
        if not self.rows:
            raise PlanError("a plan needs at least one row")
        if self.rows[-1].advance is None:
            raise PlanError("the last row must advance the state, or its evaluation is lost")
        if self.rows[-1].predict is not None:
            raise PlanError("the last row must not predict: no evaluation follows it")
        if (self.begin is None) != (self.origin is None):
            raise PlanError("begin and origin go together: the step that no network is asked for, and the point of x_T")
        first = -1 if self.begin is not None else 0
        if self.begin is not None:
            _check_combination(self.begin, -1, first)
        for index, row in enumerate(self.rows):
            for combination in (row.advance, row.predict, row.output):
                if combination is not None:
                    _check_combination(combination, index, first)
        if self.keeps_marginals and self.elementwise:
            raise PlanError("a plan with arrays as coefficients has keeps_marginals=False")
        if self.keeps_marginals:
            _check_marginals(self)

    @property
    def nfe(self) -> int:
        """Network evaluations of a run."""
        return len(self.rows)

    @property
    def start(self) -> Point:
        """Where the run starts, the point of x_T: the first evaluation's, unless `begin` leads from another one to it."""
        return self.rows[0].point if self.origin is None else self.origin

    def combinations(self) -> Iterator[Combination]:
        """Every combination of the run, in order."""
        for each in (self.begin, *(c for row in self.rows for c in (row.advance, row.predict, row.output))):
            if each is not None:
                yield each

    @cached_property
    def stochastic(self) -> bool:
        """Whether any combination adds noise."""
        return any(any(c.noise) for c in self.combinations())

    @cached_property
    def elementwise(self) -> bool:
        """Whether coefficients are arrays, or constants are added: then the plan is for states of one shape."""
        return any(c.elementwise for c in self.combinations())

    @cached_property
    def history(self) -> int:
        """How many network outputs have to be kept at once."""
        return max(len(c.outputs) for c in self.combinations())

    @cached_property
    def noise_history(self) -> int:
        """How many draws of noise have to be kept at once."""
        return max(len(c.noise) for c in self.combinations())

    @cached_property
    def columns(self) -> dict[str, Floats]:
        """time, label, alpha and sigma of the points and of the end, each float64 (nfe + 1,)."""
        return columns([*(row.point for row in self.rows), self.end])

    def moments(
        self, mean: ArrayLike, variance: ArrayLike, *, begins: Literal["marginal", "noise"] = "marginal"
    ) -> tuple[Floats, Floats]:
        """Mean and variance of the result for Gaussian data and the optimal network, exactly: nothing is drawn.

        The optimal network of Gaussian data is affine in the state. So the result is an affine function of independent normals, the
        start and each draw of noise, and is followed coefficient by coefficient.

        Args:
            mean, variance: of independent coordinates, shape (D,) or numbers. Data with a covariance: its eigenvalues, and the mean in
                its eigenbasis; every linear solver acts on each coordinate alone.
            begins: "marginal", the run begins with the data's marginal at `start`, which leaves out what is wrong with the start; or
                "noise", with normals of standard deviation sigma, as `initial_noise` draws them.

        Returns:
            mean and variance of the result, each float64 (D,).

        Examples:
            >>> from dpmsolver import make_plan, schedules
            >>> mean, variance = make_plan("ddim", schedules.EDM(), nfe=500).moments(1.0, 0.25)
            >>> mean.round(6), variance.round(2)
            (array([1.]), array([0.25]))
        """
        return law.moments(self, mean, variance, begins)

    def wasserstein(
        self,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        to: Literal["data", "end"] = "data",
        begins: Literal["marginal", "noise"] = "marginal",
    ) -> float:
        """The 2-Wasserstein distance between the result and Gaussian data, exactly (see `moments`): how good a plan is, in no time.

        Args:
            to: "data", or "end": the data's marginal at the end of the run, which leaves the solver's error alone.
            begins: as in `moments`.

        Examples:
            >>> from dpmsolver import make_plan, schedules
            >>> good, poor = (make_plan(s, schedules.EDM(), nfe=10).wasserstein(0.0, 0.25) for s in ("dpm++2m", "ddim"))
            >>> good < poor
            True
        """
        return law.wasserstein(self, mean, variance, to, begins)

    def table(self) -> str:
        """The plan as text: what made it, and one line per evaluation with all of its combinations."""
        lines = [
            f"{self.solver or 'plan'}: {self.nfe} evaluations, {self.prediction} prediction"
            + ("" if self.keeps_marginals else ", leaves the marginals")
        ]
        if self.schedule:
            said = [f"grid {self.grid}", *(f"{name}={value}" for name, value in self.options.items())]
            lines.append(f"{self.schedule}, {', '.join(said)}")
        lines.append(f"{'':>4} {'time':>10} {'label':>10} {'alpha':>10} {'sigma':>10} {'lambda':>8}  combination")
        if self.begin is not None:
            lines.append(f" x_T {_columns(self.start)}  u <- {self.begin}")
        for index, row in enumerate(self.rows):
            steps = (("m", row.output), ("x", row.advance), ("u", row.predict))
            what = [f"{name} <- {combination}" for name, combination in steps if combination is not None]
            lines.append(f"{index:>4} {_columns(row.point)}  {';  '.join(what)}")
        lines.append(f" end {_columns(self.end)}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The plan as JSON text; floats keep every digit."""
        rows = [
            {"point": vars(r.point), **{k: to_dict(getattr(r, k)) for k in _STEPS if getattr(r, k) or k != "output"}}
            for r in self.rows
        ]
        document: dict[str, Any] = {
            "format": _FORMAT,
            **{name: getattr(self, name) for name in _PROVENANCE},
            "prediction": self.prediction,
            "keeps_marginals": self.keeps_marginals,
            "rows": rows,
            "end": vars(self.end),
        }
        if self.origin is not None:
            document |= {"begin": to_dict(self.begin), "origin": vars(self.origin)}
        return json.dumps(document, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote, checked again. PlanError for anything else."""
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                raise PlanError(f"this plan has format {document['format']}, this version reads {_FORMAT}")
            rows = tuple(
                Row(Point(**r["point"]), from_dict(r["advance"]), from_dict(r["predict"]), from_dict(r.get("output")))
                for r in document["rows"]
            )
            end, keeps = Point(**document["end"]), document["keeps_marginals"]
            begin = from_dict(document.get("begin"))
            origin = Point(**document["origin"]) if "origin" in document else None
            made = {name: document[name] for name in _PROVENANCE}
            return cls(document["prediction"], rows, end, keeps_marginals=keeps, begin=begin, origin=origin, **made)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise PlanError(f"not a plan in JSON: {type(error).__name__}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """The plan alone: what its runs left behind (cached properties, a denoiser's notes) may not pickle."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __str__(self) -> str:
        return self.table()


def _columns(point: Point) -> str:
    return (
        f"{point.time:>10.6g} {point.label:>10.6g} {point.alpha:>10.6g} {point.sigma:>10.6g} {point.half_log_snr:>8.4g}"
    )


def _check_combination(combination: Combination, index: int, first: int) -> None:
    """`index` is -1 for `begin`, and `first` the index of the first draw of noise."""
    where = f"row {index}" if index >= 0 else "begin"
    if not all(
        np.isfinite(c).all() if isinstance(c, np.ndarray) else math.isfinite(c) for c in combination.coefficients
    ):
        raise PlanError(f"{where} has a coefficient that is not finite: {combination}")
    for what, used, known in (
        ("outputs", len(combination.outputs), index + 1),
        ("draws of noise", len(combination.noise), index + 1 - first),
    ):
        if used > known:
            raise PlanError(f"{where} uses {used} {what} but only {known} exist by then: {combination}")


def _check_marginals(plan: Plan) -> None:
    """Follow (alpha, sigma) of the state through the rows and hold it against every point where the network is evaluated."""
    exact = (1.0, 0.0) if plan.prediction == "data" else (0.0, 1.0)
    state = reached = (plan.start.alpha, plan.start.sigma)
    outputs: list[tuple[float, float]] = []
    rows, points = list(plan.rows), [row.point for row in plan.rows[1:]] + [plan.end]
    if plan.begin is not None:
        rows, points = [Row(plan.start, predict=plan.begin), *rows], [plan.rows[0].point, *points]
    for index, (row, target) in enumerate(zip(rows, points, strict=True), start=len(plan.rows) - len(rows)):
        output = exact if row.output is None else row.output.marginal(reached, [exact])
        outputs = [output, *outputs][: plan.history]
        if row.advance is not None:
            state = row.advance.marginal(state, outputs)
        reached = state if row.predict is None else row.predict.marginal(state, outputs)
        miss = math.hypot(reached[0] - target.alpha, reached[1] - target.sigma)
        if not miss <= _TOLERANCE * math.hypot(target.alpha, target.sigma):
            where = f"row {index}" if index >= 0 else "begin"
            raise PlanError(
                f"{where} leaves the marginals: it reaches alpha={reached[0]:.9g}, sigma={reached[1]:.9g} where the schedule has "
                f"alpha={target.alpha:.9g}, sigma={target.sigma:.9g} (t={target.time:.6g})"
            )
