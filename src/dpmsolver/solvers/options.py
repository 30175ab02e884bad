"""Options that several families of solvers share."""

from dpmsolver.option import Option

__all__ = ["ETA", "LOWER_ORDER_FINAL", "LOWER_QUADRATURE", "QUADRATURE", "R1", "R2", "RAMP", "STATISTICS", "S_NOISE"]

ETA = Option("eta", "a number", "the strength of the noise: 0 is the ODE, 1 the reverse SDE")
S_NOISE = Option("s_noise", "a number", "a factor of the noise; other values than 1 leave the marginals")
R1 = Option(
    "r1", "a number", "where the first stage lies in a step of log-SNR; None is the paper's place", or_none=True
)
R2 = Option("r2", "a number", "where the second stage lies; None is the paper's place", or_none=True)
QUADRATURE = Option("quadrature", "a word", "how a step of several outputs is integrated: 'published' or 'exact'")
LOWER_QUADRATURE = Option(
    "lower_quadrature", "a word", "the same for the steps of lower order; None is as the others", or_none=True
)
LOWER_ORDER_FINAL = Option("lower_order_final", "True or False", "whether the order falls to 1 at the end of the run")
RAMP = Option(
    "ramp", "numbers in a sequence", "the order of every step; None rises from 1 to the solver's order", or_none=True
)
STATISTICS = Option("statistics", "an object", "dpm.calibrate(denoiser, x0), measured on the network", or_none=True)
