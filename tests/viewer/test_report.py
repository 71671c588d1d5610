"""A run as one file: nothing else is needed, and whatever a model wrote in it is text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pyagent_exporters.errors import ExporterError
from pyagent_exporters.viewer import report
from pyagent_exporters.viewer.details import details
from pyagent_exporters.viewer.runs import RunSummary, RunTrace
from pyagent_exporters.viewer.spans import AttributeValue, Span, SpanEvent
from pyagent_exporters.viewer.visible import visible
from pyagent_patterns.testing import capture_trace
from pyagent_providers import semconv
from tests.patterns.streams import eventful

from .browsing import Window
from .real_runs import only_run, showcase, trace_of

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "rect", "circle"}


class Reader(HTMLParser):
    """Every element of a page, which must fit into each other, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, frozenset[str]]] = set()
        self.values: dict[str, set[str]] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, frozenset(name for name, _ in attrs)))
        for name, value in attrs:
            self.values.setdefault(name, set()).add(value or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")


async def test_it_needs_nothing_else_and_has_no_script() -> None:
    page = report.html(await trace_of(eventful()))
    read = Reader(page)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not [name for name in read.values if name.startswith("on") or name == "style"]
    assert all(value.startswith("#") for value in read.values["href"])
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "url(" not in page
    assert "@import" not in page


async def test_it_says_which_run_and_who_made_it() -> None:
    trace = await trace_of(eventful())
    read = Reader(report.html(trace))
    assert trace.summary.run_id in read.text
    assert re.search(r"made by PyAgent SDK \d+\.\d+", read.text)
    assert "partial" in read.text


async def test_every_link_in_it_leads_to_something_in_it() -> None:
    read = Reader(report.html(await trace_of(eventful())))
    ids = read.values["id"]
    assert {value.removeprefix("#") for value in read.values["href"]} <= ids


async def test_without_capture_nothing_that_was_said_is_in_it() -> None:
    read = Reader(report.html(await trace_of(eventful(), "my very secret task")))
    assert "my very secret task" not in read.text
    assert "it is salt" not in read.text
    assert "Prompts and answers were not captured." in read.text


@pytest.mark.usefixtures("captured")
async def test_what_was_captured_is_in_it_prompt_answer_and_tools() -> None:
    read = Reader(report.html(await trace_of(eventful(), "the task of the day")))
    assert "the task of the day" in read.text
    assert "it is salt" in read.text
    assert '{"word": "salt"}' in read.text
    assert "salt is a word" in read.text
    assert "calls look_up" in read.text


@pytest.mark.usefixtures("captured")
async def test_what_a_tool_gave_stands_there_as_it_was_given() -> None:
    trace = await trace_of(showcase(0.02))
    tool = next(span for span in trace.spans if span.role == "tool")
    arguments, result = details(tool).content
    assert (arguments.title, result.title) == ("Arguments", "Result")
    [part] = result.turns[0].parts
    assert part.text.unescape() == '[{"title": "About httpx pools", "score": 0.93}]'


async def test_of_a_trace_file_it_is_made_by_the_runs_id(tmp_path: Path) -> None:
    from pyagent_exporters.file import FileSpanExporter

    file = tmp_path / "trace.jsonl"
    with capture_trace() as trace:
        result = await eventful().run("the task")
    FileSpanExporter(file).export(trace.spans)
    assert result.run_id in report.of_file(file, result.run_id)
    with pytest.raises(ExporterError, match="no run 'another'"):
        report.of_file(file, "another")


# Hostile text

NASTY = st.one_of(
    st.sampled_from(
        [
            "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onclick='alert(1)",
            "javascript:alert(1)", "</style><script>", "</details></summary>", "<!--", "-->",
            "]]>", "&lt;b&gt;", "{{ 7*7 }}", "{% raw %}", "\x1b[31mred\x1b[0m", "a\u202eb", "\x00",
            "\ud800", "http://evil.example/", "<svg/onload=alert(1)>", "&#x3c;script&#x3e;",
            "data:text/html,<script>alert(1)</script>", "%s%n", "\u2028", "a" * 300,
        ]
    ),
    st.text(max_size=40),
)  # fmt: skip
ANY = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
)

TEXTS = (
    *(semconv.AGENT_NAME, semconv.PHASE, semconv.PATTERN, semconv.WORKFLOW_NAME, semconv.RUN_ID),
    *(semconv.TASK_ID, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, semconv.PROVIDER_NAME),
    *(semconv.ERROR_TYPE, semconv.PRICE_SOURCE, semconv.PRICE_VERSION, semconv.SERVER_ADDRESS),
    *(semconv.TOOL_NAME, semconv.TOOL_DESCRIPTION, semconv.TOOL_ARGUMENTS, semconv.TOOL_RESULT),
    *(semconv.SYSTEM_INSTRUCTIONS, semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES),
    *(semconv.STATUS, "pyagent.path", "anything.else"),
)
LISTS = (
    *(
        semconv.TASK_DEPENDS_ON,
        semconv.PLAN_TASKS,
        semconv.PLAN_WORKERS,
        semconv.CONTEXT_COMPRESSED,
    ),
    *(semconv.RESPONSE_FINISH_REASONS, semconv.REQUEST_STOP, "pyagent.plan.depends_on"),
)


