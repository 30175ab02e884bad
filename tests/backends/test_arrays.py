"""What every framework does alike gives the same numbers on each of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.backends import arrays
from dpmsolver.host import to_host

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

X = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((3, 5, 7)).astype(np.float32)
MAKERS: dict[str, Any] = {"numpy": np.asarray, "torch": torch.as_tensor, "jax": jax.numpy.asarray}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Any:
    """A framework, as the function that makes its arrays."""
    return MAKERS[request.param]


def test_they_are_the_numbers_that_numpy_says(make: Any) -> None:
    """Each function against its formula."""
    x, y = make(X), make(Y)
    backend, each = backends.of(x), np.array([1.0, -2.0, 0.5])
    weights = each[:, None, None]
    cases = [
        (arrays.combine_each(backend, [each, 2.0 * each], [x, y]), weights * X + 2.0 * weights * Y),
        (arrays.linear(backend, (3.0, each), (x, y)), 3.0 * X + weights * Y),
        (arrays.linear(backend, (3.0, 1.0), (x, y)), 3.0 * X + Y),
        (arrays.where(backend, each > 0, x, y), np.where(weights > 0, X, Y)),
        (arrays.concatenate([x, y]), np.concatenate([X, Y])),
        (arrays.quantile(x, 0.3), np.quantile(abs(X), 0.3, axis=(1, 2))[:, None, None]),
        (arrays.deviation(backend, x), X.std()),
        (arrays.cast(x, backend.xp.float16), X.astype(np.float16)),
        (arrays.per_sample(backend, each, x), weights),
        (arrays.error_norm(x, y, x, 0.1, 0.2), expected_norm(X, Y, X, 0.1, 0.2)),
    ]
    for found, wanted in cases:
        np.testing.assert_allclose(to_host(found), wanted, rtol=3e-6, atol=1e-7)


def expected_norm(high: Any, low: Any, before: Any, atol: float, rtol: float) -> Any:
    scale = np.maximum(atol, rtol * np.maximum(abs(low), abs(before)))
    return np.sqrt((((high - low) / scale) ** 2).mean(axis=(1, 2)))


def test_samples_with_nan_are_found(make: Any) -> None:
    bad = X.copy()
    bad[1, 0, 0], bad[2, 1, 1] = np.nan, np.inf
    x = make(bad)
    backend = backends.of(x)
    assert arrays.not_finite(x) == [1, 2]
    assert not bool(backend.finite(x))
    assert bool(backend.finite(make(X)))
    assert bool(backend.finite(make(np.full((2, 2), 3e38, np.float32))))  # whose sum is not
    flags = [make(np.array(flag)) for flag in (True, True, False)]
    assert arrays.first_false(flags) == 2
    assert arrays.first_false(flags[:2]) is None


@pytest.mark.parametrize("values", [[[0.25], [3.0]], [[0.25, 0.5, 0.75], [3.0, 4.0, 5.0]]])
def test_labels_are_arrays_of_their_own(make: Any, values: Any) -> None:
    """Of the batch's length, in a float type or as int64; a network may write into its own."""
    x = make(X)
    backend = backends.of(x)
    for dtype in (arrays.label_dtype(backend, None, x), arrays.label_dtype(backend, backend.xp.float16, x)):
        assert dtype == backend.xp.float32
        first, second = arrays.labels(backend, np.array(values), x, dtype)
        np.testing.assert_array_equal(to_host(first), np.broadcast_to(values[0], 3))
        if not isinstance(first, jax.Array):
            first += 1.0
            np.testing.assert_array_equal(to_host(first), np.broadcast_to(values[0], 3) + 1.0)
        np.testing.assert_array_equal(to_host(second), np.broadcast_to(values[1], 3))
    assert "int" in str(arrays.labels(backend, np.array([[3.0]]), x, None)[0].dtype)


def test_only_floating_point_arrays_of_the_framework_are_its_own(make: Any) -> None:
    x = make(X)
    backend = backends.of(x)
    assert arrays.is_float_array(backend, x)
    others = [m(X) for m in MAKERS.values() if type(m(X)) is not type(x)]
    for other in (
        make(np.ones(3, np.int32)),
        make(np.ones(3, bool)),
        1.0,
        np.float64(1.0),
        None,
        [1.0],
        torch.nn.ReLU(),
        *others,
    ):
        assert not arrays.is_float_array(backend, other)


@pytest.mark.parametrize("given", ["numpy", "torch", "jax", "list"])
def test_numbers_of_every_kind_are_moved_beside_an_array(make: Any, given: str) -> None:
    x = make(X)
    numbers = X.tolist() if given == "list" else MAKERS[given](X.astype(np.float16))
    moved = arrays.moved_to(backends.of(x), numbers, x)
    assert type(moved) is type(x)
    assert moved.dtype == x.dtype
    np.testing.assert_allclose(to_host(moved), X, rtol=1e-3)


def test_a_known_picture_stays_where_it_is(make: Any) -> None:
    """inpaint: arrays of x0's framework and type, whatever the mask is."""
    schedule = dpm.schedules.LinearVP()
    x0, noise, mask = make(X), make(Y), X > 0
    denoiser = dpm.Denoiser(lambda x, t: 0.1 * x, schedule)
    results = []
    for weights in (mask, make(mask), mask.tolist(), make(mask.astype(np.float32))):
        keep = dpm.inpaint(x0, weights, noise)
        assert {type(keep.x0), type(keep.mask), type(keep.noise)} == {type(x0)}
        assert keep.x0.dtype == keep.mask.dtype == keep.noise.dtype == x0.dtype
        results.append(to_host(dpm.sample(denoiser, make(Y), nfe=4, end=0.0, state_hook=keep)))
        np.testing.assert_allclose(results[-1][mask], X[mask], rtol=1e-6)
        np.testing.assert_array_equal(results[-1], results[0])


def test_importing_the_package_imports_no_framework_but_numpy() -> None:
    code = "import sys, dpmsolver; print({'torch', 'jax', 'diffusers', 'array_api_compat'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
