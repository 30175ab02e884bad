"""Citations: every solver and grid that names a source is cited with it."""

from __future__ import annotations

import json
import re

import pytest

import dpmsolver as dpm
from dpmsolver.grids import GRIDS, SOURCES
from dpmsolver.references import bibtex, cited
from dpmsolver.solvers import SOLVERS

_ENTRY = re.compile(r"@(software|misc|article|book|inproceedings)\{(\w+),\n((?:  \w+ = \{.*\},?\n)+)\}")


def check_form(text: str) -> list[str]:
    """The keys of BibTeX entries; each is well formed, braces included, with all its fields but the last followed by a comma."""
    keys = []
    for entry in text.split("\n\n"):
        found = _ENTRY.fullmatch(entry)
        assert found, entry
        assert entry.count("{") == entry.count("}")
        assert [line.endswith(",") for line in found[3].splitlines()] == [True] * (entry.count(" = {") - 1) + [False]
        keys.append(found[2])
    return keys


@pytest.mark.parametrize("source", sorted({solver.source for solver in SOLVERS.values()} | set(SOURCES.values())))
def test_every_paper_of_every_source_is_known(source: str) -> None:
    """An entry for each arXiv number, with that number, and one at least for a source without."""
    if source.startswith("ComfyUI, sample_heunpp2"):
        source = source.partition(";")[0]
    found = bibtex(source)
    for number in re.findall(r"\d{4}\.\d{5}", source):
        line = f'"{number}": (key, authors, title, where it appeared or "", year),'
        assert any(f"eprint = {{{number}}}" in entry for entry in found), f"add to _PAPERS of references.py: {line}"
    assert found, f"add to _OTHERS of references.py a name that {source!r} contains, with its BibTeX entry"
    check_form("\n\n".join(found))


def test_the_grids_with_a_source_are_grids() -> None:
    """No name of the table is misspelt."""
    assert set(SOURCES) <= set(GRIDS)


def test_a_plan_cites_the_library_its_solver_and_its_grid() -> None:
    """In this order, each once, also when it comes from a file."""
    plan = dpm.make_plan("dpm++2m-sde", dpm.schedules.LinearVP(), 8, "ays-sd15")
    assert check_form(plan.cite()) == ["dpmsolver", "lu2022dpmpp", "crowson2022kdiffusion", "sabour2024align"]
    assert dpm.Plan.from_json(plan.to_json()).cite() == plan.cite()
    twice = dpm.make_plan("heun", dpm.schedules.EDM(), 9, "karras")
    assert check_form(twice.cite()) == ["dpmsolver", "karras2022elucidating"]


def test_a_plan_of_nobody_cites_the_library_alone_and_a_solver_of_yours_its_source() -> None:
    """Plans without a source, and sources that nothing is known of, which become a note."""
    assert check_form(cited("")) == ["dpmsolver"]
    assert "note = {Mine 2030, chapter 2}" in cited("Mine 2030, chapter 2")


def test_a_plan_of_an_earlier_file_is_read_without_a_source() -> None:
    """Files that were written before plans had one."""
    plan = dpm.make_plan("ddim", dpm.schedules.LinearVP(), 3)
    document = json.loads(plan.to_json())
    del document["source"]
    older = json.dumps(document)
    assert older != plan.to_json()
    assert dpm.Plan.from_json(older).source == ""
