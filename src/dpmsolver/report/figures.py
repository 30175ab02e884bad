"""The format of numbers on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["figure", "number", "percent"]

_PLAIN = (1e-3, 1e5)  # sizes that are written without a power of ten


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to a few significant digits, or a dash for None.

    Examples:
        >>> number(0.05), number(12.34), number(1234.5), number(0.000123), number(None), number(float("inf"))
        ('0.0500', '12.3', '1234', '1.23e-4', '–', '∞')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if not _PLAIN[0] <= abs(value) < _PLAIN[1]:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def figure(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a measured value in the form of the page: value, low and high as finite numbers or None, and their texts.

    Examples:
        >>> figure({"value": 0.25, "low": 0.2, "high": 0.31})["text"]
        '0.250 [0.200, 0.310]'
        >>> figure({"value": float("nan")})
        {'value': None, 'low': None, 'high': None, 'short': 'NaN', 'interval': '', 'text': 'NaN'}
    """
    value, low, high = ((given or {}).get(key) for key in ("value", "low", "high"))
    short = number(value)
    exact = low is None or high is None or low == high == value
    interval = "" if exact else f"[{number(low)}, {number(high)}]"
    bounds = {"value": _finite(value), "low": _finite(low), "high": _finite(high)}
    return bounds | {"short": short, "interval": interval, "text": f"{short} {interval}".strip()}


def percent(fraction: float) -> str:
    """Return a fraction in per cent, '5 %' with a narrow space that does not break.

    Examples:
        >>> percent(0.05).replace(chr(0x202F), " "), percent(0.125).replace(chr(0x202F), " ")
        ('5 %', '12.5 %')
    """
    return f"{100 * fraction:g}\u202f%"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
