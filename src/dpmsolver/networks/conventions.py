"""The conventions that are often confused: the meaning of t, the scale of the state, the numbers of a schedule, the range of pictures.

`trials` lists, for a denoiser and data, the correct code after each of the usual mistakes. `diagnosis.check` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.preconditioning import edm_preconditioned
from dpmsolver.schedules import EDM, Discrete, Floats, Flow, NoiseSchedule, scaled_linear_betas

__all__ = ["Trial", "trials"]

_Label: TypeAlias = tuple[
    str, str, Callable[[float], float]
]  # in words, as code of `label`, as a function of the schedule's label

_NINE = np.linspace(0.1, 1.0, 9)  # times at which schedules are compared
# Scales of the state: in words, the norm that alpha and sigma are divided by as code, and its logarithm from theirs.
_SCALES: tuple[tuple[str, str, Callable[[Floats, Floats], Floats]], ...] = (
    ("x is x_0 + sigma eps (variance exploding)", "schedule.alpha(t)", lambda alpha, sigma: alpha),
    (
        "x has alpha^2 + sigma^2 = 1 (variance preserving)",
        "math.hypot(schedule.alpha(t), schedule.sigma(t))",
        lambda alpha, sigma: 0.5 * np.logaddexp(2.0 * alpha, 2.0 * sigma),
    ),
    ("x has alpha + sigma = 1 (a flow)", "(schedule.alpha(t) + schedule.sigma(t))", np.logaddexp),
    (
        "x is divided by (sigma^2 + 0.25)^(1/2) (EDM's c_in)",
        "math.hypot(schedule.sigma(t), 0.5 * schedule.alpha(t))",
        lambda alpha, sigma: 0.5 * np.logaddexp(2.0 * sigma, 2.0 * alpha - math.log(4.0)),
    ),
)


@dataclass(frozen=True)
class Trial:
    """A denoiser and data after some changes, with the changes in words and as code.

    Args:
        names: the changes, in words.
        arguments: the arguments of `denoiser.replace` that make them, as code in terms of `network`, `schedule` and `dpm`.
        values: the data that are then right, as code in terms of `data`; empty for the given ones.
        only_data: True if its network predicts data by construction, so that no other prediction is tried.
    """

    denoiser: Denoiser
    data: Any
    names: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    values: str = ""
    only_data: bool = False


def trials(start: Trial, low: float, high: float) -> Iterator[Trial]:
    """Return every single change of a trial whose data lie between low and high."""
    denoiser = start.denoiser
    if not any("time_label" in argument for argument in start.arguments):
        for name, code, function in _labels(denoiser.schedule):
            if code != "label" or denoiser.time_label != "float":
                yield _changed(start, f"t is {name}", f"time_label=lambda label: {code}", time_label=function)
        if isinstance(denoiser.schedule, Flow):
            yield from _flows(start, denoiser.schedule)
    if not any("schedule=" in argument for argument in start.arguments):
        yield from _schedules(start)
    if isinstance(denoiser.schedule, EDM) and not start.arguments:
        raw = replace(denoiser, network=edm_preconditioned(denoiser.network), predicts="data", time_label="float")
        arguments = ("network=dpm.edm_preconditioned(network)",)
        yield replace(
            start,
            denoiser=raw,
            names=("it is a raw network of EDM, without its preconditioning",),
            arguments=arguments,
            only_data=True,
        )
    if not start.values:
        for name, code, function in _ranges(low, high):
            yield replace(start, data=function(start.data), names=(*start.names, name), values=code)


def _changed(start: Trial, name: str, argument: str, **changes: Any) -> Trial:
    return replace(
        start,
        denoiser=start.denoiser.replace(**changes),
        names=(*start.names, name),
        arguments=(*start.arguments, argument),
    )


def _labels(schedule: NoiseSchedule) -> list[_Label]:
    """What networks take as t, as functions of the schedule's label."""

    def quarter(label: float) -> float:
        return -0.25 * float(schedule.half_log_snr(schedule.time_from_label(label)))

    logarithm = ("ln(sigma)/4", "-0.25 * schedule.half_log_snr(schedule.time_from_label(label))", quarter)
    if isinstance(schedule, Discrete):
        n = schedule.num_steps
        other = [] if n == 1000 else [("1000 n/N", f"label * {1000 / n}", lambda label: label * (1000 / n))]
        return [
            ("the step number n", "label", lambda label: label),
            ("n/N", f"label / {n}", lambda label: label / n),
            ("(n + 1)/N", f"(label + 1) / {n}", lambda label: (label + 1) / n),
            ("n + 1", "label + 1", lambda label: label + 1),
            ("N - 1 - n", f"{n - 1} - label", lambda label: n - 1 - label),
            logarithm,
            *other,
        ]
    if isinstance(schedule, EDM):
        return [
            ("sigma", "label", lambda label: label),
            ("ln(sigma)/4", "math.log(label) / 4", lambda label: math.log(label) / 4),
            ("ln(sigma)", "math.log(label)", math.log),
        ]
    if isinstance(schedule, Flow):
        return [logarithm]
    return [
        ("t", "label", lambda label: label),
        ("1000 t", "1000 * label", lambda label: 1000 * label),
        ("999 t", "999 * label", lambda label: 999 * label),
        ("1 - t, the other way round", "1 - label", lambda label: 1 - label),
        ("1000 (1 - t), the other way round", "1000 * (1 - label)", lambda label: 1000 * (1 - label)),
        logarithm,
    ]


