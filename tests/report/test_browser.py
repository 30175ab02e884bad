"""The report in a browser: headless Chromium without a network. Skipped where there is none, except in CI.

DPMSOLVER_REQUIRE_BROWSER=1 makes a missing browser a failure; `make browser` installs Debian's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpmsolver.report import write_report

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api") if not os.environ.get("DPMSOLVER_REQUIRE_BROWSER") else None
    executable = shutil.which("chromium")
    if executable is None:
        if sync_api is None:
            pytest.fail(
                "no chromium on the path, and DPMSOLVER_REQUIRE_BROWSER asks for it: `make browser` installs it"
            )
        pytest.skip("no chromium on the path: `make browser` installs Debian's")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Write a report and open it; at the end, the browser must have said nothing and asked for nothing."""
    said: list[str] = []
    contexts = []

    def opened(results: Any, pictures: Any, *, width: int = 1280, scheme: str = "light") -> Any:
        file = write_report(results, pictures, tmp_path)
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        allowed = (file.as_uri(), "data:")
        page.on(
            "request",
            lambda request: None if request.url.startswith(allowed) else said.append(f"request: {request.url}"),
        )
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def shown(page: Any) -> list[str | None]:
    return list(
        page.eval_on_selector_all("#strips .curve img", "images => images.map(image => image.getAttribute('src'))")
    )


def visible_curves(page: Any) -> list[str]:
    """The names of the curves that Chart.js draws now."""
    script = """() => { const chart = Chart.getChart('chart');
        return chart.data.datasets.filter((set, i) => !set.band && chart.isDatasetVisible(i)).map(set => set.label) }"""
    return list(page.evaluate(script))


def test_the_slider_moves_the_pictures_and_the_grids(open_page: Open, results: Any, pictures: Any) -> None:
    """Each stop shows that budget's picture of each run, or says that there is no run and why; keys and mouse both work."""
    page = open_page(results, pictures)
    slider = page.locator("#slider")
    assert page.locator("#evaluations").inner_text().split() == ["10", "evaluations"]
    at_ten = shown(page)
    assert at_ten[0] != at_ten[1]
    assert at_ten[2] is None
    assert "no run with 10 evaluations: it cannot spend 10" in page.locator("#strips").inner_text()
    assert page.locator("#grids [data-curve='0'] .tick").count() == 10

    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "20 evaluations"
    at_twenty = shown(page)
    assert all(later is not None and later != earlier for later, earlier in zip(at_twenty, at_ten, strict=True))
    assert page.locator("#grids [data-curve='0'] .tick").count() == 20

    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert page.locator("#evaluations").inner_text().split() == ["50", "evaluations"]
    assert shown(page)[0] not in (at_ten[0], at_twenty[0])
    page.keyboard.press("Home")
    assert page.locator("#evaluations").inner_text().split() == ["5", "evaluations"]


def test_the_pictures_are_really_decoded(open_page: Open, results: Any, pictures: Any) -> None:
    """Not a broken image among them, the reference's strip first, and its size the one that was given."""
    page = open_page(results, pictures)
    page.wait_for_function("[...document.querySelectorAll('#strips img[src]')].every(image => image.complete)")
    sizes = page.eval_on_selector_all(
        "#strips img[src]", "all => all.map(image => [image.naturalWidth, image.naturalHeight])"
    )
    assert sizes == [[16, 4]] * 3  # the reference, ddim, unipc-2
    assert page.locator("#strips .row").first.inner_text().strip() == "reference"


def test_a_click_on_the_legend_hides_a_curve_under_every_measure(open_page: Open, results: Any, pictures: Any) -> None:
    page = open_page(results, pictures)
    assert visible_curves(page) == ["ddim", "unipc-2", "dpm-3"]
    name = page.locator("#legend button", has_text="unipc-2")
    name.click()
    assert name.get_attribute("aria-pressed") == "false"
    assert visible_curves(page) == ["ddim", "dpm-3"]
    page.locator("#measures label", has_text="class accuracy").click()
    assert "higher is better" in page.locator("#measure").inner_text()
    assert visible_curves(page) == ["ddim", "dpm-3"]
    name.click()
    assert visible_curves(page) == ["ddim", "unipc-2", "dpm-3"]
    page.locator("#hide-all").click()
    assert visible_curves(page) == []


def test_pointing_at_the_chart_shows_the_figures_of_that_budget_best_first(
    open_page: Open, results: Any, pictures: Any
) -> None:
    """The hover lists every curve at the nearest budget with its interval."""
    page = open_page(results, pictures)
    place = page.evaluate(
        "() => { const { x, y } = Chart.getChart('chart').scales; return [x.getPixelForValue(20), y.top + 20] }"
    )
    page.locator("#chart").hover(position={"x": place[0], "y": place[1]})
    lines = "() => Chart.getChart('chart').tooltip.body.flatMap(item => item.lines.map(line => line.trim()))"
    page.wait_for_function("() => Chart.getChart('chart').tooltip.opacity === 1")
    assert page.evaluate(lines) == [
        "unipc-2  0.255 [0.230, 0.306]",  # 0.25 + 0.1 / 20, and 0.9 and 1.2 times that
        "dpm-3  0.275 [0.248, 0.330]",
        "ddim  0.300 [0.270, 0.360]",
    ]


