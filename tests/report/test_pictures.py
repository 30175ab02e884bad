"""Samples become the pixels that they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dpmsolver.report import scatter, strip


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_strip_has_the_samples_side_by_side_and_clips_them() -> None:
    """-1 is black, 1 white, 0 the grey between, and what lies outside is clipped, not wrapped."""
    samples = np.stack([np.full((1, 2, 3), level) for level in (-1.0, 0.0, 1.0, 7.0, -7.0)])
    shown = pixels(strip(samples))
    assert shown.shape == (2, 15)
    assert shown[0, ::3].tolist() == [0, 128, 255, 255, 0]


def test_a_strip_keeps_rows_columns_and_colours_apart() -> None:
    """Pixel (i, j) of channel c of sample k is at row i, column k W + j."""
    samples = np.random.default_rng(0).uniform(-1, 1, (3, 3, 4, 5))
    shown = pixels(strip(samples))
    for k in range(3):
        expected = (samples[k].transpose(1, 2, 0) + 1) * 127.5
        assert np.abs(shown[:, 5 * k : 5 * k + 5] - expected).max() <= 0.5


@pytest.mark.parametrize(
    "samples", [np.zeros((3, 4, 4)), np.zeros((2, 2, 4, 4)), np.zeros((0, 1, 4, 4)), np.full((1, 1, 2, 2), np.nan)]
)
def test_a_strip_refuses_what_is_no_row_of_pictures(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="samples must"):
        strip(samples)


def test_scatter_puts_points_where_they_are_and_leaves_out_those_outside() -> None:
    """The second axis points up; a point outside, or NaN, draws nothing."""
    shown = pixels(scatter([[0.5, 0.5], [9.0, 0.0], [np.nan, 0.0], [np.inf, 0.0]], (-1.0, 1.0), side=80, colours=1))
    rows, columns = np.nonzero(shown[:, :, 3])
    assert abs(rows.mean() - 19.5) < 1
    assert abs(columns.mean() - 59.5) < 1
    assert np.ptp(rows) < 5


@pytest.mark.parametrize(
    ("points", "limits", "side", "named"),
    [
        (np.zeros((3, 3)), (-1, 1), 64, "points"),
        (np.zeros((0, 2)), (-1, 1), 64, "points"),
        (np.zeros((3, 2)), (1, -1), 64, "limits"),
        (np.zeros((3, 2)), (0, np.inf), 64, "limits"),
        (np.zeros((3, 2)), (-1, 1), 4, "side"),
    ],
)
def test_scatter_names_the_argument_it_refuses(
    points: np.ndarray, limits: tuple[float, float], side: int, named: str
) -> None:
    with pytest.raises(ValueError, match=f"^{named} must"):
        scatter(points, limits, side=side)
