"""Short forms of objects: a repr of at most 200 characters, and a small table for notebooks.

A short repr is the code that makes the object. Arrays are shown by type and shape, functions by name, and fields with their default values
are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from html import escape
from typing import Any

import numpy as np

__all__ = ["LIMIT", "brief", "brief_repr", "cut", "html_table", "one_line"]

LIMIT = 200
_SHORT = 60  # characters of a value that is shown as it is
_FEW = 4  # numbers of an array, and elements of a sequence, that are shown as they are


def brief(value: Any) -> str:
    """Return a short text for a value: its repr if that is short, else its kind.

    Examples:
        >>> import numpy as np
        >>> brief(0.5), brief(np.zeros((64, 3))), brief(np.sin), brief([1.0, 2.0]), brief({"y": np.zeros(1000)})
        ('0.5', '<float64 (64, 3)>', 'sin', '[1.0, 2.0]', "{'y': <float64 (1000,)>}")
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key!r}: {brief(each)}" for key, each in list(value.items())[:_FEW])
        return "{" + inner + (", …" if len(value) > _FEW else "") + "}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(brief, value[:_FEW])) + (", …" if len(value) > _FEW else "")
        left, right = "[]" if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return f"{left}{inner}{right}"
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    if getattr(type(value), "__repr__", None) is object.__repr__ or _is_module(value):
        return f"<{type(value).__name__}>"
    text = repr(value)
    own = type(value).__module__.partition(".")[0] == "dpmsolver"  # its repr is short already
    return text if "\n" not in text and (len(text) <= _SHORT or own) else f"<{type(value).__name__}>"


def one_line(error: BaseException, most: int | None = None) -> str:
    """Return the message of an error in one line, cut after the first `most` characters.

    Examples:
        >>> one_line(ValueError("no weights\\n  in the folder"), most=14)
        'no weights in '
    """
    return " ".join(str(error).split())[:most]


def _array(value: Any) -> str:
    """A few numbers of NumPy as they are; any other array by its type and shape."""
    if isinstance(value, np.ndarray) and value.size <= _FEW:
        return str(value.tolist())
    return f"<{str(value.dtype).rpartition('.')[2]} {tuple(value.shape)}>"


def _is_module(value: Any) -> bool:
    """Whether a value is a torch module, whose repr has a line for each of its layers."""
    return hasattr(value, "named_parameters")


def brief_repr(self: Any) -> str:
    """Return the repr of a dataclass: its fields in short form without those with default values, cut at 200 characters."""
    shown: list[str] = []
    for each in fields(self):
        value = getattr(self, each.name)
        factory = each.default_factory
        default = each.default if factory is MISSING else factory()
        if (
            each.repr
            and each.init
            and not (value is default or (type(value) is type(default) and _same(value, default)))
        ):
            name = each.name if each.kw_only or shown or default is not MISSING else ""
            shown.append(f"{name}={brief(value)}" if name else brief(value))
    return cut(f"{type(self).__name__}({', '.join(shown)})")


def _same(value: Any, default: Any) -> bool:
    return not isinstance(value, np.ndarray) and bool(value == default)


def cut(text: str) -> str:
    """Return a text of at most 200 characters: a longer one ends in an ellipsis and its last character."""
    return text if len(text) <= LIMIT else f"{text[: LIMIT - 2]}…{text[-1]}"


def html_table(title: str, rows: Iterable[tuple[str, object]], more: str = "") -> str:
    """Return a table for a notebook: a title, a line for each pair, and HTML that follows them."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<div><b>{escape(title)}</b><table>{lines}</table>{more}</div>"
