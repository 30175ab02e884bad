"""Citations: every solver and grid that names a source is cited with it."""

from __future__ import annotations

import json
import re

import pytest

import dpmsolver as dpm
from dpmsolver.grids import GRIDS, SOURCES
from dpmsolver.references import _OTHERS, _PAPERS, LIBRARY, bibtex, cited
from dpmsolver.solvers import SOLVERS

_ENTRY = re.compile(r"@(software|misc|article|book|inproceedings)\{(\w+),\n((?:  \w+ = \{.*\},?\n)+)\}")

# What BibTeX's standard styles ask of a kind of entry; a program has an address in the place of a year.
_NEEDED = {
    "article": {"author", "title", "journal", "volume", "pages", "year"},
    "book": {"author", "title", "publisher", "year"},
    "inproceedings": {"author", "title", "booktitle", "year", "eprint", "archivePrefix"},
    "misc": {"author", "title"},
    "software": {"author", "title", "note"},
}
# Parts of sources that say where in a work, or in other words, and name no other work.
_REMARKS = {
    "the official code's singlestep method of order 3",
}


def fields(entry: str) -> dict[str, str]:
    """The fields of an entry by name, without their braces."""
    return dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE))


def every_entry() -> list[str]:
    """Every entry that can be printed."""
    return [LIBRARY, *(bibtex(f"arXiv {number}")[0] for number in _PAPERS), *_OTHERS.values()]


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
    found = bibtex(source)
    for number in re.findall(r"\d{4}\.\d{5}", source):
        line = f'"{number}": (key, authors, title, where it appeared or "", year),'
        assert any(f"eprint = {{{number}}}" in entry for entry in found), f"add to _PAPERS of references.py: {line}"
    assert found, f"add to _OTHERS of references.py a name that {source!r} contains, with its BibTeX entry"
    check_form("\n\n".join(found))


@pytest.mark.parametrize("source", sorted({solver.source for solver in SOLVERS.values()} | set(SOURCES.values())))
def test_every_part_of_a_source_names_a_work_that_is_known(source: str) -> None:
    """A source of several works, parted by semicolons, brings an entry for each."""
    assert all(bibtex(part) or part in _REMARKS for part in source.split("; ")), source


@pytest.mark.parametrize("entry", every_entry(), ids=lambda entry: entry.partition(",")[0])
def test_an_entry_has_the_fields_of_its_kind(entry: str) -> None:
    """All that BibTeX needs for it, none empty; each author by family name and given name, none left out as "others"."""
    check_form(entry)
    kind, found = entry.partition("{")[0].removeprefix("@"), fields(entry)
    assert found.keys() >= _NEEDED[kind]
    assert "eprint" in found or "url" in found or kind != "misc", "a preprint has its number, a program its address"
    assert all(value.strip() for value in found.values())
    authors = found["author"].split(" and ")
    assert "others" not in authors
    assert all("," in author or author.startswith("{") for author in authors)


@pytest.mark.parametrize("number", _PAPERS)
def test_a_paper_appeared_in_the_year_of_its_preprint_or_soon_after(number: str) -> None:
    """The year agrees with the number, and with the key, which also has the first author's name."""
    (entry,) = bibtex(f"arXiv {number}")
    key, found = entry.partition("{")[2].partition(",")[0], fields(entry)
    assert 0 <= int(found["year"]) - (2000 + int(number[:2])) <= 2
    assert found["year"] in key
    assert key.startswith(re.sub("[^a-z]", "", found["author"].partition(",")[0].lower())[:4])


def test_no_two_entries_share_a_key() -> None:
    """BibTeX refuses a second entry of the same key."""
    keys = [entry.partition(",")[0] for entry in every_entry()]
    assert len(keys) == len(set(keys))


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
