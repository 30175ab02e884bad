"""Training of the small networks in small: killed at any moment it resumes, and what it exports is what was trained."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import predicts_from_config, schedule_from_config
from dpmsolver.models import pretrained, trained
from dpmsolver.networks.preconditioning import edm_preconditioned

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

TRAINING = Path(__file__).parents[2] / "training"
SCRIPTS = ("common", "processes", "digits", "cifar10_data", "small", "moons")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A module of training/, imported as a script sees it; the number of threads is put back."""
    monkeypatch.syspath_prepend(TRAINING)
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    threads = torch.get_num_threads()
    yield lambda name: __import__(name)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of noise with labels, in the form of MNIST."""
    path = tmp_path_factory.mktemp("data") / "mnist.npz"
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=np.arange(12) % 10)
    return path


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, options)])
    module.main()


MOONS = ("moons-edm", "--batch", 8, "--width", 16, "--run")


def one_step_more(
    moons: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command starts at the step of the checkpoint; the budget of this call ends with its first step."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["step"] >= 1
    run(moons, monkeypatch, *MOONS, folder, "--minutes", (state["elapsed"] + 1e-6) / 60)
    said = capsys.readouterr().out
    assert f"resumed at step {state['step']}," in said
    assert f"done: {state['step'] + 1} steps" in said


def test_a_checkpoint_that_is_cut_off_leaves_the_one_before(
    script: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The third checkpoint dies with half of its bytes written: the run resumes from the second."""
    moons, saved = script("moons"), []

    def cut_off(state: Any, path: Path) -> None:
        saved.append(state["step"])
        if len(saved) == 3:
            path.write_bytes(b"half of")
            raise MemoryError
        save(state, path)

    save, train = torch.save, moons.train
    monkeypatch.setattr(moons, "train", lambda run, loss, save, stop, save_every: train(run, loss, save, stop, 0.0))
    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(MemoryError):
        run(moons, monkeypatch, *MOONS, tmp_path, "--minutes", 5)
    monkeypatch.setattr(torch, "save", save)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == saved[1]
    one_step_more(moons, tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_a_run_that_is_killed_resumes(
    script: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL to a process of its own, after its first checkpoint and at any point of a later one."""
    moons, options = script("moons"), (*MOONS, tmp_path)
    command = [sys.executable, "-c", _EAGER, str(TRAINING), *map(str, options), "--minutes", "5"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60.0
        while not (tmp_path / "model" / "scheduler_config.json").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    one_step_more(moons, tmp_path, monkeypatch, capsys)


def test_numpy_runs_what_torch_trained(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is the average of the weights, rounded to half precision, and the library's perceptron is the trained network."""
    moons = script("moons")
    run(moons, monkeypatch, *MOONS, tmp_path, "--minutes", 1e-9)
    net = moons.Net(1.0, 16)
    net.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["ema"])
    x, sigma = torch.randn(5, 2), torch.tensor([0.01, 0.1, 1.0, 5.0, 50.0])
    with torch.no_grad():
        expected = edm_preconditioned(net.half().float(), 0.5)(x, sigma)
    schedule, denoiser = trained.load_moons(tmp_path / "model")
    assert isinstance(schedule, dpm.schedules.EDM)
    found = denoiser.network(x.double().numpy(), sigma.double().numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


_EAGER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import moons
train = moons.train
moons.train = lambda run, loss, save, stop, save_every: train(run, loss, save, stop, 0.0)
moons.main()
"""


def test_a_network_of_digits_resumes_and_exports_a_model(
    script: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A call that ends at once leaves a checkpoint; the next one takes one step from it, and the export loads with its schedule."""
    small = script("small")
    options = ("digits-flow", "--data", data, "--run", tmp_path, "--batch", 2, "--threads", 1)
    run(small, monkeypatch, *options, "--stop-after", 0)
    assert "stopped, and the same command resumes: 0 steps" in capsys.readouterr().out
    run(small, monkeypatch, *options, "--minutes", 1e-9)
    said = capsys.readouterr().out
    assert "resumed at step 0" in said
    assert "done: 1 steps, 2 images" in said
    model = pretrained.load(tmp_path / "model")
    assert (model.shape, model.num_classes, model.null_label, model.predicts) == ((1, 28, 28), 10, 10, "velocity")
    assert isinstance(model.schedule, dpm.schedules.Flow)
    average = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["ema"]
    for name, value in model.network.module.state_dict().items():  # type: ignore[attr-defined]
        torch.testing.assert_close(value, average[name].half().float())


def test_a_network_of_colour_exports_a_model(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step on four pictures; a file that is no CIFAR-10 is refused with a sentence before anything is built."""
    image, small = pytest.importorskip("PIL.Image"), script("small")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    encoded = []
    for each in pixels:
        image.fromarray(each).save(buffer := io.BytesIO(), "JPEG")
        encoded.append(buffer.getvalue())
    path = tmp_path / "cifar10_jpeg.npz"
    offsets = np.cumsum([0, *map(len, encoded)])
    np.savez(
        path, train_jpeg=np.frombuffer(b"".join(encoded), np.uint8), train_offsets=offsets, train_labels=[0, 1, 2, 9]
    )
    options = ("cifar10-small", "--run", tmp_path, "--batch", 2, "--threads", 1, "--minutes", 1e-9)
    run(small, monkeypatch, *options, "--data", path)
    model = pretrained.load(tmp_path / "model")
    assert (model.shape, model.num_classes, model.predicts) == ((3, 32, 32), 10, "noise")
    with pytest.raises(SystemExit):
        run(small, monkeypatch, *options, "--data", tmp_path / "nothing.npz")


@pytest.mark.parametrize("name", ["digits-flow", "digits-cosine", "digits-cosine-v", "digits-edm", "cifar10-small"])
def test_a_target_is_what_the_library_reads(script: Callable[[str], ModuleType], name: str) -> None:
    """A network that says exactly its target is read by the config's schedule as the data that it was made from, at each label."""
    process = script("small").PROCESSES[name]()
    draw = process.draw(torch.tensor([0.03, 0.2, 0.5, 0.8, 0.97], dtype=torch.float64))
    x_0, noise = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    target = draw.data * x_0 + draw.eps * noise
    config = dict(process.scheduler.config)
    schedule, seen = schedule_from_config(config), []

    def network(x: Any, label: Any) -> Any:
        seen.append((float(x), float(label)))
        return target[len(seen) - 1].reshape(1, 1)

    raw = edm_preconditioned(network, config["sigma_data"]) if "sigma_data" in config else network
    denoiser = dpm.Denoiser(raw, schedule, predicts_from_config(config))
    for i in range(5):
        state = (draw.alpha * x_0 + draw.sigma * noise)[i].reshape(1, 1)
        label = draw.sigma[i] if "sigma_data" in config else draw.label[i]
        found = denoiser.at(state, schedule.time_from_label(float(label)), "data")
        assert seen[i] == pytest.approx((float(draw.scale[i] * state), float(draw.label[i])), rel=1e-5, abs=1e-6)
        assert float(found) == pytest.approx(float(x_0[i]), rel=1e-3, abs=1e-3)


def test_names_of_the_scripts_are_the_names_of_the_library(script: Callable[[str], ModuleType]) -> None:
    """Each trained network has its training."""
    assert tuple(script("small").PROCESSES) == trained.PICTURES
    assert tuple(script("moons").PROCESSES) == trained.MOONS


def test_a_copy_of_cifar10_that_is_not_whole_is_told_in_one_line(
    script: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No such folder, torchvision missing, a download that was cut off: one line that says what to do, before anything is trained."""
    small, command = script("small"), ("cifar10-small", "--run", tmp_path / "run", "--data")

    def refused(folder: Path) -> str:
        with pytest.raises(SystemExit):
            run(small, monkeypatch, *command, folder)
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "has no folder cifar-10-batches-py: name the folder that torchvision downloaded to" in refused(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert "pip install torchvision" in refused(tmp_path)

    def cut_off(*args: object, **options: object) -> None:
        raise RuntimeError("Dataset not found or corrupted.")

    datasets = ModuleType("torchvision.datasets")
    datasets.CIFAR10 = cut_off  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    assert "is not a whole CIFAR-10 (Dataset not found or corrupted.)" in refused(tmp_path)
