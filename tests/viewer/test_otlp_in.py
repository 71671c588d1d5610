"""What an OTLP/HTTP exporter sends becomes spans; whatever else is sent is refused or counted."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from pyagent_exporters.file import request
from pyagent_exporters.viewer import otlp_in
from pyagent_exporters.viewer.otlp_in import JSON, PROTOBUF, Refused, answer, decode
from pyagent_exporters.viewer.otlp_values import Received
from pyagent_exporters.viewer.spans import Span
from pyagent_exporters.viewer.store import SpanStore

START = 1_790_000_000_000_000_000


@pytest.fixture(scope="module")
def emitted() -> Sequence[ReadableSpan]:
    """Two spans with everything that a span can have, by the SDK."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "n": 1}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", "1.0")
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
        inner = tracer.start_span(
            "inner",
            kind=SpanKind.CLIENT,
            links=[Link(outer.get_span_context())],
            attributes={
                "text": "ü",
                "truth": True,
                "whole": -5,
                "large": 2**62,
                "share": 0.25,
                "texts": ["a", "b"],
                "wholes": [1, 2],
                "none": [],
            },
        )
        inner.add_event("happened", {"why": "x"}, timestamp=START)
        inner.set_status(Status(StatusCode.ERROR, "it broke"))
        inner.end()
    return exporter.get_finished_spans()


def as_protobuf(spans: Sequence[ReadableSpan]) -> bytes:
    return encode_spans(spans).SerializeToString()


def as_json(spans: Sequence[ReadableSpan]) -> bytes:
    return json.dumps(request(spans)).encode()


def test_what_the_exporter_sends_has_all_that_the_span_had(emitted: Sequence[ReadableSpan]) -> None:
    received = decode(as_protobuf(emitted), content_type=PROTOBUF)
    inner, outer = received.spans
    assert (received.rejected, inner.name, inner.kind, outer.kind) == (
        *(0, "inner", "client"),
        "server",
    )
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
    assert outer.parent_id is None
    assert (inner.start, inner.end) == (emitted[0].start_time, emitted[0].end_time)
    assert (inner.status, inner.message, outer.status) == ("error", "it broke", "unset")
    assert inner.attributes == {
        "text": "ü",
        "truth": True,
        "whole": -5,
        "large": 2**62,
        "share": 0.25,
        "texts": ("a", "b"),
        "wholes": (1, 2),
        "none": (),
    }
    [event] = inner.events
    assert (event.name, event.time, event.attributes) == ("happened", START, {"why": "x"})
    [link] = inner.links
    assert (link.trace_id, link.span_id) == (outer.trace_id, outer.span_id)
    assert inner.service == "shop"


def test_json_and_protobuf_and_gzip_say_the_same(emitted: Sequence[ReadableSpan]) -> None:
    expected = decode(as_protobuf(emitted), content_type=PROTOBUF)
    assert decode(as_json(emitted), content_type="Application/JSON; charset=utf-8") == expected
    for body, form in ((as_json(emitted), JSON), (as_protobuf(emitted), PROTOBUF)):
        packed = gzip.compress(body)
        assert decode(packed, content_type=form, content_encoding="GZIP") == expected


# As the collector's file exporter writes it: 64-bit integers as text, enums as numbers.
COLLECTED = {
    "resourceSpans": [
        {
            "resource": {
                "attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]
            },
            "scopeSpans": [
                {
                    "scope": {"name": "my.library", "version": "1.0.0"},
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "parentSpanId": "EEE19B7EC3C1B173",
                            "name": "I'm a server span",
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "kind": 2,
                            "attributes": [
                                {"key": "whole", "value": {"intValue": "42"}},
                                {"key": "also", "value": {"intValue": 43}},
                                {"key": "share", "value": {"doubleValue": 1}},
                                {"key": "nan", "value": {"doubleValue": "-Infinity"}},
                                {"key": "raw", "value": {"bytesValue": "AAE="}},
                                {
                                    "key": "mixed",
                                    "value": {
                                        "arrayValue": {
                                            "values": [{"intValue": "1"}, {"stringValue": "b"}]
                                        }
                                    },
                                },
                                {
                                    "key": "map",
                                    "value": {
                                        "kvlistValue": {
                                            "values": [{"key": "k", "value": {"boolValue": True}}]
                                        }
                                    },
                                },
                                {"key": "empty", "value": {}},
                            ],
                            "status": {"code": 1},
                            "flags": 257,
                        }
                    ],
                }
            ],
        }
    ]
}


