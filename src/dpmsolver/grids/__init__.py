"""Grids: where the steps of a run go.

A grid is a function (schedule, steps, start, end) -> times. It returns float64 times of shape (steps + 1,), strictly monotone from `start`
to `end`. `start` and `end` are times; end = 0 is clean data. The grid and the solver are chosen independently of each other. A grid that is
uniform in log-SNR cannot reach an infinite log-SNR: it covers the finite range, and one more step leads to the limit.

A grid of your own is an array of times, or a function with this signature; the decorator `@dpmsolver.option.takes(…)` declares its options.
`gits` computes a grid from measurements on your model.
"""

from dpmsolver.grids.diffusers_spacing import leading, linspace, trailing
from dpmsolver.grids.formulas import (
    beta,
    cosine,
    karras,
    kl_optimal,
    linear_quadratic,
    logsnr,
    polyexponential,
    quadratic,
    rectified,
    sigma,
    time,
)
from dpmsolver.grids.published import AYS_SD15, AYS_SDXL, AYS_SVD, ays_sd15, ays_sdxl, ays_svd, interpolated
from dpmsolver.grids.registry import (
    GRIDS,
    SOURCES,
    AnyGrid,
    Grid,
    are_times,
    check_times,
    default_grid,
    from_labels,
    from_sigmas,
    make_grid,
)
from dpmsolver.grids.shifts import dynamic_shift, shifted
from dpmsolver.grids.training_steps import normal, sgm_uniform, simple
from dpmsolver.grids.trajectory import gits, gits_costs

__all__ = [
    "AYS_SD15",
    "AYS_SDXL",
    "AYS_SVD",
    "GRIDS",
    "SOURCES",
    "AnyGrid",
    "Grid",
    "are_times",
    "ays_sd15",
    "ays_sdxl",
    "ays_svd",
    "beta",
    "check_times",
    "cosine",
    "default_grid",
    "dynamic_shift",
    "from_labels",
    "from_sigmas",
    "gits",
    "gits_costs",
    "interpolated",
    "karras",
    "kl_optimal",
    "leading",
    "linear_quadratic",
    "linspace",
    "logsnr",
    "make_grid",
    "normal",
    "polyexponential",
    "quadratic",
    "rectified",
    "sgm_uniform",
    "shifted",
    "sigma",
    "simple",
    "time",
    "trailing",
]
