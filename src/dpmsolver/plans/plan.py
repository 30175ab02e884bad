"""Plan: a whole sampling run as a table of coefficients.

A fixed-step sampler only forms linear combinations of the state, of network outputs and of noise, and the coefficients depend on the
schedule and the grid alone. A Plan holds these coefficients, one row per network evaluation; `dpmsolver.plans.loop.steps` executes it.

A plan preserves marginals if data that are one point keep the alpha and sigma that each point of the plan declares. This is checked when a
plan is made, unless the plan declares that it does not preserve them (`keeps_marginals=False`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from numpy.typing import ArrayLike

from dpmsolver import references
from dpmsolver.errors import PlanError
from dpmsolver.plans import checks, drawn, formats, law, shown
from dpmsolver.plans.combination import Combination, Prediction
from dpmsolver.plans.rows import Point, Row, columns
from dpmsolver.schedules import Floats

__all__ = ["Combination", "Plan", "Point", "Prediction", "Row"]


@dataclass(frozen=True)
class Plan:
    """A sampling run as a table: one row of coefficients per network evaluation, and the point where the run ends.

    With x = u = x_T, the run is this loop over the rows, where m_k is the output of evaluation k and z_k a standard normal:

        m_k = network(u, row.point)
        x <- row.advance(x, m_k, m_{k-1}, …, z_k, z_{k-1}, …)    if the row has an `advance`
        u <- row.predict(x, m_k, m_{k-1}, …, z_k, z_{k-1}, …)    if the row has a `predict`, else x

    Args:
        prediction: what each output m_k is, "noise" or "data".
        rows: the rows in the order of evaluation; `nfe == len(rows)`.
        end: the point of the result.
        solver: the name of the solver that made the plan, for display.
        keeps_marginals: False for a plan that does not preserve marginals, such as those of Runge-Kutta methods in time, of Adams methods
            in v, of noise prediction with added noise, and tuned plans.
        begin: a step before the first evaluation, which computes the first input from x_T without the network and leaves x_T as the
            state; None: the first input is x_T. It may use one draw of noise and has no outputs.
        origin: the point of x_T. Required with `begin`, because the first evaluation is then at another point.
        schedule, grid, options: what `make_plan` made the plan from, for display: text, and a mapping of plain values. They do not count
            when plans are compared.
        answers: the number of outputs of an evaluation. With 2 outputs, the guided and the unconditional one, the coefficients 0 and 1
            belong to the newest evaluation, 2 and 3 to the one before.
        source: the papers of the solver and the grid, for display and for `cite`.

    Raises:
        PlanError: there are no rows, coefficients are not finite, a row uses outputs or noise from before the run or breaks the
            marginals, only one of `begin` and `origin` is given, or answers is not an integer >= 1.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> s, t = (Point.at(Flow(), time) for time in (0.8, 0.4))
        >>> plan = Plan("data", (Row(s, advance=Combination(0.5, (0.5,))),), t)  # one step of DDIM
        >>> plan.nfe, plan.start.time, plan.end.time
        (1, 0.8, 0.4)
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
    source: str = field(default="", compare=False)

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
        """The number of network evaluations of a run."""
        return len(self.rows)

    @property
    def start(self) -> Point:
        """The point of x_T, where the run starts: `origin`, or the point of the first row if there is none."""
        return self.rows[0].point if self.origin is None else self.origin

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """The rows, after one for `begin` if the plan has it. Each of them may use one draw of noise."""
        return self.rows if self.begin is None else (Row(self.start, predict=self.begin), *self.rows)

    @property
    def draws(self) -> int:
        """The largest number of normals that a run may draw: one for each of `all_rows`."""
        return self.nfe + (self.begin is not None)

    def combinations(self) -> Iterator[Combination]:
        """Yield every combination of the run, in order."""
        for each in (self.begin, *(c for row in self.rows for c in (row.advance, row.predict, row.output))):
            if each is not None:
                yield each

    @cached_property
    def stochastic(self) -> bool:
        """True if any combination adds noise."""
        return any(any(c.noise) for c in self.combinations())

    @cached_property
    def elementwise(self) -> bool:
        """True if coefficients are arrays or constants are added. Such a plan is for states of one shape."""
        return any(c.elementwise for c in self.combinations())

    @cached_property
    def history(self) -> int:
        """The number of network outputs that a run has to keep at once, at least those of one evaluation."""
        return max(self.answers, *(len(c.outputs) for c in self.combinations()))

    @cached_property
    def noise_history(self) -> int:
        """The number of draws of noise that a run has to keep at once."""
        return max(len(c.noise) for c in self.combinations())

    @cached_property
    def columns(self) -> dict[str, Floats]:
        """The time, label, alpha and sigma of the points and of the end, each float64 (nfe + 1,)."""
        return columns([*(row.point for row in self.rows), self.end])

    def settle(self) -> None:
        """Compute the cached properties now, for compilers, which can read cached values but cannot trace their computation."""
        for name in ("stochastic", "elementwise", "history", "noise_history", "columns"):
            getattr(self, name)

    def moments(
        self, mean: ArrayLike, variance: ArrayLike, *, begins: Literal["marginal", "noise"] = "marginal"
    ) -> tuple[Floats, Floats]:
        """Return mean and variance of the result for Gaussian data and the optimal network, exactly: see `dpmsolver.plans.law.moments`."""
        return law.moments(self, mean, variance, begins)

    def wasserstein(
        self,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        to: Literal["data", "end"] = "data",
        begins: Literal["marginal", "noise"] = "marginal",
    ) -> float:
        """Return the 2-Wasserstein distance between the result and Gaussian data, exactly: see `dpmsolver.plans.law.wasserstein`."""
        return law.wasserstein(self, mean, variance, to, begins)

    def table(self) -> str:
        """Return the plan as text: what it was made from, and one line per evaluation with all coefficients."""
        return formats.table(self)

    def plot(self, figure: Any = None) -> Any:
        """Draw the grid and the coefficients, and return the matplotlib figure: see `dpmsolver.plans.drawn.plot`."""
        return drawn.plot(self, figure)

    def cite(self) -> str:
        """Return the BibTeX entries of the library and of the sources of the solver and the grid.

        Examples:
            >>> import dpmsolver as dpm
            >>> text = dpm.make_plan("dpm++2m", dpm.schedules.LinearVP(), nfe=10, grid="karras").cite()
            >>> [line.partition("{")[2] for line in text.splitlines() if line.startswith("@")]
            ['dpmsolver,', 'lu2022dpmpp,', 'karras2022elucidating,']
        """
        return references.cited(self.source)

    def to_json(self) -> str:
        """Return the plan as JSON text. Numbers keep every digit, and a plan that leaves the marginals gets a checksum."""
        return formats.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that `to_json` wrote, checked again. Raise PlanError for any other text."""
        return formats.from_json(text, cls)

    def __getstate__(self) -> dict[str, Any]:
        """The plan alone: what its runs left behind (cached properties, a denoiser's notes) may not pickle."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return shown.plan_line(self)

    def _repr_html_(self) -> str:
        return shown.html(self)
