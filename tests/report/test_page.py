"""The HTML of the report: everything measured is in it, nothing in it can break it, and wrong results are refused."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import dpmsolver.report
from dpmsolver.report import write_report
from dpmsolver.report.content import summary

Results = dict[str, Any]
Pictures = dict[tuple[str, int], bytes]


class Outline(HTMLParser):
    """What a browser would find: the elements by tag, the ids, the text outside scripts and styles, the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.data = ""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [str(given["id"])] if "id" in given else []
        self.loads += [str(given[name]) for name in ("src", "href") if name in given]
        self._open = "data" if given.get("id") == "data" else tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "data":
            self.data += data
        elif self._open not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def outline(results: Results, pictures: Pictures, folder: Path) -> Outline:
    return Outline(write_report(results, pictures, folder).read_text(encoding="utf-8"))


def test_the_page_has_every_figure_interval_and_reason(results: Results, pictures: Pictures, tmp_path: Path) -> None:
    """The tables hold what was measured, what was left out and why, and how it was made."""
    text = outline(results, pictures, tmp_path).text
    assert "0.260 [0.234, 0.312]" in text  # unipc-2 with 10 evaluations: 0.25 + 0.1 / 10
    assert "dpm-3 10 it cannot spend 10" in text
    assert "1.00e-4 [9.00e-5, 1.20e-4]" in text  # the reference's own error
    assert "> 50" in text  # ddim does not come within 5 per cent
    assert "10×" in text
    for made in (
        "dpmsolver compare digits --nfe 5,10,20,50",
        "numpy 2.4.6",
        "two cores",
        "2026-11-23",
        "7; the same 40",
    ):
        assert made in text


def test_the_embedded_data_has_every_run(results: Results, pictures: Pictures, tmp_path: Path) -> None:
    """What the script draws is all of it: points, grids and pictures of each run, the level lines of each measure."""
    data = json.loads(outline(results, pictures, tmp_path).data)
    assert data["budgets"] == [5, 10, 20, 50]
    assert data["budgets"][data["start"]] == 10
    for given, drawn in zip(results["curves"], data["curves"], strict=True):
        assert [point["nfe"] for point in drawn["points"]] == [point["nfe"] for point in given["points"]]
        assert set(drawn["pictures"]) == set(drawn["grids"]) == {str(point["nfe"]) for point in given["points"]}
    assert [line["value"] for line in data["measures"][0]["lines"]] == [0.25, 0.052]
    assert data["layout"] == {"squares": 4, "pixels": True}


def test_the_page_loads_nothing(results: Results, pictures: Pictures, tmp_path: Path) -> None:
    """One file: no address in any src or href, and a policy under which a browser would refuse to follow one."""
    found = outline(results, pictures, tmp_path)
    assert [address for address in found.loads if not address.startswith("data:")] == []
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "sourceMappingURL" not in page
    assert "@import" not in page
    assert len(found.ids) == len(set(found.ids))


@pytest.mark.parametrize(
    "hostile", ["</script><script>alert(1)</script>", "<b>&\"'`", "<!--<script>", "{{ 7 * 7 }}\u2028"]
)
def test_no_text_of_the_results_becomes_markup(
    hostile: str, results: Results, pictures: Pictures, tmp_path: Path
) -> None:
    """Names, reasons and commands with HTML in them leave the page's elements as they are, and arrive as they were."""
    plain = outline(results, {}, tmp_path).tags
    results["title"] = results["command"] = results["machine"] = results["versions"]["numpy"] = hostile
    results["measures"]["frechet"]["title"] = results["reference"]["name"] = hostile
    results["curves"][2]["name"] = results["thresholds"]["rows"][2]["name"] = hostile
    results["curves"][2]["skipped"][0]["why"] = hostile
    found = outline(results, {}, tmp_path)
    assert found.tags == plain
    data = json.loads(found.data)
    assert data["curves"][2]["name"] == data["measures"][0]["title"] == hostile
    assert found.text.count(" ".join(hostile.split())) >= 8


