"""Pretrained models: one code path for the embedded one, folders and the hub, and errors that say what is accepted."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import dpmsolver as dpm
from dpmsolver.models.pretrained import DIGITS, Pretrained, load
from tiny import saved, tiny_unet

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def digits() -> Pretrained:
    return load("digits")


def two_samples(model: Pretrained) -> Any:
    return dpm.sample(model.denoiser([3, 7]), model.initial_noise(2, seed=1), nfe=3)


def test_digits(digits: Pretrained) -> None:
    """What the embedded model is, and that it draws: black ground, white ink, in [-1, 1]."""
    assert (digits.shape, digits.num_classes, digits.null_label) == ((1, 28, 28), 10, 10)
    assert (digits.predicts, digits.learned_variance) == ("noise", False)
    assert isinstance(digits.schedule, dpm.schedules.Discrete)
    assert digits.schedule.num_steps == 1000
    x0 = dpm.sample(digits.denoiser([0, 1, 7]), digits.initial_noise(3), nfe=10)
    assert x0.dtype == torch.float32
    assert -1.3 < float(x0.min()) < -0.9
    assert 0.8 < float(x0.max()) < 1.3
    assert -0.9 < float(x0.mean()) < -0.4


def test_weights_are_float32_and_need_no_gradient(digits: Pretrained) -> None:
    weights = list(digits.network.module.parameters())  # type: ignore[attr-defined]
    assert {w.dtype for w in weights} == {torch.float32}
    assert not any(w.requires_grad for w in weights)


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """No advice to install other packages, no notes about fields of the config."""
    load("digits")
    assert capfd.readouterr() == ("", "")


def test_diffusers_own_pipeline_loads_the_folder_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """The folder is in diffusers' format for diffusers too: the null label disturbs nothing."""
    diffusers.utils.logging.disable_progress_bar()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(DIGITS), low_cpu_mem_usage=False)
    assert pipeline.unet.config["_null_label"] == 10
    assert "null_label" not in capfd.readouterr().err


def test_a_copied_folder_is_the_same_model(digits: Pretrained, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path / "copy")
    copy = load(tmp_path / "copy")
    torch.testing.assert_close(two_samples(copy), two_samples(digits))
    assert (copy.shape, copy.num_classes, copy.null_label) == (digits.shape, digits.num_classes, digits.null_label)


def test_the_flat_layout_is_the_same_model(digits: Pretrained, tmp_path: Path) -> None:
    for file in [*(DIGITS / "unet").iterdir(), *(DIGITS / "scheduler").iterdir()]:
        shutil.copy(file, tmp_path)
    torch.testing.assert_close(two_samples(load(str(tmp_path))), two_samples(digits))


def test_a_hub_id_is_handed_to_diffusers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub is reached by diffusers' own download; what it gives is loaded like any folder."""
    saved(tmp_path, tiny_unet())
    asked: list[str] = []
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", lambda name: asked.append(name) or tmp_path)
    assert load("google/ddpm-cifar10-32").shape == (3, 8, 8)
    assert asked == ["google/ddpm-cifar10-32"]


def test_unconditional_model_with_learned_variance(tmp_path: Path) -> None:
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    model = load(saved(tmp_path, tiny_unet(out_channels=6, sample_size=(8, 16)), scheduler))
    assert (model.shape, model.num_classes, model.null_label) == ((3, 8, 16), None, None)
    assert (model.predicts, model.learned_variance) == ("v", True)
    x0 = dpm.sample(model.denoiser(), model.initial_noise(2), nfe=2)
    assert tuple(x0.shape) == (2, 3, 8, 16)
    with pytest.raises(ValueError, match="unconditional"):
        model.denoiser([0])
    with pytest.raises(ValueError, match=r"guidance=2\.0 needs classes"):
        model.denoiser(guidance=2.0)


def test_class_conditional_model_without_a_null_label(tmp_path: Path) -> None:
    model = load(saved(tmp_path, tiny_unet(num_class_embeds=4)))
    assert (model.num_classes, model.null_label) == (4, None)
    model.denoiser([3])
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        model.denoiser()
    with pytest.raises(ValueError, match="without classes too"):
        model.denoiser([0], guidance=1.5)


def test_half_weights_become_float32(tmp_path: Path) -> None:
    model = load(saved(tmp_path, tiny_unet().half()))
    assert model.network.module.dtype == torch.float32  # type: ignore[attr-defined]


@pytest.mark.parametrize("labels", [[10], [-1], [0, 11], [1.5]])
def test_classes_that_do_not_exist(digits: Pretrained, labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"class .* does not exist: accepted are 0 to 9"):
        digits.denoiser(labels)


def test_the_number_of_classes_must_fit_the_batch(digits: Pretrained) -> None:
    with pytest.raises(ValueError, match="class_labels needs one class per sample: 3 samples, 2 classes"):
        dpm.sample(digits.denoiser([1, 2]), digits.initial_noise(3), nfe=1)


def test_no_class_is_the_null_label(digits: Pretrained) -> None:
    """Guidance 0 is the unconditional network, which is what no labels give."""
    x_T = digits.initial_noise(2)
    unconditional = dpm.sample(digits.denoiser(), x_T, nfe=3)
    guided = dpm.sample(digits.denoiser([1, 2], guidance=0.0), x_T, nfe=3)
    torch.testing.assert_close(unconditional, guided, rtol=1e-4, atol=1e-4)


