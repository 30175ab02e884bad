"""Denoiser: a network, what it predicts, and how it wants to be called.

A network's output is one of five things, each a linear combination of the clean data x_0 and the noise eps, as is the state
x = alpha x_0 + sigma eps. So every conversion is `a x + b output` with two numbers that depend on the point alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dpmsolver.backends import Backend
from dpmsolver.errors import PlanError, SamplingError, unknown
from dpmsolver.guidance import Classifier, ClassifierFree
from dpmsolver.plan import Plan, Point, Prediction
from dpmsolver.schedules import NoiseSchedule

__all__ = ["Denoiser", "Evaluator", "Predicts", "conversion", "edm_preconditioned"]

Predicts: TypeAlias = Literal["noise", "data", "v", "score", "velocity"]

# Each target as (coefficient of x_0, coefficient of eps) at a point.
_TARGETS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "noise": lambda _alpha, _sigma: (0.0, 1.0),
    "data": lambda _alpha, _sigma: (1.0, 0.0),
    "v": lambda alpha, sigma: (-sigma, alpha),  # Salimans & Ho 2022, appendix D
    "score": lambda _alpha, sigma: (0.0, -1.0 / sigma),  # Song et al. 2021
    "velocity": lambda _alpha, _sigma: (-1.0, 1.0),  # Liu et al. 2023
}


def conversion(predicts: str, wanted: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """The numbers (a, b) with wanted = a x + b output, for a state x = alpha x_0 + sigma eps.

    Args:
        predicts, wanted: "noise" (eps), "data" (x_0), "v" (alpha eps - sigma x_0), "score" (-eps/sigma), "velocity" (eps - x_0).
        alpha, sigma: floats, or float64 arrays with one value per sample.

    Raises:
        PlanError: an unknown name, or a point where the output does not determine what is wanted (noise at alpha = 0).

    Example:
        >>> conversion("noise", "data", 0.8, 0.6)  # x_0 = (x - sigma eps) / alpha
        (1.25, -0.7499999999999999)
    """
    for name in (predicts, wanted):
        if name not in _TARGETS:
            raise PlanError(unknown("prediction", name, _TARGETS))
    if predicts == wanted:
        return 0.0 * alpha, 1.0 + 0.0 * alpha
    if np.any(np.asarray(sigma) == 0.0) and "score" in (predicts, wanted):
        raise PlanError("the score is not defined at sigma = 0")
    (p, q), (r, s) = _TARGETS[predicts](alpha, sigma), _TARGETS[wanted](alpha, sigma)
    determinant = alpha * q - sigma * p
    if np.any(np.asarray(determinant) == 0.0):
        raise PlanError(
            f"a network that predicts {predicts} does not determine {wanted} at alpha={alpha}, sigma={sigma}: "
            "start later (start=…), or use a network that predicts v, velocity or data"
        )
    return (r * q - s * p) / determinant, (alpha * s - sigma * r) / determinant


@dataclass(frozen=True)
class Denoiser:
    """A network with its schedule.

    Args:
        network: `network(x, t, **kwargs)` with x (B, …) and t (B,), returning an array of x's shape.
        schedule: the noise schedule it was trained on.
        predicts: what it returns: "noise", "data", "v", "score" or "velocity" (see `conversion`).
        network_kwargs: handed to every call; the caller's own, unchanged.
        time_label: what t is. "float": the schedule's label (the step number t N - 1 for `Discrete`, sigma for `EDM` and `Flow`, t
            itself else). "round": that, rounded, as int64. A function of the label: `lambda t: 999 * t` for ScoreSDE's networks.
        learned_variance: the network returns 2C channels, of which the first C are the prediction.
        guidance: `guidance.ClassifierFree` or `guidance.Classifier`.
        data_hook: a correction (x0, point) -> x0 of every predicted x_0, such as `thresholding.dynamic()`.
        dtype: the network's float type by name ("float16"); by default that of its weights for a torch module, else the state's.
            Inputs are cast to it and outputs back to the state's type; nothing else is ever in half precision.

    Raises:
        PlanError: an unknown prediction or time label.

    Example:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> schedule = dpm.schedules.LinearVP()
        >>> denoiser = dpm.Denoiser(lambda x, t: 0.0 * x, schedule, predicts="data")  # knows that all data are 0
        >>> dpm.sample(denoiser, np.ones((1, 2)), nfe=5).round(3)
        array([[0.01, 0.01]])
    """

    network: Callable[..., Any]
    schedule: NoiseSchedule
    predicts: Predicts = "noise"
    _: KW_ONLY
    network_kwargs: Mapping[str, Any] = field(default_factory=dict)
    time_label: Literal["float", "round"] | Callable[[float], float] = "float"
    learned_variance: bool = False
    guidance: ClassifierFree | Classifier | None = None
    data_hook: Callable[[Any, Point], Any] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.network):
            raise TypeError(f"network must be callable as network(x, t), got {type(self.network).__name__}")
        if not isinstance(self.schedule, NoiseSchedule):
            raise TypeError(
                f"schedule must be a NoiseSchedule, such as dpm.schedules.Discrete(betas=…), got {type(self.schedule).__name__}"
            )
        if self.predicts not in get_args(Predicts):
            raise PlanError(unknown("prediction", self.predicts, get_args(Predicts)))
        if not callable(self.time_label) and self.time_label not in ("float", "round"):
            raise PlanError(f"time_label must be 'float', 'round' or a function of the label, got {self.time_label!r}")
        if self.dtype is not None and self.dtype not in ("float16", "bfloat16", "float32", "float64"):
            raise PlanError(unknown("dtype", self.dtype, ("float16", "bfloat16", "float32", "float64")))

    def replace(self, **changes: Any) -> Denoiser:
        """A copy with other settings: `denoiser.replace(guidance=…)`."""
        return replace(self, **changes)

    def label(self, schedule_label: float) -> float:
        """What the network gets for a schedule's label."""
        if callable(self.time_label):
            return float(self.time_label(schedule_label))
        return float(round(schedule_label)) if self.time_label == "round" else schedule_label

    def evaluator(self, backend: Backend, plan: Plan, like: Any) -> Evaluator:
        """What evaluates this network at the points of a plan, on states like `like`. PlanError where the two do not fit."""
        points = [row.point for row in plan.rows]
        for point in [*points, plan.end]:
            self._check_point(point)
        conversions = [conversion(self.predicts, plan.prediction, p.alpha, p.sigma) for p in points]
        labels = backend.labels([self.label(p.label) for p in points], like, self.time_label == "round")
        return Evaluator(self, backend, plan.prediction, points, conversions, labels)

    def _check_point(self, point: Point) -> None:
        try:
            alpha, sigma = self.schedule.alpha(point.time), self.schedule.sigma(point.time)
        except ValueError as error:
            raise PlanError(f"the plan does not fit this denoiser's schedule: {error}") from None
        if abs(alpha - point.alpha) > 1e-6 * (alpha + sigma) or abs(sigma - point.sigma) > 1e-6 * (alpha + sigma):
            raise PlanError(
                f"the plan was made for another schedule: at t={point.time:.6g} it has alpha={point.alpha:.6g}, sigma={point.sigma:.6g}, "
                f"this denoiser's {self.schedule!r} has alpha={alpha:.6g}, sigma={sigma:.6g}"
            )

    def output(self, backend: Backend, x: Any, label: Any, time: Any) -> Any:
        """The network's output in the state's type, guided if `guidance` is classifier-free. `time` may differ between samples."""

        def call(inputs: Any, labels: Any, kwargs: Mapping[str, Any]) -> Any:
            dtype = backend.network_dtype(self.network, self.dtype)
            with backend.no_grad():
                raw = self.network(backend.network_input(inputs, dtype), labels, **self.network_kwargs, **kwargs)
            return backend.network_input(self._checked(backend, raw, inputs), x.dtype)

        if isinstance(self.guidance, ClassifierFree):
            return self.guidance.run(backend, call, x, label, time)
        return call(x, label, {})

    def _checked(self, backend: Backend, raw: Any, inputs: Any) -> Any:
        if not backend.is_float_array(raw):
            what = f"{type(raw).__module__}.{type(raw).__qualname__}"
            kind = f" of type {raw.dtype}" if hasattr(raw, "dtype") else ""
            hint = (
                "; pass network=lambda x, t, **k: network(x, t, **k).sample"
                if hasattr(raw, "sample") and not kind
                else ""
            )
            raise TypeError(f"the network must return a floating-point array like its input, got {what}{kind}{hint}")
        expected, shape = tuple(inputs.shape), tuple(raw.shape)
        doubled = len(expected) > 1 and shape == (expected[0], 2 * expected[1], *expected[2:])
        if self.learned_variance and doubled:
            return raw[:, : expected[1]]
        if shape != expected or self.learned_variance:
            hint = ": a network with learned variance? then pass learned_variance=True" if doubled else ""
            wanted = (
                (expected[0], 2 * expected[1], *expected[2:])
                if self.learned_variance and len(expected) > 1
                else expected
            )
            raise ValueError(f"the network must return shape {wanted}, got {shape}{hint}")
        return raw


