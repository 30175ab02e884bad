"""Pretrained networks: the embedded ones, folders in diffusers format, and models of the Hugging Face hub.

All of them are pixel-space U-Nets (`UNet2DModel`) with the config of a scheduler, unconditional or with classes; diffusers loads them. A
class-conditional model that was also trained without classes declares it in the config of its unet: `"_null_label": 10` is the label of
"no class", which classifier-free guidance needs. It is the last label.

A scheduler's config may request two corrections of x_0. `thresholding` is always applied, as in all of diffusers' solvers. `clip_sample` is
applied only in `denoiser(clip=True)`: diffusers clips in its first-order schedulers and ignores the field in those of higher order, because
steps are no longer smooth where a prediction is clipped. `Pretrained.notes` tells which of the two a model has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dpmsolver.adapters.diffusers import data_hook_from_config, network, predicts_from_config, schedule_from_config
from dpmsolver.brief import brief_repr, one_line
from dpmsolver.errors import unknown
from dpmsolver.models import trained
from dpmsolver.networks.denoiser import Denoiser
from dpmsolver.networks.guidance import ClassifierFree
from dpmsolver.plans.plan import Point
from dpmsolver.plans.targets import Predicts
from dpmsolver.sampling.forward import initial_noise
from dpmsolver.schedules import NoiseSchedule

if TYPE_CHECKING:
    import torch

__all__ = ["DIGITS", "EMBEDDED", "HUB_ID", "Outline", "Pretrained", "load", "outline"]

_WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = {unet.parent.name: unet.parent for unet in sorted(_WEIGHTS.glob("*/unet"))}  # name -> folder
DIGITS = _WEIGHTS / "digits"
HUB_ID = r"[\w-][\w.-]*/[\w.-]+"
_OTHERS = "a folder in diffusers format, or a hub id (owner/name)"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pretrained network with its conventions; `load` makes one.

    Args:
        network: the network, network(x, t, class_labels=…) -> tensor.
        schedule, predicts, learned_variance: as in `Denoiser`.
        shape: the shape of one sample, (channels, height, width); pixels lie in [-1, 1].
        num_classes: the number of classes, 0 … num_classes - 1; None for an unconditional model.
        null_label: the label of "no class", or None.
        device: the device of the weights.
        data_hook: the dynamic thresholding that the scheduler's config requests; every denoiser has it.
        clipping: the hook of the config's `clip_sample`, which `denoiser(clip=True)` uses.

    Examples:
        >>> import dpmsolver as dpm
        >>> model = load("digits")
        >>> x0 = dpm.sample(model.denoiser([3, 7], guidance=1.5), model.initial_noise(2, seed=0), nfe=10)
        >>> tuple(x0.shape)
        (2, 1, 28, 28)
    """

    network: Callable[..., Any]
    schedule: NoiseSchedule
    predicts: Predicts
    learned_variance: bool
    shape: tuple[int, int, int]
    num_classes: int | None
    null_label: int | None
    device: torch.device
    data_hook: Callable[[Any, Point], Any] | None = None
    clipping: Callable[[Any, Point], Any] | None = None

    __repr__ = brief_repr

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about corrections of x_0 in the scheduler's config, which say whether they are applied; none or one."""
        if self.data_hook is not None:
            return ("The scheduler's config says thresholding: every predicted x_0 is thresholded.",)
        if self.clipping is not None:
            return (
                "The scheduler's config has clip_sample, which diffusers' solvers of first order follow: here predictions of x_0 are "
                "not clipped unless clip=True is given to the model's denoiser.",
            )
        return ()

    def denoiser(self, labels: Sequence[int] | None = None, guidance: float = 1.0, *, clip: bool = False) -> Denoiser:
        """Return the denoiser of a batch.

        Args:
            labels: one class per sample. None means "no class", for unconditional models and those with a null label.
            guidance: the scale of classifier-free guidance; 1 is none (and half the work), more than 1 exaggerates the class.
            clip: clip every predicted x_0 according to the config's `clip_sample`.

        Raises:
            ValueError: the model lacks a label or needs labels, guidance is given without labels or a null label, or clip=True for a model
                whose config does not clip.
        """
        self.check(labels, guidance)
        if clip and self.clipping is None:
            raise ValueError(
                "clip=True needs a scheduler config with clip_sample, and this one clips nothing: give a data_hook yourself"
            )
        if clip and self.data_hook is None:
            return self._guided(labels, guidance).replace(data_hook=self.clipping)
        return self._guided(labels, guidance)

    def _guided(self, labels: Sequence[int] | None, guidance: float) -> Denoiser:
        if self.num_classes is None:
            return self._denoiser({})
        assert labels is not None or self.null_label is not None
        condition = {"class_labels": self._tensor([self.null_label] if labels is None else labels)}
        if guidance == 1.0:
            return self._denoiser(condition)
        assert labels is not None
        nothing = {"class_labels": self._tensor([self.null_label] * len(labels))}
        return self._denoiser({}).replace(guidance=ClassifierFree(guidance, condition, nothing))

    def check(self, labels: Sequence[int] | None, guidance: float) -> None:
        """Raise ValueError for labels and a guidance that `denoiser` would refuse."""
        _check(self.num_classes, self.null_label, labels, guidance)

    def initial_noise(self, num: int, seed: Any = 0) -> torch.Tensor:
        """Draw x_T for `num` samples: float32 (num, channels, height, width) on the model's device; seeds as in `dpm.initial_noise`.

        The host draws it, so that a seed means the same picture on every device.
        """
        import torch

        like = torch.empty(0, dtype=torch.float32, device=self.device)
        noise: torch.Tensor = initial_noise(self.schedule, (num, *self.shape), seed, like=like, noise="host")
        return noise

    def _denoiser(self, kwargs: dict[str, Any]) -> Denoiser:
        return Denoiser(
            self.network,
            self.schedule,
            self.predicts,
            network_kwargs=kwargs,
            learned_variance=self.learned_variance,
            data_hook=self.data_hook,
        )

    def _tensor(self, labels: Sequence[int | None]) -> torch.Tensor:
        import torch

        return torch.tensor(labels, dtype=torch.int64, device=self.device)


