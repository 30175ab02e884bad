"""The reference has every public name: of `dpmsolver.__all__`, of the public modules, and what a document imports."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dpmsolver as dpm

ROOT = Path(__file__).parent.parent
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [name for name in dpm.__all__ if isinstance(getattr(dpm, name), ModuleType)]


def documented() -> dict[str, set[str] | None]:
    """The modules that the reference shows, each with the members that it is limited to; None where it shows all of them."""
    found: dict[str, set[str] | None] = {}
    for page in REFERENCE:
        for module, members in re.findall(
            r"^::: (\S+)(?:\n    options:\n      members: \[?([^\]\n]*)\]?)?", page.read_text(), flags=re.MULTILINE
        ):
            found[module] = set(re.split(r",\s*", members)) if members else None
    return found


SHOWN = documented()


def is_documented(where: str, name: str) -> bool:
    """Whether a page of the reference shows what a module has under a name."""
    value = getattr(importlib.import_module(where), name)
    return any(is_member(module, name, value) for module in SHOWN)


def is_member(module: str, name: str, value: Any) -> bool:
    """Whether a documented module hands out this very object under this name."""
    limit, found = SHOWN[module], importlib.import_module(module)
    return (limit is None or name in limit) and name in getattr(found, "__all__", ()) and getattr(found, name) is value


@pytest.mark.parametrize("name", sorted(dpm.__all__))
def test_every_name_of_the_package_is_in_the_reference(name: str) -> None:
    """A name has a place in a page; a module has a page's directive."""
    value = getattr(dpm, name)
    if isinstance(value, ModuleType):
        assert {f"dpmsolver.{name}", value.__name__} & SHOWN.keys()
    else:
        assert is_documented("dpmsolver", name)


def test_an_example_imports_what_it_uses() -> None:
    """A docstring's example runs where it is pasted: only the documented thing and its module's public names are taken for granted."""
    for each in pkgutil.walk_packages(dpm.__path__, "dpmsolver."):
        if each.name.endswith("__main__"):
            continue
        module = importlib.import_module(each.name)
        for test in doctest.DocTestFinder().find(module, each.name, module):
            known = {*getattr(module, "__all__", ()), *dir(builtins), test.name.rpartition(".")[2]}
            source = "".join(example.source for example in test.examples)
            assert not names_without_import(source) - known, test.name


def names_without_import(source: str) -> set[str]:
    """The names that a piece of code uses and neither imports nor makes."""
    used, made = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
    return used - made


def test_a_name_without_an_import_is_found() -> None:
    """The check of examples can fail."""
    assert names_without_import("x = np.ones(3)\nlambda y: x + y") == {"np"}


@pytest.mark.parametrize("name", sorted(dpm.__all__))
def test_every_name_of_the_package_is_used_by_a_guide(name: str) -> None:
    """A name stands in `dpmsolver` itself because people type it: a page or an example shows how. Other names stay in their modules."""
    guides = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
    assert any(re.search(rf"\bdpm\.{name}\b", guide.read_text(encoding="utf-8")) for guide in guides)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_of_a_public_module_is_in_the_reference(module: str) -> None:
    public = getattr(dpm, module)
    names = [name for name in public.__all__ if callable(getattr(public, name))]
    assert names
    assert [name for name in names if not is_documented(public.__name__, name)] == []


def imported() -> set[tuple[str, str]]:
    """What the ```python blocks of the documents import from the package: (module, name)."""
    found = set()
    for document in DOCUMENTS:
        for block in re.findall(r"```python[^\n]*\n(.*?)```", document.read_text(), flags=re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dpmsolver":
                    found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def is_module(package: str, name: str) -> bool:
    return hasattr(importlib.import_module(package), "__path__") and find_spec(f"{package}.{name}") is not None


def test_what_a_document_imports_is_in_the_reference() -> None:
    names = imported()
    assert ("dpmsolver.adapters.diffusers", "PlanScheduler") in names
    missing = []
    for module, name in sorted(names):
        if is_module(module, name):
            missing += {f"{module}.{name}"} - SHOWN.keys()
        elif not is_documented(module, name):
            missing.append(f"{module}.{name}")
    assert missing == []


def test_a_name_that_no_page_has_is_found() -> None:
    """The check can fail: a function that is nobody's business but the library's has no place."""
    assert not is_documented("dpmsolver.host", "to_host")
    assert not is_documented("dpmsolver.backends", "stream_seed")


def test_every_page_of_the_reference_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in REFERENCE if f"reference/{page.name}" not in navigation] == []
