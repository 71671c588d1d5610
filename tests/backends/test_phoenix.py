"""Real runs in a real Phoenix: what its API and its pages make of them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pyagent_exporters import Otlp
from tests.wire import WireServer

from . import crew
from .crew import Shown, show
from .servers import Backend, phoenix, phoenix_python
from .tree import Node, drawn

pytestmark = pytest.mark.skipif(
    phoenix_python() is None,
    reason="needs Phoenix: `make .venv-phoenix/.ready`, or PYAGENT_PHOENIX=its-python",
)

MICRO_DOLLAR = Decimal("0.000001")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with phoenix(tmp_path_factory.mktemp("phoenix")) as backend:
        yield backend


@dataclass(frozen=True)
class Seen:
    """The run, and what Phoenix says of its trace."""

    shown: Shown
    trace: Mapping[str, Any]
    spans: list[Mapping[str, Any]]

    def chats(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The spans of calls to models, each with its attributes."""
        for span in self.spans:
            if span["name"].startswith("chat "):
                yield span, json.loads(span["attributes"])


@pytest.fixture(scope="module")
def seen(backend: Backend, provider: WireServer) -> Seen:
    return look(backend, asyncio.run(show(Otlp("http", endpoint=backend.otlp_http), provider)))


def test_the_tree_arrives_with_the_kind_of_every_span(seen: Seen) -> None:
    assert tree(seen) == crew.TREE


def test_over_grpc_the_same_tree_arrives(backend: Backend, provider: WireServer) -> None:
    shown = asyncio.run(show(Otlp("grpc", endpoint=backend.otlp_grpc), provider))
    assert tree(look(backend, shown)) == crew.TREE


def test_tokens_are_the_ledgers_and_are_counted_once(seen: Seen) -> None:
    usage = seen.shown.result.usage
    root = next(span for span in seen.spans if span["parentId"] is None)
    assert root["cumulativeTokenCountPrompt"] == usage.input_tokens
    assert root["cumulativeTokenCountCompletion"] == usage.output_tokens
    counted = [span for span in seen.spans if span["tokenCountTotal"]]
    assert {span["name"].split()[0] for span in counted} == {"chat"}
    (cached,) = (span for span in seen.spans if (span["tokenPromptDetails"] or {}).get("cacheRead"))
    assert cached["tokenPromptDetails"]["cacheRead"] == usage.cache_read_tokens


def test_costs_are_the_ledgers_to_the_micro_dollar(seen: Seen) -> None:
    ours = {span["spanId"]: attributes for span, attributes in seen.chats()}
    theirs = {span["spanId"]: span["costSummary"] for span, _ in seen.chats()}
    costs = seen.shown.costs()
    assert len(costs) == 5
    for id, cost in costs.items():
        assert Decimal(str(ours[id]["pyagent"]["cost"]["usd"])) == cost
        # Phoenix works its own out; it knows the same prices for these models.
        assert abs(Decimal(str(theirs[id]["total"]["cost"])) - cost) < MICRO_DOLLAR
    total = Decimal(str(seen.trace["costSummary"]["total"]["cost"]))
    assert abs(total - seen.shown.result.cost_estimate) < MICRO_DOLLAR
    assert sum(costs.values()) == seen.shown.result.cost_estimate


def test_a_call_without_a_price_has_none(seen: Seen) -> None:
    span, attributes = next(pair for pair in seen.chats() if pair[0]["name"] == "chat house-model")
    assert span["costSummary"]["total"]["cost"] is None
    assert "cost" not in attributes["pyagent"]


def test_the_failed_call_says_what_happened(seen: Seen) -> None:
    (failed,) = (span for span in seen.spans if span["statusCode"] == "ERROR")
    assert failed["name"] == "chat gpt-4o-mini"
    (event,) = failed["events"]
    assert event["name"] == "exception"
    assert event["message"].endswith("(HTTP 429)")


