"""The command line: what each command prints and writes, and that wrong input is one line and exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import dpmsolver as dpm

pytest.importorskip("typer")
pytest.importorskip("diffusers")
Image = pytest.importorskip("PIL.Image")

from dpmsolver import cli  # noqa: E402
from dpmsolver.solvers.registry import SOLVERS  # noqa: E402
from tiny import saved, tiny_unet  # noqa: E402


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def draw(*options: str, out: str = "samples.png") -> np.ndarray:
    assert cli.main(["sample", *options, "--out", out]) == 0
    return pixels(out)


def test_sample_draws_a_picture_and_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    """Five digits on a 3 x 2 sheet, magnified twice; the empty sixth place is black."""
    picture = draw("digits", "--nfe", "4", "--num", "5", "--solver", "dpm++2m")
    assert picture.shape == (2 * 28 * 2, 3 * 28 * 2)
    assert picture.max() > 200
    assert picture.std() > 20
    assert (picture[56:, 112:] == 0).all()
    assert os.listdir() == ["samples.png"]
    line = capsys.readouterr().out
    assert line.startswith("5 samples of digits: dpm++2m, 4 network evaluations each, ")
    assert line.endswith("written to samples.png\n")


def test_the_same_seed_draws_the_same_pictures_whatever_the_batch() -> None:
    options = ("--nfe", "2", "--num", "4", "--seed", "5")
    first = draw(*options)
    np.testing.assert_array_equal(first, draw(*options, out="again.png"))
    np.testing.assert_allclose(first.astype(float), draw(*options, "--batch", "3", out="batch.png"), atol=1)
    assert (first != draw("--nfe", "2", "--num", "4", "--seed", "6", out="other.png")).any()


def test_the_picture_is_what_python_draws() -> None:
    """The command is `dpm.sample` with all classes in turn, pixels from [-1, 1]."""
    model = dpm.models.pretrained.load("digits")
    x0 = dpm.sample(model.denoiser([0, 1, 2, 3]), model.initial_noise(4, seed=3), nfe=2)
    bytes_ = np.rint(np.clip(x0[3, 0].numpy(), -1, 1) * 127.5 + 127.5)
    picture = draw("--nfe", "2", "--num", "4", "--seed", "3")
    np.testing.assert_allclose(picture[56::2, 56::2], bytes_, atol=1)


def test_classes_and_guidance_change_the_picture() -> None:
    base = ("--nfe", "2", "--num", "2")
    plain = draw(*base, "--classes", "3,4")
    assert (plain != draw(*base, "--classes", "4,3", out="b.png")).any()
    assert (plain != draw(*base, "--classes", "3,4", "--guidance", "2", out="c.png")).any()


def test_an_unconditional_colour_model_from_a_folder(tmp_path: Path) -> None:
    saved(tmp_path / "model", tiny_unet())
    assert draw("model", "--nfe", "2", "--num", "1").shape == (64, 64, 3)


def test_a_stochastic_solver_is_deterministic_in_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that a solver adds comes from the seed too, and differs between batches."""
    from dataclasses import replace
    from functools import partial

    noisy = replace(SOLVERS["ddim"], name="noisy", build=partial(SOLVERS["ddim"].build, eta=1.0))
    monkeypatch.setitem(SOLVERS, "noisy", noisy)
    options = ("--solver", "noisy", "--nfe", "3", "--num", "2", "--classes", "1")
    first = draw(*options, "--batch", "1")
    np.testing.assert_array_equal(first, draw(*options, "--batch", "1", out="again.png"))
    np.testing.assert_allclose(first.astype(float), draw(*options, out="together.png"), atol=1)


def test_solvers_lists_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["solvers"]) == 0
    table = capsys.readouterr().out
    for solver in SOLVERS.values():
        row = next(line for line in table.splitlines() if f" {solver.name} " in line)
        assert solver.description in row
        assert solver.source in row
        assert solver.prediction in row


@pytest.mark.parametrize("schedule", ["digits", "linear-vp", "cosine", "edm", "flow"])
def test_plan_prints_one_line_per_evaluation(schedule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "dpm++2m", "--nfe", "6", "--schedule", schedule]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dpm++2m: 6 evaluations, data prediction"
    assert [line.split()[0] for line in lines[3:]] == ["0", "1", "2", "3", "4", "5", "end"]


def test_plan_as_json_is_the_plan_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "ddim", "--nfe", "5", "--schedule", "edm", "--grid", "karras", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["solver"] == "ddim"
    assert dpm.Plan.from_json(text) == dpm.make_plan("ddim", dpm.schedules.EDM(), 5, "karras")


