"""Solvers that need statistics of the network, and the measurement of these: closed forms, orders, files, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.schedules import EDM, CosineVP, LinearVP, NoiseSchedule
from dpmsolver.solvers import SOLVERS, make_plan
from dpmsolver.solvers.statistics import ModelStatistics

VP = LinearVP()
MEAN, VARIANCE = np.array([0.5, -0.3, 1.0]), np.array([0.5, 0.1, 1.5])
MODEL = dpm.models.Gaussian(mean=MEAN, variance=VARIANCE)
RUN = {"start": 0.7, "end": 0.05}


def of_gaussian(schedule: NoiseSchedule = VP, levels: int = 200) -> ModelStatistics:
    """The statistics of Gaussian data in closed form.

    eps = sigma (x - alpha mu)/(alpha^2 c + sigma^2), so l = 1/(1 + c e^{2 lambda}), f = -l mu: s = 0 and b = -l' mu. And
    E|eps|^2 = sigma^2/(alpha^2 c + sigma^2) = l, averaged over coordinates.
    """
    lams = np.linspace(schedule.half_log_snr(schedule.t_max), schedule.half_log_snr(1e-3), levels)
    grown = VARIANCE * np.exp(2 * lams[:, None])
    linear = 1 / (1 + grown)
    return ModelStatistics.measured(
        schedule,
        lams,
        noise_power=linear.mean(axis=1),
        linear=linear,
        scale=0 * linear,
        bias=2 * grown * linear**2 * MEAN,
    )


def arbitrary() -> ModelStatistics:
    """Smooth statistics that are no network's."""
    lams = np.linspace(-5.03, 4.6, 400)
    waves = np.stack([np.sin(lams + k) for k in range(3)], axis=1)
    return ModelStatistics.measured(
        VP, lams, noise_power=0 * lams, linear=0.5 + 0.3 * waves, scale=0.4 * waves, bias=0.2 * waves**2
    )


MEASURED = of_gaussian()


@pytest.mark.parametrize("nfe", [1, 2, 3, 7])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("schedule", [VP, CosineVP()], ids=["linear", "cosine"])
def test_v3_is_exact_where_the_statistics_are_the_whole_network(schedule: NoiseSchedule, order: int, nfe: int) -> None:
    """Gaussian data: g is constant, so one step from t = 0.7 to 0.05 is as good as many, up to the spline of the statistics."""
    plan = make_plan("dpm-v3", schedule, nfe, statistics=of_gaussian(schedule), order=order, **RUN)
    assert plan.wasserstein(MEAN, VARIANCE, to="end") < 1e-6
    x = np.random.default_rng(0).standard_normal((4, 3))
    expected = MODEL.trajectory(schedule, x, 0.7, 0.05)
    np.testing.assert_allclose(dpm.sample(MODEL.denoiser(schedule), x, plan=plan), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"order": 1, "corrector": False}, 1),
        ({"order": 2, "corrector": False}, 2),
        ({"order": 1}, 2),
        ({"order": 2}, 3),
    ],
)
def test_v3_converges_with_its_order_whatever_the_statistics(options: dict[str, Any], order: int) -> None:
    """The formulation is exact for any l, s and b: with statistics of no network at all the slope is the method's."""
    errors = [
        make_plan("dpm-v3", VP, nfe, statistics=arbitrary(), lower_order_final=False, **options, **RUN).wasserstein(
            MEAN, VARIANCE, to="end"
        )
        for nfe in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15), errors


def test_v3_of_order_three_with_its_corrector_converges_with_order_four() -> None:
    """Its claimed order, with a first step of h^(4/3): see `short_first_steps` of the other solvers' test."""

    def grid(schedule: NoiseSchedule, steps: int, start: float, end: float) -> np.ndarray:
        first, last = schedule.half_log_snr(start), schedule.half_log_snr(end)
        h = (last - first) / steps
        short = np.cumsum([h**2, h ** (4 / 3)])
        times = schedule.time(
            np.concatenate([[first, first + short[0]], np.linspace(first + short[1], last, steps - 1)])
        )
        times[0], times[-1] = start, end
        return times

    def error(nfe: int) -> float:
        plan = make_plan("dpm-v3", VP, nfe, grid, statistics=arbitrary(), lower_order_final=False, **RUN)
        return plan.wasserstein(MEAN, VARIANCE, to="end")

    assert math.log2(error(48) / error(96)) == pytest.approx(SOLVERS["dpm-v3"].order, abs=0.3)


