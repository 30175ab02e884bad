"""The pictures of the same seeds: a row is what the sampler draws, and a wrong row is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import pictures
from PIL import Image

import dpmsolver as dpm
from dpmsolver.models.testbeds import load_testbed


def test_a_row_is_what_sample_draws() -> None:
    testbed = load_testbed("digits", features="none")
    found = pictures.drawn(testbed, *pictures.row_of("dpm++2m=4"), num=2, seed=3)
    x = dpm.sample(testbed.denoiser([0, 1]), testbed.initial_noise(range(2), 3), solver="dpm++2m", nfe=4)
    assert found.shape == (2, 28, 28, 1)
    assert np.abs(found.transpose(0, 3, 1, 2) / 127.5 - 1.0 - x.numpy().clip(-1, 1)).max() < 0.005


def test_the_command_writes_a_picture(tmp_path: Path) -> None:
    pictures.main(["ddim@time=2", "auto=2", "--model", "digits", "--num", "2", "--out", str(tmp_path / "rows.png")])
    with Image.open(tmp_path / "rows.png") as image:
        assert min(image.size) > 100


@pytest.mark.parametrize("text", ["auto", "auto=five", "=5"])
def test_a_row_without_its_evaluations_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="a row is NAME=EVALUATIONS"):
        pictures.row_of(text)
