"""Types for editors and type checkers: the names of solvers and grids, what networks predict, and the arrays of a run.

The argument `solver` has the type `SolverName | SolverAlias | Written | Solver`. An editor completes the names, and mypy refuses a
misspelt one; with a plain `str` it could not. A text that is made at run time, or that contains options, has to be `Written`:

    solver = Written(f"dpm++2m@karras:rho={rho}")

At run time `Written` is `str`. The name is looked up when the plan is made, before the network is called.
"""

from __future__ import annotations

from typing import Any, Literal, NewType, Protocol, TypeAlias, TypeVar

__all__ = [
    "Array",
    "ArrayOf",
    "GridAlias",
    "GridName",
    "Prediction",
    "Predicts",
    "SolverAlias",
    "SolverName",
    "SupportsArray",
    "Written",
]

Prediction: TypeAlias = Literal["noise", "data"]
"""The two kinds of outputs that a plan combines."""
Predicts: TypeAlias = Literal["noise", "data", "v", "score", "velocity"]
"""The targets that a network may predict."""

Written = NewType("Written", str)
"""A name of a solver or a grid that is no literal: made at run time, or with options (`name@grid:option=value`)."""


class ArrayOf(Protocol):
    """An array of NumPy, torch or JAX, as type checkers see it here."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def dtype(self) -> Any:
        """The type of the elements."""


class SupportsArray(Protocol):
    """An object that NumPy can convert to an array: arrays of NumPy, torch and JAX, but no text."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a NumPy array."""


Array = TypeVar("Array", bound=ArrayOf)
"""The arrays of a run: the result has the type of the input."""

# The names of the registries: `python -m benchmarks.render` writes them, and a test compares them.
# fmt: off
SolverName: TypeAlias = Literal[
    "auto", "ddim", "ddpm", "ddpm-large", "dpm-1", "dpm-fast", "dpm++fast", "dpm-2", "dpm-2-exact", "dpm-3",
    "dpm-3-exact", "dpm++2s", "dpm++2s-exact", "dpm++3s", "dpm++3s-exact", "dpm++sde", "seeds-1", "seeds-2", "seeds-3",
    "dpm-2m", "dpm-2m-exact", "dpm-3m", "dpm-3m-exact", "dpm-4m-exact", "dpm++2m", "dpm++2m-exact", "dpm++3m",
    "dpm++3m-exact", "dpm++4m-exact", "dpm++2m-sde", "dpm++3m-sde", "sde-dpm-1", "sde-dpm-2", "dpm++2m-ancestral",
    "unipc-1", "unipc-2", "unipc-3", "unipc-2-noise", "unipc-3-noise", "unip-1", "unip-2", "unip-3", "sa-solver",
    "sa-solver-pece", "res-2s", "res-3s", "etdrk4-krogstad", "etdrk4-ho", "deis-tab1", "deis-tab2", "deis-tab3",
    "deis-rhoab1", "deis-rhoab2", "deis-rhoab3", "deis-logrho1", "deis-logrho2", "deis-logrho3", "lms-1", "lms-2",
    "lms-3", "lms-4", "ipndm-v-2", "ipndm-v-3", "ipndm-v-4", "velocity-2m", "velocity-3m", "arc-2m", "arc-3m", "pndm",
    "s-pndm", "plms", "gradient-estimation", "ipndm-1", "ipndm-2", "ipndm-3", "ipndm-4", "euler", "heun", "dpm2",
    "euler-ancestral", "dpm++2s-ancestral", "dpm2-ancestral", "rk2-t", "rk2-lambda", "rk3-t", "rk3-lambda", "rk4-t",
    "rk4-lambda", "heunpp2", "er-sde-1", "er-sde-2", "er-sde-3", "euler-maruyama", "improved-reverse-sde", "lcm", "tcd",
    "dpm-v3", "analytic-ddpm", "analytic-ddim", "ddim-cfg++", "euler-ancestral-cfg++", "dpm++2s-ancestral-cfg++",
    "dpm++2m-cfg++", "dpm++2m-exact-cfg++", "dpm++2m-ancestral-cfg++", "gradient-estimation-cfg++",
]

SolverAlias: TypeAlias = Literal[
    "euler_ancestral", "euler_a", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m",
    "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "ipndm", "res_multistep", "res_multistep_ancestral",
    "exp_heun", "exp_heun_2_x0", "exp_heun_2_x0_sde", "er_sde", "seeds_2", "uni_pc", "uni_pc_bh2", "euler_cfg_pp",
    "euler_ancestral_cfg_pp", "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp", "res_multistep_ancestral_cfg_pp",
    "gradient_estimation_cfg_pp", "DPM2 a", "DPM++ 2S a", "ddim_trailing", "euler_ge", "euler_a_cfg_pp",
    "DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler",
    "IPNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler",
    "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler", "EDMEulerScheduler",
    "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler",
    "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler",
]

GridName: TypeAlias = Literal[
    "logsnr", "exponential", "polyexponential", "karras", "sigma-polynomial", "sigma", "rectified", "time", "quadratic",
    "cosine", "beta", "kl-optimal", "linear-quadratic", "simple", "normal", "sgm-uniform", "trailing", "leading",
    "linspace", "shifted", "dynamic-shift", "ays-sd15", "ays-sdxl", "ays-svd",
]

GridAlias: TypeAlias = Literal[
    "time_uniform", "time_quadratic", "lu_lambdas", "beta57", "ddim_uniform",
]
# fmt: on
