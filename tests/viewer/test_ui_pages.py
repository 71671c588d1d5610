"""Every screen in a real browser: wide and narrow, light and dark, by mouse and by keyboard."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyagent_exporters.viewer.runs import RunQuery
from pyagent_exporters.viewer.security import Access
from pyagent_exporters.viewer.serving import Viewer
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore

from .browsing import Window
from .conftest import Serve, served
from .test_app import a_call

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., Window]
SECOND = 10**9

SCREENS = {
    "runs": "/",
    "filtered": "/?q=market&pattern=orchestrator_workers&sort=cost",
    "no such run": "/?q=nothing-is-called-so",
    "costs": "/costs",
    "costs by day": "/costs?by=model&bucket=day",
    "costs by hour": "/costs?by=path&bucket=hour",
    "two runs": "/compare?a={a}&b={b}",
    "one run": "/runs/{a}",
    "one span": "/runs/{a}?span={span}",
    "bad request": "/?page=x",
    "not found": "/runs/none",
}
STATUSES = {"bad request": 400, "not found": 404}


@pytest.fixture(scope="module")
def addresses(showcase_viewer: Viewer, showcase_store: SpanStore) -> dict[str, str]:
    query = RunQuery(pattern="orchestrator_workers", status="completed")
    a, b, *_ = showcase_store.runs(query).runs
    trace = showcase_store.run(a.run_id)
    assert trace is not None
    [span, *_] = [span for span in trace.spans if span.role == "chat"]
    ids = {"a": a.run_id, "b": b.run_id, "span": span.span_id}
    return {name: showcase_viewer.url + path.format(**ids) for name, path in SCREENS.items()}


@pytest.fixture
def at(window: Open, addresses: dict[str, str]) -> Callable[..., Page]:
    """Opens a screen in a window of its own."""

    def opening(screen: str, **how: object) -> Page:
        opened = window(**how)
        opened.expected_statuses = {STATUSES[screen]} if screen in STATUSES else set()
        return opened.open(addresses[screen])

    return opening


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_fits_and_everybody_can_read_it(
    window: Open, addresses: dict[str, str], screen: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    shown = window(width=width)
    shown.expected_statuses = {STATUSES.get(screen, 0)}
    page = shown.open(addresses[screen])
    assert shown.status == STATUSES.get(screen, 200)
    assert page.locator("h1").count() == 1
    assert page.title().endswith("PyAgent")
    assert not shown.is_too_wide
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
        assert [
            (its["id"], its["impact"], its["nodes"][0]["html"][:200])
            for its in axe.Axe().run(page).response["violations"]
        ] == []


@pytest.mark.parametrize("screen", [name for name in SCREENS if name not in STATUSES])
def test_a_page_says_all_it_has_to_say_without_scripts(
    at: Callable[..., Page], screen: str
) -> None:
    with_script = at(screen).locator("main").inner_text()
    without = at(screen, script=False).locator("main").inner_text()
    numbers = re.compile(r"\$[\d.,]+|\d[\d,]{2,}")
    assert set(numbers.findall(without)) >= set(numbers.findall(with_script))


# The list


def test_what_is_chosen_in_a_list_limits_the_runs_at_once(at: Callable[..., Page]) -> None:
    page = at("runs")
    with page.expect_navigation():
        page.get_by_label("Pattern").select_option("router")
    assert set(page.locator("td[data-label=Pattern]").all_inner_texts()) == {"router"}
    with page.expect_navigation():
        page.get_by_label("Search").fill("engineer")
        page.keyboard.press("Enter")
    assert "pattern=router" in page.url
    assert "q=engineer" in page.url
    page.get_by_role("link", name="Clear").click()
    assert page.locator("[data-row]").count() == 17


def test_a_heading_sorts_and_says_so(at: Callable[..., Page]) -> None:
    page = at("runs")
    for direction, is_down in (("descending", True), ("ascending", False)):
        page.locator("thead").get_by_role("link", name="Cost").click()
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == direction
        texts = page.locator("td[data-label=Cost]").all_inner_texts()
        costs = [Decimal(re.sub(r"[^\d.]", "", text.split("+")[0]) or 0) for text in texts]
        assert costs == sorted(costs, reverse=is_down)


def test_two_runs_are_picked_and_compared(at: Callable[..., Page]) -> None:
    page = at("runs")
    button = page.get_by_role("button", name="Compare two")
    assert button.is_disabled()
    boxes = page.get_by_role("checkbox")
    boxes.nth(0).check()
    assert button.is_disabled()
    boxes.nth(2).check()
    assert button.is_enabled()
    boxes.nth(3).check()
    assert button.is_disabled()
    boxes.nth(3).uncheck()
    button.click()
    page.wait_for_url("**/compare?a=*&b=*")
    assert page.get_by_role("heading", name="Two runs").is_visible()


def test_the_list_is_walked_by_keys(at: Callable[..., Page]) -> None:
    page = at("runs")
    rows = page.locator("[data-row]")

    def here() -> int:
        return int(
            page.evaluate(
                "[...document.querySelectorAll('[data-row]')].indexOf(document.activeElement)"
            )
        )

    for key, expected in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        assert here() == expected, key
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("[name=run]:checked").count() == 2
    page.keyboard.press("/")
    page.keyboard.type("jxkc")
    assert page.get_by_label("Search").input_value() == "jxkc"
    rows.nth(0).focus()
    target = rows.nth(0).get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{target}")
    page.go_back()
    page.keyboard.press("c")
    page.wait_for_url("**/compare?*")


@pytest.mark.parametrize("screen", ["runs", "costs", "two runs"])
def test_all_that_can_be_used_is_reached_by_tab_and_seen_to_be(
    at: Callable[..., Page], screen: str
) -> None:
    page = at(screen)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # pyright: ignore
    wanted = page.locator(
        "a:visible, input:visible, select:visible, button:enabled, summary"
    ).count()
    seen = set()
    for _ in range(wanted + 10):
        seen.add(
            page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        body = page.evaluate("document.activeElement === document.body")
        assert body or outline != "none", page.evaluate("document.activeElement.outerHTML")
        page.keyboard.press("Tab")
    assert len(seen) >= wanted


def test_the_skip_link_skips(at: Callable[..., Page]) -> None:
    page = at("runs")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


# Costs


@pytest.mark.parametrize("screen", ["costs", "costs by day", "costs by hour"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chart_is_drawn(at: Callable[..., Page], screen: str, scheme: str) -> None:
    page = at(screen, scheme=scheme)
    height, colours = page.evaluate(
        """() => {
          const canvas = document.querySelector("[data-chart] canvas");
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.clientHeight, new Set(new Uint32Array(data.buffer)).size];
        }"""
    )
    assert height > 200
    assert colours > 10
    figures = json.loads(page.locator("[data-chart-figures]").text_content() or "")
    drawn = page.evaluate("Chart.getChart(document.querySelector('canvas')).data.datasets.length")
    assert drawn == len(figures["series"])


def test_the_chart_follows_the_colour_scheme(at: Callable[..., Page]) -> None:
    page = at("costs")
    colour = "Chart.getChart(document.querySelector('canvas')).data.datasets[0].backgroundColor"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{colour} !== '{light}'")


def test_costs_are_downloaded_as_files(at: Callable[..., Page], tmp_path: Path) -> None:
    page = at("costs by day")
    for name in ("CSV", "JSON"):
        with page.expect_download() as waiting:
            page.get_by_role("link", name=name).click()
        kind = name.lower()
        assert waiting.value.suggested_filename == f"costs-by-model.{kind}"
        waiting.value.save_as(tmp_path / f"costs.{kind}")
    with (tmp_path / "costs.csv").open(newline="") as file:
        sheet = list(csv.DictReader(file))
    rows = json.loads((tmp_path / "costs.json").read_text())["rows"]
    assert [row["cost_usd"] for row in sheet] == [row["cost_usd"] for row in rows]
    assert len(rows) == page.locator("table.costs tbody tr").count()


def test_a_row_of_the_costs_leads_to_its_runs(at: Callable[..., Page]) -> None:
    page = at("costs by day")
    page.get_by_role("rowheader").get_by_role("link", name="gemini-2.5-flash").first.click()
    assert page.url.endswith("/?model=gemini-2.5-flash")
    assert page.locator("[data-row]").count() >= 1


# Live


def test_a_new_run_appears_and_nothing_else_moves(
    serve: Serve, store: SpanStore, window: Open
) -> None:
    for n in range(1, 41):
        store.add(a_call(n))
    page = window().open(serve().url)
    page.locator(".live", has_text="Live").wait_for()
    page.locator("[name=run]").nth(30).check()
    row = page.locator("[data-row]").nth(30)
    row.focus()
    href = row.get_attribute("href")
    before = row.bounding_box()
    assert page.evaluate("scrollY") > 0
    store.add(a_call(41, run="the-new-one"))
    page.locator("[data-row]", has_text="pipeline").nth(40).wait_for(state="attached")
    assert page.locator("[data-row]").first.get_attribute("href") == "/runs/the-new-one"
    assert page.evaluate("document.activeElement.getAttribute('href')") == href
    assert page.locator("[name=run]:checked").get_attribute("value") == "run-10"
    assert page.locator("[data-row]").nth(31).bounding_box() == before


def test_costs_and_their_chart_follow(serve: Serve, store: SpanStore, window: Open) -> None:
    store.add(a_call(1))
    page = window().open(f"{serve().url}/costs")
    page.locator(".live", has_text="Live").wait_for()
    store.add(a_call(2, agent="another", cost=2))
    page.locator("th", has_text="another").wait_for()
    labels = page.evaluate("Chart.getChart(document.querySelector('canvas')).data.labels")
    assert labels == ["another", "writer"]


def test_a_viewer_that_is_gone_is_said_to_be(store: SpanStore, window: Open) -> None:
    shown = window()
    with served(store, Access()) as viewer:
        page = shown.open(viewer.url)
        page.locator(".live", has_text="Live").wait_for()
    page.locator(".live", has_text="Not connected").wait_for()
    shown.forgive("ERR_CONNECTION_REFUSED")


def test_a_run_that_goes_on_fills_in(serve: Serve, store: SpanStore, window: Open) -> None:
    *above, call = a_call(int(time.time()))
    store.add([call])
    viewer = serve()
    page = window().open(viewer.url)
    page.locator(".status", has_text="running").wait_for()
    store.add(above)
    page.locator(".status", has_text="completed").wait_for()


def test_what_came_while_a_page_was_on_its_way_is_not_missed(
    serve: Serve, store: SpanStore, window: Open
) -> None:
    *above, call = a_call(int(time.time()))
    store.add([call])
    shown = window()
    news = iter([above])
    shown.page.route(
        "**/static/viewer.js*", lambda route: (store.add(next(news)), route.continue_())
    )
    page = shown.open(serve().url)
    page.locator(".status", has_text="completed").wait_for()


# With a token


def test_a_browser_is_let_in_once_and_stays_in(store: SpanStore, window: Open) -> None:
    with served(store, Access(token="a-token-of-the-tests")) as viewer:
        shown = window()
        shown.expected_statuses = {401}
        page = shown.open(viewer.url)
        assert shown.status == 401
        assert "pyagent ui" in page.locator("main").inner_text()
        page = shown.open(viewer.entrance)
        assert page.url == f"{viewer.url}/"
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("link", name="Costs").click()
        assert page.get_by_role("heading", name="Costs").is_visible()


# Much of it


def test_a_long_list_is_there_in_no_time(tmp_path: Path, window: Open) -> None:
    """200 ms are the aim, with 100,000 spans, on a machine that does nothing else."""
    runs = int(os.environ.get("PYAGENT_VIEWER_SPANS", "10000")) // 20
    with SpanStore(tmp_path / "many.db") as store:
        store.add(span for n in range(1, runs + 1) for span in _big_run(n))
        with served(store) as viewer:
            page = window().open(viewer.url)
            assert page.locator("dl.totals dd").first.inner_text() == f"{runs:,}"
            times: list[float] = []
            for _ in range(3):
                page.reload()
                entry = "performance.getEntriesByType('navigation')[0]"
                times.append(page.evaluate(f"{entry}.domContentLoadedEventEnd"))
            print(f"the list of {runs * 20:,} spans: {min(times):.0f} ms")
            assert min(times) < 2000


def _big_run(n: int) -> list[Span]:
    """Twenty spans: a pattern, its agent, and eighteen calls."""
    pattern, agent, call = a_call(n * 60, run=f"run-{n}")
    return [pattern, agent, *(replace(call, span_id=f"{m:x}{call.span_id[1:]}") for m in range(18))]
