"""`dpmsolver check`: what it reads, what it prints, and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm

pytest.importorskip("typer")
pytest.importorskip("diffusers")
Image = pytest.importorskip("PIL.Image")

from dpmsolver import cli  # noqa: E402

SHORT = ("--levels", "2")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def digits() -> Any:
    """A 3 and a 7 as bytes (2, 28, 28)."""
    model = dpm.models.load("digits")
    x = dpm.sample(model.denoiser([3, 7], guidance=1.5), model.initial_noise(2, seed=1), nfe=8)
    return ((x[:, 0].numpy() + 1.0) * 127.5).round().clip(0, 255).astype(np.uint8)


def test_digits_fits_from_every_kind_of_file(digits: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes in .npy (with and without channels), floats in .npz and pictures in a folder are the same data."""
    np.save("bytes.npy", digits)
    np.save("channels.npy", digits[..., None])
    np.savez("floats.npz", digits[:, None] / 127.5 - 1.0)
    Path("folder").mkdir()
    for i, picture in enumerate(digits):
        Image.fromarray(picture).save(f"folder/{i}.png")
    printed = []
    for file in ("bytes.npy", "channels.npy", "floats.npz", "folder"):
        assert cli.main(["check", "digits", "--data", file, *SHORT]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"2 of {file}")
        assert ("bytes converted to [-1, 1]" in lines[0]) == (file != "floats.npz")
        assert lines[1].startswith("The network fits what is declared")
        printed.append(lines[1:])
    assert printed[0] == printed[1] == printed[2] == printed[3]


def test_classes_are_those_of_the_data(digits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With the right classes digits predicts its pictures better than with none."""
    np.save("bytes.npy", digits)
    errors = []
    for options in ((), ("--classes", "3,7")):
        assert cli.main(["check", "--data", "bytes.npy", *SHORT, *options]) == 0
        errors.append(float(capsys.readouterr().out.split("(error ")[1].split(")")[0]))
    assert errors[1] < errors[0]


MINE = """
import numpy as np
import dpmsolver as dpm

LAW = dpm.models.Mixture(means=[[-1.0, 0.0], [1.0, 0.5]], variances=[[0.01, 0.01]] * 2)
FLOW = dpm.schedules.Flow()

def right():
    return LAW.denoiser(FLOW, "velocity")

def wrong():
    return right().replace(predicts="v")

def neither():
    return 7
"""


def test_a_model_of_ones_own_and_a_mistake_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    law = dpm.models.Mixture(means=[[-1.0, 0.0], [1.0, 0.5]], variances=[[0.01, 0.01]] * 2)
    np.save("points.npy", law.sample(100))
    Path("mine.py").write_text(MINE)
    assert cli.main(["check", "mine.py:right", "--data", "points.npy", "--num", "100"]) == 0
    capsys.readouterr()
    assert cli.main(["check", "mine.py:wrong", "--data", "points.npy", "--num", "100"]) == 1
    printed = capsys.readouterr()
    assert "it fits if it predicts the velocity" in printed.out
    assert "write denoiser.replace(predicts='velocity')" in printed.out
    assert printed.err == ""


def test_wrong_input_is_one_line(digits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line that names the option, before a model is loaded where that is possible."""
    np.save("small.npy", digits[:, :8, :8])
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("bytes.npy", digits)
    Path("broken.npz").write_text("nothing")
    Path("text.txt").write_text("nothing")
    Path("empty").mkdir()
    Path("mine.py").write_text(MINE)
    for arguments, message in (
        ([], "--data is needed"),
        (["--data", "none.npy"], "there is no such file"),
        (["--data", "text.txt"], "a folder of pictures or a picture is accepted"),
        (["--data", "broken.npz"], "--data broken.npz cannot be read as npz"),
        (["--data", "words.npy"], "must hold numbers of shape (N, …)"),
        (["--data", "empty"], "at least two pictures"),
        (["--data", "small.npy"], "holds data of shape (1, 8, 8), and digits has (1, 28, 28)"),
        (["--data", "bytes.npy", "--classes", "3,x"], "--classes takes numbers"),
        (["--data", "bytes.npy", "--num", "1"], "--num"),
        (["dgits", "--data", "bytes.npy"], "did you mean 'digits'"),
        (["mine.py:neither", "--data", "bytes.npy"], "must return a dpm.Denoiser or a Testbed, got int"),
        (["mine.py:right", "--data", "bytes.npy", "--classes", "3"], "--classes is not for it"),
    ):
        assert cli.main(["check", *arguments]) == 2, arguments
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("dpmsolver: error: ")
        assert captured.err.count("\n") == 1
        assert message in captured.err
