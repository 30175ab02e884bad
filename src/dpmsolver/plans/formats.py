"""Plans as text: a table for reading, and JSON that keeps every digit.

Format 3 adds a checksum to plans that leave the marginals, because no other check could detect changed numbers. Format 2 is read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dpmsolver.errors import PlanError
from dpmsolver.plans.combination import from_dict, to_dict
from dpmsolver.plans.rows import Point, Row
from dpmsolver.plans.schema import fault

if TYPE_CHECKING:
    from dpmsolver.plans.plan import Plan

__all__ = ["from_json", "table", "to_json"]

_FORMAT = 3
_READ = (2, 3)
_PROVENANCE = ("solver", "schedule", "grid", "options")
_STEPS = ("advance", "predict", "output")


def table(plan: Plan) -> str:
    """Return what made a plan, and one line per evaluation with all of its combinations."""
    heading = f"{plan.solver or 'plan'}: {plan.nfe} evaluations, {plan.prediction} prediction"
    if plan.answers != 1:
        heading += f", {plan.answers} outputs each"
    lines = [heading if plan.keeps_marginals else f"{heading}, leaves the marginals"]
    if plan.schedule:
        said = [f"grid {plan.grid}", *(f"{name}={value}" for name, value in plan.options.items())]
        lines.append(f"{plan.schedule}, {', '.join(said)}")
    lines.append(f"{'':>4} {'time':>10} {'label':>10} {'alpha':>10} {'sigma':>10} {'lambda':>8}  combination")
    if plan.begin is not None:
        lines.append(f" x_T {_columns(plan.start)}  u <- {plan.begin}")
    for index, row in enumerate(plan.rows):
        steps = (("m", row.output), ("x", row.advance), ("u", row.predict))
        what = [f"{name} <- {combination}" for name, combination in steps if combination is not None]
        lines.append(f"{index:>4} {_columns(row.point)}  {';  '.join(what)}")
    lines.append(f" end {_columns(plan.end)}")
    return "\n".join(lines)


def to_json(plan: Plan) -> str:
    """Return a plan as JSON text. Fields with their default values are left out."""
    rows = [
        {"point": vars(r.point), **{k: to_dict(getattr(r, k)) for k in _STEPS if getattr(r, k) or k != "output"}}
        for r in plan.rows
    ]
    document: dict[str, Any] = {
        "format": _FORMAT,
        **{name: getattr(plan, name) for name in _PROVENANCE},
        "prediction": plan.prediction,
        "keeps_marginals": plan.keeps_marginals,
        "rows": rows,
        "end": vars(plan.end),
    }
    if plan.origin is not None:
        document |= {"begin": to_dict(plan.begin), "origin": vars(plan.origin)}
    if plan.source:
        document["source"] = plan.source
    if plan.answers != 1:
        document["answers"] = plan.answers
    if not plan.keeps_marginals:
        document["checksum"] = _checksum(document)
    return json.dumps(document, allow_nan=False)


def from_json(text: str, make: Callable[..., Plan]) -> Plan:
    """Return the plan that `to_json` wrote, made by `make`, which checks it. Raise PlanError for any other text."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(
            f"not a plan in JSON, or one that was cut short ({error}): write it again with plan.to_json()"
        ) from None
    known = document.get("format") if isinstance(document, dict) else None
    if isinstance(known, int) and known not in _READ:
        raise PlanError(f"this plan has format {known}, this version reads {_READ[0]} to {_READ[-1]}")
    if (found := fault(document)) is not None:
        raise PlanError(f"not a plan in JSON: {found}")
    if document["format"] >= 3 and not document["keeps_marginals"]:
        _require_checksum(document)
    try:
        return make(
            document["prediction"],
            tuple(_row(row) for row in document["rows"]),
            Point(**document["end"]),
            keeps_marginals=document["keeps_marginals"],
            begin=from_dict(document.get("begin")),
            origin=Point(**document["origin"]) if "origin" in document else None,
            answers=document.get("answers", 1),
            source=document.get("source", ""),
            **{name: document[name] for name in _PROVENANCE},
        )
    except ValueError as error:  # PlanError is one of them
        raise error if isinstance(error, PlanError) else PlanError(f"not a plan in JSON: {error}") from None


def _checksum(document: Mapping[str, Any]) -> str:
    """The SHA-256 sum of a document without its checksum, whatever its spaces and the order of its names."""
    content = {name: value for name, value in document.items() if name != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _require_checksum(document: Mapping[str, Any]) -> None:
    found, wanted = document.get("checksum"), _checksum(document)
    if found != wanted:
        what = (
            "it has no checksum" if found is None else f"its checksum is {str(found)[:12]} and should be {wanted[:12]}"
        )
        raise PlanError(
            f"this plan's numbers were changed after it was written ({what}): take the file as it was written, or make the plan again; "
            "for numbers of your own build dpm.Plan(…) and write it with to_json()"
        )


def _row(row: Mapping[str, Any]) -> Row:
    steps = (row["advance"], row["predict"], row.get("output"))
    return Row(Point(**row["point"]), *map(from_dict, steps))


def _columns(point: Point) -> str:
    return (
        f"{point.time:>10.6g} {point.label:>10.6g} {point.alpha:>10.6g} {point.sigma:>10.6g} {point.half_log_snr:>8.4g}"
    )
