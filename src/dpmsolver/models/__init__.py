"""Models to sample from: closed-form ones, and pretrained networks."""

from dpmsolver.models.closed_form import Empirical, Gaussian, Mixture
from dpmsolver.models.pretrained import Pretrained, load

__all__ = ["Empirical", "Gaussian", "Mixture", "Pretrained", "load"]
