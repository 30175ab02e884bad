"""Embedded models are found by their folder's name, whichever they are: `digits` today, and colour pictures alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpmsolver import cli
from dpmsolver.models import pretrained
from dpmsolver.models.testbeds import load_testbed
from tiny import saved, tiny_unet

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second embedded model, `colours`: classes, a null label, 8 x 8 pixels in three channels."""
    unet = tiny_unet(num_class_embeds=4)
    unet.register_to_config(_null_label=3)
    saved(tmp_path / "colours", unet.half())
    monkeypatch.setitem(pretrained.EMBEDDED, "colours", tmp_path / "colours")
    return tmp_path / "colours"


def test_every_folder_of_weights_is_an_embedded_model() -> None:
    """By its own name; files beside the folders, such as the classifiers', are none."""
    assert pretrained.EMBEDDED["digits"] == pretrained.DIGITS
    assert all((folder / "model_index.json").is_file() for folder in pretrained.EMBEDDED.values())
    assert all(folder.name == name for name, folder in pretrained.EMBEDDED.items())


def test_a_second_embedded_model_loads_by_name(colours: Path) -> None:
    model = pretrained.load("colours")
    assert (model.shape, model.num_classes, model.null_label) == ((3, 8, 8), 3, 3)


def test_a_second_embedded_model_is_a_testbed_without_features_of_its_own(colours: Path) -> None:
    """Those of another model's classifier are not taken for it; the errors of trajectories are measured all the same."""
    testbed = load_testbed("colours")
    assert (testbed.shape, testbed.num_classes, testbed.pictures) == ((3, 8, 8), 3, True)
    assert testbed.features is None
    with pytest.raises(
        ValueError, match=r"features='cifar10' sees pictures of shape \(3, 32, 32\), samples have \(3, 8, 8\)"
    ):
        load_testbed("colours", features="cifar10")


def test_the_command_line_draws_a_second_embedded_model_in_colour(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two by two pictures, magnified by eight, three channels that differ; guidance works as for digits."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sample", "colours", "--nfe", "2", "--num", "4", "--solver", "dpm++2m", "--guidance", "1.5"]) == 0
    assert capsys.readouterr().out.startswith("4 samples of colours, 2 network evaluations each: dpm++2m @ ")
    with Image.open("samples.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * 64, 2 * 64, 3)
    assert (pixels[..., 0] != pixels[..., 1]).any()


def test_a_misspelt_name_is_told_the_nearest(colours: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown model 'colour' \(did you mean 'colours'\?\); accepted: .*digits"):
        pretrained.load("colour")
