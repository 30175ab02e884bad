"""A model of the user's own, from a function in a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from dpmsolver.errors import unknown

__all__ = ["made_by_user"]


def made_by_user(name: str) -> Any:
    """Return the result of `path/to/file.py:function` or `module:function`. Raise ValueError if there is no such function, or it raises."""
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise ValueError(f"a model of your own is written path/to/file.py:function or module:function, got {name!r}")
    module = _module(place)
    make = getattr(module, function, None)
    if not callable(make):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(unknown(f"function in {place}", function, functions))
    try:
        return make()
    except Exception as error:
        raise ValueError(f"{name} raised {type(error).__name__}: {error}") from error


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        with _import_from(Path.cwd()):
            try:
                return importlib.import_module(place)
            except Exception as error:
                raise ValueError(f"the module {place!r} cannot be imported: {type(error).__name__}: {error}") from error
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {place!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _import_from(path.parent):
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise ValueError(f"{place} cannot be run: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _import_from(folder: Path) -> Iterator[None]:
    """Let the user's module import the modules beside it, as `python file.py` does."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
