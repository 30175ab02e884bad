"""The scheduler classes of diffusers: what kind of process each samples, and which fields of its config it reads.

"Reads" means: for alpha, sigma, the network's label or the sign of its output. Everything is data here; `fields` applies it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BETA_FIELDS", "FAMILIES", "HANDWRITTEN", "NEUTRAL", "NOT_SERVED", "SOLVER_FIELDS", "Family"]


@dataclass(frozen=True)
class Family:
    """A kind of process, and the fields that its class reads, each with the default of the class."""

    kind: Literal["betas", "flow", "edm"]
    reads: dict[str, Any]
    class_name: str = ""


BETA_FIELDS = ("beta_schedule", "beta_start", "beta_end", "trained_betas")
_BETAS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    # DPM-Solver's classes alone act on it. It says where runs start, and a config keeps it when its class is changed.
    "lambda_min_clipped": -math.inf,
}
_LATENT = _BETAS | {"beta_start": 0.00085, "beta_end": 0.012}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_CLIPS = {"clip_sample": True}
_CONSISTENCY = _LATENT | _ZERO_SNR | {"beta_schedule": "scaled_linear"}
_COGVIDEO = _CONSISTENCY | _CLIPS | {"snr_shift_scale": 3.0}
_FLOW_SIGMAS = {"use_flow_sigmas": False, "flow_shift": 1.0}
_DYNAMIC = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
_RANGE = {"sigma_min": None, "sigma_max": None}
_FLOW = {"num_train_timesteps": 1000, "shift": 1.0}
_FLOW_MATCH = _FLOW | _DYNAMIC | {"invert_sigmas": False, "shift_terminal": None}
_UNIPC = _BETAS | _ZERO_SNR | _FLOW_SIGMAS | _DYNAMIC | _RANGE | {"shift_terminal": None}
_EULER = _BETAS | _ZERO_SNR | _RANGE | {"timestep_type": "discrete"}
_EDM = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "prediction_type": "epsilon"}
_UNCLIP = _CLIPS | {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}

_KINDS: dict[Literal["betas", "flow", "edm"], dict[str, dict[str, Any]]] = {
    "betas": {
        "PNDMScheduler": _BETAS,
        "LMSDiscreteScheduler": _BETAS,
        "RePaintScheduler": {name: value for name, value in (_BETAS | _CLIPS).items() if name != "prediction_type"},
        "DDPMScheduler": _BETAS | _ZERO_SNR | _CLIPS,
        "DDPMParallelScheduler": _BETAS | _ZERO_SNR | _CLIPS,
        "DDIMScheduler": _BETAS | _ZERO_SNR | _CLIPS,
        "DDIMParallelScheduler": _BETAS | _ZERO_SNR | _CLIPS,
        "DDIMInverseScheduler": _BETAS | _ZERO_SNR | _CLIPS,
        "EulerAncestralDiscreteScheduler": _BETAS | _ZERO_SNR,
        "EulerDiscreteScheduler": _EULER,
        "HeunDiscreteScheduler": _LATENT,
        "DPMSolverSDEScheduler": _LATENT,
        "KDPM2DiscreteScheduler": _LATENT,
        "KDPM2AncestralDiscreteScheduler": _LATENT,
        "LCMScheduler": _CONSISTENCY,
        "TCDScheduler": _CONSISTENCY,
        "CogVideoXDDIMScheduler": _COGVIDEO,
        "CogVideoXDPMScheduler": _COGVIDEO,
        "UnCLIPScheduler": _UNCLIP,
        "DEISMultistepScheduler": _BETAS | _FLOW_SIGMAS | _DYNAMIC,
        "DPMSolverSinglestepScheduler": _BETAS | _FLOW_SIGMAS | _DYNAMIC,
        "DPMSolverMultistepScheduler": _BETAS | _ZERO_SNR | _FLOW_SIGMAS | _DYNAMIC,
        "DPMSolverMultistepInverseScheduler": _BETAS | _FLOW_SIGMAS,
        "SASolverScheduler": _BETAS | _FLOW_SIGMAS,
        "UniPCMultistepScheduler": _UNIPC,
    },
    "flow": {
        # sigma_data and its range stand in no signature: Cosmos-Predict2's pipeline registers them.
        "FlowMatchEulerDiscreteScheduler": _FLOW_MATCH | _RANGE | {"sigma_data": None},
        # Its step has the sign of a flow that is not inverted, whatever the config says.
        "FlowMatchLCMScheduler": {name: value for name, value in _FLOW_MATCH.items() if name != "invert_sigmas"},
        "FlowMatchHeunDiscreteScheduler": _FLOW,
    },
    "edm": {"EDMEulerScheduler": _EDM, "EDMDPMSolverMultistepScheduler": _EDM},
}
FAMILIES = {name: Family(kind, reads, name) for kind, table in _KINDS.items() for name, reads in table.items()}
HANDWRITTEN = Family("betas", _EULER | {"snr_shift_scale": 1.0})
"""The family of a config without `_class_name` that has betas."""

# What a field must be where its class does not read it: any of these, or null. () means null alone.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys((*BETA_FIELDS, "sigma_data", "sigma_min", "sigma_max", "timestep_values"), ()),
    "shift_terminal": (0,),
    **dict.fromkeys(("rescale_betas_zero_snr", "invert_sigmas", "use_flow_sigmas", "use_dynamic_shifting"), (False,)),
    **dict.fromkeys(("shift", "flow_shift", "snr_shift_scale"), (1.0,)),
    "lambda_min_clipped": (-math.inf,),
    "prediction_type": ("epsilon",),
    "timestep_type": ("discrete",),
    # "log_linear" pairs the labels of one grid with the noise levels of another.
    "interpolation_type": ("linear",),
    "time_shift_type": ("exponential", "linear"),
    "predict_epsilon": (True,),
}

SOLVER_FIELDS = frozenset(
    (
        "algorithm_type",
        "base_image_seq_len",
        "base_shift",
        "clip_sample",
        "clip_sample_range",
        "corrector_order",
        "disable_corrector",
        "dynamic_thresholding_ratio",
        "eta",
        "euler_at_final",
        "final_sigmas_type",
        "lower_order_final",
        "max_image_seq_len",
        "max_shift",
        "noise_sampler_seed",
        "num_train_timesteps",
        "original_inference_steps",
        "predict_x0",
        "predictor_order",
        "rho",
        "s_noise",
        "sample_max_value",
        "scale_factors",
        "set_alpha_to_one",
        "sigma_schedule",
        "skip_prk_steps",
        "solver_order",
        "solver_p",
        "solver_type",
        "steps_offset",
        "stochastic_sampling",
        "tau_func",
        "tensor_format",
        "thresholding",
        "timestep_scaling",
        "timestep_spacing",
        "upscale_mode",
        "use_beta_sigmas",
        "use_exponential_sigmas",
        "use_karras_sigmas",
        "use_lu_lambdas",
        "variance_type",
    )
)
"""The fields that bear on the solver, its steps or its corrections alone."""

_TOKENS = "it draws tokens, which have no Gaussian noise, so this library has no solver for it"
_STAGES = "its stages change the resolution and the noise during a run"
NOT_SERVED = {
    **dict.fromkeys(("AmusedScheduler", "BlockRefinementScheduler", "DiscreteDDIMScheduler"), _TOKENS),
    **dict.fromkeys(("EntropyBoundScheduler", "VQDiffusionScheduler"), _TOKENS),
    **dict.fromkeys(("HeliosScheduler", "HeliosDMDScheduler"), _STAGES),
    "CMStochasticIterativeScheduler": "its consistency models have labels and a scaling of their own; precondition the network and "
    "use schedules.EDM(sigma_min=…, sigma_max=…) with predicts='data'",
    "CosineDPMSolverMultistepScheduler": "its networks get 2 atan(sigma)/pi as label; use schedules.EDM(sigma_min=…, sigma_max=…) with "
    "predicts='data' and precondition the network yourself",
    "DDPMWuerstchenScheduler": "its networks get the time in [0, 1]; use schedules.CosineVP(t_max=…) with predicts='noise'",
    "FlowMapEulerDiscreteScheduler": "its networks take two times and predict a mean velocity, which no solver here can integrate",
    "IPNDMScheduler": "its networks get their label on an arc of their own; use schedules.Custom(alpha=…, sigma=…)",
    "KarrasVeScheduler": "use schedules.EDM(sigma_min=…, sigma_max=…) with a network of your own",
    "LTXEulerAncestralRFScheduler": "its config does not say the noise levels; use the config of FlowMatchEulerDiscreteScheduler",
    "MiniMaxH3Scheduler": "use schedules.Flow(shift=…, reversed=True) with predicts='velocity'",
    "PiflowScheduler": "its networks predict a whole path at once, which no solver here can integrate",
    "RFD4ProteinaScheduler": "use schedules.Flow(label_scale=…, reversed=…) as the model wants",
    "SCMScheduler": "its networks live on a circle of radius sigma_data; use schedules.Custom(alpha=…, sigma=…)",
    "ScoreSdeVeScheduler": "use schedules.EDM(sigma_min=…, sigma_max=…) with predicts='score'",
}
"""The classes that are known and not served, with the reason or the way out."""
