"""EDM's preconditioning, which turns a raw network into a denoiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmsolver import backends
from dpmsolver.backends.arrays import cast, label_dtype
from dpmsolver.brief import brief_repr

__all__ = ["Preconditioned", "edm_preconditioned"]


@dataclass(frozen=True, eq=False)
class Preconditioned:
    """A raw network with EDM's preconditioning; `edm_preconditioned` makes one."""

    network: Callable[..., Any]
    sigma_data: float

    __repr__ = brief_repr

    def __call__(self, x: Any, sigma: Any, **kwargs: Any) -> Any:
        backend = backends.of(x)
        dtype = backend.network_dtype(self.network, None)
        each = sigma.reshape(-1, *[1] * (x.ndim - 1))
        total = each**2 + self.sigma_data**2
        log_sigma = sigma.log() if hasattr(sigma, "log") else np.log(sigma)
        label = cast(log_sigma / 4, label_dtype(backend, dtype, x))
        out = self.network(cast(x / total**0.5, dtype), label, **kwargs)
        return self.sigma_data**2 / total * x + each * self.sigma_data / total**0.5 * cast(out, x.dtype)


def edm_preconditioned(network: Callable[..., Any], sigma_data: float = 0.5) -> Preconditioned:
    """Wrap a raw network F in EDM's preconditioning: D(x, sigma) = c_skip x + c_out F(c_in x, ln(sigma)/4).

    The result predicts data: use it as `Denoiser(edm_preconditioned(F), EDM(), predicts="data")`. A network that is already preconditioned
    (EDM's published pickles, k-diffusion's denoisers) needs no wrapper: pass it to `Denoiser` with `predicts="data"`. If F is a torch
    module, only its input is cast to the type of its weights. Its label is float64 for weights in float64, else float32.

    Args:
        network: the raw network, F(x, label, **kwargs) with x (B, …) and label (B,), which returns an array of x's shape.
        sigma_data: the standard deviation of the data, > 0.

    Examples:
        >>> import numpy as np
        >>> denoiser = edm_preconditioned(lambda x, label: 0.0 * x, sigma_data=0.5)  # c_skip is 1/2 at 0.5
        >>> denoiser(np.array([[2.0]]), np.array([0.5]))
        array([[1.]])

    Source: Karras et al. 2022, arXiv 2206.00364, table 1 and eq. 7.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data must be positive, got {sigma_data}")
    return Preconditioned(network, sigma_data)
