"""Plans: a sampling run as a table of coefficients, the loop that executes it, and its exact law for Gaussian data."""
