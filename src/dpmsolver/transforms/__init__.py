"""Transforms: from a plan to a better or cheaper plan, whatever solver made it. Pure functions; no network is evaluated.

`analytic_first_step` saves the first evaluation, `denoise_to_zero` adds one that ends at the data, `richardson` and `extrapolate` raise
the order by combining two solutions, `order_ramp` lowers it where a run is better off with fewer outputs. Where several are taken,
`order_ramp` and `extrapolate` come before `analytic_first_step`.

The first four follow a run of the plan with its combinations in place of arrays: what stands for x at any moment is a Combination of
the state that was committed last, of outputs and of noise.
"""

from dpmsolver.transforms.ends import analytic_first_step, denoise_to_zero
from dpmsolver.transforms.extrapolation import extrapolate, richardson
from dpmsolver.transforms.orders import order_ramp

__all__ = ["analytic_first_step", "denoise_to_zero", "extrapolate", "order_ramp", "richardson"]
