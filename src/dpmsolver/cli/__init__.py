"""The command line: `dpmsolver sample`, `calibrate`, `check`, `compare`, `solvers`, `plan`.

It calls what everybody can call from Python. What a command needs is imported when it runs, so that help and tables come without torch.
Wrong input ends with one line on stderr and exit code 2, a run that fails with exit code 1; files are written aside and renamed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import dpmsolver as dpm
from dpmsolver.cli import checking, comparing, sampling, tables
from dpmsolver.cli.shared import app

__all__ = ["app", "checking", "comparing", "main", "sampling", "tables"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for a run that failed, 2 for wrong input.

    Examples:
        >>> main(["--version"])
        dpmsolver 0.1.0
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result: Any = app(args=given or ["--help"], prog_name="dpmsolver", standalone_mode=False)
    except (ValueError, OSError, ImportError) as error:
        return _refuse(error, 2)
    except dpm.SamplingError as error:
        return _refuse(error, 1)
    except Exception as error:
        # Wrong options. The class of these errors has moved between versions of typer; what it can do has not.
        if not hasattr(error, "format_message"):
            raise
        return _refuse(error.format_message(), 2)
    return result if isinstance(result, int) else 0


def _refuse(cause: object, code: int) -> int:
    print(f"dpmsolver: error: {' '.join(str(cause).split())}", file=sys.stderr)
    return code
