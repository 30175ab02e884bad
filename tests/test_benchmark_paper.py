"""The commands that measure the DPM-Solver paper again, at a tiny size; and the pages that are made from what they measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks import render
from benchmarks.paper import cifar10, common, fid, orders, speedup, table1, text

import dpmsolver as dpm
from dpmsolver.evaluation import convergence, thresholds
from dpmsolver.models import cifar10_laws, feature_networks
from dpmsolver.solvers.statistics import ModelStatistics
from tiny import saved, tiny_unet

TINY = ["--num", "8", "--batch", "4"]
FIGURES: dict[str, Any] = json.loads((Path(__file__).parent.parent / orders.RESULTS).read_text())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration on 8 samples at 8 levels."""
    monkeypatch.setattr(common, "LEVELS", 8)
    monkeypatch.setattr(common, "PICTURES", 8)


def names(results: dict[str, Any]) -> list[str]:
    return [curve["name"] for curve in results["curves"]]


def curve(results: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (c for c in results["curves"] if c["name"] == name)
    return found


# Orders ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dpm-2", "rk1-t", "rk1-lambda", "rk3-lambda"])
def test_the_figure_of_orders_is_what_the_measurement_gives(name: str) -> None:
    """Measured again for a few: slopes and errors, among them Euler's, which is not in the registry."""
    measured = orders.curve(orders.methods()[name])
    assert measured["slopes"] == pytest.approx(FIGURES["curves"][name]["slopes"], abs=2e-3)
    for problem, errors in measured["errors"].items():
        assert errors == pytest.approx(FIGURES["curves"][name]["errors"][problem], rel=1e-3)


def test_every_method_of_the_figure_has_its_order() -> None:
    """DPM-Solver-1, 2, 3 and Runge-Kutta 1 to 4, in time and in lambda: within 0.15 of the claim on both problems."""
    assert {*FIGURES["curves"]} == {*orders.methods()}
    for name, found in FIGURES["curves"].items():
        assert found["order"] == int(name.split("-")[1 if name.startswith("dpm") else 0].removeprefix("rk"))
        for slope in found["slopes"].values():
            assert slope == pytest.approx(found["order"], abs=0.15), name


@pytest.mark.parametrize("where", ["inside", "whole"])
def test_runge_kutta_trails_on_narrow_data_and_leads_on_broad(where: str) -> None:
    """What docs/paper.md says: they change places at a variance between 0.03 and 0.5."""
    for name, rows in FIGURES["by_variance"][where].items():
        column = FIGURES["variance_budgets"].index(24)
        for variance, row in zip(FIGURES["variances"], rows, strict=True):
            if variance <= 0.03:
                assert row[column] > 1.0, (name, variance)
            if variance >= 0.5:
                assert row[column] < 1.0, (name, variance)


def test_at_one_point_dpm_solver_is_exact_and_euler_is_not() -> None:
    """The reason that the page gives: for data at one point the noise is constant along a trajectory."""
    data = dpm.models.Gaussian(mean=[0.5], variance=[1e-12])
    x = np.array([[1.3], [-0.2]])
    exact = np.asarray(data.trajectory(convergence.SCHEDULE, x, 0.7, 0.05))
    own, euler = (
        orders.errors(orders.methods()[name], data, x, exact, [6], convergence.RUN)[0]
        for name in ("dpm-1", "rk1-lambda")
    )
    assert own < 1e-9
    assert euler > 1e-3


def test_the_command_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "measure", lambda progress: {"curves": {}})
    assert orders.main(["--json", str(tmp_path / "orders.json")]) == 0
    written = json.loads((tmp_path / "orders.json").read_text())
    assert written["command"].startswith("python -m benchmarks.paper.orders --json")
    assert {"dpmsolver", "numpy", "scipy"} <= {*written["versions"]}


# Comparisons ----------------------------------------------------------------------------------------------------------------------


