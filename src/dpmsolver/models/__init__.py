"""Models to sample from: closed-form ones, and pretrained networks."""

from dpmsolver.models.closed_form import Gaussian, Mixture

__all__ = ["Gaussian", "Mixture"]
