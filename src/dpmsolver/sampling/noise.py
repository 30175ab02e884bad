"""The noise of a run: a standard normal for every row that uses one. The normals are independent, or increments of a Brownian path.

A stochastic plan gives row k the normal z_k. It stands for an interval of the run, in most plans the one from the row's point to the
next (`intervals`). There are three sources. Each is keyed by sample, so that sample i is the same in every batch:

- `"independent"`: z_k depends on the seed and on k, so another number of steps gives another sample. The framework of the state draws it
  on the state's device.
- `"host"`: the same, drawn by the host in float64 and copied. The numbers are the same everywhere, at several times the cost.
- `"brownian"`: z_k = (W(c_b) - W(c_a)) / sqrt(c_b - c_a) for the interval from a to b. W is a path that the seed determines, and
  c = e^{2 lambda} = (alpha/sigma)^2 is its clock. Plans with one start then converge to one sample as their steps get finer, and so do
  different solvers of one SDE. The host draws the path.

Reproducibility. "host", "brownian", and `initial_noise` without `like` or with noise="host" give the same numbers for every framework
and device, up to the rounding of the state's type. Numbers that a framework draws itself ("independent", and `initial_noise` with `like`)
are the same in every run and every batch of that framework, in one type on one kind of device. They differ between NumPy, torch and JAX,
between CPUs and GPUs on torch, and between float32 and float64. NumPy's own draws are those of the host. On JAX an integer seed gives the
same numbers whether it is traced or not. The models that the library loads and its testbeds take x_T from the host.

The clock. In dx = (…) dlambda + sqrt(2) tau sigma dB(lambda), the reverse SDE with noise of strength tau, the noise that is added between
a and b contributes at b (data prediction; SA-Solver, Xue et al. 2023, arXiv 2309.05019, prop. 4.1)

    sqrt(2) tau sigma_b e^{-tau^2 lambda_b} int_a^b e^{tau^2 lambda} dB(lambda),

an increment of a Brownian motion with the clock e^{2 tau^2 lambda}. At tau = 1 this clock is c, with dW(c) = sqrt(2) e^lambda dB(lambda):
the noise of several short steps is then exactly that of the long one, for every exponential solver with data prediction, DDIM with eta = 1
and DDPM. Any other tau or eta, noise prediction (whose own clock is -rho^2 = -1/c) and Euler-Maruyama weight dB differently within a step.
The normal of such a step of length h differs from that of the path by O(h) in root mean square, with mean zero and independently of other
steps. This changes the state by O(h^1.5) in a step and by O(h) at the end, so every solver here keeps strong order 1.

c runs from 0 (alpha = 0, where a run may start) to infinity (sigma = 0, where a step adds no noise and needs no draw), over nine or more
powers of ten. Therefore the path is made of cells of length 1 in lambda: each cell's increment is a normal of its own, and torchsde's
Brownian tree fills it in. The cells do not depend on the plan: runs with other starts or ends see the same path.

Cost. A draw from the path takes about 50 times as long as an independent one: on one core 2.5 ms instead of 0.03 ms per sample and row, or
25 ms instead of 0.5 ms for samples of 4 x 64 x 64. It takes some 30 normals of a sample's size for a short step, and more for a step
that reaches into a new cell. The tree of a sample holds 24 float64 arrays of its size.
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
    """The normals of a run, arrays of the shape, type and device of the state `like`, (B, …); `noise_source` makes one.

    Iterating yields the normals in the order of the rows, that of `plan.begin` first if the plan has one; None for a row that uses none.
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
        """The shape of one sample."""
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
        plan: the plan of the run.
        generator: see `backends.noise_keys`; a wrong one is refused even if the plan adds no noise.
        backend, like: the framework of the state, and an array of its shape (B, …), type and device.

    Raises:
        PlanError: an unknown name; keys that cannot draw such normals; for "brownian" a plan that runs backwards, or an interval so
            short that its ends coincide.
        ImportError: "brownian" and torchsde is not installed.
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
    """Return, for each draw of noise that a plan uses, the interval of the run that its normal stands for.

    The intervals do not overlap. An interval ends at the next row's point. It begins where the step that first uses the draw begins, or
    where the interval before it ended: a stage without noise (as in k-diffusion's ancestral DPM2) leaves its part of the way to the draw of
    its step.

    Returns:
        The intervals by the number of the draw. Draw k belongs to row k, or to row k - 1 if `plan.begin` takes number 0.

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
