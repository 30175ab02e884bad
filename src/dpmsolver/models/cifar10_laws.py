"""CIFAR-10 without a network: two laws with the statistics of its pictures, whose optimal networks are known exactly.

The Gaussian has the 3072 eigenvalues of CIFAR-10's covariance, and CIFAR-10's mean along its principal axes. The mixture is fitted to the
pictures class by class, with ten Gaussians each. Both have diagonal covariances in the colour axes and cosines of `ColourCosine`.

The principal axes themselves would take 36 MB, so the Gaussian uses the axes of `ColourCosine` in their place. This is a rotation, to which
the normal start, linear solvers and distances are invariant: every figure is that of the Gaussian of the pictures, and only its samples
look different.

The file in the package was made from CIFAR-10 recompressed as JPEG, which removes power from the finest axes: the largest 300 eigenvalues
agree with those of CIFAR-10 to 2 %, those from the 1000th on are too small by a factor of 2 to 12.

`training/cifar10_laws.py` makes the file. Importing this module imports neither torch nor diffusers.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import dct

from dpmsolver.models.closed_form import Gaussian, Mixture
from dpmsolver.schedules import Floats

__all__ = ["CLASSES", "LAWS", "SHAPE", "ColourCosine", "gaussian", "mixture", "statistics"]

SHAPE = (3, 32, 32)
CLASSES = 10
LAWS = Path(__file__).parent / "weights" / "cifar10-laws.npz"


class ColourCosine:
    """An orthonormal change of coordinates of pictures: three axes of colour, and a two-dimensional cosine transform of each.

    In these coordinates the values of natural pictures are nearly uncorrelated.

    Args:
        colour: (3, 3), orthonormal; its columns are the axes.
        size: height and width of the pictures.

    Examples:
        >>> import numpy as np
        >>> basis = ColourCosine(np.eye(3), size=4)
        >>> pictures = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
        >>> bool(np.allclose(basis.inverse(basis.forward(pictures)), pictures))
        True

    Source: Ahmed, Natarajan & Rao 1974, IEEE Trans. Computers C-23: the cosine transform is near to the principal axes of natural signals.
    """

    def __init__(self, colour: Floats, size: int = SHAPE[1]) -> None:
        self.shape: tuple[int, ...] = (3, size, size)
        self.colour = np.array(colour, dtype=np.float64)
        self.cosine = dct(np.eye(size), axis=0, norm="ortho")

    def forward(self, pictures: Any) -> Floats:
        """Return the coordinates (n, D), float64, of pictures (n, 3, size, size)."""
        planes = (self.colour.T @ pictures.reshape(len(pictures), 3, -1)).reshape(pictures.shape)
        found: Floats = (self.cosine @ planes @ self.cosine.T).reshape(len(pictures), -1)
        return found

    def inverse(self, coordinates: Any) -> Floats:
        """Return the pictures (n, 3, size, size), float64, of coordinates (n, D)."""
        planes = self.cosine.T @ coordinates.reshape(len(coordinates), *self.shape) @ self.cosine
        found: Floats = (self.colour @ planes.reshape(len(coordinates), 3, -1)).reshape(planes.shape)
        return found


@lru_cache(maxsize=1)
def statistics() -> dict[str, Floats]:
    """Return the arrays in the laws' file.

    Raises:
        ValueError: the file is missing, or is not a file of laws. The message names the script that makes it.
    """
    made = "python training/cifar10_laws.py makes it"
    try:
        with np.load(LAWS) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ValueError(
            f"the laws of CIFAR-10 are read from {LAWS}, which is missing: reinstall dpmsolver, or {made}"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{LAWS} cannot be read as laws of CIFAR-10 ({error}): reinstall dpmsolver, or {made}"
        ) from error


def gaussian() -> Gaussian:
    """Return the Gaussian with CIFAR-10's mean and spectrum, of pictures (3, 32, 32) in [-1, 1].

    Examples:
        >>> law = gaussian()
        >>> law.sample(2).shape, bool(0.4 < law.sample(100).std() < 0.6)
        ((2, 3, 32, 32), True)
    """
    held = statistics()
    return Gaussian(held["gaussian_mean"], held["gaussian_variance"], basis=ColourCosine(held["colour"]))


def mixture() -> Mixture:
    """Return the mixture fitted to CIFAR-10, ten Gaussians for each of the ten classes, of pictures (3, 32, 32) in [-1, 1].

    Examples:
        >>> law = mixture()
        >>> law.num_classes, law.sample(2, class_labels=[3, 7]).shape
        (10, (2, 3, 32, 32))
    """
    held = {name: value.astype(np.float64) for name, value in statistics().items()}
    deviations = held["mixture_deviation"]
    return Mixture(
        held["mixture_mean"],
        deviations**2,
        held["mixture_weight"],
        classes=held["mixture_class"],
        basis=ColourCosine(held["colour"]),
    )
