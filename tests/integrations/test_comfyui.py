"""The nodes for ComfyUI, on a stand-in for it (tests/comfy_stub.py), and our grids against the sigmas of its schedulers."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import comfy_stub as stub
import dpmsolver as dpm
from dpmsolver.adapters import k_diffusion
from goldens import comfyui
from peers import error

ROOT = Path(__file__).parents[2]
GOLDENS: dict[str, Any] = json.loads(Path(comfyui.__file__).with_suffix(".json").read_text())
SD = dpm.schedules.Discrete(betas=dpm.schedules.scaled_linear_betas())
DATA = torch.tensor([0.3, -0.2, 0.5, 0.1]).reshape(1, 4, 1, 1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, imported as ComfyUI imports a folder of custom_nodes."""
    folder = ROOT / "integrations" / "comfyui"
    name = "custom_nodes_dpmsolver"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    output = tmp_path_factory.mktemp("output")
    with stub.installed(str(output)):
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield SimpleNamespace(**module.NODE_CLASS_MAPPINGS, mappings=module, plans=output / "dpmsolver")
    for each in (name, f"{name}.nodes"):
        sys.modules.pop(each, None)


def network(x: Any, sigma: Any) -> Any:
    return DATA.to(x) * torch.tanh(1.0 / sigma.to(x).reshape(-1, 1, 1, 1) + 0.1 * x.flip(1).sin())


def model(kind: str) -> Any:
    samplings = {
        "sd": (stub.ModelSamplingDiscrete, stub.EPS),
        "edm": (stub.ModelSamplingContinuousEDM, stub.EPS),
        "flow": (stub.ModelSamplingDiscreteFlow, stub.CONST),
        "flux": (stub.ModelSamplingFlux, stub.CONST),
    }
    shift = {"shift": {"flow": 3.0, "flux": 1.15}[kind]} if kind in ("flow", "flux") else {}
    return stub.Patcher(stub.sampling_of(*samplings[kind], **shift), network)


def run(model: Any, sampler: Any, sigmas: Any, callback: Any = None, latent: Any = None) -> torch.Tensor:
    """As SamplerCustom does, with cfg = 1 and no conditions."""
    guider = stub.CFGGuider(model)
    guider.set_conds(0.0, 0.0)
    guider.set_cfg(1.0)
    noise = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(4))
    latent = torch.zeros_like(noise) if latent is None else latent
    result: torch.Tensor = guider.sample(noise, latent, sampler, sigmas, callback=callback, disable_pbar=True, seed=7)
    return result


def test_every_node_says_what_comfyui_asks(nodes: Any) -> None:
    mappings = nodes.mappings.NODE_CLASS_MAPPINGS
    assert mappings.keys() == nodes.mappings.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in mappings.values():
        inputs = node.INPUT_TYPES()["required"]
        function = getattr(node(), node.FUNCTION)
        assert set(inputs) == set(function.__code__.co_varnames[1 : function.__code__.co_argcount])
        assert set(node.RETURN_TYPES) <= {"SAMPLER", "SIGMAS"}
        assert node.CATEGORY.startswith("sampling/")


@pytest.mark.parametrize("kind", ["sd", "edm", "flow", "flux"])
def test_a_sampler_and_a_scheduler_run(nodes: Any, kind: str) -> None:
    """Through ComfyUI's interface: the callback counts the steps, the data come out, and part of a run starts from a latent."""
    patcher, steps = model(kind), []
    (sampler,) = nodes.DPMSolverSampler().make("dpm++2m", "lower_order_final=False")
    (sigmas,) = nodes.DPMSolverScheduler().make(patcher, "time" if kind == "flux" else "logsnr", 8, 1.0, "")
    assert sigmas.dtype == torch.float32
    assert (len(sigmas), float(sigmas[-1])) == (9, 0.0)
    assert float(sigmas[0]) == pytest.approx(float(patcher.sampling.sigmas[-1]), rel=1e-5)
    result = run(patcher, sampler, sigmas, lambda i, denoised, x, total: steps.append((i, total)))
    assert steps == [(i, 8) for i in range(8)]
    assert error(result, DATA.expand_as(result)) < 0.1
    (part,) = nodes.DPMSolverScheduler().make(patcher, "time" if kind == "flux" else "logsnr", 4, 0.5, "")
    assert torch.equal(part, sigmas[-5:])
    latent = DATA.expand(2, 4, 3, 3).contiguous()
    assert error(run(patcher, sampler, part, latent=latent), latent) < 0.1
    assert len(nodes.DPMSolverScheduler().make(patcher, "time", 4, 0.0, "")[0]) == 0