@dataclass
class Evaluator:
    """A denoiser at the points of one plan: conversions and labels are ready, and every output is checked to be finite.

    It belongs to one run. Where asking whether numbers are finite would wait for a device, `finish` asks once at the end.
    """

    denoiser: Denoiser
    backend: Backend
    prediction: Prediction
    points: Sequence[Point]
    conversions: Sequence[tuple[float, float]]
    labels: Any
    pending: list[Any] = field(default_factory=list)

    def __call__(self, index: int, x: Any, out: Any = None) -> Any:
        """Evaluation `index` on the state x: what the plan calls m, written into `out` (not x) where it is given."""
        point = self.points[index]
        label = self.backend.fill(self.labels[index], len(x))
        raw = self.denoiser.output(self.backend, x, label, point.time)
        self._check(index, raw)
        return evaluate(
            self.denoiser, self.backend, self.prediction, x, raw, label, point, self.conversions[index], out
        )

    def _check(self, index: int, raw: Any) -> None:
        flag = self.backend.finite(raw)
        if not isinstance(flag, bool):
            self.pending.append(flag)
        elif not flag:
            self._refuse(index)

    def finish(self) -> None:
        """SamplingError if any evaluation since the start was not finite."""
        if self.pending and (index := self.backend.first_false(self.pending)) is not None:
            self._refuse(index)

    def _refuse(self, index: int) -> None:
        p = self.points[index]
        raise SamplingError(
            f"the network returned NaN or infinity at evaluation {index + 1} of {len(self.points)} (t={p.time:.6g}, label={p.label:.6g}, "
            f"alpha={p.alpha:.6g}, sigma={p.sigma:.6g}): check its precision and the range of its input there"
        )


