"""`dpmsolver.adapters.k_diffusion`: k-diffusion's own functions and ComfyUI's, called in the same way, return the same."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import dpmsolver as dpm
from dpmsolver.adapters import k_diffusion
from dpmsolver.adapters.k_diffusion import sampler
from dpmsolver.solvers import SOLVERS
from goldens import comfyui
from goldens.comfyui import denoised, noise_of_path, start
from peers import error
from test_peers_k_diffusion import sampling  # noqa: F401 (a fixture)

GOLDENS: dict[str, Any] = json.loads((Path(comfyui.__file__).with_suffix(".json")).read_text())
SIGMAS = torch.tensor([*comfyui.SIGMAS, 0.0], dtype=torch.float64)
FLOW = torch.tensor([*comfyui.FLOW_SIGMAS, 0.0], dtype=torch.float64)
NAMES = [name for name in dir(k_diffusion) if name.startswith("sample_")]
# Ours that want more than a model and sigmas.
CALIBRATED = {"sample_dpm_v3", "sample_analytic_ddpm", "sample_analytic_ddim"}


def run(name: str, sigmas: torch.Tensor = SIGMAS, **options: Any) -> torch.Tensor:
    """A function of ours, on the denoiser, the start and the noise of the goldens."""
    flow = options.get("schedule") == "flow"
    options = {"noise_sampler": noise_of_path(flow), **options}
    result: torch.Tensor = getattr(k_diffusion, name)(
        denoised, start(float(sigmas[0])), sigmas, disable=True, **options
    )
    return result


# The functions -------------------------------------------------------------------------------------------------------------------


def test_every_solver_of_the_registry_is_a_function() -> None:
    """By its own name; those whose name is another sampler's in ComfyUI are to be had from `sampler`, and only those."""
    single = [name for name, solver in SOLVERS.items() if solver.answers == 1]
    ours = {f"sample_{name.replace('++', '_pp_').replace('-', '_')}": name for name in single}
    missing = {name for name, own in ours.items() if name not in NAMES}
    assert missing == {"sample_sa_solver", "sample_sa_solver_pece", "sample_seeds_3"}
    for name in missing:
        with pytest.raises(AttributeError, match=f"no function '{name}' .*the nearest is '{ours[name]}'"):
            getattr(k_diffusion, name)
        assert callable(sampler(ours[name]))


def test_samplers_of_two_outputs_are_answered() -> None:
    """A model of k-diffusion's kind gives one output, and CFG++ wants the unconditional one beside it."""
    for name in ("euler_cfg_pp", "dpmpp_2m_cfg_pp", "ddim-cfg++"):
        with pytest.raises(
            dpm.PlanError, match=r"gives one output, and '.*-cfg\+\+' wants the unconditional one beside"
        ):
            sampler(name)
    with pytest.raises(AttributeError, match=r"no function 'sample_euler_cfg_pp' .*gives one output"):
        _ = k_diffusion.sample_euler_cfg_pp
    plan = k_diffusion.plan_on_sigmas("ddim-cfg++", SIGMAS)
    with pytest.raises(dpm.PlanError, match="this plan wants 2 outputs of each evaluation"):
        sampler(plan)(denoised, start(14.6), SIGMAS)


def test_names_of_k_diffusion_come_first() -> None:
    """`sample_dpm_2` is their DPM2; a spelling with _gpu is understood."""
    assert torch.equal(run("sample_dpm_2"), run("sample_dpm2"))
    assert not torch.equal(run("sample_dpm_2"), sampler("dpm-2")(denoised, start(14.6), SIGMAS, disable=True))
    assert torch.equal(run("sample_dpmpp_2m_sde_gpu"), run("sample_dpmpp_2m_sde"))
    with pytest.raises(AttributeError, match="chooses its steps while it runs"):
        _ = k_diffusion.sample_dpm_adaptive
    with pytest.raises(AttributeError, match="has no attribute 'samplr'"):
        _ = k_diffusion.samplr


@pytest.mark.parametrize("to_zero", [True, False])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in CALIBRATED])
def test_every_function_runs(name: str, to_zero: bool) -> None:
    """On EDM's states and on a flow's from sigma = 1: one callback a step, each evaluation inside the sigmas, x unchanged."""
    for sigmas, flow in ((SIGMAS, False), (torch.cat([torch.ones(1), FLOW]).double(), True)):
        sigmas = sigmas if to_zero else sigmas[:-1]
        asked, seen = [], []

        def model(x: torch.Tensor, sigma: torch.Tensor, asked: list[float] = asked) -> torch.Tensor:
            assert sigma.shape == (len(x),)
            asked.append(float(sigma[0]))
            return denoised(x, sigma)

        x = start(float(sigmas[0]))
        kind = "flow" if flow else "edm"
        result = getattr(k_diffusion, name)(
            model, x, sigmas, {}, seen.append, True, noise_sampler=noise_of_path(flow), schedule=kind
        )
        assert torch.equal(x, start(float(sigmas[0])))
        assert result.isfinite().all()
        assert [each["i"] for each in seen] == list(range(len(sigmas) - 1))
        assert len(asked) >= len(sigmas) - 1
        assert min(asked) >= float(sigmas[sigmas > 0].min()) * (1 - 1e-9)
        if to_zero:  # the last step is the predicted x_0 of the last evaluation, or made of several
            assert error(result, seen[-1]["denoised"]) < 0.3