def test_table_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The six rows; Runge-Kutta takes equal steps in its own variable; every budget is spent exactly; it resumes; a copy is written."""
    given = [
        "--model",
        "gaussian",
        *TINY,
        "--nfe",
        "12,18",
        "--out",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "t.json"),
    ]
    assert table1.main(given) == 0
    assert "| `rk3-lambda` |" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "table1" / "results.json").read_text())
    assert names(results) == ["rk2-t", "rk2-lambda", "dpm-2", "rk3-t", "rk3-lambda", "dpm-3"]
    for found in results["curves"]:
        assert [(p["nfe"], p["evaluations"], p["num"]) for p in found["points"]] == [(12, 12, 8), (18, 18, 8)]
        times = np.array(found["grids"]["12"]["time"])
        levels = np.array(found["grids"]["12"]["half_log_snr"])
        assert np.ptp(np.diff(times if found["name"].endswith("-t") else levels)) < 1e-6
    copy = json.loads((tmp_path / "t.json").read_text())
    assert "grids" not in copy["curves"][0]
    assert copy["command"].startswith("python -m benchmarks.paper.table1 --model gaussian")
    assert table1.main(given) == 0
    assert " 0 of them still to do" in capsys.readouterr().err


def test_quality_against_evaluations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every sampler of the paper and its successors; budgets of their own; what adds noise has no error; what cannot be spent is told."""
    out = tmp_path / "out"
    given = [
        "--model",
        "gaussian",
        *TINY,
        "--nfe",
        "10,15",
        "--long",
        "20",
        "--out",
        str(out),
        "--json",
        str(tmp_path / "f.json"),
    ]
    assert fid.main(given) == 0
    results = json.loads((tmp_path / "f.json").read_text())
    first = ["ddpm @ time", "analytic-ddpm @ time", "ddim @ time", "analytic-ddim @ time"]
    others = ["pndm", "dpm-2", "dpm-3", "dpm-fast", "rk45", "dpm-12 adaptive", "dpm-23 adaptive"]
    assert names(results) == [*first, *others, "dpm++2m", "unipc-2", "unipc-3", "deis-tab3", "ipndm-3", "auto"]
    assert [p["nfe"] for p in curve(results, "ddim @ time")["points"]] == [10, 15, 20]
    assert [p["nfe"] for p in curve(results, "dpm-3")["points"]] == [15]
    assert [s["nfe"] for s in curve(results, "pndm")["skipped"]] == [10]
    for name in ("ddpm @ time", "analytic-ddpm @ time", "analytic-ddim @ time"):
        assert all(
            "error" not in p["measures"] and "wasserstein" in p["measures"] for p in curve(results, name)["points"]
        )
    w2 = {
        name: curve(results, f"{name} @ time")["points"][0]["measures"]["wasserstein"]["value"]
        for name in fid.FIRST_ORDER
    }
    assert w2["analytic-ddim"] < w2["ddim"]  # its reason to be
    assert w2["analytic-ddpm"] < w2["ddpm"]
    said = capsys.readouterr()
    assert "left out: pndm at 10" in said.err
    assert "| `dpm-23 adaptive` | 0.05 |" in said.out
    kept = (out / "statistics.safetensors").read_bytes()
    assert fid.main(given) == 0
    assert (out / "statistics.safetensors").read_bytes() == kept
    assert "calibrating" not in capsys.readouterr().err


