"""Try an installed package where nothing but the core was installed: it samples with NumPy, and says in a sentence what else is missing.

.ci/core dist/dpmsolver-*.whl        makes the environment and runs this there
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np

import dpmsolver as dpm
from dpmsolver.solvers import SOLVERS

EXTRAS = ("torch", "jax", "diffusers", "matplotlib", "PIL", "rich", "typer", "safetensors", "torchsde", "jinja2")
FOLDER = Path(dpm.__file__).parent


def check(promise: str, holds: bool) -> None:
    """Say a promise that holds, and stop at one that does not. An `assert` would disappear under -O."""
    if not holds:
        raise SystemExit(f"FAILED: {promise}")
    print(f"ok: {promise}")


def weights(path: Path) -> int:
    """The bytes that the header of a safetensors file says it has."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length + max(each["data_offsets"][1] for name, each in header.items() if name != "__metadata__")


def made_plan(solver: dpm.Solver, schedule: dpm.schedules.NoiseSchedule) -> dpm.Plan:
    """A plan of the solver, with a budget that it can spend: some need an odd one."""
    try:
        return dpm.make_plan(solver, schedule, 60)
    except dpm.PlanError:
        return dpm.make_plan(solver, schedule, 61)


def main() -> None:
    there = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    check(f"the environment has the core alone (found {there or 'nothing else'})", not there)
    core = {line.split(">")[0] for line in requires("dpmsolver") or [] if "extra ==" not in line}
    check(f"the core is {sorted(core)}", core == {"numpy", "scipy", "array-api-compat"})
    check(f"it is installed, not imported from sources: {FOLDER}", "site-packages" in FOLDER.parts)
    check(f"its version is {dpm.__version__}", dpm.__version__ == version("dpmsolver") != "0.0.0")
    check("type checkers find py.typed", (FOLDER / "py.typed").exists())

    model = dpm.models.Gaussian(mean=[1.0, -1.0], variance=[0.5, 0.1])
    schedule = dpm.schedules.LinearVP()
    denoiser = model.denoiser(schedule, "noise")
    x_T = dpm.initial_noise(schedule, (2000, 2), seed=0)
    for solver in ("auto", "ddim", "dpm++2m", "unipc-3", "dpm++2m-sde"):
        x = dpm.sample(denoiser, x_T, 40, solver=solver, generator=0)
        off = max(abs(x.mean(axis=0) - [1, -1]).max(), abs(x.var(axis=0) - [0.5, 0.1]).max())
        check(f"{solver} samples Gaussian data with NumPy, off by {off:.3f}", bool(off < 0.1))
    made = 0
    for entry in SOLVERS.values():
        if not entry.calibrated:
            plan = made_plan(entry, schedule)
            made += dpm.Plan.from_json(plan.to_json()) == plan
    check(f"{made} solvers make plans that files hold", made == sum(not entry.calibrated for entry in SOLVERS.values()))
    check("adaptive steps", dpm.sample_adaptive(denoiser, x_T[:4]).shape == (4, 2))
    check("RK45", dpm.sample_rk45(denoiser, x_T[:4], rtol=1e-3, atol=1e-3).x.shape == (4, 2))
    keep = dpm.inpaint(np.array([[0.5, 0.0]]), np.array([[1.0, 0.0]]), x_T[:1])
    check("inpainting", dpm.sample(denoiser, x_T[:1], 10, end=0.0, state_hook=keep)[0, 0] == 0.5)
    check("a plan cites its papers", "lu2022dpmpp" in dpm.make_plan("dpm++2m", schedule, 5).cite())

    tensors = sorted((FOLDER / "models" / "weights").rglob("*.safetensors"))
    whole = [path for path in tensors if path.stat().st_size == weights(path)]
    sizes = {
        str(path.relative_to(FOLDER / "models" / "weights")): round(path.stat().st_size / 1e6, 1) for path in tensors
    }
    check(
        f"the weights are whole (MB): {sizes}", tensors == whole and {path.parent.name for path in tensors} >= {"unet"}
    )
    for name in ("digits", "cifar10"):
        check(f"the network {name} came with it", any(name in path.relative_to(FOLDER).parts for path in tensors))

    for what, use in (("plot", lambda: plan.plot()), ("torch", lambda: dpm.models.load("digits"))):
        try:
            use()
        except ImportError as error:
            check(f"without {what} a sentence: {error}", "pip install" in str(error))
        else:
            check(f"without {what} a sentence", False)
    done = subprocess.run([sys.executable, "-m", "dpmsolver"], capture_output=True, text=True)
    check(
        f"without typer the command says: {done.stderr.strip()}", done.returncode == 2 and "pip install" in done.stderr
    )
    check("nothing imported a framework on the way", not {"torch", "jax", "matplotlib"} & set(sys.modules))
    print(f"{np.__name__} {np.__version__}, Python {sys.version.split()[0]}: the core alone works")


main()
