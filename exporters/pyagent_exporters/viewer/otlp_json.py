"""Spans out of OTLP/JSON: ids as hex, 64-bit integers as strings, enums as numbers or names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from . import otlp_values as values
from .otlp_values import BadSpan, NotARequest, Received
from .spans import Attributes, AttributeValue, Kind, Span, SpanEvent, SpanLink, SpanStatus


def decode(body: bytes | str) -> Received:
    """The spans of one `ExportTraceServiceRequest`.

    Raises NotARequest for what is none; a span within that cannot be kept is counted.
    """
    try:
        return values.received(_spans(_object(json.loads(body))))
    except NotARequest:
        raise
    except (ValueError, RecursionError) as error:
        raise NotARequest(f"the body is not OTLP in JSON: {error}") from error


def _spans(request: Mapping[str, object]) -> Iterator[Span | BadSpan]:
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _attributes(_object(resource_spans.get("resource", {})))
        service = resource.get("service.name")
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            for span in _objects(scope_spans, "spans"):
                try:
                    yield _span(span, service if isinstance(service, str) else None)
                except BadSpan as bad:
                    yield bad
                except NotARequest as wrong:
                    yield BadSpan(str(wrong))


def _span(span: Mapping[str, object], service: str | None) -> Span:
    start, end = values.times(
        _integer(span, "startTimeUnixNano"), _integer(span, "endTimeUnixNano")
    )
    status = _object(span.get("status", {}))
    return Span(
        trace_id=values.trace_id(_hex(span, "traceId")),
        span_id=values.span_id(_hex(span, "spanId")),
        parent_id=values.parent_id(_hex(span, "parentSpanId")),
        name=_text(span, "name"),
        kind=_kind(span.get("kind")),
        start=start,
        end=end,
        status=_status(status.get("code")),
        message=_text(status, "message"),
        attributes=_attributes(span),
        events=tuple(
            SpanEvent(
                name=_text(event, "name"),
                time=values.event_time(_integer(event, "timeUnixNano")),
                attributes=_attributes(event),
            )
            for event in _objects(span, "events")
        ),
        links=tuple(
            SpanLink(values.trace_id(_hex(link, "traceId")), values.span_id(_hex(link, "spanId")))
            for link in _objects(span, "links")
        ),
        service=service,
    )


def _attributes(holder: Mapping[str, object]) -> Attributes:
    found: dict[str, AttributeValue] = {}
    for pair in _objects(holder, "attributes"):
        value = values.attribute(_plain(_object(pair.get("value", {}))))
        if value is not None:
            found[_text(pair, "key")] = value
    return found


def _plain(value: Mapping[str, object]) -> object:
    """An `AnyValue`; None for an empty one."""
    match value:
        case {"stringValue": str(text)} | {"bytesValue": str(text)}:
            return text
        case {"boolValue": bool(truth)}:
            return truth
        case {"intValue": _}:
            return _integer(value, "intValue")
        case {"doubleValue": float(number)}:
            return number
        case {"doubleValue": int(number) | str(number)}:  # "NaN" and "Infinity", too
            try:
                return float(number)
            except (ValueError, OverflowError) as error:
                raise NotARequest(f"not a number: {error}") from error
        case {"arrayValue": array}:
            return [_plain(item) for item in _objects(_object(array), "values")]
        case {"kvlistValue": given}:
            pairs = _objects(_object(given), "values")
            return {_text(pair, "key"): _plain(_object(pair.get("value", {}))) for pair in pairs}
        case _:
            return None


def _kind(given: object) -> Kind:
    return values.KINDS[_enum(given, _KIND_NAMES, len(values.KINDS))]


def _status(given: object) -> SpanStatus:
    return values.STATUSES[_enum(given, _STATUS_NAMES, len(values.STATUSES))]


_KIND_NAMES: Final = (
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
_STATUS_NAMES: Final = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")


def _enum(given: object, names: Sequence[str], count: int) -> int:
    """What is not known, perhaps since it is newer, is unspecified."""
    if isinstance(given, str):
        return names.index(given) if given in names else 0
    return given if isinstance(given, int) and 0 <= given < count else 0


# Reading what may be anything


def _object(given: object) -> Mapping[str, object]:
    if not isinstance(given, dict):
        raise NotARequest(f"expected an object; got {_shown(given)}")
    return cast("Mapping[str, object]", given)


def _objects(holder: Mapping[str, object], name: str) -> Sequence[Mapping[str, object]]:
    given = holder.get(name) or ()
    if not isinstance(given, list | tuple):
        raise NotARequest(f"{name!r} must be a list; got {_shown(given)}")
    return [_object(item) for item in cast("Sequence[object]", given)]


def _text(holder: Mapping[str, object], name: str) -> str:
    given = holder.get(name, "")
    if not isinstance(given, str):
        raise NotARequest(f"{name!r} must be text; got {_shown(given)}")
    return given


def _integer(holder: Mapping[str, object], name: str) -> int:
    given = holder.get(name, 0)
    try:
        if isinstance(given, int | str):
            return int(given)
    except ValueError as error:
        raise NotARequest(f"{name!r} must be an integer; got {_shown(given)}") from error
    raise NotARequest(f"{name!r} must be an integer; got {_shown(given)}")


def _hex(holder: Mapping[str, object], name: str) -> bytes:
    text = _text(holder, name)
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadSpan(f"{name!r} must be hex digits; got {_shown(text)}") from error


def _shown(given: object) -> str:
    return repr(given)[:60] if isinstance(given, str | int | float) else type(given).__name__
