"""Guidance: how a condition steers the network. Pass one to `Denoiser(…, guidance=…)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

from dpmsolver.backends import Backend, arrays
from dpmsolver.backends.arrays import linear
from dpmsolver.brief import brief_repr
from dpmsolver.errors import PlanError
from dpmsolver.networks.conditions import joined, one_sided
from dpmsolver.networks.lending import Lending
from dpmsolver.networks.rules import Outputs, Projected, Rescaled, Rule, ZeroStar
from dpmsolver.networks.scales import Interval, Scale, checked_scale, scale_at, times_inside

__all__ = ["Classifier", "ClassifierFree", "Loss", "Projected", "Rescaled", "Scale", "ZeroStar"]


@dataclass(frozen=True, eq=False)
class ClassifierFree:
    """Classifier-free guidance: output = unconditional + scale (conditional - unconditional).

    Args:
        scale: a number, a function of the schedule's time, or one number per sample. Scale 1 is the conditional network alone (one call of
            the plain batch), scale 0 the unconditional one.
        condition: keyword arguments of the conditional network. Values may be arrays with the batch as their first axis, dicts, lists and
            tuples of such arrays, and any other objects that the network takes.
        unconditional: the same for "no condition". A missing name is left out of the unconditional call, so that the network's default
            applies; None leaves out all names.
        interval: (low, high) in the schedule's time. Outside the interval only the conditional network is evaluated (Kynkaanniemi et al.
            2024).
        batched: True evaluates both networks in one call of twice the batch, for which arrays are joined along the batch; an array with
            another first axis is shared if both conditions hold the same object. False makes two calls, which works for every pair of
            conditions, such as texts of unequal length. If one condition has None or lacks a name, two calls are made in any case.
        rule: `Rescaled`, `Projected` or `ZeroStar`, which combines the two outputs in place of the formula above.

    One guided evaluation counts once in `nfe`, whether it is one call of twice the batch or two calls. `Denoiser.network_kwargs` are passed
    to either call unchanged; a batched call does not double them, so an array with the batch as its first axis belongs in both conditions.
    A plan of CFG++ uses both the guided and the unconditional output, at any scale; outside the interval the conditional output replaces
    both.

    Raises:
        PlanError: the scale is not finite or not one per sample, a name occurs only in `unconditional`, or conditions do not fit into one
            call, which is found before the first evaluation. The message names the condition and its shapes.

    Examples:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> text, nothing = {"text": np.ones((2, 154, 8))}, {"text": np.zeros((2, 77, 8))}
        >>> guidance = ClassifierFree([3.0, 7.5], text, nothing, batched=False)
        >>> def network(x, t, text):
        ...     return x * text.mean()
        >>> denoiser = dpm.Denoiser(network, dpm.schedules.LinearVP(), guidance=guidance)
        >>> dpm.sample(denoiser, np.ones((2, 3)), nfe=5).shape
        (2, 3)

    Source: Ho & Salimans 2022, arXiv 2207.12598, eq. 6 (with scale = w + 1).
    """

    scale: Scale
    condition: Mapping[str, Any]
    unconditional: Mapping[str, Any] | None = None
    interval: Interval = None
    batched: bool = True
    rule: Rule | None = None
    _two_calls: bool = field(init=False, repr=False)

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", checked_scale(self.scale, self.interval))
        nothing = {} if self.unconditional is None else self.unconditional
        for name, value in (("condition", self.condition), ("unconditional", nothing)):
            if not isinstance(value, Mapping):
                raise TypeError(
                    f"guidance: {name} must be keyword arguments such as {{'y': labels}}, got {type(value).__name__}"
                )
        if extra := sorted(set(nothing) - set(self.condition)):
            raise PlanError(
                f"guidance: unconditional has {extra}, which condition lacks: give both the same names, or leave one out of "
                f"unconditional where the network's default means no condition; condition has {sorted(self.condition)}"
            )
        if self.rule is not None and not isinstance(self.rule, Rule):
            raise TypeError(
                "rule must be guidance.Rescaled(…), guidance.Projected(…), guidance.ZeroStar(…) or None, "
                f"got {type(self.rule).__name__}"
            )
        object.__setattr__(self, "_two_calls", not self.batched or one_sided(self.condition, nothing))

    @property
    def constant(self) -> bool:
        """True if the guidance is the same at all evaluations, at any time and in any order."""
        alike = self.rule is None or not (self.rule.acts_on_data or self.rule.remembers or self.rule.zero)
        return alike and self.interval is None and not callable(self.scale)

    def check(self, batch: int, times: Sequence[Any], answers: int = 1) -> None:
        """Raise PlanError if this guidance does not fit a batch, or if its scale does not fit one of the times."""
        for time in times:
            scale_at(self.scale, 1.0, self.interval, time, index(batch))
        if not self._two_calls and (self.scale != 1.0 or answers > 1):
            joined("", self.unconditional or {}, self.condition, batch, join=lambda arrays: None)

    def run(
        self,
        backend: Backend,
        call: Callable[..., Any],
        x: Any,
        label: Any,
        time: Any,
        calls: Lending,
        to_data: tuple[Any, Any] | None = None,
    ) -> Any:
        """Return the guided output of the network.

        Args:
            call: the network, `call(x, label, kwargs, own)`; own=True tells that nobody else needs x.
            calls: those of the run. to_data: (a, b) with x_0 = a x + b output, for a rule that acts on the data.
        """
        scale, idle = scale_at(self.scale, 1.0, self.interval, time, index(len(x)))
        if self._silent(calls):
            return linear(backend, [0.0], [call(x, label, self.condition)])
        if idle:
            return call(x, label, self.condition)
        return self._guided(Outputs(backend, *self._outputs(backend, call, x, label), scale, x, to_data, calls))

    def pair(
        self,
        backend: Backend,
        call: Callable[..., Any],
        x: Any,
        label: Any,
        time: Any,
        calls: Lending,
        to_data: tuple[Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Return the guided and the unconditional output; outside the interval both are the conditional one. Arguments as for `run`."""
        inside, some, everywhere = times_inside(time, self.interval)
        if self._silent(calls):
            nothing = linear(backend, [0.0], [call(x, label, self.condition)])
            return nothing, nothing
        if not some:
            alone = call(x, label, self.condition)
            return alone, alone
        scale, _ = scale_at(self.scale, 1.0, self.interval, time, index(len(x)))
        conditional, without = self._outputs(backend, call, x, label)
        guided = self._guided(Outputs(backend, conditional, without, scale, x, to_data, calls))
        return guided, without if everywhere else arrays.where(backend, inside, without, conditional)

    def _silent(self, calls: Lending) -> bool:
        """Whether the rule has no velocity at this evaluation."""
        return self.rule is not None and calls.number is not None and calls.number < self.rule.zero

    def _guided(self, outputs: Outputs) -> Any:
        return outputs.plain() if self.rule is None else self.rule.guided(outputs)

    def _outputs(self, backend: Backend, call: Callable[..., Any], x: Any, label: Any) -> tuple[Any, Any]:
        """The conditional and the unconditional output, of two calls or of one."""
        if self._two_calls:
            # Copied before the second call: a compiled network may return the same memory twice.
            without = backend.copy_to(call(x, backend.copy_to(label), self.unconditional or {}))
            return call(x, label, self.condition), without
        both = joined("", self.unconditional or {}, self.condition, len(x), join=arrays.concatenate)
        out = call(arrays.concatenate([x, x]), arrays.concatenate([label, label]), both, own=True)
        return out[len(x) :], out[: len(x)]


