"""Solvers: pure functions from a schedule and a grid to a Plan, and the registry that names them."""

from dpmsolver.solvers.ddim import ddim
from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.multistep import multistep
from dpmsolver.solvers.registry import SOLVERS, Solver, make_plan, solvers
from dpmsolver.solvers.singlestep import fast_orders, singlestep

__all__ = [
    "SOLVERS",
    "Solver",
    "ddim",
    "exponential_step",
    "fast_orders",
    "make_plan",
    "multistep",
    "singlestep",
    "solvers",
]
