"""`NoiseScheduleVP`: the interface of the official schedule, on a schedule of this library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver import backends
from dpmsolver.errors import PlanError, unknown
from dpmsolver.host import to_host
from dpmsolver.schedules import CosineVP, Discrete, LinearVP, NoiseSchedule

__all__ = ["NoiseScheduleVP"]

_LOWEST = -5.1  # half-log-SNR below which the official code drops training steps
_SHORTEST = 1e-8  # time down to which a continuous schedule can be asked


class NoiseScheduleVP:
    """The noise schedule of a variance-preserving model, with the official code's names.

    Args:
        schedule: "discrete" for a model trained on steps 0 … N-1, "linear" for ScoreSDE's continuous VP process, "cosine" for the
            continuous cosine process (in the copies of the official code's examples).
        betas, alphas_cumprod: the numbers of a discrete schedule, one of the two, arrays of shape (N,). Steps with a half-log-SNR below
            -5.1 are dropped, and time 1 is the last remaining step.
        continuous_beta_0, continuous_beta_1: the betas of the linear schedule.
        dtype: accepted and ignored: the schedule is float64 for every state.

    Attributes:
        schedule, T, total_N, beta_0, beta_1: as in the official code. `total_N` counts the remaining steps.
        ours: the same schedule as a `dpmsolver.schedules.NoiseSchedule`.
        label_scale: the factor 1000/N; a network of a discrete schedule takes label_scale times the step.

    Raises:
        PlanError: the schedule is unknown, or a discrete one lacks its numbers. ValueError: the betas do not make alpha fall.

    Examples:
        >>> import numpy as np
        >>> schedule = NoiseScheduleVP("linear", continuous_beta_0=0.1, continuous_beta_1=20.0)
        >>> schedule.T, schedule.total_N, round(float(schedule.marginal_lambda(np.array(0.5))), 4)
        (1.0, 1000, -1.2276)
    """

    def __init__(
        self,
        schedule: str = "discrete",
        betas: ArrayLike | None = None,
        alphas_cumprod: ArrayLike | None = None,
        continuous_beta_0: float = 0.1,
        continuous_beta_1: float = 20.0,
        dtype: Any = None,
    ) -> None:
        if schedule not in ("discrete", "linear", "cosine"):
            raise PlanError(unknown("schedule", schedule, ("discrete", "linear", "cosine")))
        self.schedule, self.T, self.total_N, self.label_scale = schedule, 1.0, 1000, 1.0
        self.ours: NoiseSchedule
        if schedule == "discrete":
            full = _full(betas, alphas_cumprod)
            kept = _clipped(full)
            self.ours, self.total_N, self.label_scale = kept, kept.num_steps, 1000.0 / full.num_steps
        elif schedule == "linear":
            self.beta_0, self.beta_1 = float(continuous_beta_0), float(continuous_beta_1)
            self.ours = LinearVP(beta_min=self.beta_0, beta_max=self.beta_1, t_min=_SHORTEST)
        else:
            self.ours = CosineVP(t_min=_SHORTEST)
            self.T = self.ours.t_max

    def marginal_log_mean_coeff(self, t: Any) -> Any:
        """Return log alpha at times t, an array of t's shape and framework."""
        return self._of(t, lambda times: np.log(self.ours.alpha(times)))

    def marginal_alpha(self, t: Any) -> Any:
        """Return alpha at times t, an array of t's shape and framework."""
        return self._of(t, self.ours.alpha)

    def marginal_std(self, t: Any) -> Any:
        """Return sigma at times t, an array of t's shape and framework."""
        return self._of(t, self.ours.sigma)

    def marginal_lambda(self, t: Any) -> Any:
        """Return the half-log-SNR at times t, an array of t's shape and framework."""
        return self._of(t, self.ours.half_log_snr)

    def inverse_lambda(self, lamb: Any) -> Any:
        """Return the times at which the half-log-SNR is lamb, an array of its shape and framework."""
        return self._of(lamb, self.ours.time)

    def network_label(self, label: float) -> float:
        """Return the label that the network takes for a label of `ours`: 1000/N times the step, or the continuous time itself."""
        return self.label_scale * label

    def _of(self, values: Any, function: Callable[[Any], Any]) -> Any:
        found = np.asarray(function(to_host(values)))
        if isinstance(values, (int, float, list, tuple)):
            return found if found.ndim else float(found)
        return backends.of(values).from_numpy(found, values)

    def __repr__(self) -> str:
        return f"NoiseScheduleVP({self.schedule!r}, ours={self.ours!r})"


def _full(betas: ArrayLike | None, alphas_cumprod: ArrayLike | None) -> Discrete:
    """The whole discrete schedule; betas count where both are given."""
    if betas is not None:
        return Discrete(betas=betas)
    if alphas_cumprod is None:
        raise PlanError("a discrete schedule needs its numbers: give betas, or alphas_cumprod, of shape (N,)")
    return Discrete(alphas_cumprod=alphas_cumprod)


def _clipped(full: Discrete) -> Discrete:
    """The schedule without the steps whose half-log-SNR is below -5.1; the times of those that are left end at 1."""
    times = np.arange(1, full.num_steps + 1) / full.num_steps
    kept = times[full.half_log_snr(times) >= _LOWEST]
    if len(kept) == full.num_steps:
        return full
    if len(kept) < 2:
        raise PlanError(
            f"fewer than 2 of {full.num_steps} steps have a half-log-SNR of -5.1 or more: are the betas of another model?"
        )
    return Discrete(alphas_cumprod=full.alpha(kept) ** 2)
