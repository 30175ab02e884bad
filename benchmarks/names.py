"""The page of other packages' names, docs/names.md: what each of them is here, as the library itself understands it.

python benchmarks/names.py             writes the page
python benchmarks/names.py --check     fails where the page is not what the library says
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dpmsolver.errors import PlanError
from dpmsolver.files import written_aside
from dpmsolver.solvers import SOLVERS
from dpmsolver.solvers.names import ALIASES, DIFFERENT, DIFFERENT_GRIDS, GRID_ALIASES, known_grid, understood

PAGE = Path(__file__).parent.parent / "docs" / "names.md"

NONE = "*none*"  # in place of a name of ours

# What the menus and modules of the packages have, by the package: samplers, and what they call schedulers or sigmas. The tests hold the
# lists against the packages that are installed, and against ComfyUI's own in tests/goldens/comfyui.json.
SAMPLERS: dict[str, tuple[str, ...]] = {
    "ComfyUI": (
        *("euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0"),
        *("exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral"),
        *("dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde"),
        *("dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm"),
        *("lcm", "ipndm", "ipndm_v", "deis", "cfgpp_ud10_ab", "res_multistep", "res_multistep_cfg_pp"),
        *("res_multistep_ancestral", "res_multistep_ancestral_cfg_pp", "gradient_estimation"),
        *("gradient_estimation_cfg_pp", "er_sde", "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece", "ddim"),
        *("uni_pc", "uni_pc_bh2"),
    ),
    "k-diffusion": (
        *("sample_euler", "sample_euler_ancestral", "sample_heun", "sample_dpm_2", "sample_dpm_2_ancestral"),
        *("sample_lms", "sample_dpm_fast", "sample_dpm_adaptive", "sample_dpmpp_2s_ancestral", "sample_dpmpp_sde"),
        *("sample_dpmpp_2m", "sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"),
    ),
    "diffusers": (
        *("DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler", "DDPMScheduler", "DDPMParallelScheduler"),
        *("DDPMWuerstchenScheduler", "PNDMScheduler", "IPNDMScheduler", "LMSDiscreteScheduler"),
        *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
        *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"),
        *("DPMSolverSinglestepScheduler", "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler"),
        *(
            "CosineDPMSolverMultistepScheduler",
            "UniPCMultistepScheduler",
            "DEISMultistepScheduler",
            "SASolverScheduler",
        ),
        *("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"),
        *("FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler", "FlowMapEulerDiscreteScheduler"),
        *("LTXEulerAncestralRFScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "HeliosScheduler"),
        *("HeliosDMDScheduler", "LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler", "SCMScheduler"),
        *(
            "ConsistencyDecoderScheduler",
            "UnCLIPScheduler",
            "RePaintScheduler",
            "PiflowScheduler",
            "MiniMaxH3Scheduler",
        ),
        *("RFD4ProteinaScheduler", "ScoreSdeVeScheduler", "ScoreSdeVpScheduler", "KarrasVeScheduler"),
        *("AmusedScheduler", "BlockRefinementScheduler", "DiscreteDDIMScheduler", "EntropyBoundScheduler"),
        "VQDiffusionScheduler",
    ),
    "AUTOMATIC1111": (
        *("DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a"),
        *("Euler", "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++"),
        *("PLMS", "UniPC", "LCM"),
    ),
}
SCHEDULERS: dict[str, tuple[str, ...]] = {
    "ComfyUI": (
        *("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic"),
        "kl_optimal",
    ),
    "k-diffusion": ("get_sigmas_karras", "get_sigmas_exponential", "get_sigmas_polyexponential", "get_sigmas_vp"),
    "diffusers": (
        *("timestep_spacing=leading", "timestep_spacing=trailing", "timestep_spacing=linspace", "use_karras_sigmas"),
        *("use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_dynamic_shifting"),
    ),
    "AUTOMATIC1111": (
        *("Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal"),
        *("Align Your Steps", "Simple", "Normal", "DDIM", "Beta"),
    ),
}
# Names that a menu has for another thing than the same word means here, or that are no single word there.
SPELLED: dict[tuple[str, str], str] = {
    ("AUTOMATIC1111", "DDIM"): "ddim_uniform",
    ("diffusers", "timestep_spacing=leading"): "leading",
    ("diffusers", "timestep_spacing=trailing"): "trailing",
    ("diffusers", "timestep_spacing=linspace"): "linspace",
    ("diffusers", "use_karras_sigmas"): "karras",
    ("diffusers", "use_exponential_sigmas"): "exponential",
    ("diffusers", "use_beta_sigmas"): "beta",
    ("diffusers", "use_lu_lambdas"): "lu_lambdas",
    ("diffusers", "use_dynamic_shifting"): "dynamic-shift",
    ("k-diffusion", "get_sigmas_karras"): "karras",
    ("k-diffusion", "get_sigmas_exponential"): "exponential",
    ("k-diffusion", "get_sigmas_polyexponential"): "polyexponential",
}
NOT_HERE: dict[tuple[str, str], str] = {
    ("AUTOMATIC1111", "Beta"): "its beta distribution spreads sigma itself; `beta` here, and in ComfyUI, spreads time",
    ("k-diffusion", "get_sigmas_vp"): "even in the time of `LinearVP`, from 1 to 0.001: `time` there",
}
# What is true of a name beyond its alias, of samplers (without _gpu) and of schedulers.
_SHORT_END = "one evaluation on a step to sigma = 0, here two"
_CLIPS = "it clips x_0 by default, which is a `data_hook` here"
NOTES: dict[str, str] = {
    "ipndm": "to sigma = 0 it takes the newest output alone",
    "lms": "to sigma = 0 it takes the newest output alone",
    "er_sde": "its integrals are sums of 200 terms, 1e-3 from the exact ones",
    "uni_pc": "it ends at sigma = 0.001 in place of 0",
    "uni_pc_bh2": "it ends at sigma = 0.001 in place of 0",
    **dict.fromkeys(("dpmpp_sde", "seeds_2", "exp_heun_2_x0", "exp_heun_2_x0_sde", "sample_dpmpp_sde"), _SHORT_END),
    "heunpp2": "without its churn",
    "DDIM CFG++": "its scale is 12.5 times the one here",
    **dict.fromkeys(("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler"), _CLIPS),
}
GRID_NOTES: dict[str, str] = {
    "ddim_uniform": "a step more where n does not divide the training steps",
    "kl_optimal": "even in arctan(sigma) on flows too, ours in arctan(sigma/alpha)",
    "linear_quadratic": "on other models than flows the sigmas of a flow times sigma_max",
    "normal": "log sigma is linear between training steps, here log alpha: up to 1e-4 of a sigma",
    "sgm_uniform": "as `normal`",
    "KL Optimal": "it ends at the smallest sigma: `end=schedule.t_min`",
    "DDIM": "ComfyUI's `ddim_uniform`",
}

HEAD = """# Names of other packages

