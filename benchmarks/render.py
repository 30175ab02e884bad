"""Figures and tables of the README and the documentation, from the JSON under benchmarks/results/.

    python -m benchmarks.render             writes what has changed
    python -m benchmarks.render --check     writes nothing; fails where a page does not show what the JSON says

A page holds `<!-- generated: NAME -->` … `<!-- end -->`, over several lines or inside one; what stands between comes from `BLOCKS`, or,
for a name such as `paper fid digits`, from benchmarks/results/paper-fid-digits.json. docs/solvers.md is a generated page as a whole, by
`benchmarks.solvers`, which this command calls. It also writes the names of the registries into src/dpmsolver/typing.py.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import dpmsolver as dpm
from benchmarks import peers_text, reference_text, solvers, typed_names
from benchmarks.paper import cifar10_text, speedup
from benchmarks.paper.drawing import cifar10, digest, orders, quality
from benchmarks.paper.text import markdown, tables
from benchmarks.tuning import gain
from benchmarks.tuning.cases import case_of
from dpmsolver.files import written_aside

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
PAGES = (
    "README.md",
    "docs/generate.md",
    "docs/index.md",
    "docs/measurements.md",
    "docs/paper.md",
    "docs/peers.md",
    "docs/reference/command-line.md",
    "docs/reference/index.md",
    "docs/what-the-measurements-say.md",
)
COMMAND = "python -m benchmarks.render"

_MARK = re.compile(r"<!-- generated: (?P<name>[^<>]+?) -->(?P<old>.*?)<!-- end -->", re.DOTALL)
# The table of orders in docs/measurements.md: pairs of columns, and solvers that share a row.
_ORDERS = (
    ("ddim", "dpm-3"),
    ("dpm-2", "dpm-3-exact"),
    ("dpm-2m", "dpm++3s"),
    ("dpm++2m", "dpm-3m, dpm++3m"),
    ("dpm-fast", "dpm-3m-exact, dpm++3m-exact"),
)
_PEERS = ("cifar10-mixture", "moons-flow", "moons-edm", "moons-linear", "digits", "gaussian", "mixture-16")
# Shares of the limit, and an error, in the table of the speed-up in docs/measurements.md.
_SHARES = {"above": 0.05, "either": 0.05, "error": 0.02}
_DIGITS = ("ddim-200", "dpm++2m-100", "dpm++2m-sde-100")


def data(name: str) -> Any:
    """A file of results. FileNotFoundError where it was not measured yet."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def orders_table() -> str:
    """Return the table of orders in docs/measurements.md, from the figures of every solver."""
    measured = data("solvers")["solvers"]

    def cells(names: str) -> list[str]:
        found = [measured[name] for name in names.split(", ")]
        slopes = [", ".join(f"{figures[problem]:.2f}" for figures in found) for problem in ("gaussian", "mixture")]
        return [names, str(found[0]["order"]), *slopes]

    head = ["solver", "claimed", "Gaussian", "mixture"]
    return markdown([*head, "", *head], [[*cells(left), "", *cells(right)] for left, right in _ORDERS])


def overhead_table() -> str:
    """What a step costs besides the network."""
    rows = [
        [
            f"({', '.join(map(str, each['shape']))})",
            each["solver"],
            f"{1e6 * each['ours']:.0f} µs",
            each["peer"],
            f"{1e6 * each['theirs']:.0f} µs",
            f"{each['ratio']:.2f}",
            f"{each['copies']:.1f}",
        ]
        for each in data("overhead")
    ]
    return markdown(["state", "ours", "per evaluation", "theirs", "per evaluation", "ratio", "copies"], rows)


def gpu_overhead() -> str:
    """What a step costs besides the network, on a GPU: time, and kernels that are launched."""
    document = data("gpu")
    rows = [
        [
            f"({', '.join(map(str, each['shape']))})",
            f"{1e6 * each['ours']:.0f} µs",
            f"{1e6 * each['diffusers']:.0f} µs",
            f"{each['ratio']:.2f}",
            f"{1e6 * each['ours, captured']:.1f} µs",
            f"{counted['ours']['kernels']:.1f}",
            f"{counted['ours with noise']['kernels']:.1f}",
            f"{counted['diffusers']['kernels']:.1f}",
        ]
        for each, counted in zip(document["overhead"], document["launches"], strict=True)
    ]
    head = ["state", "dpm++2m", "diffusers", "ratio", "as a CUDA graph", "kernels", "with noise (SDE)", "diffusers"]
    return f"{markdown(head, rows)}\nMade by `python -m benchmarks.gpu` on an {document['device']}, torch {document['torch']}.\n"


