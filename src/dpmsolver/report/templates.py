"""Fill in templates: the pages' files, which lie beside this module."""

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
    """Write a filled-in template as one self-contained file. An earlier file is replaced when the new one is complete.

    Args:
        path: the path of the page; if its folder does not exist, ValueError is raised.
        styles: the names of style sheets, in their order.
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
    """Return the text of one of the files of the pages."""
    return (_ASSETS / name).read_text(encoding="utf-8")
