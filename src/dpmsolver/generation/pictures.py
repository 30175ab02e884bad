"""Samples as pixels: bytes, PNG files, and one sheet of many pictures."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pixels", "png", "sheet", "to_pixels", "to_samples"]

Pixels = NDArray[np.uint8]  # (num, height, width, channels)
_SMALL = 64  # pictures with fewer rows are magnified on a sheet by a whole number, to about this many


def to_pixels(samples: NDArray[Any]) -> Pixels:
    """Return bytes (num, height, width, channels) of samples (num, channels, height, width) in [-1, 1]; other values are clipped.

    Examples:
        >>> import numpy as np
        >>> to_pixels(np.array([[[[-1.0, 0.0, 2.0]]]])).ravel().tolist()
        [0, 128, 255]
    """
    scaled = np.clip(samples, -1.0, 1.0) * 127.5 + 127.5
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8).transpose(0, 2, 3, 1))


def to_samples(pixels: Pixels) -> NDArray[np.float32]:
    """Return samples (num, channels, height, width) in [-1, 1] of bytes (num, height, width, channels)."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1.0))


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture (height, width, 1 or 3) as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(file, format="PNG")
    return file.getvalue()


def sheet(pixels: Pixels) -> NDArray[np.uint8]:
    """Return one picture (height, width, channels) of all pictures, as nearly square as possible.

    Examples:
        >>> import numpy as np
        >>> sheet(np.zeros((5, 64, 64, 1), dtype=np.uint8)).shape
        (128, 192, 1)
    """
    num, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    cells = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    cells[:num] = pixels
    grid = cells.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    flat = grid.reshape(rows * height, columns * width, channels)
    factor = max(1, _SMALL // height)
    large: NDArray[np.uint8] = flat.repeat(factor, axis=0).repeat(factor, axis=1)
    return large
