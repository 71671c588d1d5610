"""The page of one run, in the viewer: what its figures are, and what a browser does with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from pyagent_exporters.viewer import run_page
from pyagent_exporters.viewer.serving import Viewer
from pyagent_exporters.viewer.spans import Span, SpanLink
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns.testing import capture_trace
from pyagent_providers import semconv
from tests.patterns.streams import PATTERNS, eventful

from .browsing import Window
from .real_runs import as_viewed, only_run, showcase, trace_of
from .test_waterfall import long_run

# Figures


@pytest.mark.parametrize("name", [*PATTERNS, "eventful"])
async def test_the_page_tells_the_same_figures_as_the_result(name: str) -> None:
    make = PATTERNS.get(name, eventful)
    with capture_trace() as captured:
        result = await make().run("the task")
    page = run_page.view(only_run(as_viewed(captured.spans)))
    assert page.figures.cost == Decimal(result.cost_estimate)
    assert page.figures.calls == len(result.calls)
    assert page.figures.unpriced == result.unpriced
    assert page.figures.input_tokens == result.usage.input_tokens
    assert page.retries == sum(call.attempt > 1 for call in result.calls)
    assert page.summary.cost == page.figures.cost
    assert page.summary.unpriced == page.figures.unpriced


async def test_every_table_adds_up_to_the_whole() -> None:
    page = run_page.view(await trace_of(showcase(0.05)))
    for table in (page.agents, page.phases, page.models):
        assert sum(row.figures.cost for row in table) == page.figures.cost
        assert sum(row.figures.calls for row in table) == page.figures.calls
        assert [row.figures.cost for row in table] == sorted(
            (row.figures.cost for row in table), reverse=True
        )
    assert page.agents[0].key == "planner"
    assert page.agents[0].share == 1


async def test_the_time_on_the_path_is_the_time_of_the_run() -> None:
    page = run_page.view(await trace_of(showcase(0.05)))
    assert page.path_seconds == pytest.approx(page.seconds)
    assert page.path[0].seconds == max(stretch.seconds for stretch in page.path)


async def test_a_run_of_two_traces_has_each_on_an_axis_of_its_own() -> None:
    trace = await trace_of(PATTERNS["pipeline"]())
    first = trace.spans[0]
    hour = 3600 * 10**9
    again = [
        replace(
            span, trace_id="f" * 32, start=span.start + hour, end=(span.end or 0) + hour,
            links=(SpanLink(first.trace_id, first.span_id),),
        )
        for span in trace.spans
    ]  # fmt: skip
    page = run_page.view(only_run([*trace.spans, *again]))
    one, two = page.executions
    assert (one.trace_id, two.trace_id) == (first.trace_id, "f" * 32)
    assert one.seconds == pytest.approx(two.seconds)
    assert page.seconds < 60


async def test_a_run_whose_end_has_not_come_is_drawn_to_now() -> None:
    trace = await trace_of(PATTERNS["pipeline"]())
    root, *rest = trace.spans
    running = only_run([replace(root, end=None, attributes=_begun(root)), *rest])
    page = run_page.view(running, now=root.start + 60 * 10**9)
    assert page.is_live
    assert page.executions[0].seconds == pytest.approx(60)
    assert page.executions[0].rows[0].state == "running"


async def test_a_run_of_which_only_what_ended_has_come_has_a_place_for_the_rest() -> None:
    trace = await trace_of(PATTERNS["pipeline"]())
    page = run_page.view(only_run(trace.spans[1:]))
    first, *rest = page.executions[0].rows
    assert (first.state, first.depth, {row.depth for row in rest}) == ("awaited", 0, {1, 2})
    assert page.figures.cost == Decimal("0.00012")


def _begun(root: Span) -> dict[str, object]:
    known = (semconv.RUN_ID, semconv.PATTERN, semconv.WORKFLOW_NAME, semconv.OPERATION_NAME)
    return {name: root.attributes[name] for name in known}


# In a browser


@pytest.fixture(scope="module")
def page_url(showcase_viewer: Viewer, showcase_store: SpanStore) -> str:
    failed = next(run for run in showcase_store.runs().runs if run.errors and run.calls > 3)
    return f"{showcase_viewer.url}/runs/{failed.run_id}"


Windows = Callable[..., Window]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_it_fits_every_width_and_no_policy_stops_any_of_it(
    window: Windows, page_url: str, width: int, scheme: str
) -> None:
    opened = window(width=width, scheme=scheme)
    page = opened.open(page_url)
    assert not opened.is_too_wide
    assert page.locator(".rows > .row").count() >= 1
    box = page.locator(".row > summary > svg").first.bounding_box()
    assert box is not None
    assert box["width"] > 150


def test_rows_are_walked_and_folded_by_keys(window: Windows, page_url: str) -> None:
    page = window().open(page_url)
    here = "document.activeElement.parentElement.id"
    rows = page.locator(".row > summary")
    rows.first.focus()
    root = page.evaluate(here)
    page.keyboard.press("ArrowRight")  # it is open: to the first below it
    child = page.evaluate(here)
    assert child != root
    page.keyboard.press("ArrowUp")
    assert page.evaluate(here) == root
    page.keyboard.press("ArrowLeft")
    assert page.locator(f"#{root}").get_attribute("open") is None
    page.keyboard.press("ArrowDown")
    assert page.evaluate(here) == root  # nothing else is to be seen
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(here) == child
    page.keyboard.press("ArrowLeft")  # folds it
    page.keyboard.press("ArrowLeft")  # to the one above
    assert page.evaluate(here) == root


def test_what_was_said_comes_when_a_call_is_opened(window: Windows, page_url: str) -> None:
    page = window().open(page_url)
    call = page.locator(".row.chat.is-ok").first
    assert call.locator(".details").count() == 0
    call.locator("summary").first.click()
    call.locator(".details").wait_for()
    assert "tokens in" in call.locator(".details").inner_text()
    call.get_by_text("Prompt", exact=True).click()
    assert call.locator("pre").first.inner_text().strip()


def test_in_a_long_run_what_an_agent_did_comes_when_its_row_is_opened(
    window: Windows, serve: Callable[..., Viewer], store: SpanStore
) -> None:
    trace = long_run()
    store.add(trace.spans)
    url = f"{serve().url}/runs/{trace.summary.run_id}"
    page = window().open(url)
    assert page.locator(".row.chat").count() == 0
    row = page.locator(".row.agent").nth(70)
    row.locator("summary").first.click()
    row.locator(".row.chat").nth(1).wait_for()
    assert "attempt 2" in row.locator(".row.chat").nth(1).inner_text()
    row.locator(".row.chat > summary").nth(1).click()
    row.locator(".row.chat .details").wait_for()

    page = window(script=False).open(url)
    row = page.locator(".row.agent").nth(70)
    row.locator("summary").first.click()
    row.get_by_role("link", name="2 more rows").click()
    page.locator(".row.chat").nth(1).wait_for()


def test_of_very_many_agents_the_first_have_rows_and_the_others_at_a_click(
    window: Windows, serve: Callable[..., Viewer], store: SpanStore
) -> None:
    trace = long_run(agents=250)
    store.add(trace.spans)
    url = f"{serve().url}/runs/{trace.summary.run_id}"
    page = window().open(url)
    agents = page.locator(".row.agent")
    assert agents.count() == 200
    page.get_by_role("link", name="50 more rows").click()
    agents.nth(249).wait_for()
    assert page.locator(".row.pattern > .row.agent").count() == 250
    agents.nth(249).locator("summary").first.click()
    agents.nth(249).locator(".row.chat").nth(1).wait_for()

    last = agents.nth(249).get_attribute("id")
    page = window().open(f"{url}#{last}")
    page.locator(f"[id='{last}'] > summary").wait_for()
    assert page.evaluate("document.activeElement.parentElement.id") == last

    page = window(script=False).open(url)
    page.get_by_role("link", name="50 more rows").click()
    page.locator(".row.agent").nth(49).wait_for()
    assert page.locator(".row.agent").count() == 50


def test_rows_that_were_asked_for_stay_when_a_live_page_is_renewed(
    window: Windows, serve: Callable[..., Viewer], store: SpanStore
) -> None:
    start = time.time_ns()

    def work(number: int, name: str, parent: str | None, end: int | None) -> Span:
        return Span(
            trace_id="a" * 32, span_id=f"{number:016x}", parent_id=parent, name=name,
            start=start + number, end=end, attributes={semconv.RUN_ID: "live"},
        )  # fmt: skip

    root = work(1, "pyagent.pattern.p", None, None)
    agents = [work(n, f"pyagent.agent.w{n}", root.span_id, start + 999) for n in range(2, 312)]
    store.add([root, *agents[:-1]])
    page = window().open(f"{serve().url}/runs/live")
    page.get_by_role("link", name="109 more rows").click()
    page.locator(".row.agent").nth(308).wait_for()
    store.add(agents[-1:])
    page.locator(".row.agent").nth(309).wait_for()


def test_of_very_many_agents_the_dearest_are_listed_and_the_rest_a_link_away(
    window: Windows, serve: Callable[..., Viewer], store: SpanStore
) -> None:
    trace = long_run()
    store.add(trace.spans)
    page = window().open(f"{serve().url}/runs/{trace.summary.run_id}")
    assert page.locator("section[aria-labelledby=by-agent] tbody tr").count() == 50
    page.get_by_role("link", name="100 more").click()
    assert page.locator("tbody tr").count() == 150


def test_without_script_a_call_is_a_link_away_and_rows_fold(window: Windows, page_url: str) -> None:
    page = window(script=False).open(page_url)
    call = page.locator(".row.chat.is-ok").first
    call.locator("summary").first.click()
    call.get_by_role("link", name="Details").click()
    page.locator("[data-details]").wait_for()
    assert "tokens in" in page.locator("[data-details]").inner_text()


def test_a_box_of_the_plan_leads_to_its_row_even_if_that_is_folded(
    window: Windows, page_url: str
) -> None:
    page = window().open(page_url)
    page.locator(".rows > .row > summary").first.focus()
    page.keyboard.press("ArrowLeft")
    link = page.locator(".graph a").first
    target = (link.get_attribute("href") or "").removeprefix("#")
    assert not page.locator(f"[id='{target}']").is_visible()
    link.click()
    page.locator(f"[id='{target}'] > summary").wait_for()
    assert page.evaluate("document.activeElement.parentElement.id") == target


def test_a_live_page_fills_in_and_keeps_what_its_reader_did(
    window: Windows, serve: Callable[..., Viewer], store: SpanStore
) -> None:
    start = time.time_ns()
    root = Span(
        trace_id="a" * 32, span_id="a" * 16, name="pyagent.pattern.p", start=start, end=None,
        attributes={
            semconv.RUN_ID: "live", semconv.PATTERN: "p", semconv.PLAN_TASKS: ("t1", "t2"),
            semconv.PLAN_WORKERS: ("ann", "bob"),
        },
    )  # fmt: skip

    def work(name: str, task: str, *, end: int | None) -> Span:
        return Span(
            trace_id="a" * 32, span_id=name * 4, parent_id="a" * 16, name=f"pyagent.agent.{name}",
            start=start + 10**9, end=end,
            attributes={
                semconv.RUN_ID: "live", semconv.AGENT_NAME: name, semconv.PHASE: "worker",
                semconv.TASK_ID: task,
            },
        )  # fmt: skip

    store.add([root, work("ann1", "t1", end=start + 2 * 10**9)])
    viewer = serve()
    page = window().open(f"{viewer.url}/runs/live")
    assert page.locator(".box.is-pending").count() == 1
    ann = page.locator("#s-ann1ann1ann1ann1 > summary")
    ann.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Live", exact=True).wait_for()
    store.add([work("bob2", "t2", end=None)])
    page.locator(".box.is-running").wait_for()
    assert page.locator("#s-ann1ann1ann1ann1").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.parentElement.id") == "s-ann1ann1ann1ann1"
    store.add([work("bob2", "t2", end=start + 5 * 10**9)])
    page.locator(".box.is-done .who >> text=bob").wait_for()
