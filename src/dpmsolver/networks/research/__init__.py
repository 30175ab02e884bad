"""Networks of research code, recognised by their attributes: EDM, score_sde, guided-diffusion and latent diffusion.

None of these projects is imported. `Denoiser.edm`, `Denoiser.score_sde`, `Denoiser.guided_diffusion` and `Denoiser.latent_diffusion` call
the functions of these modules.
"""

from __future__ import annotations

from dpmsolver.networks.research.attributes import attribute, require_callable
from dpmsolver.networks.research.edm import rounded

__all__ = ["attribute", "require_callable", "rounded"]
