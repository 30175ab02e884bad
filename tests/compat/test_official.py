"""`dpmsolver.compat.official`: the official calls, to the official numbers in float64; and where it is different on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.compat import official
from dpmsolver.compat.official import DPM_Solver, NoiseScheduleVP, model_wrapper
from goldens import official as script

GOLDENS = json.loads((Path(__file__).parent.parent / "goldens" / "official.json").read_text())
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)


def relative(found: torch.Tensor, wanted: Any) -> float:
    """The largest difference, in units of the largest number."""
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


class Counted:
    """A network that keeps what it was called with."""

    def __init__(self) -> None:
        self.x: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor, t: torch.Tensor, *cond: Any, **kwargs: Any) -> torch.Tensor:
        self.x.append(x.clone())
        self.labels.append(t.clone())
        return 0.3 * x


# Their numbers ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", script.STEPS)
def test_trajectories_are_the_official_ones_in_float64(name: str) -> None:
    """Every method, order, skip_type, algorithm and solver_type, on discrete, clipped and continuous schedules: to 1e-11."""
    for case, wanted in zip(script.cases(), GOLDENS["final"][name], strict=True):
        assert relative(script.final(official, name, case, script.start()), wanted) < 1e-11, case


def test_every_other_argument_means_what_it_means_there() -> None:
    """Model types, guidance, corrections, thresholding, denoise_to_zero, ends, the way back, all states, noise added: to 1e-11.

    The adaptive method rounds its steps to float32 there, so that the numbers agree to 1e-8.
    """
    found = script.others(official)
    assert found.keys() == GOLDENS["others"].keys()
    for name, wanted in GOLDENS["others"].items():
        assert relative(found[name], wanted) < (1e-8 if "adaptive" in name else 1e-11), name


@pytest.mark.parametrize("name", script.STEPS)
def test_a_float32_state_loses_no_more_than_float32(name: str) -> None:
    """Coefficients are float64 whatever the state is: results are within 1e-5 of those in float64, and float32."""
    for case, wanted in zip(script.cases(), GOLDENS["final"][name], strict=True):
        found = script.final(official, name, case, script.start().float())
        assert found.dtype == torch.float32
        assert relative(found.double(), wanted) < 1e-5, case


@pytest.mark.parametrize("method", ["multistep", "singlestep", "adaptive"])
def test_arrays_of_numpy_and_jax_run_as_tensors_do(method: str) -> None:
    """The network, the corrections and the times come in the state's framework."""
    jax = pytest.importorskip("jax")
    schedule = NoiseScheduleVP("discrete", betas=BETAS)
    solver = DPM_Solver(
        model_wrapper(lambda x, t: 0.3 * x + 1e-4 * t.reshape(-1, 1), schedule),
        schedule,
        correcting_x0_fn=lambda x0, t: x0 + 0.1 * t.reshape(-1, *[1] * (x0.ndim - 1)) if t.ndim else x0 + 0.1 * t,
    )
    x, arguments = script.start(), {"steps": 8, "order": 3, "method": method, "denoise_to_zero": True}
    wanted = solver.sample(x, **arguments)
    found = solver.sample(x.numpy(), **arguments)
    assert isinstance(found, np.ndarray)
    assert relative(torch.from_numpy(found), wanted) < 1e-13
    on_jax = solver.sample(jax.numpy.asarray(x.numpy()), **arguments)
    assert isinstance(on_jax, jax.Array)
    # In float32, whose rounding moves the steps of the adaptive method.
    tolerance = 1e-4 if method == "adaptive" else 1e-5
    assert relative(torch.from_numpy(np.asarray(on_jax, dtype=np.float64)), wanted) < tolerance
    added = solver.add_noise(jax.numpy.ones((2, 3)), [0.3, 0.7])
    assert added.shape == (2, 2, 3)


def test_marginals_are_arrays_like_the_times() -> None:
    schedule, times = NoiseScheduleVP("discrete", betas=BETAS), torch.tensor([[0.1, 0.9]], dtype=torch.float64)
    for name in ("marginal_alpha", "marginal_std", "marginal_lambda", "marginal_log_mean_coeff"):
        found = getattr(schedule, name)(times)
        assert found.shape == times.shape
        assert relative(torch.from_numpy(getattr(schedule, name)(times.numpy())), found) < 1e-15
        assert getattr(schedule, name)(0.9) == pytest.approx(float(found[0, 1]))
    assert relative(schedule.inverse_lambda(schedule.marginal_lambda(times)), times) < 1e-12


# The scripts of their examples -----------------------------------------------------------------------------------------------------