def gpu_facts() -> str:
    """One step in one kernel, capture, bfloat16."""
    document = data("gpu")
    step, graph, half = document["combine"], document["capture"], document["bfloat16"]
    shape = ", ".join(map(str, step["shape"]))
    rate = document["batch"] / graph["seconds_eager"]
    return "\n".join(
        [
            f"- A step of four arrays of ({shape}) takes {1e6 * step['ours']:.1f} µs in one kernel, {step['over_limit']:.2f} times what "
            f"five such streams take in a copy; a chain of torch's operations takes {1e6 * step['chain']:.1f} µs.",
            f"- A run of `{document['model']}` with {document['nfe']} evaluations, captured in a CUDA graph and replayed on another x_T, "
            f"is equal {'bit by bit' if graph['equal_bit_by_bit'] else 'to 1e-4'}; {document['batch']} pictures take "
            f"{graph['seconds_eager']:.3f} s without the graph and {graph['seconds_replayed']:.3f} s with it: {rate:.0f} pictures a "
            "second in float32 with TF32.",
            f"- In bfloat16 the samples differ from those of float32 without TF32 by {half['rms']:.4f} (RMS; that of the samples is "
            f"{half['rms_of_the_samples']:.2f}).",
        ]
    )


def generation_facts() -> str:
    """What `dpm.generate` costs beside the network."""
    document = data("generation")
    digits, speed, ray, million = (document[name] for name in ("digits", "throughput", "ray", "million"))
    modes = {
        f"{workers} {'workers' if workers > 1 else 'worker'} with {threads} {'threads' if threads > 1 else 'thread'}": each
        for mode, each in speed.items()
        if (found := re.fullmatch(r"(\d+) x (\d+) threads", mode))
        for workers, threads in [map(int, found.groups())]
    }
    beside = "; ".join(
        f"{name}, {each['generate']:.1f} samples a second against {each['bare']:.1f} of the loop ({each['share']:.2f}; "
        f"{each['share by processor time']:.2f} by the time of the processors)"
        for name, each in modes.items()
    )
    own = million["MiB of a worker by tenths"]
    return "\n".join(
        [
            f"- **Digits**, 10 evaluations, PNG in tar files, features and classes on the way, in turn with a loop of the network alone "
            f"in the same processes ({speed['num']} samples, `… throughput`): {beside}.",
            f"- **{digits['num']:,} digits**, by two processes and by two workers of Ray, and the first {digits['inline']['num']:,} by one "
            f"thread of this process: all shards are {'the same bytes' if digits['same bytes'] else 'NOT the same bytes'} (`… digits`).",
            f"- **A shard** on Ray: {ray['shards']:,} shards of a network that sleeps 40 ms, {ray['workers']} actors on the two cores, "
            f"took {ray['seconds']:.0f} s, {ray['seconds'] - ray['slept']:.0f} of them beside the sleep: {ray['ms per shard']:.1f} ms a "
            f"shard, {ray['ms per shard and worker']:.0f} ms of each actor (`… ray`).",
            f"- **{million['num']:,} seeds** of ten Gaussians in 16 dimensions, 10 evaluations each, on Ray: {million['seconds']:.0f} s. A "
            f"worker's own memory is {own[0]} MiB in the first tenth and {own[-1]} MiB in the last (`… million`).",
        ]
    )


def digits_table() -> str:
    """How good the embedded model is."""
    runs = [data(f"digits-{name}") for name in _DIGITS]
    rows = [
        [
            run["solver"],
            str(run["nfe"]),
            str(run["num"]),
            f"{run['accuracy']:.1%}".replace("%", " %"),
            f"{run['frechet']:.3f}",
            f"{run['frechet_train_subset']:.3f}",
        ]
        for run in runs
    ]
    head = ["solver", "evaluations", "samples", "recognised", "Frechet distance", "of as many training images"]
    return f"{markdown(head, rows)}\nThe Frechet distance of the test set is {runs[0]['frechet_test']:.3f}.\n"


def paper_orders() -> str:
    """Slopes of the paper's solvers and of Runge-Kutta."""
    document = data("paper-orders")
    rows = [
        [f"`{name}`", str(curve["order"]), *(f"{curve['slopes'][p]:.2f}" for p in ("gaussian", "mixture"))]
        for name, curve in document["curves"].items()
    ]
    return f"{markdown(['method', 'order', 'Gaussian', 'mixture'], rows)}\n{_made(document)}"


def paper_variance(where: str) -> str:
    """By how much Runge-Kutta trails DPM-Solver of its order, for narrow and for broad data."""
    document = data("paper-orders")
    column = document["variance_budgets"].index(24)
    found = document["by_variance"][where]
    rows = [[f"`{name}`", *(f"{row[column]:.2g}" for row in found[name])] for name in found]
    rows = [[cell if "e+" not in cell else f"{float(cell):,.0f}" for cell in row] for row in rows]
    return markdown(["variance of the data", *(f"{v:g}" for v in document["variances"])], rows)