def test_calibrate_finds_the_closed_form() -> None:
    """Gaussian data and their optimal network: l is exact (it is linear), s is 0, b and the noise power as accurate as the draws."""
    schedule = EDM(sigma_max=20.0)
    measured = dpm.calibrate(MODEL.denoiser(schedule), MODEL.sample(800, seed=1), levels=24, draws=2)
    grown = VARIANCE * np.exp(2 * measured.half_log_snr[:, None])
    np.testing.assert_allclose(measured.linear, 1 / (1 + grown), atol=1e-9)
    np.testing.assert_allclose(measured.noise_power, (1 / (1 + grown)).mean(axis=1), atol=0.05)
    # f is the constant -l mu there, so that s is 0 and b its slope, but for the line between two levels of l.
    np.testing.assert_array_equal(measured.scale, 0.0)
    np.testing.assert_allclose(measured.bias, 2 * grown * MEAN / (1 + grown) ** 2, atol=0.03)


def test_calibrate_spends_five_evaluations_per_level_and_draw_and_reports_them() -> None:
    """Its cost is what its docstring says, on torch as on NumPy, and the same seed measures the same."""
    calls = 0

    def network(x: Any, t: Any) -> Any:
        nonlocal calls
        calls += 1
        return x / (1 + abs(x))

    done: list[tuple[int, int]] = []
    x0 = np.random.default_rng(0).standard_normal((6, 1, 2, 2))
    first = dpm.calibrate(
        dpm.Denoiser(network, VP), x0, levels=5, draws=3, seed=2, progress=lambda k, of: done.append((k, of))
    )
    assert calls == 5 * 5 * 3
    assert done == [(k, 10) for k in range(1, 11)]
    again = dpm.calibrate(dpm.Denoiser(network, VP), torch.from_numpy(x0), levels=5, draws=3, seed=2)
    assert first.shape == again.shape == (1, 2, 2)
    for name, values in vars(first).items():
        np.testing.assert_allclose(getattr(again, name), values, atol=1e-9)


@pytest.mark.parametrize("name", ["analytic-ddpm", "analytic-ddim"])
def test_analytic_solvers_have_the_best_variance_there_is(name: str) -> None:
    """One coordinate of Gaussian data: any number of steps gives the exact law, because the reverse transitions are Gaussian."""
    model = dpm.models.Gaussian(mean=[0.4], variance=[0.3])
    lams = np.linspace(VP.half_log_snr(1.0), VP.half_log_snr(1e-3), 2000)
    power = 1 / (1 + 0.3 * np.exp(2 * lams))
    arrays = {key: np.zeros((2000, 1)) for key in ("linear", "scale", "bias")}
    measured = ModelStatistics.measured(VP, lams, noise_power=power, **arrays)
    for nfe in (2, 5, 20):
        plan = make_plan(name, VP, nfe, statistics=measured)
        assert plan.stochastic
        assert plan.wasserstein(model.means[0], model.variances[0], to="end") < 1e-4
    assert make_plan("ddpm", VP, 5).wasserstein(0.4, 0.3, to="end") > 0.01


@pytest.mark.parametrize("name", [n for n, s in SOLVERS.items() if s.calibrated])
def test_budgets_are_spent_exactly_on_every_backend(name: str) -> None:
    """nfe calls of the network; NumPy and torch agree; JSON keeps the arrays."""
    for nfe in (1, 2, 5):
        plan = make_plan(name, VP, nfe, statistics=MEASURED)
        assert plan.nfe == nfe
        assert dpm.Plan.from_json(plan.to_json()) == plan
        assert "leaves the marginals" in plan.table()
        x = np.random.default_rng(1).standard_normal((3, 3))
        first = dpm.sample(MODEL.denoiser(VP), x, plan=plan, generator=5)
        second = dpm.sample(MODEL.denoiser(VP), torch.from_numpy(x), plan=plan, generator=5, noise="host")
        np.testing.assert_allclose(second.numpy(), first, atol=1e-12)