def test_the_calls_of_stable_diffusion_run() -> None:
    """Their sampler: guided by a condition by place, with all states; its way back; and noise from torch's own generator."""
    network = Counted()
    schedule = NoiseScheduleVP("discrete", alphas_cumprod=torch.cumprod(1 - BETAS, 0).float())
    model_fn = model_wrapper(
        lambda x, t, c: network(x, t, c),
        schedule,
        model_type="noise",
        guidance_type="classifier-free",
        condition=torch.ones(2, 7, 5),
        unconditional_condition=torch.zeros(2, 7, 5),
        guidance_scale=7.5,
    )
    solver = DPM_Solver(model_fn, schedule, algorithm_type="dpmsolver++", correcting_xt_fn=None)
    image = torch.randn(2, 4, 4, 4)
    arguments = {"steps": 6, "skip_type": "time_uniform", "method": "multistep", "order": 2, "lower_order_final": True}
    x, states = solver.sample(image, t_start=None, t_end=None, return_intermediate=True, **arguments)
    assert len(states) == 7
    assert torch.equal(states[0], image)
    assert torch.equal(states[-1], x)
    assert [len(seen) for seen in network.x] == [4] * 6
    encoded, _ = solver.inverse(x, t_end=0.7, return_intermediate=True, **arguments)
    assert encoded.shape == x.shape
    only_noise = DPM_Solver(None, schedule)
    torch.manual_seed(3)
    noised = only_noise.add_noise(x, torch.tensor([0.7]))
    torch.manual_seed(3)
    assert torch.equal(noised, only_noise.add_noise(x, torch.tensor([0.7]), noise=torch.randn(1, *x.shape)))


def test_the_calls_of_score_sde_run() -> None:
    """A function of noise that no wrapper made gets the continuous time itself, and t_start may be an integer."""
    network = Counted()
    schedule = NoiseScheduleVP("linear", continuous_beta_0=0.1, continuous_beta_1=20.0)
    solver = DPM_Solver(network, schedule, algorithm_type="dpmsolver", correcting_x0_fn=None)
    x = solver.sample(
        torch.randn(3, 2),
        steps=9,
        t_start=1,
        t_end=1e-4,
        order=3,
        skip_type="logSNR",
        method="singlestep",
        denoise_to_zero=True,
        atol=0.0078,
        rtol=0.05,
    )
    assert x.shape == (3, 2)
    assert [float(t[0]) for t in network.labels][::9] == pytest.approx([1.0, 1e-4])


def test_stable_diffusions_own_script_of_2022_runs() -> None:
    """predict_x0 and thresholding are what algorithm_type and dynamic thresholding were called."""
    schedule = NoiseScheduleVP("discrete", betas=BETAS)
    model_fn = model_wrapper(Counted(), schedule)
    x = script.start()
    old = DPM_Solver(model_fn, schedule, predict_x0=True, thresholding=False).sample(
        x, steps=8, order=2, method="multistep"
    )
    assert torch.equal(old, DPM_Solver(model_fn, schedule).sample(x, 8))
    assert DPM_Solver(model_fn, schedule, predict_x0=False).algorithm_type == "dpmsolver"
    limited = DPM_Solver(model_fn, schedule, predict_x0=True, thresholding=True, max_val=0.1)
    assert (limited.correcting_x0_fn, limited.thresholding_max_val) == ("dynamic_thresholding", 0.1)


@pytest.mark.parametrize(
    ("method", "order", "steps", "spent"),
    [
        ("multistep", 3, 7, 7),
        ("singlestep", 3, 7, 7),
        ("singlestep", 3, 8, 8),
        ("singlestep", 3, 3, 3),
        ("singlestep", 2, 5, 5),
        ("singlestep_fixed", 3, 8, 6),
    ],
)
def test_the_budget_is_spent_as_there(method: str, order: int, steps: int, spent: int) -> None:
    """`steps` evaluations; singlestep_fixed spends the multiple of its order below, and denoise_to_zero one more."""
    network = Counted()
    schedule = NoiseScheduleVP("discrete", betas=BETAS)
    solver = DPM_Solver(model_wrapper(network, schedule), schedule)
    solver.sample(script.start(), steps, order=order, method=method)
    assert len(network.x) == spent
    solver.sample(script.start(), steps, order=order, method=method, denoise_to_zero=True)
    assert len(network.x) == 2 * spent + 1


# Where it is different -------------------------------------------------------------------------------------------------------------


