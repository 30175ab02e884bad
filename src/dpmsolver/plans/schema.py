"""The JSON schema of plan files, `plan.schema.json`, and the part of JSON Schema that is needed to check a file against it.

A file is checked against the schema before a plan is made of it. Every reader of the schema refuses the same files, and the message names
the place. Conditions between fields, such as the checksum, are checked when the plan is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["fault", "schema"]

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "null": "null",
}


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of plan files (draft 2020-12).

    Examples:
        >>> schema()["properties"]["prediction"]["enum"]
        ['noise', 'data']
    """
    found: dict[str, Any] = json.loads(resources.files("dpmsolver.plans").joinpath("plan.schema.json").read_text())
    return found


def fault(document: Any) -> str | None:
    """Return what is wrong with the document of a plan, as a clause that names the place, or None if it fits the schema.

    Examples:
        >>> fault([])
        'the document must be an object, got []'
        >>> fault({"format": 3})
        "the field 'solver' is missing"
    """
    return _fault(document, schema(), "")


def _fault(value: Any, rule: Mapping[str, Any], place: str) -> str | None:
    here, ways = place or "the document", [_resolved(each) for each in _resolved(rule).get("anyOf", [rule])]
    fitting = [each for each in ways if "type" not in each or _is(value, each["type"])]
    if not fitting:
        return f"{here} must be {' or '.join(_WORDS[each['type']] for each in ways)}, got {_shown(value)}"
    rule = fitting[0]
    if "enum" in rule and value not in rule["enum"]:
        return f"{here} must be one of {', '.join(map(str, rule['enum']))}, got {_shown(value)}"
    if "minimum" in rule and value < rule["minimum"]:
        return f"{here} must be at least {rule['minimum']}, got {_shown(value)}"
    if isinstance(value, list):
        if not value and rule.get("minItems"):
            return f"{here} needs at least one item, got {_shown(value)}"
        faults = (_fault(each, rule["items"], f"{place}[{i}]") for i, each in enumerate(value))
        return next((each for each in faults if each is not None), None)
    return _fault_of_fields(value, rule, place) if "properties" in rule else None


def _fault_of_fields(value: Mapping[str, Any], rule: Mapping[str, Any], place: str) -> str | None:
    """What is wrong with the fields of an object: one that is missing, one that nobody knows, or one that is wrong in itself."""
    properties = rule["properties"]
    within = f" of {place}" if place else ""
    for name in rule.get("required", ()):
        if name not in value:
            return f"the field {name!r}{within} is missing"
    for name in value:
        if name not in properties:
            return f"the field {name!r}{within} is none of {', '.join(properties)}"
    parts = ((f"{place}.{name}" if place else name, each, properties[name]) for name, each in value.items())
    faults = (_fault(each, own, where) for where, each, own in parts)
    return next((each for each in faults if each is not None), None)


def _is(value: Any, kind: str) -> bool:
    """JSON's true and false are no numbers, though Python's are."""
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _resolved(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule, or the one that it refers to."""
    return schema()["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
