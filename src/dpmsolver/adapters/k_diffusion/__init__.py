"""k-diffusion and ComfyUI: every solver as a function `sample_NAME(model, x, sigmas, extra_args=None, callback=None, disable=None, …)`.

A script only changes its import:

    from dpmsolver.adapters import k_diffusion as sampling
    x = sampling.sample_dpmpp_2m(model, x * sigmas[0], sigmas)

`model(x, sigma, **extra_args)` returns the denoised x, like k-diffusion's wrappers of eps, v and flow networks. The sigmas are used exactly
as given. The network is evaluated once at each of them; for solvers with several evaluations a step, the steps go from one sigma to the
next.

The functions are made from the registry, and `dir()` lists them. Characters that Python does not allow in a name become underscores, and ++
becomes pp: `sample_dpm_pp_2m` is dpm++2m. The names of k-diffusion and ComfyUI exist if the sampler is the same (docs/names.md), and have
precedence: `sample_dpm_2` is their DPM2, and `sampler("dpm-2")` is DPM-Solver-2. If a name means another sampler there, no function has
it here, and an AttributeError says how it differs. `sampler` makes a function of any solver with options, and of a plan or a file with one;
`denoiser` turns such a model into the denoiser that `dpm.sample` and related functions take.

Importing this package imports no framework, and x may be an array of NumPy, torch or JAX.
"""

from __future__ import annotations

from dpmsolver.adapters.k_diffusion.functions import Sampler, function_names, named_sampler, sampler
from dpmsolver.adapters.k_diffusion.running import denoiser
from dpmsolver.adapters.k_diffusion.tables import plan_on_sigmas, sigmas_of

__all__ = ["Sampler", "denoiser", "plan_on_sigmas", "sampler", "sigmas_of"]


def __getattr__(name: str) -> Sampler:
    if not name.startswith("sample_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return named_sampler(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *function_names()])