def evaluate(
    denoiser: Denoiser,
    backend: Backend,
    prediction: Prediction,
    x: Any,
    raw: Any,
    label: Any,
    point: Point,
    coefficients: tuple[Any, Any],
    out: Any = None,
) -> Any:
    """From the network's output to the plan's: conversion, classifier guidance, hook. A point's numbers may be one per sample."""
    converted = linear(backend, coefficients, (x, raw), out)
    if isinstance(denoiser.guidance, Classifier):
        steer = denoiser.guidance.at(backend, x, label, point.time)
        if steer is not None:
            # grad log p(y|x) adds to the score, so it moves eps by -sigma and x_0 by sigma^2/alpha.
            push = point.sigma**2 / point.alpha if prediction == "data" else -point.sigma
            converted = linear(backend, (1.0 + 0.0 * push, steer[0] * push), (converted, steer[1]), converted)
    if denoiser.data_hook is None:
        return converted
    if prediction == "data":
        return denoiser.data_hook(converted, point)
    x0 = denoiser.data_hook(
        linear(backend, conversion("noise", "data", point.alpha, point.sigma), (x, converted)), point
    )
    return linear(backend, conversion("data", "noise", point.alpha, point.sigma), (x, x0))


def linear(backend: Backend, coefficients: Sequence[Any], arrays: Sequence[Any], out: Any = None) -> Any:
    """A linear combination with coefficients that are floats, or float64 arrays with one value per sample."""
    if np.ndim(coefficients[-1]):
        return backend.combine_each(coefficients, arrays)
    return backend.combine(coefficients, arrays, out)


def edm_preconditioned(network: Callable[..., Any], sigma_data: float = 0.5) -> Callable[..., Any]:
    """EDM's preconditioning around a raw network F: D(x, sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4).

    The result predicts data: `Denoiser(edm_preconditioned(F), EDM(), predicts="data")`. A network that is already preconditioned
    (EDM's published pickles, k-diffusion's denoisers) is handed to `Denoiser` as it is, with `predicts="data"`.

    Source: Karras et al. 2022, arXiv 2206.00364, table 1 and eq. 7.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data must be positive, got {sigma_data}")

    def preconditioned(x: Any, sigma: Any, **kwargs: Any) -> Any:
        each = sigma.reshape(-1, *[1] * (x.ndim - 1))
        total = each**2 + sigma_data**2
        log_sigma = sigma.log() if hasattr(sigma, "log") else np.log(sigma)
        out = network(x / total**0.5, log_sigma / 4, **kwargs)
        return sigma_data**2 / total * x + each * sigma_data / total**0.5 * out

    return preconditioned
