"""Comparisons: one noise for all, exact figures where there are any, resumed without losing or doubling anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.comparison import Comparison
from dpmsolver.evaluation.results import shown_samples, summarise, write_results
from dpmsolver.evaluation.samplers import Counter, Sampler, plan_sampler, samplers_from_names
from dpmsolver.models.testbeds import Testbed, load_testbed

GAUSSIAN = load_testbed("gaussian")


def made(folder: Path, solvers: str = "ddim,dpm++2m", nfes: tuple[int, ...] = (5, 10), **options: Any) -> Comparison:
    settings: dict[str, Any] = {
        "num": 30,
        "batch": 12,
        "folder": folder,
        "testbed": GAUSSIAN,
        "resamples": 20,
    } | options
    return Comparison(samplers=samplers_from_names(solvers.split(",")), nfes=nfes, **settings)


def drawn(comparison: Comparison) -> dict[str, Any]:
    comparison.draw()
    return summarise(comparison, "a command")


def point(results: dict[str, Any], name: str, nfe: int) -> dict[str, Any]:
    (curve,) = (curve for curve in results["curves"] if curve["name"] == name)
    (found,) = (p for p in curve["points"] if p["nfe"] == nfe)
    return found


def test_the_error_is_the_distance_to_the_closed_form(tmp_path: Path) -> None:
    """Recomputed by hand: the same noise, the plan, and the exact trajectory to the plan's end."""
    results = drawn(made(tmp_path))
    part = range(30)
    x_T = GAUSSIAN.initial_noise(part, 0)
    x = dpm.sample(GAUSSIAN.denoiser(), x_T, nfe=10, solver="dpm++2m")
    exact = GAUSSIAN.gaussian.trajectory(GAUSSIAN.schedule, x_T, GAUSSIAN.schedule.t_max, GAUSSIAN.schedule.t_min)
    expected = np.sqrt(np.mean((x - exact) ** 2, axis=1)).mean()
    interval = point(results, "dpm++2m", 10)["measures"]["error"]
    assert interval["value"] == pytest.approx(expected, rel=1e-9)
    assert interval["low"] < interval["value"] < interval["high"]
    assert results["reference"]["own_error"]["value"] == 0.0


def test_the_exact_distance_of_gaussian_data_is_the_plans(tmp_path: Path) -> None:
    law = GAUSSIAN.gaussian
    plan = dpm.make_plan("dpm++2m", GAUSSIAN.schedule, 10)
    assert point(drawn(made(tmp_path)), "dpm++2m", 10)["measures"]["wasserstein"]["value"] == pytest.approx(
        plan.wasserstein(law.means[0], law.variances[0])
    )


def test_evaluations_and_samples_are_counted(tmp_path: Path) -> None:
    found = point(drawn(made(tmp_path, "heun,dpm++2m-sde", (10,))), "heun", 10)
    assert (found["evaluations"], found["num"]) == (10.0, 30)


