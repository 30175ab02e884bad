"""`dpmsolver.adapters.k_diffusion`: plans from files, noise, types of arrays, and what is refused."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_k_diffusion import FLOW, SIGMAS, run

import dpmsolver as dpm
from dpmsolver.adapters import k_diffusion
from dpmsolver.adapters.k_diffusion import plan_on_sigmas, sampler, sigmas_of
from goldens import comfyui
from goldens.comfyui import denoised, start
from peers import error

# Plans -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000)), dpm.schedules.EDM(), dpm.schedules.Flow()],
    ids=repr,
)
@pytest.mark.parametrize("solver", ["dpm++2m", "unipc-3", "heun", "dpm++2m-sde"])
def test_a_plan_from_a_file_draws_what_sample_draws(schedule: Any, solver: str, tmp_path: Path) -> None:
    """Whatever the schedule: its states are scaled to k-diffusion's x and back. On its own sigmas, also of float32."""
    flow = isinstance(schedule, dpm.schedules.Flow)
    start_at = None if solver != "heun" or not flow else 0.99
    plan = dpm.make_plan(solver, schedule, 10, end=0.05, start=start_at)
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    data = torch.tensor([[0.3, -0.6, 0.1], [0.5, 0.2, -0.4]], dtype=torch.float64)

    def network(x: torch.Tensor, label: torch.Tensor, sigma: torch.Tensor | None = None) -> torch.Tensor:
        level = torch.as_tensor(schedule.half_log_snr(schedule.time_from_label(float(label[0]))))
        return data * torch.tanh(level + 0.1 * x.flip(1).sin())

    def model(x: torch.Tensor, sigma: torch.Tensor, seed: int) -> torch.Tensor:
        s = float(sigma[0])
        alpha = 1.0 - s if flow else 1.0
        level = torch.as_tensor(math.log(alpha / s) if alpha > 0 else -math.inf)
        scale = 1.0 if flow else float(schedule.alpha(schedule.time(level)))
        return data * torch.tanh(level + 0.1 * (scale * x).flip(1).sin())

    x_T = float(plan.start.sigma) * start(1.0)
    expected = dpm.sample(dpm.Denoiser(network, schedule, predicts="data"), x_T, plan=plan, generator=3)
    sigmas = torch.tensor(sigmas_of(plan), dtype=torch.float32)
    scale = 1.0 if flow else plan.start.alpha
    result = sampler(path)(model, x_T / scale, sigmas, {"seed": 3}, disable=True, schedule="flow" if flow else None)
    assert error(result * (1.0 if flow else plan.end.alpha), expected) < 1e-9
    assert (
        error(
            sampler(str(path))(
                model, x_T / scale, sigmas, {"seed": 3}, disable=True, schedule="flow" if flow else None
            ),
            result,
        )
        == 0
    )


def test_a_plan_refuses_other_sigmas_and_other_models() -> None:
    plan = dpm.make_plan("dpm++2m", dpm.schedules.EDM(), 6)
    tuned, x = sampler(plan), start(80.0)
    with pytest.raises(dpm.PlanError, match=r"has 7 sigmas of its own, from 80 to 0, and was given 9, from 14\.6 to 0"):
        tuned(denoised, x, SIGMAS)
    other = sigmas_of(plan)
    other[2] *= 1.01
    with pytest.raises(dpm.PlanError, match="give it sigmas_of"):
        tuned(denoised, x, other)
    with pytest.raises(
        dpm.PlanError,
        match=r"made for states x_0 \+ sigma eps \(EDM\(.*model is one of a flow: take a plan",
    ):
        tuned(denoised, x, FLOW, schedule="flow")
    with pytest.raises(dpm.PlanError, match=r"made for a flow \(Flow"):
        sampler(dpm.make_plan("dpm++2m", dpm.schedules.Flow(), 6))(denoised, x, SIGMAS)
    with pytest.raises(dpm.PlanError, match="already says its options, drop eta"):
        tuned(denoised, x, sigmas_of(plan), eta=1.0)
    with pytest.raises(dpm.PlanError, match="already says its options, drop eta"):
        sampler(plan, eta=1.0)
    zero_snr = dpm.schedules.CosineVP(t_max=1.0)
    with pytest.raises(dpm.PlanError, match="starts at alpha = 0, where sigma/alpha is infinite"):
        sigmas_of(dpm.make_plan("dpm++2m", zero_snr, 6))
    with pytest.raises(TypeError, match=r"solver must be a name, a dpm\.Solver, a plan or the path of one, got int"):
        sampler(3)  # type: ignore[arg-type]


