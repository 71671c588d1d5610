"""Spans out of OTLP/protobuf, by the `opentelemetry-proto` package: loaded with this module."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from . import otlp_values as values
from .otlp_values import BadSpan, NotARequest, Received
from .spans import Attributes, AttributeValue, Span, SpanEvent, SpanLink


def decode(body: bytes) -> Received:
    """The spans of one `ExportTraceServiceRequest`.

    Raises NotARequest for what is none; a span within that cannot be kept is counted.
    """
    try:
        return values.received(_spans(ExportTraceServiceRequest.FromString(body)))
    except (DecodeError, RecursionError) as error:
        raise NotARequest(f"the body is not OTLP in protobuf: {error}") from error


def answer(rejected: int, reason: str) -> bytes:
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = reason
    return response.SerializeToString()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span | BadSpan]:
    for resource_spans in request.resource_spans:
        service = _attributes(resource_spans.resource.attributes).get("service.name")
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                try:
                    yield _span(span, service if isinstance(service, str) else None)
                except BadSpan as bad:
                    yield bad


def _span(span: Message, service: str | None) -> Span:
    start, end = values.times(span.start_time_unix_nano, span.end_time_unix_nano)
    return Span(
        trace_id=values.trace_id(span.trace_id),
        span_id=values.span_id(span.span_id),
        parent_id=values.parent_id(span.parent_span_id),
        name=span.name,
        kind=values.KINDS[span.kind if 0 <= span.kind < len(values.KINDS) else 0],
        start=start,
        end=end,
        status=values.STATUSES[
            span.status.code if 0 <= span.status.code < len(values.STATUSES) else 0
        ],
        message=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(
            SpanEvent(
                name=event.name,
                time=values.event_time(event.time_unix_nano),
                attributes=_attributes(event.attributes),
            )
            for event in span.events
        ),
        links=tuple(
            SpanLink(values.trace_id(link.trace_id), values.span_id(link.span_id))
            for link in span.links
        ),
        service=service,
    )


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    found: dict[str, AttributeValue] = {}
    for pair in pairs:
        value = values.attribute(_plain(pair.value))
        if value is not None:
            found[pair.key] = value
    return found


def _plain(value: AnyValue) -> object:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
        case "bytes_value":
            return b64encode(value.bytes_value).decode()
        case _:
            return None
