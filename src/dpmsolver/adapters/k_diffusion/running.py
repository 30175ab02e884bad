"""A run of a plan with a model of k-diffusion: the loop, the callback, the noise and the progress bar."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver import backends
from dpmsolver.adapters.k_diffusion.tables import level
from dpmsolver.backends import Backend, arrays
from dpmsolver.errors import PlanError
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.plans.loop import Moment, steps
from dpmsolver.plans.plan import Plan, Point
from dpmsolver.plans.targets import conversion
from dpmsolver.sampling.finite import Watch
from dpmsolver.sampling.noise import intervals, noise_source
from dpmsolver.sampling.placing import placed
from dpmsolver.schedules import EDM, Flow

__all__ = ["KRun", "denoiser"]

Model = Callable[..., Any]


def denoiser(model: Model, schedule: EDM | Flow, extra_args: Mapping[str, Any] | None = None) -> Denoiser:
    """Return a model of k-diffusion as a `Denoiser`, for `sample`, `tune` and all other functions that take one.

    Args:
        model: `model(x, sigma, **extra_args)` with one sigma per sample, which returns the denoised x.
        schedule: `EDM(sigma_min, sigma_max)` for states x_0 + sigma eps, or `Flow()` for (1 - sigma) x_0 + sigma eps.
        extra_args: arguments of the model.

    Raises:
        TypeError: the schedule is neither of the two.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> import numpy as np, dpmsolver as dpm
        >>> known = denoiser(lambda x, sigma: 0.0 * x, EDM())  # all data are 0
        >>> dpm.sample(known, np.full((1, 2), 80.0), nfe=5)
        array([[0., 0.]])
    """
    if not isinstance(schedule, (EDM, Flow)):
        raise TypeError(f"the schedule of a k-diffusion model is EDM(sigma_min, sigma_max) or Flow(), got {schedule!r}")
    given = dict(extra_args or {})

    def network(x: Any, sigma: Any) -> Any:
        return model(x, sigma, **given)

    return Denoiser(network, schedule, predicts="data")


@dataclass
class KRun:
    """A plan with a model and its arguments, and what the caller wants to observe.

    Args:
        plan: a plan on the caller's sigmas, or with points at them.
        sigmas: the caller's sigmas, for the callback and for the arguments of the noise sampler.
        flow: whether the model's states are (1 - sigma) x_0 + sigma eps; those of the plan may have another scale.
        begins: the number of the sigma for each evaluation that begins a step.
        unscaled: whether the plan's times are the model's sigmas and its states the model's, whatever alpha its points have.
    """

    plan: Plan
    model: Model
    sigmas: Any
    begins: Mapping[int, int]
    flow: bool
    unscaled: bool
    extra_args: Mapping[str, Any]
    callback: Callable[[dict[str, Any]], object] | None = None
    disable: bool | None = None
    noise_sampler: Callable[[Any, Any], Any] | None = None

    def __call__(self, x: Any) -> Any:
        """Run from x, which is not changed, and return the result in its type."""
        plan, backend = self.plan, backends.of(x)
        if plan.answers != 1:
            raise PlanError(
                f"this plan wants {plan.answers} outputs of each evaluation, and a model of k-diffusion returns one"
            )
        state = backend.state(x)
        watch = Watch(plan, backend)
        watch.check(-1, state)
        labels = arrays.labels(backend, self._levels()[:, None], state, arrays.label_dtype(backend, None, state))
        with backend.autograd.no_grad(), _progress(len(self.sigmas) - 1, self.disable) as shown:
            state = self._scaled(backend, state, plan.start)
            run = steps(placed(plan, backend, state), state, self._draws(backend, state))
            moment = next(run)
            while True:
                step = self.begins.get(moment.number)
                m = self._evaluate(backend, x, moment, labels[moment.number], watch, step)
                try:
                    moment = run.send(m)
                except StopIteration as end:
                    result = end.value
                    break
                finally:
                    if step is not None:
                        shown()
            result = self._scaled(backend, result, plan.end, back=True)
            watch.finish(result)
            return arrays.cast(result, x.dtype)

    def _evaluate(self, backend: Backend, x: Any, moment: Moment, sigma: Any, watch: Watch, step: int | None) -> Any:
        """Ask the model at a moment, tell the callback if a step begins there, and return what the plan calls the output."""
        number, point, u = moment.number, moment.point, moment.u
        seen = arrays.cast(self._scaled(backend, u, point, back=True), x.dtype)
        denoised = self.model(seen, sigma, **self.extra_args)
        if not arrays.is_float_array(backend, denoised):
            raise TypeError(
                f"the model must return the denoised x, a floating-point array like x, got {type(denoised).__name__}: "
                "wrap it so that it returns one"
            )
        if denoised.shape != x.shape:
            raise ValueError(
                f"the model must return the denoised x in x's shape {tuple(x.shape)}, got {tuple(denoised.shape)}: "
                "wrap it so that it returns what it was given, denoised"
            )
        watch.check(number, denoised)
        if self.callback is not None and step is not None:
            self.callback(
                {"x": seen, "i": step, "sigma": self.sigmas[step], "sigma_hat": sigma[0], "denoised": denoised}
            )
        a, b = conversion("data", self.plan.prediction, point.alpha, point.sigma)
        output = arrays.cast(denoised, u.dtype)
        return backend.combine((a, b), (u, output)) if a else output

    def _levels(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The sigma that the model is given at each evaluation."""
        return np.array([self._level(row.point) for row in self.plan.rows], dtype=np.float64)

    def _level(self, point: Point) -> float:
        return point.time if self.unscaled else level(point, self.flow)

    def _scaled(self, backend: Backend, x: Any, point: Point, back: bool = False) -> Any:
        """The model's state as the plan's at a point, or back: they differ by what a schedule multiplies both data and noise by."""
        if self.unscaled:
            return x
        total = point.alpha + point.sigma
        factor = total if self.flow else point.alpha
        if factor == 1.0:
            return x
        return backend.combine((1.0 / factor if back else factor,), (x,))

    def _draws(self, backend: Backend, like: Any) -> Iterator[Any]:
        """The normals of the run: from the caller's noise sampler, or keyed by the seed that the model is given, or by a new one."""
        if self.noise_sampler is None:
            seed = self.extra_args.get("seed")
            if seed is None and self.plan.stochastic:
                seed = _new_seed(like)
            return iter(noise_source("independent", self.plan, seed, backend, like))
        return self._sampled(backend, like, self.noise_sampler)

    def _sampled(self, backend: Backend, like: Any, noise_sampler: Callable[[Any, Any], Any]) -> Iterator[Any]:
        ends = intervals(self.plan)
        for index in range(self.plan.draws):
            if index not in ends:
                yield None
                continue
            noise = noise_sampler(*(self._as_given(self._level(point)) for point in ends[index]))
            if not arrays.is_float_array(backend, noise) or noise.shape != like.shape:
                got = tuple(noise.shape) if arrays.is_float_array(backend, noise) else type(noise).__name__
                raise ValueError(
                    f"noise_sampler must return standard normals of x's shape {tuple(like.shape)}, got {got}"
                )
            yield arrays.cast(noise, like.dtype)

    def _as_given(self, sigma: float) -> Any:
        """A sigma in the kind of array in which the caller's sigmas are."""
        return self.sigmas.new_tensor(sigma) if hasattr(self.sigmas, "new_tensor") else sigma


def _new_seed(like: Any) -> int | None:
    """A seed from torch's own generator for a tensor, so that `torch.manual_seed` decides as in k-diffusion; else none."""
    if not hasattr(like, "new_tensor"):
        return None
    torch = importlib.import_module("torch")
    return int(torch.randint(0, 2**63 - 1, ()))


class _progress:
    """A bar of so many steps, as k-diffusion shows; none without tqdm."""

    def __init__(self, total: int, disable: bool | None) -> None:
        self.total, self.disable = total, disable
        self.bar: Any = None

    def __enter__(self) -> Callable[[], object]:
        if self.disable is not True:
            try:
                self.bar = importlib.import_module("tqdm.auto").tqdm(total=self.total, disable=self.disable)
            except ImportError:
                self.bar = None
        return self.bar.update if self.bar is not None else int

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
