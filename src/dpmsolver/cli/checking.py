"""`dpmsolver check`: check whether a model predicts what its config declares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.cli.describe import MEASUREMENT, SAMPLES, Device, argument, command, option
from dpmsolver.cli.sampling import _class_list

__all__ = ["check"]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@command(
    ("Check the embedded network on pictures", "dpmsolver check digits --data pictures.npy"),
    ("Check a folder in diffusers format", "dpmsolver check ./my-model --data pictures/ --num 32"),
    ("Check a denoiser of your own", "dpmsolver check my_model.py:denoiser --data points.npz"),
)
def check(
    model: Annotated[
        str,
        argument(
            "MODEL",
            "The model: one that comes with the package, such as digits, a folder in diffusers format, the id of a model on the Hugging "
            "Face hub, or path/to/file.py:function for a function that returns a Denoiser or a Testbed.",
        ),
    ] = "digits",
    data: Annotated[
        Path | None,
        option(
            SAMPLES,
            "FILE",
            "Needed: data of the kind that the model was trained on, as .npy, .npz (the first array), a picture or a folder of pictures.",
            otherwise=False,
        ),
    ] = None,
    num: Annotated[int, option(SAMPLES, "N", "The largest number of data that are used.", least=2)] = 16,
    classes: Annotated[
        str | None,
        option(
            SAMPLES,
            "LIST",
            "The class numbers of the data with commas between, such as 0,1,2, which the data take in turn.",
            otherwise="none",
        ),
    ] = None,
    levels: Annotated[int, option(MEASUREMENT, "N", "Noise levels at which the model is tried.", least=1)] = 6,
    seed: Annotated[int, option(MEASUREMENT, "N", "The seed of the noise.", least=0)] = 0,
    device: Device = "cpu",
) -> None:
    """Check whether a model predicts what it declares, and name the mistake if it does not.

    The exit code is 0 if the declaration fits the data, and 1 if it does not.
    """
    if data is None:
        raise ValueError("--data is needed: a file or a folder with data that the model was trained for")
    values, said = _read(data, num)
    chosen = _class_list(classes)
    labels = None if chosen is None else [chosen[i % len(chosen)] for i in range(len(values))]
    denoiser, like, shape = _model(model, device, labels)
    if shape is not None and values.shape[1:] != shape:
        raise ValueError(f"--data {data} holds data of shape {values.shape[1:]}, and {model} has {shape}")
    found = dpm.check(denoiser, backends.of(like).from_numpy(values, like), levels=levels, seed=seed)
    typer.echo(f"{len(values)} of {data}{said}, {found.calls} evaluations of {model}")
    typer.echo(str(found))
    if not found.fits:
        raise typer.Exit(1)


def _model(name: str, device: str, labels: list[int] | None) -> tuple[dpm.Denoiser, Any, tuple[int, ...] | None]:
    """The denoiser, an array like its states, and the shape of a sample where that is known."""
    from dpmsolver.models.by_user import made_by_user
    from dpmsolver.models.testbeds import Testbed

    if ":" not in name or Path(name).is_dir():
        loaded = dpm.models.load(name, device=device)
        return loaded.denoiser(labels), loaded.initial_noise(1), loaded.shape
    made = made_by_user(name)
    if isinstance(made, Testbed):
        return made.denoiser(labels), made.like, made.shape
    if not isinstance(made, dpm.Denoiser):
        raise ValueError(f"{name} must return a dpm.Denoiser or a Testbed, got {type(made).__name__}")
    if labels is not None:
        raise ValueError(
            f"{name} returns a Denoiser, which has its classes in its network_kwargs: --classes is not for it"
        )
    like: Any = np.empty(0, dtype=np.float32)
    # A file that imports torch has a torch network.
    return made, sys.modules["torch"].empty(0) if "torch" in sys.modules else like, None


def _read(path: Path, num: int) -> tuple[NDArray[np.float64], str]:
    """The first `num` data of a file or a folder, and what was done to them."""
    if not path.exists():
        raise ValueError(f"--data {path}: there is no such file or folder")
    if path.is_dir() or path.suffix.lower() in _PICTURES:
        return _pictures(path, num)
    if path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(
            f"--data {path}: .npy, .npz, a folder of pictures or a picture is accepted ({', '.join(_PICTURES)})"
        )
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            array = np.asarray(loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]])[:num]
    except (ValueError, EOFError, IndexError) as error:
        raise ValueError(f"--data {path} cannot be read as {path.suffix[1:]}: {error}") from None
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        return _from_bytes(array), ", bytes converted to [-1, 1]"
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise ValueError(f"--data {path} must hold numbers of shape (N, …), got {array.dtype} of shape {array.shape}")
    return array.astype(np.float64), ""


def _pictures(path: Path, num: int) -> tuple[NDArray[np.float64], str]:
    from PIL import Image

    files = sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURES) if path.is_dir() else [path]
    if len(files) < 2:
        raise ValueError(f"--data {path}: a folder with at least two pictures is needed ({', '.join(_PICTURES)})")
    opened = []
    for file in files[:num]:
        with Image.open(file) as picture:
            opened.append(np.asarray(picture.convert("L" if picture.mode in ("1", "L", "I;16") else "RGB")))
    if len({picture.shape for picture in opened}) > 1:
        raise ValueError(
            f"--data {path}: the pictures must be of one size and kind, got {sorted({p.shape for p in opened})}"
        )
    return _from_bytes(np.stack(opened)), ", bytes converted to [-1, 1]"


def _from_bytes(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pictures (N, height, width) or (N, height, width, channels) of bytes as (N, channels, height, width) in [-1, 1]."""
    channels = pictures[:, None] if pictures.ndim == 3 else pictures.transpose(0, 3, 1, 2)
    return channels.astype(np.float64) / 127.5 - 1.0
