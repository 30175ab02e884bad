"""Denoiser: a network, what it predicts, and how it wants to be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.backends import Backend, arrays
from dpmsolver.errors import PlanError, unknown
from dpmsolver.networks.guidance import Classifier, ClassifierFree, Loss
from dpmsolver.networks.lending import Lending
from dpmsolver.networks.reading import evaluated_at, prediction_of
from dpmsolver.plans.plan import Point
from dpmsolver.plans.targets import PREDICTIONS, Predicts, conversion
from dpmsolver.schedules import NoiseSchedule

__all__ = ["Denoiser"]


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A network with its schedule. Two denoisers are equal only if they are one object.

    Args:
        network: `network(x, t, **kwargs)` with x (B, …) and t (B,), returning an array of x's shape. It may write into x and t.
        schedule: the noise schedule it was trained on.
        predicts: what it returns: "noise", "data", "v", "score" or "velocity" (see `conversion`).
        network_kwargs: handed to every call; the caller's own, unchanged, also where guidance doubles the batch.
        time_label: what t is. "float": the schedule's label (the step number t N - 1 for `Discrete`, sigma for `EDM`, sigma times
            its label_scale for `Flow`, t itself else). "round": that, rounded, as int64. A function of the label: `lambda t: 999 * t`
            for ScoreSDE's networks.
        learned_variance: the network returns 2C channels, of which the first C are the prediction.
        guidance: `guidance.ClassifierFree`, `guidance.Classifier` or `guidance.Loss`.
        data_hook: a correction (x0, point) -> x0 of every predicted x_0, such as `thresholding.dynamic()`.
        dtype: the network's float type by name ("float16"); by default that of its weights for a torch module, else the state's.
            Inputs are cast to it and outputs back to the state's type; nothing else is ever in half precision. Labels are float64
            for a network in float64, else float32: half precision cannot tell step 999 from 999.5.

    Raises:
        PlanError: an unknown prediction or time label.

    Examples:
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
    guidance: ClassifierFree | Classifier | Loss | None = None
    data_hook: Callable[[Any, Point], Any] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.network):
            raise TypeError(f"network must be callable as network(x, t), got {type(self.network).__name__}")
        if not isinstance(self.schedule, NoiseSchedule):
            raise TypeError(
                f"schedule must be a NoiseSchedule, such as dpm.schedules.Discrete(betas=…), got {type(self.schedule).__name__}"
            )
        if self.predicts not in PREDICTIONS:
            raise PlanError(unknown("prediction", self.predicts, PREDICTIONS))
        if not callable(self.time_label) and self.time_label not in ("float", "round"):
            raise PlanError(f"time_label must be 'float', 'round' or a function of the label, got {self.time_label!r}")
        if self.dtype is not None and self.dtype not in ("float16", "bfloat16", "float32", "float64"):
            raise PlanError(unknown("dtype", self.dtype, ("float16", "bfloat16", "float32", "float64")))
        if self.guidance is not None and not isinstance(self.guidance, (ClassifierFree, Classifier, Loss)):
            raise TypeError(
                "guidance must be guidance.ClassifierFree(…), guidance.Classifier(…) or guidance.Loss(…), "
                f"got {type(self.guidance).__name__}"
            )
        if isinstance(self.guidance, ClassifierFree) and (
            twice := set(self.network_kwargs) & set(self.guidance.condition)
        ):
            raise PlanError(
                f"{sorted(twice)} is given both in network_kwargs and in the guidance's condition: drop one"
            )
        rule = getattr(self.guidance, "rule", None)
        if rule is not None and rule.zero and self.predicts != "velocity":
            raise PlanError(
                f"ZeroStar(zero={rule.zero}) sets a velocity to 0, and this network predicts {self.predicts}: give zero=0"
            )
        if self.data_hook is not None and not callable(self.data_hook):
            raise TypeError(f"data_hook must be a function (x0, point) -> x0, got {type(self.data_hook).__name__}")

    def replace(self, **changes: Any) -> Denoiser:
        """A copy with other settings: `denoiser.replace(guidance=…)`."""
        return replace(self, **changes)

    def label(self, schedule_label: float) -> float:
        """What the network gets for a schedule's label."""
        if callable(self.time_label):
            return float(self.time_label(schedule_label))
        return float(round(schedule_label)) if self.time_label == "round" else schedule_label

    def conversion(self, wanted: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        """The numbers (a, b) with wanted = a x + b output for this network: `conversion`, with the sign of the schedule's velocity."""
        a, b = conversion(self.predicts, wanted, alpha, sigma)
        return a, (self.schedule.velocity_sign * b if self.predicts == "velocity" else b)

    def labels(self, backend: Backend, schedule_labels: Any, like: Any) -> Sequence[Any]:
        """What the network gets for a schedule's labels (N, B) or (N, 1): N arrays of shape (B,), on the device of `like`."""
        values = schedule_labels
        if self.time_label != "float":
            values = np.array([[self.label(value) for value in row] for row in schedule_labels.tolist()])
        dtype = arrays.label_dtype(backend, backend.network_dtype(self.network, self.dtype), like)
        return arrays.labels(backend, values, like, None if self.time_label == "round" else dtype)

    def at(self, x: Any, t: ArrayLike, wanted: Predicts = "data") -> Any:
        """Evaluate the network once and return its answer in any form, guidance and the data hook included.

        Gradients are recorded where x requires them, as reconstruction guidance needs, and not otherwise. x is not changed.

        Args:
            x: the state alpha x_0 + sigma eps, shape (B, …), NumPy or torch.
            t: the schedule's time, one number for all or one per sample; `schedule.time_from_label` makes it from a step number.
            wanted: "data" (x_0), "noise" (eps), "v", "score" or "velocity": see `conversion`.

        Returns:
            An array of x's shape, framework and device; float64 if x is, else float32. What the network returns is not tested for NaN.

        Raises:
            PlanError: a time outside the schedule, a number of times other than one or B, an unknown name, and a point where the
                output does not determine what is wanted (the data from noise at alpha = 0).

        Examples:
            >>> import numpy as np, dpmsolver as dpm
            >>> denoiser = dpm.models.Gaussian(mean=[1.0], variance=[0.0]).denoiser(dpm.schedules.EDM())  # all data are 1
            >>> denoiser.at(np.array([[3.0], [5.0]]), 2.0, "data").ravel()
            array([1., 1.])
            >>> denoiser.at(np.array([[3.0], [5.0]]), [2.0, 4.0], "noise").ravel()
            array([1., 1.])
        """
        return evaluated_at(self, x, t, wanted)

    def call(
        self, backend: Backend, x: Any, point: Point, dtype: Any, lending: Lending | None = None
    ) -> tuple[Any, Any]:
        """What `answer` returns, with the label made here. A point's numbers may be one per sample."""
        label = self.labels(backend, np.atleast_1d(point.label)[None], x)[0]
        return self.answer(backend, x, label, point.time, dtype, lending)

    @property
    def guided_in_data(self) -> bool:
        """Whether the guidance wants the predicted data at every evaluation."""
        return (
            isinstance(self.guidance, ClassifierFree)
            and self.guidance.rule is not None
            and self.guidance.rule.acts_on_data
        )

    @property
    def steers(self) -> bool:
        """Whether the guidance adds a gradient to the score."""
        return isinstance(self.guidance, (Classifier, Loss))

    def answer(
        self, backend: Backend, x: Any, label: Any, time: Any, dtype: Any, lending: Lending | None = None
    ) -> tuple[Any, tuple[Any, Any] | None]:
        """The network's output as `output` has it, and what its guidance adds to the score: a factor and a gradient, or None."""
        if isinstance(self.guidance, Loss):
            to_data = self._to_data(time)
            call = partial(self._call, backend, dtype, lending or Lending(backend), kwargs={})
            return self.guidance.run(backend, call, x, label, time, to_data)
        raw = self.output(backend, x, label, time, dtype, lending)
        return raw, self.guidance.at(backend, x, label, time) if isinstance(self.guidance, Classifier) else None

    def output(
        self, backend: Backend, x: Any, label: Any, time: Any, dtype: Any, lending: Lending | None = None
    ) -> Any:
        """The network's output in the state's type, guided if `guidance` is classifier-free. `time` may differ between samples.

        Args:
            lending: how a run lends x to the network; by default as a copy.
        """
        lending = lending or Lending(backend)
        if self.guidance is None:
            return self._call(backend, dtype, lending, x, label, {})
        if isinstance(self.guidance, ClassifierFree):
            call = partial(self._call, backend, dtype, lending)
            to_data = self._to_data(time) if self.guided_in_data else None
            return self.guidance.run(backend, call, x, label, time, lending, to_data)
        # The classifier needs the label after the network, which may write into its own.
        return self._call(backend, dtype, lending, x, backend.copy_to(label), {})

    def pair(
        self, backend: Backend, x: Any, label: Any, time: Any, dtype: Any, lending: Lending | None = None
    ) -> tuple[Any, Any]:
        """The guided and the unconditional output, for a plan that wants both; the guidance is classifier-free."""
        assert isinstance(self.guidance, ClassifierFree)
        lending = lending or Lending(backend)
        call = partial(self._call, backend, dtype, lending)
        to_data = self._to_data(time) if self.guided_in_data else None
        return self.guidance.pair(backend, call, x, label, time, lending, to_data)

    def _to_data(self, time: Any) -> tuple[Any, Any]:
        """The numbers (a, b) with x_0 = a x + b output at a time."""
        return self.conversion("data", self.schedule.alpha(time), self.schedule.sigma(time))

    def _call(
        self,
        backend: Backend,
        dtype: Any,
        lending: Lending,
        x: Any,
        label: Any,
        kwargs: Mapping[str, Any],
        own: bool = False,
    ) -> Any:
        given = x if dtype is None else arrays.cast(x, dtype)
        own = own or given is not x
        raw = self.network(given if own else lending.lend(x), label, **self.network_kwargs, **kwargs)
        if not own:
            lending.take_back()
        return arrays.cast(prediction_of(backend, raw, x, self.learned_variance), x.dtype)
