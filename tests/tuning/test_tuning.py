"""tune from end to end: what it gives, what it keeps, and how it says no."""

from __future__ import annotations

import json
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laws import LAW, PEAKS, SCHEDULE, labels

import dpmsolver as dpm
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.tuning.outcome import Tuned

SPENT = 4200
pytestmark = pytest.mark.usefixtures("few_presets")


def peaks() -> dpm.Denoiser:
    return PEAKS.denoiser(SCHEDULE)


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    return dpm.tune(peaks(), (32, 2), nfe=4, effort=SPENT)


def test_a_fitted_plan_is_nearer_on_noises_of_nobody(tuned: Tuned) -> None:
    """On 200 noises that the fit has not seen, by half at least, on a mixture in the plane."""
    denoiser, x_T = peaks(), dpm.initial_noise(SCHEDULE, (200, 2), seed=9)
    exact = dpm.sample(denoiser, x_T, 200, solver="dpm++3m", end=tuned.plan.end.time)
    errors = {
        name: np.sqrt(np.square(dpm.sample(denoiser, x_T, plan=plan) - exact).mean(axis=1)).mean()
        for name, plan in tuned.plans.items()
    }
    assert tuned.report.winner == "tuned"
    assert errors["tuned"] < 0.5 * errors["selected"] <= errors["auto"]


def test_the_report_is_of_the_plans(tuned: Tuned) -> None:
    """Stages that fall, noises in three parts, a gain with its interval, and what the text says."""
    report = tuned.report
    assert sum(report.noises) == 32
    assert all(len(each) == report.noises[2] for each in report.errors.values())
    assert [stage.name for stage in report.stages][:2] == ["auto", f"selected: {report.selected}"]
    assert [stage.evaluations for stage in report.stages] == sorted(stage.evaluations for stage in report.stages)
    gain = report.gain()
    assert gain.low <= gain.value <= gain.high
    assert "4 evaluations: tuned is kept" in str(tuned)
    assert report.evaluations < 2 * SPENT


def test_a_fitted_plan_says_where_it_is_from(tuned: Tuned) -> None:
    """Network, guidance, seed, noises, cost and scores; and so does the one that another seed gives."""
    options, report = tuned.plan.options, tuned.report
    assert list(options) == [
        "network",
        "guidance",
        "seed",
        "noises",
        "evaluations",
        "mean_error",
        "untuned",
        "untuned_mean_error",
    ]
    assert options["seed"] == 0
    assert options["evaluations"] == report.evaluations
    assert np.isclose(options["mean_error"], report.summaries["tuned"].mean, rtol=1e-5)
    assert dpm.tune(peaks(), (16, 2), nfe=3, effort=1000, seed=7).plans["tuned"].options["seed"] == 7


def test_a_fitted_plan_is_an_ordinary_one(tuned: Tuned) -> None:
    """JSON, and a Stepper, which asks the network itself."""
    denoiser, x_T = peaks(), dpm.initial_noise(SCHEDULE, (5, 2), seed=3)
    wanted = dpm.sample(denoiser, x_T, plan=tuned.plan)
    assert dpm.Plan.from_json(tuned.plan.to_json()) == tuned.plan
    stepper = dpm.Stepper(tuned.plan, x_T, denoiser.predicts)
    while not stepper.done:
        point = stepper.point
        stepper.step(denoiser.at(stepper.x, point.time, denoiser.predicts))
    assert np.allclose(stepper.x, wanted, rtol=1e-9, atol=1e-11)


