"""The pictures of a report, from the samples that a comparison kept: strips of pictures, or points of the plane."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dpmsolver.report.pictures import scatter, strip

__all__ = ["pictures_of"]

_FOLLOWED = 6  # points that are coloured, to be followed from picture to picture


def pictures_of(shown: Mapping[tuple[str, int], NDArray[np.float32]]) -> dict[tuple[str, int], bytes]:
    """Return PNG bytes by (curve, nfe), the `pictures` of `write_report`.

    Args:
        shown: samples by (curve, nfe), (K, C, H, W) in [-1, 1] or (n, 2), from `evaluation.results.shown_samples`. Points share their axes,
            which contain those of ("reference", …), or else all but the outermost percent.

    Examples:
        >>> import numpy as np
        >>> pictures_of({("ddim", 5): np.zeros((3, 1, 4, 4), dtype=np.float32)})["ddim", 5][1:4]
        b'PNG'
    """
    points = [samples for samples in shown.values() if samples.ndim == 2]
    if not points:
        return {key: strip(samples) for key, samples in shown.items()}
    reference = [samples for (name, _), samples in shown.items() if name == "reference"]
    reach = max(float(np.quantile(abs(samples), 0.99)) for samples in reference or points)
    limits = (-1.2 * reach, 1.2 * reach)
    return {key: scatter(samples, limits, colours=_FOLLOWED) for key, samples in shown.items()}
