"""Testbeds: what each of them promises to those who sample from it, whatever it is made of, and how it is named."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.evaluation.distances import sliced_wasserstein, trajectory_error
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.models import feature_networks
from dpmsolver.models.closed_form import Gaussian
from dpmsolver.models.pretrained import DIGITS
from dpmsolver.models.testbeds import TESTBEDS, Testbed, load_testbed
from tiny import saved, tiny_unet

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

CLOSED_FORM = [name for name in TESTBEDS if name not in ("digits", "cifar10")]


@pytest.fixture(scope="module")
def testbeds() -> dict[str, Testbed]:
    return {name: load_testbed(name) for name in TESTBEDS}


def draw(testbed: Testbed, part: range, nfe: int = 20, **options: Any) -> Any:
    return dpm.sample(
        testbed.denoiser(testbed.labels(part)),
        testbed.initial_noise(part, seed=3),
        nfe=nfe,
        generator=testbed.keys(part, seed=3),
        **options,
    )


@pytest.mark.parametrize("name", TESTBEDS)
def test_a_batch_is_a_part_of_an_endless_set_of_samples(testbeds: dict[str, Testbed], name: str) -> None:
    """Start, class, added noise and result of sample i are the same whatever the batch; states have `like`'s framework and type."""
    testbed, options = testbeds[name], {"solver": "dpm++2m-sde", "nfe": 4}
    whole, part = draw(testbed, range(6, 11), **options), draw(testbed, range(8, 10), **options)
    assert tuple(whole.shape) == (5, *testbed.shape)
    assert type(whole) is type(testbed.like)
    assert whole.dtype == testbed.like.dtype
    np.testing.assert_allclose(
        np.asarray(whole[2:4]), np.asarray(part), atol=1e-3 if name in ("digits", "cifar10") else 1e-10
    )
    assert abs(np.asarray(whole[0] - whole[1])).max() > 1e-3


def test_classes_come_in_turn(testbeds: dict[str, Testbed]) -> None:
    """Sample i has class i % 10, and where there are no classes nothing."""
    assert testbeds["digits"].labels(range(8, 12)) == [8, 9, 0, 1]
    assert testbeds["gaussian"].labels(range(3)) is None


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_samples_follow_the_law_of_the_data(testbeds: dict[str, Testbed], name: str) -> None:
    """Samples of the ODE are as near to exact draws as two sets of exact draws are to each other, but for a little."""
    testbed = testbeds[name]
    assert testbed.data is not None
    data, more = testbed.data(300, 0), testbed.data(300, 1)
    limit, start = sliced_wasserstein(data, more), sliced_wasserstein(testbed.initial_noise(range(300)), more)
    reached = sliced_wasserstein(draw(testbed, range(300), nfe=30, solver="dpm++2m"), more)
    assert reached < 1.5 * limit + 0.02
    assert start > 3.0 * reached


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_states_are_as_large_as_pictures(testbeds: dict[str, Testbed], name: str) -> None:
    """A standard deviation of 0.4 to 0.75, so that the schedule, which was made for pixels in [-1, 1], fits; draws depend on the seed."""
    data = testbeds[name].data
    assert data is not None
    assert 0.4 < data(400, 0).std() < 0.75
    np.testing.assert_array_equal(data(5, 2), data(5, 2))
    assert (data(5, 2) != data(5, 3)).any()


def test_the_gaussian_knows_its_trajectories(testbeds: dict[str, Testbed]) -> None:
    """The closed form from start to end is where many evaluations lead."""
    testbed, part = testbeds["gaussian"], range(20)
    assert testbed.gaussian is not None
    end = testbed.schedule.last_time(1000)
    exact = testbed.gaussian.trajectory(testbed.schedule, testbed.initial_noise(part, seed=3), 1.0, end)
    reached = draw(testbed, part, nfe=400, solver="dpm++3m-exact", end=end)
    assert trajectory_error(reached, exact).max() < 1e-4
    variances = testbed.gaussian.variances[0]
    np.testing.assert_allclose(variances * np.arange(1, 65), variances[0])  # the spectrum falls as 1/k


