"""Plans: a sampling run as a table of coefficients, the loop that executes it, and the exact law of its result for Gaussian data."""