# Noise, types, the bar -------------------------------------------------------------------------------------------------------------


def test_noise_is_keyed_by_the_seed_and_the_sample() -> None:
    """A seed in extra_args decides; without one torch's own does. A sample does not depend on the batch around it."""
    x = start(14.6)

    def model(x: torch.Tensor, sigma: torch.Tensor, seed: int = 0) -> torch.Tensor:
        return denoised(x, sigma)

    def drawn(x: torch.Tensor, extra: dict[str, Any] | None = None) -> torch.Tensor:
        result: torch.Tensor = k_diffusion.sample_euler_ancestral(model, x, SIGMAS[:-1], extra, disable=True)
        return result

    assert torch.equal(drawn(x, {"seed": 5}), drawn(x, {"seed": 5}))
    assert not torch.equal(drawn(x, {"seed": 5}), drawn(x, {"seed": 6}))
    assert error(drawn(x, {"seed": 5})[:1], drawn(x[:1], {"seed": 5})) < 1e-12
    torch.manual_seed(1)
    first = drawn(x)
    torch.manual_seed(1)
    assert torch.equal(first, drawn(x))
    assert not torch.equal(first, drawn(x))
    before = torch.get_rng_state()
    run("sample_dpmpp_2m")
    assert torch.equal(before, torch.get_rng_state())  # a run without noise draws nothing


def test_the_noise_sampler_is_asked_for_intervals_of_the_sigmas() -> None:
    """With numbers of the kind that the sigmas are of: tensors for tensors, floats for a list."""
    asked: list[tuple[Any, Any]] = []

    def noise(sigma: Any, sigma_next: Any) -> torch.Tensor:
        asked.append((sigma, sigma_next))
        return torch.zeros(2, 3)

    run("sample_dpmpp_2m_sde", noise_sampler=noise)
    assert [float(a) for a, _ in asked] == comfyui.SIGMAS[:-1]
    assert [float(b) for _, b in asked] == comfyui.SIGMAS[1:]
    assert isinstance(asked[0][0], torch.Tensor)
    asked.clear()
    k_diffusion.sample_euler_ancestral(denoised, start(8.0), [8.0, 2.0, 0.5], disable=True, noise_sampler=noise)
    assert asked == [(8.0, 2.0), (2.0, 0.5)]
    with pytest.raises(
        ValueError, match=r"noise_sampler must return standard normals of x's shape \(2, 3\), got \(3,\)"
    ):
        run("sample_euler_ancestral", noise_sampler=lambda *_: torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_type_of_x_and_the_state_no_less_than_float32(dtype: torch.dtype) -> None:
    kinds = set()

    def model(x: torch.Tensor, sigma: torch.Tensor, scale: float) -> torch.Tensor:
        kinds.add((x.dtype, sigma.dtype))
        return scale * denoised(x.float(), sigma.float()).to(dtype)

    result = k_diffusion.sample_dpmpp_2m(model, start(14.6).to(dtype), SIGMAS.float(), {"scale": 1.0}, disable=True)
    assert result.dtype == dtype
    assert kinds == {(dtype, torch.float64 if dtype == torch.float64 else torch.float32)}
    assert error(result.double(), run("sample_dpmpp_2m", SIGMAS.float().double())) < {
        torch.float16: 1e-2,
        torch.bfloat16: 0.1,
    }.get(dtype, 1e-5)


def test_other_arrays_and_gradients() -> None:
    """NumPy's and JAX's arrays run too; of a tensor that wants gradients none are recorded, as in k-diffusion."""

    def zero(x: Any, sigma: Any) -> Any:
        return 0.0 * x

    result = k_diffusion.sample_euler(zero, np.full((1, 2), 8.0), [8.0, 2.0, 0.5])
    np.testing.assert_allclose(result, [[0.5, 0.5]], rtol=1e-14)
    jax = pytest.importorskip("jax")
    ours = k_diffusion.sample_dpmpp_2m_sde(
        lambda x, sigma, seed: 0.0 * x, jax.numpy.full((1, 2), 8.0), [8.0, 2.0, 0.5], {"seed": 3}
    )
    assert ours.shape == (1, 2)
    x = start(14.6).requires_grad_()
    assert not k_diffusion.sample_euler(denoised, x, SIGMAS, disable=True).requires_grad


def test_the_bar_is_hidden_by_disable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def sampled(disable: bool | None) -> str:
        k_diffusion.sample_heun(denoised, start(14.6), SIGMAS, disable=disable)
        return capsys.readouterr().err

    assert sampled(True) == ""
    assert "8/8" in sampled(False)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert sampled(False) == ""  # without tqdm


# Bad input -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ([8.0, 2.0, 2.0, 0.0], r"must fall strictly.*sigmas\[1\]=2 is followed by 2: take out what repeats"),
        ([0.5, 2.0, 8.0], r"must fall strictly.*sigmas\[0\]=0\.5 is followed by 2:.*dpm\.encode"),
        ([[8.0, 2.0]], r"sigmas must be a vector of n \+ 1 noise levels for n steps, got shape \(1, 2\)"),
        (8.0, r"sigmas must be a vector.*got shape \(\)"),
        ([8.0, math.nan, 0.0], "sigmas must be finite and >= 0, got nan"),
        ([math.inf, 2.0, 0.0], "sigmas must be finite and >= 0, got inf"),
        ([8.0, 2.0, -1.0], "sigmas must be finite and >= 0, got -1"),
    ],
)
def test_sigmas_that_are_none_are_refused_before_the_model_is_called(sigmas: Any, message: str) -> None:
    def never(x: Any, sigma: Any) -> Any:
        raise AssertionError

    for function in (k_diffusion.sample_dpmpp_2m, sampler(dpm.make_plan("ddim", dpm.schedules.EDM(), 3))):
        with pytest.raises(dpm.PlanError, match=message) as refused:
            function(never, start(8.0), torch.tensor(sigmas), disable=True)
        assert "\n" not in str(refused.value)


