"""What ships, and what is said about it in the files at the root."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import dpmsolver as dpm

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_the_version_stands_in_the_tag_alone() -> None:
    """pyproject.toml takes it from there, no source says another, and the package asks what is installed."""
    assert "version" not in PROJECT["project"]
    assert "version" in PROJECT["project"]["dynamic"]
    assert "version" not in CITATION
    assert dpm.__version__ == importlib.metadata.version("dpmsolver")


def test_sources_that_nobody_installed_have_a_version_too(tmp_path: Path) -> None:
    """A copy of the package on the path, with no metadata of any installation in sight."""
    link = tmp_path / "dpmsolver"
    link.symlink_to(Path(dpm.__file__).parent)
    code = (
        "import importlib.metadata as metadata\n"
        "def nowhere(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = nowhere\n"
        "import dpmsolver\n"
        "print(dpmsolver.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.returncode) == ("0+source", 0), done.stderr


def test_the_core_needs_three_packages() -> None:
    """NumPy, SciPy and array-api-compat; every extra that another one or a message names is there."""
    project = PROJECT["project"]
    assert [line.partition(">")[0] for line in project["dependencies"]] == ["numpy", "scipy", "array-api-compat"]
    extras = project["optional-dependencies"]
    named = {
        name
        for text in [*(line for lines in extras.values() for line in lines), *sources()]
        for group in re.findall(r"dpmsolver\[([a-z,]+)\]", text)
        for name in group.split(",")
    }
    assert named <= set(extras)


def sources() -> list[str]:
    return [path.read_text() for path in (ROOT / "src").rglob("*.py")]


def test_the_page_of_the_package_has_the_readme_and_the_licence() -> None:
    """And both files are there."""
    assert (ROOT / PROJECT["project"]["readme"]).exists()
    assert all((ROOT / name).exists() for name in PROJECT["project"]["license-files"])


def test_the_citation_file_is_whole() -> None:
    """The keys that the format (cff-version 1.2.0) demands, the project's licence, and the paper of `plan.cite()`."""
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["title"] == PROJECT["project"]["name"]
    assert CITATION["license"] == PROJECT["project"]["license"]
    assert [author["name"] for author in CITATION["authors"]] == [
        each["name"] for each in PROJECT["project"]["authors"]
    ]
    paper = CITATION["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    assert all({"family-names", "given-names"} <= set(author) for author in paper["authors"])
    cited = dpm.make_plan("dpm-2m", dpm.schedules.LinearVP(), 5).cite().replace("{", "").replace("}", "")
    assert paper["title"] in cited
    assert " and ".join(f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]) in cited
    assert paper["identifiers"][0]["value"].endswith(re.findall(r"eprint = (\S+),", cited)[0])


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_the_forms_and_the_workflow_can_be_read(path: Path) -> None:
    """YAML; a form has a name and questions, the workflow calls .ci/run and nothing else of the project."""
    found = yaml.safe_load(path.read_text())
    if path.parent.name == "ISSUE_TEMPLATE":
        assert {"name", "description", "body"} <= set(found)
        asked = [each for each in found["body"] if each["type"] != "markdown"]
        assert all(each["attributes"]["label"] for each in asked)
    else:
        steps = [step for job in found["jobs"].values() for step in job["steps"]]
        assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]


def test_the_formats_of_plans_that_are_read_only_grow() -> None:
    """RELEASING.md promises that a plan of any release is read: format 2 is the first that one wrote."""
    from dpmsolver.plans.formats import _FORMAT, _READ

    assert tuple(range(2, _FORMAT + 1)) == _READ
