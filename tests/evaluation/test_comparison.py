"""Comparisons: one noise for all, exact figures where there are any, resumed without losing or doubling anything."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
import dpmsolver.evaluation.comparison
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.comparison import Comparison
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.evaluation.jobs import Run
from dpmsolver.evaluation.measures import MEASURES
from dpmsolver.evaluation.results import shown_samples, summarise, write_results
from dpmsolver.evaluation.samplers import (
    Counter,
    Sampler,
    adaptive_sampler,
    plan_sampler,
    rk45_sampler,
    samplers_from_names,
)
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


@pytest.mark.parametrize("moment", [0, 3, 40, 70, 99])
def test_a_run_that_was_stopped_resumes_at_the_evaluation_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Stopped at any evaluation of any sampler, it ends with the very figures of one that was not, and evaluates only what was missing."""
    monkeypatch.setattr(dpmsolver.evaluation.comparison, "_SHORT", 0.0)  # every batch counts as a long one
    testbed = load_testbed("mixture-2")
    samplers = [plan_sampler("ddim"), plan_sampler("dpm++2m-sde"), rk45_sampler([0.1]), adaptive_sampler(2, [0.5])]

    def counted(folder: str) -> tuple[Counter, Comparison]:
        counter = Counter()
        network = replace(testbed, network_denoiser=lambda labels: counter.counted(testbed.denoiser(labels)))
        options = {"num": 6, "batch": 4, "reference_nfe": 20, "resamples": 10}
        return counter, Comparison(network, samplers, [5], folder=tmp_path / folder, **options)

    undisturbed, whole = counted("whole")
    expected = drawn(whole)
    first, broken = counted("broken")
    with pytest.raises(KeyboardInterrupt):
        broken.draw(lambda done, total, what: interrupt() if first.calls >= moment else None)
    second, resumed = counted("broken")
    results = drawn(resumed)
    assert first.calls == moment
    assert first.calls + second.calls == undisturbed.calls
    assert not list((tmp_path / "broken").rglob("begun"))
    assert without_seconds(results["curves"]) == without_seconds(expected["curves"])


