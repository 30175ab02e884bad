"""The notebooks run from top to bottom, each cell with what the ones before it defined, on less than they take by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# What takes most of a notebook's time, and what the test puts in its place.
SHORTER = {
    "first_steps.ipynb": {"CLASSES = [0, 1, 2, 3, 4, 5, 6, 7]": "CLASSES = [3, 7]", "nfe=60": "nfe=15"},
    "two_moons.ipynb": {
        "STEPS = 10000": "STEPS = 400",
        "nfe=200": "nfe=50",
        "nfe=5)\nprint": "nfe=5, effort=8000)\nprint",
    },
}


def cells(notebook: Path) -> list[dict[str, Any]]:
    """The code cells of a notebook."""
    found: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def run(notebook: Path, shorter: dict[str, str]) -> dict[str, Any]:
    """Run the code of a notebook in one namespace, which is returned; ValueError for a part to shorten that it lacks."""
    code = ["".join(cell["source"]) for cell in cells(notebook)]
    for long, short in shorter.items():
        if not any(long in each for each in code):
            raise ValueError(f"{notebook.name} has no {long!r} to shorten")
        code = [each.replace(long, short) for each in code]
    names: dict[str, Any] = {}
    for number, each in enumerate(code):
        exec(compile(each, f"{notebook.name}, code cell {number}", "exec"), names)
    return names


@pytest.fixture
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Matplotlib without a window, and without the figures of other tests before and after."""
    mpl.use("agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.close("all")
    yield plt
    plt.close("all")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_neither_outputs_nor_counts(notebook: Path) -> None:
    """So that a change of it shows what was changed: clear the outputs before a commit."""
    for cell in cells(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


def test_first_steps_show_ddim_behind_the_default(pyplot: Any) -> None:
    """The three figures are drawn, and the default is nearer to the converged run than DDIM."""
    names = run(EXAMPLES / "first_steps.ipynb", SHORTER["first_steps.ipynb"])
    ddim, default, converged = names["errors"].values()
    assert default < ddim
    assert converged == 0.0
    assert len(pyplot.get_fignums()) == 3


def test_two_moons_are_learnt_and_a_plan_is_fitted(pyplot: Any) -> None:
    """After a short training the fitted plan ends nearer to the converged run than DDIM with one evaluation more."""
    import dpmsolver as dpm

    names = run(EXAMPLES / "two_moons.ipynb", SHORTER["two_moons.ipynb"])
    ddim = dpm.sample(names["denoiser"], names["x_T"], nfe=6, solver="ddim")
    assert names["distance"](names["samples"]) < names["distance"](ddim)
    assert len(pyplot.get_fignums()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_is_written(notebook: Path, pyplot: Any) -> None:
    """Without anything shortened."""
    assert run(notebook, {})
