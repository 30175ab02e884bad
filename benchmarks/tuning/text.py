"""The page docs/tuned.md, from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.paper.text import markdown
from benchmarks.tuning import gain, special, stability, transfer
from benchmarks.tuning.cases import CASES, ROOT, case_of, read

__all__ = ["PAGE", "render"]

PAGE = ROOT / "docs" / "tuned.md"


def render() -> str:
    """The page."""
    parts, newest = [_HEAD], _newest_fit()
    for write, part in (
        (_gain, "gain"),
        (_quality, "quality"),
        (_special, "special"),
        (_stability, "stability"),
        (_ablation, "ablation"),
        (_transfer, "transfer"),
    ):
        document = read(part)
        if document["cases"]:
            made = f"\nMade by `{document['command']}`{_versions(document)}.{_others(document['cases'], newest)}\n"
            parts += [*write(document["cases"]), made]
    return "".join(parts)


def _newest_fit() -> str | None:
    """The state of the fit's code that most of the first figures were made with."""
    states = [found["fit"] for figures in read("gain")["cases"].values() for found in figures["tuned"].values()]
    return max(states, key=states.count, default=None)


def _others(cases: Mapping[str, Any], newest: str | None) -> str:
    """Which figures were made with another state of the fit's code than most of the first ones."""
    names = []
    for name in _ordered(cases):
        budgets = [nfe for nfe, found in cases[name].get("tuned", {}).items() if found.get("fit", newest) != newest]
        if budgets:
            names.append(f"`{name}` with {', '.join(sorted(budgets, key=int))} evaluations")
        elif cases[name].get("fit", newest) != newest:
            names.append(f"`{name}`")
    return f" Another state of the fit's code made those of {'; '.join(names)}." if names else ""


def _versions(document: Mapping[str, Any]) -> str:
    return ", with " + ", ".join(f"{name} {version}" for name, version in document["versions"].items())


def _digits(value: float, digits: int = 2) -> str:
    """So many significant digits, without an exponent where there are few zeros."""
    if value and not 1e-5 <= abs(value) < 1e4:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits}g}")
    places = max(0, digits - 1 - (int(f"{rounded:e}".partition("e")[2]) if rounded else 0))
    return f"{rounded:.{places}f}"


def _ordered(cases: Mapping[str, Any]) -> list[str]:
    return [case.name for case in CASES if case.name in cases]


def _four(found: Mapping[str, float]) -> list[str]:
    return [_digits(found[key]) for key in ("mean", "median", "high", "rms")]


# Gain -----------------------------------------------------------------------------------------------------------------------------


def _gain(cases: Mapping[str, Any]) -> Iterator[str]:
    yield _GAIN
    yield from _bars(cases)
    for title, chosen in (
        ("Laws in closed form and two moons", [n for n in _ordered(cases) if not case_of(n).pictures]),
        ("Networks of digits", [n for n in _ordered(cases) if case_of(n).pictures]),
    ):
        if chosen:
            yield f"\n### {title}\n"
            yield _MEANS
            yield markdown(["", "by", *map(str, gain.NFES)], [row for name in chosen for row in _means(name, cases)])
    yield _WHOLE
    yield markdown(
        [
            "",
            "evaluations",
            "plan",
            "mean",
            "median",
            "95 %",
            "RMS",
            "selected / tuned",
            "auto / tuned",
            "noises",
            "spent",
            "seconds",
        ],
        [row for name in _ordered(cases) for row in _whole(name, cases[name])],
    )


def _bars(cases: Mapping[str, Any]) -> Iterator[str]:
    rows, missed, total = [], 0, 0
    for name in _ordered(cases):
        for bar in gain.bars(case_of(name), cases[name]):
            total += bar["kind"] == "bar"
            missed += bar["kind"] == "bar" and not bar["met"]
            verdict = "met" if bar["met"] else "**missed**" if bar["kind"] == "bar" else "not reached"
            rows.append([f"`{name}`", f"{bar['few']} as {bar['many']}", bar["kind"], _digits(bar["ratio"]), verdict])
    yield f"\nOf {total} bars {total - missed} are met and {missed} missed:\n\n"
    yield markdown(["", "tuned with … as untuned with …", "", "tuned / best untuned", ""], rows)