def written_by(text: Callable[[], str]) -> RunTrace:
    """A run in which each text is one of these, at every place where there may be one."""

    def span(number: int, parent: int | None, name: str, operation: str, status: str) -> Span:
        given: dict[str, AttributeValue] = {name: text() for name in TEXTS}
        given |= {name: (text(), text()) for name in LISTS}
        given[semconv.OPERATION_NAME] = operation
        said = '[{"role": "%s", "parts": [{"type": "%s", "content": "%s"}]}]'
        if number % 2:
            given[semconv.INPUT_MESSAGES] = said.replace("%s", "x") + text()
        event = SpanEvent(
            name=semconv.PLAN_REJECTED_EVENT if number % 2 else text(),
            time=10**18,
            attributes={semconv.PLAN_FAULTS: (text(), text()), text(): text()},
        )
        return Span(
            trace_id="a" * 32, span_id=f"{number:016x}",
            parent_id=None if parent is None else f"{parent:016x}",
            name=name + text(), start=10**18 + number, end=10**18 + 100 - number,
            status="error" if status == "error" else "ok", message=text(), attributes=given,
            events=(event,), service=text(),
        )  # fmt: skip

    spans = (
        span(1, None, "pyagent.pattern.", "invoke_workflow", "ok"),
        span(2, 1, "pyagent.agent.", "invoke_agent", "error"),
        span(3, 2, "chat ", "chat", "error"),
        span(4, 2, "execute_tool ", "execute_tool", "ok"),
        span(5, 1, "pyagent.agent.", "plan", "ok"),
        span(6, 5, "chat ", "chat", "ok"),
        span(7, 6, "", text(), "ok"),
    )
    harmless = only_run([replace(s, attributes={semconv.RUN_ID: "r"}) for s in spans]).summary
    texts = {name: text() for name in _texts_of(harmless)}
    return RunTrace(replace(harmless, **texts), spans)


def _texts_of(summary: RunSummary) -> Iterator[str]:
    for each in fields(summary):
        if each.name not in ("status", "trace_id") and "str" in str(each.type):
            yield each.name


HIDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NAMED = ("span", frozenset({"class"}))  # what would hide, named


@ANY
@given(st.lists(NASTY, min_size=1, max_size=12))
def test_whatever_stands_in_a_span_it_makes_no_element_attribute_or_address(
    texts: list[str],
) -> None:
    harmless = {text: text and f"text {n}" for n, text in enumerate(texts)}
    page = made_of(texts)
    read = Reader(page)
    assert read.elements <= Reader(made_of([harmless[text] for text in texts])).elements | {NAMED}
    assert all(re.fullmatch(r"#s-[0-9a-f]{16}", value) for value in read.values["href"])
    assert not HIDING.search(page)


def made_of(texts: list[str]) -> str:
    one_after_another = cycle(texts)
    return report.html(written_by(lambda: next(one_after_another)))


def test_what_would_hide_is_named() -> None:
    assert visible("a\u202eb<") == 'a<span class="hidden-char">U+202E</span>b&lt;'
    assert "U+001B" in visible("\x1b[31mred")
    assert visible("tag \U000e0041") == 'tag <span class="hidden-char">U+E0041</span>'
    assert visible("Zoë 👩‍💻 שלום\n\tend\r\n") == "Zoë 👩‍💻 שלום\n\tend\n"


@ANY
@given(st.text())
def test_of_harmless_text_nothing_is_lost(text: str) -> None:
    harmless = "".join(c for c in text if c.isprintable() or c in "\n\t")
    assert visible(harmless).unescape() == harmless


# In a browser


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_it_opens_from_disk(
    window: Callable[..., Window], tmp_path: Path, width: int, scheme: str
) -> None:
    file = tmp_path / "run.html"
    file.write_text(report.html(written_by(lambda: "<b>bold</b>\u202e")), encoding="utf-8")
    opened = window(width=width, scheme=scheme)
    opened.page.goto(file.as_uri())
    assert not opened.is_too_wide
    opened.page.locator(".row.chat > summary").first.click()
    opened.page.locator(".row.chat[open] .details").first.wait_for()
    assert opened.page.locator("b", has_text="bold").count() > 0
    assert opened.page.locator("b >> text=/^bold$/").count() == 0
