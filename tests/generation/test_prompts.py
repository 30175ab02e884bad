"""Text to image: a pipeline of diffusers draws its prompts in turn, as latents or as pictures."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import torch
from generation_models import sums

import dpmsolver as dpm
from dpmsolver.generation.generating import generate
from tiny_pipelines import stable_diffusion

PROMPTS = ["a lighthouse at night", "rain"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny pipeline."""
    place = tmp_path_factory.mktemp("pipeline") / "tiny"
    torch.manual_seed(0)
    stable_diffusion().save_pretrained(place)
    return str(place)


def test_sample_i_has_prompt_i_modulo_their_number(pipeline: str, tmp_path: Path) -> None:
    """What `sample` draws from the pipeline's denoiser by itself; the text lies beside the picture."""
    import diffusers

    generate(pipeline, 4, 2, prompts=PROMPTS, out=tmp_path / "latents", format="npy", batch=2)
    latents = np.load(tmp_path / "latents" / "samples" / "00000000.npy")
    pipe = diffusers.DiffusionPipeline.from_pretrained(pipeline)
    denoiser = dpm.from_diffusers(pipe, [PROMPTS[0], PROMPTS[1]])
    x_T = dpm.initial_noise(denoiser.schedule, (2, *latents.shape[1:]), [2, 3], like=torch.empty(0), noise="host")
    alone = dpm.sample(denoiser, x_T, 2)
    assert np.allclose(latents[2:], alone.numpy(), atol=1e-5)
    assert not np.allclose(latents[0], latents[1], atol=1e-2)

    generate(pipeline, 4, 2, prompts=PROMPTS, out=tmp_path / "pictures", batch=2)
    with tarfile.open(tmp_path / "pictures" / "samples" / "00000000.tar") as tar:
        names = tar.getnames()
        texts = [tar.extractfile(name).read().decode() for name in names if name.endswith(".txt")]  # type: ignore[union-attr]
        about = json.loads(tar.extractfile("000000003.json").read())  # type: ignore[union-attr]
    assert texts == PROMPTS * 2
    assert about == {"seed": 3, "label": 1, "prompt": "rain"}
    assert "000000003.png" in names


def test_other_prompts_are_another_run(pipeline: str, tmp_path: Path) -> None:
    """As is another guidance; the same bytes come again."""
    for name in ("a", "b"):
        generate(pipeline, 2, 2, prompts=PROMPTS, out=tmp_path / name, batch=2)
    assert sums(tmp_path / "a") == sums(tmp_path / "b")
    with pytest.raises(ValueError, match="prompts was"):
        generate(pipeline, 2, 2, prompts=["rain", "night"], out=tmp_path / "a", batch=2)
    with pytest.raises(ValueError, match=r"guidance was null and is 2\.0"):
        generate(pipeline, 2, 2, prompts=PROMPTS, guidance=2.0, out=tmp_path / "a", batch=2)


def test_a_model_without_text_is_refused(tmp_path: Path) -> None:
    """In a sentence, and nothing is made."""
    with pytest.raises(ValueError, match="the pipeline 'digits' cannot be loaded"):
        generate("digits", 2, 2, prompts=PROMPTS, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
