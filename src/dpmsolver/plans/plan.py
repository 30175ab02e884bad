"""Plan: a whole sampling run as a table of coefficients.

Every fixed-step sampler only forms linear combinations of the state, of network outputs and of noise, with coefficients that depend on
the schedule and the grid alone. A Plan holds them, one row per network evaluation, and `dpmsolver.plans.loop.steps` executes it.

A plan preserves marginals: data of one point keep the alpha and sigma that each point declares. This is checked when it is made, unless
the plan says that it does not (`keeps_marginals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError
from dpmsolver.plans import checks, formats, law
from dpmsolver.plans.combination import Combination, Prediction
from dpmsolver.plans.rows import Point, Row, columns
from dpmsolver.schedules import Floats

__all__ = ["Combination", "Plan", "Point", "Prediction", "Row"]


@dataclass(frozen=True)
class Plan:
    """A sampling run: what outputs mean, one row per network evaluation, and the point where the run ends.

    Args:
        prediction: what each output m_k is: "noise" or "data".
        rows: in the order of evaluation; `nfe == len(rows)`.
        end: the point of the result.
        solver: the name of the solver that made it, for people.
        keeps_marginals: False for the few whose rows do not: Runge-Kutta methods in time, Adams methods in v, noise prediction with
            noise, tuned plans.
        begin: what makes the first evaluation's input from x_T, which stays the state: a step that asks no network (None: u = x_T).
            It counts as a row for the noise, of which it may draw one normal, and has no outputs.
        origin: the point of x_T, where `begin` is not None: the first evaluation is then elsewhere.
        schedule, grid, options: what `make_plan` made the plan from, for people: text, and a mapping of plain values. Two plans with the
            same table are equal whatever these say.
        answers: how many outputs an evaluation gives, in one order: with 2, as the guided and the unconditional one, coefficients
            0 and 1 are for those of the newest evaluation, 2 and 3 for those of the one before.

    Raises:
        PlanError: no rows, coefficients that are not finite, outputs or noise older than the run, a row that breaks the marginals,
            one of `begin` and `origin` without the other, answers that are no integer >= 1.
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
    answers: int = 1

    def __post_init__(self) -> None:
        if self.prediction not in ("noise", "data"):
            raise PlanError(f"prediction must be 'noise' or 'data', got {self.prediction!r}")
        if not isinstance(self.answers, int) or isinstance(self.answers, bool) or self.answers < 1:
            raise PlanError(f"answers must be an integer >= 1, got {self.answers!r}")
        checks.check_rows(self)
        if self.keeps_marginals and self.elementwise:
            raise PlanError("a plan with arrays as coefficients has keeps_marginals=False")
        if self.keeps_marginals:
            checks.check_marginals(self)

    @property
    def nfe(self) -> int:
        """Network evaluations of a run."""
        return len(self.rows)

    @property
    def start(self) -> Point:
        """Where the run starts, the point of x_T: the first evaluation's, unless `begin` leads from another one to it."""
        return self.rows[0].point if self.origin is None else self.origin

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """The rows; where there is a `begin`, after one that makes it a step at the start. Each may draw one normal."""
        return self.rows if self.begin is None else (Row(self.start, predict=self.begin), *self.rows)

    @property
    def draws(self) -> int:
        """How many normals a run may draw: one for each of `all_rows`."""
        return self.nfe + (self.begin is not None)

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
        """How many network outputs have to be kept at once: those of an evaluation at least."""
        return max(self.answers, *(len(c.outputs) for c in self.combinations()))

    @cached_property
    def noise_history(self) -> int:
        """How many draws of noise have to be kept at once."""
        return max(len(c.noise) for c in self.combinations())

    @cached_property
    def columns(self) -> dict[str, Floats]:
        """time, label, alpha and sigma of the points and of the end, each float64 (nfe + 1,)."""
        return columns([*(row.point for row in self.rows), self.end])

    def settle(self) -> None:
        """Compute what is computed once, for compilers: they read it, and cannot trace how Python keeps it."""
        for name in ("stochastic", "elementwise", "history", "noise_history", "columns"):
            getattr(self, name)

    def moments(
        self, mean: ArrayLike, variance: ArrayLike, *, begins: Literal["marginal", "noise"] = "marginal"
    ) -> tuple[Floats, Floats]:
        """Mean and variance of the result for Gaussian data and the optimal network, exactly: see `dpmsolver.plans.law.moments`."""
        return law.moments(self, mean, variance, begins)

    def wasserstein(
        self,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        to: Literal["data", "end"] = "data",
        begins: Literal["marginal", "noise"] = "marginal",
    ) -> float:
        """The 2-Wasserstein distance between the result and Gaussian data, exactly: see `dpmsolver.plans.law.wasserstein`."""
        return law.wasserstein(self, mean, variance, to, begins)

    def table(self) -> str:
        """The plan as text: what made it, and one line per evaluation with all of its combinations."""
        return formats.table(self)

    def to_json(self) -> str:
        """The plan as JSON text; floats keep every digit, and a plan that leaves the marginals has a checksum."""
        return formats.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote, checked again. PlanError for anything else."""
        return formats.from_json(text, cls)

    def __getstate__(self) -> dict[str, Any]:
        """The plan alone: what its runs left behind (cached properties, a denoiser's notes) may not pickle."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __str__(self) -> str:
        return self.table()
