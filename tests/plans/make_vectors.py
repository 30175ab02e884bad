"""Writes docs/vectors/*.json: plans with a network, a start and draws of noise, and the result that every reader has to find.

    python tests/plans/make_vectors.py

The results are computed here, with 50 digits and by the six lines of the specification alone, and rounded to float64 at the end. So they
are the plan's, and no reader's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

import dpmsolver as dpm
from dpmsolver.evaluation.convergence import some_statistics
from dpmsolver.plans import Combination, Point, Row

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
BATCH, SIZE = 2, 3
LINEAR = dpm.schedules.LinearVP()
DISCRETE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
NETWORK = {"predicts": "noise", "a": 0.5, "b": 0.1}
mpmath.mp.dps = 50


def two_answers() -> dpm.Plan:
    """DDIM for CFG++ (Chung et al. 2024, arXiv 2406.08070, algorithm 2): the data of the guided answer, the noise of the other one."""
    points = [Point.at(LINEAR, t) for t in (1.0, 0.7, 0.4, 0.1, 1e-3)]
    rows = []
    for s, t in pairwise(points):
        ratio = t.sigma / s.sigma
        rows.append(Row(s, advance=Combination(ratio, (t.alpha, -ratio * s.alpha))))
    return dpm.Plan("data", tuple(rows), points[-1], "ddim of CFG++", answers=2)


def tuned() -> dpm.Plan:
    """What a fit leaves: coefficients and labels of its own, with a checksum."""
    plan = dpm.make_plan("dpm++2m", DISCRETE, nfe=4)
    rows = []
    for k, row in enumerate(plan.rows):
        assert row.advance is not None
        moved = tuple(c * (1.0 + 0.01 * (k + i + 1)) for i, c in enumerate(row.advance.outputs))
        point = replace(row.point, label=row.point.label + 0.25 * k)
        rows.append(replace(row, point=point, advance=replace(row.advance, outputs=moved)))
    return replace(plan, rows=tuple(rows), keeps_marginals=False, solver="tuned")


def cases() -> dict[str, tuple[str, dpm.Plan, Any]]:
    """name: (what it tests, the plan, the network or one for each answer)."""
    laws = dpm.models.Mixture([[1.0, -0.5, 0.25]], [[0.25, 0.5, 0.01]])
    noise, data = NETWORK, NETWORK | {"predicts": "data"}

    def made(name: str, schedule: Any = LINEAR, nfe: int = 5, **options: Any) -> dpm.Plan:
        return dpm.make_plan(name, schedule, nfe, **options)

    return {
        "one-step": ("one output, nothing remembered", made("ddim"), noise),
        "one-evaluation": ("a single row", made("ddim", nfe=1), data),
        "multistep": ("outputs remembered, labels of training steps", made("dpm++2m", DISCRETE), noise),
        "noise-prediction": (
            "m is eps, from a network that predicts v",
            made("dpm-3m-exact"),
            noise | {"predicts": "v"},
        ),
        "singlestep": ("inputs that a row predicts", made("dpm-3", nfe=6), noise),
        "predictor-corrector": ("advance and predict in one row", made("unipc-3", nfe=6), noise),
        "flow": (
            "alpha = 0 at the start, a network that predicts a velocity",
            made("dpm++2m", dpm.schedules.Flow()),
            noise | {"predicts": "velocity"},
        ),
        "edm": ("sigma of 80, a score", made("heun", dpm.schedules.EDM(), nfe=7), noise | {"predicts": "score"}),
        "stochastic": ("a draw for each row", made("dpm++2m-sde"), noise),
        "stochastic-history": ("draws remembered", made("sa-solver"), noise),
        "outputs": ("what is remembered is made of u and m", made("velocity-2m"), data),
        "calibrated": (
            "coefficients for each coordinate, constants",
            made("dpm-v3", statistics=some_statistics(laws)),
            noise,
        ),
        "begin": (
            "a step before the first evaluation, and its origin",
            made("dpm-2m", dpm.schedules.EDM(sigma_max=700.0), predicts="noise"),
            noise,
        ),
        "tuned": ("keeps_marginals false, a checksum", tuned(), noise),
        "two-answers": ("two outputs of each evaluation", two_answers(), [noise, NETWORK | {"a": 0.3, "b": -0.2}]),
        "encode": ("from data to noise", made("dpm-2m", start=0.01, end=0.9), noise),
    }


def array(values: Any) -> Any:
    """Numbers of 50 digits, in a NumPy array of objects."""
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(values, dtype=np.float64))


def network(settings: dict[str, Any], u: Any, point: dict[str, float]) -> Any:
    """The output in the form that `predicts` names: a tanh(u) + b cos(label)."""
    label = mpmath.mpf(point["label"])
    return mpmath.mpf(settings["a"]) * np.vectorize(mpmath.tanh, otypes=[object])(u) + mpmath.mpf(
        settings["b"]
    ) * mpmath.cos(label)


def converted(raw: Any, predicts: str, wanted: str, u: Any, point: dict[str, float]) -> Any:
    """x_0 or eps from u = alpha x_0 + sigma eps and the network's output."""
    alpha, sigma = mpmath.mpf(point["alpha"]), mpmath.mpf(point["sigma"])
    if predicts == "score":
        raw, predicts = -sigma * raw, "noise"
    if predicts == "v":
        x0, eps = (alpha * u - sigma * raw) / (alpha**2 + sigma**2), (sigma * u + alpha * raw) / (alpha**2 + sigma**2)
    elif predicts == "velocity":
        x0, eps = (u - sigma * raw) / (alpha + sigma), (u + alpha * raw) / (alpha + sigma)
    elif predicts == "data":
        x0, eps = raw, (u - alpha * raw) / sigma
    else:
        x0, eps = None if alpha == 0 else (u - sigma * raw) / alpha, raw
    return x0 if wanted == "data" else eps


