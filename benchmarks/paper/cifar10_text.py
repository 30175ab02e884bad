"""The tables of `benchmarks.paper.cifar10`, as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.paper.cifar10 import ENDS, POINTS, PRINTED, PUBLISHED, SCHEMES
from benchmarks.paper.text import markdown

__all__ = ["gaussian", "pierret_galerne", "rank"]


def gaussian(document: dict[str, Any]) -> str:
    """DPM-Solver's distances, and the evaluations that DDIM needs for the same."""
    rows = []
    for name, found in document["gaussian"].items():
        pairs = zip(document["budgets"], found["dpm-fast"], found["needed"], strict=True)
        cells = [f"{distance:.2f}: {ddim}, {ddim / nfe:.1f}x" for nfe, distance, ddim in pairs]
        rows.append([name, *cells, f"{found['floor']:.2f}"])
    return markdown(["", *(f"{nfe} evaluations" for nfe in document["budgets"]), "the ODE's limit"], rows)


def rank(document: dict[str, Any], name: str) -> str:
    """Published FID and our RMS distance, row by row, and the rank correlation of the columns."""
    table, found = PUBLISHED[name], document["rank"][name]
    rows = []
    for label, (solver, grid, fids) in table["rows"].items():
        pairs = zip(fids, found["rows"][label], strict=True)
        rows.append(
            [f"{label}: `{solver}` @ {grid}", *("" if fid is None else f"{fid:.2f} / {own:.3f}" for fid, own in pairs)]
        )
    rows.append(["Spearman's rank correlation", *(f"{value:.2f}" for value in found["spearman"])])
    return markdown([f"FID of {table['source']} / RMS here", *map(str, table["budgets"])], rows)


def pierret_galerne(document: dict[str, Any]) -> str:
    """Every cell: printed, ours on their spectrum, ours on that of the law that ships."""
    found = document["pierret_galerne"]
    head = ["", "end", *(f"N = {n}, {start}" for n in POINTS for start in ("p_T", "N(0, I)"))]
    rows = []
    for scheme in SCHEMES:
        for k, end in enumerate(ENDS):
            columns = [PRINTED[scheme][k][2:], *(found[of][scheme][k] for of in ("theirs", "ours") if of in found)]
            cells = [" / ".join(f"{value:.2f}" for value in cell) for cell in zip(*columns, strict=True)]
            rows.append([scheme, f"{end:g}", *cells])
    return markdown(head, rows)