def test_one_seed_gives_one_plan() -> None:
    """Twice the same numbers; another seed, others."""
    first, again, other = (
        dpm.tune(peaks(), (16, 2), nfe=3, effort=1000, seed=seed).plans["tuned"] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_torch_finds_what_numpy_finds() -> None:
    """The same noises as tensors of float64: the same winner, and errors that agree."""
    x_T = dpm.initial_noise(SCHEDULE, (16, 3), seed=4)
    ours, theirs = (dpm.tune(LAW.denoiser(SCHEDULE), x, nfe=3, effort=1500) for x in (x_T, torch.tensor(x_T)))
    assert ours.report.winner == theirs.report.winner
    assert np.allclose(ours.report.errors["selected"], theirs.report.errors["selected"], rtol=1e-6)
    assert np.isclose(ours.report.errors["tuned"].mean(), theirs.report.errors["tuned"].mean(), rtol=0.05)


def test_conditions_go_with_their_noises() -> None:
    """Labels of all noises in the denoiser, or a function of their numbers: one result; a scale of guidance per noise is fitted too."""
    x_T, scale = dpm.initial_noise(SCHEDULE, (16, 2), seed=5), np.linspace(1.0, 2.0, 16)

    def made(numbers: Any) -> dpm.Denoiser:
        guidance = ClassifierFree(
            scale[numbers], {"class_labels": labels(16)[numbers]}, {"class_labels": np.full(len(numbers), 3)}
        )
        return peaks().replace(guidance=guidance)

    whole = dpm.tune(made(np.arange(16)), x_T, nfe=3, effort=1200)
    assert dpm.tune(made, x_T, nfe=3, effort=1200).plans["tuned"] == whole.plans["tuned"]
    assert whole.plans["tuned"].options["guidance"] == "ClassifierFree 1 to 2"


def test_a_plan_for_a_range_of_guidance_serves_the_scales_between() -> None:
    """It runs at each of them, and at another per sample, without a warning; beyond them it warns."""

    def guided(scale: Any, num: int) -> dpm.Denoiser:
        return peaks().replace(
            guidance=ClassifierFree(scale, {"class_labels": labels(num)}, {"class_labels": np.full(num, 3)})
        )

    plan = dpm.tune(guided(np.linspace(1.0, 2.0, 16), 16), (16, 2), nfe=3, effort=1200).plans["tuned"]
    x_T = dpm.initial_noise(SCHEDULE, (4, 2), seed=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in (1.0, 1.5, 2.0, [1.2, 1.4, 1.6, 1.8]):
            dpm.sample(guided(scale, 4), x_T, plan=plan)
    with pytest.warns(dpm.ConventionWarning, match="with guidance ClassifierFree 1 to 2, and runs with"):
        dpm.sample(guided(3.0, 4), x_T, plan=plan)


# What is kept in a folder ---------------------------------------------------------------------------------------------------------


def counted(denoiser: dpm.Denoiser, stop: int | None = None) -> tuple[dpm.Denoiser, Any]:
    """The denoiser whose calls are counted, and stopped as by Ctrl-C at one of them."""
    calls, network = count(1), denoiser.network
    made = [0]

    def counting(x: Any, t: Any, **kwargs: Any) -> Any:
        made[0] = next(calls)
        if made[0] == stop:
            raise KeyboardInterrupt
        return network(x, t, **kwargs)

    counting.weights_of = network  # type: ignore[attr-defined]
    return denoiser.replace(network=counting), made


def test_a_second_call_evaluates_nothing(tmp_path: Path) -> None:
    """And gives the same plans and reports."""
    denoiser, made = counted(peaks())
    first = dpm.tune(denoiser, (24, 2), nfe=[3, 4], effort=3100, store=tmp_path)
    calls = made[0]
    again = dpm.tune(denoiser, (24, 2), nfe=[3, 4], effort=3100, store=tmp_path)
    assert made[0] == calls
    assert {nfe: each.plan for nfe, each in again.items()} == {nfe: each.plan for nfe, each in first.items()}
    assert str(again[4]) == str(first[4])
    assert again[3].plans == first[3].plans
    assert dpm.Plan.from_json((tmp_path / "plan-4.json").read_text()) == first[4].plan


def test_an_interrupted_fit_resumes(tmp_path: Path) -> None:
    """Stopped in its second budget: the first is there, and the end is that of a run that was never stopped."""
    whole, made = counted(peaks())
    plain = dpm.tune(whole, (24, 2), nfe=[3, 4], effort=3100)
    stopped, _ = counted(peaks(), stop=made[0] - 40)
    with pytest.raises(KeyboardInterrupt):
        dpm.tune(stopped, (24, 2), nfe=[3, 4], effort=3100, store=tmp_path)
    assert (tmp_path / "plan-3.json").exists()
    assert not (tmp_path / "plan-4.json").exists()
    resumed, again = counted(peaks())
    found = dpm.tune(resumed, (24, 2), nfe=[3, 4], effort=3100, store=tmp_path)
    assert again[0] < 0.6 * made[0]
    assert {nfe: each.plan for nfe, each in found.items()} == {nfe: each.plan for nfe, each in plain.items()}


def test_a_fit_that_was_killed_between_any_two_stages_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed at one call after another: no stage is done twice, and the report counts what all the processes have spent."""
    whole, made = counted(peaks())
    plain = dpm.tune(whole, (40, 2), nfe=3, effort=9000)
    spent, kills = 0, 0
    while True:
        denoiser, calls = counted(peaks(), stop=made[0] // 3)
        try:
            found = dpm.tune(denoiser, (40, 2), nfe=3, effort=9000, store=tmp_path)
            break
        except KeyboardInterrupt:
            kills += 1
        finally:
            spent += calls[0]
    assert kills >= 2
    assert spent < 1.6 * made[0]
    assert found.plans == plain.plans
    assert found.report.stages == plain.report.stages
    assert len(found.report.stages) > 4
    assert found.report.evaluations == plain.report.evaluations
    assert not [*(tmp_path / "teacher").glob("draft-*")]


def test_progress_rises_to_its_total() -> None:
    seen: list[tuple[int, int]] = []
    dpm.tune(peaks(), (16, 2), nfe=3, effort=2000, progress=lambda done, total: seen.append((done, total)))
    done = [each for each, _ in seen]
    assert done == sorted(done)
    assert len(set(done)) > 100
    assert seen[-1][0] == seen[-1][1]


# Bad input ------------------------------------------------------------------------------------------------------------------------


def refused(error: type[Exception], match: str, denoiser: Any = None, noises: Any = (16, 2), **options: Any) -> None:
    """One sentence, in one line."""
    with pytest.raises(error, match=match) as raised:
        dpm.tune(peaks() if denoiser is None else denoiser, noises, **{"nfe": 3, "effort": 1500, **options})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"nfe": 1}, "a plan of 1 evaluations has too little to fit: tune needs nfe >= 3; take dpm.select"),
        ({"nfe": [5, 2]}, "a plan of 2 evaluations has too little to fit"),
        ({"nfe": []}, "say how many network evaluations to spend"),
        ({"nfe": 2.5}, "nfe must be an integer"),
        ({"noises": (15, 2)}, "tune needs at least 16 noises, to fit, to choose and to judge, got 15"),
        ({"effort": "days"}, "unknown effort 'days'"),
        ({"effort": True}, "effort must be 'seconds', 'minutes', 'hours' or a number of evaluations, got True"),
        ({"batch": True}, "batch must be an integer >= 1, got True"),
        ({"features": 3}, "features must be a function of a batch, got 3"),
        ({"loss": "mse"}, "loss must be a function of a batch, got 'mse'"),
        (
            {"loss": lambda x, reference: -np.square(x - reference).mean(axis=1), "noises": (64, 2), "effort": 8200},
            "loss must return numbers >= 0, got -",
        ),
        ({"effort": 0}, "effort must be 'seconds', 'minutes', 'hours' or a number of evaluations, got 0"),
        ({"batch": 0}, "batch must be an integer >= 1, got 0"),
        ({"features": abs, "loss": abs}, "give features or loss, not both"),
        ({"nfe": 12}, "12 evaluations have 101 numbers to fit, and the 6 noises that fit give 12: take more noises"),
    ],
)
def test_what_cannot_be_fitted_is_refused(options: dict[str, Any], match: str) -> None:
    refused(dpm.PlanError, match, **options)


def unasked(x: Any, t: Any) -> Any:
    raise AssertionError("the network is evaluated")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"nfe": [3, 12]}, "12 evaluations have 101 numbers to fit, and the 6 noises that fit give 12"),
        (
            {"loss": lambda x, reference: np.zeros(len(x))},
            "3 evaluations have 11 numbers to fit, and the 6 noises that fit give 6",
        ),
        ({"loss": lambda x, reference: 0.0}, r"loss must return one row per sample \(2\), got shape \(\)"),
        ({"features": lambda x: x[:1]}, r"features must return one row per sample \(2\), got shape \(1, 2\)"),
    ],
)
def test_what_no_budget_can_do_is_told_before_the_network_is_asked(options: dict[str, Any], match: str) -> None:
    """So nothing is lost: neither the teacher nor the budgets that could be fitted."""
    refused(dpm.PlanError, match, peaks().replace(network=unasked), **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_noises_that_are_not_finite_are_told(value: float) -> None:
    """As `sample` tells them, and even where the fit would not use them; the network is not blamed."""
    x_T = dpm.initial_noise(SCHEDULE, (32, 2), seed=0)
    x_T[7, 1] = value
    refused(ValueError, "x_T has NaN or infinity in sample 7 of 32", peaks().replace(network=unasked), x_T)
    with pytest.raises(ValueError, match="x_T has NaN or infinity in sample 7 of 32"):
        dpm.select(peaks().replace(network=unasked), x_T, nfe=3)


def test_noises_of_another_size_are_told() -> None:
    """Standard normals, on a schedule that starts at 80."""
    schedule = dpm.schedules.EDM()
    with pytest.warns(dpm.ConventionWarning, match=r"start from dpm\.initial_noise"):
        dpm.tune(LAW.denoiser(schedule), np.random.default_rng(0).standard_normal((64, 3)), nfe=3, effort=1000)


@pytest.mark.parametrize("network", [torch.nn.Linear(2, 2), lambda x, t: x, None, 3])
def test_a_network_instead_of_a_denoiser_is_told(network: Any) -> None:
    with pytest.raises(TypeError, match=r"denoiser must be dpm\.Denoiser\(network, schedule, …\), or a function"):
        dpm.tune(network, (16, 2), nfe=3)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.2), (0.5, 1.0)])
def test_a_network_that_draws_random_numbers_is_told(low: float, high: float) -> None:
    """Everywhere, or only at low or at high noise."""
    rng, plain = np.random.default_rng(0), peaks()

    def network(x: Any, t: Any) -> Any:
        loud = low <= float(t.ravel()[0]) <= high
        return plain.network(x, t) + 0.01 * loud * rng.standard_normal(x.shape)

    noisy = plain.replace(network=network)
    refused(
        dpm.PlanError, r"the network is not deterministic: two calls with one input differ by .*net\.eval\(\)", noisy
    )


def test_nan_on_the_teachers_path_is_told() -> None:
    plain = peaks()
    broken = plain.replace(network=lambda x, t: np.where(t[:, None] < 0.1, np.nan, plain.network(x, t)))
    refused(dpm.SamplingError, "the trajectories of the teacher cannot be followed: the network returned NaN", broken)


def test_a_teacher_that_has_not_converged_is_told_with_its_error() -> None:
    """A network with a coarse label, whose trajectory is no smooth curve."""
    plain = peaks()
    steps = plain.replace(network=lambda x, t: plain.network(x, t) + 0.3 * np.sin(2e4 * x))
    refused(dpm.PlanError, "the teacher has not converged: runs of 256 and 512 evaluations end .* apart", steps)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": lambda x, reference: np.full(len(x), np.nan)}, "loss returned NaN or infinity"),
        ({"features": lambda x: np.inf * x}, "features returned NaN or infinity"),
        ({"loss": lambda x, reference: 0.0}, r"loss must return one row per sample \(.*\), got shape \(\)"),
    ],
)
def test_a_loss_that_is_not_finite_is_told(options: dict[str, Any], match: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        refused((dpm.SamplingError, dpm.PlanError), match, **options)  # type: ignore[arg-type]


def test_a_loss_that_is_infinite_away_from_the_end_is_told() -> None:
    """Zero at the trajectory's own end, and infinite elsewhere: nothing can be ranked by it."""

    def loss(x: Any, reference: Any) -> Any:
        return np.where(np.abs(x - reference).max(axis=1) == 0.0, 0.0, np.inf)

    refused(dpm.SamplingError, "loss returned NaN or infinity", noises=(32, 2), loss=loss, effort=4200)


def test_files_that_are_cut_short_or_edited_are_told(tmp_path: Path) -> None:
    """The plan, its report, and the trajectories, and those of another fit: named, with what to do, and nothing is overwritten."""
    given: dict[str, Any] = {"nfe": 3, "effort": 1500, "store": tmp_path}
    dpm.tune(peaks(), (16, 2), **given)
    plan, report = tmp_path / "plan-3.json", tmp_path / "report-3.json"
    whole = plan.read_text(), report.read_text()
    plan.write_text(whole[0][:200])
    refused(dpm.PlanError, r"plan-3\.json: not a plan in JSON, or one that was cut short .*or delete plan-3", **given)
    document = json.loads(whole[0])
    document["end"]["label"] += 1e-9
    if "checksum" in document:
        plan.write_text(json.dumps(document))
        refused(dpm.PlanError, r"plan-3\.json: this plan's numbers were changed after it was written", **given)
    plan.write_bytes(b"\xff\xfe")
    refused(dpm.PlanError, r"plan-3\.json: .*or delete plan-3\.json and report-3\.json", **given)
    plan.write_text(dpm.make_plan("ddim", SCHEDULE, 3).to_json())
    refused(dpm.PlanError, r"plan-3\.json is not the plan that report-3\.json says was kept: delete plan-3", **given)
    plan.write_text(whole[0])
    for broken in ("null", "[]", "7", whole[1][:300]):
        report.write_text(broken)
        refused(dpm.PlanError, r"report-3\.json holds no report of a fit .*: delete plan-3\.json and", **given)
    report.write_text(whole[1][:300])
    refused(
        dpm.PlanError, r"report-3\.json holds no report of a fit .*: delete plan-3\.json and report-3\.json", **given
    )
    report.unlink()
    refused(dpm.PlanError, r"plan-3\.json has no report-3\.json beside it: take another folder", **given)
    report.write_text(whole[1])
    refused(dpm.PlanError, r"was fitted to another network, to other noises or with other", **{**given, "effort": 1600})
    refused(dpm.PlanError, r"was fitted to another network, to other noises or with other", **{**given, "seed": 1})
    for each in (plan, report):
        each.unlink()
    denoiser, calls = counted(peaks())
    dpm.tune(denoiser, (16, 2), **given)
    for each in (plan, report):
        each.unlink()
    with pytest.raises(KeyboardInterrupt):
        dpm.tune(counted(peaks(), stop=calls[0] - 3)[0], (16, 2), **given)
    draft = next((tmp_path / "teacher").glob("draft-*.json"))
    draft.write_text(draft.read_text()[:100])
    refused(dpm.PlanError, r"draft-.*\.json holds no draft of a fit .*: delete it, and the fit begins again", **given)
    draft.unlink()
    path = next((tmp_path / "teacher").glob("trajectories-*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    refused(dpm.PlanError, r"trajectories-.*\.npz holds no trajectories", **given)


def test_another_network_or_guidance_is_told_in_one_sentence(tuned: Tuned) -> None:
    """With both names, once for each plan and denoiser, before the network is asked; the fitted one is not told."""
    other = dpm.models.Mixture(means=1.01 * PEAKS.means, variances=PEAKS.variances).denoiser(SCHEDULE)
    x_T = dpm.initial_noise(SCHEDULE, (4, 2), seed=0)
    name = tuned.plan.options["network"]
    with pytest.warns(
        dpm.ConventionWarning, match=f"fitted to the network {name} with guidance none, and runs with"
    ) as told:
        dpm.sample(other, x_T, plan=tuned.plan)
    assert len(told) == 1
    guided = peaks().replace(guidance=ClassifierFree(2.0, {"class_labels": labels(4)}, {"class_labels": np.full(4, 3)}))
    with pytest.warns(dpm.ConventionWarning, match=f"and runs with the network {name} with guidance ClassifierFree 2"):
        dpm.sample(guided, x_T, plan=tuned.plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dpm.sample(peaks(), x_T, plan=tuned.plan)