def combined(c: dict[str, Any], x: Any, outputs: list[Any], noise: list[Any]) -> Any:
    total = array(c["state"]) * x + array(c.get("constant", 0.0))
    for name, arrays in (("outputs", outputs), ("noise", noise)):
        for coefficient, each in zip(c.get(name, []), arrays, strict=False):
            total = total if each is None else total + array(coefficient) * each
    return total


def result(plan: dict[str, Any], networks: list[dict[str, Any]], x: Any, draws: Iterator[Any]) -> Any:
    u, outputs, noise = x, [], []
    if "begin" in plan:
        noise = [next(draws)]
        u = combined(plan["begin"], x, [], noise)
    for row in plan["rows"]:
        answers = [
            converted(network(n, u, row["point"]), n["predicts"], plan["prediction"], u, row["point"]) for n in networks
        ]
        outputs = [combined(row["output"], u, [m], []) if "output" in row else m for m in answers] + outputs
        noise = [next(draws), *noise]
        x = combined(row["advance"], x, outputs, noise) if row["advance"] else x
        u = combined(row["predict"], x, outputs, noise) if row["predict"] else x
    return x


def used(plan: dpm.Plan) -> Callable[[int], bool]:
    """Whether a draw, by its number, has a coefficient that is not 0."""
    found = {
        k - age
        for k, row in enumerate(plan.all_rows)
        for c in (row.advance, row.predict)
        if c is not None
        for age, coefficient in enumerate(c.noise)
        if coefficient
    }
    return found.__contains__


def vector(what: str, plan: dpm.Plan, networks: Any, seed: int) -> dict[str, Any]:
    generator, needed = np.random.default_rng(seed), used(plan)
    document = json.loads(plan.to_json())
    x_T = plan.start.alpha * 0.5 + plan.start.sigma * generator.standard_normal((BATCH, SIZE))
    drawn = [generator.standard_normal((BATCH, SIZE)).tolist() if needed(k) else None for k in range(plan.draws)]
    settings = networks if isinstance(networks, list) else [networks]
    exact = result(document, settings, array(x_T), (None if z is None else array(z) for z in drawn))
    return {
        "what": what,
        "networks": settings,
        "x_T": x_T.tolist(),
        "noise": drawn,
        "expected": exact.astype(np.float64).tolist(),
        "plan": document,
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for seed, (name, case) in enumerate(cases().items()):
        text = json.dumps(vector(*case, seed))
        (FOLDER / f"{name}.json").write_text(text + "\n")
        sys.stdout.write(f"{name} {len(text)}\n")


if __name__ == "__main__":
    main()