def test_a_clipped_schedule_keeps_the_labels_of_its_steps() -> None:
    """996 of 1000 cosine steps are left, as there; their labels are 995 to 0, where the official code says 1000 n/996."""
    network = Counted()
    schedule = NoiseScheduleVP("discrete", betas=script.cosine_betas())
    assert schedule.total_N == 996
    DPM_Solver(model_wrapper(network, schedule), schedule).sample(script.start(), 995)
    labels = [float(t[0]) for t in network.labels]
    assert labels == pytest.approx(list(range(995, 0, -1)), abs=1e-9)


def test_labels_of_other_numbers_of_steps_count_to_1000() -> None:
    """As there: a network of 4000 steps is given a quarter of the step's number."""
    network = Counted()
    schedule = NoiseScheduleVP("discrete", betas=torch.linspace(2.5e-5, 5e-3, 4000))
    DPM_Solver(model_wrapper(network, schedule), schedule).sample(script.start(), 4)
    assert float(network.labels[0][0]) == pytest.approx(999.75)


def test_thresholded_data_keep_their_range() -> None:
    """Pictures in [-2, 2] stay in [-2, 2]; the official code brings them to [-1, 1] without a word."""
    solver = DPM_Solver(
        None, NoiseScheduleVP("linear"), correcting_x0_fn="dynamic_thresholding", thresholding_max_val=2.0
    )
    limited = solver.dynamic_thresholding_fn(torch.linspace(-5.0, 5.0, 1000)[None])
    assert float(limited.max()) == pytest.approx(2.0)
    inside = torch.linspace(-1.5, 1.5, 1000)[None]
    assert torch.equal(solver.dynamic_thresholding_fn(inside), inside)


def test_samples_of_an_adaptive_run_do_not_know_each_other() -> None:
    """There the largest error of the batch decides for all; here a sample ends alone where it ends among others."""
    solver = script.solver_of(official, "discrete", "dpmsolver")
    x = script.start()
    together = solver.sample(x, method="adaptive", order=3)
    assert relative(together[:1], solver.sample(x[:1], method="adaptive", order=3)) < 1e-12


def test_the_adaptive_method_runs_backwards() -> None:
    """There it never ends. Here it comes back to where it started, within its tolerance."""
    solver = script.solver_of(official, "linear", "dpmsolver")
    x = 0.3 * script.start()
    noise = solver.inverse(x, method="adaptive", order=3, atol=1e-5, rtol=1e-5)
    assert relative(solver.sample(noise, method="adaptive", order=3, atol=1e-5, rtol=1e-5), x) < 1e-3


