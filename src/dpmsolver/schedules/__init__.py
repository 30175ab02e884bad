"""Noise schedules: how much signal and how much noise a state holds at each time.

The forward process is x_t = alpha(t) x_0 + sigma(t) eps. What solvers use is the half-log-SNR lambda(t) = log(alpha/sigma), which
falls with t; `time` is its inverse. All of it is float64 on the host, in forms that keep their digits at both ends (the naive
log(alpha) - log(sqrt(1 - alpha^2)) in float32 is off by 6e-3 at t = 1e-5).

Every schedule is frozen and knows its range: network evaluations lie in [t_min, t_max]. Time 0 is the clean data (alpha = 1,
sigma = 0, lambda = inf) for every schedule and is accepted beside the range: a run may end there. A schedule may start at pure noise
(alpha = 0, lambda = -inf); both are limits that the solvers take, not NaN.
"""

from __future__ import annotations

from dpmsolver.schedules.base import Floats, NoiseSchedule
from dpmsolver.schedules.continuous import EDM, CosineVP, Flow, LinearVP, SubVP
from dpmsolver.schedules.custom import Custom
from dpmsolver.schedules.discrete import Discrete, scaled_linear_betas

__all__ = [
    "EDM",
    "CosineVP",
    "Custom",
    "Discrete",
    "Floats",
    "Flow",
    "LinearVP",
    "NoiseSchedule",
    "SubVP",
    "scaled_linear_betas",
]