def test_a_run_of_no_steps_is_x() -> None:
    x = start(8.0)
    for sigmas in (torch.tensor([8.0]), torch.tensor([])):
        assert k_diffusion.sample_euler(denoised, x, sigmas) is x


BAD_RUNS: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"model": lambda x, s: denoised(x, s)[:, :1]},
        ValueError,
        r"must return the denoised x in x's shape \(2, 3\), got \(2, 1\): wrap it",
    ),
    (
        {"model": lambda x, s: (denoised(x, s),)},
        TypeError,
        "must return the denoised x, a floating-point array like x, got tuple",
    ),
    (
        {"model": lambda x, s: denoised(x, s) * math.nan},
        dpm.SamplingError,
        "returned NaN or infinity at evaluation 1 of 8",
    ),
    ({"x": start(14.6) * math.inf}, ValueError, "NaN or infinity"),
    ({"schedule": "flow"}, dpm.PlanError, r"the sigmas of a flow lie between 0 and 1, got 14\.6"),
    ({"schedule": "vp"}, dpm.PlanError, "schedule must be 'edm' or 'flow', got 'vp'"),
    ({"etta": 1.0}, dpm.PlanError, "unknown option 'etta'"),
    ({"end": 0.1}, dpm.PlanError, "the sigmas already say where the run goes"),
]


@pytest.mark.parametrize(("changes", "error_type", "message"), BAD_RUNS)
def test_what_does_not_fit_is_one_sentence(changes: dict[str, Any], error_type: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"model": denoised, "x": start(14.6), "sigmas": SIGMAS, "disable": True, **changes}
    with pytest.raises(error_type, match=message) as refused:
        k_diffusion.sample_dpm_pp_2m(**arguments)
    assert "\n" not in str(refused.value)


def test_names_that_choose_a_grid_are_refused() -> None:
    make: Callable[[str], Any] = sampler
    with pytest.raises(dpm.PlanError, match="'auto' chooses the grid"):
        make("auto")
    with pytest.raises(dpm.PlanError, match="the sigmas already say where the run goes: drop the grid"):
        make("DPM++ 2M Karras")
    with pytest.raises(dpm.PlanError, match="unknown solver 'dpmppp'"):
        make("dpmppp")
    with pytest.raises(dpm.PlanError, match=r"order=9 is none of lms: there is no solver 'lms-9'"):
        make("lms")(denoised, start(14.6), SIGMAS, order=9)
    with pytest.raises(dpm.PlanError, match="a run needs two sigmas or more, got 1"):
        plan_on_sigmas("ddim", [1.0])
    with pytest.raises(dpm.PlanError, match="pndm cannot take 2 steps: give it more sigmas, or fewer"):
        plan_on_sigmas("pndm", [3.0, 2.0, 1.0])
