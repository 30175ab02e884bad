"""Transforms: functions from a plan to a better or cheaper plan, for the plans of any solver. They evaluate no network.

`analytic_first_step` saves the first evaluation, `denoise_to_zero` adds one that ends at the data, `richardson` and `extrapolate` raise the
order by combining two solutions, and `order_ramp` lowers it in chosen rows. To combine them, apply `order_ramp` and `extrapolate` before
`analytic_first_step`.

The first four follow a run of the plan with combinations in place of arrays: x at any moment is a `Combination` of the state that was
committed last, of outputs and of noise.
"""

from dpmsolver.transforms.ends import analytic_first_step, denoise_to_zero
from dpmsolver.transforms.extrapolation import extrapolate, richardson
from dpmsolver.transforms.orders import order_ramp

__all__ = ["analytic_first_step", "denoise_to_zero", "extrapolate", "order_ramp", "richardson"]