def _flows(start: Trial, schedule: Flow) -> Iterator[Trial]:
    """The same flow with the other labels that networks of flows take, and in the other direction."""
    own = start.denoiser.time_label == "float"
    for backwards in (False, True):
        for scale in (1.0, 1000.0, 999.0):
            made = replace(schedule, label_scale=scale, reversed=backwards)
            if made == schedule and own:
                continue
            level = "1 - sigma, the other way round" if backwards else "sigma"
            if scale != 1.0:
                level = f"{scale:.0f} (1 - sigma), the other way round" if backwards else f"{scale:.0f} sigma"
            said = {"shift": made.shift, "label_scale": scale, "reversed": backwards}
            said = {name: value for name, value in said.items() if value != getattr(Flow(), name)}
            written = ", ".join(f"{name}={value!r}" for name, value in said.items())
            code = f"schedule=dpm.schedules.Flow({written})" + ("" if own else ", time_label='float'")
            yield _changed(start, f"t is {level}", code, schedule=made, time_label="float")


def _schedules(start: Trial) -> Iterator[Trial]:
    """Other meanings of a discrete schedule's numbers, and the same noise levels on other scales of the state."""
    schedule = start.denoiser.schedule
    if isinstance(schedule, Discrete):
        for name, code, made in _tables(schedule):
            yield _changed(start, name, f"schedule={code}", schedule=made)
    label = start.denoiser.label
    for name, code, log_norm in _SCALES:
        scaled = _Rescaled(schedule, log_norm)
        times = scaled.t_min + _NINE * (scaled.t_max - scaled.t_min)
        if abs(scaled._log_sigma(times) - schedule._log_sigma(times)).max() < 1e-6:
            continue
        text = (
            f"schedule=dpm.schedules.Custom(alpha=lambda t: schedule.alpha(t) / {code}, sigma=lambda t: schedule.sigma(t) / {code}, "
            f"t_min={scaled.t_min!r}, t_max={scaled.t_max!r}), time_label=lambda t: denoiser.label(schedule.label(t))"
        )
        yield _changed(start, name, text, schedule=scaled, time_label=lambda t: label(schedule.label(t)))


