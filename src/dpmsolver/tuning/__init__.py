"""Tuning: the plan that fits a network, from forward passes alone.

A plan is a table of numbers, so it can be fitted: `select` measures the presets on the network, `tune` fits the coefficients and the times
of a plan to the network's converged trajectories, and keeps the fitted plan only where noises that it has never seen prefer it.
"""
