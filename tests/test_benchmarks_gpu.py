"""The GPU's benchmark runs in small on the CPU; a run that is captured in a CUDA graph asks nothing of host or device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from tiny import saved, tiny_unet  # noqa: E402

ROOT = Path(__file__).parent.parent
SCHEDULE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import gpu

    return gpu


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return saved(tmp_path / "model", tiny_unet(num_class_embeds=3))


def test_the_dry_run_measures_what_a_cpu_can_and_says_what_it_skips(gpu: Any, tiny: Path, tmp_path: Path) -> None:
    """Every part is in the file: figures, or the reason for none."""
    gpu.main(["--device", "cpu", "--quick", "--model", str(tiny), "--json", str(tmp_path / "gpu.json")])
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert set(gpu.PARTS) <= set(results)
    assert results["overhead"][0]["ratio"] > 0
    assert results["capture"] == {"skipped": "needs a CUDA device"}
    assert 0 < results["bfloat16"]["rms"] < 0.5 * results["bfloat16"]["rms_of_the_samples"]
    kinds = {(run["dtype"], run["compiled"]): run for run in results["throughput"]}
    assert len(kinds) == 4
    assert kinds["bfloat16", False]["pictures_per_second"] > 0
    assert kinds["bfloat16", True]["skipped"] == "needs a CUDA device"


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_without_cuda_it_says_how_to_dry_run(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu --quick is a dry run" in capsys.readouterr().err


class Waits(TorchDispatchMode):
    """Notes what would wait for a device: a number read from it, or a copy between it and the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = kwargs.get("device")
        moves = target is not None and isinstance(args[0], torch.Tensor) and args[0].device.type != target.type
        if "_local_scalar_dense" in str(function) or moves:
            self.seen.append(str(function))
        return function(*args, **kwargs)


@pytest.fixture
def sample_on_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A run on tensors that say they are on CUDA and hold no numbers, which needs no device; returns its waits."""

    def sample(capturing: bool, **options: Any) -> list[str]:
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
        with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
            x_T = torch.empty(2, 3, 8, 8, device="cuda")
            output = torch.empty_like(x_T)
            denoiser = dpm.Denoiser(lambda x, t: output, SCHEDULE)
            assert dpm.sample(denoiser, x_T, nfe=6, **options).is_cuda
        return waits.seen

    return sample


@pytest.mark.parametrize("solver", ["dpm++2m", "dpm++3s", "unipc-3", "res-2s"])
def test_a_captured_run_waits_for_nothing(sample_on_cuda: Callable[..., list[str]], solver: str) -> None:
    """What CUDA refuses inside a capture: copies from and to the host, and asking whether numbers are finite.

    Solvers of data prediction: the others copy on the device, with Tensor.copy_, which no torch without CUDA can pretend to do.
    """
    assert sample_on_cuda(True, solver=solver) == []


def test_a_run_without_a_graph_copies_its_labels_once_and_asks_once(sample_on_cuda: Callable[..., list[str]]) -> None:
    """One copy of all time labels to the device; the question whether all is finite is the first wait, and comes last."""
    from torch._subclasses.fake_tensor import DataDependentOutputException

    asked: list[Any] = []

    def count(state: Any) -> None:
        asked.append(state.index)

    with pytest.raises(DataDependentOutputException):
        sample_on_cuda(False, solver="dpm++2m", callback=count)
    assert asked == [0, 1, 2, 3, 4, 5]


def test_a_captured_run_with_noise_is_refused(sample_on_cuda: Callable[..., list[str]]) -> None:
    """Its noise comes from the host: the message says what can be captured."""
    with pytest.raises(TypeError, match="capture a plan without noise"):
        sample_on_cuda(True, solver="ddpm", generator=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_gives_what_the_run_gives(gpu: Any, tiny: Path, tmp_path: Path) -> None:
    """On a device: captured on one x_T, replayed on another."""
    gpu.main(["--quick", "--model", str(tiny), "--only", "capture", "--json", str(tmp_path / "gpu.json")])
    assert json.loads((tmp_path / "gpu.json").read_text())["capture"]["equal"]
