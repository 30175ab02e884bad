"""The noise of a run: a standard normal for every row that uses one, independent, or the increment of one Brownian path per sample.

A stochastic plan gives row k the normal z_k, which stands for an interval of the run, in most plans from its point to the next
(`intervals`). Three sources draw them, all keyed by sample, so that sample i is the same whatever the batch around it:

"independent"   z_k depends on the seed and on k. Another number of steps gives another sample. The state's framework draws it on the
                state's device.
"host"          The same, drawn on the host in float64 and copied: the same numbers everywhere, at several times the cost.
"brownian"      z_k = (W(c_b) - W(c_a)) / sqrt(c_b - c_a) for the interval from a to b: a path W of the seed's, read with the clock
                c = e^{2 lambda} = (alpha/sigma)^2. Plans of one start then converge to one sample as their steps get finer, and
                solvers of one SDE to the same one. The host draws it.

What is the same where. "host" and "brownian" are the same numbers for every framework and device, up to the rounding of the state's type,
and so is `initial_noise` without `like`, or with noise="host". What a framework draws itself ("independent", and `initial_noise` with
`like`) is the same in every run and every batch of that framework, in one type on one kind of device; it differs between NumPy, torch
and JAX, on torch between CPUs and GPUs, and between float32 and float64. NumPy's own draws are the host's. On JAX an integer means the
same whether it is traced or not. The models that the library loads and its testbeds take x_T from the host.

The clock. In dx = (…) dlambda + sqrt(2) tau sigma dB(lambda), the reverse SDE with a noise of strength tau, what is added between a and
b has become at b (data prediction; SA-Solver, Xue et al. 2023, arXiv 2309.05019, prop. 4.1)

    sqrt(2) tau sigma_b e^{-tau^2 lambda_b} int_a^b e^{tau^2 lambda} dB(lambda),

an increment of a Brownian motion with the clock e^{2 tau^2 lambda}. At tau = 1 that is c, with dW(c) = sqrt(2) e^lambda dB(lambda): the
noise of several short steps is then exactly that of the long one, for every exponential solver with data prediction, DDIM with eta = 1
and DDPM. Any other tau or eta, noise prediction (whose own clock is -rho^2 = -1/c) and Euler-Maruyama weigh dB otherwise within a step.
Their normal of a step of length h then differs from the path's by O(h) in root mean square, with mean zero and independently of other
steps: of the state that is O(h^1.5) a step, and O(h) in the end. So every solver here keeps strong order 1.

c runs from 0 (alpha = 0, where a run may start) to infinity (sigma = 0, where a step adds no noise and needs no draw), over nine or more
powers of ten. So the path is made cell by cell, of length 1 in lambda: each cell's increment is a normal of its own, and torchsde's
Brownian tree fills it in. The cells do not depend on the plan: runs with other starts or ends see the same path.

Cost: a draw from the path takes 50 times an independent one, on one core 2.5 ms instead of 0.03 ms per sample and row, or 25 ms instead of
0.5 ms for samples of 4 x 64 x 64: some 30 normals of a sample's size where a grid's step is short, more where it reaches into a new cell.
A sample's tree holds 24 float64 arrays of its size.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dpmsolver.backends import Backend, noise_keys, standard_normals
from dpmsolver.backends.brownian import DIGITS, Bridge, bridges, require_torchsde
from dpmsolver.backends.keys import require_host_keys
from dpmsolver.errors import PlanError, unknown
from dpmsolver.plans.plan import Plan, Point

__all__ = ["Draws", "Noise", "NoiseName", "intervals", "noise_source"]

NoiseName: TypeAlias = Literal["independent", "host", "brownian"]
Draws: TypeAlias = Iterator[Any]
# A part of an increment: the cell, from where to where in it (fractions of its length in c), and the factor of B's increment there.
_Piece: TypeAlias = tuple[int, float, float, float]

_BOTTOM = -20  # all of lambda < -19 is one cell, the only one that begins at c = 0
_ROUNDING = 1e-9  # of half-log-SNR: the stage of an ancestral DPM2 step lies where the step ends, but for rounding


@dataclass(frozen=True, eq=False)
class Noise:
    """The normals of a run, arrays like the state `like`, (B, …); `noise_source` makes one.

    Iterating draws z of `plan.begin`, if there is one, and of each row, one after the other; None where it is not used.
    """

    name: NoiseName
    plan: Plan
    backend: Backend
    like: Any
    keys: Any
    pieces: Mapping[int, list[_Piece]]

    def __iter__(self) -> Draws:
        if self.name != "independent":
            return (None if z is None else self.backend.from_numpy(z, self.like) for z in self.from_host())
        used = _used(self.plan)
        return (self.drawn(number) if number in used else None for number in range(self.plan.draws))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one sample."""
        return tuple(self.like.shape[1:])

    def drawn(self, number: Any) -> Any:
        """Return an independent normal by its number, which may be traced."""
        # Number 0 of every seed belongs to `initial_noise`.
        return self.backend.normals(self.keys, number + 1, self.shape, self.like)

    def from_host(self) -> Iterator[NDArray[np.float64] | None]:
        """Draw the normals that the host makes."""
        numbers = range(self.plan.draws)
        if self.name == "brownian":
            return _brownian(self.keys, [self.pieces.get(number) for number in numbers], self.shape)
        used = _used(self.plan)
        return (
            standard_normals(self.keys, n + 1, tuple(map(operator.index, self.shape))) if n in used else None
            for n in numbers
        )


