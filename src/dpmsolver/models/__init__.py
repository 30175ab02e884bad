"""Models to sample from: laws whose optimal network is known in closed form, and pretrained networks."""

from dpmsolver.models.closed_form import Empirical, Gaussian, Mixture
from dpmsolver.models.pretrained import Pretrained, load

__all__ = ["Empirical", "Gaussian", "Mixture", "Pretrained", "load"]
