"""`DPM_Solver`: the interface of the official solver, on plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dpmsolver import backends
from dpmsolver.backends.arrays import cast, concatenate
from dpmsolver.compat.official.plans import Asked, OfficialPlan
from dpmsolver.compat.official.schedule import NoiseScheduleVP
from dpmsolver.compat.official.wrapper import denoiser_of, one_or_each
from dpmsolver.errors import PlanError, unknown
from dpmsolver.host import to_host
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.thresholding import dynamic
from dpmsolver.plans.plan import Point, Prediction
from dpmsolver.sampling.adaptive import sample_adaptive
from dpmsolver.sampling.forward import add_noise
from dpmsolver.sampling.runs import iterate, sample
from dpmsolver.schedules.span import one_time

__all__ = ["DPM_Solver"]


class DPM_Solver:
    """The official solver: DPM-Solver and DPM-Solver++, singlestep, multistep and adaptive.

    Args:
        model_fn: the result of `model_wrapper`, or any function `model_fn(x, t_continuous) -> noise`. It may be None if only `add_noise` is
            used.
        noise_schedule: the schedule.
        algorithm_type: "dpmsolver++" (data prediction) or "dpmsolver" (noise prediction).
        correcting_x0_fn: "dynamic_thresholding", or a function (x0, t) -> x0 that corrects every predicted x_0. As in the official code, it
            is used in "dpmsolver++" and in `denoise_to_zero`.
        correcting_xt_fn: a function (xt, t, step) -> xt that corrects the state after each step.
        thresholding_max_val, dynamic_thresholding_ratio: the data's largest value and the quantile of dynamic thresholding.
        predict_x0, thresholding, max_val: the arguments of the code of 2022 in place of algorithm_type, of dynamic thresholding and of
            thresholding_max_val; Stable Diffusion's own script uses them.

    Raises:
        PlanError: a name is unknown. TypeError: the schedule or a function has another type.

    Examples:
        >>> import numpy as np
        >>> from dpmsolver.compat.official import NoiseScheduleVP
        >>> schedule = NoiseScheduleVP("linear")
        >>> solver = DPM_Solver(lambda x, t: x / schedule.marginal_std(t)[:, None], schedule)  # data: 0
        >>> solver.sample(np.ones((1, 2)), steps=10).round(3)
        array([[0.01, 0.01]])
    """

    def __init__(
        self,
        model_fn: Callable[..., Any] | None,
        noise_schedule: NoiseScheduleVP,
        algorithm_type: str = "dpmsolver++",
        correcting_x0_fn: str | Callable[[Any, Any], Any] | None = None,
        correcting_xt_fn: Callable[[Any, Any, int], Any] | None = None,
        thresholding_max_val: float = 1.0,
        dynamic_thresholding_ratio: float = 0.995,
        *,
        predict_x0: bool | None = None,
        thresholding: bool = False,
        max_val: float | None = None,
    ) -> None:
        if predict_x0 is not None:
            algorithm_type = "dpmsolver++" if predict_x0 else "dpmsolver"
        correcting_x0_fn = "dynamic_thresholding" if thresholding else correcting_x0_fn
        thresholding_max_val = thresholding_max_val if max_val is None else max_val
        if not isinstance(noise_schedule, NoiseScheduleVP):
            raise TypeError(
                f"noise_schedule must be a NoiseScheduleVP of dpmsolver.compat.official, got {type(noise_schedule).__name__}"
            )
        if algorithm_type not in ("dpmsolver", "dpmsolver++"):
            raise PlanError(unknown("algorithm_type", algorithm_type, ("dpmsolver", "dpmsolver++")))
        for name, function in (("correcting_x0_fn", correcting_x0_fn), ("correcting_xt_fn", correcting_xt_fn)):
            named = function == "dynamic_thresholding" and name == "correcting_x0_fn"
            if not (function is None or callable(function) or named):
                accepted = "'dynamic_thresholding', a function" if name == "correcting_x0_fn" else "a function"
                raise PlanError(f"{name} must be {accepted} or None, got {function!r}")
        self.noise_schedule, self.algorithm_type = noise_schedule, algorithm_type
        self.correcting_x0_fn, self.correcting_xt_fn = correcting_x0_fn, correcting_xt_fn
        self.thresholding_max_val, self.dynamic_thresholding_ratio = thresholding_max_val, dynamic_thresholding_ratio
        self._plain = None if model_fn is None else denoiser_of(model_fn, noise_schedule)
        self._prediction: Prediction = "data" if algorithm_type == "dpmsolver++" else "noise"

    def sample(
        self,
        x: Any,
        steps: int = 20,
        t_start: float | None = None,
        t_end: float | None = None,
        order: int = 2,
        skip_type: str = "time_uniform",
        method: str = "multistep",
        lower_order_final: bool = True,
        denoise_to_zero: bool = False,
        solver_type: str = "dpmsolver",
        atol: float = 0.0078,
        rtol: float = 0.05,
        return_intermediate: bool = False,
    ) -> Any:
        """Run the solver from time t_start to time t_end.

        Args:
            x: the state at t_start, shape (B, …). It is not changed.
            steps: network evaluations; the adaptive method ignores them. "singlestep_fixed" spends the largest multiple of `order` up to
                steps.
            t_start, t_end: by default the schedule's T, and 1/total_N. With t_start < t_end the ODE is run backwards.
            order: 1, 2 or 3; for the adaptive method 2 or 3.
            skip_type: "logSNR", "time_uniform" or "time_quadratic".
            method: "multistep", "singlestep", "singlestep_fixed" or "adaptive".
            lower_order_final: lower the order of the last steps of the multistep method if there are fewer than 10 steps.
            denoise_to_zero: return the predicted x_0 of one more evaluation at t_end.
            solver_type: "dpmsolver" or "taylor".
            atol, rtol: the tolerances of the adaptive method.
            return_intermediate: return (x, list of the states after each step) instead of x.

        Returns:
            The state at t_end, in x's type; the run computes in float32, or in float64 if x is float64.

        Raises:
            PlanError: a name or the order is unknown, there are too few steps, or times lie outside the schedule; it is raised before the
                network is called.
            SamplingError: NaN or infinity.
        """
        asked = Asked(steps, order, skip_type, method, solver_type, lower_order_final)
        start, end = self._span(t_start, t_end)
        if method == "adaptive" and (return_intermediate or self.correcting_xt_fn is not None):
            raise PlanError("method='adaptive' takes no correcting_xt_fn and no return_intermediate=True")
        if method == "adaptive":
            denoiser = self._denoiser(x, corrected=self._prediction == "data")
            result = sample_adaptive(
                denoiser,
                x,
                order=order,
                prediction=self._prediction,
                quadrature=asked.quadrature,
                atol=atol,
                rtol=rtol,
                start=start,
                end=end,
            )
            states, last = [], 0
        else:
            planned = asked.plan(self.noise_schedule.ours, self._prediction, start, end)
            states = self._states(x, planned, return_intermediate)
            result, last = states[-1], len(planned.step_at) - 1
        if denoise_to_zero:
            result = self.denoise_to_zero_fn(result, end)
            if self.correcting_xt_fn is not None:
                result = self.correcting_xt_fn(result, _array(end, result), last + 1)
            states.append(result)
        if return_intermediate:
            return cast(result, x.dtype), [cast(state, x.dtype) for state in states]
        return cast(result, x.dtype)

    def inverse(
        self,
        x: Any,
        steps: int = 20,
        t_start: float | None = None,
        t_end: float | None = None,
        order: int = 2,
        skip_type: str = "time_uniform",
        method: str = "multistep",
        lower_order_final: bool = True,
        denoise_to_zero: bool = False,
        solver_type: str = "dpmsolver",
        atol: float = 0.0078,
        rtol: float = 0.05,
        return_intermediate: bool = False,
    ) -> Any:
        """Run the solver backwards, from t_start (by default 1/total_N) to t_end (T). The other arguments are those of `sample`."""
        t_start = 1.0 / self.noise_schedule.total_N if t_start is None else t_start
        t_end = self.noise_schedule.T if t_end is None else t_end
        return self.sample(
            x,
            steps=steps,
            t_start=t_start,
            t_end=t_end,
            order=order,
            skip_type=skip_type,
            method=method,
            lower_order_final=lower_order_final,
            denoise_to_zero=denoise_to_zero,
            solver_type=solver_type,
            atol=atol,
            rtol=rtol,
            return_intermediate=return_intermediate,
        )

    def add_noise(self, x: Any, t: Any, noise: Any = None) -> Any:
        """Return alpha_t x + sigma_t noise.

        Args:
            x: data, shape (B, …).
            t: times, shape (n,), or one.
            noise: standard normals of shape (n, B, …), or (B, …) for one time; by default drawn from the framework's own generator.

        Returns:
            An array (n, B, …), or (B, …) for one time.
        """
        times, backend = np.atleast_1d(to_host(t)), backends.of(x)
        shape = (len(times), *x.shape)
        if noise is None:
            drawn = hasattr(x, "new_empty")
            noise = x.new_empty(shape).normal_() if drawn else _normals(backend, shape, x)
        each = backend.xp.broadcast_to(noise, shape)
        made = [add_noise(self.noise_schedule.ours, x, each[k], time) for k, time in enumerate(times.tolist())]
        return made[0] if len(made) == 1 else concatenate([one[None] for one in made])

    def noise_prediction_fn(self, x: Any, t: Any) -> Any:
        """Return the predicted noise at times t, one or one per sample."""
        return self._denoiser(x, corrected=False).at(x, one_or_each(t), "noise")

    def data_prediction_fn(self, x: Any, t: Any) -> Any:
        """Return the predicted x_0 at times t, one or one per sample, corrected by `correcting_x0_fn`."""
        return self._denoiser(x, corrected=True).at(x, one_or_each(t), "data")

    def model_fn(self, x: Any, t: Any) -> Any:
        """Return what the algorithm integrates: the predicted x_0 of dpmsolver++, the predicted noise of dpmsolver."""
        return self.data_prediction_fn(x, t) if self._prediction == "data" else self.noise_prediction_fn(x, t)

    def denoise_to_zero_fn(self, x: Any, s: Any) -> Any:
        """Return the predicted x_0 at time s: the step of first order from there to clean data."""
        return self.data_prediction_fn(x, s)

    def dynamic_thresholding_fn(self, x0: Any, t: Any = None) -> Any:
        """Return x_0 after dynamic thresholding."""
        return dynamic(self.dynamic_thresholding_ratio, self.thresholding_max_val)(x0, Point(0.0, 0.0, 1.0, 0.0))

    def _span(self, t_start: float | None, t_end: float | None) -> tuple[float, float]:
        """The times of a run, checked."""
        times = []
        defaults = (("t_start", t_start, self.noise_schedule.T), ("t_end", t_end, 1.0 / self.noise_schedule.total_N))
        for name, given, default in defaults:
            time = one_time(self.noise_schedule.ours, name, default if given is None else one_or_each(given))
            if time == 0.0:
                raise PlanError(f"{name} must be > 0, got 0: give denoise_to_zero=True for a run to clean data")
            times.append(time)
        if times[0] == times[1]:
            raise PlanError(f"a run needs two different times, got t_start={times[0]:.6g} and t_end={times[1]:.6g}")
        return times[0], times[1]

    def _denoiser(self, x: Any, corrected: bool) -> Denoiser:
        """The denoiser for a state; a network that nobody knows the type of is given what the caller's x is."""
        if self._plain is None:
            raise PlanError(
                "this DPM_Solver was made with model_fn=None, which can add noise and no more: give it a model_fn"
            )
        name, denoiser = str(x.dtype).rpartition(".")[2], self._plain
        if name in ("float16", "bfloat16") and denoiser.dtype is None:
            denoiser = denoiser.replace(dtype=name)
        return denoiser.replace(data_hook=self._hook) if corrected and self.correcting_x0_fn is not None else denoiser

    def _hook(self, x0: Any, point: Point) -> Any:
        if self.correcting_x0_fn == "dynamic_thresholding":
            return self.dynamic_thresholding_fn(x0)
        assert callable(self.correcting_x0_fn)
        return self.correcting_x0_fn(x0, _array(point.time, x0))

    def _states(self, x: Any, planned: OfficialPlan, all_of_them: bool) -> list[Any]:
        """The states after each step, or the last one alone."""
        denoiser, plan = self._denoiser(x, corrected=self._prediction == "data"), planned.plan
        hook = None if self.correcting_xt_fn is None else _Correction(self.correcting_xt_fn, planned)
        if not all_of_them:
            return [sample(denoiser, x, plan=plan, state_hook=hook)]
        shown = planned.step_at
        return [state.x for state in iterate(denoiser, x, plan=plan, state_hook=hook) if state.index in shown]


class _Correction:
    """`correcting_xt_fn` as the state hook of one run: it counts the evaluations, and corrects where a step has ended."""

    def __init__(self, function: Callable[[Any, Any, int], Any], planned: OfficialPlan) -> None:
        self.function, self.steps, self.number = function, planned.step_at, -1

    def __call__(self, x: Any, point: Point) -> Any:
        self.number += 1
        if self.number not in self.steps:
            return x
        return self.function(x, _array(point.time, x), self.steps[self.number])


def _array(time: Any, like: Any) -> Any:
    """A time, or one per sample, as an array of the state's framework, type and device."""
    return backends.of(like).from_numpy(np.asarray(time, dtype=np.float64), like)


def _normals(backend: backends.Backend, shape: tuple[int, ...], like: Any) -> Any:
    return backend.from_numpy(np.random.default_rng().standard_normal(shape), like)