def test_a_correction_comes_before_the_first_evaluation_too() -> None:
    """The steps are numbered from 0, the start; there the first evaluation alone sees the state before its correction."""
    network, seen = Counted(), []
    schedule = NoiseScheduleVP("discrete", betas=BETAS)

    def correct(x: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
        seen.append((step, float(t)))
        return x + 1.0

    x = script.start()
    DPM_Solver(model_wrapper(network, schedule), schedule, correcting_xt_fn=correct).sample(x, 4)
    assert seen == [(k, pytest.approx(1.0 - k * 0.999 / 4)) for k in range(5)]
    assert torch.equal(network.x[0], x + 1.0)


def test_conditions_may_be_dictionaries_and_of_unequal_length() -> None:
    """Dictionaries are joined for one call; arrays of unequal shape make two."""
    schedule = NoiseScheduleVP("discrete", betas=BETAS)
    for condition, nothing, calls in (
        ({"c_crossattn": [torch.ones(2, 3)]}, {"c_crossattn": [torch.zeros(2, 3)]}, [4, 4]),
        (torch.ones(2, 5), torch.zeros(2, 3), [2, 2, 2, 2]),
    ):
        network = Counted()
        model_fn = model_wrapper(
            network,
            schedule,
            guidance_type="classifier-free",
            condition=condition,
            unconditional_condition=nothing,
            guidance_scale=2.0,
        )
        DPM_Solver(model_fn, schedule).sample(script.start(), 2)
        assert [len(seen) for seen in network.x] == calls


def test_a_half_state_is_the_networks_and_the_results_type() -> None:
    """The network is called in half precision, with labels in float32; the run between its calls is in float32."""
    network = Counted()
    schedule = NoiseScheduleVP("discrete", betas=BETAS.float())
    solver = DPM_Solver(model_wrapper(network, schedule), schedule)
    x = solver.sample(script.start().half(), 5)
    assert {seen.dtype for seen in network.x} == {x.dtype} == {torch.float16}
    assert {t.dtype for t in network.labels} == {torch.float32}


def test_the_wrapped_model_predicts_noise_as_a_function() -> None:
    """model_fn(x, t) with one time for all, in an array or per sample."""
    schedule = NoiseScheduleVP("linear")
    model_fn = model_wrapper(lambda x, t: 0.0 * x, schedule, model_type="x_start")
    x, t = script.start(), torch.tensor([0.4, 0.4], dtype=torch.float64)
    wanted = x / schedule.marginal_std(t[:1])
    assert relative(model_fn(x, t), wanted) < 1e-14
    assert relative(model_fn(x, t[:1]), wanted) < 1e-14
    solver = DPM_Solver(model_fn, schedule, algorithm_type="dpmsolver")
    assert relative(solver.model_fn(x, t[0]), wanted) < 1e-14


# Bad input -------------------------------------------------------------------------------------------------------------------------

FINE = NoiseScheduleVP("discrete", betas=BETAS)
FALLING = torch.full((10,), 0.1)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: NoiseScheduleVP("sqrt"), dpm.PlanError, "unknown schedule 'sqrt'.*discrete, linear, cosine"),
        (lambda: NoiseScheduleVP("discrete"), dpm.PlanError, "give betas, or alphas_cumprod"),
        (lambda: NoiseScheduleVP("discrete", betas=-FALLING), ValueError, r"betas must lie in \(0, 1\)"),
        (
            lambda: NoiseScheduleVP("discrete", alphas_cumprod=FALLING),
            ValueError,
            "alphas_cumprod must decrease strictly",
        ),
        (lambda: NoiseScheduleVP("discrete", betas=0.9999999 * torch.ones(5)), dpm.PlanError, "half-log-SNR of -5.1"),
        (
            lambda: NoiseScheduleVP("linear", continuous_beta_0=20.0, continuous_beta_1=0.1),
            ValueError,
            "beta_min < beta_max",
        ),
        (
            lambda: model_wrapper(Counted(), dpm.schedules.LinearVP()),
            TypeError,
            "noise_schedule must be a NoiseScheduleVP",
        ),
        (lambda: model_wrapper(Counted(), FINE, model_type="eps"), dpm.PlanError, "unknown model_type 'eps'"),
        (lambda: model_wrapper(Counted(), FINE, guidance_type="cfg"), dpm.PlanError, "unknown guidance_type 'cfg'"),
        (lambda: model_wrapper(Counted(), FINE, guidance_type="classifier"), dpm.PlanError, "needs classifier_fn"),
        (
            lambda: DPM_Solver(Counted(), dpm.schedules.LinearVP()),
            TypeError,
            "noise_schedule must be a NoiseScheduleVP",
        ),
        (lambda: DPM_Solver(3.0, FINE), TypeError, "model_fn must be callable"),
        (lambda: DPM_Solver(Counted(), FINE, algorithm_type="ddim"), dpm.PlanError, "unknown algorithm_type 'ddim'"),
        (
            lambda: DPM_Solver(Counted(), FINE, correcting_x0_fn="static"),
            dpm.PlanError,
            "'dynamic_thresholding', a function",
        ),
        (lambda: DPM_Solver(None, FINE).sample(script.start(), 5), dpm.PlanError, "made with model_fn=None"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        make()
    assert ". " not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"method": "multi"}, "unknown method 'multi'.*did you mean 'multistep'"),
        ({"skip_type": "logsnr"}, "unknown skip_type 'logsnr'.*did you mean 'logSNR'"),
        ({"solver_type": "heun"}, "unknown solver_type 'heun'"),
        ({"order": 4}, "order must be 1, 2 or 3 with method='multistep', got 4"),
        ({"order": 1, "method": "adaptive"}, "order must be 2 or 3 with method='adaptive', got 1"),
        ({"steps": 2, "order": 3}, "steps must be an integer >= 3 with method='multistep' and order=3, got 2"),
        ({"steps": 2, "order": 3, "method": "singlestep_fixed"}, "steps must be an integer >= 3"),
        ({"steps": 0, "method": "singlestep"}, "steps must be an integer >= 1"),
        ({"steps": 5.5}, "steps must be an integer"),
        ({"t_end": 1e-4}, "t_end=0.0001 is outside this schedule"),
        ({"t_end": 0.0}, "t_end must be > 0, got 0: give denoise_to_zero=True"),
        ({"t_start": 1.5}, "t_start=1.5 is outside this schedule"),
        ({"t_start": 0.5, "t_end": 0.5}, "two different times"),
        ({"method": "adaptive", "return_intermediate": True}, "takes no correcting_xt_fn"),
    ],
)
def test_a_call_that_cannot_be_is_refused_before_the_network_is_called(arguments: dict[str, Any], says: str) -> None:
    network = Counted()
    with pytest.raises(dpm.PlanError, match=says):
        DPM_Solver(model_wrapper(network, FINE), FINE).sample(script.start(), **arguments)
    assert not network.x
