"""The page docs/choosing.md, from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.choice.cases import KINDS
from benchmarks.choice.frechet import FRECHET, FRECHET_NFES, FRECHET_NUM, OTHERS
from benchmarks.choice.ranking import FINALISTS, NEAR, NFES, chosen, judged, measured, ranked
from dpmsolver.solvers.auto import CANDIDATE_GRIDS, CANDIDATE_SOLVERS

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "choosing.md"
LISTED = 4
BAR = 1.6  # the ratio that a choice should keep on the judges


def render(document: Mapping[str, Any]) -> str:
    """Return the page."""
    said = {
        "solvers": len(CANDIDATE_SOLVERS),
        "grids": len(CANDIDATE_GRIDS),
        "listed": LISTED,
        "near": NEAR,
        "bar": BAR,
        "finalists": FINALISTS,
    }
    on_judges = [ratio for kind in KINDS for ratios_ in judged(document, kind).values() for ratio in ratios_]
    said |= {"met": sum(ratio <= BAR for ratio in on_judges), "judged": len(on_judges)}
    minutes = round(sum(case["seconds"] for case in document["cases"].values()) / 60)
    parts = [_HEAD.format(**said, minutes=minutes, **document["versions"])]
    for kind, title in KINDS.items():
        cases = measured(document, kind, judges=False)
        columns = ["evaluations", "solver", "grid", "score", "mean", *(f"`{case.name}`" for case in cases)]
        parts += [f"\n## {title}\n\nChosen on these:\n\n", _line(columns), _line(["-"] * len(columns))]
        for nfe in NFES:
            found, choice = ranked(document, cases, nfe), chosen(kind, nfe)
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


def _frechet_tables(document: Mapping[str, Any]) -> Iterator[str]:
    for name, of_budget in document["frechet"].items():
        (limit,) = of_budget["converged"].values()
        yield f"\n`{name}`, {FRECHET_NUM} samples; the converged run has {limit:.2f}:\n\n"
        yield _line(["evaluations", "auto", *(f"{key}" for key in OTHERS)])
        yield _line(["-"] * (2 + len(OTHERS)))
        for nfe in FRECHET_NFES:
            row, choice = of_budget[str(nfe)], chosen(FRECHET[name], nfe)
            yield _line([str(nfe), f"**{row[choice]:.2f}** ({choice})", *(f"{row[key]:.2f}" for key in OTHERS)])


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
{finalists} that are best for some budget, and the best of each testbed. The other half judges the choice, with other noises. At first
all guided networks were judges, and `velocity-3m`, chosen without guidance, was up to 5 times behind on `digits-edm` with guidance 3.
Therefore one guided network of each kind was moved to the half that chooses. The bar was a worst ratio of {bar} on the judges. It is met
in {met} of {judged} figures of the last tables, and missed on low-dimensional laws, whose errors are small and whose best solvers have
high orders.

Two things were added after the first choice. The grid `rectified` became a candidate when azula's samplers, which run on it, had been
ahead of `auto` on `digits-edm`. `cifar10`, a network of pictures in colour, joined the half that chooses, also as a network of EDM: it is
given the state divided by sqrt(1 + sigma^2), and its prediction is converted to the data. Under linear betas no choice changed: on
`cifar10` the choices are 1.0 to 1.8 times as far off as the best candidate. Under EDM it and digits disagree: with 8 evaluations
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

One exception: `noise where there is no signal` with 5 evaluations would be `ipndm-3@karras` by its score. Samples of a network that is
1 % off would then be 1.45 times too wide, so it is `dpm-2m@karras`.

<!-- Generated by benchmarks/choice: do not edit the tables. -->

Made by `python -m benchmarks.choice` in {minutes} minutes on one core of a busy machine, with dpmsolver {dpmsolver} and torch {torch}.
The tables show ratios, for the choice, DDIM and the {listed} best of each budget; "mean" is the geometric mean of the ratios.
"""
