"""The choices of a scheduler's user, as plain values that its config can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpmsolver.adapters.diffusers.course import Choice
from dpmsolver.errors import PlanError
from dpmsolver.plans.plan import Plan

__all__ = ["SETTINGS", "choice_of", "document", "plain", "settled"]

SETTINGS = ("solver", "plan", "grid", "options", "noise", "clip")


def document(plan: Any) -> Any:
    """Return a plan as its JSON document, or None for no plan."""
    if plan is None or isinstance(plan, Mapping):
        return plan
    if isinstance(plan, Plan):
        return json.loads(plan.to_json())
    if not isinstance(plan, (str, Path)):
        raise TypeError(f"plan must be a dpm.Plan or the path of a JSON file, got {type(plan).__name__}")
    try:
        return json.loads(Path(plan).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"the plan cannot be read: {error}") from None
    except ValueError as error:
        raise PlanError(f"{plan} holds no plan in JSON: {error}") from None


def settled(saved: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the settings: the new ones over the saved ones. A new solver replaces a saved plan, and a new plan a saved solver."""
    if asked["solver"] is not None and asked["plan"] is not None:
        raise PlanError("give a solver or a plan, not both: a plan says every step already")
    if asked["solver"] is not None or asked["plan"] is not None:
        saved = {}
    settings = {name: saved.get(name) if asked[name] in (None, {}) else asked[name] for name in SETTINGS}
    if settings["plan"] is not None:
        settings["solver"] = None
        if settings["grid"] is not None or settings["options"]:
            raise PlanError("a plan says its grid and its options already: drop grid and options, or give a solver")
    else:
        settings["solver"] = settings["solver"] or "auto"
    settings["options"] = {name: plain(value) for name, value in (settings["options"] or {}).items()}
    return settings


def choice_of(settings: Mapping[str, Any]) -> Choice:
    if settings["plan"] is not None:
        return Choice(plan=Plan.from_json(json.dumps(settings["plan"])))
    return Choice(settings["solver"], None, settings["grid"], settings["options"])


def plain(value: Any) -> Any:
    """Return a value in the form that it has in JSON."""
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, tuple) else value