The names of other packages are accepted wherever a solver is named: in `make_plan`, `sample`, `iterate`, `encode`, and in
`dpmsolver sample`, `plan` and `compare`. Upper and lower case, spaces, `-` and `_` do not matter, nor do `dpmpp` for `dpm++`, `cfg_pp` for
`cfg++`, `sample_` before a name and `_gpu` after it. Names of this library (`dpmsolver solvers`) come first: `dpm-2` is DPM-Solver-2,
`dpm_2` is k-diffusion's DPM2.

```python
import dpmsolver as dpm

schedule = dpm.schedules.LinearVP()
dpm.make_plan("DPM++ 2M Karras", schedule, nfe=10)  # as AUTOMATIC1111 writes a solver and a grid
dpm.make_plan("UniPCMultistepScheduler", schedule, nfe=10)
dpm.make_plan("dpmpp_2m_sde@karras:rho=5:s_noise=1.003", schedule, nfe=10)  # name@grid:option=value
```

A name is accepted if it means the same sampler here: the same coefficients on the same grid, which `tests/test_peers_names.py` and
`tests/solvers/test_cfgpp.py` check. A name includes the options that make both equal; options of yours replace them. `eta` is the strength
of the noise everywhere here: 0 is the ODE, 1 the reverse SDE. k-diffusion and ComfyUI define it differently for `dpmpp_sde`,
`dpmpp_2m_sde`, `dpmpp_3m_sde` and similar names (in the last two it is the square of ours); for these names an eta other than 0 and 1 is
refused. A name implies no grid unless it contains one, no network conventions, no clipping, and no noise source. Runs of k-diffusion and
ComfyUI end at sigma = 0, which is `end=0.0` here. Any other name raises an error that names the nearest solver and how it differs.