@dataclass(frozen=True)
class Outline:
    """The contents of the configs of a model: all that can be checked before its weights are read. The fields are those of `Pretrained`."""

    schedule: NoiseSchedule
    predicts: Predicts
    shape: tuple[int, int, int]
    num_classes: int | None
    null_label: int | None

    def check(self, labels: Sequence[int] | None, guidance: float) -> None:
        """Raise ValueError for labels and a guidance that `Pretrained.denoiser` would refuse."""
        _check(self.num_classes, self.null_label, labels, guidance)


def outline(name: str | Path = "digits") -> Outline | None:
    """Read the configs of a model, without torch or diffusers. Return None for a hub id, which has to be downloaded first.

    Raises:
        ValueError: there is no such model, or the folder does not contain one.

    Examples:
        >>> outline("digits").shape
        (1, 28, 28)
    """
    folder = _local(str(name))
    if folder is None:
        return None
    config, scheduler = _configs(folder)
    return Outline(schedule_from_config(scheduler), predicts_from_config(scheduler), _shape(config), *_classes(config))


def load(name: str | Path = "digits", *, device: str | None = None) -> Pretrained:
    """Load a pretrained model by its name, from a folder in diffusers format, or from the Hugging Face hub.

    Args:
        name: one of `EMBEDDED`, such as "digits"; in a checkout of the repository one of `trained.PICTURES`; a folder with unet/ and
            scheduler/, or with config.json beside scheduler_config.json; or "owner/name" on the Hugging Face hub, which diffusers
            downloads and caches.
        device: the device of the weights, such as "cuda"; by default the CPU. Weights are float32.

    Raises:
        ValueError: there is no such model, the folder does not contain one, the model is of another kind (text to image, latents), the
            device is unknown, or `adapters.diffusers.schedule_from_config` refuses the scheduler's config.
        ImportError: torch or diffusers is missing; the message says what to install.

    Examples:
        >>> model = load("digits")
        >>> model.shape, model.num_classes, model.predicts
        ((1, 28, 28), 10, 'noise')
    """
    diffusers = _diffusers()
    folder = _local(str(name)) or _downloaded(str(name), diffusers)
    config, scheduler = _configs(folder)
    schedule, predicts = schedule_from_config(scheduler), predicts_from_config(scheduler)
    clipping, data_hook = data_hook_from_config(scheduler), data_hook_from_config(scheduler, clip=False)
    place = _device(device)
    try:
        # low_cpu_mem_usage needs accelerate, and warns where that is missing.
        module = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet", low_cpu_mem_usage=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"the weights in {folder} cannot be loaded: {one_line(error)}") from error
    classes, null_label = _classes(config)
    return Pretrained(
        network(module.requires_grad_(False).float().to(place), scheduler),
        schedule,
        predicts,
        config["out_channels"] == 2 * config["in_channels"],
        _shape(config),
        classes,
        null_label,
        place,
        data_hook,
        clipping,
    )


def _diffusers() -> ModuleType:
    try:
        import diffusers
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"pretrained models need torch and diffusers ({error}): pip install 'dpmsolver[cli]'"
        ) from error
    return diffusers


