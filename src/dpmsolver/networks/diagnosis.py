"""`check` tests whether a network predicts what its denoiser declares, and if not, which of the usual mistakes was made.

The state x = alpha x_0 + sigma eps is made from given data, so that the right prediction is known. The error of a hypothesis is that of its
predicted x_0, over the error of the best guess without a network, a multiple of x plus a constant: 0 is perfect, and 1 is as bad as that
guess. Every prediction is a linear combination of x and x_0, so this unit is the same for all hypotheses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from dpmsolver import backends
from dpmsolver.backends.arrays import is_float_array
from dpmsolver.brief import cut
from dpmsolver.errors import PlanError
from dpmsolver.host import to_host
from dpmsolver.networks.conventions import Trial, trials
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans.caution import far_deviation
from dpmsolver.plans.plan import Point
from dpmsolver.plans.targets import Predicts, conversion
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["Diagnosis", "Hypothesis", "check"]

# Measured on `digits`, on trained two-moons networks and on closed forms, with outputs off by up to 10 %: docs/conventions.md.
_CHANCE = 0.01  # errors this much apart, and 0.5/sqrt(numbers) more, count as equal
_USEFUL = (
    1.1  # times the error of the best guess without the network: a hypothesis whose score is above is worse than none
)
_LIMIT = 1.3  # the same for the error, which forgives nothing
_CONSISTENT = (
    1.2  # times the error of the best linear combination of x and the output: above, the output means something else
)
_SLACK = 0.1  # of what is predicted: how far off an imperfect network's output may be, in both; and by how much others may be better
_BETTER = 0.99  # a hypothesis with a larger error is no better than no network
_REACH = np.log(10.0)  # levels lie where the data's deviation is between a tenth and ten times that of the noise

_WORDS = {
    "noise": "the noise eps",
    "data": "the data x_0",
    "v": "v = alpha eps - sigma x_0",
    "score": "the score -eps/sigma",
    "velocity": "the velocity eps - x_0",
}


@dataclass(frozen=True)
class Hypothesis:
    """A convention that was tried.

    Args:
        name: the difference from the declared convention, in words; "as declared" for the declared one.
        code: the correct code, an expression in `denoiser`, `network`, `schedule` and `data`; empty for the declared convention.
        error: the error of the predicted x_0 over all levels; 0 is perfect, 1 is no better than a guess without the network.
        errors: the error at each level.
        score: the error with a tolerance of a tenth of the output, for imperfect networks.
        fits: True if the network is useful under this convention and no other linear combination of its output is much better.
        changes: the number of differences from the declared convention.
    """

    name: str
    code: str
    error: float
    errors: tuple[float, ...]
    score: float
    fits: bool
    changes: int


@dataclass(frozen=True)
class Diagnosis:
    """The result of `check`. Printing it shows the finding and a table of the errors.

    Args:
        fits: True if the declared convention fits about as well as the best one that was tried.
        finding: a sentence which says that the convention fits, or names the mistake and the correct code, or says that nothing fits.
        code: the correct code as a Python expression; empty if the convention fits or nothing does.
        declared: the declared convention.
        hypotheses: all conventions that were tried, best first.
        times: the schedule's times of the levels.
        calls: the number of network evaluations, each of the whole batch.
    """

    fits: bool
    finding: str
    code: str
    declared: Hypothesis
    hypotheses: tuple[Hypothesis, ...]
    times: tuple[float, ...]
    calls: int

    def __repr__(self) -> str:
        return cut(f"<Diagnosis of {self.calls} calls: {self.finding}>")

    def table(self, rows: int = 8) -> str:
        """Return the declared convention and the best others as text, with their errors over all levels and at each level."""
        others = [h for h in self.hypotheses if h is not self.declared][: rows - 1]
        width = max(len(h.name) for h in (self.declared, *others))
        times = "".join(f"{f't={t:.2g}':>10}" for t in self.times)
        lines = [f"{'convention':<{width}}{'error':>10}  {times}"]
        for each in (self.declared, *others):
            lines.append(f"{each.name:<{width}}{_number(each.error)}  {''.join(map(_number, each.errors))}")
        return "\n".join([*lines, "(0 is perfect, 1 is no better than a guess without the network)"])

    def __str__(self) -> str:
        return f"{self.finding}\n\n{self.table()}"


def check(denoiser: Denoiser, data: Any, *, x_T: Any = None, levels: int = 6, seed: int = 0) -> Diagnosis:
    """Check whether a network predicts what its denoiser declares, and find the convention that fits if it does not.

    The network is evaluated on noised data, for which the right prediction is known. The declared convention is compared with the usual
    mistakes: every prediction with either sign; other meanings of t (the step number, n/N, 1000 t, 1 - t, ln(sigma)/4, …); other scales of
    the state (variance exploding, preserving, straight); betas that are alphas_cumprod and the like; EDM's raw networks; data in [0, 1], in
    [-1, 1] or in bytes. If none of them fits, pairs of mistakes are tried too.

    Args:
        denoiser: the network with the declared convention. Classes in its `network_kwargs` or its guidance must fit the batch of the
            data. The condition of classifier-free guidance is used without its scale; other guidance and the data hook are ignored.
        data: data of the kind that the network was trained on, (B, …), NumPy or torch: 16 pictures, or some hundred points of a few
            numbers.
        x_T: a start for `sample`, whose standard deviation is checked too.
        levels: the number of noise levels, uniform in log-SNR where data and noise have comparable size.
        seed: the seed of the noise. The same seed gives the same diagnosis.

    Returns:
        The diagnosis, with the finding in words and the correct code.

    The network is evaluated at most 40 `levels` times on the whole batch, and about 15 `levels` times if a convention fits.

    Raises:
        TypeError: the first argument is not a denoiser. PlanError: the data are constant, not finite or fewer than 16 numbers, or there are
            no levels.

    Examples:
        >>> import dpmsolver as dpm
        >>> model = dpm.models.Mixture(means=[[-1.0, 0.0], [1.0, 0.5]], variances=[[0.01, 0.01]] * 2)
        >>> right = model.denoiser(dpm.schedules.Flow(), "velocity")
        >>> dpm.check(right, model.sample(100)).fits
        True
        >>> found = dpm.check(right.replace(predicts="v"), model.sample(100))
        >>> found.fits, found.code
        (False, "denoiser.replace(predicts='velocity')")
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"denoiser must be dpm.Denoiser(network, schedule, …), got {type(denoiser).__name__}")
    if isinstance(levels, bool) or not isinstance(levels, (int, np.integer)) or levels < 1:
        raise PlanError(f"levels must be an integer >= 1, got {levels!r}")
    values = _floating(data)
    host = _checked(to_host(values))
    measure = _Measure(int(levels), seed)
    start = Trial(_plain(denoiser), values)
    tried = list(measure.readings(start))
    declared = next(h for h in tried if not h.changes)
    tried += measure.alternatives(trials(start, host.min(), host.max()))
    chance = _CHANCE + 0.5 / np.sqrt(levels * host.size)
    best = _best(tried, chance)
    if not best.fits:
        tried += measure.alternatives(trials(measure.origin[best], host.min(), host.max()))
        best = _best(tried, chance)
    tried.sort(key=lambda each: each.error)
    ahead = min(declared.error / best.error, declared.score / best.score)
    fits = declared.fits and (best is declared or ahead <= 1.0 + _SLACK)
    finding, code = _finding(declared, best, fits)
    if x_T is not None:
        point = Point.at(denoiser.schedule, denoiser.schedule.default_start())
        if far := far_deviation(tuple(x_T.shape), float(to_host(x_T).std()), point):
            fits, finding = False, f"{far} {finding}"
    return Diagnosis(fits, finding, code, declared, tuple(tried), measure.times(start), measure.calls)


