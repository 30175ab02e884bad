"""phi-functions, and the weights of polynomials under an exponential.

The exact solution of the diffusion ODE over one step is an integral of the network's output against e^{p lambda}. Put
lambda = lambda_s + c h with c in [0, 1]; then, with z = -p h,

    x_t = (linear part) + p * scale_t * h * int_0^1 e^{z (1 - c)} m(c) dc,
    scale_t = alpha_t (p = 1) or sigma_t (p = -1).

When m is the polynomial through the outputs m_i at the nodes c_i, the integral is a fixed linear combination of the m_i, whose
weights are made of phi-functions, because int_0^1 e^{z (1 - c)} c^j dc = j! phi_{j+1}(z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["exponential_moments", "phi", "polynomial_weights"]

# Where the series hands over to the recurrence. For k <= 4 the series is good to 2e-15 relative, and so is the recurrence but for a
# worst of 4e-15 just above |z| = 1 (k = 4; see tests/test_phi.py). Below, the recurrence loses about k digits for every factor of ten;
# above, the series needs more terms.
SERIES_RADIUS = 1.0
_SERIES_TERMS = 20  # 1/20! = 4e-19: below float64's resolution at |z| = 1


def phi(k: int, z: float) -> float:
    """Return phi_k(z), where phi_0(z) = e^z and phi_{k+1}(z) = (phi_k(z) - 1/k!) / z.

    It is accurate to a few units in the last place for every finite z (the recurrence itself loses all digits near z = 0), and gives the
    limit 0 for z = -inf and k >= 1.

    Args:
        k: index, an integer >= 0.
        z: the (dimensionless) argument: minus or plus the step in half-log-SNR.

    Examples:
        >>> phi(1, 0.0), phi(2, 0.0)
        (1.0, 0.5)

    Source: Hochbruck & Ostermann, "Exponential integrators", Acta Numerica 2010, eq. 2.9-2.11; DPM-Solver, appendix B.
    """
    if k < 0:
        raise ValueError(f"k must be an integer >= 0, got {k}")
    if z == -math.inf:
        return 0.0
    if abs(z) <= SERIES_RADIUS:
        term = total = 1.0 / math.factorial(k)
        for j in range(1, _SERIES_TERMS):
            term *= z / (j + k)
            total += term
        return total
    value = math.exp(z) if k == 0 else math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1.0 / math.factorial(j)) / z
    return value


def exponential_moments(z: float, count: int) -> list[float]:
    """Return the integrals int_0^1 e^{z (1 - c)} c^j dc = j! phi_{j+1}(z) for j = 0 … count-1.

    Examples:
        >>> exponential_moments(0.0, 3) == [1.0, 1 / 2, 1 / 3]
        True
    """
    return [math.factorial(j) * phi(j + 1, z) for j in range(count)]


def polynomial_weights(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """Return weights w_i with sum_i w_i m(c_i) = sum_j a_j moments[j] for every polynomial m(c) = sum_j a_j c^j through the nodes c_i.

    With `moments = exponential_moments(z, len(nodes))` they integrate the interpolating polynomial exactly; other moments give the
    quadratures that were published with a truncated exponential.

    Args:
        nodes: distinct positions c_i in units of the step (0 is its start, 1 its end; negative for earlier outputs).
        moments: the integral of each power c^j, one per node.

    Raises:
        ValueError: two nodes coincide, or the number of moments differs from the number of nodes.

    Examples:
        >>> polynomial_weights([0.0, 1.0], [1.0, 0.5])  # the trapezoidal rule
        [0.5, 0.5]
    """
    if len(nodes) != len(moments):
        raise ValueError(f"one moment per node is needed, got {len(moments)} moments for {len(nodes)} nodes")
    if len(set(nodes)) != len(nodes):
        raise ValueError(f"nodes must be distinct, got {list(nodes)}")
    if len(nodes) == 1:
        return [float(moments[0])]
    vandermonde = np.vander(np.asarray(nodes, dtype=np.float64), increasing=True)
    return [float(w) for w in np.linalg.solve(vandermonde.T, np.asarray(moments, dtype=np.float64))]
