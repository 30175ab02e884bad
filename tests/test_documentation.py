"""The examples of the documents run as they are written, and the solver of "Write your own solver" keeps what every solver promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import dpmsolver as dpm
from research_code import VPSDE, Diffusion, EDMNet, GuidedNet, Latent

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "write-your-own.md"
DOCUMENTS = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if "```python" in p.read_text())]


def blocks(document: Path) -> list[str]:
    """The ```python blocks of a document."""
    return re.findall(r"```python[^\n]*\n(.*?)```", document.read_text(), flags=re.DOTALL)


def given() -> dict[str, Any]:
    """What the pages take as given: the reader's betas, network or pipeline, and start; for the loop of the concepts a plan."""
    betas = np.linspace(1e-4, 0.02, 1000)
    return {
        "dpm": dpm,
        "betas": betas,
        "network": lambda x, t: 0.1 * x,
        "x_T": np.ones((2, 3)),
        "noise": np.ones((2, 3)),
        "plan": dpm.make_plan("dpm-2", dpm.schedules.LinearVP(), nfe=4),
        "denoiser": lambda x, point: 0.1 * x,
        "outputs": (),
    }


def pipeline() -> SimpleNamespace:
    """A pipeline of text to image, as far as the page uses it; its networks know nothing."""

    def unet(x: Any, t: Any, encoder_hidden_states: Any, return_dict: bool) -> tuple[Any]:
        assert len(x) == len(t) == len(encoder_hidden_states)
        return (0.1 * x,)

    def encode_prompt(prompt: str, device: str, num: int, guided: bool) -> tuple[Any, Any]:
        return torch.ones(num, 7, 5), torch.zeros(num, 7, 5)

    model = type("UNet", (), {"dtype": torch.float32, "__call__": staticmethod(unet)})()
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=0.18215), decode=lambda z: SimpleNamespace(sample=z))
    config = {
        "_class_name": "PNDMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    }
    return SimpleNamespace(unet=model, vae=vae, encode_prompt=encode_prompt, scheduler=SimpleNamespace(config=config))


def research_code() -> dict[str, Any]:
    """A network, or what belongs to one, of each project on the page."""
    return {
        "net": EDMNet(label_dim=3, sigma_min=0.0, sigma_max=80.0, round_sigma=torch.as_tensor),
        "model": lambda x, labels: 0.1 * x,
        "sde": VPSDE(),
        "unet": GuidedNet(),
        "diffusion": Diffusion(),
        "classes": torch.tensor([1, 0]),
        "classifier": lambda x, t: x.flatten(1)[:, :2],
        "latent": Latent(),
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_examples_run_in_order(
    document: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every ```python block of a document runs, each with what the ones before it defined."""
    names = {} if document.name == "README.md" else given()
    if document.name == "coming-from.md":
        names |= {"pipe": pipeline(), "noise": torch.ones(2, 4, 8, 8)}
    if document.name == "research-code.md":
        names |= research_code()
    if document.name == "diffusers.md":
        pytest.importorskip("transformers")
        from tiny_pipelines import stable_diffusion

        names |= {"pipe": stable_diffusion()}
        monkeypatch.chdir(tmp_path)  # the page writes a plan
    if document.name == "fast.md":  # as it is traced: the compilers that follow take a minute
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for block in blocks(document):
        exec(compile(block, str(document), "exec"), names)


def library_with(module: str, folder: Path) -> Path:
    """A copy of the package that has the page's module and its name in the registry, as the page says; the folder to import from."""
    shutil.copytree(
        ROOT / "src" / "dpmsolver", folder / "dpmsolver", ignore=shutil.ignore_patterns("__pycache__", "weights")
    )
    solvers = folder / "dpmsolver" / "solvers"
    (solvers / "etd.py").write_text(module)
    registry = (solvers / "registry.py").read_text()
    changed = registry.replace("    ddim,\n", "    ddim,\n    etd,\n").replace("_FAMILIES = (", "_FAMILIES = (etd, ")
    assert changed.count("etd") == 2
    (solvers / "registry.py").write_text(changed)
    return folder


def test_the_page_adds_a_solver_in_20_lines_and_the_shared_tests_pick_it_up(tmp_path: Path) -> None:
    """At most 20 lines, of a solver the library lacks; put where the page says, it is tested like any other, and passes.

    The shared tests run on a copy of the package in another process: the marginals of its rows, budgets, order on both problems.
    """
    module = blocks(PAGE)[0]
    assert len(module.splitlines()) <= 20
    assert "etd2rk" not in dpm.solvers()
    report = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/solvers/test_every_solver.py",
        "-k",
        "etd2rk",
        f"--junitxml={report}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(library_with(module, tmp_path)), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout
    names = {case.attrib["name"] for case in ElementTree.parse(report).iter("testcase")}
    promises = {
        "test_every_row_preserves_the_marginals[etd2rk]",
        "test_every_budget_is_spent_exactly_or_refused_with_the_nearest_ones[etd2rk]",
        "test_measured_order_of_convergence_is_the_claimed_one[gaussian-etd2rk]",
        "test_measured_order_of_convergence_is_the_claimed_one[mixture-etd2rk]",
    }
    assert promises <= names
