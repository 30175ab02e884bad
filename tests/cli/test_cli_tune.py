"""`dpmsolver tune`: what it writes and says, how it is stopped, and what takes its plans."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("jinja2")
import dpmsolver as dpm
from dpmsolver import cli
from dpmsolver.cli.tables import digits_schedule
from dpmsolver.tuning import selecting

SMALL = ["--nfe", "3,4", "--effort", "4200", "--num", "32"]


@pytest.fixture(autouse=True, scope="module")
def few_presets() -> Iterator[None]:
    """Two presets instead of 144, which would take most of a small fit's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "CANDIDATE_SOLVERS", ("dpm++2m",))
        patch.setattr(selecting, "CANDIDATE_GRIDS", ("logsnr", "quadratic"))
        yield


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tune") / "plans"
    assert cli.main(["tune", "mixture-2", *SMALL, "--out", str(out)]) == 0
    return out


def test_a_fit_is_a_plan_a_report_and_a_page(plans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again evaluates nothing and says the same."""
    assert dpm.Plan.from_json((plans / "plan-4.json").read_text()).nfe == 4
    assert json.loads((plans / "report-3.json").read_text())["nfe"] == 3
    assert (plans / "tune.html").read_text().count("data:image/png") == 8  # four plans for each of two budgets
    before = (plans / "plan-4.json").stat().st_mtime_ns
    assert cli.main(["tune", "mixture-2", *SMALL, "--out", str(plans)]) == 0
    said = capsys.readouterr().out
    assert "mixture-2: error of a sample, on 12 noises that only judge" in said
    assert all(word in said for word in ("auto", "best preset", "fitted", "kept", "MiB of trajectories"))
    assert (plans / "plan-4.json").stat().st_mtime_ns == before


def test_compare_takes_plans_as_samplers(plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder at its budgets, a file at its own; the network is known for the one that was fitted to, through the counter around it."""
    solvers = f"auto,{plans}/,{plans / 'plan-3.json'}"
    assert (
        cli.main(
            ["compare", "mixture-2", "--solvers", solvers, "--nfe", "3,4,5", "--num", "20", "--out", str(tmp_path)]
        )
        == 0
    )
    said = capsys.readouterr()
    assert "has plans of 3, 4 evaluations alone" in said.out
    assert "fitted to the network" not in said.err
    points = {
        c["name"]: [p["nfe"] for p in c["points"]]
        for c in json.loads((tmp_path / "results.json").read_text())["curves"]
    }
    assert points == {"auto": [3, 4, 5], f"{plans}/": [3, 4], str(plans / "plan-3.json"): [3]}


def test_sample_takes_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same pictures as by name."""
    file = tmp_path / "plan.json"
    file.write_text(dpm.make_plan("dpm++2m@quadratic", digits_schedule(), 3, predicts="noise").to_json())
    given = ["sample", "digits", "--num", "2", "--out"]
    assert cli.main([*given, str(tmp_path / "a.png"), "--plan", str(file)]) == 0
    assert f"2 samples of digits, 3 network evaluations each: the plan in {file}" in capsys.readouterr().out
    assert cli.main([*given, str(tmp_path / "b.png"), "--solver", "dpm++2m@quadratic", "--nfe", "3"]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_sample_tells_of_another_network(plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and the pictures are drawn."""
    out = tmp_path / "a.png"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert (
            cli.main(["sample", "digits", "--num", "1", "--plan", str(plans / "plan-4.json"), "--out", str(out)]) == 0
        )
    told = capsys.readouterr().err.splitlines()
    assert dpm.Plan.from_json((plans / "plan-4.json").read_text()).solver == "tuned"
    assert sum(line.startswith("dpmsolver: warning: this plan was fitted to the network ") for line in told) == 1
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "mixture-2", "--nfe", "2"], "tune needs nfe >= 3"),
        (["tune", "mixture-2", "--nfe", "five"], "--nfe takes numbers with commas between"),
        (["tune", "mixture-2", "--effort", "days"], "--effort: unknown effort 'days'"),
        (["tune", "mixture-2", "--num", "8"], "tune needs at least 16 noises"),
        (["tune", "mixture-2", "--guidance", "2"], "mixture-2 cannot be guided"),
        (["tune", "mixture-9"], "unknown testbed 'mixture-9'"),
        (["tune", "mixture-2", "--end", "-1"], "end"),
        (["sample", "--plan", "nowhere.json"], "nowhere.json"),
        (["sample", "--plan", "plan.json", "--solver", "ddim"], "says its solver and its grid by itself"),
        (["sample", "--plan", "plan.json", "--nfe", "7"], "spends 3 evaluations, and --nfe says 7"),
        (["sample", "--plan", "cut.json"], "--plan cut.json: not a plan in JSON, or one that was cut short"),
        (["compare", "--solvers", "cut.json"], "cut.json: not a plan in JSON, or one that was cut short"),
        (["compare", "--solvers", "empty/"], "empty holds no plan-*.json"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    text = dpm.make_plan("ddim", digits_schedule(), 3).to_json()
    Path("plan.json").write_text(text)
    Path("cut.json").write_text(text[:100])
    Path("empty").mkdir()
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_fit_that_is_stopped_says_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 130; what was made stays."""

    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dpm, "tune", stopped)
    assert cli.main(["tune", "mixture-2", "--out", str(tmp_path)]) == 130
    assert f"stopped: the same command resumes from what is in {tmp_path}" in capsys.readouterr().err