def paper_results(name: str) -> str:
    """A table of a comparison, `KIND MODEL`; or that it is yet to be measured."""
    kind, _, model = name.partition(" ")
    try:
        results = data(f"paper-{kind}-{model}")
    except FileNotFoundError:
        wanted = f"--model {model} --json benchmarks/results/paper-{kind}-{model}.json"
        return f"Not measured yet: `python -m benchmarks.paper.{kind} {wanted}`\n"
    body = speedup.text(results["claims"]) if kind == "speedup" else tables(results)
    # Seen from docs/, where the only page with these tables is.
    picture = f"![Quality against evaluations on {model}](images/paper-fid-{model}.svg)\n\n" if kind == "fid" else ""
    return f"{picture}{body}\n{_made(results)}"


def peers(name: str) -> str:
    """Ours against the best of diffusers and k-diffusion on a testbed: every row, with its interval.

    Fewer samples than a Frechet distance or a share of classes needs are left out.
    """
    results = data(f"peers-{name}")
    rows = [row for row in results["table"] if row["measure"] in ("error", "sliced_wasserstein")]
    return f"{peers_text.text(results, rows)}\n{_made(results)}"


def gaussian_error(solver: str, grid: str | None, nfe: int) -> str:
    """RMS distance to the exact end on data of mean 0 and variance 0.25, LinearVP from 1 to 1e-3: a plan's factor less the exact one."""
    schedule, law = dpm.schedules.LinearVP(), dpm.models.Gaussian(mean=[0.0], variance=[0.25])
    plan, x_T = dpm.make_plan(solver, schedule, nfe, grid, end=1e-3), np.full((1, 1), schedule.sigma(schedule.t_max))
    exact = law.trajectory(schedule, x_T, schedule.t_max, plan.end.time)
    return f"{abs(dpm.sample(law.denoiser(schedule), x_T, plan=plan) - exact).item():.1e}".replace("e-0", "e-")


def fitted_bars() -> str:
    """How many of the bars of fitted plans are met."""
    found = [bar for name, case in data("tuning-gain")["cases"].items() for bar in gain.bars(case_of(name), case)]
    bars = [bar["met"] for bar in found if bar["kind"] == "bar"]
    return f"{sum(bars)} of {len(bars)}"


def fitted_error(who: str, case: str, nfe: str) -> str:
    """Mean error on noises that no fit has seen: of the fitted plan, the best preset, `auto`, or a package's best sampler."""
    figures = data("tuning-gain")["cases"][case]
    tuned, untuned = figures["tuned"][nfe], figures["untuned"][nfe]
    found = {"the fitted plan": tuned, "auto": tuned["of_auto"], "the best preset": untuned["ours"], **untuned}
    return f"{found[who]['mean']:.3f}"


def measured_error(sampler: str, model: str, nfe: int) -> str:
    """RMS distance of a sampler to the end of the exact trajectory, from the comparison behind a figure."""
    (curve,) = (curve for curve in data(f"paper-fid-{model}")["curves"] if curve["solver"] == sampler)
    (point,) = (point for point in curve["points"] if point["nfe"] == nfe)
    return f"{point['measures']['error']['value']:.3f}"


def step_ratio() -> str:
    """What a step of ours costs besides the network, over what one of diffusers' does: the least and the largest ratio of all sizes."""
    ratios = [
        row["ratio"]
        for row in data("overhead")
        if row["solver"] == "dpm++2m" and row["peer"] == "diffusers DPMSolverMultistep"
    ]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _made(document: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
    return f"Made by `{document['command']}` on {document['date']} ({versions}).\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "orders": orders_table,
    "overhead": overhead_table,
    "digits": digits_table,
    "gpu overhead": gpu_overhead,
    "gpu facts": gpu_facts,
    "generation": generation_facts,
    "paper orders": paper_orders,
    "paper variance inside": lambda: paper_variance("inside"),
    "paper variance whole": lambda: paper_variance("whole"),
    "cifar10 gaussian": lambda: f"{cifar10_text.gaussian(data('paper-cifar10'))}\n{_made(data('paper-cifar10'))}",
    "cifar10 rank VP": lambda: cifar10_text.rank(data("paper-cifar10"), "VP"),
    "cifar10 rank EDM": lambda: cifar10_text.rank(data("paper-cifar10"), "EDM"),
    "cifar10 pierret-galerne": lambda: cifar10_text.pierret_galerne(data("paper-cifar10")),
    "fitted bars": fitted_bars,
    "cifar10 needed": lambda: str(data("paper-cifar10")["gaussian"]["continuous"]["needed"][0]),
    "step ratio": step_ratio,
    "speedup": lambda: speedup.short(data("paper-speedup-digits")["claims"], _SHARES),
    "command line": reference_text.commands,
    "names": reference_text.names,
    "peers": lambda: peers_text.overview([data(f"peers-{name}") for name in _PEERS]),
}