def without_seconds(curves: Any) -> Any:
    return [{**c, "points": [{k: v for k, v in p.items() if k != "seconds"} for p in c["points"]]} for c in curves]


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_batch_that_was_begun_ends_as_it_began_and_the_others_take_the_new_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed with another batch: nothing that was drawn is drawn again, and the figures are the same to rounding."""
    monkeypatch.setattr(dpmsolver.evaluation.comparison, "_SHORT", 0.0)
    testbed = load_testbed("mixture-2")
    expected = drawn(made(tmp_path / "whole", "ddim", (5,), testbed=testbed))
    broken = made(tmp_path / "broken", "ddim", (5,), testbed=testbed)
    stop = 12 * (64 + 32 + 5) + 12 * 40  # in the reference of the second batch
    with pytest.raises(KeyboardInterrupt):
        broken.draw(lambda done, total, what: interrupt() if done >= stop else None)
    resumed = made(tmp_path / "broken", "ddim", (5,), testbed=testbed, batch=4)
    assert [(job.part, job.kept > 0) for job in resumed._missing()][:3] == [
        (range(12, 24), True),
        (range(12, 16), False),
        (range(12, 16), False),
    ]
    results = drawn(resumed)
    for key, interval in point(expected, "ddim", 5)["measures"].items():
        assert point(results, "ddim", 5)["measures"][key]["value"] == pytest.approx(interval["value"], rel=1e-9)
    assert point(results, "ddim", 5)["num"] == 30


def test_what_is_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    """A finished comparison costs no evaluation, and one with more solvers, budgets and samples only what is new, whatever the batch."""
    made(tmp_path).draw()
    assert not made(tmp_path)._missing()
    assert not made(tmp_path, batch=7)._missing()
    assert not made(tmp_path, num=25, batch=None)._missing()
    more = [job.item.run for job in made(tmp_path, "ddim,heun", (5, 10))._missing()]
    assert {run.split()[0] for run in more} == {"heun"}
    grown = [job.part for job in made(tmp_path, num=36)._missing()]
    assert {*grown} == {range(30, 36)}


def test_fewer_samples_than_are_stored_are_those_of_a_comparison_of_so_few(tmp_path: Path) -> None:
    """Samples are read by their number, not by the batch that they were drawn in; seconds and evaluations are shared out."""
    made(tmp_path / "more").draw()
    fewer, own = summarise(made(tmp_path / "more", num=17)), drawn(made(tmp_path / "own", num=17, batch=17))
    for name in ("ddim", "dpm++2m"):
        measures = point(fewer, name, 5)["measures"]
        assert point(fewer, name, 5)["num"] == 17
        assert measures["error"]["value"] == pytest.approx(point(own, name, 5)["measures"]["error"]["value"], rel=1e-9)


def test_the_batch_is_smaller_where_each_sample_is_slow(tmp_path: Path) -> None:
    """On a processor an evaluation takes a second or two, so that the bar moves. What a call costs whatever its size is no reason."""
    for name, each, call, batch, expected in (
        ("fast", 0.0, 0.0, None, {100}),
        ("slow", 0.04, 0.0, None, {*range(18, 26)}),
        ("slower", 0.2, 0.0, None, {10}),
        ("late", 0.0, 0.1, None, {100}),
        ("told", 0.2, 0.0, 12, {12}),
    ):
        testbed = replace(
            GAUSSIAN, network_denoiser=lambda labels, t=(each, call): slowed(GAUSSIAN.denoiser(labels), *t)
        )
        assert made(tmp_path / name, testbed=testbed, batch=batch)._batch_size() in expected, name


def slowed(denoiser: dpm.Denoiser, each: float, call: float) -> dpm.Denoiser:
    network = denoiser.network
    return denoiser.replace(network=lambda x, t: (time.sleep(each * len(x) + call), network(x, t))[1])


def with_weights(scale: float) -> Testbed:
    """A testbed of the name "gaussian" whose network has other weights."""
    law = dpm.models.Gaussian(mean=np.zeros(64), variance=scale * np.ones(64))
    return replace(GAUSSIAN, gaussian=law, network_denoiser=lambda labels: law.denoiser(GAUSSIAN.schedule, "noise"))


def test_a_folder_knows_the_network_by_its_weights(tmp_path: Path) -> None:
    """Other weights under the same name are refused in one sentence, the same ones are not; nor is a folder without a batch."""
    made(tmp_path, testbed=with_weights(1.0))
    made(tmp_path, testbed=with_weights(2.0)).draw()
    made(tmp_path, testbed=with_weights(2.0))
    with pytest.raises(
        ValueError, match=r"holds another comparison \(network was '\w{64}' and is '\w{64}'\): name another folder"
    ):
        made(tmp_path, testbed=with_weights(1.0))


def test_a_folder_knows_the_features_by_their_weights(tmp_path: Path) -> None:
    """What is kept of a sample are its features: those of two feature networks do not mix."""

    def testbed(weights: Any) -> Testbed:
        return replace(with_features(GAUSSIAN), features=lambda x: np.asarray(x) * weights)

    made(tmp_path, testbed=testbed(np.ones(64))).draw()
    made(tmp_path, testbed=testbed(np.ones(64)))
    with pytest.raises(ValueError, match=r"features was .* and is .*: name another folder"):
        made(tmp_path, testbed=testbed(np.full(64, 2.0)))


def test_the_results_say_which_network_it_was(tmp_path: Path) -> None:
    """A sum of the weights, or None for a function that holds none."""
    assert len(str(drawn(made(tmp_path / "known"))["network"])) == 64
    bare = replace(GAUSSIAN, network_denoiser=lambda labels: dpm.Denoiser(lambda x, t: 0.1 * x, GAUSSIAN.schedule))
    assert drawn(made(tmp_path / "unknown", testbed=bare))["network"] is None


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


def test_a_figure_that_is_not_there_says_why(tmp_path: Path) -> None:
    """In the results and in the table of all figures: samplers that add noise have no trajectory, those without a plan no known law."""
    results = drawn(made(tmp_path, "ddim,dpm++2m-sde,dpm-3,rk45", (5, 10), num=6))
    missing = point(results, "dpm++2m-sde", 10)["missing"]
    assert missing == {"error": "adds noise: its samples have no exact trajectory to be near to"}
    assert point(results, "ddim", 10)["missing"] == {}
    (rk45,) = (curve for curve in results["curves"] if curve["name"] == "rk45")
    assert "law of its result is not known" in rk45["points"][0]["missing"]["wasserstein"]
    write_results(results, tmp_path)
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len([line for line in lines if line.startswith("dpm++2m-sde,") and "error,,,,adds noise" in line]) == 2
    assert any(line.startswith("dpm-3,dpm-3,default,5,,,,,,,,") and "cannot spend nfe=5" in line for line in lines)


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
    assert [*dict.fromkeys(done for done, _ in told)] == [10 * calls for calls in range(counter.calls + 1)]


def test_progress_never_passes_its_total_nor_goes_back(tmp_path: Path) -> None:
    """Also with samplers that choose their own steps, whose evaluations are a guess, more of them than that and fewer."""
    told: list[tuple[int, int]] = []
    testbed = load_testbed("mixture-2")
    samplers = [plan_sampler("ddim"), rk45_sampler([0.1, 1e-4]), adaptive_sampler(2, [0.5])]
    comparison = Comparison(testbed, samplers, [5], num=6, batch=3, folder=tmp_path, reference_nfe=20)
    comparison.draw(lambda done, total, what: told.append((done, total)))
    dones = [done for done, _ in told]
    assert dones == sorted(dones)
    assert len({total for _, total in told}) == 1
    assert dones[-1] == told[-1][1]
    assert {run.sampler.name for run in comparison.runs if drawn_with(comparison, run) > run.cost} == {"rk45"}
    assert {run.sampler.name for run in comparison.runs if drawn_with(comparison, run) < run.cost} >= {"rk45"}


def drawn_with(comparison: Comparison, run: Run) -> float:
    return float(comparison.store.read(run.key, run.setting, range(3))[0]["evaluations"])


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
    figures = sum(len(p["measures"]) + len(p["missing"]) for curve in results["curves"] for p in curve["points"])
    assert len(lines) - 1 == figures
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


def test_exact_draws_tell_how_small_a_frechet_distance_can_be(tmp_path: Path) -> None:
    """As many as the samples, through the same features; another number is another set; without features there is no such figure."""
    testbed = replace(with_features(GAUSSIAN), feature_yardstick=0.5)
    assert testbed.data is not None
    assert testbed.feature_statistics is not None
    for num in (30, 40):
        results = drawn(made(tmp_path / "known", nfes=(5,), num=num, testbed=testbed))
        floor = results["yardsticks"]["frechet"]
        draws = testbed.data(num, dpmsolver.evaluation.comparison._EXACT_SEED)
        assert floor["value"] == pytest.approx(frechet_distance_to(draws, *testbed.feature_statistics), rel=1e-5)
        assert floor["low"] < floor["value"] < floor["high"]
        assert (floor["num"], floor["title"]) == (num, f"{num} exact draws of the data")
    bare = replace(testbed, data=None)
    assert drawn(made(tmp_path / "test set", nfes=(5,), testbed=bare))["yardsticks"]["frechet"]["value"] == 0.5
    assert drawn(made(tmp_path / "none", nfes=(5,)))["yardsticks"] == {}


def test_wide_features_have_fewer_resamples(tmp_path: Path) -> None:
    """A Frechet distance of a thousand features takes a second for each."""
    rows = np.random.default_rng(0).standard_normal((20, 300))
    wide = replace(GAUSSIAN, feature_statistics=(np.zeros(300), np.eye(300)))
    narrow = replace(GAUSSIAN, feature_statistics=(np.zeros(8), np.eye(8)))
    frechet = MEASURES["frechet"]
    assert len(frechet.resampled(wide, rows, 50)) == 5
    assert len(frechet.resampled(narrow, rows[:, :8], 50)) == 50
