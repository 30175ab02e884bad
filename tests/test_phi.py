"""phi-functions against 60 digits, and the quadrature weights that are made of them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmsolver import phi as module
from dpmsolver.phi import SERIES_RADIUS, exponential_moments, phi, polynomial_weights

MAGNITUDES = np.concatenate([np.logspace(-12, 2, 141), np.linspace(0.9, 3.0, 106)])


def exact_phi(k: int, z: float) -> mpmath.mpf:
    """phi_k by its textbook recurrence with 100 digits, of which at most 60 cancel for |z| >= 1e-12 and k <= 4."""
    with mpmath.workdps(100):
        value = mpmath.exp(z)
        for j in range(k):
            value = (value - 1 / mpmath.factorial(j)) / mpmath.mpf(z)
        return value


def relative_error(value: float, exact: mpmath.mpf) -> float:
    return float(abs((mpmath.mpf(value) - exact) / exact))


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_phi_has_fourteen_digits_everywhere(k: int, sign: float) -> None:
    """|z| from 1e-12 to 100, both signs: at most 1e-14 relative (the worst is 4e-15: k = 4 just above z = 1)."""
    worst = max((relative_error(phi(k, float(sign * m)), exact_phi(k, float(sign * m))), m) for m in MAGNITUDES)
    assert worst[0] <= 1e-14, f"worst relative error {worst[0]:.1e} at |z| = {worst[1]}"


@pytest.mark.parametrize("k", range(5))
def test_phi_at_zero_is_one_over_k_factorial(k: int) -> None:
    """phi_k(0) = 1/k!, the limit in which a step becomes a plain polynomial quadrature."""
    assert phi(k, 0.0) == 1.0 / math.factorial(k)


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_series_and_recurrence_agree_where_they_meet(k: int, sign: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At |z| = SERIES_RADIUS both forms give the same number to 1e-14."""
    z = sign * SERIES_RADIUS
    series = phi(k, z)
    monkeypatch.setattr(module, "SERIES_RADIUS", 0.0)
    assert phi(k, z) == pytest.approx(series, rel=1e-14)


def test_recurrence_alone_would_lose_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The series is needed: without it phi_3(1e-4) keeps fewer than 8 digits."""
    monkeypatch.setattr(module, "SERIES_RADIUS", 0.0)
    assert relative_error(phi(3, 1e-4), exact_phi(3, 1e-4)) > 1e-8


@pytest.mark.parametrize("k", range(5))
def test_phi_vanishes_at_minus_infinity(k: int) -> None:
    """An infinitely long data-prediction step: phi_k(-inf) = 0."""
    assert phi(k, -math.inf) == 0.0


def test_negative_index_is_refused() -> None:
    """phi_{-1} does not exist: the message names k."""
    with pytest.raises(ValueError, match="k must be an integer >= 0, got -1"):
        phi(-1, 0.5)


@settings(deadline=None)
@given(z=st.floats(-20, 20), count=st.integers(1, 4))
def test_moments_are_integrals_of_powers_under_the_exponential(z: float, count: int) -> None:
    """exponential_moments(z)[j] = int_0^1 e^{z(1-c)} c^j dc, by Gauss-Legendre quadrature."""
    x, w = np.polynomial.legendre.leggauss(60)
    c = 0.5 * (x + 1)
    expected = [float(0.5 * (w * np.exp(z * (1 - c)) * c**j).sum()) for j in range(count)]
    assert exponential_moments(z, count) == pytest.approx(expected, rel=1e-12)


distinct_nodes = st.lists(st.integers(-12, 4), min_size=1, max_size=4, unique=True).map(lambda n: [i / 4 for i in n])


@settings(deadline=None)
@given(nodes=distinct_nodes, z=st.floats(-10, 10), data=st.data())
def test_weights_integrate_every_polynomial_through_the_nodes_exactly(
    nodes: list[float], z: float, data: st.DataObject
) -> None:
    """n nodes are exact for every polynomial of degree n - 1, whatever the moments."""
    size = len(nodes)
    coefficients = data.draw(st.lists(st.floats(-3, 3), min_size=size, max_size=size))
    moments = exponential_moments(z, size)
    weights = polynomial_weights(nodes, moments)
    values = [sum(a * c**j for j, a in enumerate(coefficients)) for c in nodes]
    quadrature = math.fsum(w * v for w, v in zip(weights, values, strict=True))
    exact = math.fsum(a * m for a, m in zip(coefficients, moments, strict=True))
    scale = max(1.0, max(moments), sum(abs(w * v) for w, v in zip(weights, values, strict=True)))
    assert abs(quadrature - exact) <= 1e-11 * scale


def test_weights_of_equidistant_nodes_are_simpsons_rule() -> None:
    """Without the exponential (z = 0) the weights are Newton and Cotes's."""
    assert polynomial_weights([0.0, 0.5, 1.0], [1.0, 1 / 2, 1 / 3]) == pytest.approx([1 / 6, 2 / 3, 1 / 6], rel=1e-14)


@pytest.mark.parametrize(
    ("nodes", "moments", "message"),
    [
        ([0.0, 0.0], [1.0, 0.5], "nodes must be distinct"),
        ([0.0, 1.0], [1.0], "one moment per node is needed, got 1 moments for 2 nodes"),
    ],
)
def test_weights_refuse_what_determines_no_polynomial(nodes: list[float], moments: list[float], message: str) -> None:
    """Nodes that coincide, or another number of moments, raise a ValueError that says so."""
    with pytest.raises(ValueError, match=message):
        polynomial_weights(nodes, moments)