# k-diffusion ---------------------------------------------------------------------------------------------------------------------

K_DIFFUSION = ["euler", "heun", "dpm_2", "lms", "dpmpp_2m", "euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"]
K_DIFFUSION += ["dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde"]


@pytest.mark.parametrize("to_zero", [True, False])
@pytest.mark.parametrize("name", K_DIFFUSION)
def test_functions_of_k_diffusion(sampling: Any, name: str, to_zero: bool) -> None:  # noqa: F811
    """The same result and the same callbacks, to 1e-13; their sigmas are float32 and are taken as they are."""
    sigmas = sampling.get_sigmas_karras(7, 0.03, 14.6)
    sigmas = sigmas if to_zero else sigmas[:-1]
    theirs, seen, expected = getattr(sampling, f"sample_{name}"), [], []
    noise = {"noise_sampler": noise_of_path(False)} if "noise_sampler" in inspect.signature(theirs).parameters else {}
    x, sigmas = start(14.6), sigmas.double()
    result = getattr(k_diffusion, f"sample_{name}")(denoised, x, sigmas, None, seen.append, True, **noise)
    assert error(result, theirs(denoised, x, sigmas, None, expected.append, True, **noise)) < 1e-13
    assert len(seen) == len(expected)
    for ours, other in zip(seen, expected, strict=True):
        assert ours.keys() == other.keys()
        assert ours["i"] == other["i"]
        assert ours["sigma"] is not None
        assert all(error(torch.as_tensor(ours[k]), torch.as_tensor(other[k])) < 1e-13 for k in ours if k != "i")


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("churn", [{"s_churn": 3.0}, {"s_churn": 40.0, "s_noise": 1.003, "s_tmin": 0.1, "s_tmax": 8.0}])
def test_churn_is_that_of_k_diffusion(
    sampling: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    churn: dict[str, float],
) -> None:
    """The first step included, which our plans alone do not churn: noise is added to x before the first evaluation."""
    draws = [torch.cos(torch.arange(6.0).double().reshape(2, 3) * (k + 1.0)) for k in range(9)]
    theirs, ours = iter(draws), iter(draws)
    # k-diffusion draws in every step, and forgets what it does not use.
    used = [
        d for d, s in zip(draws, SIGMAS, strict=False) if churn.get("s_tmin", 0.0) <= s <= churn.get("s_tmax", math.inf)
    ]
    ours = iter(used)
    monkeypatch.setattr(torch, "randn_like", lambda x: next(theirs))
    expected = getattr(sampling, f"sample_{name}")(denoised, start(14.6), SIGMAS, disable=True, **churn)
    assert error(run(f"sample_{name}", noise_sampler=lambda *_: next(ours), **churn), expected) < 1e-13


def test_options_may_be_those_of_k_diffusion(sampling: Any) -> None:  # noqa: F811
    """eta of the multistep SDE solvers, solver_type, order and r; beside our own names they are ours."""
    cases: list[tuple[str, dict[str, Any]]] = [
        ("dpmpp_2m_sde", {"eta": 0.3, "s_noise": 1.01, "solver_type": "heun"}),
        ("dpmpp_3m_sde", {"eta": 0.3}),
        ("dpmpp_sde", {"r": 0.4}),
        ("euler_ancestral", {"eta": 0.3}),
        ("lms", {"order": 2}),
    ]
    for name, options in cases:
        noise = {"noise_sampler": noise_of_path(False)} if name != "lms" else {}
        expected = getattr(sampling, f"sample_{name}")(denoised, start(14.6), SIGMAS, disable=True, **options, **noise)
        assert error(run(f"sample_{name}", **options), expected) < 1e-13, name
    with pytest.raises(dpm.PlanError, match="unknown option 'solver_type'"):
        run("sample_dpm_pp_2m_sde", solver_type="heun")
    with pytest.raises(dpm.PlanError, match="solver_type must be 'midpoint' or 'heun', got 'rk'"):
        run("sample_dpmpp_2m_sde", solver_type="rk")
    with pytest.raises(dpm.PlanError, match=r"eta=0.5 beside 'dpmpp_sde' is not the eta"):
        run("sample_dpmpp_sde", eta=0.5)


# ComfyUI, from its goldens -------------------------------------------------------------------------------------------------------

SAME = [
    "euler",
    "heun",
    "heunpp2",
    "dpm_2",
    "dpmpp_2m",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde",
]
SAME += ["lcm", "ipndm", "res_multistep", "gradient_estimation", "seeds_2"]
SAME_ON_EDM = ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "ddpm", "res_multistep_ancestral"]


