"""The command line: what each command prints and writes, and that wrong input is one line and exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    first, second = capsys.readouterr().out.splitlines()
    assert first == "5 samples of digits, 4 network evaluations each: dpm++2m @ logsnr"
    assert second.endswith("to load the model; written to samples.png")


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


def test_what_auto_took_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The solver and the grid of the plan, and its options where there are some."""
    draw("--nfe", "3", "--num", "1")
    model = dpm.models.pretrained.outline("digits")
    assert model is not None
    taken = dpm.make_plan("auto", model.schedule, 3)
    line = capsys.readouterr().out.splitlines()[0]
    assert line == f"1 samples of digits, 3 network evaluations each: {taken.solver} @ {taken.grid} (taken by auto)"
    draw("--nfe", "2", "--num", "1", "--solver", "DPM++ 2M Karras")
    line = capsys.readouterr().out.splitlines()[0]
    assert line.endswith("dpm++2m @ karras, lower_order_final=False")


FEW = ("sample", "--nfe", "2", "--num", "3", "--seed", "5", "--solver", "ddim")


def test_samples_go_where_the_name_says(tmp_path: Path) -> None:
    """.png and .jpg: a sheet; .npz: the pixels and the classes; a folder: a picture each, with the seed in its name. One run in all."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "other.txt").write_text("kept")
    for out in ("a.png", "a.jpeg", "a.npz", "new", "slash.d/", "there"):
        assert cli.main([*FEW, "--out", out]) == 0
    sheet = pixels("a.png")
    with Image.open("a.jpeg") as picture:
        assert picture.format == "JPEG"
        assert abs(np.asarray(picture).astype(float) - sheet).mean() < 5
    arrays = np.load("a.npz")
    assert arrays["arr_0"].shape == (3, 28, 28, 1)
    assert arrays["arr_0"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["arr_1"], [0, 1, 2])
    np.testing.assert_array_equal(sheet[:56:2, :56:2], arrays["arr_0"][0, :, :, 0])
    names = [f"seed5_{i:05d}.png" for i in range(3)]
    for folder in ("new", "slash.d"):
        assert sorted(os.listdir(folder)) == names
        np.testing.assert_array_equal(pixels(f"{folder}/{names[2]}"), arrays["arr_0"][2, :, :, 0])
    assert sorted(os.listdir("there")) == ["other.txt", *names]
    assert sorted(os.listdir()) == ["a.jpeg", "a.npz", "a.png", "new", "slash.d", "there"]


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert cli.main(["solvers", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_solvers_lists_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each, and for "auto", with its order; no line is longer than 80 columns where the output is no terminal."""
    lines = lines_of(capsys)
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert "auto" in rows
    for solver in SOLVERS.values():
        assert rows[solver.name][1] == str(solver.order)
        assert rows[solver.name][3] == solver.description.split()[0]
    assert max(map(len, lines)) <= 80


def test_solvers_has_a_filter(capsys: pytest.CaptureFixture[str]) -> None:
    """A part of a name, a description or a family; or --family."""

    def listed(*arguments: str) -> set[str]:
        return {line.split()[0] for line in lines_of(capsys, *arguments) if line.strip()} & set(SOLVERS)

    assert {"dpm++2m-sde", "er-sde-3", "euler-maruyama"} <= listed("sde")
    assert "dpm++2m" not in listed("sde")
    assert listed("--family", "unipc") == {s.name for s in SOLVERS.values() if s.family == "UniPC"}
    assert listed("noise", "--family", "UniPC") == {"unipc-2-noise", "unipc-3-noise"}