def noise_source(name: NoiseName, plan: Plan, generator: Any, backend: Backend, like: Any) -> Noise:
    """Return the noise of a run.

    Args:
        name: "independent", "host" or "brownian".
        generator: see `backends.noise_keys`; refused if wrong also where the plan adds no noise.
        backend, like: of the state, (B, …).

    Raises:
        PlanError: another name; keys that cannot draw such normals; for "brownian" a plan that runs backwards, or an interval too
            short to tell its ends apart.
        ImportError: "brownian" without torchsde.
    """
    if name not in get_args(NoiseName):
        raise PlanError(unknown("noise", name, get_args(NoiseName)))
    unseeded = plan.stochastic and backend.unseeded(generator, name)
    # A wrong generator is refused also where it is not needed.
    keys = (
        noise_keys(generator, operator.index(len(like)))
        if generator is not None or (plan.stochastic and not unseeded)
        else []
    )
    if plan.stochastic:
        keys = backend.keys(keys) if name == "independent" else require_host_keys(keys)
    pieces: dict[int, list[_Piece]] = {}
    if name == "brownian" and plan.stochastic:
        _require_forward(plan)
        require_torchsde()
        pieces = {index: list(_pieces(*ends)) for index, ends in intervals(plan).items()}
    return Noise(name, plan, backend, like, keys, pieces)


def intervals(plan: Plan) -> dict[int, tuple[Point, Point]]:
    """For each draw that is used, the interval that its normal stands for: the intervals do not overlap.

    It ends at the next row's point. It begins where the step begins that uses it first, or where the draw before it ended: a stage that
    uses no noise (k-diffusion's ancestral DPM2) leaves its part of the way to the draw of its step.

    Returns:
        The interval by the number of the draw: that of its row, or one more where `plan.begin` takes number 0.

    Examples:
        >>> from dpmsolver import make_plan, schedules
        >>> plan = make_plan("dpm++2m-sde", schedules.EDM(), nfe=3)
        >>> [(k, round(a.rho, 3), round(b.rho, 3)) for k, (a, b) in intervals(plan).items()]
        [(0, 80.0, 0.4), (1, 0.4, 0.002)]
    """
    rows = plan.all_rows
    points = [*(row.point for row in rows), plan.end]
    used, found = _used(plan), {}
    place = covered = 0  # the points where the committed state is, and where the last draw ended
    for index, row in enumerate(rows):
        begin = place
        if row.advance is not None:
            # With both, `advance` is a corrector that ends at this row's point, and `predict` goes on from there.
            place = index + 1 if row.predict is None else index
            begin = begin if row.predict is None or any(row.advance.noise[:1]) else place
        if index in used:
            found[index] = points[max(begin, covered)], points[index + 1]
            covered = index + 1
    return found