def _floating(data: Any) -> Any:
    """The data as floating-point numbers of the same value: bytes stay between 0 and 255."""
    backend = backends.of(data)
    if not is_float_array(backend, data):
        data = data.astype(np.float32) if isinstance(data, np.ndarray) else data.float()
    return backend.state(data)


def _checked(host: Floats) -> Floats:
    if not np.isfinite(host).all():
        raise PlanError("the data hold NaN or infinity")
    if host.ndim < 2 or len(host) < 2 or host.size < 16:
        raise PlanError(f"data must have the shape (B, …) with at least two samples and 16 numbers, got {host.shape}")
    if not host.std() > 0.0:
        raise PlanError("the data are all alike: give some that differ, as nothing can be learned from these")
    return host


def _plain(denoiser: Denoiser) -> Denoiser:
    """The network alone, with the condition of its guidance: what was trained to be the best guess."""
    guidance = denoiser.guidance
    conditional = replace(guidance, scale=1.0, interval=None) if isinstance(guidance, ClassifierFree) else None
    return denoiser.replace(guidance=conditional, data_hook=None)


@dataclass
class _Measure:
    """Trials measured at the same number of levels, with the same noise."""

    levels: int
    seed: int
    calls: int = 0
    origin: dict[Hypothesis, Trial] = field(default_factory=dict)
    drawn: list[Floats] = field(default_factory=list)  # the noise of each level

    def alternatives(self, changed: Iterable[Trial]) -> Iterator[Hypothesis]:
        """The readings of every trial that runs."""
        for trial in changed:
            try:
                found = list(self.readings(trial))
            except Exception:
                continue  # a network may refuse labels and states that it was never meant to have
            yield from found

    def times(self, trial: Trial) -> tuple[float, ...]:
        """The levels, from noisy to clean: where the data's deviation is a tenth to ten times the noise's, as far as there are such."""
        schedule = trial.denoiser.schedule
        ends = np.array([schedule.half_log_snr(schedule.t_max), schedule.half_log_snr(schedule.t_min)])
        centre = -np.log(to_host(trial.data).std())
        low, high = np.clip([centre - _REACH, centre + _REACH], *ends)
        if high - low < 0.5 and trial.names:
            raise PlanError("no level of this schedule tells anything")
        if high - low < 0.5:  # its nearest levels, which show that something is wrong
            low, high = np.clip([low - _REACH, high + _REACH], *ends)
        return tuple(float(t) for t in schedule.time(np.linspace(low, high, self.levels)))

    def readings(self, trial: Trial) -> Iterator[Hypothesis]:
        """What a trial's network may predict, from the same outputs."""
        backend, denoiser = backends.of(trial.data), trial.denoiser
        x0 = to_host(trial.data)
        dtype = backend.network_dtype(denoiser.network, denoiser.dtype)
        if not self.drawn:
            keys = backends.noise_keys(self.seed, len(x0))
            self.drawn = [backends.standard_normals(keys, (0, k), x0.shape[1:]) for k in range(self.levels)]
        points = [Point.at(denoiser.schedule, t) for t in self.times(trial)]
        seen: list[tuple[Point, Floats, Floats]] = []
        for point, noise in zip(points, self.drawn, strict=True):
            x = point.alpha * x0 + point.sigma * noise
            with backend.autograd.no_grad(), np.errstate(all="ignore"):
                self.calls += 1
                raw, _ = denoiser.call(backend, backend.from_numpy(x, trial.data), point, dtype)
            seen.append((point, x, to_host(raw)))
        bounds = np.array([_bounds(x0, x, raw) for _, x, raw in seen])
        for predicts in ("data",) if trial.only_data else get_args(Predicts):
            for sign in (1.0,) if trial.only_data else (1.0, -1.0):
                errors = np.array([_error(denoiser.schedule, predicts, sign, x0, *each) for each in seen])
                found = _hypothesis(trial, predicts, sign, errors, bounds)
                self.origin[found] = trial
                yield found