def _means(name: str, cases: Mapping[str, Any]) -> Iterator[list[str]]:
    figures, nfes = cases[name], gain.NFES
    tuned = [figures["tuned"].get(str(nfe)) for nfe in nfes]
    yield [f"`{name}`", "**tuned**", *("" if t is None else f"**{_digits(t['mean'])}**" for t in tuned)]
    fields = dict.fromkeys(who for of_nfe in figures["untuned"].values() for who in of_nfe)
    for who in fields:
        cells = []
        for nfe in nfes:
            best = figures["untuned"].get(str(nfe), {}).get(who)
            cells.append("" if best is None else f"{_digits(best['mean'])} ({best['name']})")
        yield ["", "best preset" if who == "ours" else who, *cells]


def _whole(name: str, figures: Mapping[str, Any]) -> Iterator[list[str]]:
    for nfe in sorted(map(int, figures["tuned"])):
        tuned, untuned = figures["tuned"][str(nfe)], figures["untuned"].get(str(nfe), {})
        ratios = ["{} ({} to {})".format(*map(_digits, tuned[f"of_{each}"]["ratio"])) for each in ("selected", "auto")]
        kept = "tuned" if tuned["kept"] == "tuned" else f"{tuned['kept']} kept"
        spent = [
            str(sum(tuned["of_noises"])),
            f"{tuned['evaluations']:,}",
            f"{tuned['fit_seconds']:.0f}{_where(tuned)}",
        ]
        yield [f"`{name}`", str(nfe), kept, *_four(tuned), *ratios, *spent]
        if untuned:
            who, best = min(untuned.items(), key=lambda item: item[1]["mean"])
            yield ["", "", best["name"] if who == "ours" else f"{who} {best['name']}", *_four(best), *[""] * 5]


def _where(tuned: Mapping[str, Any]) -> str:
    """Where a fit ran, if not on this project's usual two cores."""
    return "" if tuned["on"] == "the CPU" else f", {tuned['on']}"


# The other parts ------------------------------------------------------------------------------------------------------------------


def _quality(cases: Mapping[str, Any]) -> Iterator[str]:
    yield _QUALITY
    rows = []
    for name in _ordered(cases):
        figures = cases[name]
        named = {
            "converged": figures["converged"],
            **{
                f"{kind if kind == 'tuned' else figures[str(nfe)]['preset']}, {nfe}": figures[str(nfe)][kind]
                for nfe in (5, 8)
                for kind in ("tuned", "untuned")
                if str(nfe) in figures
            },
        }
        for i, (run, found) in enumerate(named.items()):
            accuracy = f"{100 * found['accuracy']:.1f} %" if "accuracy" in found else ""
            head = ["", ""] if i else [f"`{name}`", f"{figures['samples']:,}"]
            rows.append([*head, run, _digits(found["frechet"], 3), accuracy])
    yield markdown(["", "samples", "run", "Frechet distance", "class accuracy"], rows)


def _special(cases: Mapping[str, Any]) -> Iterator[str]:
    behind = [
        f"`{name}` with {nfe} ({_digits(found['tuned']['mean'])} against {_digits(best)})"
        for name in _ordered(cases)
        for nfe, found in cases[name]["nfe"].items()
        if found["tuned"]["mean"] > (best := min(each["mean"] for key, each in found.items() if key != "tuned"))
    ]
    first = next(iter(cases.values()))
    verdict = f"is behind on {', '.join(behind)}" if behind else "is ahead everywhere"
    yield _SPECIAL.format(verdict=verdict, noises=first["noises"], probed=first["probed"], fitted=special.FITTED)
    for name in _ordered(cases):
        figures = cases[name]
        rows: dict[str, list[str]] = {}
        nfes = [nfe for nfe in special.NFES if str(nfe) in figures["nfe"]]
        for i, nfe in enumerate(nfes):
            for key, found in figures["nfe"][str(nfe)].items():
                label, solver = (key.split(", ")[0], key.split(", ")[1]) if key.startswith("times") else (key, "")
                row = rows.setdefault(label, [""] * len(nfes))
                row[i] = _digits(found["mean"]) + (f" ({solver})" if solver else "")
        yield f"\n`{name}`, mean error of {figures['judges']} judges:\n\n"
        yield markdown(["", *map(str, nfes)], [[key, *row] for key, row in rows.items()])