On flow models ComfyUI's ancestral samplers and its `ddpm` are others, and what it runs in sigma alone (`heun`, `dpm_2`, `lms`, `dpmpp_2m`,
`dpmpp_2m_cfg_pp`, …) is the solver of that name for `EDM`: see [ComfyUI](comfyui.md). The `…_cfg_pp` want the unconditional output
beside the guided one: they run in `dpm.sample` with [`guidance.ClassifierFree`](guidance.md), and not as functions of k-diffusion's kind.

In the tables, *none* stands where a name raises that error; what follows is its reason.

This page is written by `make pages` from what the library itself understands, and a test fails where the two disagree.
"""


def row_of_sampler(name: str) -> str:
    """The row of a sampler: what it is here, or the sentence that says why not."""
    try:
        spec = understood(name, SOLVERS)
    except PlanError as error:
        return f"| `{name}` | {NONE}: {sentence(str(error).removeprefix(f'{name} '))} |"
    grid = f"@{spec.grid}" if spec.grid else ""
    said = "".join(f":{key}={value}" for key, value in spec.options.items())
    return row(name, f"{spec.solver}{grid}{said}", NOTES.get(name.removesuffix("_gpu"), ""))


def row_of_scheduler(package: str, name: str) -> str:
    """The row of a scheduler: the grid that it is here, or the sentence that says why not."""
    if (package, name) in NOT_HERE:
        return f"| `{name}` | {NONE}: {NOT_HERE[package, name]} |"
    try:
        grid, options = known_grid(SPELLED.get((package, name), name))
    except PlanError as error:
        return f"| `{name}` | {NONE}: {sentence(str(error))} |"
    said = "".join(f":{key}={value}" for key, value in options.items())
    return row(name, f"{grid}{said}", GRID_NOTES.get(name, ""))


def row(name: str, ours: str, note: str) -> str:
    """The row of a name that is accepted, with what is true of it beyond the name of ours."""
    return f"| `{name}` | `{ours}`{f': {note}' if note else ''} |"


def sentence(answer: str) -> str:
    """An answer without its address."""
    return answer.split(" here: ", 1)[-1]


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for package, names in SAMPLERS.items():
        parts.append(f"## {package}\n")
        parts.append(table("sampler", [row_of_sampler(name) for name in names]))
        parts.append(table("scheduler, sigmas", [row_of_scheduler(package, name) for name in SCHEDULERS[package]]))
    parts.append("## Other names\n")
    shown = {name for names in SAMPLERS.values() for name in names}
    others = [name for group in ALIASES.values() for name in group if name not in shown]
    others += [name for name in DIFFERENT if name not in shown]
    parts.append(table("sampler", [row_of_sampler(name) for name in dict.fromkeys(others)]))
    shown = {SPELLED.get((package, name), name).lower() for package, names in SCHEDULERS.items() for name in names}
    grids = [name for name in (*GRID_ALIASES, *DIFFERENT_GRIDS) if name not in shown]
    parts.append(table("grid", [row_of_scheduler("", name) for name in grids]))
    return "\n".join(parts)


def table(what: str, rows: Sequence[str]) -> str:
    """A table of two columns."""
    return "\n".join([f"| {what} | here, and the difference |", "|-|-|", *rows, ""])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is out of step")
    if not parser.parse_args(argv).check:
        with written_aside(PAGE) as aside:
            aside.write_text(page())
        return 0
    if PAGE.read_text() == page():
        return 0
    print(f"{PAGE.name} is not what the library says: python benchmarks/names.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