def test_every_span_is_of_the_session_and_the_user(seen: Seen) -> None:
    session = seen.trace["session"]
    assert (session["sessionId"], session["userId"]) == (crew.SESSION, crew.USER)
    for span in seen.spans:
        attributes = json.loads(span["attributes"])
        assert attributes["session"]["id"] == crew.SESSION
        assert attributes["user"]["id"] == crew.USER
        assert attributes["pyagent"]["run"]["id"] == seen.shown.result.run_id


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ('attributes["pyagent"]["cost"]["usd"] > 0.05', {"pyagent.pattern.orchestrator_workers"}),
        ('span_kind == "LLM" and status_code == "ERROR"', {"chat gpt-4o-mini"}),
        ('attributes["pyagent"]["tenant"] == "north"', {"pyagent.pattern.orchestrator_workers"}),
    ],
    ids=["cost", "error", "tenant"],
)
def test_spans_are_found_by_what_ours_say(
    backend: Backend, seen: Seen, condition: str, names: set[str]
) -> None:
    run = f'attributes["pyagent"]["run"]["id"] == "{seen.shown.result.run_id}"'
    for asked, expected in ((run, {s["name"] for s in seen.spans}), (condition, names)):
        variables = {"project": seen.trace["project"]["id"], "condition": asked}
        found = _ask(backend, FILTERED, variables)["node"]["spans"]["edges"]
        assert {edge["node"]["name"] for edge in found} == expected


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_its_page_shows_the_tree_the_tokens_and_the_costs(
    backend: Backend, seen: Seen, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1400}, color_scheme="light")
        page.set_default_timeout(120_000)  # a large application, on a machine with other work
        page.route("**/*", lambda route: to_loopback_only(route))
        project, trace = seen.trace["project"]["id"], seen.shown.trace_id
        page.goto(f"{backend.web}/projects/{project}/traces/{trace}")
        page.get_by_text("pyagent.usage.input_tokens").wait_for()
        text = page.inner_text("body").split(trace, 1)[1]
        page.screenshot(path=tmp_path / "phoenix.png")
        browser.close()
    at = 0
    for line in crew.TREE.splitlines():  # top to bottom, as in the tree
        name = re.sub(r" (CHAIN|AGENT|LLM|TOOL).*", "", line).strip()
        at = text.index(name, at) + 1
    assert "\nchain\n" in text  # the kind of the run's span, whose page it is
    for total in ("12,800", "32,000", "35,000", "56,000", "9,400"):
        assert total in text
    assert "$0.07" in text  # the run's
    assert text.count("$0.03") == 2  # the planner's two calls
    assert str(seen.shown.result.cost_estimate) in text  # the ledger's, on the run's span


QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def to_loopback_only(route: Any) -> None:
    if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


# What Phoenix says


SPANS = """
query ($project: ID!, $trace: ID!) {
  node(id: $project) { ... on Project { trace(traceId: $trace) {
    project { id }
    session { sessionId userId }
    costSummary { total { cost } }
    spans(first: 1000) { edges { node {
      spanId parentId name spanKind statusCode startTime attributes
      tokenCountTotal tokenPromptDetails { cacheRead }
      cumulativeTokenCountPrompt cumulativeTokenCountCompletion
      costSummary { total { cost } }
      events { name message }
    } } }
  } } }
}
"""

FILTERED = """
query ($project: ID!, $condition: String!) {
  node(id: $project) { ... on Project {
    spans(first: 1000, filterCondition: $condition) { edges { node { name } } }
  } }
}
"""


def look(backend: Backend, shown: Shown) -> Seen:
    """What it says of the run as soon as it has written all of it down."""
    until = time.monotonic() + 30
    while True:
        trace = _trace(backend, shown.trace_id)
        spans = [edge["node"] for edge in trace["spans"]["edges"]] if trace else []
        written = trace is not None and trace["costSummary"]["total"]["cost"] is not None
        if len(spans) == len(shown.spans) and written:
            return Seen(shown, trace, spans)
        assert time.monotonic() < until, f"{len(spans)} of {len(shown.spans)} spans arrived"
        time.sleep(0.1)


def tree(seen: Seen) -> str:
    return drawn(
        [
            Node(
                span["spanId"],
                span["parentId"],
                span["name"],
                span["spanKind"].upper(),
                datetime.fromisoformat(span["startTime"]).timestamp(),
                failed=span["statusCode"] == "ERROR",
            )
            for span in seen.spans
        ]
    )


def _trace(backend: Backend, trace_id: str) -> Any:
    """The trace, or None as long as Phoenix does not know it."""
    projects = _ask(backend, "{ projects { edges { node { id } } } }")["projects"]["edges"]
    for project in projects:
        variables = {"project": project["node"]["id"], "trace": trace_id}
        if (trace := _ask(backend, SPANS, variables)["node"]["trace"]) is not None:
            return trace
    return None


def _ask(backend: Backend, query: str, variables: Mapping[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        f"{backend.web}/graphql",
        json.dumps({"query": query, "variables": variables or {}}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        said = json.load(answer)
    assert not said.get("errors"), said["errors"]
    return said["data"]