def block(name: str) -> str:
    """What stands under a name. ValueError for a name that there is not."""
    if name in BLOCKS:
        return BLOCKS[name]().strip()
    if re.fullmatch(r"paper (table1|fid|speedup) [\w.-]+", name):
        return paper_results(name.removeprefix("paper ")).strip()
    if name.removeprefix("peers ") in _PEERS:
        return peers(name.removeprefix("peers ")).strip()
    if found := re.fullmatch(r"gaussian error of ([^@\s]+)(?:@(\S+))? with (\d+)", name):
        return gaussian_error(found[1], found[2], int(found[3]))
    if found := re.fullmatch(r"error of (the fitted plan|the best preset|auto|[a-z-]+) on (\S+) with (\d+)", name):
        return fitted_error(found[1], found[2], found[3])
    if found := re.fullmatch(r"RMS error of (\S+) on (\S+) with (\d+)", name):
        return measured_error(found[1], found[2], int(found[3]))
    raise ValueError(
        f"nothing is generated under the name {name!r}: there are {', '.join(BLOCKS)}, 'paper KIND MODEL', 'peers MODEL', "
        "'gaussian error of SOLVER@GRID with NFE', 'error of WHO on CASE with NFE' and 'RMS error of SOLVER on MODEL with NFE'"
    )


def rendered(text: str, blocks: Callable[[str], str] = block) -> str:
    """A page with everything between its markers made anew.

    Raises:
        ValueError: a marker without its end, or a name that there is not.
    """
    if len(_MARK.findall(text)) != text.count("<!-- generated:") or len(_MARK.findall(text)) != text.count(
        "<!-- end -->"
    ):
        raise ValueError("every '<!-- generated: NAME -->' needs an '<!-- end -->' of its own")

    def fill(match: re.Match[str]) -> str:
        if "<!-- generated:" in match["old"]:
            raise ValueError(f"'<!-- generated: {match['name']} -->' has no end before the next one begins")
        made = blocks(match["name"])
        # Markdown reads a table only after an empty line.
        between = f"\n\n{made}\n\n" if "\n" in match["old"] else made
        return f"<!-- generated: {match['name']} -->{between}<!-- end -->"

    return _MARK.sub(fill, text)


def figures() -> dict[Path, tuple[Any, Callable[[Any], str]]]:
    """Every picture: where it lies, the data that it shows, and what draws it. Of comparisons, those that were measured."""
    found: dict[Path, tuple[Any, Callable[[Any], str]]] = {
        IMAGES / "paper-orders.svg": (data("paper-orders"), orders),
        IMAGES / "paper-cifar10.svg": (data("paper-cifar10"), cifar10),
    }
    for path in sorted(RESULTS.glob("paper-fid-*.json")):
        found[IMAGES / f"{path.stem}.svg"] = data(path.stem), quality
    return found


def problems() -> list[str]:
    """What is not as the JSON says, a line each."""
    found = [f"docs/{p}" for p in solvers.problems(data("solvers"), solvers.PAGE.read_text())]
    for name in PAGES:
        text = (ROOT / name).read_text()
        if text != rendered(text):
            found.append(f"{name} is not what benchmarks/results/ makes: {COMMAND}")
    text = typed_names.FILE.read_text()
    if text != typed_names.rendered(text, typed_names.names()):
        found.append(f"src/dpmsolver/typing.py lacks names of the registries, or has others: {COMMAND}")
    for path, (document, _) in figures().items():
        if not path.exists() or f"data {digest(document)}" not in path.read_text():
            found.append(f"{path.relative_to(ROOT)} was not drawn from the data that is there: {COMMAND}")
    return found


def write() -> list[str]:
    """Bring every page and picture up to date; what was changed."""
    new = {ROOT / name: rendered((ROOT / name).read_text()) for name in PAGES}
    new[solvers.PAGE] = solvers.render(data("solvers"))
    new[typed_names.FILE] = typed_names.rendered(typed_names.FILE.read_text(), typed_names.names())
    for path, (document, draw) in figures().items():
        if not path.exists() or f"data {digest(document)}" not in path.read_text():
            new[path] = draw(document)
    changed = [path for path, text in new.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        with written_aside(path) as aside:
            aside.write_text(new[path])
    return [str(path.relative_to(ROOT)) for path in changed]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where something is out of date"
    )
    if parser.parse_args(argv).check:
        found = problems()
        print("\n".join(found) or "up to date")
        return int(bool(found))
    print("\n".join(f"written: {name}" for name in write()) or "nothing has changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
