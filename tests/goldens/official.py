"""What the official DPM-Solver code returns in float64, kept in official.json: run once, outside this repository, on its checkout.

    git clone https://github.com/LuChengTHU/dpm-solver
    python tests/goldens/official.py dpm-solver > tests/goldens/official.json

`final` and the functions below it are a script with the official calls. They are run here with the official module, and by the tests with
`dpmsolver.compat.official`: the module is all that differs. Nothing is random: networks and states are formulas.

The official code shifts the labels of a schedule that it clips, as cosine betas are. `Label` gives its network the labels of the steps.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch

SKIPS = ("logSNR", "time_uniform", "time_quadratic")
METHODS = ("multistep", "singlestep", "singlestep_fixed")
ALGORITHMS = ("dpmsolver", "dpmsolver++")
TYPES = ("dpmsolver", "taylor")
STEPS = {"linear": 7, "discrete": 12, "alphas": 9, "hundred": 8, "clipped": 10, "cosine": 6}
MODEL_TYPES = ("noise", "x_start", "v", "score")


def cosine_betas(n: int = 1000) -> torch.Tensor:
    """The betas of improved DDPM, whose half-log-SNR falls below -5.1."""
    t = torch.arange(n + 1, dtype=torch.float64) / n
    products = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - products[1:] / products[:-1]).clamp(max=0.999)


def schedule_of(module: Any, name: str) -> Any:
    """A schedule as a script makes it."""
    double = {"dtype": torch.float64}
    if name in ("linear", "cosine"):
        return module.NoiseScheduleVP(name, **double)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    if name == "discrete":
        return module.NoiseScheduleVP("discrete", betas=betas, **double)
    if name == "alphas":  # Stable Diffusion's
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        return module.NoiseScheduleVP("discrete", alphas_cumprod=torch.cumprod(1 - betas, 0), **double)
    betas = torch.linspace(1e-3, 0.15, 100, dtype=torch.float64) if name == "hundred" else cosine_betas()
    return module.NoiseScheduleVP("discrete", betas=betas, **double)


class Label:
    """What brings a label into the unit of the network: a factor, and for the official code's clipped labels another one."""

    def __init__(self, schedule: Any, clipped: bool = False) -> None:
        discrete = schedule.schedule == "discrete"
        self.factor = (1e-3 if discrete else 1.0) * (schedule.total_N / 1000 if discrete and clipped else 1.0)

    def __call__(self, t: torch.Tensor) -> torch.Tensor:
        return (self.factor * t).reshape(-1, 1)


def network(label: Label) -> Any:
    """A smooth network of the state, of its label, and of a condition if there is one."""

    def model(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None, shift: float = 0.0) -> torch.Tensor:
        level = label(t)
        out = torch.tanh(0.8 * x + 0.3 * torch.cos(4 * level)) + 0.2 * x.flip(1) * level + shift
        return out if cond is None else out + 0.1 * cond * x

    return model


def start(samples: int = 2) -> torch.Tensor:
    """A start of the size of normals."""
    return torch.tensor([[0.4, -1.2, 0.7], [-0.3, 1.6, -0.8]], dtype=torch.float64)[:samples]


def solver_of(module: Any, name: str, algorithm: str, clipped: bool = False, **options: Any) -> Any:
    """An unconditional solver on a schedule."""
    schedule = schedule_of(module, name)
    model_fn = module.model_wrapper(network(Label(schedule, clipped)), schedule)
    return module.DPM_Solver(model_fn, schedule, algorithm_type=algorithm, **options)


def cases() -> list[tuple[str, int, str, str, str]]:
    """Method, order, skip_type, algorithm and solver_type of the runs on a schedule; the first order is one whatever the method."""
    first = product(("multistep",), (1,), SKIPS, ALGORITHMS, ("dpmsolver",))
    return [*first, *product(METHODS, (2, 3), SKIPS, ALGORITHMS, TYPES)]


def final(module: Any, name: str, case: tuple[str, int, str, str, str], x: torch.Tensor, clipped: bool = False) -> Any:
    """The result of one run."""
    method, order, skip, algorithm, kind = case
    solver = solver_of(module, name, algorithm, clipped)
    return solver.sample(x, STEPS[name], order=order, skip_type=skip, method=method, solver_type=kind)


