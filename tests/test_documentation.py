"""The examples of the documents run as they are written, and the solver of "Write your own solver" keeps what every solver promises."""

from __future__ import annotations

import json
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

import griffe
import numpy as np
import pytest
import torch

import dpmsolver as dpm
from dpmsolver.evaluation.distances import sliced_wasserstein
from research_code import VPSDE, Diffusion, EDMNet, GuidedNet, Latent

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "write-your-own.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", *(page for page in PAGES if "```python" in page.read_text())]
INSTALLED = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
WIDEST = 108  # characters of a line of code that a page shows
# What somebody types into the search box, and the page that has to come up.
SEARCHES = {
    "img2img": "image-to-image.md",
    "inpainting": "inpainting.md",
    "ComfyUI": "comfyui.md",
    "k-diffusion": "comfyui.md",
    "Stable Diffusion": "diffusers.md",
    "Flux": "diffusers.md",
    "JAX": "jax.md",
    "seed": "seeds.md",
    "strength": "image-to-image.md",
    "pip install": "getting-started.md",
}


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
        if document.name == "your-own-network.md":  # as it is written it takes a minute: the next test
            block = block.replace("STEPS = 10000", "STEPS = 400")
        exec(compile(block, str(document), "exec"), names)


FRONT = [(page, number) for page in ("README.md", "docs/index.md") for number in range(len(blocks(ROOT / page)))]


@pytest.mark.parametrize(("page", "number"), FRONT)
def test_a_block_of_a_front_page_runs_alone(page: str, number: int, tmp_path: Path) -> None:
    """Copied into a file in a new folder, without the blocks before it."""
    program = tmp_path / "copied.py"
    program.write_text(blocks(ROOT / page)[number])
    run = subprocess.run([sys.executable, str(program)], cwd=tmp_path, env=INSTALLED, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_the_network_of_two_moons_learns_them_in_the_time_of_the_page() -> None:
    """As the page has it, the samples are much nearer to data than noise is: a tenth of its distance, and a bit."""
    names: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "your-own-network.md"):
        exec(compile(block, "your-own-network.md", "exec"), names)
    samples, data, x_T = (names[name].double().numpy() for name in ("samples", "data", "x_T"))
    near, far = (sliced_wasserstein(points, data) for points in (samples, x_T))
    assert near < 0.2 * far


def quoted() -> list[tuple[str, str, list[str]]]:
    """Blocks that show lines of the source: (page, file, lines without their indentation)."""
    found = []
    for page in PAGES:
        for title, code in re.findall(r'```py title="(src/[^"]+)"\n(.*?)```', page.read_text(), flags=re.DOTALL):
            found.append((page.name, title, [line.strip() for line in code.strip().splitlines()]))
    return found


def test_quoted_lines_stand_in_the_source() -> None:
    """The lines of code beside the formulas are those of the file that is named, in this order, without others between them."""
    assert len(quoted()) > 10
    for page, name, lines in quoted():
        source = [line.strip() for line in (ROOT / name).read_text().splitlines()]
        places = range(len(source) - len(lines) + 1)
        assert any(source[k : k + len(lines)] == lines for k in places), f"{page} quotes what {name} has not: {lines}"


@pytest.mark.parametrize("document", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_lines_of_code_fit_into_a_page(document: Path) -> None:
    """A page on a screen of 1280 pixels, with both of its side bars, shows 110 characters: a longer line would be cut."""
    inside = False
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        assert not inside or len(line) <= WIDEST, f"{document.name}:{number} has {len(line)} characters"


@pytest.mark.parametrize("document", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_no_figure_begins_a_line(document: Path) -> None:
    """A comment at the beginning of a line ends the paragraph before it, and its line is no Markdown: a figure stands within a line."""
    for number, line in enumerate(document.read_text().splitlines(), 1):
        assert not re.match(r"\s*<!-- generated: .*-->.+", line), f"{document.name}:{number}"


def test_docstrings_are_shown_as_they_are_meant() -> None:
    """A section that the reference does not know becomes a box, a second line without indentation a second result; long lines are cut."""
    library = griffe.load("dpmsolver", search_paths=[str(ROOT / "src")], docstring_parser="google")
    left, shown = [library], 0
    while left:
        documented = left.pop()
        left += [member for member in documented.members.values() if not member.is_alias]
        for section in documented.docstring.parse("google", warnings=False) if documented.docstring else ():
            shown += 1
            assert section.kind.value != "admonition", f"{documented.path} has a section {section.title!r}"
            assert section.kind.value not in ("returns", "yields") or len(section.value) == 1, documented.path
            if section.kind.value == "examples":
                lines = [line for _, text in section.value for line in text.splitlines()]
                assert max(map(len, lines)) <= WIDEST, documented.path
    assert shown > 1000


@pytest.mark.parametrize(("words", "page"), SEARCHES.items())
def test_what_people_search_for_is_written_where_it_is_told(words: str, page: str) -> None:
    """The search of the pages is one by words: the page has to have them, and to be in the navigation."""
    assert words.lower() in (ROOT / "docs" / page).read_text().lower()
    assert f": {page}\n" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.slow
def test_the_built_search_index_finds_what_people_search_for(tmp_path: Path) -> None:
    """The documentation builds without a warning, and its index has the words under the page."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    entries = json.loads((tmp_path / "search" / "search_index.json").read_text())["docs"]
    for words, page in SEARCHES.items():
        place = page.removesuffix(".md") + "/"
        found = [e for e in entries if words.lower() in f"{e['title']} {e['text']}".lower()]
        assert any(entry["location"].startswith(place) for entry in found), words


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