def _device(name: str | None) -> torch.device:
    import torch

    try:
        return torch.empty(0, device=name or "cpu").device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {one_line(error)}") from error


def _local(name: str) -> str | None:
    """Where a model lies: the folder of its name or the caller's; None for a hub id. ValueError for a name that is none of them."""
    if name in EMBEDDED:
        return str(EMBEDDED[name])
    if name in trained.PICTURES:
        return str(trained.folder(name))
    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if not re.fullmatch(HUB_ID, name):
        raise ValueError(f"{unknown('model', name, EMBEDDED)}, {_OTHERS}")
    return None


def _downloaded(name: str, diffusers: ModuleType) -> str:
    """The folder of the cache that a model of the hub is downloaded to."""
    verbosity = diffusers.utils.logging.get_verbosity()
    # What it warns of when it is offline, the error says.
    diffusers.utils.logging.set_verbosity_error()
    try:
        return str(diffusers.DiffusionPipeline.download(name))
    except Exception as error:
        # The hub's client raises its own and its HTTP library's errors, which differ between versions.
        cause = one_line(error).split(" (")[0]
        raise ValueError(
            f"no folder {name!r} here, and no model of that name from the hub, which may be out of reach ({cause}); "
            f"accepted: {', '.join(EMBEDDED)}, {_OTHERS}"
        ) from error
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)


def _configs(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configs of the unet and of the scheduler, before any weights are read."""
    config, scheduler = (
        _json(Path(folder), *place) for place in (("unet", "config.json"), ("scheduler", "scheduler_config.json"))
    )
    if config.get("_class_name") != "UNet2DModel" or (Path(folder) / "vqvae").is_dir():
        kind = "a latent model" if config.get("_class_name") == "UNet2DModel" else f"a {config.get('_class_name')}"
        raise ValueError(
            f"{folder} holds {kind}, and only pixel-space UNet2DModels can be loaded by name: build the pipeline with diffusers and "
            "use dpmsolver.adapters.diffusers.network(pipeline.unet)"
        )
    return config, scheduler


def _json(folder: Path, part: str, file: str) -> dict[str, Any]:
    """A config in its own folder, or beside the others."""
    try:
        path = next(path for path in (folder / part / file, folder / file) if path.is_file())
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except StopIteration:
        cause = f"there is no {part}/{file}"
    except (OSError, ValueError, TypeError) as error:
        cause = f"{path.name}: {one_line(error)}"
    raise ValueError(
        f"{folder} is not a model in diffusers format ({cause}): it needs unet/ and scheduler/, "
        "or config.json beside scheduler_config.json"
    )


def _check(num_classes: int | None, null_label: int | None, labels: Sequence[int] | None, guidance: float) -> None:
    """Raise ValueError for labels that a model does not have or cannot do without, and for guidance that it cannot have."""
    if num_classes is None and labels is not None:
        raise ValueError("this model is unconditional: it has no classes to choose from")
    if num_classes is not None and labels is None and null_label is None:
        raise ValueError(f"this model needs a class per sample: labels from 0 to {num_classes - 1}")
    for label in labels if labels is not None else ():
        if isinstance(label, bool) or label != int(label) or not 0 <= label < (num_classes or 0):
            raise ValueError(f"class {label} does not exist: accepted are 0 to {(num_classes or 0) - 1}")
    if guidance != 1.0 and labels is None:
        raise ValueError(f"guidance={guidance} needs classes to guide towards, and none are given: use guidance=1")
    if guidance != 1.0 and null_label is None:
        raise ValueError(
            f"guidance={guidance} needs a model trained without classes too (a null label): use guidance=1"
        )


def _classes(config: dict[str, Any]) -> tuple[int | None, int | None]:
    """(number of classes, null label) of a unet's config."""
    if config.get("class_embed_type") is not None:
        raise ValueError(
            f"class_embed_type {config['class_embed_type']!r} is not a table of classes, which is accepted"
        )
    embeddings, null_label = config.get("num_class_embeds"), config.get("_null_label")
    if embeddings is None or null_label is None:
        return embeddings, None
    if null_label != embeddings - 1:
        raise ValueError(f"_null_label must be the last of the {embeddings} classes, got {null_label}")
    return null_label, null_label


def _shape(config: dict[str, Any]) -> tuple[int, int, int]:
    size = config.get("sample_size")
    if size is None:
        raise ValueError("the unet's config says no sample_size, so the size of its pictures is not known")
    height, width = (size, size) if isinstance(size, int) else size
    return config["in_channels"], height, width
