"""Prompts and answers in telemetry: off, unless the standard variable asks for them.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` = SPAN_ONLY | EVENT_ONLY | SPAN_AND_EVENT.
On a span the content is JSON text. An event is a log record of OpenTelemetry's Logs API, so that
content can be kept apart from traces; it goes nowhere unless the application exports logs. What
is a secret is taken out of both (see `redaction`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from opentelemetry.context import Context

from . import semconv
from .redaction import redacted
from .types import Completion, Message, Request

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.util.types import AnyValue

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PART_LIMIT: Final = 16_384  # characters of one part; cut inside it, so the JSON stays valid

Place = Literal["SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"]

# What the JSON Schemas of messages say where our own name for it differs.
_FINISH_REASONS: Final = {"tool_calls": "tool_call"}

Content: TypeAlias = "dict[str, list[dict[str, object]]]"


def wanted() -> Place | None:
    """Where the environment asks for the content; usually nowhere."""
    wish = os.environ.get(VARIABLE)
    if not wish:
        return None
    wish = wish.strip().upper()
    if wish in ("SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"):
        return wish
    return None


def read(request: Request, completion: Completion | None, *, failed: bool) -> Content:
    """What was asked and answered, by attribute name, in the shape of the conventions' schemas."""
    system = [_text(m.content) for m in request.messages if m.role == "system"]
    content = {semconv.INPUT_MESSAGES: [_turn(m) for m in request.messages if m.role != "system"]}
    if system:
        content[semconv.SYSTEM_INSTRUCTIONS] = system
    if completion is not None:
        answer = _turn(Message("assistant", completion.text, tool_calls=completion.tool_calls))
        reason = completion.finish_reason or ("error" if failed else "other")
        answer["finish_reason"] = _FINISH_REASONS.get(reason, reason)
        content[semconv.OUTPUT_MESSAGES] = [answer]
    return content


def of_tool(arguments: str, result: str | None) -> dict[str, str]:
    """What a tool was called with and gave, as span attributes, where spans have content."""
    if wanted() not in ("SPAN_ONLY", "SPAN_AND_EVENT"):
        return {}
    told = {semconv.TOOL_ARGUMENTS: _part(arguments)}
    return told if result is None else told | {semconv.TOOL_RESULT: _part(result)}


def as_json(content: Content) -> dict[str, str]:
    """The content as span attributes."""
    return {name: json.dumps(parts, ensure_ascii=False) for name, parts in content.items()}


def emit_event(
    attributes: Mapping[str, object], *, context: Context, provider: LoggerProvider | None
) -> None:
    """Send the content as the conventions' event, structured, to the application's log pipeline."""
    from opentelemetry._logs import LogRecord, get_logger  # rarely wanted, so loaded here

    get_logger(semconv.SCOPE, logger_provider=provider).emit(
        LogRecord(
            event_name=semconv.INFERENCE_DETAILS_EVENT,
            context=context,
            attributes=cast("dict[str, AnyValue]", attributes),
        )
    )


def _text(content: str) -> dict[str, object]:
    return {"type": "text", "content": _part(content)}


def _turn(message: Message) -> dict[str, object]:
    parts: list[dict[str, object]] = []
    if message.role == "tool":
        parts.append(
            {
                "type": "tool_call_response",
                "id": message.tool_call_id and redacted(message.tool_call_id),
                "response": _part(message.content),
            }
        )
    elif message.content:
        parts.append(_text(message.content))
    for call in message.tool_calls:
        parts.append(
            {
                "type": "tool_call",
                "id": redacted(call.id),
                "name": redacted(call.name),
                "arguments": _part(call.arguments),
            }
        )
    return {"role": message.role, "parts": parts}


def _part(text: str) -> str:
    """Without secrets, and cut to the limit only then: half of one is not recognised.

    Without half characters, too, which exporters cannot encode.
    """
    return redacted(text)[:PART_LIMIT].encode(errors="replace").decode()
