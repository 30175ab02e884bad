"""k-diffusion and ComfyUI: every solver as a function `sample_NAME(model, x, sigmas, extra_args=None, callback=None, disable=None, …)`.

A script changes its import alone:

from dpmsolver.adapters import k_diffusion as sampling
x = sampling.sample_dpmpp_2m(model, x * sigmas[0], sigmas)

`model(x, sigma, **extra_args)` returns the denoised x, as k-diffusion's wrappers of eps, v and flow networks do. The sigmas are taken as
they are given, and each is one evaluation; of solvers with several evaluations a step the sigmas' intervals are the steps.

The functions are made from the registry, and `dir()` lists them. Characters that Python does not allow in a name are underscores, and ++ is
pp: `sample_dpm_pp_2m` is dpm++2m. The names of k-diffusion and ComfyUI are there where the sampler is the same (docs/names.md), and come
first: `sample_dpm_2` is their DPM2, and `sampler("dpm-2")` is DPM-Solver-2. Where another sampler has a name there, it is no function here,
and an AttributeError says how it differs. `sampler` makes a function of any solver with options, and of a plan, also of one in a file;
`denoiser` makes of such a model what `dpm.sample` and its kin take.

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
