"""The samplers of diffusers and of k-diffusion as samplers of a comparison: the same network, the same x_T, every call counted.

A peer runs as its package runs it: diffusers' schedulers through `set_timesteps`, `scale_model_input` and `step`, made anew for every
batch with the testbed's betas; k-diffusion's functions on its own wrapper of a discrete model and its own sigmas. A budget is what a
peer may spend at most: a solver with two evaluations a step spends one less where the budget is even.

Peers have no noise of their own for each sample. Those that add noise draw it from a torch.Generator, or a Brownian tree, that the first
key of the batch seeds, so that a sample depends on its batch.

Left out of diffusers: DDIMParallel and DDPMParallel (the same formulas for a batch of times), the inverse schedulers (the other way),
EDMEuler, EDMDPMSolverMultistep and CosineDPMSolverMultistep (networks of sigma, and no testbed has one), FlowMatch*, LTX and Helios
(flow models), LCM, TCD, SCM, ConsistencyModels and ConsistencyDecoder (distilled networks), VQDiffusion, Amused and others of discrete
data, UnCLIP, Wuerstchen, CogVideoX and RePaint (DDPM and DDIM for one pipeline), ScoreSdeVe, and what is deprecated; of the schedulers'
options, `euler_at_final` of DPMSolverMultistep, which changes nothing where a run ends at sigma = 0. Left out of k-diffusion:
`log_likelihood`, and churn, which is noise that the plain samplers do without.
"""

from __future__ import annotations

from benchmarks.peer_samplers.of_diffusers import DIFFUSERS
from benchmarks.peer_samplers.of_k_diffusion import K_DIFFUSION
from dpmsolver.evaluation.samplers import Sampler
from dpmsolver.schedules import Discrete, NoiseSchedule

__all__ = ["peer_samplers"]


def peer_samplers(schedule: NoiseSchedule) -> list[Sampler]:
    """Every sampler of diffusers and k-diffusion that can sample a network of this schedule.

    They are called "diffusers SCHEDULER VARIANT GRID" and "k-diffusion FUNCTION GRID", without the grid where it is the package's own.

    Raises:
        ValueError: a schedule that is not `Discrete`, or has zero terminal SNR.

    Examples:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> names = [s.name for s in peer_samplers(dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000)))]
        >>> "diffusers DPMSolverMultistep 2M karras" in names, "k-diffusion dpmpp_2m karras" in names
        (True, True)
    """
    if not isinstance(schedule, Discrete) or float(schedule.alpha(schedule.t_max)) == 0.0:
        raise ValueError(
            f"peers sample networks of a Discrete schedule that begins at alpha > 0, got {type(schedule).__name__}"
        )
    return [*(recipe.sampler() for recipe in DIFFUSERS), *K_DIFFUSION]
