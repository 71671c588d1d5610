"""Programs send their spans to the viewer: by OTLP over HTTP, with real exporters and without."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyagent_exporters import configure
from pyagent_exporters.viewer import otlp_in, receiving
from pyagent_exporters.viewer.runs import RunQuery
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore
from pyagent_patterns import Agent, Pipeline
from pyagent_providers.telemetry import Telemetry, using
from pyagent_providers.testing import ScriptedLLM

from .asking import Reply, ask
from .conftest import Serve

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def spans() -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("a program's"):
        pass
    return exporter.get_finished_spans()


async def test_a_program_on_this_sdk_is_seen(serve: Serve, store: SpanStore) -> None:
    viewer = serve()
    team = Pipeline([Agent("writer", ScriptedLLM(["done"]))])
    with (
        configure(otlp=viewer.url, service_name="a-service", set_global=False) as handle,
        using(Telemetry(tracer_provider=handle.tracer_provider)),
    ):
        result = await team.run("write", tenant="acme")
    [run] = store.runs(RunQuery()).runs
    assert (run.run_id, run.service, run.tenant) == (result.run_id, "a-service", "acme")
    assert run.status == "completed"


def test_a_program_with_any_sdk_is_seen(
    serve: Serve, store: SpanStore, spans: Sequence[ReadableSpan]
) -> None:
    viewer = serve(token="a-token")
    headers = {"Authorization": "Bearer a-token"}
    exporter = OTLPSpanExporter(f"{viewer.url}/v1/traces", headers=headers)
    exporter.export(spans)
    exporter.shutdown()
    [run] = store.runs(RunQuery()).runs
    assert run.name == "a program's"


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_protobuf_is_answered_in_protobuf(
    serve: Serve, store: SpanStore, spans: Sequence[ReadableSpan], encoding: str
) -> None:
    body = encode_spans(spans).SerializeToString()
    if encoding:
        body = gzip.compress(body)
    headers = {**PROTOBUF, "Content-Encoding": encoding}
    answer = ask(serve(), "/v1/traces", method="POST", headers=headers, body=body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert not ExportTraceServiceResponse.FromString(answer.body).HasField("partial_success")
    assert store.runs(RunQuery()).total == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (PROTOBUF, b"\xff\xff", 400),
        (JSON, b"{", 400),
        (JSON, b"[]", 400),
        ({**PROTOBUF, "Content-Encoding": "gzip"}, b"not gzip", 400),
        ({**PROTOBUF, "Content-Encoding": "br"}, b"", 415),
        ({"Content-Type": "text/html"}, b"", 415),
        ({}, b"", 415),
    ],
)
def test_what_is_no_export_request_is_refused_in_its_own_form(
    serve: Serve, store: SpanStore, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = ask(serve(), "/v1/traces", method="POST", headers=headers, body=body)
    assert answer.status == status
    if headers.get("Content-Type") == "application/x-protobuf":
        assert Status.FromString(answer.body).message
    else:
        assert answer.json()["message"]
    assert store.runs(RunQuery()).total == 0


def test_a_request_that_is_too_large_is_refused_before_all_of_it_is_read(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "LIMIT", 1000)
    monkeypatch.setattr(otlp_in, "LIMIT", 1000)
    viewer = serve()
    for signal in ("traces", "metrics"):
        answer = ask(viewer, f"/v1/{signal}", method="POST", headers=JSON, body=b" " * 1001)
        assert answer.status == 413
    bomb = gzip.compress(b" " * 1001)
    headers = {**JSON, "Content-Encoding": "gzip"}
    assert ask(viewer, "/v1/traces", method="POST", headers=headers, body=bomb).status == 413


@pytest.mark.parametrize(
    ("signal", "kind"),
    [("metrics", ExportMetricsServiceResponse), ("logs", ExportLogsServiceResponse)],
)
def test_metrics_and_logs_are_taken_with_a_warning(
    serve: Serve,
    signal: str,
    kind: type[ExportMetricsServiceResponse] | type[ExportLogsServiceResponse],
) -> None:
    viewer = serve()
    answer = ask(viewer, f"/v1/{signal}", method="POST", headers=PROTOBUF, body=b"whatever")
    assert answer.status == 200
    assert f"no {signal}" in kind.FromString(answer.body).partial_success.error_message
    told = ask(viewer, f"/v1/{signal}", method="POST", headers=JSON, body=b"{}").json()
    assert f"no {signal}" in json.dumps(told["partialSuccess"])


def test_another_signal_there_is_not(serve: Serve) -> None:
    assert ask(serve(), "/v1/profiles", method="POST", headers=JSON, body=b"{}").status == 404


def test_a_look_at_the_receivers_address_is_answered_in_its_form(serve: Serve) -> None:
    answer = ask(serve(), "/v1/traces")
    assert answer.status == 405
    assert answer.json()["message"]


def test_who_sends_quicker_than_can_be_stored_is_told_to_come_again(
    serve: Serve, store: SpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the pages are answered all the while."""
    go_on, add = threading.Event(), store.add

    def slow(spans: Iterator[Span]) -> None:
        go_on.wait(20)
        add(spans)

    monkeypatch.setattr(store, "add", slow)
    monkeypatch.setattr(receiving, "_MOST_WAITING", 3)
    viewer = serve()
    answers: list[Reply] = []

    def send() -> None:
        answers.append(ask(viewer, "/v1/traces", method="POST", headers=JSON, body=b"{}"))

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    deadline = time.monotonic() + 15
    while len(answers) < 5 and time.monotonic() < deadline:  # those that are refused do not wait
        go_on.wait(0.01)
    assert ask(viewer, "/").status == 200
    go_on.set()
    for sender in senders:
        sender.join(20)
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5
    assert {a.headers.get("retry-after") for a in answers if a.status == 429} == {"1"}
