"""A scheduler config, checked: the class and the fields are known, and the values have the right types."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from dpmsolver.adapters.diffusers.classes import (
    BETA_FIELDS,
    FAMILIES,
    HANDWRITTEN,
    NEUTRAL,
    NOT_SERVED,
    SOLVER_FIELDS,
    Family,
)
from dpmsolver.errors import unknown

__all__ = ["PRIVATE", "Fields", "class_of"]

PRIVATE = (
    "_dpmsolver"  # the field of PlanScheduler's choices: diffusers' classes pass over it without a warning, and keep it
)


class Fields:
    """The fields of a config that affect alpha, sigma, label or sign; missing ones and null have the default of their class.

    Raises:
        TypeError: the config is not a mapping.
        ValueError: the class or a field is unknown, or the class does not read a field whose value is not neutral.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        if not isinstance(config, Mapping):
            raise TypeError(f"config must be a mapping such as pipeline.scheduler.config, got {type(config).__name__}")
        self.given = {name: value for name, value in config.items() if value is not None and not name.startswith("_")}
        self.family = _family(class_of(config), self.given, frozenset(config))
        self.is_flow = self.family.kind == "flow" or ("use_flow_sigmas" in self.reads and self.flag("use_flow_sigmas"))
        for name, value in config.items():
            if not name.startswith("_") and name not in self.reads and name not in SOLVER_FIELDS:
                self._check_unread(name, value)

    @property
    def reads(self) -> Mapping[str, Any]:
        """The fields that the class reads, with its defaults."""
        return self.family.reads

    @property
    def place(self) -> str:
        """The name of the config's class, as messages call it."""
        return f"a config of {self.family.class_name}" if self.family.class_name else "a config without _class_name"

    def value(self, name: str, default: Any = None) -> Any:
        """Return the value of a field that the class reads: that of the config, or else the default of the class, or else the given one."""
        if name in self.reads or name in SOLVER_FIELDS:
            return self.given.get(name, self.reads.get(name, default))
        return default

    def number(self, name: str, default: float | None = None) -> float:
        """Return a field that must be a number other than NaN."""
        value = self.value(name, default)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or math.isnan(value):
            raise ValueError(
                f"{name}={value!r} in the scheduler config is no number: write it as a plain number, or leave it away"
            )
        return float(value)

    def whole(self, name: str) -> int:
        """Return a field that must be a whole number >= 1; it may be written as a float."""
        value = self.number(name)
        if not value.is_integer() or value < 1:
            raise ValueError(
                f"{name}={self.value(name)!r} in the scheduler config must be a whole number >= 1, such as 1000"
            )
        return int(value)

    def flag(self, name: str) -> bool:
        """Return a field that must be true or false."""
        value = self.value(name, False)
        if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
            raise ValueError(f"{name}={value!r} in the scheduler config must be true or false")
        return bool(value)

    def name(self, name: str, accepted: Iterable[str], default: str | None = None) -> str:
        """Return a field that must be one of the accepted names."""
        value = self.value(name, default)
        if not isinstance(value, str) or value not in accepted:
            raise ValueError(unknown(name, value, accepted))
        return value

    def _check_unread(self, name: str, value: Any) -> None:
        if name not in NEUTRAL:
            near = difflib.get_close_matches(name, [*self.reads, *SOLVER_FIELDS, *NEUTRAL], n=1, cutoff=0.6)
            raise ValueError(
                f"the field {name}={value!r} of the scheduler config is unknown{f' (did you mean {near[0]!r}?)' if near else ''}: "
                "what it does to the noise levels cannot be told; correct it, or leave it away if it does nothing"
            )
        if value is not None and not self._is_neutral(name, value):
            neutral = " or ".join(map(repr, (*NEUTRAL[name], None)))
            raise ValueError(
                f"{name}={value!r} has no meaning in {self.place}, so that config contradicts itself: leave the field away "
                f"(or make it {neutral}), or give the config of a class that reads it"
            )

    def _is_neutral(self, name: str, value: Any) -> bool:
        if self.is_flow:
            says_flow = (
                self.given.get("prediction_type") == "flow_prediction" or self.given.get("use_flow_sigmas") is True
            )
            if (name == "prediction_type" and value == "flow_prediction") or name == "use_flow_sigmas":
                return True
            if name in (*BETA_FIELDS, "lambda_min_clipped"):
                # A flow's class was put in the place of another flow's, whose config has betas that it never used.
                return says_flow
            if name in ("shift", "flow_shift"):
                return bool(value in (1.0, self.value("flow_shift" if name == "shift" else "shift")))
            if name == "prediction_type":
                return False
        return any(value is neutral or value == neutral for neutral in NEUTRAL[name])


def class_of(config: Mapping[str, Any]) -> Any:
    """Return the scheduler class of a config; for a `PlanScheduler`, the class whose config it was made from."""
    name, ours = config.get("_class_name"), config.get(PRIVATE)
    known = name in FAMILIES or name in NOT_SERVED
    return ours.get("class") if isinstance(ours, Mapping) and not known else name


def _family(class_name: Any, given: Mapping[str, Any], names: frozenset[str]) -> Family:
    if class_name is None:
        return _handwritten(given, names)
    class_name = str(class_name)
    if class_name in FAMILIES:
        return FAMILIES[class_name]
    if class_name in NOT_SERVED:
        raise ValueError(f"the scheduler class {class_name} is not served: {NOT_SERVED[class_name]}")
    near = difflib.get_close_matches(class_name, FAMILIES, n=1, cutoff=0.75)
    raise ValueError(
        f"the scheduler class {class_name!r} is unknown{f' (did you mean {near[0]!r}?)' if near else ''}: make the schedule yourself, "
        "such as schedules.Discrete(alphas_cumprod=scheduler.alphas_cumprod) or schedules.Flow(shift=…, label_scale=1000)"
    )


def _handwritten(given: Mapping[str, Any], names: frozenset[str]) -> Family:
    """The family of a config without a class, by the fields that it has: written by hand, or of a scheduler that was never saved."""
    if "use_flow_sigmas" in given:
        return Family("betas", HANDWRITTEN.reads | FAMILIES["UniPCMultistepScheduler"].reads)
    if given.get("prediction_type") == "flow_prediction" or ("shift" in given and "beta_schedule" not in given):
        name = "FlowMatchLCMScheduler" if "upscale_mode" in given else "FlowMatchEulerDiscreteScheduler"
        return Family("flow", FAMILIES[name].reads)
    if "sigma_data" in given:
        if "euler_at_final" in names and "algorithm_type" not in names:
            return _family("CosineDPMSolverMultistepScheduler", given, names)
        return Family("edm", FAMILIES["EDMEulerScheduler"].reads)
    return HANDWRITTEN