def _bounds(x0: Floats, x: Floats, raw: Floats) -> tuple[float, float]:
    """The mean squared errors of the best guesses of x_0: from x alone, and from x and the network's output, both linear."""
    columns = np.stack([np.ones(x.size), x.ravel(), raw.ravel()], axis=1)
    if not np.isfinite(columns).all():
        columns = columns[:, :2]

    def residual(part: Floats) -> float:
        scale = np.sqrt(np.mean(part**2, axis=0)) + 1e-300
        solution = np.linalg.lstsq(part / scale, x0.ravel(), rcond=None)[0]
        return float(np.mean((x0.ravel() - part / scale @ solution) ** 2))

    return residual(columns[:, :2]), residual(columns)


def _error(
    schedule: NoiseSchedule, predicts: str, sign: float, x0: Floats, point: Point, x: Floats, raw: Floats
) -> tuple[float, float]:
    """The mean squared error of x_0 when the output is taken for `sign` times this prediction, and what _SLACK of it makes."""
    a, b = conversion(predicts, "data", point.alpha, point.sigma)
    if predicts == "velocity":
        sign *= schedule.velocity_sign
    with np.errstate(all="ignore"):
        error = float(np.mean((a * x + sign * b * raw - x0) ** 2))
    # x_0 = a x + b output, so that b times the right output is x_0 - a x.
    return (error if np.isfinite(error) else np.inf), _SLACK**2 * float(np.var(x0 - a * x))


