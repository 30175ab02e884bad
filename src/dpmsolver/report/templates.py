"""Templates: the pages' files, which lie beside this one, filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpmsolver.files import written_aside
from dpmsolver.report.figures import number

__all__ = ["asset", "write_page"]

_ASSETS = Path(__file__).parent / "assets"


def write_page(path: Path, template: str, *styles: str, **values: Any) -> Path:
    """Write a template, filled in, as one file that needs nothing else; it replaces an earlier one only when it is whole.

    Args:
        path: of the page, in a folder that exists; ValueError where it does not.
        styles: names of style sheets, in their order.
    """
    if not path.parent.is_dir():
        raise ValueError(f"out must be a folder that exists, got {str(path.parent)!r}")
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "ensure_ascii": False}
    environment.filters["number"] = number
    style = Markup("\n".join(map(asset, styles)))
    text = environment.get_template(template).render(style=style, **values)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path


def asset(name: str) -> str:
    """Return the text of a file of the pages."""
    return (_ASSETS / name).read_text(encoding="utf-8")
