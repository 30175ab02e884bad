"""The evidence behind `solver="auto"`: which solver on which grid comes nearest to the exact trajectory, for each budget.

    python -m benchmarks.choice                  measures what is not measured yet (hours on one core, most of it networks)
    python -m benchmarks.choice --only EDM       measures what is missing on these testbeds alone, by a regular expression
    python -m benchmarks.choice --again          measures what has figures again, too
    python -m benchmarks.choice --frechet        measures Frechet distances of the choice and of some others on two networks (ten minutes)
    python -m benchmarks.choice --render         measures nothing and writes the page from the figures
    python -m benchmarks.choice --check          measures nothing; fails where figures, choice and page do not agree

The error of a candidate is the root mean square distance of its results to those of a converged run from the same noise, and its ratio
is that error over the smallest of any candidate on the same testbed. No candidate is the best everywhere, so the choice is by the
worst ratio: over trained networks, which count two thirds, and over laws in closed form. Half of the testbeds choose, with all candidates.
The other half, with other noises, judge: there the finalists alone are measured. Written are benchmarks/results/choice.json and
docs/choosing.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import dpmsolver as dpm
from dpmsolver import backends
from dpmsolver.evaluation.distances import trajectory_error
from dpmsolver.evaluation.frechet import frechet_distance_to
from dpmsolver.evaluation.measures import host
from dpmsolver.files import written_aside
from dpmsolver.models.testbeds import Testbed, load_testbed
from dpmsolver.schedules import EDM, Discrete, Flow, LinearVP, NoiseSchedule, scaled_linear_betas
from dpmsolver.solvers.auto import CANDIDATE_GRIDS, CANDIDATE_SOLVERS, choice_of, kind_of

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "choice.json", ROOT / "docs" / "choosing.md"
NFES = (5, 6, 8, 10, 12, 15, 20)
SOLVERS, GRIDS = CANDIDATE_SOLVERS, CANDIDATE_GRIDS
REFERENCE, REFERENCE_NFE = "unipc-3", 200
TRAINED_WEIGHT = 2.0 / 3.0
# A choice may be worse than the best by this factor: one solver for neighbouring budgets is worth something.
NEAR = 1.2
FINALISTS, LISTED = 12, 4
BAR = 1.6  # the ratio that a choice should keep on the judges


def _zero_terminal(betas: np.ndarray) -> NoiseSchedule:
    """Betas rescaled to no signal at the last step (Lin et al. 2023, arXiv 2305.08891, algorithm 1)."""
    root = np.sqrt(np.cumprod(1.0 - betas))
    return Discrete(alphas_cumprod=np.square((root - root[-1]) * root[0] / (root[0] - root[-1])))


def _cosine(steps: int = 1000) -> NoiseSchedule:
    """The betas of Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17."""
    signal = np.cos(0.5 * np.pi * (np.linspace(0.0, 1.0, steps + 1) + 0.008) / 1.008) ** 2
    return Discrete(betas=np.minimum(1.0 - signal[1:] / signal[:-1], 0.999))


SCHEDULES: dict[str, NoiseSchedule] = {
    "linear": Discrete(betas=np.linspace(1e-4, 0.02, 1000)),
    "scaled-linear": Discrete(betas=scaled_linear_betas()),
    "zero-SNR": _zero_terminal(np.linspace(1e-4, 0.02, 1000)),
    "cosine": _cosine(),
    "LinearVP": LinearVP(),
    "EDM": EDM(),
    "flow": Flow(),
    "flow-shift-3": Flow(shift=3.0),
}


@dataclass(frozen=True)
class Case:
    """A network or a law, under a schedule, with a guidance scale: what candidates are measured on."""

    testbed: str
    schedule: str = ""
    predicts: str = ""
    guidance: float = 1.0
    judges: bool = False

    @property
    def name(self) -> str:
        """The name in the figures and on the page."""
        guided = "" if self.guidance == 1.0 else f"guidance {self.guidance:g}"
        return " ".join(part for part in (self.testbed, self.schedule, self.predicts, guided) if part)

    @property
    def trained(self) -> bool:
        """Whether it is a trained network, not a law in closed form."""
        return not self.schedule or self.testbed == "cifar10"

    @property
    def chooses_among_all(self) -> bool:
        """Whether it measures every candidate: the dearest networks, guided or large, choose among the finalists of the others."""
        return not self.judges and self.guidance == 1.0 and self.testbed != "cifar10"

    @property
    def num(self) -> int:
        """Samples: few where they cost most."""
        if self.testbed == "cifar10":
            return 6  # whose errors are much alike
        return 12 if self.trained and not self.testbed.startswith("moons") else 16 if "3072" in self.name else 24

    def load(self) -> Testbed:
        """The testbed."""
        if not self.trained:
            return load_testbed(self.testbed, schedule=SCHEDULES[self.schedule], predicts=self.predicts or None)
        testbed = load_testbed(self.testbed, features="auto" if "moons" in self.testbed else "none")
        return in_edm(testbed) if self.schedule else testbed

    def denoiser(self, testbed: Testbed) -> dpm.Denoiser:
        """The denoiser of its samples, guided towards their classes."""
        labels = testbed.labels(range(self.num))
        plain = testbed.denoiser(labels)
        if self.guidance == 1.0:
            return plain
        wanted = plain.network_kwargs["class_labels"]
        condition, nothing = {"class_labels": wanted}, {"class_labels": 0 * wanted + testbed.num_classes}
        return plain.replace(network_kwargs={}, guidance=dpm.guidance.ClassifierFree(self.guidance, condition, nothing))


def in_edm(testbed: Testbed) -> Testbed:
    """A network that predicts noise as one of EDM: it is given the state divided by sqrt(1 + sigma^2), and predicts the data.

    The noise levels of the network begin at sigma/alpha = 0.01, and so do those of the schedule.
    """
    own = testbed.schedule
    schedule = EDM(sigma_min=float(np.exp(-own.half_log_snr(own.t_min))))

    def denoiser(labels: Sequence[int] | None) -> dpm.Denoiser:
        plain = testbed.denoiser(labels)

        def data(x: Any, sigma: Any, **kwargs: Any) -> Any:
            level = sigma.reshape(-1, *[1] * (x.ndim - 1))
            logs = np.minimum(-np.log(host(sigma)), own.half_log_snr(own.t_min))
            labels = np.array([own.label(time) for time in own.time(logs).ravel()]).reshape(sigma.shape)
            return x - level * plain.network(
                x / (1.0 + level**2) ** 0.5, backends.of(x).from_numpy(labels, x), **kwargs
            )

        return plain.replace(network=data, schedule=schedule, predicts="data")

    return replace(testbed, schedule=schedule, network_denoiser=denoiser)


CASES = (
    # Variance preserving
    Case("digits"),
    Case("digits", guidance=3.0),
    Case("cifar10"),
    Case("moons-linear"),
    Case("cifar10-mixture", "linear"),
    Case("cifar10-gaussian", "scaled-linear"),
    Case("mixture-16", "LinearVP"),
    Case("digits", guidance=7.5, judges=True),
    Case("cifar10-small", judges=True),
    Case("cifar10-mixture", "scaled-linear", judges=True),
    Case("cifar10-mixture", "linear", guidance=3.0, judges=True),
    Case("cifar10-gaussian", "LinearVP", judges=True),
    Case("empirical", "linear", judges=True),
    # Variance exploding
    Case("digits-edm"),
    Case("digits-edm", guidance=3.0),
    Case("cifar10", "EDM"),
    Case("cifar10-mixture", "EDM"),
    Case("empirical", "EDM"),
    Case("moons-edm", judges=True),
    Case("cifar10-gaussian", "EDM", judges=True),
    Case("mixture-16", "EDM", judges=True),
    # No signal at the start
    Case("digits-flow"),
    Case("digits-flow", guidance=3.0),
    Case("digits-cosine-v"),
    Case("cifar10-mixture", "flow", "velocity"),
    Case("cifar10-gaussian", "zero-SNR", "v"),
    Case("empirical", "flow", "velocity"),
    Case("moons-flow", judges=True),
    Case("digits-cosine-v", guidance=3.0, judges=True),
    Case("cifar10-mixture", "flow-shift-3", "velocity", judges=True),
    Case("cifar10-mixture", "flow", "velocity", 7.5, judges=True),
    Case("cifar10-mixture", "cosine", "v", judges=True),
    Case("cifar10-gaussian", "flow", "velocity", judges=True),
    Case("mixture-16", "zero-SNR", "v", judges=True),
    # Noise where there is no signal
    Case("digits-cosine"),
    Case("digits-cosine", guidance=3.0),
    Case("cifar10-gaussian", "cosine", "noise"),
    Case("mixture-16", "cosine", "noise"),
    Case("cifar10-mixture", "cosine", "noise", judges=True),
    Case("cifar10-mixture", "zero-SNR", "noise", judges=True),
    # Noise on a flow
    Case("cifar10-mixture", "flow", "noise"),
    Case("mixture-16", "flow", "noise"),
    Case("cifar10-gaussian", "flow-shift-3", "noise", judges=True),
    Case("empirical", "flow", "noise", judges=True),
)
KINDS = {
    "variance preserving": "Variance preserving: linear and scaled-linear betas",
    "variance exploding": "Variance exploding: EDM",
    "no signal at the start": "No signal at the start: flows; v under cosine betas and zero SNR",
    "noise where there is no signal": "Networks of noise under cosine betas and zero SNR",
    "noise on a flow": "Networks of noise on a flow",
}
CANDIDATES = tuple(f"{solver}@{grid}" for solver, grid in itertools.product(SOLVERS, GRIDS))


def run_of(candidate: str, schedule: NoiseSchedule, nfe: int, end: float, predicts: str) -> dpm.Plan | None:
    """The plan of a candidate; None where it cannot be: a budget, a limit or a grid that it does not have."""
    solver, grid = candidate.split("@")
    try:
        return dpm.make_plan(solver, schedule, nfe, grid, end=end, predicts=predicts)
    except dpm.PlanError:
        return None


def missing(testbed: Testbed, candidates: Sequence[str], known: Mapping[str, Any]) -> dict[int, dict[str, dpm.Plan]]:
    """Budget -> candidate -> its plan, of those that can spend the budget and have no figure among the known ones."""
    schedule, predicts = testbed.schedule, testbed.predicts
    found = {}
    for nfe in NFES:
        end = dpm.make_plan("ddim", schedule, nfe, predicts=predicts).end.time
        new = [candidate for candidate in candidates if candidate not in known.get(str(nfe), {})]
        plans = {candidate: run_of(candidate, schedule, nfe, end, predicts) for candidate in new}
        found[nfe] = {candidate: plan for candidate, plan in plans.items() if plan is not None}
    return found


def measure(case: Case, testbed: Testbed, plans: Mapping[int, Mapping[str, dpm.Plan]]) -> dict[str, Any]:
    """The reference's own error, and budget -> candidate -> error."""
    seed = 0 if case.chooses_among_all else 1
    denoiser, x_T = case.denoiser(testbed), testbed.initial_noise(range(case.num), seed)
    ends = {plan.end.time for of_budget in plans.values() for plan in of_budget.values()}

    def converged(end: float, nfe: int) -> Any:
        return host(dpm.sample(denoiser, x_T, nfe=nfe, solver=REFERENCE, grid="logsnr", end=end))

    references = {end: converged(end, REFERENCE_NFE) for end in ends}
    own = max(distance(converged(end, REFERENCE_NFE // 2), reference) for end, reference in references.items())
    errors: dict[str, dict[str, float]] = {}
    for nfe, of_budget in plans.items():
        errors[str(nfe)] = {
            candidate: distance(host(dpm.sample(denoiser, x_T, plan=plan)), references[plan.end.time])
            for candidate, plan in of_budget.items()
        }
        print(case.name, nfe, sorted((e, k) for k, e in errors[str(nfe)].items())[:3], flush=True)
    return {"own_error": own, "errors": errors}


def distance(samples: Any, reference: Any) -> float:
    """The root mean square distance over samples and coordinates, to four digits."""
    return float(f"{float(np.sqrt(np.square(trajectory_error(samples, reference)).mean())):.4g}")


def measured(document: Mapping[str, Any], kind: str, judges: bool) -> list[Case]:
    """The cases of a kind that have figures."""
    of_kind = [case for case in CASES if document["cases"].get(case.name, {}).get("kind") == kind]
    return [case for case in of_kind if case.judges == judges]


def ratios(document: Mapping[str, Any], case: Case, nfe: int) -> dict[str, float]:
    """Candidate -> its error over the smallest on the case."""
    errors = document["cases"][case.name]["errors"][str(nfe)]
    best = min(errors.values())
    return {candidate: error / best for candidate, error in errors.items()}


@dataclass(frozen=True)
class Rank:
    """A candidate at one budget: its score, and its ratio on each choosing case."""

    score: float
    candidate: str
    ratios: tuple[float, ...]


def ranked(document: Mapping[str, Any], cases: Sequence[Case], nfe: int) -> list[Rank]:
    """The candidates at a budget, best first, by the worst ratios over trained networks and over laws."""
    of_case = [ratios(document, case, nfe) for case in cases]
    found = []
    for candidate in set.intersection(*({*each} for each in of_case)):
        own = [each[candidate] for each in of_case]
        worst = [
            max((r for r, c in zip(own, cases, strict=True) if c.trained == t), default=None) for t in (True, False)
        ]
        logs = [None if w is None else float(np.log(w)) for w in worst]
        score = _weighted(logs)
        found.append(Rank(float(np.exp(score)), candidate, tuple(own)))
    return sorted(found, key=lambda rank: (rank.score, rank.candidate))


def _weighted(logs: Sequence[float | None]) -> float:
    """Two thirds of the first and one third of the second; all of the one where the other is missing."""
    pairs = [(w, log) for w, log in zip((TRAINED_WEIGHT, 1.0 - TRAINED_WEIGHT), logs, strict=True) if log is not None]
    return sum(w * log for w, log in pairs) / sum(w for w, _ in pairs)


def finalists(document: Mapping[str, Any], kind: str) -> list[str]:
    """The best candidates of each budget, by the cases that choose among all, whatever is best on one, the choice, and DDIM."""
    found = {"ddim@logsnr", "ddim@time"}
    cases = [case for case in measured(document, kind, judges=False) if case.chooses_among_all]
    for nfe in NFES:
        found |= {_choice(kind, nfe), *(rank.candidate for rank in ranked(document, cases, nfe)[:FINALISTS])}
        for case in cases:
            own = ratios(document, case, nfe)
            found.add(min(own, key=lambda key: own[key]))
    return sorted(found)


def _choice(kind: str, nfe: int) -> str:
    return "@".join(choice_of(kind, nfe))


def deviations(document: Mapping[str, Any]) -> Iterator[str]:
    """Where the library's choice is not what the figures say."""
    for kind, nfe in itertools.product(KINDS, NFES):
        found, choice = ranked(document, measured(document, kind, judges=False), nfe), _choice(kind, nfe)
        score = next((rank.score for rank in found if rank.candidate == choice), np.inf)
        if score > NEAR * found[0].score:
            yield f"{kind}, {nfe} evaluations: {choice} has {score:.3f}, {found[0].candidate} has {found[0].score:.3f}"


def render(document: Mapping[str, Any]) -> str:
    """The page."""
    said = {"solvers": len(SOLVERS), "grids": len(GRIDS), "listed": LISTED, "near": NEAR, "finalists": FINALISTS}
    on_judges = [ratio for kind in KINDS for ratios_ in judged(document, kind).values() for ratio in ratios_]
    said |= {"met": sum(ratio <= BAR for ratio in on_judges), "judged": len(on_judges)}
    minutes = round(sum(case["seconds"] for case in document["cases"].values()) / 60)
    parts = [_HEAD.format(**said, minutes=minutes, **document["versions"])]
    for kind, title in KINDS.items():
        cases = measured(document, kind, judges=False)
        columns = ["evaluations", "solver", "grid", "score", "mean", *(f"`{case.name}`" for case in cases)]
        parts += [f"\n## {title}\n\nChosen on these:\n\n", _line(columns), _line(["-"] * len(columns))]
        for nfe in NFES:
            found, choice = ranked(document, cases, nfe), _choice(kind, nfe)
            listed = found[:LISTED] + [r for r in found[LISTED:] if r.candidate in (choice, "ddim@time")]
            for rank in listed:
                mark = "**" if rank.candidate == choice else ""
                solver, grid = rank.candidate.split("@")
                numbers = [f"{r:.2f}" for r in (float(np.exp(np.log(rank.ratios).mean())), *rank.ratios)]
                parts.append(
                    _line([str(nfe), f"{mark}{solver}{mark}", grid, f"{mark}{rank.score:.2f}{mark}", *numbers])
                )
        parts += ["\nJudged on these, the choice's ratio to the best of the finalists:\n\n", *_judged(document, kind)]
    parts += [_FRECHET_HEAD, *_frechet_tables(document)]
    return "".join(parts)


# Frechet distances: of so many samples on these networks, of the choice and of these others.
FRECHET = {"digits": "variance preserving", "digits-flow": "no signal at the start"}
FRECHET_NUM, FRECHET_NFES = 200, (5, 8, 10, 15)
OTHERS = ("ddim@time", "dpm++2m@logsnr", "unipc-2@quadratic", "unipc-3@time", "dpm-3m@karras", "deis-tab2@beta")


def frechet(name: str) -> dict[str, dict[str, float]]:
    """Budget -> candidate -> the Frechet distance to the data, with "converged" for the reference."""
    testbed, part = load_testbed(name), range(FRECHET_NUM)
    denoiser, x_T = testbed.denoiser(testbed.labels(part)), testbed.initial_noise(part, 2)
    assert testbed.features is not None
    assert testbed.feature_statistics is not None

    def distance_of(candidate: str, nfe: int) -> float:
        solver, grid = candidate.split("@")
        x = dpm.sample(denoiser, x_T, nfe=nfe, solver=solver, grid=grid)
        return float(f"{frechet_distance_to(testbed.features(x), *testbed.feature_statistics):.3g}")  # type: ignore[misc]

    choices = {nfe: _choice(FRECHET[name], nfe) for nfe in FRECHET_NFES}
    found = {
        str(nfe): {key: distance_of(key, nfe) for key in dict.fromkeys((choices[nfe], *OTHERS))} for nfe in choices
    }
    found["converged"] = {f"{REFERENCE}@logsnr": distance_of(f"{REFERENCE}@logsnr", 60)}
    print(name, found, flush=True)
    return found


def _frechet_tables(document: Mapping[str, Any]) -> Iterator[str]:
    for name, of_budget in document["frechet"].items():
        (limit,) = of_budget["converged"].values()
        yield f"\n`{name}`, {FRECHET_NUM} samples; the converged run has {limit:.2f}:\n\n"
        yield _line(["evaluations", "auto", *(f"{key}" for key in OTHERS)])
        yield _line(["-"] * (2 + len(OTHERS)))
        for nfe in FRECHET_NFES:
            row, chosen = of_budget[str(nfe)], _choice(FRECHET[name], nfe)
            yield _line([str(nfe), f"**{row[chosen]:.2f}** ({chosen})", *(f"{row[key]:.2f}" for key in OTHERS)])


def judged(document: Mapping[str, Any], kind: str) -> dict[str, list[float]]:
    """Judging case -> the choice's ratio to the best, at each budget."""
    cases = measured(document, kind, judges=True)
    return {case.name: [ratios(document, case, nfe)[_choice(kind, nfe)] for nfe in NFES] for case in cases}


def _judged(document: Mapping[str, Any], kind: str) -> Iterator[str]:
    yield _line(["testbed", *map(str, NFES)])
    yield _line(["-"] * (len(NFES) + 1))
    for name, found in judged(document, kind).items():
        yield _line([f"`{name}`", *(f"{r:.2f}" for r in found)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


_FRECHET_HEAD = """
## Frechet distances

These are Frechet distances to the data (features of a classifier of digits), from one noise. They do not decide the choice: with few
evaluations the errors of a coarse run and those of the network partly cancel, so that runs may be nearer to the data than their own limit.
"""
_HEAD = """---
hide: [toc]
---

# Choosing a solver

The default solver of `dpm.sample(denoiser, x_T, nfe=10)` is `solver="auto"`: the solver and the grid in bold below, for the kind of the
model's schedule and the budget. A grid of your own replaces its grid. `dpm.make_plan("auto", schedule, nfe=10).solver` names its solver.

No choice is the best everywhere: the best solver changes between two networks of the same data, or with the guidance scale, and the error
of the default may be two or three times as large. To find the best one for *your* network, measure it, which takes minutes:

```
dpmsolver compare MODEL --nfe 6,8,10 \\
    --solvers auto,unipc-2@quadratic,ipndm-3@beta57,unipc-3@logsnr,dpm-3m@karras,velocity-3m@karras
```

## How it is chosen

The error of a candidate is the root mean square distance of its results to those of a converged run from the same noise. Its ratio is
that error over the smallest of all candidates on the same testbed. The candidates are {solvers} solvers on {grids} grids. The score of a
candidate is the worst ratio over trained networks, to the power 2/3, times the worst ratio over laws in closed form, to the power 1/3,
because users have networks, and closed forms favour high orders. The candidate with the smallest score of a budget is chosen, or one within
a factor of {near} of it that avoids a change of solver between neighbouring budgets. Budgets above 20 are not measured.

Half of the testbeds serve to choose. Those without guidance measure all candidates; those with guidance and `cifar10` measure the
{finalists} that are best for some budget, and the best of each testbed. The other half judges the choice, with other noises. At first all
guided networks were judges, and `velocity-3m`, chosen without guidance, was up to 5 times behind on `digits-edm` with guidance 3.
Therefore one guided network of each kind was moved to the half that chooses. The bar was a worst ratio of 1.6 on the judges. It is met in
{met} of {judged} figures of the last tables, and missed on low-dimensional laws, whose errors are small and whose best solvers have high
orders.

Two things were added after the first choice. The grid `rectified` became a candidate when azula's samplers, which run on it, had been
ahead of `auto` on `digits-edm`. `cifar10`, a network of pictures in colour, joined the half that chooses, also as a network of EDM: it is
given the state divided by sqrt(1 + sigma^2), and its prediction is converted to the data. Under linear betas no choice changed: on
`cifar10` they are 1.0 to 1.8 times as far off as the best candidate. Under EDM it and digits disagree: with 8 evaluations
`unipc-3:variant=bh1@rectified` is the best candidate on digits and twice as far off as the best on `cifar10`, and up to 11 times on the
statistics of CIFAR-10, while `dpm-3m@karras`, the choice, is 1.2 times as far off as the best on `cifar10` and 3 times on digits. With 5
to 7 evaluations `rectified` is the better compromise.

Results:

- The grid matters as much as the solver. `beta:a=0.5:b=0.7`, which puts evaluations at both ends, is best for most budgets from 8 on.
- With 5 to 7 evaluations under linear betas order 2 suffices.
- On flows, noise prediction from just below alpha = 0 (DEIS, iPNDM) is ahead of data prediction; on the trained networks alone, plain time
  is best up to 8 evaluations.
- Strong guidance changes the order of the candidates more than the network does.

With 8 evaluations under linear betas `unipc-2@quadratic` has the same score as the choice: it is ahead on digits, by the Frechet distance
too, and behind on CIFAR-10's statistics and on `cifar10-small`. The default is the choice for natural pictures.

One exception: `noise where there is no signal` with 5 evaluations would be `ipndm-3@karras` by its score. Samples of a network that is 1
% off would then be 1.45 times too wide, so it is `dpm-2m@karras`.

<!-- Generated by benchmarks/choice.py: do not edit the tables. -->

Made by `python -m benchmarks.choice` in {minutes} minutes on one core of a busy machine, with dpmsolver {dpmsolver} and torch {torch}.
The tables show ratios, for the choice, DDIM and the {listed} best of each budget; "mean" is the geometric mean of the ratios.
"""


def update(name: str, figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write one case's figures into the file, beside what other processes wrote, and return all of them."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "cases" not in document:
        document = {"command": "python -m benchmarks.choice", "versions": {}, "cases": {}}
    if figures is not None:
        import torch

        document["cases"][name] = dict(figures)
        document["versions"] = {"dpmsolver": dpm.__version__, "torch": torch.__version__}
        with written_aside(RESULTS) as aside:
            aside.write_text(json.dumps(document, indent=1) + "\n")
    return document


def extended(document: Mapping[str, Any], case: Case, again: bool) -> Mapping[str, Any]:
    """Measure what a case has no figures for, and return all figures; a candidate that is new costs what it costs alone."""
    begin, known = time.perf_counter(), {} if again else document["cases"].get(case.name, {})
    testbed, errors = case.load(), known.get("errors", {})
    kind = kind_of(testbed.schedule, testbed.predicts)
    plans = missing(testbed, CANDIDATES if case.chooses_among_all else finalists(document, kind), errors)
    if not any(plans.values()):
        return document
    new = measure(case, testbed, plans)
    new["errors"] = {str(nfe): {**errors.get(str(nfe), {}), **new["errors"][str(nfe)]} for nfe in NFES}
    seconds = round(known.get("seconds", 0) + time.perf_counter() - begin)
    return update(case.name, {"seconds": seconds, "kind": kind, **new})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="measure these testbeds alone, where they have no figures"
    )
    parser.add_argument("--again", action="store_true", help="measure what has figures again")
    parser.add_argument("--frechet", action="store_true", help="measure the Frechet distances")
    parser.add_argument("--render", action="store_true", help="write the page from the figures")
    parser.add_argument("--check", action="store_true", help="fail where figures, choice and page do not agree")
    args = parser.parse_args()
    document = update("", None)
    if args.check:
        problems = [*deviations(document)]
        if PAGE.read_text() != render(document):
            problems.append("docs/choosing.md is not what the figures say: python -m benchmarks.choice --render")
        raise SystemExit("\n".join(problems) or 0)
    if args.frechet:
        for name in FRECHET:
            document = update("", None)
            document.setdefault("frechet", {})[name] = frechet(name)
            with written_aside(RESULTS) as aside:
                aside.write_text(json.dumps(document, indent=1) + "\n")
    elif not args.render:
        for case in sorted(CASES, key=lambda case: not case.chooses_among_all):
            if re.search(args.only, case.name):
                document = extended(document, case, again=args.again)
    with written_aside(PAGE) as aside:
        aside.write_text(render(document))
    print("\n".join(deviations(document)) or "the choice is what the figures say")


if __name__ == "__main__":
    main()