def test_numbers_that_json_has_not_are_shown_and_not_drawn(results: Results, tmp_path: Path) -> None:
    """A diverged run is NaN or infinite in the table and absent from the chart; an unbounded half-log-SNR sits at the edge."""
    point = results["curves"][0]["points"][0]
    point["measures"] = {"frechet": {"value": math.nan}, "accuracy": {"value": math.inf, "low": 0.1, "high": math.inf}}
    results["curves"][0]["grids"]["5"]["half_log_snr"] = [-math.inf, -100.0, 0.0, 1.0, math.inf]
    found = outline(results, {}, tmp_path)
    curve = json.loads(found.data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["curves"][0]
    assert curve["points"][0]["measures"]["frechet"]["value"] is None
    assert curve["points"][0]["measures"]["accuracy"]["high"] is None
    assert curve["grids"]["5"]["places"] == ["low", "low", 0.0, 1.0, "high"]
    assert "NaN" in found.text
    assert "∞ [0.100, ∞]" in found.text


def test_a_page_of_one_run_has_only_what_there_is(tmp_path: Path) -> None:
    """One curve, one budget, nothing else: a page without thresholds, slider, pictures, grids, reference and summary."""
    results = {
        "title": "one", "num": 1, "seed": 0, "command": "", "versions": {}, "machine": "", "date": "",
        "measures": {"error": {"title": "error", "better": "lower"}},
        "curves": [{"name": "ddim", "points": [{"nfe": 1, "measures": {"error": {"value": 0.5}}}]}],
    }  # fmt: skip
    found = outline(results, {}, tmp_path)
    assert not {"thresholds", "slider", "strips", "grids", "skipped"} & set(found.ids)
    assert "0.500" in found.text
    assert "interval" not in found.text


@pytest.mark.parametrize(
    ("needed", "sentence"),
    [
        ({"ddim": 50, "unipc-2": 8}, "unipc-2 comes within 5 % of the limit with 8 evaluations; ddim needs 50."),
        ({"ddim": None, "unipc-2": 8}, "unipc-2 comes within 5 % of the limit with 8 evaluations; "
                                       "ddim does not with up to 50."),
        ({"ddim": 5, "unipc-2": 8}, "ddim comes within 5 % of the limit with 5 evaluations."),
        ({"dpm-3": 10, "unipc-2": 10}, "dpm-3 and unipc-2 come within 5 % of the limit with 10 evaluations."),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "a, b and 2 others come within 5 % of the limit with 1 evaluation."),
        ({"ddim": None, "unipc-2": None}, None),
    ],
)  # fmt: skip
def test_the_summary_says_what_the_thresholds_have(
    needed: dict[str, int | None], sentence: str | None, results: Results
) -> None:
    """The sentence at the head follows from the table, and is left out where the table has nothing to say."""
    rows = [{"name": name, "needed": [fewest]} for name, fewest in needed.items()]
    results["thresholds"] = {"measure": "frechet", "within": [0.05], "rows": rows}
    said = summary(results)
    assert (said and said.replace("\u202f", " ")) == sentence


def test_thresholds_of_the_error_are_values_and_not_shares(results: Results, tmp_path: Path) -> None:
    """The limit of the trajectory's error is 0: nothing is within a share of it, so the words are others."""
    results["measures"]["error"] = {"title": "RMS distance", "better": "lower"}
    speedups = [{"value": 5.0, "low": 4.0, "high": 6.0, "at_least": True}, None]
    rows = [{"name": "unipc-2", "needed": [8, None], "speedup": speedups}]
    results["thresholds"] = {"measure": "error", "within": [0.05, 0.01], "rows": rows}
    assert summary(results) == "unipc-2 comes to 0.05 or less in RMS distance with 8 evaluations."
    text = outline(results, {}, tmp_path).text.replace("\u202f", " ")
    assert "≤ 0.05" in text
    assert "≥ 5.0× [4.0, 6.0]" in text
    assert "limit" not in text


def test_the_summary_takes_the_nearest_share_that_anybody_reaches(results: Results) -> None:
    """If nobody comes within 5 per cent, it speaks of 10; without thresholds it says nothing."""
    results["thresholds"] = {
        "measure": "frechet",
        "within": [0.1, 0.05],
        "rows": [{"name": "dpm-3", "needed": [20, None]}],
    }
    assert str(summary(results)).replace("\u202f", " ").startswith("dpm-3 comes within 10 %")
    del results["thresholds"]
    assert summary(results) is None


