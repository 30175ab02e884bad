"""Laws: the distributions of the closed-form testbeds, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from dpmsolver.models import cifar10_laws
from dpmsolver.models.closed_form import ClosedForm, Empirical, Gaussian, Mixture
from dpmsolver.schedules import Floats

__all__ = ["IN_COLOUR", "LAWS"]


def _image_spectrum(dimensions: int) -> Floats:
    """Return variances of the principal axes, falling as 1/k, 0.25 on average: pixels in [-1, 1] have a standard deviation of about 0.5.

    The power of natural images falls as 1/f^2 (Field, J. Opt. Soc. Am. A 4, 1987), and of the axes of a plane of frequencies,
    k have a frequency below f ~ sqrt(k).
    """
    falling = 1.0 / np.arange(1, dimensions + 1)
    return np.asarray(0.25 * falling / falling.mean())


def _gaussian() -> ClosedForm:
    variance = _image_spectrum(64)
    return Gaussian(mean=0.5 * np.sqrt(variance), variance=variance)  # off zero, so that an error of the mean is seen


def _ring() -> ClosedForm:
    angles = 2.0 * np.pi * np.arange(8) / 8
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], axis=1), np.full((8, 2), 0.05**2))


def _mixture(dimensions: int, components: int = 10) -> ClosedForm:
    """Return a mixture with a third of each axis' variance between its components, and about two thirds within them.

    The variances within the components differ by factors of up to 2.
    """
    rng, variance = np.random.default_rng(dimensions), _image_spectrum(dimensions)
    means = rng.standard_normal((components, dimensions)) * np.sqrt(variance / 3.0)
    within = variance * 2.0 / 3.0 * 2.0 ** rng.uniform(-1.0, 1.0, (components, dimensions))
    return Mixture(means, within)


def _spiral() -> ClosedForm:
    radius = np.sqrt(np.linspace(0.02, 1.0, 300))  # as a root, so that neighbours are equally far apart
    angle = 3.0 * np.pi * radius
    return Empirical(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))


LAWS: dict[str, Callable[[], ClosedForm]] = {
    "gaussian": _gaussian,
    "mixture-2": _ring,
    "mixture-16": partial(_mixture, dimensions=16),
    "mixture-3072": partial(_mixture, dimensions=3072),
    "empirical": _spiral,
    "cifar10-gaussian": cifar10_laws.gaussian,
    "cifar10-mixture": cifar10_laws.mixture,
}
IN_COLOUR = ("cifar10-gaussian", "cifar10-mixture")
