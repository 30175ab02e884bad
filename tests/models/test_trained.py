"""The small trained networks of the repository: each is what its schedule says, small, and a testbed like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.evaluation.distances import sliced_wasserstein
from dpmsolver.models import pretrained, trained
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.networks.fingerprint import fingerprint
from dpmsolver.schedules import EDM, Discrete, Flow

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

KINDS = {
    "digits-flow": (Flow, "velocity"),
    "digits-cosine": (Discrete, "noise"),
    "digits-cosine-v": (Discrete, "v"),
    "digits-edm": (EDM, "data"),
    "cifar10-small": (Discrete, "noise"),
    "moons-linear": (Discrete, "noise"),
    "moons-edm": (EDM, "data"),
    "moons-flow": (Flow, "velocity"),
}
DIGITS = [name for name in KINDS if name in trained.DIGITS]


@pytest.fixture(scope="module")
def testbeds() -> dict[str, Testbed]:
    return {name: load_testbed(name) for name in KINDS}


def draw(testbed: Testbed, num: int, nfe: int) -> np.ndarray:
    part = range(num)
    start = testbed.initial_noise(part, seed=0)
    return np.asarray(dpm.sample(testbed.denoiser(testbed.labels(part)), start, nfe=nfe), dtype=np.float64)


@pytest.fixture(scope="module")
def pictures(testbeds: dict[str, Testbed]) -> dict[str, np.ndarray]:
    """Ten digits of each network, one of each class."""
    return {name: draw(testbeds[name], 10, nfe=10) for name in DIGITS}


@pytest.mark.parametrize("name", KINDS)
def test_a_network_is_small_and_is_what_its_config_says(testbeds: dict[str, Testbed], name: str) -> None:
    """At most 1.2 MB in half precision, 3 MB in colour; the class of its schedule, its prediction and its shape are those of its name."""
    testbed, (schedule, predicts) = testbeds[name], KINDS[name]
    files = [path for path in trained.folder(name).rglob("*") if path.is_file()]
    colour = name == "cifar10-small"
    assert sum(path.stat().st_size for path in files) < (3e6 if colour else 1.2e6)
    assert isinstance(testbed.schedule, schedule)
    assert testbed.predicts == predicts
    shape = (3, 32, 32) if colour else (1, 28, 28) if name in DIGITS else (2,)
    assert (testbed.shape, testbed.num_classes) == (shape, 10 if len(shape) == 3 else None)


@pytest.mark.parametrize("name", DIGITS)
def test_a_network_of_digits_draws_the_digits_that_it_is_told(
    testbeds: dict[str, Testbed], pictures: dict[str, np.ndarray], name: str
) -> None:
    """One picture of each class: finite, most pixels black or white, and at least seven of ten are the digit that was wanted."""
    testbed, drawn = testbeds[name], pictures[name]
    assert testbed.classify is not None
    assert testbed.feature_statistics is not None
    assert np.isfinite(drawn).all()
    assert 0.8 < np.median(np.abs(drawn)) < 1.2
    assert (testbed.classify(torch.from_numpy(drawn)) == np.arange(10)).sum() >= 7


@pytest.mark.parametrize("name", DIGITS)
def test_the_convention_of_a_network_of_digits_is_the_one_that_was_trained(
    testbeds: dict[str, Testbed], pictures: dict[str, np.ndarray], name: str
) -> None:
    """What `dpm.check` measures on some of the network's own samples agrees with the config: labels, scale of the state, prediction."""
    data = torch.from_numpy(pictures[name][:5]).float().clamp(-1.0, 1.0)
    assert dpm.check(testbeds[name].denoiser(range(5)), data, levels=3).fits


@pytest.mark.parametrize("name", trained.MOONS)
def test_samples_of_the_moons_follow_their_data(testbeds: dict[str, Testbed], name: str) -> None:
    """Nearer to exact draws than three times the distance of two sets of these; the convention is the one that was trained."""
    testbed = testbeds[name]
    assert testbed.data is not None
    data, more = testbed.data(500, 1), testbed.data(500, 2)
    samples = draw(testbed, 500, nfe=20)
    assert sliced_wasserstein(samples, data) < 3.0 * sliced_wasserstein(data, more)
    assert dpm.check(testbed.denoiser(), testbed.data(200, 3)).fits


@pytest.mark.parametrize("name", trained.MOONS)
def test_the_moons_are_bound_to_no_torch(testbeds: dict[str, Testbed], name: str) -> None:
    """Float64 in NumPy, known by its weights, one label per point like one for all; torch's options are refused."""
    network = testbeds[name].denoiser().network
    x = testbeds[name].initial_noise(range(3))
    assert x.dtype == np.float64
    label = testbeds[name].schedule.label(testbeds[name].schedule.t_max)
    np.testing.assert_array_equal(network(x, np.full(3, label)), network(x, np.array([label])))
    assert len({fingerprint(testbeds[each].denoiser().network) for each in trained.MOONS}) == len(trained.MOONS)
    with pytest.raises(ValueError, match=f"{name} runs in NumPy: device, features, statistics and compiled are not"):
        load_testbed(name, device="cpu")
    with pytest.raises(ValueError, match="was made for a schedule"):
        load_testbed(name, schedule=EDM())


def test_a_network_of_digits_loads_by_its_name_as_a_model() -> None:
    """`models.load` and `outline` know the names; the null label makes guidance possible."""
    name = DIGITS[0]
    model, outline = pretrained.load(name), pretrained.outline(name)
    assert outline is not None
    assert (model.shape, model.null_label, model.predicts) == (outline.shape, 10, outline.predicts)
    count = sum(weight.numel() for weight in model.network.module.parameters())  # type: ignore[attr-defined]
    assert 3e5 < count < 6e5


@pytest.mark.parametrize("name", ["digits-edm", "moons-flow"])
def test_an_installed_package_says_where_the_networks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without the repository's folder the message names it and says what to do, in one line."""
    monkeypatch.setattr(trained, "NETWORKS", tmp_path / "training" / "networks")
    with pytest.raises(ValueError, match=f"{name} is not in .*networks: it belongs to the repository.*clone") as caught:
        load_testbed(name)
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_network_of_the_moons_is_refused(tmp_path: Path) -> None:
    """A missing file is told by its name, in one line."""
    with pytest.raises(ValueError, match=r"does not hold a network of the moons: .*scheduler_config\.json"):
        trained.load_moons(tmp_path)


def test_an_unknown_name_is_told_the_nearest_trained_network() -> None:
    """A slip in the name of a trained network is answered with that network."""
    with pytest.raises(ValueError, match="did you mean 'digits-flow'"):
        load_testbed("digits-flwo")