@pytest.mark.parametrize("name", ["mixture-2", "mixture-16", "mixture-3072"])
@pytest.mark.parametrize("t", [0.001, 0.1, 0.5, 1.0])
def test_mixtures_predict_the_noise_that_their_density_says(testbeds: dict[str, Testbed], name: str, t: float) -> None:
    """eps = (x - alpha E[x_0|x])/sigma, the mean over components weighted by their densities, one component and one sample at a time."""
    testbed = testbeds[name]
    law = testbed.data.__self__  # type: ignore[union-attr]
    alpha, sigma = testbed.schedule.alpha(t), testbed.schedule.sigma(t)
    x = alpha * law.sample(3) + sigma * np.random.default_rng(0).standard_normal((3, *testbed.shape))
    found = testbed.denoiser().network(x, np.full(3, testbed.schedule.label(t)))
    for one, noise in zip(x, found, strict=True):
        logs, means = [], []
        for mean, variance in zip(law.means, law.variances, strict=True):
            total = alpha**2 * variance + sigma**2
            logs.append(-0.5 * ((one - alpha * mean) ** 2 / total + np.log(total)).sum())
            means.append(mean + alpha * variance / total * (one - alpha * mean))
        weights = np.exp(np.array(logs) - max(logs))
        expected = (one - alpha * (weights / weights.sum()) @ np.array(means)) / sigma
        np.testing.assert_allclose(noise, expected, atol=1e-9)


def test_closed_forms_take_torch_states_as_well(testbeds: dict[str, Testbed]) -> None:
    """So that the samplers of other packages run on them, in float32 or float64."""
    testbed = testbeds["mixture-16"]
    x, t = testbed.initial_noise(range(4)), np.full(4, 500.0)
    network = testbed.denoiser().network
    np.testing.assert_allclose(network(torch.tensor(x), torch.tensor(t)).numpy(), network(x, t), rtol=1e-12)
    assert network(torch.tensor(x).float(), torch.tensor(t).float()).dtype == torch.float32


def test_digits_are_recognised_and_measured(testbeds: dict[str, Testbed]) -> None:
    """Ten evaluations draw the digits that were asked for, near to MNIST's features; noise is far from them."""
    testbed, part = testbeds["digits"], range(40)
    samples = draw(testbed, part, nfe=10, solver="dpm++2m")
    assert testbed.classify is not None
    assert testbed.features is not None
    assert testbed.feature_statistics is not None
    assert (testbed.classify(samples) == np.array(testbed.labels(part))).mean() > 0.85
    features = testbed.features(samples)
    assert features.shape == (40, 64)
    assert features.dtype == np.float64
    near, far = (
        frechet_distance_to(each, *testbed.feature_statistics)
        for each in (features, testbed.features(testbed.initial_noise(part)))
    )
    assert near < 20.0
    assert far > 5.0 * near


def test_the_yardstick_of_digits_is_the_one_that_is_published(testbeds: dict[str, Testbed]) -> None:
    """Frechet distance of MNIST's test set to its training set: `benchmarks/digits.py` measured 0.0523 from the pictures themselves."""
    assert testbeds["digits"].feature_yardstick == pytest.approx(0.0523, abs=5e-5)


def test_features_see_pixels_clamped_to_their_range(testbeds: dict[str, Testbed]) -> None:
    """Samples overshoot [-1, 1] a little, and pictures do not."""
    features, noise = testbeds["digits"].features, 3.0 * testbeds["digits"].initial_noise(range(3))
    assert features is not None
    np.testing.assert_array_equal(features(noise), features(noise.clamp(-1, 1)))


def test_bfloat16_is_the_same_network_in_bfloat16() -> None:
    """Near to float32, not equal to it; states stay float32."""
    full, half = load_testbed("digits"), load_testbed("digits", bfloat16=True)
    part = range(2)
    a, b = (draw(testbed, part, nfe=5) for testbed in (full, half))
    assert (full.bfloat16, half.bfloat16) == (False, True)
    assert b.dtype == torch.float32
    assert 1e-5 < trajectory_error(a, b).mean() < 0.1