def wrapped(module: Any, model_type: str, guidance: str) -> Any:
    """A run with a network of any type and guidance; the score is that of noise prediction, of the size of 1/sigma."""
    schedule = schedule_of(module, "discrete")
    plain = network(Label(schedule))
    conditions = torch.tensor([[1.0, 0.0, -1.0], [0.5, 0.5, 2.0]], dtype=torch.float64)

    def model(x: torch.Tensor, t: torch.Tensor, *cond: torch.Tensor, **kwargs: float) -> torch.Tensor:
        out = plain(x, t, *cond, **kwargs)
        return out if model_type != "score" else -out / schedule.marginal_std((t + 1) / 1000).reshape(-1, 1)

    def classifier(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor, scale: float) -> torch.Tensor:
        return -scale * ((x - cond) ** 2).sum(1) * (1 + t / 1000)

    given: dict[str, Any] = {
        "uncond": {},
        "classifier": {"condition": conditions, "classifier_fn": classifier, "classifier_kwargs": {"scale": 0.1}},
        "classifier-free": {"condition": conditions, "unconditional_condition": torch.zeros_like(conditions)},
        "conditional": {"condition": conditions},
    }[guidance]
    kind = "classifier-free" if guidance == "conditional" else guidance
    model_fn = module.model_wrapper(
        model,
        schedule,
        model_type=model_type,
        model_kwargs={"shift": 0.05},
        guidance_type=kind,
        guidance_scale=2.5,
        **given,
    )
    solver = module.DPM_Solver(model_fn, schedule)
    return solver.sample(start(), 11, order=3, skip_type="logSNR")


def others(module: Any) -> dict[str, Any]:
    """The rest of the arguments, one run each."""
    made = {
        f"{model_type} {guidance}": wrapped(module, model_type, guidance)
        for model_type in MODEL_TYPES
        for guidance in ("uncond", "classifier", "classifier-free", "conditional")
    }
    for name in ("linear", "discrete"):
        plus, noise = (solver_of(module, name, algorithm) for algorithm in ("dpmsolver++", "dpmsolver"))
        limited = solver_of(
            module, name, "dpmsolver++", correcting_x0_fn="dynamic_thresholding", dynamic_thresholding_ratio=0.8
        )
        half = solver_of(module, name, "dpmsolver", correcting_x0_fn=lambda x0, t: 0.5 * x0 + t.reshape(-1)[0])
        many = solver_of(
            module, name, "dpmsolver++", correcting_xt_fn=lambda x, t, step: x * (1 + 0.01 * step) + t.reshape(-1)[0]
        )
        function = module.DPM_Solver(lambda x, t: torch.tanh(x) * t.reshape(-1, 1), plus.noise_schedule)
        x = start()
        made |= {
            f"{name} thresholded": limited.sample(x, 8),
            f"{name} to zero": plus.sample(x, 8, denoise_to_zero=True),
            f"{name} noise to zero, corrected": half.sample(x, 8, order=3, method="singlestep", denoise_to_zero=True),
            f"{name} all orders to the end": plus.sample(x, 6, order=3, lower_order_final=False),
            f"{name} from the middle": noise.sample(x, 6, t_start=0.6, t_end=0.05, skip_type="time_quadratic"),
            f"{name} backwards": plus.inverse(0.3 * x, 9, order=3, skip_type="logSNR"),
            f"{name} backwards, singlestep": noise.inverse(0.3 * x, 9, t_end=0.7, order=3, method="singlestep"),
            f"{name} function": function.sample(x, 7, t_start=1),
            f"{name} added": plus.add_noise(x, torch.tensor([0.3], dtype=torch.float64), 0.5 * x.flip(0)),
            f"{name} added twice": plus.add_noise(
                x, torch.tensor([0.3, 0.8], dtype=torch.float64), torch.stack([x.flip(0), x])
            ),
            f"{name} noise prediction": plus.noise_prediction_fn(x, torch.tensor(0.4, dtype=torch.float64)),
            f"{name} data prediction": limited.data_prediction_fn(x, torch.tensor([0.4], dtype=torch.float64)),
        }
        for method, order in product(METHODS, (1, 2, 3)):
            _, states = plus.sample(x, 6, order=order, method=method, return_intermediate=True, denoise_to_zero=True)
            made[f"{name} states {method} {order}"] = torch.stack(states)
            if method != "multistep":  # whose first network call there does not see the correction
                made[f"{name} corrected {method} {order}"] = many.sample(
                    x, 6, order=order, method=method, denoise_to_zero=True
                )
        for order, algorithm, kind in product((2, 3), ALGORITHMS, TYPES):
            adaptive = solver_of(module, name, algorithm)
            made[f"{name} adaptive {order} {algorithm} {kind}"] = adaptive.sample(
                start(1), order=order, method="adaptive", solver_type=kind
            )
    return made


def module_at(path: Path) -> Any:
    """A file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(checkout: Path) -> None:
    torch.set_default_dtype(torch.float64)
    official = module_at(checkout / "dpm_solver_pytorch.py")
    older = module_at(checkout / "examples/stable-diffusion/ldm/models/diffusion/dpm_solver/dpm_solver.py")
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    adaptive_says, sys.stdout = sys.stdout, sys.stderr  # their adaptive method prints
    document = {
        "command": "python tests/goldens/official.py dpm-solver",
        "repository": "https://github.com/LuChengTHU/dpm-solver",
        "commit": commit,
        "final": {
            name: [
                final(older if name == "cosine" else official, name, case, start(), name == "clipped").tolist()
                for case in cases()
            ]
            for name in STEPS
        },
        "others": {name: values.tolist() for name, values in others(official).items()},
    }
    sys.stdout = adaptive_says
    print(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
