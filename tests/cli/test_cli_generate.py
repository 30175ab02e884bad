"""`dpmsolver generate` and `dpmsolver evaluate`: what they say, and that wrong input is one line, exit code 2 and no folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm

pytest.importorskip("typer")
from dpmsolver import cli

SMALL = ["--num", "200", "--nfe", "4", "--shard", "50"]
MODELS = Path(__file__).parent.parent / "generation" / "generation_models.py"


def test_a_run_is_drawn_told_resumed_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again draws nothing; `--status` and `evaluate` read the folder."""
    out = str(tmp_path / "run")
    assert cli.main(["generate", "mixture-2", *SMALL, "--out", out]) == 0
    assert "200 samples of mixture-2 in 4 shards" in capsys.readouterr().out
    assert cli.main(["generate", "mixture-2", *SMALL, "--out", out]) == 0
    assert "0 drawn now" in capsys.readouterr().out
    assert cli.main(["generate", "--status", out]) == 0
    assert capsys.readouterr().out.startswith("done: 200 of 200 samples (100 %), 4 of 4 shards")
    np.save(tmp_path / "data.npy", dpm.models.testbeds.load_testbed("mixture-2").data(300, 1))  # type: ignore[misc]
    assert cli.main(["evaluate", out, "--data", str(tmp_path / "data.npy")]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("200 samples, features samples", "Frechet distance", "precision", "recall"))
    assert cli.main(["evaluate", out, "--data", str(tmp_path / "data.npy"), "--json", "--ranges", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["per_range"] == 100
    assert found["lowest"] == min(found["ranges"])


def test_a_plan_from_a_file_and_the_seeds_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a plan no --nfe is needed, and another one is refused."""
    schedule = dpm.models.testbeds.load_testbed("mixture-2").schedule
    (tmp_path / "plan.json").write_text(dpm.make_plan("ddim", schedule, 3, predicts="noise").to_json())
    given = ["generate", "mixture-2", "--plan", str(tmp_path / "plan.json"), "--seeds", "40-59,100-109"]
    assert cli.main([*given, "--out", str(tmp_path / "run"), "--classes", "none"]) == 0
    run = json.loads((tmp_path / "run" / "manifest.json").read_text())["run"]
    assert (run["seeds"], run["nfe"], run["solver"]) == ("40-59,100-109", 3, "ddim")
    assert cli.main([*given, "--out", str(tmp_path / "other"), "--nfe", "7"]) == 2
    assert "leave --nfe out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["mixture-2", "--num", "10"], "--out is needed"),
        (["mixture-2", "--out", "{out}"], "give one of num"),
        (["mixture-2", "--num", "10", "--out", "{out}", "--batch", "many"], "--batch is a number of samples, or auto"),
        (["mixture-2", "--seeds=-5-9", "--out", "{out}"], "seeds must be >= 0"),
        (["mixture-2", "--seeds", "0-9,5-12", "--out", "{out}"], "seeds overlap"),
        (["mixture-2", "--num", "10", "--out", "{out}", "--solver", "dimm"], "did you mean 'ddim'"),
        (["mixture-2", "--num", "10", "--out", "{out}", "--classes", "one"], "--classes takes numbers"),
        (
            ["mixture-2", "--num", "10", "--out", "{out}", "--prompts", "nowhere.txt"],
            "--prompts nowhere.txt cannot be read",
        ),
        (["mixture-2", "--num", "10", "--out", "{out}", "--engine", "slurm"], "unknown engine"),
        (["nobody", "--num", "10", "--out", "{out}"], "unknown testbed"),
        (["mixture-2", "--num", "10", "--out", "gs0://bucket/x"], "out gs0://bucket/x"),
        (["--status", "{out}"], "holds no run"),
    ],
)
def test_wrong_input_is_one_line_and_changes_nothing(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything is drawn."""
    out = tmp_path / "out"
    assert cli.main(["generate", *(option.format(out=out) for option in options)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("dpmsolver: error: ")
    assert "\n" not in error
    assert not out.exists()


def test_memory_too_short_for_one_sample_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and no folder."""
    from dpmsolver.generation import preparing

    def short(*given: Any, **more: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(preparing, "sample", short)
    assert cli.main(["generate", "mixture-2", *SMALL, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(
        "dpmsolver: error: memory is too short for a single sample (a batch of 1)"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("broken", ["--num", "100", "--shard", "50", "--batch", "25"], "the network returned NaN or infinity at"),
        (
            "deadly",
            ["--num", "20", "--shard", "10", "--batch", "7", "--engine", "processes", "--workers", "1"],
            "shard 0 ended 2 workers (exit code 3)",
        ),
        (
            "deadly_to_load",
            ["--num", "20", "--engine", "processes", "--workers", "1"],
            "a worker died while it loaded the model (exit code 3)",
        ),
    ],
)
def test_a_run_that_fails_is_one_line_and_exit_code_1(
    model: str,
    options: list[str],
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network that returns NaN, workers that die over a shard, here twice instead of five times, and one that dies before."""
    from dpmsolver.generation.engines import processes

    monkeypatch.setattr(processes, "MOST_DEATHS", 2)
    out = tmp_path / "out"
    assert cli.main(["generate", f"{MODELS}:{model}", "--nfe", "4", "--out", str(out), *options]) == 1
    error = capfd.readouterr().err.strip()
    assert error.startswith(f"dpmsolver: error: {said}")
    assert "\n" not in error
    if model != "deadly_to_load":
        assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    else:
        assert not out.exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_with_a_line_and_the_same_command_resumes(tmp_path: Path) -> None:
    """Exit code 130; the status says that it was stopped."""
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "dpmsolver",
        "generate",
        f"{MODELS}:slow",
        "--num",
        "4000",
        "--nfe",
        "4",
        "--shard",
        "50",
    ]
    process = subprocess.Popen(
        [*command, "--batch", "25", "--out", str(out)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    limit = time.monotonic() + 60
    while not (out / "records").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said.decode()
    assert b"the same command resumes from what is in" in said
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
