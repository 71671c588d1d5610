"""A formatter for standard `logging`: one JSON object a line, with what the record knows besides.

handler.setFormatter(JsonFormatter())
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from opentelemetry import trace

from pyagent_providers.redaction import redacted, redacted_json


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, whatever is in it, and never raises.

    The keys are `timestamp` (ISO 8601, UTC), `level`, `logger`, `message`; `trace_id` and `span_id`
    of the span it was logged in, if any; `exception` (`type`, `message`, `stack`), if any; and
    everything that was given as `extra`. Secrets are taken out. Whatever is not ASCII is escaped,
    so that no text can end the line, or be anything but text to a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        own: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
            **_span_of(record),
        }
        if (raised := self._exception(record)) is not None:
            own["exception"] = raised
        if record.stack_info:
            own["stack"] = record.stack_info
        told = {**own, **facts_of(record), **own}  # ours come first, and are not overwritten
        pairs = (f"{_encoded(str(key))}: {_encoded(value)}" for key, value in told.items())
        return "{" + ", ".join(pairs) + "}"

    def _exception(self, record: logging.LogRecord) -> dict[str, object] | None:
        if not record.exc_info or (error := record.exc_info[1]) is None:
            return {"stack": record.exc_text} if record.exc_text else None
        try:
            stack = self.formatException(record.exc_info)
        except Exception as unshown:
            stack = f"(not to be had: {type(unshown).__name__})"
        return {
            "type": type(error).__qualname__,
            "message": as_text(error),
            "stack": stack,
        }


def message_of(record: logging.LogRecord) -> str:
    """The record's message without secrets; what there is of it, where its arguments do not fit."""
    try:
        return redacted(record.getMessage())
    except Exception:
        return f"{as_text(record.msg)} {as_text(record.args)}"


def facts_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What a record was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def as_text(value: object) -> str:
    """Any object's text, without secrets."""
    try:
        return redacted(str(value))
    except Exception as error:
        return f"<{type(value).__qualname__}, whose text raises {type(error).__name__}>"


_STANDARD: Final = frozenset(
    (*vars(logging.makeLogRecord({})), "message", "asctime", "taskName")
)  # the last from Python 3.12 on


def _span_of(record: logging.LogRecord) -> dict[str, object]:
    if hasattr(record, "trace_id"):  # a record that says so itself, and may be written elsewhere
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
    }


def _encoded(value: object) -> str:
    """A value as JSON without secrets, as text where it cannot be JSON."""
    try:
        plain = json.loads(json.dumps(value, default=as_text, allow_nan=False))
    except (TypeError, ValueError, RecursionError):  # keys of other kinds, NaN, cycles
        plain = as_text(value)
    return json.dumps(redacted_json(plain))
