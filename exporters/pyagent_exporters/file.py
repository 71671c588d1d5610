"""Spans into a file: a line of OTLP's JSON for each batch, as the collector's file exporter writes.

`pyagent ui trace.jsonl` reads it, also while it grows.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Final, cast

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .errors import ExporterError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext

_JSON = Mapping[str, object]
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


def span_exporter(path: str | os.PathLike[str]) -> SpanExporter:
    """Adds spans to the file, which is made with mode 0600 if there is none.

    Raises ExporterError if it cannot be written. An `OSError` later is raised by `export`.
    """
    try:
        os.close(_open(os.fspath(path)))
    except OSError as error:
        raise ExporterError(
            f"spans cannot be written to {os.fspath(path)!r}: {error.strerror or error}; its "
            "folder must exist and be writable"
        ) from error
    return FileSpanExporter(path)


class FileSpanExporter(SpanExporter):
    """Adds each batch to the file as one line, by one write at its end.

    So other processes may add to it too, and it may be moved away: the next batch begins a new one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(path)  # whatever the working directory is later

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not spans:
            return SpanExportResult.SUCCESS
        line = _encode(request(spans)).encode() + b"\n"
        file = _open(self._path)
        try:
            if _is_cut_off(file):  # by a disk that was full, or a process that was killed
                line = b"\n" + line
            while line:
                line = line[os.write(file, line) :]
        finally:
            os.close(file)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held open."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def request(spans: Sequence[ReadableSpan]) -> _JSON:
    """An `ExportTraceServiceRequest` in OTLP's JSON form."""
    by_source: dict[tuple[Resource, InstrumentationScope | None], list[_JSON]] = {}
    for span in spans:
        source = (span.resource, span.instrumentation_scope)
        by_source.setdefault(source, []).append(_span(span))
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource.attributes)},
                "scopeSpans": [{"scope": _scope(scope), "spans": its}],
            }
            for (resource, scope), its in by_source.items()
        ]
    }


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_cut_off(file: int) -> bool:
    """Whether the last line has no end."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _scope(scope: InstrumentationScope | None) -> _JSON:
    return {} if scope is None else {"name": scope.name, "version": scope.version or ""}


def _span(span: ReadableSpan) -> _JSON:
    status = span.status
    written: dict[str, object] = {
        **_ids(span.get_span_context()),
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP's begin with "unspecified"
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": status.status_code.value, "message": status.description or ""},
    }
    if span.parent is not None:
        written["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.events:
        written["events"] = [_event(event) for event in span.events]
    if span.links:
        written["links"] = [_link(link) for link in span.links]
    return written


def _ids(context: SpanContext | None) -> _JSON:
    if context is None:
        return {}
    return {"traceId": f"{context.trace_id:032x}", "spanId": f"{context.span_id:016x}"}


def _event(event: Event) -> _JSON:
    return {
        "name": event.name,
        "timeUnixNano": str(event.timestamp),
        "attributes": _attributes(event.attributes or {}),
    }


def _link(link: Link) -> _JSON:
    return {**_ids(link.context), "attributes": _attributes(link.attributes or {})}


def _attributes(attributes: Mapping[str, object]) -> list[_JSON]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: object) -> _JSON:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():  # JSON has no NaN and no infinity
            return {"doubleValue": value if isfinite(value) else _UNREAL[repr(value)]}
        case str():
            return {"stringValue": value}
        case bytes():
            return {"bytesValue": b64encode(value).decode()}
        case Mapping():
            pairs = _attributes(cast("Mapping[str, object]", value))
            return {"kvlistValue": {"values": pairs}}
        case Sequence():
            items = [_value(item) for item in cast("Sequence[object]", value)]
            return {"arrayValue": {"values": items}}
        case _:
            return {}


_UNREAL: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
