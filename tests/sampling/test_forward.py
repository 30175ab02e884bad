"""inpaint: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.plans import Point

torch = pytest.importorskip("torch")

VP = dpm.schedules.LinearVP()
X_T, NOISE = (dpm.initial_noise(VP, (2, 4), seed=seed) for seed in (1, 2))
X0 = np.linspace(-1.0, 1.0, 8).reshape(2, 4)
MASK = np.array([[1.0, 1.0, 0.0, 0.0]])
DENOISER = dpm.Denoiser(lambda x, t: 0.1 * x, VP, "data")
ARRAYS = {"numpy": np.array, "torch": torch.tensor}


def filled(hook: Any, array: Any) -> Any:
    return np.asarray(dpm.sample(DENOISER, array(X_T), nfe=5, end=0.0, state_hook=hook))


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_unknown_elements_may_be_anything(unknown: float, array: Any) -> None:
    """Where mask is 0, NaN and infinity of x0 and noise change nothing."""
    spoilt, noise = (np.where(MASK > 0, values, unknown) for values in (X0, NOISE))
    wanted = filled(dpm.inpaint(array(X0), array(MASK), array(NOISE)), array)
    np.testing.assert_array_equal(filled(dpm.inpaint(array(spoilt), array(MASK), array(noise)), array), wanted)
    np.testing.assert_allclose(wanted[:, :2], X0[:, :2], rtol=1e-12)


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_masks_of_zeros_and_ones_may_be_of_any_type(kind: Any, array: Any) -> None:
    """Bool, bytes, integers and floats mean the same."""
    wanted = filled(dpm.inpaint(array(X0), array(MASK), array(NOISE)), array)
    np.testing.assert_array_equal(filled(dpm.inpaint(array(X0), array(MASK.astype(kind)), array(NOISE)), array), wanted)
    np.testing.assert_array_equal(
        filled(dpm.inpaint(array(X0), MASK.astype(kind).tolist(), array(NOISE)), array), wanted
    )


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_fractions_blend(array: Any) -> None:
    """Where mask is 0.25, the state is three quarters itself and one quarter known data at the level of the point."""
    point = Point.at(VP, 0.5)
    given = np.asarray(dpm.inpaint(array(X0), array(0.25 * np.ones((2, 4))), array(NOISE))(array(X_T), point))
    np.testing.assert_allclose(given, 0.75 * X_T + 0.25 * (point.alpha * X0 + point.sigma * NOISE), rtol=1e-12)


BYTES = (127.5 * (X0 + 1)).astype(np.uint8)
IN_UNIT = r"mask must be bool or lie in \[0, 1\], got "
FLOATS = "x0 and noise must be floating point"
REFUSED: dict[str, tuple[Any, type, str]] = {
    "a mask of 255": ((X0, (255 * MASK).astype(np.uint8), NOISE), ValueError, IN_UNIT + "uint8 from 0 to 255"),
    "a negative mask": ((X0, MASK - 1, NOISE), ValueError, IN_UNIT + "float64 from -1 to 0"),
    "a mask with NaN": ((X0, MASK * np.nan, NOISE), ValueError, IN_UNIT + "float64 from nan"),
    "bytes": ((BYTES, MASK, NOISE), TypeError, FLOATS + r".*got uint8 and float64.*x0 / 127\.5 - 1"),
    "integer noise": ((X0, MASK, BYTES.astype(int)), TypeError, FLOATS + ".*got float64 and int64"),
    "two frameworks": ((torch.tensor(X0), MASK, NOISE), TypeError, r"of one framework, got torch\.float64 and float64"),
    "shapes": (
        (X0, MASK[:, :3], NOISE),
        ValueError,
        r"must fit each other, got shapes \(2, 4\), \(1, 3\) and \(2, 4\)",
    ),
    "noise of another shape": ((X0, MASK, NOISE[:, :3]), ValueError, "must fit each other"),
    "NaN that is known": (
        (X0 * [[1.0], [np.nan]], MASK, NOISE),
        ValueError,
        "x0 has NaN or infinity where mask is above 0 in sample 1 of 2: set mask to 0 there",
    ),
    "infinite noise": (
        (X0, MASK, NOISE * np.inf),
        ValueError,
        "noise has NaN or infinity where mask is above 0 in all 2 samples",
    ),
}


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_spoil_the_picture_is_refused_at_once(arguments: Any, error: type, message: str) -> None:
    """When the hook is made, before any run: one sentence with the argument, what it is and what to do."""
    with pytest.raises(error, match=message):
        dpm.inpaint(*arguments)


def test_data_of_another_shape_than_the_state_are_refused_before_the_network_is_called() -> None:
    """The state is known at the first use."""
    calls: list[int] = []
    denoiser = dpm.Denoiser(lambda x, t: calls.append(1) or x, VP)
    hook = dpm.inpaint(np.ones((3, 4)), 1.0, np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"must have the state's shape \(2, 4\), got \(3, 4\)"):
        dpm.sample(denoiser, X_T, nfe=3, state_hook=hook)
    assert not calls


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_the_hook_pickles(array: Any) -> None:
    """It comes back with its data."""
    hook = dpm.inpaint(array(X0), array(MASK), array(NOISE))
    np.testing.assert_array_equal(filled(pickle.loads(pickle.dumps(hook)), array), filled(hook, array))
