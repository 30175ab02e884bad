"""Sample with a plan in JSON and a network in ONNX: NumPy and ONNX Runtime are all it takes, and this file is all of the sampler.

    dpmsolver plan dpm++2m --schedule digits --nfe 10 --json > plan.json
    python export_onnx.py digits.onnx
    python onnx_plan.py plan.json digits.onnx --shape 16 1 28 28 --class 7 --out samples.npy

The network takes x and t, the state and one label per sample, after them a class if it has any, and returns what `--predicts` names.
A plan of two answers takes a network of two outputs. Every plan that docs/plan-format.md describes is read; a file of another format,
or with another checksum, is refused.
"""

import argparse
import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np


def read(text):
    """The plan in a file, if it is one that this reader knows, as it was written."""
    plan = json.loads(text)
    if plan["format"] not in (2, 3):
        raise ValueError(f"this reader knows the formats 2 and 3, the plan has {plan['format']}")
    if plan["format"] == 3 and not plan["keeps_marginals"]:
        content = {name: value for name, value in plan.items() if name != "checksum"}
        written = json.dumps(content, sort_keys=True, separators=(",", ":"))
        if hashlib.sha256(written.encode()).hexdigest() != plan.get("checksum"):
            raise ValueError("the plan's numbers were changed after it was written: its checksum is another one")
    return plan


def combine(step, x, outputs, noise):
    """state x + sum outputs_i m_i + sum noise_i z_i + constant; coefficients are numbers, or lists that broadcast against a sample."""
    number = partial(np.asarray, dtype=x.dtype)
    total = number(step["state"]) * x + number(step.get("constant", 0.0))
    for name, arrays in (("outputs", outputs), ("noise", noise)):
        for coefficient, array in zip(
            step.get(name, []), arrays, strict=False
        ):  # a draw without a coefficient may be None
            total = total if array is None else total + number(coefficient) * array
    return total


def convert(raw, predicts, wanted, u, point):
    """What a network's output says of the noise or of the data, from u = alpha x_0 + sigma eps."""
    a, s = point["alpha"], point["sigma"]
    p, q = {"noise": (0, 1), "data": (1, 0), "v": (-s, a), "velocity": (-1, 1), "score": (0, s and -1 / s)}[
        predicts
    ]  # raw = p x_0 + q eps
    if wanted == "data":
        return (q * u - s * raw) / (a * q - s * p)
    return (a * raw - p * u) / (a * q - s * p)


def sample(plan, network, x, draws, predicts="noise"):
    """Run a plan: network(u, label) returns a list of outputs, one for each answer; draws yields one normal for each row, or None."""
    outputs, noise, u = [], [], x
    if "begin" in plan:
        noise = [next(draws)]
        u = combine(plan["begin"], x, [], noise)
    for row in plan["rows"]:
        answers = network(u, row["point"]["label"])
        kept = [convert(raw, predicts, plan["prediction"], u, row["point"]) for raw in answers]
        outputs = [combine(row["output"], u, [m], []) if row.get("output") else m for m in kept] + outputs
        noise = [next(draws), *noise]
        x = combine(row["advance"], x, outputs, noise) if row["advance"] else x
        u = combine(row["predict"], x, outputs, noise) if row["predict"] else x
    return x


def normals(seed, number, shape):
    """Draw `number` of a seed, sample by sample, as dpm.sample draws it on NumPy; number 0 is the start's."""
    sequences = [np.random.SeedSequence((seed, i), spawn_key=(number,)) for i in range(shape[0])]
    return np.stack([np.random.Generator(np.random.Philox(each)).standard_normal(shape[1:]) for each in sequences])


def onnx_network(path, number=None):
    """A network in ONNX as sample() wants it; labels are integers where the network takes integers, and the class is the last input."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    state, label, *more = session.get_inputs()
    kind = np.int64 if "int" in label.type else np.float64 if "double" in label.type else np.float32

    def network(u, t):
        given = {state.name: u, label.name: np.full(len(u), round(t) if kind is np.int64 else t, kind)}
        return session.run(None, given | {each.name: np.full(len(u), number, np.int64) for each in more})

    return network


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("network")
    parser.add_argument("--shape", type=int, nargs="+", required=True, help="of x_T: samples first")
    parser.add_argument("--predicts", default="noise", choices=("noise", "data", "v", "score", "velocity"))
    parser.add_argument(
        "--class", dest="number", type=int, help="the class of all samples, for a network that takes one"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default="samples.npy")
    given = parser.parse_args(arguments)
    plan, shape = read(given.plan.read_text()), tuple(given.shape)
    start = plan.get("origin", plan["rows"][0]["point"])
    x_T = (start["sigma"] * normals(given.seed, 0, shape)).astype(np.float32)
    draws = (normals(given.seed, number, shape).astype(np.float32) for number in range(1, len(plan["rows"]) + 2))
    np.save(given.out, sample(plan, onnx_network(given.network, given.number), x_T, draws, given.predicts))


if __name__ == "__main__":
    main()
