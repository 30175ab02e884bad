"""dpmsolver draws samples from pretrained diffusion models in about ten network evaluations.

With a network and the noise schedule that it was trained on:

    import dpmsolver as dpm

    schedule = dpm.schedules.Discrete(betas=betas)
    denoiser = dpm.Denoiser(network, schedule, predicts="noise")
    x0 = dpm.sample(denoiser, x_T, nfe=10)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpmsolver import grids, models, schedules, transforms
from dpmsolver.errors import ConventionWarning, PlanError, SamplingError
from dpmsolver.networks import guidance, thresholding
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.diagnosis import check
from dpmsolver.networks.preconditioning import edm_preconditioned
from dpmsolver.plans import Plan
from dpmsolver.sampling.adaptive import sample_adaptive
from dpmsolver.sampling.calibration import calibrate
from dpmsolver.sampling.drawn import plot_trajectory
from dpmsolver.sampling.forward import add_noise, initial_noise, inpaint
from dpmsolver.sampling.rk45 import sample_rk45
from dpmsolver.sampling.runs import State, encode, iterate, sample
from dpmsolver.sampling.stepper import Stepper
from dpmsolver.solvers import Solver, make_plan
from dpmsolver.solvers.explained import options
from dpmsolver.version import VERSION

if TYPE_CHECKING:
    from dpmsolver.adapters.diffusers.pipelines import from_diffusers
    from dpmsolver.generation.generating import generate
    from dpmsolver.solvers import solvers
    from dpmsolver.tuning.tuning import select, tune
else:
    from dpmsolver import solvers  # the package, which is callable: type checkers know no callable modules

__version__ = VERSION

__all__ = [
    "ConventionWarning",
    "Denoiser",
    "Plan",
    "PlanError",
    "SamplingError",
    "Solver",
    "State",
    "Stepper",
    "add_noise",
    "calibrate",
    "check",
    "edm_preconditioned",
    "encode",
    "from_diffusers",
    "generate",
    "grids",
    "guidance",
    "initial_noise",
    "inpaint",
    "iterate",
    "make_plan",
    "models",
    "options",
    "plot_trajectory",
    "sample",
    "sample_adaptive",
    "sample_rk45",
    "schedules",
    "select",
    "solvers",
    "thresholding",
    "transforms",
    "tune",
]

# Imported when they are first asked for: whoever samples needs none of them.
_LATER = {
    "from_diffusers": "dpmsolver.adapters.diffusers.pipelines",
    "generate": "dpmsolver.generation.generating",
    "select": "dpmsolver.tuning.tuning",
    "tune": "dpmsolver.tuning.tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
