"""Solvers: pure functions from a schedule and a grid to a Plan, and the registry that names them."""

from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.registry import SOLVERS, make_plan, solvers
from dpmsolver.solvers.singlestep import fast_orders
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "Solver", "exponential_step", "fast_orders", "make_plan", "solvers"]