def _hypothesis(trial: Trial, predicts: str, sign: float, measured: Floats, bounds: Floats) -> Hypothesis:
    (squares, slack), (plain, best) = measured.T, bounds.T
    errors = np.sqrt(squares / plain)
    slack = np.minimum(slack, plain)
    score = float(np.sqrt(np.mean(squares / (plain + slack))))
    # Where x and the output determine x_0 all but exactly, a ratio says nothing: a tenth of the plain guess is added.
    consistent = np.mean((squares + 0.01 * plain) / (best + slack + 0.01 * plain)) <= _CONSISTENT**2
    names, arguments = list(trial.names), list(trial.arguments)
    if sign < 0:
        names.append(f"it predicts minus {_WORDS[predicts]}")
        arguments.append("network=lambda x, t, **kwargs: -network(x, t, **kwargs)")
    elif predicts != trial.denoiser.predicts:
        names.append(f"it predicts {_WORDS[predicts]}")
    if trial.only_data or predicts != trial.denoiser.predicts:
        arguments.append(f"predicts={predicts!r}")
    code = f"denoiser.replace({', '.join(arguments)})" if arguments else ""
    return Hypothesis(
        ", and ".join(names) or "as declared",
        " and ".join(part for part in (code, trial.values and f"data = {trial.values}") if part),
        float(np.sqrt(np.mean(errors**2))),
        tuple(errors.tolist()),
        score,
        bool(score <= _USEFUL and consistent and np.mean(errors**2) <= _LIMIT**2),
        len(names),
    )


def _best(tried: list[Hypothesis], chance: float) -> Hypothesis:
    """The hypothesis with the fewest changes, and the first of these, among those whose errors differ from the least one by chance."""
    lowest = min(tried, key=lambda each: (not each.fits, each.error))
    close = [h for h in tried if h.fits == lowest.fits and h.error <= (1.0 + chance) * lowest.error + 0.003]
    return min(close, key=lambda each: each.changes)


def _finding(declared: Hypothesis, best: Hypothesis, fits: bool) -> tuple[str, str]:
    """The sentence, and the code to write instead."""
    dull = "no better than a guess without the network, as happens with Gaussian data or an untrained network"
    if fits:
        remark = f", which is {dull}" if declared.error > _BETTER else ""
        rival = (
            f" No worse, as far as these data tell, is: {best.name} (error {best.error:.2g})."
            if best is not declared
            else ""
        )
        return f"The network fits what is declared (error {declared.error:.2g}){remark}.{rival}", ""
    wrong = f"The network does not fit what is declared (error {declared.error:.3g})"
    if not best.fits or best is declared:
        return (
            f"{wrong}, nor anything else that was tried; the nearest is: {best.name} (error {best.error:.3g}). "
            "Are these the data that it was trained on, and are its weights loaded?",
            "",
        )
    if best.error > _BETTER:
        return (
            f"{wrong}; the nearest is: {best.name} (error {best.error:.2g}), which is {dull}; to try it, write {best.code}",
            best.code,
        )
    return f"{wrong}; it fits if {best.name} (error {best.error:.2g}): write {best.code}", best.code


def _number(value: float) -> str:
    return f"{value:10.2f}" if value < 1000 else f"{value:10.0e}"
