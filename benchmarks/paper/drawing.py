"""The figures of the pages, as SVG drawn with matplotlib. Each holds the digest of the data that it shows."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.paper.text import main_measures

__all__ = ["cifar10", "digest", "orders", "quality"]

# Okabe & Ito's colours, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
_STYLE = {
    "svg.fonttype": "path",  # the same picture whatever fonts the reader has
    "svg.hashsalt": "dpmsolver",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def digest(document: Mapping[str, Any]) -> str:
    """What a figure is recognised by: the data it was drawn from."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def orders(document: dict[str, Any]) -> str:
    """Errors against evaluations on both problems, and by how much Runge-Kutta trails on narrow and on broad data."""
    pyplot = _pyplot()
    with pyplot.rc_context(_STYLE):
        figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")
        for axes, problem in ((left, "gaussian"), (middle, "mixture")):
            for name, curve in document["curves"].items():
                axes.plot(document["budgets"], curve["errors"][problem], **_line(name, curve["order"]))
            axes.set(xscale="log", yscale="log", xlabel="network evaluations")
            axes.set_title({"gaussian": "Gaussian data", "mixture": "Mixture of three Gaussians"}[problem])
            axes.set_xticks([12, 24, 48, 96, 192], labels=["12", "24", "48", "96", "192"], minor=False)
            axes.minorticks_off()
        left.set_ylabel("RMS error of the trajectory's end")
        middle.sharey(left)
        _versus_variance(right, document)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, handlelength=3.2, columnspacing=1.4)
        return _svg(figure, "Order of convergence", document)


def _versus_variance(axes: Any, document: dict[str, Any]) -> None:
    column = document["variance_budgets"].index(24)
    for name, rows in document["by_variance"]["inside"].items():
        axes.plot(document["variances"], [row[column] for row in rows], **_line(name, int(name[2])))
    axes.axhline(1.0, color="#444444", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="variance of Gaussian data")
    axes.set_title("Runge-Kutta's error over DPM-Solver's\nof the same order, 24 evaluations")
    axes.annotate("DPM-Solver ahead", (0.97, 0.97), xycoords="axes fraction", ha="right", va="top", color="#444444")
    axes.annotate("Runge-Kutta ahead", (0.03, 0.03), xycoords="axes fraction", ha="left", va="bottom", color="#444444")


def _line(name: str, order: int) -> dict[str, Any]:
    """A colour for each order, a line for each kind."""
    kind = "-" if name.startswith("dpm") else "--" if name.endswith("-t") else ":"
    label = f"DPM-Solver-{order}" if kind == "-" else f"RK{order} in {'t' if kind == '--' else 'λ'}"
    width, marker = (2.0, "o") if kind == "-" else (1.3, None)
    return {
        "label": label,
        "color": _COLOURS[order - 1],
        "linestyle": kind,
        "linewidth": width,
        "marker": marker,
        "markersize": 3.5,
    }


def quality(results: dict[str, Any], names: Sequence[str] | None = None) -> str:
    """The main measure of a comparison against evaluations, with its intervals and the limit; of these curves, or of all."""
    from matplotlib.ticker import LogLocator

    pyplot, key = _pyplot(), main_measures(results)[0]
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
        chosen = [c for c in results["curves"] if names is None or c["name"] in names]
        for k, curve in enumerate(chosen):
            points = sorted((p for p in curve["points"] if key in p["measures"]), key=lambda p: float(p["evaluations"]))
            if points:
                seen = [p["measures"][key] for p in points]
                x, y = [p["evaluations"] for p in points], [s["value"] for s in seen]
                line = ("-", "--", ":")[k // len(_COLOURS) % 3]
                colour = _COLOURS[k % len(_COLOURS)]
                axes.plot(x, y, line, marker="o", markersize=3, linewidth=1.4, color=colour, label=curve["name"])
                axes.fill_between(
                    x, [s["low"] for s in seen], [s["high"] for s in seen], color=colour, alpha=0.12, linewidth=0
                )
        limit = results["reference"]["measures"].get(key)
        if limit is not None:
            axes.axhline(limit["value"], color="#444444", linewidth=1, label="the ODE's limit")
        axes.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel=results["measures"][key]["title"])
        ticks = sorted(
            {p["nfe"] for c in chosen for p in c["points"] if p["nfe"] in (5, 10, 15, 20, 30, 50, 100, 200, 1000)}
        )
        axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        low, high = axes.get_ylim()
        # Over a few decades powers of ten alone would leave one or two marks.
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 1e4 * low else (1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        figure.legend(loc="outside right center")
        return _svg(figure, results["title"], results)


def cifar10(document: dict[str, Any]) -> str:
    """The distance to the Gaussian of CIFAR-10's statistics against evaluations, and what DDIM needs to match 10 of DPM-Solver."""
    pyplot, found = _pyplot(), document["gaussian"]["continuous"]
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(7.0, 3.8), layout="constrained")
        for label, x, y, colour in (
            ("DDIM (the best of three grids)", document["baseline"], found["ddim"], _COLOURS[1]),
            ("DPM-Solver (fast)", document["budgets"], found["dpm-fast"], _COLOURS[0]),
        ):
            axes.plot(x, y, marker="o", markersize=4, linewidth=1.8, color=colour, label=label)
        axes.axhline(found["floor"], color="#444444", linewidth=1, label="the ODE's limit, t = 0.001")
        nfe, ddim, distance = document["budgets"][0], found["needed"][0], found["dpm-fast"][0]
        axes.annotate("", (ddim, distance), (nfe, distance), arrowprops={"arrowstyle": "<->", "color": "#444444"})
        where = ((nfe * ddim) ** 0.5 * 1.3, distance * 0.94)
        axes.text(*where, f"{nfe} evaluations where DDIM needs {ddim}", ha="center", va="top", fontsize=8)
        axes.set(
            xscale="log", yscale="log", xlabel="network evaluations", ylabel="2-Wasserstein distance to the data, exact"
        )
        axes.set_xticks([10, 20, 50, 100, 200], labels=["10", "20", "50", "100", "200"])
        axes.set_yticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
        axes.minorticks_off()
        axes.legend()
        return _svg(figure, "A Gaussian with the statistics of CIFAR-10", document)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    return pyplot


def _svg(figure: Any, title: str, document: Mapping[str, Any]) -> str:
    """The file's text: the same for the same data. matplotlib ends its lines in spaces, which editors take off."""
    text = io.StringIO()
    figure.savefig(
        text, format="svg", metadata={"Date": None, "Title": title, "Description": f"data {digest(document)}"}
    )
    _pyplot().close(figure)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