def test_a_compiled_network_draws_what_the_plain_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compiled` hands the network to torch.compile, once for all batches. Its C++ takes a minute: here it traces only."""
    compiled, seen = torch.compile, []

    def traced(network: Any) -> Any:
        seen.append(network)
        return compiled(network, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    plain, testbed = load_testbed("digits"), load_testbed("digits", compiled=True)
    for part in (range(2), range(2, 4)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what it traces through
            a, b = draw(plain, part, nfe=2), draw(testbed, part, nfe=2)
        assert trajectory_error(a, b).max() < 1e-4
    assert len(seen) == 1


def test_a_machine_that_cannot_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch does without a C++ compiler, on the first call; an error of the network itself is not taken for it."""
    from torch._inductor.exc import InvalidCxxCompiler

    def failing(error: Exception) -> Any:
        def run(*_: Any, **__: Any) -> Any:
            raise error

        return lambda network: run

    monkeypatch.setattr(torch, "compile", failing(InvalidCxxCompiler()))
    with pytest.raises(
        ValueError, match=r"cannot be compiled here \(No working C\+\+ compiler .*do without compiled=True"
    ):
        draw(load_testbed("digits", compiled=True), range(1), nfe=1)
    monkeypatch.setattr(torch, "compile", failing(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        draw(load_testbed("digits", compiled=True), range(1), nfe=1)


# Folders, Inception, statistics ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of pictures 3 x 8 x 8 in diffusers format, not trained."""
    return saved(tmp_path_factory.mktemp("models") / "tiny", tiny_unet())


@pytest.fixture
def inception(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of Inception: a network with its interface, whose 2048 features are the means of the channels, over and over."""

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, pictures: Any) -> Any:
            assert pictures.dtype == torch.uint8
            assert pictures.shape[1] == 3
            assert len(pictures) <= 50
            return pictures.float().mean(dim=(2, 3)).repeat(1, 683)[:, :2048]

    monkeypatch.setattr(feature_networks, "_inception_network", Network)


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    return tmp_path / "stats.npz"


def test_a_folder_without_statistics_measures_no_features(folder: Path) -> None:
    testbed = load_testbed(str(folder))
    assert (testbed.name, testbed.shape, testbed.pictures, testbed.num_classes) == ("tiny", (3, 8, 8), True, None)
    assert (testbed.features, testbed.feature_statistics, testbed.classify, testbed.data) == (None, None, None, None)
    assert draw(testbed, range(2), nfe=2).shape == (2, 3, 8, 8)


def test_digits_by_their_folder_have_their_measures_when_asked() -> None:
    testbed = load_testbed(str(DIGITS), features="digits")
    assert testbed.feature_statistics is not None
    assert testbed.classify is not None
    assert load_testbed("digits", features="none").features is None


@pytest.mark.parametrize("features", ["auto", "inception"])
@pytest.mark.usefixtures("inception")
def test_inception_sees_bytes(folder: Path, statistics: Path, features: Any) -> None:
    """Pictures with statistics of their data are measured with Inception: -1 is byte 0 and 1 is byte 255, in batches."""
    testbed = load_testbed(str(folder), features=features, statistics=statistics)
    assert testbed.features is not None
    assert testbed.feature_statistics is not None
    levels = np.arange(-20, 275)
    pixels = torch.tensor((levels + 0.3) / 127.5 - 1.0)[:, None, None, None].expand(-1, 3, 8, 8)
    found, expected = testbed.features(pixels), levels.clip(0, 255)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 2048, axis=1), atol=1e-4)


@pytest.mark.usefixtures("inception")
def test_inception_sees_grey_pictures_in_three_channels() -> None:
    network = feature_networks.load("inception", (1, 28, 28))
    assert network.features(torch.zeros(2, 1, 28, 28)).shape == (2, 2048)


def test_statistics_are_read_from_safetensors_and_npz(tmp_path: Path) -> None:
    """Under the names that they have there."""
    from safetensors.numpy import save_file

    mean, covariance = np.arange(3.0), np.diag([1.0, 2.0, 3.0])
    save_file({"mean": mean, "covariance": covariance, "yardstick": np.array(0.5)}, tmp_path / "a.safetensors")
    np.savez(tmp_path / "b.npz", mu=mean, sigma=covariance)
    for name, yardstick in (("a.safetensors", 0.5), ("b.npz", None)):
        found = feature_networks.load_statistics(tmp_path / name)
        np.testing.assert_array_equal(found.mean, mean)
        np.testing.assert_array_equal(found.covariance, covariance)
        assert found.yardstick == yardstick


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": np.zeros(3)}, "must hold mu and sigma, it holds mean"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, r"got \(3,\) and \(2, 2\)"),
        ({"mu": np.full(2, np.nan), "sigma": np.eye(2)}, "finite numbers"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0.0, 1.0]])}, "symmetric covariance"),
        ({"mu": np.zeros(2), "sigma": np.eye(2)}, "holds 2 features, digits has 64"),
    ],
)
def test_wrong_statistics_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    """The message names the file and what is wrong with it."""
    np.savez(tmp_path / "stats.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_testbed("digits", features="digits", statistics=tmp_path / "stats.npz")


def test_files_that_are_no_statistics_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("hello")
    (tmp_path / "b.npz").write_text("hello")
    for name in ("a.safetensors", "b.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as statistics"):
            feature_networks.load_statistics(tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        feature_networks.load_statistics(tmp_path / "c.npz")


def test_inception_that_is_not_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, statistics: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(ImportError, match=r"pip install 'dpmsolver\[evaluation\]'"):
        load_testbed(str(folder), features="inception", statistics=statistics)


def test_inception_whose_weights_are_not_to_be_had_says_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, and not yet downloaded."""

    def no_network(*args: Any, **options: Any) -> Any:
        raise OSError("Name or service not known")

    fid = pytest.importorskip("torchmetrics.image.fid")
    monkeypatch.setattr(fid, "NoTrainInceptionV3", no_network)
    with pytest.raises(ValueError, match=r"not known\): put https://.*\.pth into .*checkpoints"):
        feature_networks.load("inception", (3, 32, 32))


# A user's own ---------------------------------------------------------------------------------------------------------------------

OWN = """
import numpy as np
import dpmsolver as dpm
from dpmsolver.models.testbeds import Testbed
from neighbour import VARIANCE

def line():
    law, schedule = dpm.models.Gaussian(mean=[1.0], variance=[VARIANCE]), dpm.schedules.EDM()
    return Testbed("line", schedule, (1,), np.empty(0), lambda labels: law.denoiser(schedule), gaussian=law)

def number():
    return 7

def broken():
    return 1 / 0
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("VARIANCE = 0.25\n")
    (tmp_path / "own_testbed.py").write_text(OWN)
    (tmp_path / "syntax.py").write_text("def\n")
    return tmp_path / "own_testbed.py"


def test_a_file_or_module_of_ones_own(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By path, with the modules beside it; by module, from the working folder. The path of imports stays as it was."""
    before = list(sys.path)
    testbed = load_testbed(f"{own}:line")
    assert draw(testbed, range(3), nfe=5).shape == (3, 1)
    monkeypatch.chdir(own.parent)
    assert load_testbed("own_testbed:line").name == "line"
    assert sys.path == before
    for module in ("own_testbed", "neighbour"):
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{own}:lime", r"unknown function in .*own_testbed.py 'lime' \(did you mean 'line'\?\)"),
        ("{own}:number", "must return a dpmsolver.models.testbeds.Testbed, got int"),
        ("{own}:broken", "raised ZeroDivisionError: division by zero"),
        ("{own}:VARIANCE", "unknown function"),
        ("{own}:", "is written path/to/file.py:function"),
        ("{own}x.py:line", "there is no file"),
        ("{folder}/syntax.py:line", "cannot be run: SyntaxError"),
        ("no_such_module_at_all:line", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_with_ones_own_is_said(own: Path, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_testbed(name.format(own=own, folder=own.parent))


# Refusals -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digit", {}, r"unknown testbed 'digit' \(did you mean 'digits'\?\); .*: cifar10, digits, gaussian"),
        ("mixture-8", {}, "did you mean 'mixture-"),
        ("", {}, "unknown testbed ''"),
        ("digits", {"features": "inceptoin"}, r"unknown features 'inceptoin' \(did you mean 'inception'\?\)"),
        ("digits", {"features": "inception"}, "features='inception' needs the statistics of data"),
        ("digits", {"features": "none", "statistics": "x.npz"}, "drop one of the two"),
        ("digits", {"features": "digits", "statistics": "x.npz"}, "there is no file x.npz"),
        ("digits", {"device": "abacus"}, "device 'abacus' cannot be used here"),
        ("gaussian", {"device": "cuda"}, "gaussian is known in closed form: device, features, statistics"),
        ("gaussian", {"features": "digits"}, "gaussian is known in closed form"),
        ("gaussian", {"compiled": True}, "gaussian is known in closed form: device, features, statistics and compiled"),
        ("gaussian", {"bfloat16": True}, "bfloat16=True needs a torch network, and gaussian runs in NumPy"),
        ("file.py:function", {"features": "none"}, "says by itself"),
    ],
)
def test_wrong_names_and_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    """Before anything is loaded, with the nearest name."""
    with pytest.raises(ValueError, match=message):
        load_testbed(name, **options)


def test_features_of_digits_need_digits(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"sees pictures of shape \(1, 28, 28\), samples have \(3, 8, 8\)"):
        load_testbed(str(folder), features="digits")


def test_features_of_other_samples_are_refused(testbeds: dict[str, Testbed]) -> None:
    """Other shapes, other frameworks, none at all."""
    features = testbeds["digits"].features
    assert features is not None
    for samples in (torch.zeros(2, 1, 14, 14), torch.zeros(0, 1, 28, 28), np.zeros((2, 1, 28, 28))):
        with pytest.raises(ValueError, match=r"samples must be a torch tensor \(n, 1, 28, 28\)"):
            features(samples)


SCHEDULE = dpm.schedules.LinearVP()
LAW = Gaussian(mean=[0.0, 0.0], variance=[1.0, 1.0])
DENOISER = LAW.denoiser(SCHEDULE)


def made(**changes: Any) -> Testbed:
    settings: dict[str, Any] = {
        "name": "mine",
        "schedule": SCHEDULE,
        "shape": (2,),
        "like": np.empty(0),
        "network_denoiser": lambda labels: DENOISER,
    }
    return Testbed(**{**settings, **changes})


def nothing(labels: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: made(schedule="linear"), TypeError, "schedule must be a NoiseSchedule, got str"),
        (lambda: made(shape=()), ValueError, r"shape must be the shape of one sample, .* got \(\)"),
        (lambda: made(shape=(0, 2)), ValueError, "shape must be the shape of one sample"),
        (lambda: made(shape=2), ValueError, "shape must be the shape of one sample"),
        (lambda: made(pictures=True), ValueError, r"pictures have the shape \(1 or 3, height, width\)"),
        (lambda: made(like=np.empty(0, dtype=int)), TypeError, "like must be a floating-point array, got int64"),
        (lambda: made(like=[1.0]), TypeError, "array of NumPy, torch or JAX"),
        (lambda: made(network_denoiser=None), TypeError, "network_denoiser must be a function, got NoneType"),
        (lambda: made(data=np.zeros((3, 2))), TypeError, "data must be a function, got ndarray"),
        (lambda: made(num_classes=0), ValueError, "num_classes must be an integer >= 1 or None, got 0"),
        (lambda: made(feature_statistics=(np.zeros(3), np.eye(2))), ValueError, r"got \(3,\), \(2, 2\)"),
        (lambda: made(gaussian="normal"), TypeError, r"gaussian must be a models\.Gaussian, got str"),
        (lambda: made(shape=(3,), gaussian=LAW), ValueError, r"gaussian has the shape \(2,\), samples have \(3,\)"),
        (lambda: made(network_denoiser=nothing).denoiser(), TypeError, "must return a Denoiser, got NoneType"),
        (lambda: made().initial_noise(range(0)), ValueError, "at least one sample"),
        (lambda: made().initial_noise(range(2), seed=-1), ValueError, "seeds must be >= 0"),
    ],
)
def test_testbeds_that_do_not_fit_together_are_refused(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    """When they are made, where that is possible."""
    with pytest.raises(error, match=message):
        make()


def test_closed_forms_and_measures_need_no_framework() -> None:
    """Importing them, and loading a testbed in closed form, imports neither torch nor diffusers nor torchmetrics."""
    code = (
        "import sys, dpmsolver.evaluation.frechet, dpmsolver.evaluation.distances\n"
        "from dpmsolver.models.testbeds import load_testbed\n"
        "load_testbed('gaussian').initial_noise(range(2))\n"
        "found = {'torch', 'diffusers', 'torchmetrics', 'torchvision'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["digits", "cifar10-mixture"])
def test_a_testbed_with_classes_can_be_guided(testbeds: dict[str, Testbed], name: str) -> None:
    """Scale 1 is the plain network; another pushes the output away from that without a class."""
    testbed = testbeds[name]
    x = testbed.initial_noise(range(2), seed=0)
    plain, one, more = (testbed.denoiser([3, 5], scale).at(x, 0.5) for scale in (1.0, 1.0, 3.0))
    assert bool((plain == one).all())
    assert float(abs(more - plain).max()) > 1e-3


def test_a_testbed_without_classes_cannot_be_guided(testbeds: dict[str, Testbed]) -> None:
    with pytest.raises(ValueError, match="mixture-2 cannot be guided: its network knows no classes"):
        testbeds["mixture-2"].denoiser(None, 2.0)
