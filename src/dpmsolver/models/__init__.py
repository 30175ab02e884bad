"""Models to sample from: closed-form ones, and pretrained networks."""

from dpmsolver.models.closed_form import Gaussian, Mixture
from dpmsolver.models.pretrained import Pretrained, load

__all__ = ["Gaussian", "Mixture", "Pretrained", "load"]
