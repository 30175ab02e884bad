"""`Denoiser`: a network with its noise schedule, what it predicts, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.backends import Backend, arrays
from dpmsolver.brief import brief, brief_repr, html_table
from dpmsolver.errors import PlanError, unknown
from dpmsolver.host import settled
from dpmsolver.networks.guidance import Classifier, ClassifierFree, Loss
from dpmsolver.networks.lending import Lending
from dpmsolver.networks.reading import evaluated_at, prediction_of
from dpmsolver.plans.plan import Point
from dpmsolver.plans.targets import PREDICTIONS, Predicts, conversion
from dpmsolver.schedules import NoiseSchedule
from dpmsolver.typing import Array

__all__ = ["Denoiser"]


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A network with its noise schedule and the conventions of its inputs and outputs.

    Args:
        network: a function `network(x, t, **kwargs)` of a state x (B, …) and time labels t (B,) that returns an array of x's shape. It may
            overwrite x and t.
        schedule: the noise schedule that it was trained on.
        predicts: what it returns: "noise" (eps), "data" (x_0), "v" (alpha eps - sigma x_0), "score" (-eps/sigma) or "velocity" (eps - x_0).
        network_kwargs: keyword arguments of every call, passed unchanged, even if guidance doubles the batch.
        time_label: how t is computed. "float": t is the schedule's label (the step number t N - 1 for `Discrete`, sigma for `EDM`, sigma
            times label_scale for `Flow`, the time itself for the others). "round": t is that label, rounded, as int64. A function: t is its
            value at the label, as in `lambda t: 999 * t` for ScoreSDE's networks.
        learned_variance: True if the network returns 2C channels, of which the first C are the prediction.
        guidance: `guidance.ClassifierFree`, `guidance.Classifier` or `guidance.Loss`.
        data_hook: a function (x0, point) -> x0 that corrects every predicted x_0, such as `thresholding.dynamic()`.
        dtype: the float type in which the network computes, by name ("float16"); by default that of the weights of a torch module, else
            that of the state. Inputs are cast to it, and outputs back to the state's type; nothing else is in half precision. Labels are
            float64 for a network in float64, else float32, because half precision cannot distinguish step 999 from 999.5.

    Two denoisers are equal only if they are the same object.

    Raises:
        PlanError: the prediction or the time label is unknown.

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

    __repr__ = brief_repr

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

    @staticmethod
    def edm(
        net: Callable[..., Any],
        class_labels: Any = None,
        *,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        gnet: Callable[..., Any] | None = None,
        guidance: float = 1.0,
        network_kwargs: Mapping[str, Any] | None = None,
    ) -> Denoiser:
        """Return the denoiser of a preconditioned network of EDM or EDM2, with the `EDM` schedule and data prediction.

        Args:
            net: `net(x, sigma, class_labels=None, …) -> denoised x` with the attributes `img_resolution` and `label_dim`, as in EDM's
                pickles: preconditioned for EDM, VP, VE or iDDPM. For steps on the noise levels that a network of iDDPM was trained on,
                use the grid `networks.research.rounded(net)`.
            class_labels: class numbers (B,) or one-hot rows (B, label_dim); None for no class.
            sigma_min, sigma_max: the noise levels of runs, restricted to the network's own `sigma_min` and `sigma_max`.
            gnet, guidance: the guiding network and the strength of its guidance, gnet + guidance (net - gnet), as in EDM2.
            network_kwargs: keyword arguments of every call.

        Raises:
            PlanError: the network lacks these attributes or does not support the noise levels, or labels do not fit label_dim.

        Examples:
            >>> import numpy as np, dpmsolver as dpm
            >>> class Net:
            ...     img_resolution, label_dim, sigma_min, sigma_max = 8, 0, 0.002, 50.0
            ...     def __call__(self, x, sigma):
            ...         return 0.25 / (0.25 + sigma[:, None] ** 2) * x  # data of deviation 1/2
            >>> denoiser = dpm.Denoiser.edm(Net())
            >>> dpm.sample(denoiser, dpm.initial_noise(denoiser.schedule, (1000, 4)), nfe=18).std().round(1)
            np.float64(0.5)

        Source: Karras et al. 2022, arXiv 2206.00364, table 1; Karras et al. 2024, arXiv 2406.02507, for gnet.
        """
        from dpmsolver.networks.research.edm import edm

        return edm(
            net,
            class_labels,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            gnet=gnet,
            guidance=guidance,
            network_kwargs=network_kwargs,
        )

    @staticmethod
    def score_sde(model: Callable[..., Any], sde: Any, *, continuous: bool = True) -> Denoiser:
        """Return the denoiser of a network of score_sde, with the schedule, the labels and the prediction that its SDE implies.

        Args:
            model: `model(x, labels)`, in evaluation mode.
            sde: a VPSDE, subVPSDE or VESDE of that code, recognised by the name of its class.
            continuous: True if the network was trained on continuous times (`config.training.continuous`). Its labels are then 999 t, or
                sigma for VESDE. Otherwise they are the numbers of the training steps, as floats, and rounded for VESDE.

        Raises:
            PlanError: the SDE is of another class, or lacks an attribute. TypeError: the model cannot be called.

        Examples:
            >>> import dpmsolver as dpm
            >>> class VPSDE:
            ...     beta_0, beta_1, N = 0.1, 20.0, 1000
            >>> denoiser = dpm.Denoiser.score_sde(lambda x, labels: 0.0 * x, VPSDE())
            >>> denoiser.schedule, denoiser.label(0.5)
            (LinearVP(beta_min=0.1, beta_max=20.0, t_min=1e-05, t_max=1.0), 499.5)

        Source: Song et al. 2021, arXiv 2011.13456, appendix C; get_score_fn of its code (yang-song/score_sde_pytorch).
        """
        from dpmsolver.networks.research.score_sde import score_sde

        return score_sde(model, sde, continuous=continuous)

    @staticmethod
    def guided_diffusion(
        model: Callable[..., Any],
        diffusion: Any,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        cond_fn: Callable[..., Any] | None = None,
        classifier: Callable[..., Any] | None = None,
        classifier_scale: float = 1.0,
    ) -> Denoiser:
        """Return the denoiser of a network of guided-diffusion or improved-diffusion, with its classifier if there is one.

        Args:
            model: `model(x, timesteps, **model_kwargs)`. It has doubled channels if the diffusion learns the variance.
            diffusion: the GaussianDiffusion or SpacedDiffusion that was made with it. Make it without respacing: a respaced one knows the
                schedule only at the steps that it keeps.
            model_kwargs: keyword arguments of every call of the model and of cond_fn, such as {"y": classes}.
            cond_fn: `cond_fn(x, timesteps, **model_kwargs)`: the gradient of log p(y | x), times its scale.
            classifier, classifier_scale: in place of cond_fn, a torch network `classifier(x, timesteps) -> logits` for the classes `y`.

        Predicted data are not clipped; `denoiser.replace(data_hook=dpm.thresholding.static())` does what `clip_denoised=True` does.

        Raises:
            PlanError: the diffusion lacks an attribute or predicts the previous x, or classes are missing. ValueError: the betas do not
                make alpha fall.

        Examples:
            >>> import numpy as np
            >>> import dpmsolver as dpm
            >>> class Diffusion:
            ...     betas, rescale_timesteps = np.linspace(1e-4, 0.02, 1000), False
            ...     model_mean_type, model_var_type = "EPSILON", "LEARNED_RANGE"
            >>> denoiser = dpm.Denoiser.guided_diffusion(lambda x, t: np.zeros((len(x), 6, 4, 4)), Diffusion())
            >>> denoiser.predicts, denoiser.learned_variance
            ('noise', True)

        Source: Dhariwal & Nichol 2021, arXiv 2105.05233; openai/guided-diffusion, gaussian_diffusion.py and respace.py.
        """
        from dpmsolver.networks.research.guided_diffusion import guided_diffusion

        return guided_diffusion(
            model,
            diffusion,
            model_kwargs=model_kwargs,
            cond_fn=cond_fn,
            classifier=classifier,
            classifier_scale=classifier_scale,
        )

    @staticmethod
    def latent_diffusion(
        model: Any, cond: Any = None, uncond: Any = None, scale: Any = 1.0, *, batched: bool = True
    ) -> Denoiser:
        """Return the denoiser of a LatentDiffusion of CompVis's code, such as Stable Diffusion. It samples latents.

        Args:
            model: a model with `apply_model(x, t, cond)`, `alphas_cumprod` and `parameterization` ("eps", "x0" or "v").
            cond: a list with one text per sample, which `model.get_learned_conditioning` encodes, or what that method returned.
            uncond, scale: the same for "no condition", and the scale of classifier-free guidance; see `guidance.ClassifierFree`.
            batched: False calls the network twice, which is necessary if cond and uncond differ in shape.

        `model.decode_first_stage(latents)` turns the result into pictures; it divides by `model.scale_factor` itself.

        Raises:
            PlanError: the model lacks an attribute, the parameterization is unknown, or one text is given in place of a list.

        Examples:
            >>> import numpy as np
            >>> import dpmsolver as dpm
            >>> class Model:
            ...     alphas_cumprod, parameterization = np.cumprod(1 - dpm.schedules.scaled_linear_betas()), "v"
            ...     def apply_model(self, x, t, cond):
            ...         return 0.0 * x + cond
            >>> dpm.Denoiser.latent_diffusion(Model(), cond=0.0).predicts
            'v'

        Source: Rombach et al. 2022, arXiv 2112.10752; CompVis/latent-diffusion, ddpm.py.
        """
        from dpmsolver.networks.research.latent_diffusion import latent_diffusion

        return latent_diffusion(model, cond, uncond, scale, batched=batched)

    def _repr_html_(self) -> str:
        said = [each.name for each in fields(self) if each.name not in ("network", "schedule")]
        rows = [("schedule", self.schedule), *((name, brief(getattr(self, name))) for name in said)]
        return html_table(f"Denoiser of {brief(self.network)}", rows)

    def replace(self, **changes: Any) -> Denoiser:
        """Return a copy with other settings, as in `denoiser.replace(guidance=…)`."""
        return replace(self, **changes)

    def label(self, schedule_label: float) -> float:
        """Return the time label that the network takes for a label of the schedule."""
        if callable(self.time_label):
            return float(self.time_label(schedule_label))
        return float(round(schedule_label)) if self.time_label == "round" else schedule_label

    def conversion(self, wanted: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        """Return (a, b) with wanted = a x + b output for this network, with the sign of its velocity (see `dpmsolver.plans.targets`)."""
        a, b = conversion(self.predicts, wanted, alpha, sigma)
        return a, (self.schedule.velocity_sign * b if self.predicts == "velocity" else b)

    def labels(self, backend: Backend, schedule_labels: Any, like: Any) -> Sequence[Any]:
        """Return the network's time labels for labels (N, B) or (N, 1) of the schedule: N arrays (B,) on the device of `like`."""
        return self.placed_labels(backend, self.label_values(schedule_labels), like)

    def label_values(self, schedule_labels: Any) -> Any:
        """Return the network's time labels for labels of the schedule, as numbers of the host."""
        if self.time_label == "float":
            return schedule_labels
        return np.array([[self.label(value) for value in row] for row in schedule_labels.tolist()])

    def placed_labels(self, backend: Backend, values: Any, like: Any) -> Sequence[Any]:
        """Return `label_values` as N arrays of shape (B,), on the device of `like`."""
        dtype = arrays.label_dtype(backend, backend.network_dtype(self.network, self.dtype), like)
        return arrays.labels(backend, values, like, None if self.time_label == "round" else dtype)

    def at(self, x: Array, t: ArrayLike, wanted: Predicts = "data") -> Array:
        """Evaluate the network once, at any time, and return its prediction in any form.

        Guidance and the data hook are applied. Gradients are recorded if x requires them, as reconstruction guidance needs. x is not
        changed.

        Args:
            x: the state alpha x_0 + sigma eps, shape (B, …), NumPy or torch.
            t: the schedule's time, one number for all or one per sample; `schedule.time_from_label` makes it from a step number.
            wanted: "data" (x_0), "noise" (eps), "v", "score" or "velocity", as for `predicts`.

        Returns:
            An array of x's shape, framework and device; float64 if x is float64, else float32. It is not checked for NaN.

        Raises:
            PlanError: a time lies outside the schedule, the number of times is neither 1 nor B, a name is unknown, or the output does not
                determine what is wanted at this point (as the noise does not determine the data at alpha = 0).

        Examples:
            >>> import numpy as np, dpmsolver as dpm
            >>> denoiser = dpm.models.Gaussian(mean=[1.0], variance=[0.0]).denoiser(dpm.schedules.EDM())  # data: 1
            >>> denoiser.at(np.array([[3.0], [5.0]]), 2.0, "data").ravel()
            array([1., 1.])
            >>> denoiser.at(np.array([[3.0], [5.0]]), [2.0, 4.0], "noise").ravel()
            array([1., 1.])
        """
        answer: Array = evaluated_at(self, x, t, wanted)
        return answer

    def call(
        self, backend: Backend, x: Any, point: Point, dtype: Any, lending: Lending | None = None
    ) -> tuple[Any, Any]:
        """Return the result of `answer` at a point, whose numbers may be one per sample."""
        label = self.labels(backend, np.atleast_1d(point.label)[None], x)[0]
        return self.answer(backend, x, label, point.time, dtype, lending)

    @property
    def guided_in_data(self) -> bool:
        """True if the guidance acts on the predicted data of every evaluation."""
        return (
            isinstance(self.guidance, ClassifierFree)
            and self.guidance.rule is not None
            and self.guidance.rule.acts_on_data
        )

    @property
    def steers(self) -> bool:
        """True if the guidance adds a gradient to the score."""
        return isinstance(self.guidance, (Classifier, Loss))

    def answer(
        self, backend: Backend, x: Any, label: Any, time: Any, dtype: Any, lending: Lending | None = None
    ) -> tuple[Any, tuple[Any, Any] | None]:
        """Return the network's output, as `output` does, and (factor, gradient) that the guidance adds to the score, or None."""
        if isinstance(self.guidance, Loss):
            to_data = _to_data(self, time)
            call = partial(self._call, backend, dtype, lending or Lending(backend), kwargs={})
            return self.guidance.run(backend, call, x, label, time, to_data)
        raw = self.output(backend, x, label, time, dtype, lending)
        return raw, self.guidance.at(backend, x, label, time) if isinstance(self.guidance, Classifier) else None

    def output(
        self, backend: Backend, x: Any, label: Any, time: Any, dtype: Any, lending: Lending | None = None
    ) -> Any:
        """Return the network's output in the state's type, with classifier-free guidance if there is any. Times may differ per sample.

        Args:
            lending: how a run lends x to the network; by default the network gets a copy.
        """
        lending = lending or Lending(backend)
        if self.guidance is None:
            return self._call(backend, dtype, lending, x, label, {})
        if isinstance(self.guidance, ClassifierFree):
            call = partial(self._call, backend, dtype, lending)
            to_data = _to_data(self, time) if self.guided_in_data else None
            return self.guidance.run(backend, call, x, label, time, lending, to_data)
        # The classifier needs the label after the network, which may write into its own.
        return self._call(backend, dtype, lending, x, backend.copy_to(label), {})

    def pair(
        self, backend: Backend, x: Any, label: Any, time: Any, dtype: Any, lending: Lending | None = None
    ) -> tuple[Any, Any]:
        """Return the guided and the unconditional output, for a plan that uses both. The guidance must be classifier-free."""
        assert isinstance(self.guidance, ClassifierFree)
        lending = lending or Lending(backend)
        call = partial(self._call, backend, dtype, lending)
        to_data = _to_data(self, time) if self.guided_in_data else None
        return self.guidance.pair(backend, call, x, label, time, lending, to_data)

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


@settled
def _to_data(denoiser: Denoiser, time: Any) -> tuple[Any, Any]:
    """The numbers (a, b) with x_0 = a x + b output at a time, or at one per sample."""
    return denoiser.conversion("data", denoiser.schedule.alpha(time), denoiser.schedule.sigma(time))
