"""Runs: a plan, a network and x_T brought together, driven by the library, by the caller, or by an adaptive step size."""