def test_the_collectors_json_is_read() -> None:
    [span] = decode(json.dumps(COLLECTED).encode(), content_type=JSON).spans
    assert span == Span(
        trace_id="5b8efff798038103d269b633813fc60c",
        span_id="eee19b7ec3c1b174",
        parent_id="eee19b7ec3c1b173",
        name="I'm a server span",
        kind="server",
        start=1544712660000000000,
        end=1544712661000000000,
        status="ok",
        attributes={
            "whole": 42,
            "also": 43,
            "share": 1.0,
            "nan": float("-inf"),
            "raw": "AAE=",
            "mixed": '[1, "b"]',
            "map": '{"k": true}',
        },
        service="my.service",
    )


def changed(**fields: Any) -> bytes:
    """The collector's request, with its span changed; beside one that is as it was."""
    copy = json.loads(json.dumps(COLLECTED))
    spans = copy["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append(spans[0] | fields)
    return json.dumps(copy).encode()


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        ({"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}}, "client", "error"),
        ({"kind": 99, "status": {"code": 99}}, "internal", "unset"),
        ({"kind": "new", "status": {}}, "internal", "unset"),
    ],
)
def test_enums_are_numbers_or_names_and_unknown_ones_do_no_harm(
    fields: dict[str, Any], kind: str, status: str
) -> None:
    span = decode(changed(**fields), content_type=JSON).spans[1]
    assert (span.kind, span.status) == (kind, status)


def test_a_span_without_an_end_goes_on_and_zeros_are_no_parent() -> None:
    body = changed(endTimeUnixNano="0", parentSpanId="0000000000000000")
    span = decode(body, content_type=JSON).spans[1]
    assert (span.end, span.parent_id) == (None, None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"traceId": "5B8E"}, "a trace id must be 16 bytes, not all zero; got '5b8e'"),
        ({"traceId": "0" * 32}, "not all zero"),
        ({"spanId": ""}, "a span id must be 8 bytes"),
        ({"spanId": "xyz"}, "'spanId' must be hex digits"),
        ({"parentSpanId": "EE"}, "a span id must be 8 bytes"),
        ({"startTimeUnixNano": "soon"}, "'startTimeUnixNano' must be an integer; got 'soon'"),
        ({"startTimeUnixNano": "0"}, "Unix nanoseconds"),
        ({"endTimeUnixNano": str(2**64)}, "Unix nanoseconds"),
        ({"attributes": [1]}, "expected an object; got 1"),
        ({"name": {}}, "'name' must be text; got dict"),
    ],
)
def test_a_bad_span_is_counted_and_the_others_are_taken(
    fields: dict[str, Any], reason: str
) -> None:
    received = decode(changed(**fields), content_type=JSON)
    assert (len(received.spans), received.rejected) == (1, 1)
    assert reason in received.reason


def test_the_answer_says_in_the_form_of_the_request_how_many_were_rejected() -> None:
    assert answer(Received(()), content_type=JSON) == (b"{}", JSON)
    assert answer(Received(()), content_type=PROTOBUF) == (b"", PROTOBUF)
    some = Received((), 2, "why")
    assert json.loads(answer(some, content_type=JSON)[0]) == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}
    }
    response = ExportTraceServiceResponse.FromString(answer(some, content_type=PROTOBUF)[0])
    assert response.partial_success.rejected_spans == 2
    assert response.partial_success.error_message == "why"