def test_guidance_moves_away_from_no_class(digits: Pretrained) -> None:
    """output = unconditional + scale (conditional - unconditional), seen at one evaluation."""
    x, t = digits.initial_noise(1), torch.tensor([999.0])
    three, nothing = (digits.network(x, t, class_labels=torch.tensor([label])) for label in (3, 10))
    seen: list[Any] = []
    denoiser = digits.denoiser([3], guidance=2.0).replace(data_hook=lambda x0, point: seen.append(x0.clone()) or x0)
    dpm.sample(denoiser, x, nfe=1)
    alpha, sigma = digits.schedule.alpha(1.0), digits.schedule.sigma(1.0)
    expected = (x - sigma * (2.0 * three - nothing)) / alpha
    torch.testing.assert_close(seen[0], expected, rtol=1e-3, atol=1e-2)


def test_clip_sample_is_named_and_acts_where_it_is_wanted(tmp_path: Path) -> None:
    """Where a config says clip_sample the default does not clip, and says so; clip=True clips every prediction to [-1, 1]."""
    model = load(saved(tmp_path, tiny_unet(), diffusers.DDPMScheduler(clip_sample=True)))
    assert len(model.notes) == 1
    assert "clip_sample" in model.notes[0]
    assert model.denoiser().data_hook is None
    x_T = model.initial_noise(1)
    states = list(dpm.iterate(model.denoiser(clip=True), x_T, nfe=4))
    assert max(float(state.denoised.abs().max()) for state in states) <= 1.0
    plain = list(dpm.iterate(model.denoiser(), x_T, nfe=4))
    assert max(float(state.denoised.abs().max()) for state in plain) > 1.0


def test_the_embedded_model_has_nothing_to_say(digits: Pretrained) -> None:
    """digits is drawn as it was measured: without corrections of x_0, which its config says."""
    assert digits.notes == ()


def test_the_command_line_names_what_does_not_act(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dpmsolver sample` prints a model's notes after its own line."""
    pytest.importorskip("typer")
    from dpmsolver import cli

    monkeypatch.chdir(tmp_path)
    folder = saved(tmp_path, tiny_unet(), diffusers.DDPMScheduler(clip_sample=True))
    assert cli.main(["sample", str(folder), "--nfe", "1", "--num", "1"]) == 0
    assert "clip_sample" in capsys.readouterr().err


def test_thresholding_acts(tmp_path: Path) -> None:
    """A config that says thresholding has it in every denoiser, with its own range, and says so."""
    scheduler = diffusers.DDPMScheduler(thresholding=True, sample_max_value=0.5, clip_sample=False)
    model = load(saved(tmp_path, tiny_unet(), scheduler))
    assert "thresholding" in model.notes[0]
    states = list(dpm.iterate(model.denoiser(), model.initial_noise(2), nfe=3))
    assert max(float(state.denoised.abs().max()) for state in states) == pytest.approx(0.5)


def test_without_corrections_nothing_is_said_and_nothing_can_be_clipped(tmp_path: Path) -> None:
    model = load(saved(tmp_path, tiny_unet(), diffusers.DDPMScheduler(clip_sample=False)))
    assert model.notes == ()
    with pytest.raises(ValueError, match="clip=True needs a scheduler config with clip_sample"):
        model.denoiser(clip=True)


def test_a_scheduler_that_is_not_served_is_told_before_the_weights_are_read(tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_class_name": "IPNDMScheduler"}))
    with pytest.raises(ValueError, match="IPNDMScheduler is not served"):
        load(tmp_path)


def test_networks_can_be_sent_to_other_processes(digits: Pretrained) -> None:
    x, t = digits.initial_noise(1), torch.tensor([10.0])
    copy = pickle.loads(pickle.dumps(digits.network))
    labels = torch.tensor([1])
    torch.testing.assert_close(copy(x, t, class_labels=labels), digits.network(x, t, class_labels=labels))


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown model 'digit' \(did you mean 'digits'\?\).*folder.*hub id"):
        load("digit")
    with pytest.raises(ValueError, match=r"unknown model .*nowhere"):
        load(tmp_path / "nowhere")


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> str:
        raise OSError("Cannot load model:\nthe hub is out of reach")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", unreachable)
    with pytest.raises(
        ValueError, match=r"no folder 'someone/model' here, and no model .*Cannot load model: .*accepted"
    ) as caught:
        load("someone/model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("files", [[], ["unet/config.json"], ["scheduler/scheduler_config.json"]])
def test_folders_without_a_model(files: list[str], tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir()
        shutil.copy(DIGITS / file, tmp_path / file)
    with pytest.raises(ValueError, match=r"is not a model in diffusers format .*it needs unet/ and scheduler/"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel, and only pixel-space"),
        ({"_null_label": 3}, "_null_label must be the last of the 11 classes, got 3"),
        ({"class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
        ({"sample_size": None}, "sample_size"),
    ],
)
def test_models_of_another_kind(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path, dirs_exist_ok=True)
    config = json.loads((DIGITS / "unet" / "config.json").read_text())
    (tmp_path / "unet" / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_weights_that_cannot_be_read(damage: str, tmp_path: Path) -> None:
    shutil.copytree(DIGITS, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"the weights in .* cannot be loaded"):
        load(tmp_path)


def test_devices_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="device 'abacus' cannot be used here"):
        load("digits", device="abacus")


def test_without_diffusers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'dpmsolver\[cli\]'"):
        load("digits")