def _stability(cases: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for name in _ordered(cases):
        figures = cases[name]
        for nfe in [n for n in stability.NFES if str(n) in figures]:
            of_nfe = figures[str(nfe)]
            ratio = of_nfe["tuned"]["largest"] / of_nfe["untuned"]["largest"]
            for kind in ("tuned", "untuned"):
                found, first = of_nfe[kind], kind == "tuned"
                cells = [_digits(found[key]) for key in ("median", "mean", "high", "q99", "q99.9", "largest")]
                who = "tuned" if first else of_nfe["preset"]
                head = [f"`{name}`", f"{figures['noises']:,}", str(nfe)] if first else ["", "", ""]
                rows.append([*head, who, *cells, _digits(ratio) if first else ""])
    ratios = [
        cases[name][str(nfe)]["tuned"]["largest"] / cases[name][str(nfe)]["untuned"]["largest"]
        for name in _ordered(cases)
        for nfe in stability.NFES
        if str(nfe) in cases[name]
    ]
    over = sum(ratio > 3 for ratio in ratios)
    verdict = f"The bar of 3 is missed in {over} of {len(ratios)} rows" if over else "The bar of 3 is met in all rows"
    yield _STABILITY.format(verdict=verdict, largest=_digits(max(ratios)))
    head = [
        "",
        "noises",
        "evaluations",
        "plan",
        "median",
        "mean",
        "95 %",
        "99 %",
        "99.9 %",
        "largest",
        "ratio of the largest",
    ]
    yield markdown(head, rows)


def _ablation(cases: Mapping[str, Any]) -> Iterator[str]:
    yield _ABLATION
    for name in _ordered(cases):
        figures = cases[name]
        stages = figures.get("stages", {})
        if stages:
            nfes = sorted(stages, key=int)
            yield f"\n`{name}`, {figures['judges']} judges:\n\n"
            rows = []
            for stage in stages[nfes[0]]["stages"]:
                found = [stages[nfe]["stages"].get(stage) for nfe in nfes]
                rows.append([stage, *(cell for each in found for cell in _stage_cells(each))])
            yield markdown(
                ["", *(f"{nfe}: {what}" for nfe in nfes for what in ("mean", "median", "RMS", "evaluations"))], rows
            )
            yield "\nBy the ridge, rows by least squares on the selected preset's grid, mean error:\n\n"
            ridges = list(stages[nfes[0]]["ridge"])
            yield markdown(
                ["evaluations", *ridges],
                [[nfe, *(_digits(stages[nfe]["ridge"][ridge]["mean"]) for ridge in ridges)] for nfe in nfes],
            )
        for nfe, found in figures.get("counts", {}).items():
            yield f"\nBy the number of noises that are fitted to (half as many more choose), {nfe} evaluations, mean error:\n\n"
            yield markdown(
                ["", *found],
                [[kind, *(_digits(found[n][key]["mean"]) for n in found)] for kind, key in _KINDS.items()],
            )
        yield from _elsewhere(figures)


_KINDS = {"rows by least squares": "rows", "rows and times refined": "refined"}


def _stage_cells(found: Mapping[str, float] | None) -> list[str]:
    if found is None:
        return [""] * 4
    return [*(_digits(found[key]) for key in ("mean", "median", "rms")), f"{found['evaluations']:,.0f}"]


def _elsewhere(figures: Mapping[str, Any]) -> Iterator[str]:
    titles = {
        "classes": "Fitted on some classes, judged on the classes 5 to 9",
        "guidance": "Fitted at one guidance scale, run at 2",
        "bfloat16": "Fitted in float32, run in bfloat16",
    }
    for key, title in titles.items():
        if key in figures:
            rows = [
                [nfe, f"{what} ({found['name']})" if "name" in found else what, *_four(found)]
                for nfe, of_nfe in figures[key].items()
                for what, found in of_nfe.items()
            ]
            yield f"\n{title}:\n\n"
            yield markdown(["evaluations", "plan", "mean", "median", "95 %", "RMS"], rows)


def _transfer(cases: Mapping[str, Any]) -> Iterator[str]:
    yield _TRANSFER.format(refit=next(iter(cases.values()))["refit"])
    names = [name for name in transfer.SHARED if name in cases]
    for nfe in map(str, transfer.NFES):
        sources = [s for s in transfer.SHARED if any(s in cases[name].get(nfe, {}) for name in names)]
        rows = []
        for source in sources:
            cells = []
            for name in names:
                found = cases[name].get(nfe, {}).get(source)
                cells.append("" if found is None else f"{_digits(found['plain'])} → {_digits(found['refit'])}")
            rows.append([f"`{source}`", *cells])
        others = [found for name in names for source, found in cases[name].get(nfe, {}).items() if source != name]
        if others:
            plain, again = (np.array([each[key] for each in others]) for key in ("plain", "refit"))
            yield f"\n{nfe} evaluations. "
            yield f"Of {len(others)} plans run on what they were not made for, {int((plain < 1).sum())} are ahead of the best preset "
            yield f"as they are, and {int((again < 1).sum())} after the refit:\n\n"
            yield markdown(["fitted to, run on", *(f"`{name}`" for name in names)], rows)


_HEAD = """---
hide: [toc]
---

# What a fit brings

`dpm.tune` fits a plan to a network. Here fitted plans are measured against plans that were not, by the distance to the converged
trajectory from the same noise: the root mean square distance of each sample, of which the mean is compared, since a few samples between
two modes carry the root mean square. No fit has seen the noises that judge. The untuned are the best of all presets of `dpm.select` and
the best samplers without noise of diffusers, k-diffusion and azula, chosen *on the judges themselves*, which flatters them. Each
is judged at the time to which it runs. The grid `rectified` became one of the presets after azula's samplers, which run on it, had been
ahead of all presets on `digits-edm`; `cifar10` was measured without it.

<!-- Generated by benchmarks/tuning: do not edit. -->
"""
_GAIN = """
## Tuned against untuned

The bars: on laws and two moons a tuned plan with 5 evaluations is at most as far off as the best untuned one of any package with 8,
and with 8 as that with 12. On networks of digits: 5 as 6, 6 as 8, 8 as 10, 10 as 12; the aim is 5 as 8 and 8 as 15.
"""
_MEANS = """
Mean error by the number of evaluations. Candidates are tried on 8 of the judges, and the best 12 of each package on all; on networks of
pictures and in 3072 dimensions on 4, the best 12 on 16, and the best 4 on all. On `digits` the peers are those that are the best of
their package somewhere in [Against other packages](peers.md).

"""
_WHOLE = """
### The whole distribution

What was kept by the gate of `tune`, and under it the best untuned of all packages with as many evaluations. "selected / tuned" is the
mean error of the preset that `tune` itself selected on its noises over the tuned plan's, with a 95 % interval of paired resampling.
"Spent" are the evaluations of single samples and "seconds" the time of the fit, on one core of a busy machine. The first fit of a case
follows the teacher's trajectories, which the others share.

"""
_QUALITY = """
## Frechet distance and class accuracy

Of fresh samples, in features of a classifier of the data. With few samples the distance has a large offset: compare with the converged
run. A fitted plan follows the converged run, and so comes to its distance from the data, for better or worse: a preset that is further off
from the exact solution may be nearer to the data than that is, as on networks of digits.

"""
_SPECIAL = """
## Against recipes that fit the times alone

Special cases of a table, from the same teacher, on {noises} noises of the fit ({probed} for the second):

- GITS's grid (Chen et al. 2024, [arXiv 2405.11326](https://arxiv.org/abs/2405.11326)): dynamic programming over the costs of single DDIM
  jumps between the teacher's points, coefficient 1.15; then DDIM and ipndm-4 on that grid.
- Optimal step sizes (Pei et al. 2025, [arXiv 2503.21774](https://arxiv.org/abs/2503.21774)): dynamic programming with the student's own
  states, over the teacher's 65 points, where the paper takes 100 or 200; one grid for all noises, where its code finds one for each
  picture. Then DDIM and ipndm-4.
- Times alone as LD3 optimises them (Tong et al. 2024, [arXiv 2405.15506](https://arxiv.org/abs/2405.15506)): here by a simplex search of
  the times of the best preset's solver, its coefficients rebuilt, with the evaluations of `effort="seconds"`. LD3 itself follows
  gradients, and moves labels apart from times.

A plan tuned with `effort="seconds"` on {fitted} noises, of which 60 are fitted to, compared with all of these and with the preset that was
selected on the same noises, {verdict}.
"""
_STABILITY = """
## Many fresh noises

Errors of fitted plans and of the best preset on noises that neither has seen. No sample of a fitted plan should be off by more than 3 times
the preset's largest error. {verdict}; the largest ratio is {largest}.

"""
_ABLATION = """
## Taken apart

What each stage brings, judged on noises that no stage has seen; "evaluations" are those of single samples that a stage took, the
teacher's apart (for "tune" all of them).
"""
_TRANSFER = """
## Run on another network

Plans fitted to one of these, which share a schedule, run on another: mean error over that of the best untuned preset there. Below 1 the
plan is ahead. After the arrow the same after a refit on {refit} noises: rows by least squares, pulled to the plan's own, then at most three
refinements.
"""