def test_a_stochastic_sampler_takes_its_options_and_the_seed(nodes: Any) -> None:
    patcher = model("sd")
    (sigmas,) = nodes.DPMSolverScheduler().make(patcher, "karras", 8, 1.0, "rho=5")
    assert error(sigmas.double(), nodes_sigmas("karras", 8, rho=5)) < 1e-4
    (plain,), (less,) = (nodes.DPMSolverSampler().make("dpm++2m-sde", text) for text in ("", "eta=0.3: s_noise=1.01"))
    sigmas = sigmas[:-3]  # at the end all samples are the data
    assert torch.equal(run(patcher, plain, sigmas), run(patcher, plain, sigmas))
    assert not torch.equal(run(patcher, plain, sigmas), run(patcher, less, sigmas))
    with pytest.raises(dpm.PlanError, match="unknown option 'etta'"):
        run(patcher, nodes.DPMSolverSampler().make("dpm++2m-sde", "etta=1")[0], sigmas)


def nodes_sigmas(grid: str, steps: int, **options: Any) -> torch.Tensor:
    times = dpm.grids.make_grid(SD, steps, grid, end=0.0, **options)
    return torch.from_numpy(SD.sigma(times) / SD.alpha(times))


@pytest.mark.parametrize("kind", ["edm", "flow"])
def test_a_plan_from_a_file(nodes: Any, kind: str) -> None:
    """SAMPLER and SIGMAS belong together: with other sigmas, or another kind of model, it says so."""
    patcher = model(kind)
    schedule = dpm.schedules.EDM(sigma_max=120.0) if kind == "edm" else dpm.schedules.Flow(shift=3.0)
    plan = dpm.make_plan("dpm++2m", schedule, 6, "time" if kind == "flow" else "karras")
    nodes.plans.mkdir(exist_ok=True)
    (nodes.plans / "plan.json").write_text(plan.to_json())
    sampler, sigmas = nodes.DPMSolverLoadPlan().load("plan.json")
    assert len(sigmas) == 7
    result = run(patcher, sampler, sigmas)
    assert error(result, DATA.expand_as(result)) < 0.1
    with pytest.raises(dpm.PlanError, match="has 7 sigmas of its own"):
        run(patcher, sampler, nodes.DPMSolverScheduler().make(patcher, "time", 10, 1.0, "")[0])
    other = model("flow" if kind == "edm" else "edm")
    with pytest.raises(dpm.PlanError, match="take a plan that was tuned for this model"):
        run(other, sampler, sigmas / float(sigmas[0]))
    assert nodes.DPMSolverLoadPlan.IS_CHANGED("plan.json") == (nodes.plans / "plan.json").stat().st_mtime
    for outside in ("../plan.json", "/tmp/plan.json", "plan.txt"):
        with pytest.raises(ValueError, match=r"a plan's file is a name that ends in \.json, without folders"):
            nodes.DPMSolverLoadPlan().load(outside)


