"""Noise schedules: how much signal and how much noise a state holds at each time.

The forward process is x_t = alpha(t) x_0 + sigma(t) eps. Solvers use the half-log-SNR lambda(t) = log(alpha/sigma), which falls with t;
`time` is its inverse. Everything is computed in float64 on the host, by formulas that are accurate at both ends of the range (the naive
log(alpha) - log(sqrt(1 - alpha^2)) in float32 is off by 6e-3 at t = 1e-5).

Every schedule is immutable and has a range: the network can be evaluated at times in [t_min, t_max]. Time 0 is clean data (alpha = 1,
sigma = 0, lambda = inf) in every schedule. It lies outside the range, but a run may end there. A schedule may start at pure noise
(alpha = 0, lambda = -inf). Solvers handle both as limits.
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