def test_a_run_that_diverges_does_not_press_the_others_flat(open_page: Open, results: Any, pictures: Any) -> None:
    """The chart ends above the other curves, and one button brings the whole range."""
    results["curves"][1]["points"][0]["measures"]["frechet"] = {"value": 1e6}
    results["curves"].append({**results["curves"][0], "name": "a third at five evaluations"})
    page = open_page(results, pictures)
    top = "() => Chart.getChart('chart').scales.y.max"
    assert page.evaluate(top) < 10
    page.locator("#range").click()
    assert page.evaluate(top) >= 1e6


def test_the_table_sorts_by_numbers_both_ways_with_gaps_last(open_page: Open, results: Any, pictures: Any) -> None:
    results["curves"][0]["points"][0]["measures"]["frechet"] = {"value": float("nan")}
    page = open_page(results, pictures)
    head = page.locator("#runs thead button", has_text="Frechet distance")
    column = "rows => rows.map(row => row.cells[3].dataset.value)"
    for direction in (1, -1):
        head.click()
        values = page.eval_on_selector_all("#runs tbody tr", column)
        assert values[-1] == ""
        assert [float(value) for value in values[:-1]] == sorted(map(float, values[:-1]), reverse=direction < 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_never_scrolls_sideways(width: int, scheme: str, open_page: Open, results: Any, pictures: Any) -> None:
    """Wide tables and strips scroll inside their boxes, also with long names, many budgets and everything unfolded."""
    long = "a-sampler-with-a-very-long-name@and-a-grid-with-a-long-name-too"
    results["curves"][2]["name"] = results["thresholds"]["rows"][2]["name"] = long
    results["command"] = "dpmsolver compare --solvers " + ",".join(["dpm++2m"] * 40)
    results["machine"] = "m" * 200
    points = results["curves"][0]["points"]
    points += [{**points[0], "nfe": nfe, "evaluations": nfe} for nfe in (100, 200, 500, 1000, 2000, 5000, 10000)]
    pictures = {key: picture for key, picture in pictures.items() if key[0] != "dpm-3"}
    page = open_page(results, pictures, width=width, scheme=scheme)
    page.locator("details summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 3 * 128) == (scheme == "dark")


def test_markup_in_a_name_is_text(open_page: Open, results: Any, pictures: Any) -> None:
    """Wherever the script writes a name it writes text: no element comes of it, and none of it runs."""
    hostile = "</script><img src=x onerror=alert(1)>"
    results["curves"][2]["name"] = results["thresholds"]["rows"][2]["name"] = hostile
    results["curves"][2]["skipped"][1]["why"] = hostile
    results["measures"]["accuracy"]["title"] = hostile
    page = open_page(results, {key: value for key, value in pictures.items() if key[0] != "dpm-3"})
    assert page.locator("[onerror]").count() == 0
    for place in ("#legend", "#measures", "#strips", "#grids"):
        assert hostile in page.locator(place).inner_text()


def test_a_page_of_one_run_works(open_page: Open) -> None:
    """One curve, one budget, no thresholds, no pictures: nothing is missing that the script looks for."""
    results = {
        "title": "one", "num": 1, "seed": 0, "command": "", "versions": {}, "machine": "", "date": "",
        "measures": {"error": {"title": "error", "better": "lower", "log": True}},
        "curves": [{"name": "ddim", "points": [{"nfe": 1, "measures": {"error": {"value": 0.5}}}]}],
    }  # fmt: skip
    page = open_page(results, {})
    assert visible_curves(page) == ["ddim"]
    assert page.locator("#strips, #grids, #slider").count() == 0
    assert not page.locator("#measures").is_visible()


def test_scatter_plots_stand_side_by_side(open_page: Open, results: Any) -> None:
    """Square pictures are tiles, not strips as wide as the page."""
    from dpmsolver.report import scatter

    square = scatter([[0.0, 0.0]], (-1.0, 1.0))
    page = open_page(results, {("reference", 100): square, ("ddim", 10): square, ("unipc-2", 10): square})
    tops = page.eval_on_selector_all("#strips .row", "rows => rows.map(row => row.getBoundingClientRect().top)")
    assert len(tops) == 4
    assert len(set(tops)) == 1


def test_a_curve_without_the_measure_of_the_chart_is_named_with_the_reason(open_page: Open, results: Any) -> None:
    """Below the chart, for the measure that is shown and no other; the table has a dash and the reason as well."""
    why = "adds noise: its samples have no exact trajectory to be near to"
    for point in results["curves"][1]["points"]:
        del point["measures"]["frechet"]
        point["missing"] = {"frechet": why}
    page = open_page(results, {})
    assert page.locator("#absent").inner_text() == f"Not in this chart: unipc-2 {why}."
    page.get_by_text("class accuracy", exact=True).first.click()
    assert not page.locator("#absent").is_visible()
    assert page.get_by_text(f"– unipc-2: {why}").count() == 1