def _without(*path: Any) -> Callable[[Results], None]:
    def remove(results: Results) -> None:
        inner: Any = results
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]

    return remove


def _with(value: Any, *path: Any) -> Callable[[Results], None]:
    def put(results: Results) -> None:
        inner: Any = results
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return put


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        *((_without(key), f"results lacks '{key}'") for key in ("title", "command", "versions", "measures", "curves")),
        (_without("curves", 1, "points", 2, "nfe"), r"results['curves'][1]['points'][2] lacks 'nfe'"),
        (_without("curves", 1, "points", 2, "measures", "frechet", "value"), "['measures']['frechet'] lacks 'value'"),
        (_without("measures", "frechet", "better"), "results['measures']['frechet'] lacks 'better'"),
        (_with("smaller", "measures", "frechet", "better"), "accepted: lower, higher"),
        (_with({"fid": {"value": 1.0}}, "curves", 0, "points", 0, "measures"), "'fid'"),
        (_with(2.5, "curves", 0, "points", 0, "nfe"), "must be a whole number of evaluations"),
        (_with([], "curves"), "must hold at least one curve"),
        (_with("unipc-2", "curves", 0, "name"), "names that differ"),
        (_with([1], "thresholds", "rows", 0, "needed"), "must have one entry for each of [0.05, 0.1]"),
        (_with("fid", "thresholds", "measure"), "'fid'"),
    ],
)  # fmt: skip
def test_results_that_lack_something_are_refused_by_name(
    spoil: Callable[[Results], None], said: str, results: Results, tmp_path: Path
) -> None:
    """The message has the place of the fault, and nothing is written."""
    spoil(results)
    with pytest.raises(ValueError, match=re.escape(said)):
        write_report(results, {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "picture", "said"),
    [
        (("dimm", 5), None, "did you mean 'ddim'"),
        (("ddim", 5), b"GIF89a", "bytes of a PNG"),
        ("ddim", None, "must have keys"),
    ],
)
def test_pictures_of_nothing_are_refused(
    key: Any, picture: bytes | None, said: str, results: Results, pictures: Pictures, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        write_report(results, {key: picture or pictures["ddim", 5]}, tmp_path)


def test_a_folder_that_is_not_there_is_refused_and_an_earlier_page_survives(results: Results, tmp_path: Path) -> None:
    """`out` must exist; a report that fails leaves the earlier page as it was, and nothing beside it."""
    with pytest.raises(ValueError, match="out must be a folder that exists"):
        write_report(results, {}, tmp_path / "nowhere")
    page = write_report(results, {}, tmp_path)
    earlier = page.read_bytes()
    results["curves"][0]["points"][0]["seconds"] = "soon"
    with pytest.raises(TypeError):
        write_report(results, {}, tmp_path)
    assert page.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [page]


def test_the_library_beside_the_page_is_the_one_its_licence_file_names() -> None:
    """Chart.js is in the package as it was published: its hash stands beside its licence, and the page carries both licences."""
    vendor = Path(dpmsolver.report.__file__).parent / "assets" / "vendor"
    licences = (vendor / "LICENSES.txt").read_text(encoding="utf-8")
    assert hashlib.sha256((vendor / "chart.umd.min.js").read_bytes()).hexdigest() in licences
    assert licences.count("Permission is hereby granted, free of charge") == 2


def test_a_figure_that_is_not_there_has_its_reason(results: Results, tmp_path: Path) -> None:
    """Once below the table for all curves that share it, and at each dash; the network is named by its weights, or said to be unknown."""
    why = "adds noise: its samples have no exact trajectory to be near to"
    for curve in results["curves"][:2]:
        for point in curve["points"]:
            del point["measures"]["accuracy"]
            point["missing"] = {"accuracy": why}
    results["network"] = "5c37426c"
    found = outline(results, {}, tmp_path)
    assert found.text.count(f"– ddim, unipc-2: {why}") == 1
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count(f'title="{why}"') == 8
    assert "SHA-256 of its weights: 5c37426c" in found.text
    results["network"] = None
    assert "no weights were found" in outline(results, {}, tmp_path).text