def test_the_digits_schedule_is_the_models() -> None:
    """`plan --schedule digits` reads the config alone, without torch, and means the same."""
    times = np.linspace(0.001, 1, 50)
    model = dpm.models.pretrained.load("digits")
    np.testing.assert_array_equal(cli.tables.digits_schedule().alpha(times), model.schedule.alpha(times))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dpmsolver {dpm.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["sample", "--help"], ["solvers", "-h"], ["plan", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert "Usage: dpmsolver" in captured.out
    assert captured.err == ""


BAD: dict[str, tuple[Sequence[str], str]] = {
    "unknown command": (["sampel"], "sampel"),
    "unknown option": (["sample", "--steps", "5"], "--steps"),
    "not a number": (["sample", "--nfe", "ten"], "--nfe"),
    "no evaluations": (["sample", "--nfe", "0"], "--nfe"),
    "unknown solver": (["sample", "--solver", "dmp++2m"], "did you mean 'dpm++2m'"),
    "unknown grid": (["sample", "--grid", "karas"], "did you mean 'karras'"),
    "unknown model": (["sample", "digit"], "did you mean 'digits'"),
    "missing folder": (["sample", "./models/mine"], "unknown model './models/mine'"),
    "folder without a model": (["sample", "."], "is not a model in diffusers format"),
    "nfe that cannot be spent": (["sample", "--solver", "dpm-3", "--nfe", "10"], "nearest is 9 or 12"),
    "class out of range": (["sample", "--classes", "1,10"], "class 10 does not exist: accepted are 0 to 9"),
    "classes that are no numbers": (["sample", "--classes", "one"], "--classes takes numbers"),
    "no samples": (["sample", "--num", "0"], "--num"),
    "empty batch": (["sample", "--batch", "0"], "--batch"),
    "negative seed": (["sample", "--seed", "-1"], "--seed"),
    "guidance that is no number": (["sample", "--guidance", "nan"], "finite"),
    "unknown device": (["sample", "--device", "abacus"], "device 'abacus' cannot be used here"),
    "no such folder": (["sample", "--out", "nowhere/samples.png"], "there is no folder nowhere"),
    "a folder as the file": (["sample", "--out", "."], "is a folder"),
    "another format": (["sample", "--out", "samples.jpg"], "its name ends in .png"),
    "plan without a solver": (["plan"], "NAME"),
    "plan of an unknown solver": (["plan", "eular"], "unknown solver 'eular'"),
    "plan on an unknown schedule": (["plan", "ddim", "--schedule", "cosin"], "did you mean 'cosine'"),
    "plan that cannot be spent": (["plan", "dpm++2s", "--nfe", "5"], "nearest is 4 or 6"),
    "compare an unknown model": (["compare", "digit"], "did you mean 'digits'"),
    "compare an unknown solver": (["compare", "gaussian", "--solvers", "dmp++2m"], "did you mean 'dpm++2m'"),
    "compare nothing": (["compare", "gaussian", "--solvers", "ddim,,"], "--solvers takes names"),
    "compare twice the same": (["compare", "gaussian", "--solvers", "ddim,ddim"], "named twice: ddim"),
    "compare with words for numbers": (["compare", "gaussian", "--nfe", "5,ten"], "--nfe takes numbers"),
    "compare with no evaluations": (["compare", "gaussian", "--nfe", "0"], "nfe must be an integer >= 1"),
    "compare on an unknown grid": (["compare", "gaussian", "--grids", "karas"], "did you mean 'karras'"),
    "compare one sample": (["compare", "gaussian", "--num", "1"], "--num"),
    "compare with unknown features": (["compare", "--features", "inceptoin"], "did you mean 'inception'"),
    "compare NumPy in bfloat16": (["compare", "gaussian", "--bfloat16"], "bfloat16=True needs a torch network"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line on stderr, nothing on stdout, no traceback, and no file left."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dpmsolver: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_guidance_without_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test_an_unconditional_colour_model_from_a_folder(tmp_path)
    capsys.readouterr()
    for options, message in (
        (["--guidance", "2"], "guidance=2.0 needs classes"),
        (["--classes", "0"], "unconditional"),
    ):
        assert cli.main(["sample", "model", *options]) == 2
        assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cli.main(["sample"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_file_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture is written aside and renamed: a full disk costs the new picture, not the old one."""
    (tmp_path / "samples.png").write_text("old")

    def full(self: object, path: Path, format: str) -> None:
        path.write_text("half a picture")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert cli.main(["sample", "--nfe", "1", "--num", "1"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["samples.png"]
    assert (tmp_path / "samples.png").read_text() == "old"


def test_a_run_that_fails_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nan(*_: object, **__: object) -> object:
        raise dpm.SamplingError("the network returned NaN")

    monkeypatch.setattr(dpm, "sample", nan)
    assert cli.main(["sample", "--nfe", "1", "--num", "1"]) == 1
    assert capsys.readouterr().err == "dpmsolver: error: the network returned NaN\n"
    assert list(tmp_path.iterdir()) == []


def test_torch_is_imported_for_sampling_only() -> None:
    """Help, tables and refused options come without it."""
    program = (
        "import sys, dpmsolver.cli as cli\n"
        "for arguments in (['--help'], ['solvers'], ['plan', 'dpm++2m'], ['sample', '--nfe', '0']):\n"
        "    cli.main(arguments)\n"
        "    loaded = {'torch', 'diffusers', 'jax', 'PIL'} & set(sys.modules)\n"
        "    assert not loaded, (arguments, loaded)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, stdout=subprocess.DEVNULL)
