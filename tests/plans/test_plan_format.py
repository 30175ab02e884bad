"""The plan format: the schema, the test vectors, and two independent readers of them agree with the library."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from cases import a_budget
from dpmsolver.errors import PlanError
from dpmsolver.evaluation.convergence import some_statistics
from dpmsolver.plans import Point
from dpmsolver.plans.loop import run, steps
from dpmsolver.plans.schema import fault, schema
from dpmsolver.plans.targets import conversion
from dpmsolver.solvers import SOLVERS

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
VECTORS = sorted((ROOT / "docs" / "vectors").glob("*.json"))
MIXTURE = dpm.models.Mixture([[1.0, -0.5, 0.25]], [[0.25, 0.5, 0.01]])
VALID = jsonschema.Draft202012Validator(schema())


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def a_plan(name: str) -> dpm.Plan:
    solver = SOLVERS[name]
    options = {"statistics": some_statistics(MIXTURE)} if solver.calibrated else {}
    return dpm.make_plan(name, dpm.schedules.LinearVP(), a_budget(solver), **options)


def test_the_schema_is_one() -> None:
    """It is valid in itself, and ships with the package."""
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_s_plan_fits_the_schema(name: str) -> None:
    """For jsonschema and for the library's own reader of the schema, in both formats."""
    document = json.loads(a_plan(name).to_json())
    VALID.validate(document)
    assert fault(document) is None
    document.pop("checksum", None)
    VALID.validate(document | {"format": 2})
    assert dpm.Plan.from_json(json.dumps(document | {"format": 2})) == a_plan(name)


SOUND = json.loads((ROOT / "docs" / "vectors" / "begin.json").read_text())["plan"]


def at(document: Any, *path: Any) -> Any:
    for part in path:
        document = document[part]
    return document


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no format": lambda d: d.pop("format"),
    "a format of the future": lambda d: d.update(format=4),
    "a format in words": lambda d: d.update(format="3"),
    "no rows": lambda d: d.pop("rows"),
    "empty rows": lambda d: d.update(rows=[]),
    "rows that are none": lambda d: d.update(rows={}),
    "a row that is none": lambda d: d["rows"].insert(0, 3),
    "an unknown field": lambda d: d.update(comment="mine"),
    "an unknown field of a row": lambda d: d["rows"][0].update(advnace=None),
    "an unknown field of a step": lambda d: d["rows"][0]["advance"].update(output=[1.0]),
    "no advance": lambda d: d["rows"][0].pop("advance"),
    "a step that is a number": lambda d: d["rows"][0].update(predict=1.0),
    "no state": lambda d: d["rows"][0]["advance"].pop("state"),
    "a state in words": lambda d: d["rows"][0]["advance"].update(state="1"),
    "a state that is true": lambda d: d["rows"][0]["advance"].update(state=True),
    "an empty array": lambda d: d["rows"][0]["advance"].update(state=[]),
    "a number for outputs": lambda d: d["rows"][0]["advance"].update(outputs=1.0),
    "null among outputs": lambda d: d["rows"][0]["advance"].update(outputs=[None]),
    "an array of noise": lambda d: d["rows"][0]["advance"].update(noise=[[1.0]]),
    "a point without sigma": lambda d: d["end"].pop("sigma"),
    "a negative sigma": lambda d: d["end"].update(sigma=-1.0),
    "a time in words": lambda d: d["end"].update(time="0"),
    "another prediction": lambda d: d.update(prediction="v"),
    "marginals in words": lambda d: d.update(keeps_marginals="yes"),
    "half an answer": lambda d: d.update(answers=0.5),
    "no answer": lambda d: d.update(answers=0),
    "a solver that is a number": lambda d: d.update(solver=1),
    "options in a list": lambda d: d.update(options=[]),
    "begin without origin": lambda d: d.pop("origin"),
    "origin without begin": lambda d: d.pop("begin"),
    "no checksum": lambda d: d.pop("checksum"),
    "a short checksum": lambda d: d.update(checksum="abc"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_schema_refuses_from_json_refuses_with_a_sentence(name: str) -> None:
    """The message is one line that names the field and the value, and no error of Python's."""
    document = copy.deepcopy(SOUND)
    VALID.validate(document)
    BROKEN[name](document)
    assert not VALID.is_valid(document)
    with pytest.raises(PlanError) as caught:
        dpm.Plan.from_json(json.dumps(document))
    message = str(caught.value)
    assert "\n" not in message
    assert not re.search(r"\w+Error|object is not|NoneType", message)


def test_rows_of_unequal_length_in_an_array_are_refused() -> None:
    """What a schema cannot say."""
    document = copy.deepcopy(SOUND)
    document.pop("checksum")
    document["rows"][0]["advance"]["state"] = [[1.0], [1.0, 2.0]]
    with pytest.raises(PlanError, match="not a plan in JSON"):
        dpm.Plan.from_json(json.dumps(document | {"format": 2}))


def analytic(settings: dict[str, Any], u: Any, label: float) -> Any:
    return settings["a"] * np.tanh(u) + settings["b"] * np.cos(label)


def require_expected(found: Any, vector: dict[str, Any]) -> None:
    expected = np.array(vector["expected"])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * abs(expected).max())


