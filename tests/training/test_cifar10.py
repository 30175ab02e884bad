"""Training of `cifar10` in small: it stops when asked, goes on where it was, and what it exports is a model like any other."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.models import pretrained

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
Image = pytest.importorskip("PIL.Image")

TRAINING = Path(__file__).parents[2] / "training"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of training/, imported as a script sees it."""
    monkeypatch.syspath_prepend(TRAINING)
    for name in ("common", "cifar10_data", "cifar10", "cifar10_classifier"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return lambda name: __import__(name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures per split, of one colour each, as JPEG and sorted by class."""
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        encoded, offsets = b"", [0]
        for i in range(12):
            out = io.BytesIO()
            Image.new("RGB", (32, 32), (20 * i, 255 - 20 * i, 128)).save(out, "JPEG", quality=95)
            encoded += out.getvalue()
            offsets.append(len(encoded))
        arrays |= {f"{split}_jpeg": np.frombuffer(encoded, np.uint8), f"{split}_offsets": np.array(offsets)}
        arrays[f"{split}_labels"] = np.minimum(np.arange(12), 9)
    path = tmp_path_factory.mktemp("data") / "cifar10_jpeg.npz"
    np.savez(path, **arrays)
    return path


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, options), "--device", "cpu"])
    module.main()


def terminate_at(module: ModuleType, name: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM to this process at the given call of the module's function, which is called all the same."""
    function, calls = getattr(module, name), []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments)

    monkeypatch.setattr(module, name, counted)


def pixels_of(model: pretrained.Pretrained) -> Any:
    return dpm.sample(model.denoiser([3, 7]), model.initial_noise(2, seed=1), nfe=2)


def test_a_run_that_is_killed_goes_on_where_it_was_and_its_export_draws(
    script: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGTERM in step 3: three steps are kept, with the optimizer's; the next call takes the fourth. The export is of the average."""
    cifar10 = script("cifar10")
    options = ("--data", data, "--run", tmp_path, "--width", 8, "--batch", 4)
    terminate_at(cifar10, "noise_loss", 3, monkeypatch)
    run(cifar10, monkeypatch, *options, "--minutes", 5)
    assert "stopped, and the same command goes on: 3 steps, 12 images" in capsys.readouterr().out
    stopped = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert stopped["step"] == 3
    assert {float(state["step"]) for state in stopped["optimizer"]["state"].values()} == {3.0}
    # As if the budget of this call ended with its first step.
    run(cifar10, monkeypatch, *options, "--minutes", (stopped["elapsed"] + 1e-6) / 60)
    said = capsys.readouterr().out
    assert "resumed at step 3" in said
    assert "done: 4 steps" in said
    finished = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert finished["step"] == 4
    assert finished["elapsed"] > stopped["elapsed"]
    assert {float(state["step"]) for state in finished["optimizer"]["state"].values()} == {4.0}

    model = pretrained.load(tmp_path / "model")
    assert (model.shape, model.num_classes, model.null_label, model.predicts) == ((3, 32, 32), 10, 10, "noise")
    weights = model.network.module.state_dict()  # type: ignore[attr-defined]
    for name, value in finished["ema"].items():
        torch.testing.assert_close(weights[name], value.half().float())
    assert tuple(pixels_of(model).shape) == (2, 3, 32, 32)
    assert "12 training pictures of CIFAR-10, recompressed as JPEG" in (tmp_path / "model" / "README.md").read_text()


def test_a_run_goes_on_from_an_exported_model_with_part_of_its_minutes_spent(
    script: Callable[[str], ModuleType], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--init --spent`: the exported weights, and the learning rate of the minutes that are left."""
    cifar10 = script("cifar10")
    torch.manual_seed(0)
    cifar10.export(cifar10.build_unet(8), cifar10.build_unet(8), cifar10.NULL_LABEL, tmp_path / "model")
    options = ("--data", data, "--width", 8, "--batch", 4, "--stop-after", 0, "--minutes", 9, "--spent", 4)
    run(cifar10, monkeypatch, *options, "--init", tmp_path / "model", "--run", tmp_path / "again")
    state = torch.load(tmp_path / "again" / "checkpoint.pt", weights_only=True)
    assert (state["step"], state["elapsed"]) == (0, 240.0)
    first, again = (pretrained.load(tmp_path / folder) for folder in ("model", "again/model"))
    torch.testing.assert_close(pixels_of(first), pixels_of(again))


def test_where_nothing_compiles_training_goes_on_without(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message with the compiler's own cause, and the network as it was, without gradients."""
    common = script("common")

    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand a long trace")

    net = torch.nn.Linear(2, 1)
    monkeypatch.setattr(torch, "compile", lambda module: broken)
    chosen = common.compiled(net, lambda module: module(torch.ones(3, 2)).sum(), wanted=True)
    assert chosen is net
    assert net.weight.grad is None
    assert capsys.readouterr().out == (
        "torch.compile does not work here (no C++ compiler): going on without it, more slowly\n"
    )


def test_a_loss_that_is_not_finite_leaves_the_checkpoint_alone(script: Callable[[str], ModuleType]) -> None:
    """The run ends with an error that names the step, and nothing is saved."""
    common = script("common")

    class Broken:
        step, elapsed, progress = 7, 0.0, 0.0

        def update(self, loss: Any) -> None:
            self.progress = 1.0

    saved: list[int] = []
    with pytest.raises(FloatingPointError, match="nan at step 7"):
        common.train(Broken(), lambda: torch.tensor(torch.nan), lambda: saved.append(1), common.Stop())
    assert saved == []


def test_the_network_fits_into_sixteen_megabytes(script: Callable[[str], ModuleType]) -> None:
    """In half precision, with self-attention at 16 x 16 and at no larger size."""
    unet = script("cifar10").build_unet()
    assert 7.5e6 < sum(weight.numel() for weight in unet.parameters()) < 7.95e6
    assert unet.config.down_block_types[1] == "AttnDownBlock2D"
    assert unet.config.down_block_types[0] == unet.config.up_block_types[-1].replace("Up", "Down") == "DownBlock2D"


def test_the_classifier_goes_on_and_writes_features_and_statistics(
    script: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGTERM in the first of two steps: the second call takes the second. The files are what the library loads, and small."""
    from dpmsolver.evaluation.frechet import feature_statistics
    from dpmsolver.models import cifar10_classifier as model
    from dpmsolver.models import feature_networks
    from dpmsolver.models.feature_networks import load_statistics

    training = script("cifar10_classifier")
    options = ("--data", data, "--out", tmp_path, "--epochs", 1, "--batch", 6)
    with monkeypatch.context() as patched:
        terminate_at(training, "with_hole", 1, patched)
        run(training, patched, *options)
    assert "goes on: 1 of 2 steps" in capsys.readouterr().out
    run(training, monkeypatch, *options)
    said = capsys.readouterr().out
    assert "resumed at step 1 of 2" in said
    assert "done: test accuracy" in said

    weights, statistics = tmp_path / training.WEIGHTS, load_statistics(tmp_path / training.STATISTICS)
    assert weights.stat().st_size < 3_000_000
    pictures = training.load_pictures(data, "train")
    classifier = model.load_classifier(weights)
    features = classifier.features(training.to_float(pictures.images))
    assert features.shape == (12, model.FEATURES)
    mean, covariance = feature_statistics(features.double().numpy())
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics.covariance, covariance, rtol=1e-3, atol=1e-5)
    assert statistics.yardstick == pytest.approx(0.0, abs=1e-3)  # the test pictures are the training pictures
    with pytest.raises(ValueError, match=r"images must have shape \(B, 3, 32, 32\), got \(1, 1, 28, 28\)"):
        classifier.features(torch.zeros(1, 1, 28, 28))

    monkeypatch.setattr(model, "WEIGHTS", tmp_path / "nothing.safetensors")
    assert not feature_networks.has_weights("cifar10")
    with pytest.raises(ValueError, match=r"features='cifar10' has no weights in .*training/README\.md"):
        feature_networks.load("cifar10", model.SHAPE)
    monkeypatch.setattr(model, "WEIGHTS", weights)
    assert feature_networks.has_weights("cifar10")
    network = feature_networks.load("cifar10", model.SHAPE)
    np.testing.assert_allclose(network.features(training.to_float(pictures.images)), features, rtol=1e-4, atol=1e-5)
    assert network.classify is not None
    assert network.classify(training.to_float(pictures.images)).shape == (12,)
    assert (network.width, network.num_classes) == (model.FEATURES, model.CLASSES)
    with pytest.raises(ValueError, match=r"features='cifar10' sees pictures of shape \(3, 32, 32\)"):
        feature_networks.load("cifar10", (1, 28, 28))


def test_augmentations_move_and_cut_and_change_nothing_else(script: Callable[[str], ModuleType]) -> None:
    """A shift by up to four pixels keeps the middle of a picture somewhere; a hole is grey and at most 8 x 8; a flip is a mirror."""
    training = script("cifar10_classifier")
    torch.manual_seed(0)
    images = torch.rand(64, 3, 32, 32) + 1.0
    moved = training.shifted(images)
    places = [(r, c) for r in range(9) for c in range(9)]
    for before, after in zip(images, moved, strict=True):
        middle = before[:, 8:24, 8:24]
        assert any(torch.equal(after[:, 4 + r : 20 + r, 4 + c : 20 + c], middle) for r, c in places)
    cut = training.with_hole(images)
    assert torch.equal(cut[cut != 0], images[cut != 0])
    holes = (cut == 0).all(dim=1).sum(dim=(1, 2))
    assert 16 <= holes.min() <= holes.max() == 64
    mirrored = training.flipped(images)
    flips = [torch.equal(m, i.flip(-1)) for m, i in zip(mirrored, images, strict=True)]
    assert all(f or torch.equal(m, i) for f, m, i in zip(flips, mirrored, images, strict=True))
    assert 16 < sum(flips) < 48


def test_pictures_are_what_was_encoded_and_a_limit_takes_all_classes(
    script: Callable[[str], ModuleType], data: Path
) -> None:
    """Within JPEG's error of the colour; four of twelve sorted pictures are spread over the classes."""
    module = script("cifar10_data")
    pictures = module.load_pictures(data, "test", limit=4)
    assert pictures.images.dtype == torch.uint8
    assert pictures.labels.tolist() == [0, 3, 7, 9]
    np.testing.assert_allclose(pictures.images[1, :, 5, 9].tolist(), (60, 195, 128), atol=4)
    floats = module.to_float(torch.tensor([0, 255], dtype=torch.uint8))
    assert floats.tolist() == [-1.0, 1.0]


def test_data_of_no_known_kind_is_refused(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Another file, an empty folder, and torchvision's folder without torchvision: each with what to do."""
    module = script("cifar10_data")
    with pytest.raises(ValueError, match=r"neither a file cifar10_jpeg\.npz nor a folder"):
        module.load_pictures(tmp_path / "nothing.npz", "train")
    with pytest.raises(ValueError, match="has no folder cifar-10-batches-py"):
        module.load_pictures(tmp_path, "train")
    np.savez(tmp_path / "other.npz", train_images=np.zeros(1))
    with pytest.raises(ValueError, match="has no train_jpeg; it holds train_images"):
        module.load_pictures(tmp_path / "other.npz", "train")
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="pip install torchvision"):
        module.load_pictures(tmp_path, "train")
    with pytest.raises(SystemExit):
        run(script("cifar10"), monkeypatch, "--data", tmp_path / "nothing.npz")
    assert "neither a file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_driver_goes_through_all_stages_and_leaves_out_what_is_done(data: Path, tmp_path: Path) -> None:
    """A dry run from the data to the checks; the same command again has nothing to do."""
    environment = {**os.environ, "QUICK": "1", "PYTHON": sys.executable}
    command = [TRAINING / "run_cifar10.sh", data, "60", "0.02", tmp_path / "run"]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert "test accuracy" in first
    assert first.splitlines()[-1].startswith("all done")
    assert second.splitlines() == first.splitlines()[-1:]
    assert pretrained.load(tmp_path / "run" / "model").shape == (3, 32, 32)