@pytest.mark.parametrize("kind", ["sd", "flow"])
def test_a_plan_is_tuned_for_the_model_with_its_guidance(
    nodes: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """`dpm.tune` is given the guided model as a denoiser and noises of the latent's shape; what it finds is kept and returned."""
    asked: dict[str, Any] = {}

    def tune(denoiser: Any, noises: Any, nfe: int, **options: Any) -> Any:
        asked.update(options, denoiser=denoiser, noises=noises)
        asked["guided"] = denoiser.at(noises[:2], denoiser.schedule.t_max, "data")
        return SimpleNamespace(plan=dpm.make_plan("dpm++2m", denoiser.schedule, nfe, "time"))

    monkeypatch.setattr(dpm, "tune", tune, raising=False)
    patcher, latent = model(kind), {"samples": torch.zeros(1, 4, 3, 3)}
    node = nodes.DPMSolverTunePlan()
    sampler, sigmas = node.tune(patcher, 0.2, 0.1, 3.0, latent, 5, 20, "seconds", 3, "tuned.json")
    assert asked["noises"].shape == (20, 4, 3, 3)
    assert float(asked["noises"].std()) == pytest.approx(float(sigmas[0]), rel=0.1)
    assert (asked["effort"], asked["seed"]) == ("seconds", 3)
    expected = network(asked["noises"][:2], sigmas[:1].expand(2)) + 0.1 + 3.0 * (0.2 - 0.1)
    assert error(asked["guided"], expected) < 1e-5
    assert dpm.Plan.from_json((nodes.plans / "tuned.json").read_text()).nfe == 5
    assert run(patcher, sampler, sigmas).isfinite().all()


def test_without_tune_the_node_says_what_to_install(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dpm, "tune", raising=False)
    monkeypatch.delitem(dpm._LATER, "tune")
    with pytest.raises(RuntimeError, match=r"has no dpm\.tune: pip install --upgrade"):
        nodes.DPMSolverTunePlan().tune(model("sd"), 0.0, 0.0, 1.0, {}, 5, 20, "seconds", 0, "x.json")


def test_a_model_of_k_diffusion_is_a_denoiser_of_two_schedules() -> None:
    with pytest.raises(
        TypeError, match=r"the schedule of a k-diffusion model is EDM\(sigma_min, sigma_max\) or Flow\(\)"
    ):
        k_diffusion.denoiser(network, SD)  # type: ignore[arg-type]


# Grids: ComfyUI's schedulers, as it returns them in float32 ------------------------------------------------------------------------

FLOW = dpm.schedules.Flow(shift=3.0)


def ours(schedule: dpm.schedules.NoiseSchedule, grid: str, steps: int) -> np.ndarray:
    times = dpm.grids.make_grid(
        schedule, steps, dpm.solvers.names.known_grid(grid)[0], end=0.0, **dpm.solvers.names.known_grid(grid)[1]
    )
    sigma = schedule.sigma(times)
    return sigma if isinstance(schedule, dpm.schedules.Flow) else sigma / schedule.alpha(times)


@pytest.mark.parametrize("grid", ["simple", "sgm_uniform", "normal", "ddim_uniform"])
def test_grids_of_training_steps_are_those_of_comfyui(grid: str) -> None:
    """On Stable Diffusion's betas to float32, or to 1e-4 between training steps, which are interpolated otherwise; on flows to float32."""
    for steps, expected in zip(comfyui.STEPS, GOLDENS["schedulers"]["discrete"][grid], strict=True):
        np.testing.assert_allclose(
            ours(SD, grid, steps), expected, rtol=1e-6 if grid in ("simple", "ddim_uniform") else 2e-4
        )
    if grid != "ddim_uniform":  # a grid that counts the steps of a Discrete schedule
        for steps, expected in zip(comfyui.STEPS, GOLDENS["schedulers"]["flow"][grid], strict=True):
            np.testing.assert_allclose(ours(FLOW, grid, steps), expected, rtol=1e-6, atol=1e-7)


def test_kl_optimal_and_linear_quadratic_are_those_of_comfyui() -> None:
    """The first on sigmas x_0 + sigma eps, from the largest to the least and 0; the second on flows."""
    for steps, expected in zip(comfyui.STEPS[1:], GOLDENS["schedulers"]["discrete"]["kl_optimal"], strict=True):
        inner = dpm.grids.make_grid(SD, steps - 1, "kl-optimal", start=SD.t_max, end=SD.t_min)
        np.testing.assert_allclose(SD.sigma(inner) / SD.alpha(inner), expected[:-1], rtol=1e-5)
    flow = dpm.schedules.Flow()
    for schedule in (flow, FLOW):
        for steps, expected in zip(comfyui.STEPS, GOLDENS["schedulers"]["flow"]["linear_quadratic"], strict=True):
            np.testing.assert_allclose(ours(schedule, "linear_quadratic", steps), expected, rtol=1e-6, atol=1e-7)