@pytest.mark.parametrize("name", ["auto", *SOLVERS])
def test_solvers_shows_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its options with their defaults, its source, its other names, within 80 columns."""
    lines = lines_of(capsys, name)
    assert lines[0] == name
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    if name != "auto":
        solver = SOLVERS[name]
        assert solver.source in text
        assert all(f"{option}=" in text for option in solver.accepted_options())


def test_solvers_shows_what_a_name_of_another_package_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(lines_of(capsys, "uni_pc"))
    assert text.startswith("unipc-3\n")
    assert "unipc-3:variant=bh1" in text
    assert "uni_pc_bh2" in text


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


def test_plan_takes_names_with_grid_and_options_and_both_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """As make_plan does."""
    options = ["--nfe", "5", "--schedule", "edm", "--start", "50", "--end", "0", "--json"]
    assert cli.main(["plan", "uni_pc@karras:rho=5", *options]) == 0
    expected = dpm.make_plan("unipc-3", dpm.schedules.EDM(), 5, "karras", start=50.0, end=0.0, variant="bh1", rho=5)
    assert dpm.Plan.from_json(capsys.readouterr().out) == expected


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
    "a solver that is not here": (["sample", "--solver", "sa_solver"], "there is no 'sa_solver' here"),
    "an option of another kind": (["sample", "--solver", "ddim:eta=x"], "eta must be a number, got 'x'"),
    "an unknown option of a solver": (["sample", "--solver", "ddim:etta=1"], "did you mean 'eta'"),
    "an option out of its range": (["sample", "--solver", "ddim:eta=2"], "eta must lie in [0, 1]"),
    "two grids": (["sample", "--solver", "ddim@karras", "--grid", "time"], "says its grid, 'karras'"),
    "half a name": (["sample", "--solver", "ddim:eta"], "name@grid:option=value"),
    "unknown grid": (["sample", "--grid", "karas"], "did you mean 'karras'"),
    "unknown model": (["sample", "digit"], "did you mean 'digits'"),
    "missing folder": (["sample", "./models/mine"], "unknown model './models/mine'"),
    "folder without a model": (["sample", "."], "is not a model in diffusers format"),
    "nfe that cannot be spent": (["sample", "--solver", "dpm-3", "--nfe", "10"], "nearest is 9 or 12"),
    "class out of range": (["sample", "--classes", "1,10"], "class 10 does not exist: accepted are 0 to 9"),
    "class far out of range": (["sample", "--classes", "99"], "class 99 does not exist: accepted are 0 to 9"),
    "classes that are no numbers": (["sample", "--classes", "one"], "--classes takes numbers"),
    "no classes": (["sample", "--classes", ""], "--classes takes numbers"),
    "no samples": (["sample", "--num", "0"], "--num"),
    "empty batch": (["sample", "--batch", "0"], "--batch"),
    "negative seed": (["sample", "--seed", "-1"], "--seed"),
    "guidance that is no number": (["sample", "--guidance", "nan"], "finite"),
    "guidance below 0": (["sample", "--guidance", "-1"], "--guidance is a finite number >= 0 (1 is none), got -1"),
    "unknown device": (["sample", "--device", "abacus"], "device 'abacus' cannot be used here"),
    "no such folder": (["sample", "--out", "nowhere/samples.png"], "there is no folder nowhere"),
    "no such folder for a folder": (["sample", "--out", "nowhere/pictures/"], "there is no folder nowhere"),
    "no name for the output": (["sample", "--out", ""], "--out is empty"),
    "another format": (["sample", "--out", "samples.gif"], "a name ends in .png, .jpg or .npz"),
    "statistics that are not there": (["sample", "--statistics", "none.safetensors"], "none.safetensors"),
    "an unknown family": (["solvers", "--family", "unpic"], "did you mean 'UniPC'"),
    "an unknown name to show": (["solvers", "dmp++2m"], "did you mean 'dpm++2m'"),
    "calibrate with guidance below 0": (["calibrate", "--guidance", "-1"], "--guidance is a finite number >= 0"),
    "calibrate an unknown model": (["calibrate", "digit"], "did you mean 'digits'"),
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


@pytest.mark.parametrize("out", ["samples.png", "samples.jpg", "samples.npz", "old/", "new"])
def test_a_failed_write_leaves_the_old_file_alone(
    out: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is written aside and renamed: a full disk costs the new samples, not the old ones, and leaves nothing half-written."""
    (tmp_path / "old").mkdir()
    for name in ("samples.png", "samples.jpg", "samples.npz", "old/seed0_00000.png"):
        (tmp_path / name).write_text("old")
    before = sorted(tmp_path.rglob("*"))

    def full(target: object, *_: object, **__: object) -> None:
        (target.write if hasattr(target, "write") else Path(target).write_bytes)(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", lambda self, path, format, **options: full(path))
    monkeypatch.setattr(np, "savez", full)
    assert cli.main(["sample", "--nfe", "1", "--num", "1", "--out", out]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert all(path.read_text() == "old" for path in before if path.is_file())


def test_a_run_that_fails_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nan(*_: object, **__: object) -> object:
        raise dpm.SamplingError("the network returned NaN")

    monkeypatch.setattr(dpm, "sample", nan)
    assert cli.main(["sample", "--nfe", "1", "--num", "1"]) == 1
    assert capsys.readouterr().err == "dpmsolver: error: the network returned NaN\n"
    assert list(tmp_path.iterdir()) == []


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "80"}
MISTAKES = [
    arguments for arguments, message in BAD.values() if "--device" not in arguments and arguments[:1] != ["compare"]
]


def test_mistakes_are_found_before_torch_is_imported() -> None:
    """Help, tables and whatever is wrong with a name, a class, a number or a file: all of it without torch, and so within a second."""
    program = (
        "import sys, dpmsolver.cli as cli\n"
        f"for arguments in [['--help'], ['solvers'], ['solvers', 'auto'], ['plan', 'dpm++2m'], *{MISTAKES!r}]:\n"
        "    cli.main(arguments)\n"
        "    loaded = {'torch', 'diffusers', 'jax', 'PIL'} & set(sys.modules)\n"
        "    assert not loaded, (arguments, loaded)"
    )
    quiet = subprocess.DEVNULL
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT, stdout=quiet, stderr=quiet)


