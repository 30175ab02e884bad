"""Draft: the state of a fit between two of its stages, which a store keeps, so that an interrupted fit resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpmsolver.errors import PlanError
from dpmsolver.files import written_aside
from dpmsolver.plans.rows import Point
from dpmsolver.plans.targets import Predicts
from dpmsolver.tuning.outcome import Stage
from dpmsolver.tuning.table import Table

__all__ = ["Draft"]

_FORMAT = "dpmsolver-draft-1"


@dataclass
class Draft:
    """The results and the cost of the finished stages of a fit.

    Args:
        path: the file that keeps the draft; None keeps none.
        finished: the number of finished stages.
        selected: the name of the best preset.
        stages: the record of the fit.
        tables: the tables from which later stages start, each with its error on the choosing noises.
        taught: evaluations of single samples for the trajectories that are fitted to.
        spent: those of the finished stages.
        seconds: the time that both took.
    """

    path: Path | None = None
    finished: int = 0
    selected: str = ""
    stages: list[Stage] = field(default_factory=list)
    tables: list[tuple[float, Table]] = field(default_factory=list)
    taught: int = 0
    spent: int = 0
    seconds: float = 0.0

    @classmethod
    def kept(cls, path: Path | None, predicts: Predicts) -> Draft:
        """Return the draft in a file, or a new one where there is none.

        Raises:
            PlanError: the file is cut short or changed.
        """
        if path is None or not path.exists():
            return cls(path)
        try:
            document = json.loads(path.read_text())
            if document.pop("format") != _FORMAT:
                raise ValueError("another format")
            document["stages"] = [Stage(**each) for each in document["stages"]]
            document["tables"] = [(error, _table(each, predicts)) for error, each in document["tables"]]
            return cls(path, **document)
        except (KeyError, TypeError, ValueError) as error:
            raise PlanError(f"{path} holds no draft of a fit ({error}): delete it, and the fit begins again") from None

    def keep(self) -> None:
        """Write the draft to its file."""
        if self.path is None:
            return
        document = {key: value for key, value in vars(self).items() if key != "path"}
        document["stages"] = [asdict(each) for each in self.stages]
        document["tables"] = [(error, _said(table)) for error, table in self.tables]
        with written_aside(self.path) as aside:
            aside.write_text(json.dumps({"format": _FORMAT, **document}) + "\n")


def _said(table: Table) -> dict[str, Any]:
    return {
        "points": [asdict(point) for point in table.points],
        "rows": [row.tolist() for row in table.rows],
        "factor": table.factor,
        "origin": None if table.origin is None else asdict(table.origin),
    }


def _table(document: Mapping[str, Any], predicts: Predicts) -> Table:
    return Table(
        points=tuple(Point(**each) for each in document["points"]),
        rows=tuple(np.array(each) for each in document["rows"]),
        factor=document["factor"],
        origin=None if document["origin"] is None else Point(**document["origin"]),
        predicts=predicts,
    )