def _used(plan: Plan) -> set[int]:
    """The draws that have a coefficient somewhere."""
    combinations = ((k, c) for k, row in enumerate(plan.all_rows) for c in (row.advance, row.predict) if c is not None)
    return {k - i for k, c in combinations for i, coefficient in enumerate(c.noise) if coefficient}


def _brownian(
    keys: Sequence[tuple[int, ...]], rows: Sequence[list[_Piece] | None], shape: tuple[int, ...]
) -> Iterator[NDArray[np.float64] | None]:
    open_cell: int | None = None  # the one that is filled in: a run does not come back to an earlier one
    paths: list[Bridge] = []
    for pieces in rows:
        total: NDArray[np.float64] = np.zeros((len(keys), *shape))
        for cell, begin, end, factor in pieces or ():
            if end - begin == 1.0:
                total += factor * _cell_increments(keys, cell, shape)
                continue
            if cell != open_cell:
                open_cell, paths = cell, bridges(_cell_increments(keys, cell, shape), _cell_entropies(keys, cell))
            total += factor * np.stack([path(begin, end) for path in paths])
        yield None if pieces is None else total


# A stream of the path has two numbers, where one of independent normals has one: the cell, and its increment or its inside.
def _cell_increments(keys: Sequence[tuple[int, ...]], cell: int, shape: Sequence[int]) -> NDArray[np.float64]:
    return standard_normals(keys, (cell - _BOTTOM, 0), shape)


def _cell_entropies(keys: Sequence[tuple[int, ...]], cell: int) -> list[int]:
    sequences = (np.random.SeedSequence(key, spawn_key=(cell - _BOTTOM, 1)) for key in keys)
    return [sum(int(word) << 32 * i for i, word in enumerate(s.generate_state(4))) for s in sequences]


def _require_forward(plan: Plan) -> None:
    for before, after in pairwise([*(row.point for row in plan.all_rows), plan.end]):
        if after.half_log_snr < before.half_log_snr - _ROUNDING:
            raise PlanError(
                f"noise='brownian' needs a plan whose points never go back to more noise, but {plan.solver or 'this one'} goes from "
                f"half-log-SNR {before.half_log_snr:.4g} to {after.half_log_snr:.4g} (churn does this): take noise='independent'"
            )


def _pieces(begin: Point, end: Point) -> Iterator[_Piece]:
    """The increment of W between two points over its standard deviation, as parts of cells."""
    if end.sigma == 0.0:
        raise PlanError(
            "noise='brownian' has no clock at sigma = 0, but a step of this plan that ends there adds noise"
        )
    (first, low), (last, high) = _place(begin.half_log_snr), _place(end.half_log_snr)
    parts = [(c, low if c == first else 0.0, high if c == last else 1.0) for c in range(first, last + 1)]
    # Lengths in units of e^{2 last}, which neither overflow nor cancel.
    cells = [math.exp(2.0 * (c - last)) * (math.expm1(2.0) if c > _BOTTOM else math.exp(2.0)) for c, _, _ in parts]
    total = math.fsum(length * (b - a) for length, (_, a, b) in zip(cells, parts, strict=True))
    if not total > 0.0:
        raise PlanError(
            f"noise='brownian' tells points apart to 1e-{DIGITS} of their (alpha/sigma)^2, but this plan adds noise between "
            f"half-log-SNR {begin.half_log_snr!r} and {end.half_log_snr!r}: take fewer steps, or noise='independent'"
        )
    for length, (cell, a, b) in zip(cells, parts, strict=True):
        if a < b:
            yield cell, a, b, math.sqrt(length / total)


def _place(half_log_snr: float) -> tuple[int, float]:
    """The cell of a point, and how far in it the point is: (c - c_0)/(c_1 - c_0), with the digits that the tree resolves."""
    if half_log_snr < _BOTTOM + 1:
        return _BOTTOM, round(math.exp(2.0 * (half_log_snr - _BOTTOM - 1)), DIGITS)
    cell = math.floor(half_log_snr)
    return cell, round(math.expm1(2.0 * (half_log_snr - cell)) / math.expm1(2.0), DIGITS)
