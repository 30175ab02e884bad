"""`dpmsolver compare`: what it writes, what it says, and that a run which was stopped resumes."""

from __future__ import annotations

import contextlib
import json
import os
import re
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
from dpmsolver.cli import comparing, long_runs
from dpmsolver.models import pretrained


def figures(folder: Path) -> dict[tuple[str, int], Any]:
    results = json.loads((folder / "results.json").read_text())
    return {(c["name"], p["nfe"]): (p["num"], p["measures"]) for c in results["curves"] for p in c["points"]}


def test_a_comparison_is_a_page_and_two_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """index.html, results.json and results.csv; the table on stdout has a line for each curve and a column for each budget."""
    out = tmp_path / "reports" / "first"
    arguments = [
        "--solvers",
        "ddim,dpm++2m@karras,sa-solver:eta=0.5",
        "--nfe",
        "5,10",
        "--num",
        "40",
        "--out",
        str(out),
    ]
    assert cli.main(["compare", "mixture-2", *arguments]) == 0
    table = capsys.readouterr().out
    assert "sa-solver, eta=0.5" in table
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


SLOW = """
import time
from dataclasses import replace
from dpmsolver.evaluation import tape
from dpmsolver.models.testbeds import load_testbed

tape.EVERY = 0.1

def testbed():
    plain = load_testbed("mixture-2")
    def denoiser(labels):
        known = plain.denoiser(labels)
        return known.replace(network=lambda x, t: (time.sleep({seconds}), known.network(x, t))[1])
    return replace(plain, name="slow", network_denoiser=denoiser, data=None)
"""
SHORT = ["--solvers", "ddim,dpm++2m", "--nfe", "5,10", "--num", "6", "--batch", "3", "--reference-nfe", "40"]


def written(folder: Path, seconds: float) -> str:
    """A testbed of one's own whose network is slow."""
    folder.mkdir()
    (folder / "slow.py").write_text(SLOW.format(seconds=seconds))
    return f"{folder / 'slow.py'}:testbed"


def interruptible() -> None:
    """Let a process be stopped by SIGINT, which a shell's background jobs, and what they start, ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert cli.main(["compare", written(folder / "model", 0.0), *SHORT, "--out", str(folder / "whole")]) == 0
    return figures(folder / "whole")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_comparison_that_was_stopped_resumes(
    tmp_path: Path, stop: signal.Signals, undisturbed: dict[tuple[str, int], Any]
) -> None:
    """Stopped in the middle of a batch that takes long, the same command ends with the very figures of a run that was left alone.

    What is kept is all but the last moment. Ctrl-C and SIGTERM end with one line that says so, and exit code 130.
    """
    stopped, model = tmp_path / "stopped", written(tmp_path / "model", 0.05)
    command = [sys.executable, "-m", "dpmsolver.cli", "compare", model, *SHORT, "--out", str(stopped)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    deadline = time.monotonic() + 60
    while len(list(stopped.rglob("begun/**/*.npz"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(stop)
    out, err = process.communicate(timeout=120)
    assert out == ""
    if stop == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert err == f"dpmsolver: stopped: the same command resumes from what is in {stopped}\n"
    assert list(stopped.rglob("begun/**/*.npz"))
    assert not list(stopped.rglob("batches/**/*.npz"))
    assert cli.main(["compare", written(tmp_path / "fast", 0.0), *SHORT, "--out", str(stopped)]) == 0
    assert not list(stopped.rglob("begun"))
    assert figures(stopped) == undisturbed


def test_on_a_terminal_the_bar_moves_with_every_evaluation_and_is_closed(tmp_path: Path) -> None:
    """It says how long the rest takes before a first batch is whole; Ctrl-C shows the cursor again and leaves one line."""
    pty = pytest.importorskip("pty")
    model = written(tmp_path / "model", 0.05)
    command = [sys.executable, "-m", "dpmsolver.cli", "compare", model, *SHORT, "--out", str(tmp_path / "out")]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        preexec_fn=interruptible,
    )
    os.close(theirs)
    said = b""
    while not re.search(rb"\d:\d\d:\d\d", said) or len(set(re.findall(rb"(\d+)/540", said))) < 4:
        said += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # as Linux ends a terminal that nobody holds any more
        while more := os.read(ours, 4096):
            said += more
    os.close(ours)
    assert process.wait(timeout=120) == 130
    dones = [int(done) for done in re.findall(rb"(\d+)/540", said)]
    assert dones == sorted(dones)
    assert not list((tmp_path / "out").rglob("batches/**/*.npz"))
    assert said.rfind(b"\x1b[?25h") > said.rfind(b"\x1b[?25l") >= 0
    assert "dpmsolver: stopped: the same command resumes" in said.decode().splitlines()[-1]


def test_elsewhere_than_on_a_terminal_a_line_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job's log gets a line now and then, with the share that is done and the time that is left; the table stays alone on stdout."""
    monkeypatch.setattr(long_runs, "FIRST_LINE", 0.2)
    monkeypatch.setattr(long_runs, "_LATER_LINES", 0.2)
    arguments = [
        "--solvers",
        "ddim",
        "--nfe",
        "5",
        "--num",
        "4",
        "--reference-nfe",
        "20",
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.main(["compare", written(tmp_path / "model", 0.02), *arguments]) == 0
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert 1 <= len(lines) <= 10
    form = r"\d+ % of 140 evaluations after \d+ s(, about \d+ s left)? \(.*\)"
    assert all(re.fullmatch(form, line) for line in lines)
    assert "left" in lines[0]
    assert "evaluations after" not in told.out


def test_lines_of_progress_come_after_ten_seconds_and_then_one_in_thirty() -> None:
    """Not one for each evaluation, and the estimate in time."""
    lines: list[str] = []
    seconds = iter(range(200))
    progress = comparing.Lines(lines.append, clock=lambda: next(seconds))
    for done in range(200):
        progress(done, 200, "ddim with 5")
    assert len(lines) == 7
    assert lines[0] == "5 % of 200 evaluations after 10 s, about 3 min 10 s left (ddim with 5)"


def test_the_table_says_why_a_figure_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dash and a line below, for samplers that add noise and for budgets that cannot be spent; on the page as well."""
    arguments = ["--solvers", "ddim,dpm++2m-sde,dpm-3", "--nfe", "5,6", "--num", "4", "--out", str(tmp_path)]
    assert cli.main(["compare", "mixture-2", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line for line in lines if "dpm++2m-sde " in line and "│" in line)
    assert row.count("–") == 2
    assert "– dpm++2m-sde with 5, 6: adds noise: its samples have no exact trajectory to be near to" in lines
    assert any(line.startswith("– dpm-3 with 5: ") and "cannot spend" in line for line in lines)
    assert "adds noise: its samples have no exact trajectory to be near to" in (tmp_path / "index.html").read_text()


def test_a_slow_start_is_told_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """After a while, and not where there is nothing to say or the work was done before."""
    monkeypatch.setattr(comparing, "FIRST_LINE", 0.05)
    for line, seconds, said in (("computing", 1.0, "computing\n"), ("", 0.2, ""), ("computing", 0.0, "")):
        with comparing._said_if_slow(line):
            time.sleep(seconds)
        assert capsys.readouterr().err == said
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


WITH_FEATURES = """
from dataclasses import replace
import numpy as np
from dpmsolver.models.testbeds import load_testbed

def testbed():
    law = load_testbed("mixture-16")
    data = law.data(500, 0)
    return replace(law, features=np.asarray, feature_statistics=(data.mean(axis=0), np.cov(data.T)))
"""


def test_the_frechet_distance_of_exact_draws_stands_below_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the table and, as a level line, on the page."""
    (tmp_path / "own.py").write_text(WITH_FEATURES)
    arguments = ["--solvers", "ddim", "--nfe", "5", "--num", "20", "--out", str(tmp_path / "report")]
    assert cli.main(["compare", f"{tmp_path / 'own.py'}:testbed", *arguments]) == 0
    floor = json.loads((tmp_path / "report" / "results.json").read_text())["yardsticks"]["frechet"]["value"]
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "exact draws" in line)
    assert f"{floor:.4g}" in row
    assert "20 exact draws of the data" in (tmp_path / "report" / "index.html").read_text()


