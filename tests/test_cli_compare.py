"""`dpmsolver compare`: what it writes, and that a run which was killed goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("jinja2")
from dpmsolver import cli


def figures(folder: Path) -> dict[tuple[str, int], Any]:
    results = json.loads((folder / "results.json").read_text())
    return {(c["name"], p["nfe"]): (p["num"], p["measures"]) for c in results["curves"] for p in c["points"]}


def test_a_comparison_is_a_page_and_two_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """index.html, results.json and results.csv; the table on stdout has a line for each curve and a column for each budget."""
    out = tmp_path / "reports" / "first"
    arguments = [
        "--solvers",
        "ddim,dpm++2m@karras,sa-solver:tau=0.5",
        "--nfe",
        "5,10",
        "--num",
        "40",
        "--out",
        str(out),
    ]
    assert cli.main(["compare", "mixture-2", *arguments]) == 0
    table = capsys.readouterr().out
    assert "sa-solver, tau=0.5" in table
    page = (out / "index.html").read_text()
    assert "dpm++2m @ karras" in page
    assert "data:image/png" in page
    assert len(figures(out)) == 6
    assert (out / "results.csv").read_text().count("\n") > 6


def test_the_exact_law_of_gaussian_data_is_on_the_page(tmp_path: Path) -> None:
    """The 2-Wasserstein distance, which plans have and other samplers have not, is a measure like the others."""
    arguments = ["--solvers", "ddim,rk45", "--nfe", "5", "--num", "4", "--out", str(tmp_path)]
    assert cli.main(["compare", "gaussian", *arguments]) == 0
    assert "2-Wasserstein distance of the result" in (tmp_path / "index.html").read_text()


def test_a_comparison_that_was_killed_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the middle, then the same command: the same figures as of a run that was left alone."""
    arguments = ["mixture-16", "--solvers", "ddim,dpm++2m", "--nfe", "5,10", "--num", "60", "--batch", "4"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "dpmsolver.cli", "compare", *arguments, "--out", str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(killed.rglob("*.npz"))) < 10 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(killed.rglob("*.npz")))
    assert 10 <= there < 100
    assert not (killed / "results.json").exists()
    assert cli.main(["compare", *arguments, "--out", str(killed)]) == 0
    assert cli.main(["compare", *arguments, "--out", str(whole)]) == 0
    assert figures(killed) == figures(whole)


def test_a_folder_of_another_comparison_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "mixture-2", "--solvers", "ddim", "--nfe", "5", "--num", "4", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    assert cli.main([*arguments, "--seed", "1"]) == 2
    assert "seed was 0 and is 1" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert cli.main([*arguments[:-1], str(tmp_path / "file")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err
