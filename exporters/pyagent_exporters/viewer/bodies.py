"""A whole span as the bytes that the store keeps, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from .spans import Attributes, AttributeValue, Span, SpanEvent, SpanLink

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
_decode: Final = json.JSONDecoder().decode


def storable(span: Span) -> tuple[Span, bytes]:
    """The span as it can be kept, and the bytes for it.

    What UTF-8 has no form for (half a surrogate pair) becomes a question mark.
    """
    text = _encode.encode(_fields(span))
    try:
        return span, text.encode()
    except UnicodeEncodeError:
        body = text.encode(errors="replace")
        return from_bytes(body), body


def from_bytes(body: bytes) -> Span:
    """The span that was kept as these bytes."""
    (trace, span_id, parent, name, kind, start, end, status, message, attributes, events, links,
     service) = _decode(body.decode())  # fmt: skip
    return Span(
        trace_id=trace,
        span_id=span_id,
        parent_id=parent,
        name=name,
        kind=kind,
        start=start,
        end=end,
        status=status,
        message=message,
        attributes=_attributes(attributes),
        events=tuple(
            SpanEvent(name=name, time=time, attributes=_attributes(its))
            for name, time, its in events
        ),
        links=tuple(SpanLink(trace, span) for trace, span in links),
        service=service,
    )


def _fields(span: Span) -> list[object]:
    return [
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.name,
        span.kind,
        span.start,
        span.end,
        span.status,
        span.message,
        dict(span.attributes),
        [[event.name, event.time, dict(event.attributes)] for event in span.events],
        [[link.trace_id, link.span_id] for link in span.links],
        span.service,
    ]


def _attributes(stored: Mapping[str, AttributeValue | list[str]]) -> Attributes:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
