"""Every example runs as it stands, on less than it takes by default, and brings what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dpmsolver as dpm

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_list_has_every_example() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"]({path.name})" in listed for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb"))


def test_a_network_is_trained_and_sampled() -> None:
    """A few steps bring the samples nearer than noise is: 0.9 away."""
    assert example("own_network").main(["--steps", "150"]) < 0.5


def test_a_solver_of_ones_own_has_its_order() -> None:
    assert example("own_solver").main() == pytest.approx(2.0, abs=0.2)


def test_a_fitted_plan_is_nearer_than_the_default(tmp_path: Path) -> None:
    errors = example("tuned_plan").main([str(tmp_path / "plan.json"), "--effort", "4000"])
    assert errors["fitted"] < 0.5 * errors["auto"]


def test_many_samples_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = example("many_samples").main([str(tmp_path / "many"), "--num", "4000"])
    assert "stopped in the middle" in capsys.readouterr().out
    assert (made.samples, made.shards) == (4000, 4)
    assert 0 < made.drawn < 4000


def test_the_missing_half_is_filled_in(tmp_path: Path) -> None:
    """The upper halves agree with what was measured; of unsteered samples they are 0.7 away."""
    pytest.importorskip("diffusers")
    error = example("inverse_problem").main([str(tmp_path / "filled.png"), "--num", "2", "--nfe", "20"])
    assert error < 0.2
    assert (tmp_path / "filled.png").stat().st_size > 500


@pytest.mark.parametrize("more", [[], ["--tune"]], ids=["solver", "tune"])
def test_a_pipeline_draws_with_one_line_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """With a small random pipeline in the place of the downloaded one, and a fit that costs little."""
    pytest.importorskip("diffusers")
    tiny_pipelines = pytest.importorskip("tiny_pipelines")
    script, fit = example("stable_diffusion"), dpm.tune

    def short(denoiser: Any, x_T: Any, nfe: int) -> Any:
        return fit(denoiser, x_T, nfe, effort=100)

    monkeypatch.setattr(dpm, "tune", short)
    monkeypatch.setattr(script, "NOISES", 16)
    pipe = tiny_pipelines.stable_diffusion()
    monkeypatch.setattr(script.StableDiffusionPipeline, "from_pretrained", lambda name: pipe)
    script.main(["a lighthouse", str(tmp_path / "picture.png"), "--nfe", "3", *more])
    assert (tmp_path / "picture.png").stat().st_size > 100
    assert (tmp_path / "picture.plan.json").exists() == bool(more)
