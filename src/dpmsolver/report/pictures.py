"""The pictures of the page as PNG bytes, made from samples: strips of pictures, scatter plots of points."""

from __future__ import annotations

import io
import math
import struct

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

__all__ = ["png_size", "scatter", "strip"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Okabe and Ito's colours that stand out on white and on black: point i has the same one in every picture.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_OVERSAMPLING = 3


def strip(samples: ArrayLike) -> bytes:
    """Return pictures side by side in one row, as a PNG.

    Args:
        samples: real numbers (K, C, H, W) in [-1, 1], C 1 (grey) or 3 (RGB); values outside are clipped.

    Returns:
        The bytes of a PNG, H pixels high and K W wide.

    Raises:
        ValueError: the shape is wrong, there are no pictures, or values are not finite.

    Examples:
        >>> import numpy as np
        >>> png_size(strip(np.zeros((16, 1, 28, 28))))
        (448, 28)
    """
    given = np.asarray(samples)
    if given.ndim != 4 or given.shape[1] not in (1, 3) or 0 in given.shape:
        raise ValueError(f"samples must have shape (K, C, H, W) with C 1 or 3, got {given.shape}")
    if given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise ValueError("samples must be real numbers, and finite: draw no picture of a run that diverged")
    levels = np.rint((np.clip(given.astype(np.float64), -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    count, channels, height, width = levels.shape
    row = levels.transpose(2, 0, 3, 1).reshape(height, count * width, channels)
    return _png(Image.fromarray(row[:, :, 0] if channels == 1 else row))


def scatter(points: ArrayLike, limits: tuple[float, float], *, side: int = 320, colours: int = 0) -> bytes:
    """Return points of the plane in one square, as a PNG on a transparent background.

    Args:
        points: real numbers (n, 2), n >= 1. Those outside the square (of a run that diverged, NaN) are left out.
        limits: (low, high) of both axes, the same for every picture of a report.
        side: the side of the square in pixels.
        colours: the number of first points that are drawn larger and coloured by their number, so that they can be followed from picture to
            picture; the others are grey.

    Returns:
        The bytes of a PNG, `side` pixels high and wide.

    Raises:
        ValueError: the points have another shape, the limits are not finite or not in order, or the side is below 16.

    Examples:
        >>> png_size(scatter([[0.0, 0.0], [0.5, -0.5]], (-1.0, 1.0), side=64))
        (64, 64)
    """
    given = np.asarray(points, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != 2 or not len(given):
        raise ValueError(f"points must have shape (n, 2) with n >= 1, got {given.shape}")
    low, high = limits
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"limits must be finite, the low one first, got {limits!r}")
    if side < 16:
        raise ValueError(f"side must be at least 16 pixels, got {side!r}")
    large = side * _OVERSAMPLING
    canvas = Image.new("RGBA", (large, large), (128, 128, 128, 0))
    draw = ImageDraw.Draw(canvas)
    pixels = (given - low) / (high - low) * large
    for number in range(len(pixels) - 1, -1, -1):  # the coloured ones last, above the others
        x, y = pixels[number, 0], large - pixels[number, 1]
        if not (0.0 <= x <= large and 0.0 <= y <= large):
            continue
        coloured = number < colours
        radius = large * (0.016 if coloured else 0.008)
        fill = _COLOURS[number % len(_COLOURS)] if coloured else "#80808090"
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return _png(canvas.resize((side, side), Image.Resampling.BOX))


def png_size(picture: bytes) -> tuple[int, int]:
    """Return width and height of a PNG from its header. Raise ValueError for anything else."""
    if not isinstance(picture, bytes) or picture[:8] != _SIGNATURE or len(picture) < 24:
        raise ValueError("not a PNG")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