@pytest.mark.parametrize("module", ["dpmsolver", "dpmsolver.cli"])
def test_it_runs_as_a_module(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", module, "solvers", "ddim"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert run.returncode == 0
    assert run.stdout.startswith("ddim\n")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    """One line and exit code 2, as the script and as a module."""
    for start in ("runpy.run_module('dpmsolver', run_name='__main__')", "from dpmsolver.cli import main; main()"):
        program = f"import sys, runpy; sys.modules[{missing!r}] = None; sys.argv = ['dpmsolver', 'solvers']; {start}"
        run = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
        assert run.returncode == 2
        assert run.stdout == ""
        assert run.stderr.startswith("dpmsolver: error: the command line needs typer and rich")
        assert run.stderr.endswith("pip install 'dpmsolver[cli]'\n")
        assert run.stderr.count("\n") == 1


def test_ctrl_c_is_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGINT in the middle of a run, on a terminal: exit code 130, the bar closed, the cursor shown again, no file."""
    sample = dpm.sample

    def interrupted(*arguments: Any, progress: Any, **options: Any) -> Any:
        def stop(done: int, total: int) -> None:
            progress(done, total)
            if done == 1:
                os.kill(os.getpid(), signal.SIGINT)

        return sample(*arguments, progress=stop, **options)

    monkeypatch.setattr(dpm, "sample", interrupted)
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs do not have
    assert cli.main(["sample", "--nfe", "3", "--num", "2", "--out", "pictures/"]) == 130
    said = capsys.readouterr().err
    assert said.endswith("dpmsolver: interrupted\n")
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1  # the cursor, hidden and shown
    assert list(tmp_path.iterdir()) == []


def test_the_bar_copies_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is told of evaluations, not handed states: the one copy is the input of a run's first evaluation."""
    from dpmsolver import backends

    copies: list[Any] = []
    copy_to = backends.torch.TorchBackend.copy_to

    def copied(backend: Any, x: Any, out: Any = None) -> Any:
        copies.append(x)
        return copy_to(backend, x, out)

    monkeypatch.setattr(backends.torch.TorchBackend, "copy_to", copied)
    for nfe in ("2", "7"):
        copies.clear()
        draw("--nfe", nfe, "--num", "1", "--solver", "dpm++2m")
        assert len(copies) == 1
