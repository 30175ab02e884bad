"""The samplers of diffusers, k-diffusion and azula as samplers of a comparison: the same network, the same x_T, every call counted.

A peer runs as its package runs it: diffusers' schedulers through `set_timesteps`, `scale_model_input` and `step`, made anew for every
batch with the testbed's betas; k-diffusion's functions on its own wrapper of a discrete model and its own sigmas; azula's samplers on its
own schedules. A budget is what a peer may spend at most: a solver with two evaluations a step spends one less where its steps do not add
up to the budget.

Networks of a `Discrete` schedule are sampled by all three packages. A `Flow` is sampled by diffusers' flow schedulers, on their own
sigmas, and by azula; k-diffusion has nothing for it. Networks of `EDM` are sampled by diffusers' EDM schedulers, which get the raw output
that their preconditioning turns into the predicted data, by k-diffusion and by azula.

Peers have no noise of their own for each sample. Those that add noise draw it from a torch.Generator, or a Brownian tree, that the first
key of the batch seeds, so that a sample depends on its batch.

Left out of diffusers: DDIMParallel and DDPMParallel (the same formulas for a batch of times), the inverse schedulers (the other way),
LTX, Helios and FlowMatchLCM (for one pipeline or distilled), LCM, TCD, SCM, ConsistencyModels and ConsistencyDecoder (distilled
networks), VQDiffusion, Amused and others of discrete data, UnCLIP, Wuerstchen, CogVideoX and RePaint (DDPM and DDIM for one pipeline),
ScoreSdeVe, and what is deprecated; of the schedulers' options, `euler_at_final` of DPMSolverMultistep, which changes nothing where a run
ends at sigma = 0. Left out on flows: DEISMultistep and SASolver, which repeat their last sigma, about 1/n, and so end far from the data,
and bh1 of UniPCMultistep, which is not finite at sigma = 0; for EDM: EDMDPMSolverMultistep of order 3 with noise, which fails. Left out
of k-diffusion: `log_likelihood`, and churn, which is noise that the plain samplers do without.
"""

from __future__ import annotations

from benchmarks.peer_samplers.of_azula import AZULA
from benchmarks.peer_samplers.of_diffusers import DIFFUSERS, EDM_DIFFUSERS, FLOW_DIFFUSERS
from benchmarks.peer_samplers.of_k_diffusion import EDM_K_DIFFUSION, K_DIFFUSION
from dpmsolver.evaluation.samplers import Sampler
from dpmsolver.schedules import EDM, Discrete, Flow, NoiseSchedule

__all__ = ["peer_samplers"]


def peer_samplers(schedule: NoiseSchedule) -> list[Sampler]:
    """Every sampler of diffusers, k-diffusion and azula, where that is installed, that can sample a network of this schedule.

    They are called "diffusers SCHEDULER VARIANT GRID", "k-diffusion FUNCTION GRID" and "azula SAMPLER VARIANT GRID", without the grid where
    it is the package's own.

    Raises:
        ValueError: a schedule that is not `Discrete`, `Flow` or `EDM`, or is `Discrete` and has zero terminal SNR.

    Examples:
        >>> import numpy as np
        >>> import dpmsolver as dpm
        >>> names = [s.name for s in peer_samplers(dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000)))]
        >>> "diffusers DPMSolverMultistep 2M karras" in names, "k-diffusion dpmpp_2m karras" in names
        (True, True)
        >>> "diffusers FlowMatchEulerDiscrete" in [s.name for s in peer_samplers(dpm.schedules.Flow())]
        True
    """
    if isinstance(schedule, Flow):
        found = [recipe.sampler() for recipe in FLOW_DIFFUSERS]
    elif isinstance(schedule, EDM):
        found = [*(recipe.sampler() for recipe in EDM_DIFFUSERS), *EDM_K_DIFFUSION]
    elif isinstance(schedule, Discrete) and float(schedule.alpha(schedule.t_max)) > 0.0:
        found = [*(recipe.sampler() for recipe in DIFFUSERS), *K_DIFFUSION]
    else:
        raise ValueError(
            "peers sample networks of a Flow, EDM, or Discrete schedule that begins at alpha > 0, "
            f"got {type(schedule).__name__}"
        )
    return [*found, *AZULA]
