"""The command line: `dpmsolver sample`, `calibrate`, `check`, `compare`, `tune`, `generate`, `evaluate`, `solvers`, `plan`.

It only calls public functions. What a command needs is imported when it runs, so that help and tables work without torch. Wrong input ends
with one line on stderr and exit code 2, a failed run with exit code 1, an interrupted one (Ctrl-C) with 130; names and files are checked
before a model is loaded, and files are written aside and renamed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dpmsolver as dpm

try:
    from dpmsolver.cli import checking, comparing, generating, sampling, tables, tuning
    from dpmsolver.cli.shared import Interrupted, app
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in ("typer", "rich"):
        raise
    print(
        f"dpmsolver: error: the command line needs typer and rich ({missing}): pip install 'dpmsolver[cli]'",
        file=sys.stderr,
    )
    raise SystemExit(2) from None

__all__ = ["app", "checking", "comparing", "generating", "main", "sampling", "tables", "tuning"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for a run that failed, 2 for wrong input, 130 for an interrupted one.

    Examples:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        dpmsolver ...
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _warnings_in_a_line():
            result: Any = app(args=given or ["--help"], prog_name="dpmsolver", standalone_mode=False)
    except (ValueError, OSError, ImportError) as error:
        return _refuse(error, 2)
    except dpm.SamplingError as error:
        return _refuse(error, 1)
    except (Interrupted, KeyboardInterrupt):
        print("dpmsolver: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # Wrong options. The class of these errors has moved between versions of typer; what it can do has not.
        if not hasattr(error, "format_message"):
            raise
        return _refuse(error.format_message(), 2)
    return result if isinstance(result, int) else 0


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """The library's own warnings as one line each, without the place in the code that is nobody's here."""
    before = warnings.showwarning

    def show(message: Any, category: Any, *place: Any) -> None:
        if issubclass(category, dpm.ConventionWarning):
            print(f"dpmsolver: warning: {message}", file=sys.stderr)
        else:
            before(message, category, *place)

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


def _refuse(cause: object, code: int) -> int:
    print(f"dpmsolver: error: {' '.join(str(cause).split())}", file=sys.stderr)
    return code
