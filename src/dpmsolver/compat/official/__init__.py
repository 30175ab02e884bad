"""The interface of the official DPM-Solver code, on plans: `NoiseScheduleVP`, `model_wrapper` and `DPM_Solver`.

A script of LuChengTHU/dpm-solver only changes its import:

    from dpmsolver.compat.official import NoiseScheduleVP, model_wrapper, DPM_Solver

The three translate to a schedule of this library, a `Denoiser`, a `Plan`, and the loop that all samplers share. In float64 the trajectories
are those of the official code; docs/research-code.md lists the differences.

Source: github.com/LuChengTHU/dpm-solver, dpm_solver_pytorch.py at commit 52bc3fb, and the older copies in its examples.
"""

from __future__ import annotations

from dpmsolver.compat.official.schedule import NoiseScheduleVP
from dpmsolver.compat.official.solver import DPM_Solver
from dpmsolver.compat.official.wrapper import model_wrapper

__all__ = ["DPM_Solver", "NoiseScheduleVP", "model_wrapper"]
