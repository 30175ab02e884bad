"""The import of matplotlib, an optional dependency, for the functions that draw."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["BLUE", "RED", "new_figure", "sized"]

# Okabe and Ito's colours, which are told apart by people who see few of them.
BLUE, RED = "#0072b2", "#d55e00"


def new_figure(width: float, height: float) -> Any:
    """Return an empty pyplot figure of a size in inches, which `plt.show()` and notebooks show.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(f"drawing needs matplotlib ({error}): pip install 'dpmsolver[plot]'") from None
    return pyplot.figure(figsize=(width, height), layout="constrained")


def sized(figure: Any, width: float, height: float) -> Any:
    """Return the caller's figure, or a new one."""
    return new_figure(width, height) if figure is None else figure