def test_a_run_that_was_killed_goes_on_and_counts_nothing_twice(tmp_path: Path) -> None:
    """Killed in the middle of any batch, the comparison ends with the figures of one that was not, and draws only what was missing."""
    whole = drawn(made(tmp_path / "whole"))
    calls: list[int] = []
    broken = made(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        broken.draw(lambda done, total, what: calls.append(done) if len(calls) < 7 else interrupt())
    again: list[str] = []
    resumed = made(tmp_path / "broken")
    resumed.draw(lambda done, total, what: again.append(what))
    results = summarise(resumed, "a command")
    total = len(list(made(tmp_path / "fresh")._missing()))
    assert len(again) - 1 == total - 7 < total
    for run in resumed.runs:
        name, nfe = run.sampler.name, int(run.setting)
        assert point(results, name, nfe)["measures"] == point(whole, name, nfe)["measures"]
        assert point(results, name, nfe)["num"] == 30


def interrupt() -> None:
    raise KeyboardInterrupt


def test_what_is_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    """A finished comparison costs no evaluation, and one with more solvers, budgets and samples only what is new."""
    made(tmp_path).draw()
    assert not list(made(tmp_path)._missing())
    more = [what for _, what, _ in made(tmp_path, "ddim,heun", (5, 10))._missing()]
    assert more
    assert all("heun" in what for what in more)
    grown = [what for _, what, _ in made(tmp_path, num=36)._missing()]
    assert grown
    assert all("from 24" in what for what in grown)


def test_sample_i_is_the_same_whatever_the_batch(tmp_path: Path) -> None:
    """The batch is how work is cut, not what is measured; noise of stochastic solvers included."""
    figures = []
    for batch in (30, 7):
        results = drawn(
            made(tmp_path / str(batch), "ddim,dpm++2m-sde", (5,), batch=batch, testbed=load_testbed("mixture-2"))
        )
        figures.append([point(results, name, 5)["measures"]["energy"]["value"] for name in ("ddim", "dpm++2m-sde")])
    np.testing.assert_allclose(figures[0], figures[1], rtol=1e-9)


def test_budgets_that_cannot_be_spent_are_said_and_left_out(tmp_path: Path) -> None:
    results = drawn(made(tmp_path, "heun,dpm-3", (5, 6)))
    curves = {curve["name"]: curve for curve in results["curves"]}
    assert [p["nfe"] for p in curves["dpm-3"]["points"]] == [6]
    assert curves["dpm-3"]["skipped"][0]["nfe"] == 5
    assert "cannot spend nfe=5" in curves["dpm-3"]["skipped"][0]["why"]


def test_solvers_that_add_noise_have_no_trajectory_to_be_near_to(tmp_path: Path) -> None:
    """They end elsewhere by design: their error is not measured, their law is."""
    measures = point(drawn(made(tmp_path, "dpm++2m-sde", (10,))), "dpm++2m-sde", 10)["measures"]
    assert "error" not in measures
    assert {"wasserstein", "energy", "sliced_wasserstein"} <= set(measures)


def test_a_network_that_diverges_ends_its_run_alone(tmp_path: Path) -> None:
    def burst(denoiser: Any, x_T: Any, setting: float, keys: Any) -> Any:
        return dpm.sample(dpm.Denoiser(lambda x, t: x * np.nan, denoiser.schedule), x_T, nfe=int(setting))

    bad = Sampler("bad", burst, plan_sampler("ddim").plan)
    comparison = Comparison(GAUSSIAN, [plan_sampler("ddim"), bad], [5], num=4, folder=tmp_path)
    curves = {curve["name"]: curve for curve in drawn(comparison)["curves"]}
    assert curves["bad"]["points"] == []
    assert "evaluation" in curves["bad"]["skipped"][0]["why"]
    assert len(curves["ddim"]["points"]) == 1


def test_runs_to_zero_are_compared_with_trajectories_to_zero(tmp_path: Path) -> None:
    """A plan that ends at sigma = 0 and one that ends at t = 1/N each have their own end of the exact trajectory."""
    results = drawn(made(tmp_path, "dpm++2m,dpm++2m:end=0.0", (60,)))
    for name in ("dpm++2m", "dpm++2m, end=0.0"):
        assert point(results, name, 60)["measures"]["error"]["value"] < 2e-3


def test_a_converged_run_stands_in_for_the_exact_one_and_says_how_far_it_is_off(tmp_path: Path) -> None:
    """On a mixture there is no closed form: errors against the reference fall with the budget, and its own is far below them."""
    results = drawn(made(tmp_path, "ddim", (5, 10), testbed=load_testbed("mixture-16"), num=8))
    errors = [point(results, "ddim", nfe)["measures"]["error"]["value"] for nfe in (5, 10)]
    assert errors[0] > errors[1] > 20 * results["reference"]["own_error"]["value"] > 0


BUDGETS = (5, 10, 15, 20, 30, 50, 80, 120)


def test_the_progress_that_is_told_is_what_the_network_did(tmp_path: Path) -> None:
    """Runs to both ends, converged ones included: the one to sigma = 0 goes on from the other."""
    counter, testbed = Counter(), load_testbed("mixture-2")
    counted = replace(testbed, network_denoiser=lambda labels: counter.counted(testbed.denoiser(labels)))
    comparison = made(tmp_path, "ddim,ddim:end=0.0", (5,), testbed=counted, num=10, batch=10)
    told: list[tuple[int, int]] = []
    comparison.draw(lambda done, total, what: told.append((done, total)))
    assert told[-1] == (10 * counter.calls, 10 * counter.calls)


def with_features(testbed: Testbed) -> Testbed:
    """A Frechet distance on the coordinates themselves, to data that are off by 0.3, as a network's samples are off those it learnt."""
    assert testbed.data is not None
    data = testbed.data(20_000, 5)
    return replace(
        testbed,
        features=lambda x: np.asarray(x, dtype=np.float64),
        feature_statistics=(data.mean(0) + 0.3, np.cov(data.T)),
    )


def test_evaluations_needed_and_the_speed_up_over_ddim(tmp_path: Path) -> None:
    """Within x of the limit from the first budget on after which all are within; DDIM needs more than a solver of order two."""
    results = drawn(
        made(
            tmp_path,
            "ddim,dpm++2m",
            BUDGETS,
            num=100,
            batch=100,
            testbed=with_features(GAUSSIAN),
        )
    )
    thresholds = results["thresholds"]
    assert thresholds["measure"] == "frechet"
    rows = {row["name"]: row for row in thresholds["rows"]}
    limit, bias = results["reference"]["measures"]["frechet"]["value"], thresholds["bias"]
    assert 0 < bias < limit  # 100 samples
    for name, row in rows.items():
        values = {n: point(results, name, n)["measures"]["frechet"]["value"] for n in BUDGETS}
        for x, needed in zip(thresholds["within"], row["needed"], strict=True):
            inside = [all(values[m] - limit <= x * (limit - bias) for m in values if m >= n) for n in values]
            expected = next((n for n, ok in zip(values, inside, strict=True) if ok), None)
            assert needed == expected
    assert rows["dpm++2m"]["needed"][0] < rows["ddim"]["needed"][0]
    speedup = rows["dpm++2m"]["speedup"][0]
    assert speedup["low"] <= speedup["value"] <= speedup["high"]
    assert speedup["value"] > 1


def test_results_are_plain_data_and_a_table(tmp_path: Path) -> None:
    """results.json reads back as it was; results.csv has a line for each run and measure; samples to show are there in two dimensions."""
    comparison = made(tmp_path, "ddim,rk45", (5,), testbed=load_testbed("mixture-2"))
    results = drawn(comparison)
    write_results(results, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0].startswith("name,solver,grid,nfe,evaluations,num")
    assert len(lines) - 1 == sum(len(p["measures"]) for curve in results["curves"] for p in curve["points"])
    shown = shown_samples(comparison)
    assert shown["ddim", 5].shape == (30, 2)
    assert ("reference", 0) in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nfes": ()}, "at least one budget"),
        ({"nfes": (5, 5)}, "each once"),
        ({"num": 0}, "num must be an integer >= 1"),
        ({"num": 1}, "needs two samples"),
        ({"num": 2.5}, "num must be an integer"),
        ({"batch": 0}, "batch must be"),
        ({"solvers": "dpm++2n"}, "unknown solver 'dpm\\+\\+2n'"),
        ({"solvers": "ddim@karas"}, "unknown grid 'karas'"),
        ({"solvers": "ddim:etta=1"}, "unknown option 'etta'"),
        ({"solvers": "dpm-3", "nfes": (5,)}, "none of the samplers can spend"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises((ValueError, PlanError), match=message):
        made(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_name_of_the_reference_and_names_twice_are_refused(tmp_path: Path) -> None:
    for samplers in ([plan_sampler("ddim", name="reference")], [plan_sampler("ddim"), plan_sampler("ddim")], []):
        with pytest.raises(ValueError, match="name"):
            Comparison(GAUSSIAN, samplers, [5], folder=tmp_path)
