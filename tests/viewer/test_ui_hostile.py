"""What a stranger's spans say is text: in every field, on every page, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

from pyagent_exporters.viewer.asked import DIMENSIONS
from pyagent_exporters.viewer.serving import Viewer
from pyagent_exporters.viewer.spans import AttributeValue, Span, SpanEvent
from pyagent_exporters.viewer.store import SpanStore

from .asking import ask
from .browsing import Window
from .conftest import Serve, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., Window]
SECOND = 10**9
PAYLOADS = {
    "script": "<script>window.__xss = 1</script>",
    "image": '<img src=x onerror="window.__xss=1">',
    "attribute": "\"'><svg onload=window.__xss=1>",
    "quotes": "' onmouseover='window.__xss=1' autofocus onfocus='window.__xss=1' x='",
    "double": '" onmouseover="window.__xss=1" autofocus onfocus="window.__xss=1" x="',
    "link": "javascript:window.__xss=1",
    "ends": "</script></title></style></textarea></template>--><b class=planted>planted</b>",
    "template": "{{ 7 * 7 }}{% raw %}${7*7}#{7*7}",
    "entities": "&lt;b class=planted&gt;&#60;b class=planted&#62;",
    "json": '"}]}</script><script>window.__xss=1</script>',
    "frame": "<iframe srcdoc='<script>parent.__xss=1</script>'></iframe><base href=//evil.example>",
    "form": "<form action=//evil.example><button class=planted>",
    "separator": "\u2028</script\u2029><script>window.__xss=1</script>",
    "control": "a\x00b\x1b[31mc\u202egnp.exe\u2066d\ufeff",
    "surrogate": "half \ud800 a pair",
}


def hostile_run(text: str, *, run_id: str, n: int) -> list[Span]:
    """A run with that text in every field that has one."""
    trace = f"{n:032x}"
    turn = json.dumps([{"role": text, "parts": [{"type": "text", "content": text}]}])
    common: Mapping[str, AttributeValue] = {
        "pyagent.run.id": run_id,
        "pyagent.pattern": text,
        "gen_ai.workflow.name": text,
        "pyagent.tenant": text,
        "user.id": text,
        "gen_ai.conversation.id": text,
        "pyagent.phase": text,
        "gen_ai.agent.name": text,
        "pyagent.path": f"{text}/{text}",
        "pyagent.task.id": text,
        "pyagent.task.depends_on": (text, "t0"),
        "pyagent.plan.tasks": (text, "t2"),
        "pyagent.plan.workers": (text, text),
        "pyagent.plan.faults": (text,),
        "gen_ai.provider.name": text,
        "gen_ai.request.model": text,
        "gen_ai.response.model": text,
        "gen_ai.response.finish_reasons": (text,),
        "gen_ai.tool.name": text,
        "gen_ai.tool.description": text,
        "gen_ai.tool.call.arguments": text,
        "gen_ai.tool.call.result": text,
        "gen_ai.input.messages": turn,
        "gen_ai.output.messages": turn,
        "gen_ai.system_instructions": text,
        "pyagent.price.source": text,
        "server.address": text,
        "error.type": text,
        text: text,
    }
    events = (
        SpanEvent(name=text, time=n * SECOND, attributes={text: text}),
        SpanEvent(
            name="exception",
            time=n * SECOND,
            attributes={"exception.type": text, "exception.message": text},
        ),
        SpanEvent(
            name="pyagent.plan.rejected", time=n * SECOND, attributes={"pyagent.plan.faults": text}
        ),
    )

    def span(number: int, name: str, parent: int | None, **more: AttributeValue) -> Span:
        return Span(
            trace_id=trace,
            span_id=f"{n:08x}{number:08x}",
            parent_id=None if parent is None else f"{n:08x}{parent:08x}",
            name=name,
            start=(n + number) * SECOND,
            end=(n + 10) * SECOND,
            status="error",
            message=text,
            service=text,
            attributes={**common, **more},
            events=events,
        )

    operation = "gen_ai.operation.name"
    return [
        span(1, f"pyagent.pattern.{text}", None, **{"pyagent.status": "failed"}),
        span(2, f"pyagent.agent.{text}", 1, **{operation: "invoke_agent"}),
        span(
            3,
            f"chat {text}",
            2,
            **{operation: "chat", "pyagent.cost.usd": 0.5, "gen_ai.usage.input_tokens": 3},
        ),
        span(4, f"execute_tool {text}", 2, **{operation: "execute_tool"}),
        span(5, text, 2),
    ]


def check(page: Page) -> None:
    """No script of the payload ran, and nothing of it is an element."""
    page.evaluate(
        """() => {
          for (const its of document.querySelectorAll("main *")) {
            its.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
            if (its.focus) its.focus();
          }
        }"""
    )
    assert page.evaluate("window.__xss") is None
    assert page.locator(".planted, iframe, base, main img, [onload], [onerror]").count() == 0
    assert page.locator("[onmouseover], [onfocus], [autofocus], [style]:not(canvas)").count() == 0
    assert page.locator("script:not([src]):not([type='application/json'])").count() == 0
    assert page.locator("[href^='javascript:' i], [src^='javascript:' i]").count() == 0
    assert page.locator("form:not([action^='/'])").count() == 0
    shown = page.content()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\u2066" not in shown
    assert "49" not in page.locator("h1").inner_text()


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    """Two runs for each payload: one has it in every field, one in its id."""
    with SpanStore() as store, served(store) as viewer:
        for n, (name, text) in enumerate(PAYLOADS.items()):
            store.add(hostile_run(text, run_id=f"run-{name}", n=100 * n))
            store.add(hostile_run("plain", run_id=text, n=100 * n + 50))
        yield viewer


@pytest.mark.parametrize(
    "path",
    [
        "/",
        *(f"/costs?by={dimension}" for dimension in DIMENSIONS),
        "/costs?by=agent&bucket=hour",
        "/compare?a=run-script&b=run-image",
    ],
)
def test_payloads_are_text_wherever_they_stand(viewer: Viewer, window: Open, path: str) -> None:
    shown = window()
    check(shown.open(viewer.url + path))
    assert shown.status == 200


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_run_of_a_payload_is_text(viewer: Viewer, window: Open, payload: str) -> None:
    shown = window()
    run, span = f"/runs/run-{payload}", f"{100 * [*PAYLOADS].index(payload):08x}{3:08x}"
    for path in (run, f"{run}?span={span}", f"/compare?a=run-{payload}&b=run-link"):
        check(shown.open(viewer.url + path))
        assert shown.status == 200


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_in_the_address_is_text(viewer: Viewer, window: Open, payload: str) -> None:
    text = PAYLOADS[payload]
    shown = window()
    shown.expected_statuses = {400, 404}
    filters = {name: text for name in ("q", "pattern", "model", "tenant")}
    for path, status in (
        (f"/runs/{quote(text, safe='', errors='replace')}", 200),
        (f"/runs/{quote(text, safe='', errors='replace')}x", 404),
        (f"/?{urlencode(filters, errors='replace')}", 200),
        (f"/costs?{urlencode(filters, errors='replace')}", 200),
        (f"/?{urlencode({'since': text}, errors='replace')}", 400),
        (f"/costs?{urlencode({'by': text}, errors='replace')}", 400),
    ):
        check(shown.open(viewer.url + path))
        assert shown.status == status, path


def test_payloads_come_by_otlp_too(serve: Serve, window: Open) -> None:
    viewer = serve()
    texts = [text for text in PAYLOADS.values() if "\ud800" not in text]
    spans = [_otlp_span(n, text) for n, text in enumerate(texts, 1)]
    scopes = [{"scope": {"name": texts[0]}, "spans": spans}]
    service = [{"key": "service.name", "value": {"stringValue": texts[0]}}]
    body = {"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": scopes}]}
    headers = {"Content-Type": "application/json"}
    sent = json.dumps(body).encode()
    answer = ask(viewer, "/v1/traces", method="POST", headers=headers, body=sent)
    assert answer.json() == {}
    shown = window()
    for path in ("/", "/costs", *(f"/runs/{span['traceId']}" for span in spans)):
        check(shown.open(viewer.url + path))
        assert shown.status == 200


def _otlp_span(n: int, text: str) -> dict[str, object]:
    names = ("gen_ai.agent.name", "pyagent.tenant", "gen_ai.request.model", text)
    attributes = [{"key": name, "value": {"stringValue": text}} for name in names]
    attributes.append({"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}})
    return {
        "traceId": f"{n:032x}",
        "spanId": f"{n:016x}",
        "name": text,
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "2000000000",
        "attributes": attributes,
        "status": {"code": 2, "message": text},
    }