class _Rescaled(NoiseSchedule):
    """A schedule with alpha and sigma over a norm of theirs: its times and log-SNRs stay."""

    def __init__(self, schedule: NoiseSchedule, log_norm: Callable[[Floats, Floats], Floats]) -> None:
        self.schedule, self.log_norm, self.t_min = schedule, log_norm, schedule.t_min
        self.t_max = float(schedule.time(max(-7.0, schedule.half_log_snr(schedule.t_max))))  # where alpha is not 0

    @property
    def velocity_sign(self) -> float:
        return self.schedule.velocity_sign

    def _log_alpha(self, t: Floats) -> Floats:
        return self.schedule._log_alpha(t) - self.log_norm(self.schedule._log_alpha(t), self.schedule._log_sigma(t))

    def _log_sigma(self, t: Floats) -> Floats:
        return self.schedule._log_sigma(t) - self.log_norm(self.schedule._log_alpha(t), self.schedule._log_sigma(t))

    def _time(self, half_log_snr: Floats) -> Floats:
        return self.schedule._time(half_log_snr)


def _tables(schedule: Discrete) -> Iterator[tuple[str, str, NoiseSchedule]]:
    """What the numbers of a discrete schedule may have been instead, as far as they can be that."""
    if schedule.betas is not None:
        given, name = np.asarray(schedule.betas, dtype=np.float64), "betas"
    else:
        given, name = np.asarray(schedule.alphas_cumprod, dtype=np.float64), "alphas_cumprod"
    for argument, other, code, values in (
        ("betas", "alphas_cumprod", "schedule.betas", given),
        ("betas", "the square roots of alphas_cumprod", "schedule.betas ** 2", given**2),
        ("betas", "alphas, 1 - betas", "1 - schedule.betas", 1.0 - given),
        ("alphas_cumprod", "their square roots", "schedule.alphas_cumprod ** 2", given**2),
        ("alphas_cumprod", "their squares", "schedule.alphas_cumprod ** 0.5", given**0.5),
        ("alphas_cumprod", "alphas, 1 - betas", "1 - schedule.alphas_cumprod", 1.0 - given),
        ("alphas_cumprod", "betas", "schedule.alphas_cumprod", given),
    ):
        meant = "betas" if other in ("alphas, 1 - betas", "betas") else "alphas_cumprod"
        if argument == name:
            try:
                made = Discrete(betas=values) if meant == "betas" else Discrete(alphas_cumprod=values)
            except ValueError:
                continue
            yield f"what was given as {name} is {other}", f"dpm.schedules.Discrete({meant}={code})", made
    n = schedule.num_steps
    for kind, code, betas in (
        ("linear from 1e-4 to 0.02", f"np.linspace(1e-4, 0.02, {n})", np.linspace(1e-4, 0.02, n)),
        ("Stable Diffusion's", f"dpm.schedules.scaled_linear_betas(num={n})", scaled_linear_betas(num=n)),
    ):
        usual = Discrete(betas=betas)
        if not np.allclose(usual.half_log_snr(_NINE), schedule.half_log_snr(_NINE), atol=1e-2):
            yield f"the betas are {kind}", f"dpm.schedules.Discrete(betas={code})", usual


def _ranges(low: float, high: float) -> Iterator[tuple[str, str, Callable[[Any], Any]]]:
    """Other ranges for data between low and high, as far as they look like pictures; samples of a network overshoot a little."""
    slack = 0.1 * (high - low)
    if low >= 0.0 and 2.0 < high <= 255.0:
        yield "the data lie in [-1, 1] instead of being bytes", "data / 127.5 - 1", lambda x: x / 127.5 - 1.0
        yield "the data lie in [0, 1] instead of being bytes", "data / 255", lambda x: x / 255.0
    elif low >= -slack and high <= 1.0 + slack:
        yield "the data lie in [-1, 1] instead of [0, 1]", "2 * data - 1", lambda x: 2.0 * x - 1.0
    elif low >= -1.0 - slack and high <= 1.0 + slack:
        yield "the data lie in [0, 1] instead of [-1, 1]", "(data + 1) / 2", lambda x: (x + 1.0) / 2.0
