"""The help texts: every option says what it is, in which unit and with which default, and every example can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

typer = pytest.importorskip("typer")
pytest.importorskip("rich")

from dpmsolver import cli  # noqa: E402
from dpmsolver.cli.describe import EXAMPLES, GROUPS  # noqa: E402

ROOT = Path(__file__).parents[2]
TOP: Any = typer.main.get_command(cli.app)
COMMANDS: dict[str, Any] = dict(TOP.commands)
PARAMETERS = [(name, each) for name, command in COMMANDS.items() for each in command.params if each.name != "help"]
OPTIONS = [(name, each) for name, each in PARAMETERS if each.param_type_name == "option"]
DOCUMENTS = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def named(pairs: list[tuple[str, Any]]) -> list[Any]:
    return [pytest.param(name, each, id=f"{name}-{each.name}") for name, each in pairs]


def typed_lines() -> list[tuple[str, str]]:
    """Every line of a document's blocks that calls the command, joined where a backslash continues it."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```[^\n]*\n(.*?)```", document.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("dpmsolver ") and "[OPTIONS]" not in line:
                    found.append((document.name, line))
    return found


def parse(line: str) -> None:
    """Parse a line as the shell and the command would, and run nothing."""
    words = shlex.split(line.partition(" > ")[0], comments=True)
    assert words[0] == "dpmsolver"
    COMMANDS[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_begins_with_its_purpose_in_one_sentence(name: str) -> None:
    purpose = COMMANDS[name].help.partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z].*[^.]\.", " ".join(purpose.split()))
    assert ". " not in purpose


@pytest.mark.parametrize(("name", "parameter"), named(PARAMETERS))
def test_every_argument_and_option_says_what_it_is(name: str, parameter: Any) -> None:
    """Sentences of at least four words, and no relative clause or genitive that leans on the option's name."""
    assert re.fullmatch(r"(?s)[A-Z].*\.", parameter.help)
    assert len(parameter.help.split()) >= 4
    assert not re.match(r"(Of|Such as|Instead|How many|That) ", parameter.help)


@pytest.mark.parametrize(("name", "option"), named(OPTIONS))
def test_every_option_has_a_group_a_unit_and_a_default(name: str, option: Any) -> None:
    """One that must be given says so instead of a default; one without a value has no unit, and is off."""
    assert option.rich_help_panel in GROUPS
    assert option.metavar.isupper() or (option.is_flag and option.metavar == "" and option.show_default == "off")
    if option.show_default is False or (option.show_default is True and option.default is None):
        assert option.help.startswith("Needed")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_groups_and_whole_examples_in_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines()]
    assert 2 <= len(EXAMPLES[name]) <= 3
    for does, line in EXAMPLES[name]:
        assert lines.index(f"{does}:") + 1 == lines.index(line)
    for group in {each.rich_help_panel for command, each in OPTIONS if command == name}:
        assert f"─ {group} ─" in shown


@pytest.mark.parametrize("line", [line for examples in EXAMPLES.values() for _, line in examples])
def test_every_example_parses(line: str) -> None:
    parse(line)


def test_the_examples_of_the_whole_command_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.partition("Examples")[2].splitlines()]
    typed = [line for line in lines if line.startswith("dpmsolver ")]
    assert len(typed) == 3
    for line in typed:
        parse(line)


@pytest.mark.parametrize(("document", "line"), typed_lines())
def test_every_command_line_of_the_documents_parses(document: str, line: str) -> None:
    parse(re.sub(r"\bMODEL\b|\bFOLDER\b", "digits", line))


def test_the_page_of_the_command_line_shows_all_of_it() -> None:
    """Each command with its purpose, its groups, its options with their help, and its examples."""
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    sections = {part.partition("\n")[0]: part for part in page.split("\n## dpmsolver ")[1:]}
    assert set(sections) == set(COMMANDS)
    for name, option in OPTIONS:
        assert f"`{option.opts[0]}" in sections[name]
        assert f"| **{option.rich_help_panel}** |" in sections[name]
    for name, examples in EXAMPLES.items():
        for does, line in examples:
            assert f"# {does}\n{line}\n" in sections[name]
