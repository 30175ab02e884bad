"""Plans: a sampling run as a table of coefficients, the loop that executes it, and the exact law of its result for Gaussian data.

A function that makes plans, such as a solver of your own, needs four names:

    from dpmsolver.plans import Combination, Plan, Point, Row
"""

from dpmsolver.plans.combination import Combination
from dpmsolver.plans.plan import Plan
from dpmsolver.plans.rows import Point, Row

__all__ = ["Combination", "Plan", "Point", "Row"]
