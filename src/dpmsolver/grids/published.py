"""Grids that were optimised for one model and published as a table of noise levels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dpmsolver.errors import PlanError
from dpmsolver.grids.ends import either_way
from dpmsolver.host import to_host
from dpmsolver.option import Option, takes
from dpmsolver.schedules import Floats, NoiseSchedule

__all__ = ["AYS_SD15", "AYS_SDXL", "AYS_SVD", "ays_sd15", "ays_sdxl", "ays_svd", "interpolated"]

# Align Your Steps (Sabour et al. 2024, arXiv 2404.14507), table 3: sigma/alpha at the knots of 10 steps.
AYS_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
AYS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
AYS_SVD = (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)

_SAME = 0.02  # in log sigma: the last figure of a table (0.029) is rounded by up to 1.7%


@takes(Option("sigmas", "numbers in a sequence", "the table of sigma/alpha, falling"))
@either_way
def interpolated(schedule: NoiseSchedule, steps: int, start: float, end: float, sigmas: ArrayLike) -> Floats:
    """Return times on a table of noise levels sigma/alpha, for any number of steps, by log-linear interpolation.

    The first and the last level of the table stand for the start and the end of a whole run. A run that starts or ends inside the table
    (image-to-image) takes the part of the table between its ends, in even steps of the table's index. If a run starts at alpha = 0 or ends
    at sigma = 0, where the logarithm is infinite, the table's own first or last level is used for the interpolation (or the schedule's last
    time, if that comes first), and this time is then moved to the limit; the times between are the published ones. A rising grid is the
    falling one in reverse order.

    Args:
        sigmas: the table, at least two falling levels, such as those of a paper or of your own search.

    Raises:
        PlanError: the levels are not positive and strictly falling, or a run lies on one side of the table and ends in a limit.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> interpolated(EDM(), 4, 16.0, 1.0, sigmas=[16.0, 4.0, 1.0])
        array([16.,  8.,  4.,  2.,  1.])
    """
    table = to_host(sigmas)
    if table.ndim != 1 or len(table) < 2 or not (np.isfinite(table) & (table > 0)).all() or (np.diff(table) >= 0).any():
        raise PlanError(f"sigmas must be at least two positive, strictly falling noise levels, got {sigmas!r}")
    if steps == 1:
        return np.array([start, end])
    levels = -np.log(table)
    first, last = (float(schedule.half_log_snr(t)) for t in (start, end))
    first = levels[0] if math.isinf(first) else first
    last = min(levels[-1], float(schedule.half_log_snr(schedule.t_min))) if math.isinf(last) else last
    if first < levels[0] + _SAME:
        levels[0] = first
    if last > levels[-1] - _SAME:
        levels[-1] = last
    index = np.arange(len(levels), dtype=np.float64)
    low, high = np.interp([first, last], levels, index)
    if not low < high:
        raise PlanError(
            f"the table from sigma/alpha = {table[0]} to {table[-1]} has no knots between t={start} and t={end}: take grid='logsnr'"
        )
    between = np.interp(np.linspace(low, high, steps + 1)[1:-1], index, levels)
    return np.concatenate([[start], schedule.time(between), [end]])


def ays_sd15(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return the times of Align Your Steps for Stable Diffusion 1.5 (Sabour et al. 2024, arXiv 2404.14507, table 3), by `interpolated`.

    Examples:
        >>> from dpmsolver.schedules import Discrete, scaled_linear_betas
        >>> schedule = Discrete(betas=scaled_linear_betas())
        >>> times = ays_sd15(schedule, 10, schedule.t_max, schedule.t_min)
        >>> (schedule.sigma(times) / schedule.alpha(times)).round(3)
        array([14.615,  6.475,  3.861,  2.697,  1.886,  1.396,  0.963,  0.652,
                0.399,  0.152,  0.029])
    """
    return interpolated(schedule, steps, start, end, sigmas=AYS_SD15)


def ays_sdxl(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return the times of Align Your Steps for Stable Diffusion XL (Sabour et al. 2024, arXiv 2404.14507, table 3), by `interpolated`.

    Examples:
        >>> from dpmsolver.schedules import Discrete, scaled_linear_betas
        >>> schedule = Discrete(betas=scaled_linear_betas())
        >>> times = ays_sdxl(schedule, 4, schedule.t_max, schedule.t_min)
        >>> (schedule.sigma(times) / schedule.alpha(times)).round(2)
        array([14.61,  2.87,  0.86,  0.3 ,  0.03])
    """
    return interpolated(schedule, steps, start, end, sigmas=AYS_SDXL)


def ays_svd(schedule: NoiseSchedule, steps: int, start: float, end: float) -> Floats:
    """Return the times of Align Your Steps for Stable Video Diffusion (Sabour et al. 2024, arXiv 2404.14507, table 3), by `interpolated`.

    The model's own schedule is `EDM(sigma_min=0.002, sigma_max=700.0)`.

    Examples:
        >>> from dpmsolver.schedules import EDM
        >>> [round(float(sigma), 3) for sigma in ays_svd(EDM(sigma_max=700.0), 4, 700.0, 0.002)]
        [700.0, 11.257, 1.789, 0.264, 0.002]
    """
    return interpolated(schedule, steps, start, end, sigmas=AYS_SVD)
