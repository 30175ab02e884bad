"""Solvers: pure functions from a schedule and a grid to a plan, and the registry of their names."""

import sys
from types import ModuleType

from dpmsolver.solvers.exponential import exponential_step
from dpmsolver.solvers.registry import SOLVERS, make_plan, solvers
from dpmsolver.solvers.singlestep import fast_orders
from dpmsolver.solvers.solver import Solver

__all__ = ["SOLVERS", "Solver", "exponential_step", "fast_orders", "make_plan", "solvers"]


class _Callable(ModuleType):
    """The package, which lists the solvers when it is called: `dpm.solvers()` and `dpm.solvers.Solver` are one name."""

    def __call__(self) -> dict[str, str]:
        return solvers()


sys.modules[__name__].__class__ = _Callable