def test_statistics_survive_their_file(tmp_path: Path) -> None:
    """save and load: the levels to the last digit, the arrays to float32; nothing is left beside the file."""
    path = tmp_path / "statistics.safetensors"
    MEASURED.save(path)
    loaded = ModelStatistics.load(path)
    np.testing.assert_array_equal(loaded.half_log_snr, MEASURED.half_log_snr)
    np.testing.assert_allclose(loaded.linear, MEASURED.linear, rtol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["statistics.safetensors"]
    (tmp_path / "other").write_bytes(b"no statistics")
    with pytest.raises(PlanError, match="holds no statistics"):
        ModelStatistics.load(tmp_path / "other")


def never(x: Any, t: Any) -> Any:
    pytest.fail("the network was asked")


@pytest.mark.parametrize("name", [n for n, s in SOLVERS.items() if s.calibrated])
def test_statistics_that_do_not_fit_are_refused_before_any_evaluation(name: str) -> None:
    """None at all, of another schedule, of another range of levels, of another shape of states: each with its cause."""
    x = np.ones((2, 3))
    denoiser = dpm.Denoiser(never, VP)
    with pytest.raises(PlanError, match=r"wants statistics of the network: statistics=dpm.calibrate.*got NoneType"):
        dpm.sample(denoiser, x, 5, solver=name)
    with pytest.raises(PlanError, match="measured on another schedule"):
        dpm.sample(dpm.Denoiser(never, LinearVP(beta_max=10.0)), x, 5, solver=name, statistics=MEASURED)
    if name == "dpm-v3":
        with pytest.raises(PlanError, match="outside the measured levels"):
            dpm.sample(denoiser, x, 5, solver=name, statistics=MEASURED, end=1e-4)
        for shape in ((2, 4), (2, 3, 1, 5)):
            with pytest.raises(PlanError, match=r"calibrated for states of shape \(3,\), x_T has"):
                dpm.sample(denoiser, np.ones(shape), 5, solver=name, statistics=MEASURED)
        with pytest.raises(PlanError, match="order must be 1, 2 or 3, got 4"):
            dpm.sample(denoiser, x, 5, solver=name, statistics=MEASURED, order=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"half_log_snr": MEASURED.half_log_snr[::-1]}, "levels of half-log-SNR that rise"),
        ({"half_log_snr": MEASURED.half_log_snr[:3]}, "at least four levels"),
        ({"noise_power": MEASURED.noise_power[:-1]}, "do not fit together"),
        ({"scale": MEASURED.scale[:, :2]}, "do not fit together"),
        ({"bias": MEASURED.bias * math.nan}, "must be finite"),
    ],
)
def test_statistics_that_are_none_are_refused(change: dict[str, Any], message: str) -> None:
    """Shapes, order and values are checked when they are made."""
    with pytest.raises(PlanError, match=message):
        replace(MEASURED, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 3}, "at least 4 levels and 1 draw, got levels=3"),
        ({"draws": 0}, "at least 4 levels and 1 draw, got levels=60, draws=0"),
        ({"start": 0.1, "end": 0.5}, "a start above the end"),
        ({"end": 0.0}, "0 < alpha and 0 < sigma"),
    ],
)
def test_calibrate_refuses_what_it_cannot_measure(options: dict[str, Any], message: str) -> None:
    """Before the network is asked."""
    with pytest.raises(PlanError, match=message):
        dpm.calibrate(dpm.Denoiser(never, VP), np.ones((2, 3)), **options)


def test_calibrate_names_the_evaluation_that_broke() -> None:
    """A network that returns NaN ends the measurement."""
    with pytest.raises(SamplingError, match="NaN or infinity at evaluation 1"):
        dpm.calibrate(dpm.Denoiser(lambda x, t: math.nan * x, VP), np.ones((2, 3)))