def test_other_statistics_need_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Batches of calibrated samplers depend on them; the same ones, given as a file, are welcome."""
    given = ["--model", "gaussian", *TINY, "--nfe", "10", "--solvers", "analytic-ddim", "--out", str(tmp_path / "out")]
    assert fid.main(given) == 0
    kept = tmp_path / "out" / "statistics.safetensors"
    assert fid.main([*given, "--statistics", str(kept)]) == 0
    schedule = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
    lams = schedule.half_log_snr(np.linspace(1.0, 0.001, 8))
    other = ModelStatistics.measured(
        schedule,
        lams,
        noise_power=np.ones(8),
        linear=np.zeros((8, 64)),
        scale=np.zeros((8, 64)),
        bias=np.zeros((8, 64)),
    )
    other.save(tmp_path / "other.safetensors")
    capsys.readouterr()
    assert fid.main([*given, "--statistics", str(tmp_path / "other.safetensors")]) == 2
    assert "name another --out" in capsys.readouterr().err


def test_a_dry_run_counts_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """8 samples with 10 and 20 evaluations; the exact trajectory of Gaussian data costs nothing. What is drawn is no longer to do."""
    given = [
        "--model",
        "gaussian",
        *TINY,
        "--nfe",
        "10,20",
        "--out",
        str(tmp_path / "out"),
        "--solvers",
        "analytic-ddpm,dpm-2",
    ]
    assert fid.main([*given, "--dry-run"]) == 0
    assert "480 network evaluations of one sample in all, 480 of them still to do" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert fid.main([*given[:-1], "dpm-2"]) == 0
    capsys.readouterr()
    assert fid.main([*given, "--dry-run"]) == 0
    assert "480 network evaluations of one sample in all, 240 of them still to do" in capsys.readouterr().err


def test_the_cost_told_is_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a model without a closed form the converged runs cost as well: one per sample and end, and the halved one of up to 50 samples."""
    given = ["--model", "mixture-2", *TINY, "--nfe", "6", "--solvers", "dpm-2", "--out", str(tmp_path)]
    assert table1.main([*given, "--dry-run"]) == 0
    assert f"{8 * 6 + 8 * 100 + 8 * 50:,} network evaluations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        (table1, ["--model", "mixture-3"], "mixture-2"),
        (table1, ["--model", "gaussian", "--num", "0"], "num must be"),
        (table1, ["--model", "gaussian", "--bfloat16"], "bfloat16"),
        (table1, ["--model", "gaussian", "--solvers", "dpm-4"], "accepted are rk2-t"),
        (table1, ["--model", "gaussian", "--nfe", "13", "--solvers", "dpm-2"], "cannot spend nfe=13"),
        (table1, ["--model", "gaussian", "--json", "nowhere/x.json"], "no folder nowhere"),
        (fid, ["--model", "gaussian", "--first-grid", "tim"], "accepted are logsnr"),
        (fid, ["--model", "gaussian", "--statistics", "none.safetensors"], "none.safetensors"),
        (speedup, ["--model", "gaussian", "--baseline-grids", "tim"], "accepted are logsnr"),
    ],
)
def test_wrong_input_is_one_line(
    command: Any, given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error


@pytest.mark.parametrize("text", ["10,x", "0,5", "1.5"])
def test_wrong_budgets(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        table1.main(["--model", "gaussian", "--nfe", text])
    assert "--nfe" in capsys.readouterr().err


# The claim ------------------------------------------------------------------------------------------------------------------------


def test_the_budget_from_which_on() -> None:
    """Not the first that is inside by chance: all larger ones are inside as well. The largest outside: not reached."""
    missed = np.array([[0.01, 0.3, 0.3], [0.2, 0.04, 0.2], [0.03, 0.01, 0.2]])
    assert speedup.from_which_on([10, 20, 40], missed, 0.05).tolist() == [40.0, 20.0, np.inf]


def test_the_ratio_and_its_interval() -> None:
    base = np.array([100.0, *[100.0] * 90, *[200.0] * 10])
    own = np.array([10.0, *[10.0] * 50, *[20.0] * 50])
    found = speedup.ratio(base, own, 200.0)
    assert found == {"value": 10.0, "low": 5.0, "high": 10.0, "at_least": False, "high_at_least": False}
    never = speedup.ratio(np.full(101, np.inf), own, 200.0)
    assert never is not None
    assert (never["value"], never["at_least"], never["high_at_least"]) == (20.0, True, True)
    assert speedup.ratio(base, np.full(101, np.inf), 200.0) is None


def test_the_limit_s_own_bias_does_not_widen_what_is_within() -> None:
    """A limit of 1.0, of which 0.6 are the number of samples, is missed by a quarter at 1.1, not by a tenth."""
    figure, limit = thresholds.Figure(1.1, np.array([1.1, 1.2])), thresholds.Figure(1.0, np.array([1.0, 1.1]))
    np.testing.assert_allclose(speedup.excess(figure, limit, 0.6), [0.25, 0.25, 0.2])
    assert np.isinf(speedup.excess(figure, limit, 1.2)).all()  # all of it bias: nothing is known
    np.testing.assert_allclose(speedup.excess(figure, None, 0.0), [1.1, 1.1, 1.2])


def test_a_run_better_than_the_limit_is_there_by_one_reading_and_not_by_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DDIM at 0.8, 0.98 and 1.0 of the limit: no worse than it from 5 evaluations on, as near to it from 10 on."""
    values = {("ddim", 5.0): 0.8, ("ddim", 10.0): 0.98, ("ddim", 20.0): 1.0, ("dpm-2", 5.0): 1.2, ("dpm-2", 10.0): 1.01}
    samplers = [SimpleNamespace(name=name, solver=name) for name in ("ddim", "dpm-2")]
    runs = [SimpleNamespace(sampler=s, setting=nfe) for s in samplers for name, nfe in values if name == s.name]
    comparison: Any = SimpleNamespace(samplers=samplers, runs=runs, ends=[0.0])
    monkeypatch.setattr(speedup, "stored", lambda comparison, name, setting: values.get((name, setting), 1.0))
    monkeypatch.setattr(
        speedup, "figures", lambda comparison, value: {"frechet": thresholds.Figure(value, np.array([value, value]))}
    )
    monkeypatch.setattr(speedup, "limit_bias", lambda comparison: 0.0)
    above, either = speedup.claims(comparison)
    for claim, base, ratio in ((above, 5.0, 0.5), (either, 10.0, 1.0)):
        assert claim["rows"][0]["needed"][0]["value"] == base
        assert claim["rows"][1]["needed"][0]["value"] == 10.0
        assert claim["rows"][1]["speedup"][0]["value"] == ratio
    assert "at most so much above" in speedup.text([above])
    said = speedup.short([above, either], {"above": 0.05, "either": 0.05})
    assert "| Frechet distance at most 5 % above the limit's | 5 | 10, 0.5x [0.5, 0.5] |" in said
    assert "| Frechet distance within 5 % of the limit's, above or below | 10 | 10, 1.0x [1.0, 1.0] |" in said


def test_speedup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On Gaussian data DPM-Solver is within an RMS error of 0.1 with fewer evaluations than DDIM on the better of two grids."""
    given = ["--model", "gaussian", *TINY, "--nfe", "6,9,12", "--baseline", "10,20,50", "--out", str(tmp_path)]
    given += ["--solvers", "ddim,dpm-2,dpm-3,dpm++2m"]
    assert speedup.main([*given, "--json", str(tmp_path / "s.json")]) == 0
    (found,) = json.loads((tmp_path / "s.json").read_text())["claims"]
    assert found["baseline"] == ["ddim @ time", "ddim"]
    assert (found["reading"], found["measure"]) == ("error", "error")
    base, own, later = found["rows"]
    assert (base["family"], own["family"]) == ("DDIM", "DPM-Solver")
    k = found["within"].index(0.1)
    assert own["best"][k] in speedup.FAMILIES["DPM-Solver"]
    ratio = base["needed"][k]["value"] / own["needed"][k]["value"]
    assert own["speedup"][k]["value"] == pytest.approx(ratio, rel=1e-3)
    assert ratio > 1.0
    assert own["speedup"][k]["low"] <= own["speedup"][k]["value"] <= own["speedup"][k]["high"]
    assert later["speedup"][k]["value"] > 1.0
    assert "| DPM-Solver |" in capsys.readouterr().out


# CIFAR-10 without a network -------------------------------------------------------------------------------------------------------

CIFAR10: dict[str, Any] = json.loads((Path(__file__).parent.parent / cifar10.RESULTS).read_text())


@pytest.mark.parametrize("name", ["continuous", "discrete"])
def test_ten_evaluations_where_ddim_needs_four_times_as_many(name: str) -> None:
    """The headline, measured again: DPM-Solver's distances, and DDIM just before and at the budget that matches 10 of them."""
    law, found = cifar10_laws.gaussian(), CIFAR10["gaussian"][name]
    mean, variance, schedule = law.means[0], law.variances[0], cifar10.SCHEDULES[name]
    plans = [dpm.make_plan("dpm-fast", schedule, nfe, "logsnr", end=cifar10.END) for nfe in cifar10.BUDGETS]
    own = [plan.wasserstein(mean, variance) for plan in plans]
    assert own == pytest.approx(found["dpm-fast"], rel=1e-3)
    needed = found["needed"][0]
    before, at = (cifar10.nearest(schedule, nfe, mean, variance)[0] for nfe in (needed - 1, needed))
    assert at <= own[0] < before
    ratios = {nfe: ddim / nfe for nfe, ddim in zip(CIFAR10["budgets"], found["needed"], strict=True)}
    assert all(4.0 <= ratios[nfe] <= 16.0 for nfe in (10, 15, 20))


def test_the_table_of_pierret_and_galerne_is_as_printed() -> None:
    """Every cell on their eigenvalues, to the printed digits; a part on the law that ships, measured again."""
    found = CIFAR10["pierret_galerne"]
    for scheme in cifar10.SCHEMES:
        printed = np.array(cifar10.PRINTED[scheme])[:, 2:]
        np.testing.assert_allclose(found["theirs"][scheme], printed, atol=0.0055)
    again = cifar10.pierret_galerne(cifar10_laws.gaussian().variances[0], points=(50,))
    for scheme in cifar10.SCHEMES:
        np.testing.assert_allclose(again[scheme], np.array(found["ours"][scheme])[:, :2], rtol=1e-3)


@pytest.mark.parametrize("name", ["VP", "EDM"])
def test_rank_correlations_follow_from_the_rows(name: str) -> None:
    """What the page shows under the tables is computed from them."""
    found = CIFAR10["rank"][name]
    assert found["spearman"] == pytest.approx(cifar10.correlations(name, found["rows"]), abs=1e-3)


def test_a_wrong_spectrum_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    assert cifar10.main(["--spectrum", str(tmp_path / "x.npy"), "--json", str(tmp_path / "x.json")]) == 2
    assert "must hold 3072 positive eigenvalues, it has 3" in capsys.readouterr().err


# The online path ------------------------------------------------------------------------------------------------------------------


def test_a_network_in_diffusers_format_with_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model FOLDER --features inception --statistics-data FILE`: all but the downloads of the network and of Inception's weights."""
    pytest.importorskip("diffusers")
    saved(tmp_path / "net", tiny_unet())
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.cov(rng.standard_normal((3, 50))))
    asked: list[tuple[str, tuple[int, ...]]] = []

    def stand_in(name: str, shape: Any, device: Any = "cpu") -> feature_networks.FeatureNetwork:
        asked.append((name, tuple(shape)))
        return feature_networks.FeatureNetwork(3, lambda samples: samples.double().mean(dim=(2, 3)).numpy())

    monkeypatch.setattr(feature_networks, "load", stand_in)
    model = [
        "--model",
        str(tmp_path / "net"),
        "--features",
        "inception",
        "--statistics-data",
        str(tmp_path / "stats.npz"),
    ]
    given = [*model, *TINY, "--out", str(tmp_path / "out")]
    assert table1.main([*given, "--nfe", "6"]) == 0
    assert asked == [("inception", (3, 8, 8))]
    results = json.loads((tmp_path / "out" / "table1" / "results.json").read_text())
    assert (results["testbed"], results["shape"]) == ("net", [3, 8, 8])
    assert text.main_measures(results) == ["frechet"]
    for found in results["curves"]:
        (point,) = found["points"]
        assert point["evaluations"] == 6
        assert point["measures"]["frechet"]["value"] > 0.0
    assert fid.main([*given, "--nfe", "6", "--solvers", "analytic-ddim,ddim,dpm-fast,unipc-2"]) == 0
    assert speedup.main([*given, "--nfe", "6", "--baseline", "10", "--solvers", "ddim,dpm-2"]) == 0
    claims = json.loads((tmp_path / "out" / "speedup" / "results.json").read_text())["claims"]
    assert [claim["reading"] for claim in claims] == ["above", "either", "error"]
    for claim in claims:
        assert [row["family"] for row in claim["rows"]] == ["DDIM", "DPM-Solver"]


# The pages ------------------------------------------------------------------------------------------------------------------------


def test_readme_and_documentation_show_what_was_measured() -> None:
    """Every table between markers, docs/solvers.md and every picture: as benchmarks/results/ has it."""
    assert render.problems() == []


def test_an_edited_table_is_found_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the pages, with one figure edited: found, and put right; a picture of other data too."""
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for name in render.PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((render.ROOT / name).read_text())
    monkeypatch.setattr(render, "ROOT", tmp_path)
    monkeypatch.setattr(render, "IMAGES", tmp_path / "docs" / "images")
    page = tmp_path / "docs" / "measurements.md"
    right = page.read_text()
    page.write_text(right.replace(" µs |", "0 µs |", 1))
    drawn = tmp_path / "docs" / "images" / "paper-orders.svg"
    drawn.write_text("<svg>data 0123</svg>")
    found = render.problems()
    assert any(line.startswith("docs/measurements.md is not") for line in found)
    assert any(line.startswith("docs/images/paper-orders.svg") for line in found)
    assert {"docs/measurements.md", "docs/images/paper-orders.svg"} <= {*render.write()}
    assert page.read_text() == right
    assert render.problems() == []


def test_markers() -> None:
    """Inside a line the text alone changes; over several lines it stands by itself; what has no end or no name is refused."""
    made = {"a": "1", "b": "| x |"}.__getitem__
    assert render.rendered("so <!-- generated: a -->0<!-- end -->.", made) == "so <!-- generated: a -->1<!-- end -->."
    block = render.rendered("<!-- generated: b -->\nold\n<!-- end -->\n", made)
    assert block == "<!-- generated: b -->\n\n| x |\n\n<!-- end -->\n"
    assert render.rendered(block, made) == block
    for wrong in ("<!-- generated: a -->", "<!-- end -->", "<!-- generated: a --><!-- generated: b --><!-- end -->"):
        with pytest.raises(ValueError, match="end"):
            render.rendered(wrong, made)
    with pytest.raises(ValueError, match="orders"):
        render.rendered("<!-- generated: order -->x<!-- end -->")


def test_results_become_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command wrote is what the page shows, and its picture; before that, the command that would measure it."""
    monkeypatch.setattr(render, "RESULTS", tmp_path)
    assert "python -m benchmarks.paper.fid --model gaussian --json" in render.block("paper fid gaussian")
    given = [
        "--model",
        "gaussian",
        *TINY,
        "--nfe",
        "10,20",
        "--solvers",
        "ddim,dpm-2,rk45",
        "--out",
        str(tmp_path / "out"),
    ]
    assert fid.main([*given, "--json", str(tmp_path / "paper-fid-gaussian.json")]) == 0
    shown = render.block("paper fid gaussian")
    results = json.loads((tmp_path / "paper-fid-gaussian.json").read_text())
    for point in curve(results, "dpm-2")["points"]:
        assert text.number(point["measures"]["error"]) in shown
    assert "| `rk45` | 0.1 |" in shown
    drawn = render.quality(results)
    assert drawn == render.quality(results)  # the same data, the same file
    assert render.digest(results) in drawn


@pytest.mark.parametrize(
    ("value", "half", "said"),
    [
        (0.2561, 0.015, "0.256 ± 0.015"),
        (31.23, 1.5, "31.2 ± 1.5"),
        (412.4, 20.0, "412 ± 20"),
        (0.5, 0.0, "0.500"),
        (2e-7, 0.0, "2.00e-07"),
    ],
)
def test_numbers(value: float, half: float, said: str) -> None:
    assert text.number({"value": value, "low": value - half, "high": value + half}) == said
