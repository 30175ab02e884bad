"""Generated parts of the reference: the names of the package, and the commands with their options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import dpmsolver as dpm
from benchmarks.paper.text import markdown

__all__ = ["commands", "names"]


def names() -> str:
    """A row for each public name of `dpmsolver`: a link to its place in the reference, and the first line of its docstring."""
    rows = []
    for name in sorted(dpm.__all__, key=str.lower):
        documented = inspect.getdoc(getattr(dpm, name)) or ""
        rows.append([f"[`{name}`][dpmsolver.{name}]", _cell(documented.partition("\n")[0])])
    return markdown(["name", "what it is"], rows)


def commands() -> str:
    """A section for each command: what it does, how it is called, its options by groups with their defaults, and its examples."""
    import typer  # here, so that the other pages are rendered without it

    from dpmsolver.cli import app

    found: Any = typer.main.get_command(app)
    return "\n".join(_command(name, command) for name, command in sorted(found.commands.items()))


def _command(name: str, command: Any) -> str:
    from dpmsolver.cli.describe import EXAMPLES

    context = command.make_context(f"dpmsolver {name}", [], resilient_parsing=True)
    usage = command.get_usage(context).removeprefix("Usage: ").strip()
    examples = "\n\n".join(f"# {does}\n{line}" for does, line in EXAMPLES[name])
    return f"## dpmsolver {name}\n\n{_plain(command.help)}\n\n```\n{usage}\n```\n\n{_options(command.params)}\n```bash\n{examples}\n```\n"


def _options(parameters: Sequence[Any]) -> str:
    """The table of arguments and options; a row in bold begins each group."""
    from dpmsolver.cli.describe import GROUPS

    rows = [_option(each) for each in parameters if each.param_type_name == "argument"]
    for group in GROUPS:
        found = [_option(each) for each in parameters if getattr(each, "rich_help_panel", None) == group]
        rows += [[f"**{group}**", ""], *found] if found else []
    return markdown(["argument", "meaning and default"], rows)


def _option(parameter: Any) -> list[str]:
    """What is typed; the help text, and what holds without it."""
    if parameter.param_type_name == "argument":
        typed = parameter.metavar or parameter.name
    else:
        typed = ", ".join([*parameter.opts, *parameter.secondary_opts])
        typed += f" {parameter.metavar}" if parameter.metavar else ""
    said = _cell(_plain(parameter.help or ""))
    if isinstance(parameter.show_default, str):  # a description of the default instead of its value
        return [f"`{typed}`", f"{said} *Default: {_cell(parameter.show_default)}.*"]
    if parameter.required or parameter.default is None:
        return [f"`{typed}`", said if said.startswith("Needed") else f"{said} *Needed.*"]
    return [f"`{typed}`", f"{said} *Default: {_cell(str(parameter.default))}.*"]


def _plain(text: str) -> str:
    """A help text without rich's markup."""
    return re.sub(r"\[/?(?:bold|italic|dim|cyan)\]", "", text)


def _cell(text: str) -> str:
    """A line as a cell of a table: without a bar, and without markup of its own outside code."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [part.replace("*", "\\*").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)