def drawn(vector: dict[str, Any]) -> list[Any]:
    return [None if z is None else np.array(z) for z in vector["noise"]]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_library_s_loop_finds_the_vector_s_result(path: Path) -> None:
    """To 1e-13 of what 50 digits give."""
    vector = json.loads(path.read_text())
    VALID.validate(vector["plan"])
    plan = dpm.Plan.from_json(json.dumps(vector["plan"]))

    def network(u: Any, point: Point) -> Any:
        found = []
        for settings in vector["networks"]:
            a, b = conversion(settings["predicts"], plan.prediction, point.alpha, point.sigma)
            found.append(a * u + b * analytic(settings, u, point.label))
        return tuple(found)

    require_expected(run(steps(plan, np.array(vector["x_T"]), iter(drawn(vector))), network), vector)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_example_s_reader_finds_the_vector_s_result(path: Path) -> None:
    """A reader of NumPy alone, which shares no line with the library."""
    reader, vector = module_of(ROOT / "examples" / "onnx_plan.py"), json.loads(path.read_text())
    networks, draws = vector["networks"], drawn(vector)
    found = reader.sample(
        reader.read(json.dumps(vector["plan"])),
        lambda u, label: [analytic(settings, u, label) for settings in networks],
        np.array(vector["x_T"]),
        iter([*draws, *[None] * (1 + len(vector["plan"]["rows"]) - len(draws))]),
        networks[0]["predicts"],
    )
    require_expected(found, vector)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_loop_of_the_specification_finds_the_vector_s_result(path: Path) -> None:
    """The lines that docs/plan-format.md prints, as they stand there; and its table names the file."""
    page = (ROOT / "docs" / "plan-format.md").read_text()
    vector, names = json.loads(path.read_text()), {}
    assert f"| [{path.stem}](vectors/{path.name}) | {vector['what']} |" in page
    exec(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0], names)
    prediction = vector["plan"]["prediction"]

    def network(u: Any, point: dict[str, float]) -> list[Any]:
        found = []
        for settings in vector["networks"]:
            a, b = conversion(settings["predicts"], prediction, point["alpha"], point["sigma"])
            found.append(a * u + b * analytic(settings, u, point["label"]))
        return found

    x_T = np.array(vector["x_T"])
    draws = iter([np.zeros_like(x_T) if z is None else z for z in drawn(vector)])
    require_expected(names["sample"](vector["plan"], network, x_T, draws), vector)


def test_the_expected_results_are_those_of_50_digits() -> None:
    """Computed again from the files, by the script that wrote them, to the last digit; they cover its list of cases."""
    pytest.importorskip("mpmath")
    script = module_of(Path(__file__).parent / "make_vectors.py")
    assert set(script.cases()) == {path.stem for path in VECTORS}
    for path in VECTORS:
        vector = json.loads(path.read_text())
        draws = (None if z is None else script.array(z) for z in vector["noise"])
        found = script.result(vector["plan"], vector["networks"], script.array(vector["x_T"]), draws)
        assert found.astype(np.float64).tolist() == vector["expected"]


def test_the_vectors_cover_the_format() -> None:
    """Every field that a plan may have is in one of them, and both predictions, arrays and draws that are remembered."""
    plans = [json.loads(path.read_text())["plan"] for path in VECTORS]
    assert set().union(*plans) == set(schema()["properties"])
    steps_of = [
        c for plan in plans for row in plan["rows"] for c in (row["advance"], row["predict"], row.get("output")) if c
    ]
    assert set().union(*steps_of) == set(schema()["$defs"]["combination"]["properties"])
    assert {plan["prediction"] for plan in plans} == {"noise", "data"}
    assert any(isinstance(c["state"], list) for c in steps_of)
    assert any(len(c.get("noise", [])) > 1 for c in steps_of)