@dataclass(frozen=True, eq=False)
class Classifier:
    """Classifier guidance: eps <- eps - scale sigma grad_x log p(y | x_t).

    Args:
        scale: the strength: a number, a function of the schedule's time, or one number per sample.
        log_probability: a function (x, label, **kwargs) -> log p(y | x), (B,), which torch differentiates.
        gradient: in place of log_probability, a function (x, label, **kwargs) that returns the gradient, of x's shape.
        kwargs: keyword arguments of the function.
        interval: (low, high) in the schedule's time. There is no guidance outside.

    Raises:
        PlanError: the scale is not finite or not one per sample, or both functions or neither are given.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> towards_one = Classifier(2.0, gradient=lambda x, label: 1.0 - x)  # the gradient of log p = -(x - 1)^2/2
        >>> denoiser = dpm.Denoiser(lambda x, t: 0.5 * x, dpm.schedules.LinearVP(), guidance=towards_one)
        >>> plain = dpm.sample(denoiser.replace(guidance=None), np.zeros((1, 2)), nfe=10)
        >>> bool((dpm.sample(denoiser, np.zeros((1, 2)), nfe=10) > plain).all())
        True

    Source: Dhariwal & Nichol 2021, arXiv 2105.05233, algorithm 2.
    """

    scale: Scale
    log_probability: Callable[..., Any] | None = None
    gradient: Callable[..., Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    interval: Interval = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", checked_scale(self.scale, self.interval))
        if (self.log_probability is None) == (self.gradient is None):
            raise PlanError("give exactly one of log_probability and gradient")

    def check(self, batch: int, times: Sequence[Any]) -> None:
        """Raise PlanError if the scale does not fit a batch or one of the times."""
        for time in times:
            scale_at(self.scale, 0.0, self.interval, time, index(batch))

    def at(self, backend: Backend, x: Any, label: Any, time: Any) -> tuple[Any, Any] | None:
        """Return (scale, gradient), or None outside the interval."""
        scale, idle = scale_at(self.scale, 0.0, self.interval, time, index(len(x)))
        if idle:
            return None
        if self.gradient is not None:
            # A copy, because the run needs x and the function may write into it.
            gradient = self.gradient(backend.copy_to(x), label, **self.kwargs)
            if not arrays.is_float_array(backend, gradient) or tuple(gradient.shape) != tuple(x.shape):
                got = tuple(gradient.shape) if hasattr(gradient, "shape") else type(gradient).__name__
                raise ValueError(f"gradient must return x's shape {tuple(x.shape)}, got {got}")
            return scale, gradient
        assert self.log_probability is not None
        probability = self.log_probability

        def alone(x: Any, label: Any, **kwargs: Any) -> tuple[Any, None]:
            return probability(x, label, **kwargs), None

        return scale, backend.autograd.gradient("log_probability", alone, x, label, self.kwargs)[0]


@dataclass(frozen=True, eq=False)
class Loss:
    """Guidance by a loss of the predicted data: score <- score - scale grad_x loss(x_0(x)), differentiated through the network.

    It needs no second evaluation, only the derivative of the first one. Use it for inverse problems, as DPS does, and for any other
    differentiable function of the predicted data.

    Args:
        loss: a function from x_0, of the state's shape, to one number per sample, (B,). The state's framework (torch, JAX) differentiates
            it.
        scale: the strength: a number, a function of the schedule's time, or one number per sample.
        interval: (low, high) in the schedule's time. There is no guidance outside.

    Raises:
        PlanError: the scale is not finite or not one per sample.

    Examples:
        >>> import torch, dpmsolver as dpm
        >>> schedule = dpm.schedules.LinearVP()
        >>> guidance = Loss(lambda x0: (x0[:, 0] - 1.0) ** 2, scale=4.0)
        >>> denoiser = dpm.Denoiser(lambda x, t: 0.9 * x, schedule, guidance=guidance)
        >>> plain = dpm.sample(denoiser.replace(guidance=None), torch.zeros(1, 2), nfe=10)
        >>> steered = dpm.sample(denoiser, torch.zeros(1, 2), nfe=10)
        >>> bool(plain[0, 0] < steered[0, 0]), bool(plain[0, 1] == steered[0, 1])
        (True, True)

    Source: Chung et al. 2023, arXiv 2209.14687, eq. 15 and 16. Their step divides the scale by the norm of the residual; a loss that is the
    norm itself does the same.
    """

    loss: Callable[[Any], Any]
    scale: Scale
    interval: Interval = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", checked_scale(self.scale, self.interval))
        if not callable(self.loss):
            raise TypeError(f"loss must be a function x_0 -> (B,), got {type(self.loss).__name__}")

    def check(self, batch: int, times: Sequence[Any]) -> None:
        """Raise PlanError if the scale does not fit a batch or one of the times."""
        for time in times:
            scale_at(self.scale, 0.0, self.interval, time, index(batch))

    def run(
        self,
        backend: Backend,
        network: Callable[[Any, Any], Any],
        x: Any,
        label: Any,
        time: Any,
        to_data: tuple[Any, Any],
    ) -> tuple[Any, tuple[Any, Any] | None]:
        """Return the network's output, and (-scale, gradient), or None outside the interval.

        Args:
            to_data: (a, b) with x_0 = a x + b output.
        """
        scale, idle = scale_at(self.scale, 0.0, self.interval, time, index(len(x)))
        if idle:
            return network(x, label), None

        def seen(x: Any, label: Any) -> tuple[Any, Any]:
            raw = network(x, label)
            return self.loss(linear(backend, to_data, (x, raw))), raw

        gradient, raw = backend.autograd.gradient("loss", seen, x, label, {})
        return raw, (-scale, gradient)
