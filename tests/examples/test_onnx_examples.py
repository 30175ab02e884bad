"""The ONNX examples: NumPy and ONNX Runtime sample what `dpm.sample` samples."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import dpmsolver as dpm
from dpmsolver.plans import Combination, Point, Row

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

EXAMPLES = Path(__file__).parents[2] / "examples"
DISCRETE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
SHAPE = (4, 3)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def graph(path: Path, label: int, outputs: int = 1) -> Path:
    """tanh(x) + label/1000 in ONNX, without torch, and twice that as the second output; `label` is the type of the labels."""
    from onnx import TensorProto, helper

    def of(name: str, kind: int, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, list(shape))

    nodes = [
        helper.make_node("Tanh", ["x"], ["bent"]),
        helper.make_node("Cast", ["t"], ["time"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["time", "one"], ["column"]),
        helper.make_node("Mul", ["column", "thousandth"], ["shift"]),
        helper.make_node("Add", ["bent", "shift"], ["y0"]),
        helper.make_node("Add", ["y0", "y0"], ["y1"]),
    ]
    numbers = [
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("thousandth", TensorProto.FLOAT, [], [1e-3]),
    ]
    found = [of(f"y{i}", TensorProto.FLOAT, "batch", 3) for i in range(outputs)]
    inputs = [of("x", TensorProto.FLOAT, "batch", 3), of("t", label, "batch")]
    made = helper.make_graph(nodes, "network", inputs, found, numbers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def in_numpy(x: Any, t: Any) -> Any:
    return np.tanh(x) + np.float32(1e-3) * t[:, None].astype(np.float32)


@pytest.mark.parametrize("kind", ["FLOAT", "INT64"])
@pytest.mark.parametrize("solver", ["dpm++2m", "dpm++2m-sde", "unipc-3", "sa-solver"])
def test_the_example_gives_the_samples_of_dpm_sample(tmp_path: Path, solver: str, kind: str) -> None:
    """To 1e-5 in float32, from one seed: the start, the noise, and labels that are numbers or training steps."""
    plan = dpm.make_plan(solver, DISCRETE, nfe=6, predicts="noise")
    (tmp_path / "plan.json").write_text(plan.to_json())
    network = graph(tmp_path / "network.onnx", getattr(onnx.TensorProto, kind))
    out = tmp_path / "samples.npy"
    given = [tmp_path / "plan.json", network, "--seed", 3, "--out", out, "--shape", *SHAPE]
    example("onnx_plan").main([str(each) for each in given])
    found = np.load(out)
    assert found.dtype == np.float32
    denoiser = dpm.Denoiser(in_numpy, DISCRETE, time_label="round" if kind == "INT64" else "float")
    x_T = (plan.start.sigma * dpm.backends.standard_normals([(3, i) for i in range(4)], 0, (3,))).astype(np.float32)
    expected = dpm.sample(denoiser, x_T, plan=plan, generator=3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, abs(expected).max()))


def test_a_network_of_two_outputs_serves_a_plan_of_two_answers(tmp_path: Path) -> None:
    """The outputs are the answers, in order."""
    reader = example("onnx_plan")
    points = [Point.at(DISCRETE, t) for t in (1.0, 0.5, 0.01)]
    rows = [Row(s, advance=Combination(0.5, (1.0, -0.25))) for s in points[:-1]]
    plan = dpm.Plan("noise", tuple(rows), points[-1], keeps_marginals=False, answers=2)
    network = reader.onnx_network(str(graph(tmp_path / "network.onnx", onnx.TensorProto.FLOAT, outputs=2)))
    x_T = np.ones(SHAPE, np.float32)
    found = reader.sample(reader.read(plan.to_json()), network, x_T, iter([None] * 3))
    x = x_T
    for point in points[:-1]:
        first = in_numpy(x, np.full(4, point.label))
        x = 0.5 * x + first - 0.25 * (2.0 * first)
    np.testing.assert_allclose(found, x, rtol=1e-6)


def test_changed_files_and_other_formats_are_refused() -> None:
    """In one sentence each."""
    reader = example("onnx_plan")
    plan = dpm.make_plan("rk2-t", dpm.schedules.LinearVP(), nfe=4)
    text = plan.to_json()
    assert reader.read(text)["solver"] == "rk2-t"
    with pytest.raises(ValueError, match="changed after it was written"):
        reader.read(text.replace('"rk2-t"', '"rk2"'))
    with pytest.raises(ValueError, match="this reader knows the formats 2 and 3, the plan has 9"):
        reader.read(text.replace('"format": 3', '"format": 9'))


def test_the_example_imports_no_framework() -> None:
    """Neither torch nor this library; reader, loop, network and command line are below 80 lines of code."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import onnx_plan; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code, str(EXAMPLES)], capture_output=True, text=True, check=True)
    assert not {"torch", "dpmsolver", "jax"} & set(loaded.stdout.split())
    code = re.sub(r'""".*?"""', "", (EXAMPLES / "onnx_plan.py").read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 80


# torch.onnx warns of its own use of torch, and of the name of an axis that two inputs share.
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning")
@pytest.mark.slow
def test_the_embedded_digits_sample_without_a_framework(tmp_path: Path) -> None:
    """Exported through torch, for any batch: the pictures of `dpm.sample` to 1e-5 of their range."""
    pytest.importorskip("onnxscript")
    example("export_onnx").main([str(tmp_path / "digits.onnx")])
    model = dpm.models.load("digits")
    plan = dpm.make_plan("dpm++2m", model.schedule, nfe=8)
    (tmp_path / "plan.json").write_text(plan.to_json())
    for batch in (1, 3):
        out = tmp_path / "samples.npy"
        given = [
            tmp_path / "plan.json",
            tmp_path / "digits.onnx",
            "--class",
            7,
            "--out",
            out,
            "--shape",
            batch,
            1,
            28,
            28,
        ]
        example("onnx_plan").main([str(each) for each in given])
        expected = dpm.sample(model.denoiser([7] * batch), model.initial_noise(batch, 0), plan=plan)
        np.testing.assert_allclose(np.load(out), expected.numpy(), rtol=0, atol=2e-5)