def test_samplers_that_all_add_noise_are_compared_by_another_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table shows a measure that the runs have."""
    arguments = ["--solvers", "dpm++2m-sde,ddpm", "--nfe", "5", "--num", "4", "--out", str(tmp_path)]
    assert cli.main(["compare", "mixture-2", *arguments]) == 0
    out = capsys.readouterr().out
    assert "Wasserstein" in out
    assert "–" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--solvers", "dpm++2n"], "unknown solver 'dpm++2n'"),
        (["--solvers", "ddim,"], "--solvers takes names"),
        (["--solvers", "ddim@karas"], "unknown grid 'karas'"),
        (["--solvers", "ddim:etta=1"], "etta"),
        (["--solvers", "ddim,ddim"], "named twice: ddim"),
        (["--grids", "karas"], "unknown grid 'karas'"),
        (["--nfe", "5,x"], "--nfe takes numbers"),
        (["--nfe", "0"], "nfe must be an integer >= 1"),
        (["--nfe", "5,5"], "each number once"),
        (["--reference-solver", "dpm++9"], "unknown solver 'dpm++9'"),
        (["--features", "incepton"], "unknown features 'incepton'"),
        (["--num", "1"], "num"),
        (["--out", "FILE"], "is a file: name a folder"),
        (["--out", "FILE/report"], "is a file: name a folder"),
        (["nosuchmodel"], "unknown testbed 'nosuchmodel'"),
        (["nosuchfile.py:testbed"], "there is no file 'nosuchfile.py'"),
    ],
)
def test_wrong_input_is_refused_before_a_model_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """One line, exit code 2, nothing written; torch, which takes seconds to import, has not been imported."""
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it raises
    monkeypatch.setattr(pretrained, "load", lambda *given, **options: pytest.fail("the model was loaded"))
    file = tmp_path / "file"
    file.touch()
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    given = [word.replace("FILE", str(file)) for word in arguments]
    assert cli.main(["compare", *given, *out]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_another_comparison_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "mixture-2", "--solvers", "ddim", "--nfe", "5", "--num", "4", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    assert cli.main([*arguments, "--seed", "1"]) == 2
    assert "seed was 0 and is 1" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert cli.main([*arguments[:-1], str(tmp_path / "file")]) == 2
    assert "file is a file: name a folder" in capsys.readouterr().err
