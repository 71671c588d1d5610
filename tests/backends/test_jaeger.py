"""Real runs in a real Jaeger, sent by both protocols and read back through its query API."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from pyagent_exporters import Otlp
from pyagent_exporters.settings import OtlpProtocol
from pyagent_providers import semconv
from tests.wire import WireServer

from . import crew
from .crew import Shown, show, span_id
from .servers import Backend, jaeger, jaeger_program
from .tree import Node, drawn

pytestmark = pytest.mark.skipif(
    jaeger_program() is None,
    reason="needs Jaeger: `make .gobin/jaeger` where Go is, or PYAGENT_JAEGER=its-program",
)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with jaeger(tmp_path_factory.mktemp("jaeger")) as backend:
        yield backend


@dataclass(frozen=True)
class Seen:
    """The run, and Jaeger's spans of it, each with its tags by name."""

    shown: Shown
    spans: list[Mapping[str, Any]]

    def tags(self, span_id: str) -> Mapping[str, Any]:
        return next(_tags(span) for span in self.spans if span["spanID"] == span_id)

    @property
    def failed(self) -> Mapping[str, Any]:
        (failed,) = (span for span in self.spans if _tags(span).get("error"))
        return failed


@pytest.fixture(scope="module", params=["http", "grpc"])
def seen(request: pytest.FixtureRequest, backend: Backend, provider: WireServer) -> Seen:
    protocol: OtlpProtocol = request.param
    endpoint = backend.otlp_http if protocol == "http" else backend.otlp_grpc
    return _look(backend, asyncio.run(show(Otlp(protocol, endpoint=endpoint), provider)))


def test_the_tree_arrives_with_the_kind_of_every_span(seen: Seen) -> None:
    nodes = [
        Node(
            span["spanID"],
            span["references"][0]["spanID"] if span["references"] else None,
            span["operationName"],
            _tags(span)["openinference.span.kind"],
            span["startTime"],
            failed=bool(_tags(span).get("error")),
        )
        for span in seen.spans
    ]
    assert drawn(nodes) == crew.TREE


def test_every_attribute_that_was_sent_is_a_tag(seen: Seen) -> None:
    for span in seen.shown.spans:
        tags = seen.tags(span_id(span))
        for name, value in (span.attributes or {}).items():
            listed = json.loads(tags[name]) if isinstance(value, tuple) else tags[name]
            assert listed == (list(value) if isinstance(value, tuple) else value), name


def test_costs_and_tokens_are_the_ledgers(seen: Seen) -> None:
    result = seen.shown.result
    root = seen.tags(span_id(seen.shown.root))
    assert Decimal(str(root[semconv.COST_USD])) == result.cost_estimate
    assert root[semconv.PYAGENT_INPUT_TOKENS] == result.usage.input_tokens
    assert root[semconv.PYAGENT_OUTPUT_TOKENS] == result.usage.output_tokens
    tags = [_tags(span) for span in seen.spans]
    costs = [Decimal(str(tag[semconv.USAGE_COST])) for tag in tags if semconv.USAGE_COST in tag]
    assert sum(costs) == result.cost_estimate
    fed = [tag[semconv.INPUT_TOKENS] for tag in tags if semconv.INPUT_TOKENS in tag]
    assert sum(fed) == result.usage.input_tokens


def test_the_failed_call_says_what_happened(seen: Seen) -> None:
    tags = _tags(seen.failed)
    assert tags["error.type"] == "RateLimitError"
    assert tags["otel.status_code"] == "ERROR"
    (event,) = ({field["key"]: field["value"] for field in log["fields"]}
                for log in seen.failed["logs"])  # fmt: skip
    assert event["event"] == "exception"
    assert event["exception.message"].endswith("(HTTP 429)")


@pytest.mark.parametrize(
    "wanted",
    [{"user.id": crew.USER}, {"session.id": crew.SESSION}, {"error.type": "RateLimitError"}],
    ids=["user", "session", "error"],
)
def test_the_run_is_found_by_what_it_was_for(
    backend: Backend, seen: Seen, wanted: Mapping[str, str]
) -> None:
    wanted = {**wanted, semconv.RUN_ID: seen.shown.result.run_id}
    query = urllib.parse.urlencode({"service": crew.SERVICE, "tags": json.dumps(wanted)})
    (found,) = _get(f"{backend.web}/api/traces?{query}")["data"]
    assert found["traceID"] == seen.shown.trace_id


# What Jaeger says


def _look(backend: Backend, shown: Shown) -> Seen:
    """What it says of the run as soon as it has all of it."""
    until = time.monotonic() + 30
    while True:
        try:
            (trace,) = _get(f"{backend.web}/api/traces/{shown.trace_id}")["data"]
        except urllib.error.HTTPError as error:
            error.close()  # 404: it has none of them yet
            trace = {"spans": []}
        if len(trace["spans"]) == len(shown.spans):
            return Seen(shown, trace["spans"])
        missing = len(shown.spans) - len(trace["spans"])
        assert time.monotonic() < until, f"{missing} of {len(shown.spans)} spans did not arrive"
        time.sleep(0.1)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def _tags(span: Mapping[str, Any]) -> Mapping[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}