def test_a_bad_span_in_protobuf_is_counted(emitted: Sequence[ReadableSpan]) -> None:
    message = ExportTraceServiceRequest.FromString(as_protobuf(emitted))
    message.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    received = decode(message.SerializeToString(), content_type=PROTOBUF)
    assert (len(received.spans), received.rejected) == (1, 1)


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "status", "why"),
    [
        (b"{}", "text/plain", "", 415, "send application/x-protobuf or application/json"),
        (b"{}", JSON, "br", 415, "send it with gzip or not compressed; got 'br'"),
        (b"[]", JSON, "", 400, "expected an object; got list"),
        (b"{", JSON, "", 400, "not OTLP in JSON"),
        (b"\xff", JSON, "", 400, "not OTLP in JSON"),
        (b"\xff", PROTOBUF, "", 400, "not OTLP in protobuf"),
        (b'{"resourceSpans": 5}', JSON, "", 400, "'resourceSpans' must be a list; got 5"),
        (b"[" * 100_000, JSON, "", 400, "not OTLP in JSON"),
        (b"not gzip", JSON, "gzip", 400, "the body is not gzip"),
        (gzip.compress(b"{}")[:-9], JSON, "gzip", 400, "cut off"),
        (gzip.compress(b"{}") * 2, JSON, "gzip", 400, "something after its end"),
    ],
)
def test_what_is_no_request_is_refused_with_a_status(
    body: bytes, content_type: str, encoding: str, status: int, why: str
) -> None:
    with pytest.raises(Refused) as refused:
        decode(body, content_type=content_type, content_encoding=encoding)
    assert refused.value.status == status
    assert why in str(refused.value)


def test_a_deeply_nested_value_is_refused(emitted: Sequence[ReadableSpan]) -> None:
    deep: dict[str, Any] = {"stringValue": "x"}
    for _ in range(300):
        deep = {"arrayValue": {"values": [deep]}}
    body = changed(attributes=[{"key": "deep", "value": deep}])
    only_refused(body, JSON)
    message = ExportTraceServiceRequest.FromString(as_protobuf(emitted))
    value = message.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="deep").value
    for _ in range(200):
        value = value.array_value.values.add()
    with pytest.raises(Refused, match="not OTLP in protobuf"):
        decode(message.SerializeToString(), content_type=PROTOBUF)


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused_before_it_is_there() -> None:
    packer = zlib.compressobj(wbits=31)
    megabyte = bytes(2**20)
    bomb = b"".join(packer.compress(megabyte) for _ in range(128)) + packer.flush()
    assert len(bomb) < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="more than 32 MB") as refused:
            decode(bomb, content_type=JSON, content_encoding="gzip")
        assert tracemalloc.get_traced_memory()[1] < 3 * otlp_in.LIMIT
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


def test_a_body_that_is_too_large_as_it_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_in, "LIMIT", 10)
    with pytest.raises(Refused) as refused:
        decode(b"{" + b" " * 10 + b"}", content_type=JSON)
    assert refused.value.status == 413


def only_refused(body: bytes, content_type: str, encoding: str = "") -> None:
    try:
        received = decode(body, content_type=content_type, content_encoding=encoding)
    except Refused as refused:
        assert refused.status in (400, 413, 415)  # noqa: PT017 - or nothing is raised
    else:
        answer(received, content_type=content_type)
        with SpanStore() as store:
            store.add(received.spans)
            for run in store.runs().runs:
                store.run(run.run_id)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([JSON, PROTOBUF]), st.sampled_from(["", "gzip"]))
def test_random_bytes_are_refused_or_read_and_nothing_else(
    body: bytes, content_type: str, encoding: str
) -> None:
    only_refused(body, content_type, encoding)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_request_with_bytes_changed_is_refused_or_read_and_nothing_else(
    emitted: Sequence[ReadableSpan], data: st.DataObject
) -> None:
    content_type = data.draw(st.sampled_from([JSON, PROTOBUF]))
    body = bytearray(as_json(emitted) if content_type == JSON else as_protobuf(emitted))
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    only_refused(bytes(body), content_type)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_request_with_any_json_anywhere_is_refused_or_read_and_nothing_else(
    data: st.DataObject,
) -> None:
    copy: Any = json.loads(json.dumps(COLLECTED))
    at: Any = copy
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            at[key] = data.draw(ANY_JSON)
            break
        at = at[key]
    only_refused(json.dumps(copy).encode(), JSON)
