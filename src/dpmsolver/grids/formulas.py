"""Grids given by one formula, in log-SNR, in the noise level sigma/alpha or in time."""

from __future__ import annotations

import math

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.grids.ends import between_limits, either_way, pinned
from dpmsolver.option import Option, takes
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = [
    "beta",
    "cosine",
    "karras",
    "kl_optimal",
    "linear_quadratic",
    "logsnr",
    "polyexponential",
    "quadratic",
    "rectified",
    "sigma",
    "time",
]


@between_limits
def logsnr(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times uniform in half-log-SNR: the grid of DPM-Solver (section 3.4), and k-diffusion's "exponential" sigmas.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> logsnr(EDM(), 3, 8.0, 1.0).round(6)
        array([8., 4., 2., 1.])
    """
    return _from_half_log_snr(
        schedule, np.linspace(schedule.half_log_snr(start), schedule.half_log_snr(end), steps + 1), start, end
    )


@takes(Option("rho", "a number", "the power: 1 is equal steps, more puts more steps at low noise"))
@either_way
@between_limits
def polyexponential(schedule: NoiseSchedule, steps: int, start: float, end: float, rho: float = 1.0) -> Floats:
    """Return times whose half-log-SNR is (1 - i/steps)^rho of the way from end to start: k-diffusion's "polyexponential" sigmas.

    rho = 1 is `logsnr`; rho > 1 puts more steps at low noise. A rising grid is the falling one in reverse order.

    Raises:
        PlanError: rho is not positive.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> polyexponential(EDM(), 2, 16.0, 0.01, rho=2.0).round(4)
        array([1.60e+01, 6.32e-02, 1.00e-02])
    """
    _positive("rho", rho)
    low, high = (float(schedule.half_log_snr(t)) for t in (start, end))
    return _from_half_log_snr(schedule, high + (low - high) * np.linspace(1.0, 0.0, steps + 1) ** rho, start, end)


@takes(Option("rho", "a number", "the root of sigma/alpha in which steps are equal"))
@between_limits
def karras(schedule: NoiseSchedule, steps: int, start: float, end: float, rho: float = 7.0) -> Floats:
    """Return times uniform in (sigma/alpha)^(1/rho): the grid of EDM (Karras et al. 2022, arXiv 2206.00364, eq. 5).

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> [round(float(t), 3) for t in karras(EDM(), 3, 80.0, 0.002)]
        [80.0, 9.723, 0.47, 0.002]
    """
    _positive("rho", rho)
    low, high = (math.exp(-float(schedule.half_log_snr(t)) / rho) for t in (start, end))
    return _from_half_log_snr(schedule, -rho * np.log(np.linspace(low, high, steps + 1)), start, end)


@between_limits
def kl_optimal(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times uniform in arctan(sigma/alpha), densest where alpha and sigma are equal: AUTOMATIC1111's and ComfyUI's "kl_optimal".

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> kl_optimal(EDM(), 3, 4.0, 0.25).round(3)
        array([4.   , 1.445, 0.692, 0.25 ])

    Source: Sabour et al. 2024, arXiv 2404.14507, where it is the optimum for normal data of variance 1.
    """
    low, high = (math.atan(math.exp(-float(schedule.half_log_snr(t)))) for t in (start, end))
    return _from_half_log_snr(schedule, -np.log(np.tan(np.linspace(low, high, steps + 1))), start, end)


def sigma(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times uniform in the noise level sigma/alpha: `karras` with rho = 1.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> sigma(EDM(), 4, 9.0, 1.0)
        array([9., 7., 5., 3., 1.])
    """
    return karras(schedule, steps, start, end, rho=1.0)


def rectified(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times uniform in sigma/(alpha + sigma), the position on the straight path from data (0) to noise (1).

    It is uniform in time on `Flow()`, and azula's rectified schedule on every other one. It is finite at alpha = 0 and at sigma = 0.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> rectified(EDM(), 3, 4.0, 0.25)
        array([4.        , 1.5       , 0.66666667, 0.25      ])
    """
    return _on_path(schedule, np.linspace(0.0, 1.0, steps + 1), start, end)


@takes(Option("threshold", "a number", "how far the even half of the steps goes, as a part of the way"))
@either_way
def linear_quadratic(schedule: NoiseSchedule, steps: int, start: float, end: float, threshold: float = 0.025) -> Floats:
    """Return times that first take even small steps at high noise, for half of the steps, and then follow a parabola to the end.

    The parabola continues the slope of the even steps. Steps are taken in the position of `rectified`, which is sigma on a flow. This is
    the grid of Mochi, and ComfyUI's "linear_quadratic" on flows. A rising grid is the falling one in reverse order.

    Raises:
        PlanError: the threshold lies outside (0, 1), or is so large that the parabola would not fall.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> linear_quadratic(Flow(), 4, 1.0, 0.0).round(4)
        array([1.    , 0.9875, 0.975 , 0.725 , 0.    ])

    Source: genmo, mochi_preview/infer.py, linear_quadratic_schedule.
    """
    even = steps // 2
    if not 0.0 < threshold < 1.0 or (
        even and 2.0 * threshold * (steps - even) > 2.0 * even * (1.0 - threshold) + 1e-12
    ):
        raise PlanError(f"threshold must be above 0 and small enough for {steps} steps, as 0.025, got {threshold}")
    if not even:
        return np.array([start, end])
    beyond = np.arange(1, steps - even + 1) / (steps - even)
    slope = threshold * (steps - even) / even
    parabola = threshold + slope * beyond + (1.0 - threshold - slope) * beyond**2
    return _on_path(schedule, np.append(np.arange(even + 1) * (threshold / even), parabola), start, end)


def _on_path(schedule: NoiseSchedule, fractions: Floats, start: float, end: float) -> Floats:
    """Times at fractions of the way from start to end, in sigma/(alpha + sigma)."""
    ends = np.array([start, end])
    alpha, sigma = schedule.alpha(ends), schedule.sigma(ends)

    def between(part: Floats) -> Floats:
        from_share, to_share = part / (alpha + sigma)
        values: Floats = from_share + (to_share - from_share) * fractions
        values[-1] = to_share
        return values

    signal, noise = between(alpha), between(sigma)
    # Below the first time of the schedule the place goes to 0 as the time does.
    first = 1.0 / (1.0 + math.exp(float(schedule.half_log_snr(schedule.t_min))))
    inside = noise >= first
    times = schedule.t_min * noise / first
    with np.errstate(divide="ignore"):
        times[inside] = schedule.time(np.log(signal[inside] / noise[inside]))
    return pinned(times, start, end)


def time(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times uniform between start and end.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> time(Flow(), 4, 1.0, 0.0)
        array([1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    return np.linspace(start, end, steps + 1)


def quadratic(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times uniform in the square root of time (DDIM, arXiv 2010.02502, appendix D.3).

    Examples:
        >>> from dpmsolver.schedules import LinearVP
        >>> quadratic(LinearVP(), 3, 1.0, 0.01).round(6)
        array([1.  , 0.49, 0.16, 0.01])
    """
    return pinned(np.linspace(math.sqrt(start), math.sqrt(end), steps + 1) ** 2, start, end)


@either_way
def cosine(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return times on a quarter of a cosine, t_i = end + (start - end) cos(pi/2 i/steps): dense at the noisy end.

    These are the "cosine" time steps of flow matching for speech (Du et al. 2024, arXiv 2407.05407), whose time runs the other way:
    1 - cos(pi/2 u). A rising grid is the falling one in reverse order. For half a cosine, dense at both ends, use `beta` with a = b = 0.5.

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> cosine(Flow(), 3, 1.0, 0.0).round(3)
        array([1.   , 0.866, 0.5  , 0.   ])
    """
    quarter = np.cos(0.5 * math.pi * np.linspace(0.0, 1.0, steps + 1))
    return pinned(end + (start - end) * quarter, start, end)


@takes(
    Option("a", "a number", "below 1 the steps are dense at the clean end"),
    Option("b", "a number", "below 1 the steps are dense at the noisy end"),
)
def beta(schedule: NoiseSchedule, steps: int, start: float, end: float, a: float = 0.6, b: float = 0.6) -> Floats:
    """Return times at the quantiles of a Beta(a, b) distribution, dense at both ends for a, b < 1 (Lee et al. 2024, arXiv 2407.12173).

    Examples:
        >>> from dpmsolver.schedules import Flow
        >>> beta(Flow(), 4, 1.0, 0.0).round(3)
        array([1.   , 0.824, 0.5  , 0.176, 0.   ])
    """
    if not (a > 0 and b > 0):
        raise PlanError(f"a and b must be positive, got a={a}, b={b}")
    from scipy.special import betaincinv  # here, because it is slow to import

    quantiles = betaincinv(a, b, np.linspace(1.0, 0.0, steps + 1))
    return pinned(end + (start - end) * quantiles, start, end)


def _from_half_log_snr(schedule: NoiseSchedule, half_log_snr: Floats, start: float, end: float) -> Floats:
    return pinned(np.asarray(schedule.time(half_log_snr)), start, end)


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise PlanError(f"{name} must be positive and finite, got {value}")