def golden(kind: str, name: str) -> torch.Tensor:
    return torch.tensor(GOLDENS[kind][name], dtype=torch.float64)


@pytest.mark.parametrize("end", ["to 0", "above 0"])
@pytest.mark.parametrize("name", [*SAME, *SAME_ON_EDM])
def test_samplers_of_comfyui(name: str, end: str) -> None:
    sigmas = SIGMAS if end == "to 0" else SIGMAS[:-1]
    assert error(run(f"sample_{name}", sigmas), golden(f"edm {end}", name)) < 1e-13


@pytest.mark.parametrize("end", ["to 0", "above 0"])
@pytest.mark.parametrize("name", SAME)
def test_samplers_of_comfyui_on_flows(name: str, end: str) -> None:
    """Those that know sigma alone run as on EDM's states, and those that know the model's kind on its log-SNR."""
    sigmas = FLOW if end == "to 0" else FLOW[:-1]
    assert error(run(f"sample_{name}", sigmas, schedule="flow"), golden(f"flow {end}", name)) < 1e-13


@pytest.mark.parametrize(("kind", "sigmas"), [("edm", SIGMAS), ("flow", FLOW)])
def test_samplers_of_comfyui_that_are_the_same_but_for_their_end(kind: str, sigmas: torch.Tensor) -> None:
    """uni_pc ends at sigma = 0.001 in place of 0, lms with the newest output alone; er_sde sums 200 terms for an integral."""
    of_kind = {"schedule": kind}
    for name in ("uni_pc", "uni_pc_bh2", "lms"):
        assert error(run(f"sample_{name}", sigmas[:-1], **of_kind), golden(f"{kind} above 0", name)) < 1e-13, name
        assert error(run(f"sample_{name}", sigmas, **of_kind), golden(f"{kind} to 0", name)) > 1e-3, name
    almost = torch.cat([sigmas[:-1], torch.tensor([0.001]).double()])
    for name in ("uni_pc", "uni_pc_bh2"):
        scale = 0.999 if kind == "flow" else 1.0  # ComfyUI's end is counted as sigma = 0
        assert error(run(f"sample_{name}", almost, **of_kind), golden(f"{kind} to 0", name)) < 2e-3 * scale, name
    for end in ("to 0", "above 0"):
        levels = sigmas if end == "to 0" else sigmas[:-1]
        assert error(run("sample_er_sde", levels, **of_kind), golden(f"{kind} {end}", "er_sde")) < 1e-3


@pytest.mark.parametrize(("kind", "sigmas"), [("edm", SIGMAS[:-1]), ("flow", FLOW[:-1])])
def test_sa_solver_pece_of_comfyui(kind: str, sigmas: torch.Tensor) -> None:
    """With its interval of noise. Above sigma = 0 it returns the last corrected state, and forgets the step after it."""
    top, bottom = (0.8, 0.2) if kind == "flow" else (0.002 * 60000**0.8, 0.002 * 60000**0.2)
    eta = [float(bottom <= float(s) <= top) for s in sigmas[1:]]
    seen: list[dict[str, Any]] = []
    pece = sampler("sa-solver-pece", eta=eta, lower_order_final=False)
    noise = noise_of_path(kind == "flow")
    pece(denoised, start(float(sigmas[0])), sigmas, None, seen.append, True, noise_sampler=noise, schedule=kind)
    assert error(seen[-1]["x"], golden(f"{kind} above 0", "sa_solver_pece")) < 1e-13


def test_names_that_we_do_not_say_are_the_same_differ() -> None:
    """What docs/names.md says is near: equal would be a reason to say so."""
    for name, own in (("deis", "deis-tab2:lower_order_final=False"), ("ipndm_v", "ipndm-v-4")):
        for end, sigmas in (("to 0", SIGMAS), ("above 0", SIGMAS[:-1])):
            result = sampler(own)(denoised, start(14.6), sigmas, disable=True)
            assert 1e-4 < error(result, golden(f"edm {end}", name)) < 0.1


def test_a_flow_is_known_by_the_model_of_comfyui() -> None:
    """A model sampling of a class CONST, behind one, two or three wrappers; any other, and none, is EDM's."""

    def model(kind: str, depth: int) -> Any:
        const = type(kind, (), {})
        inner: Any = SimpleNamespace(model_sampling=type("ModelSampling", (const,), {})())
        for _ in range(depth):
            inner = type("Wrapper", (), {"__call__": lambda self, x, s: denoised(x, s), "inner_model": inner})()
        return inner

    as_flow = run("sample_dpm_pp_2m", FLOW, schedule="flow")
    as_edm = run("sample_dpm_pp_2m", FLOW, schedule="edm")
    assert error(as_flow, as_edm) > 1e-4
    x = start(float(FLOW[0]))
    for depth in (1, 2, 3):
        assert torch.equal(k_diffusion.sample_dpm_pp_2m(model("CONST", depth), x, FLOW, disable=True), as_flow)
    assert torch.equal(k_diffusion.sample_dpm_pp_2m(model("EPS", 2), x, FLOW, disable=True), as_edm)
