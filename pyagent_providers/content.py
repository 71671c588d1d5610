"""Prompts and answers on spans: off, unless the standard variable asks for them.

`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` = SPAN_ONLY | EVENT_ONLY | SPAN_AND_EVENT.
"""

from __future__ import annotations

import json
import os
from typing import Final

from opentelemetry.trace import Span

from . import semconv
from .types import Completion, Message, Request

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PART_LIMIT: Final = 16_384  # characters of one part; cut inside it, so the JSON stays valid


def capture(span: Span, request: Request, completion: Completion | None) -> None:
    """Write the content where the environment asks for it; usually nowhere."""
    wish = os.environ.get(VARIABLE)
    if not wish:
        return
    wish = wish.upper()
    if wish not in ("SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"):
        return
    attributes = _content_attributes(request, completion)
    if wish in ("SPAN_ONLY", "SPAN_AND_EVENT"):
        span.set_attributes(attributes)
    if wish in ("EVENT_ONLY", "SPAN_AND_EVENT"):
        span.add_event(semconv.INFERENCE_DETAILS_EVENT, attributes)


def _content_attributes(request: Request, completion: Completion | None) -> dict[str, str]:
    system = [_text(m.content) for m in request.messages if m.role == "system"]
    turns = [_turn(m) for m in request.messages if m.role != "system"]
    attributes = {semconv.INPUT_MESSAGES: json.dumps(turns, ensure_ascii=False)}
    if system:
        attributes[semconv.SYSTEM_INSTRUCTIONS] = json.dumps(system, ensure_ascii=False)
    if completion is not None:
        answer = _turn(Message("assistant", completion.text, tool_calls=completion.tool_calls))
        answer["finish_reason"] = completion.finish_reason or "error"
        attributes[semconv.OUTPUT_MESSAGES] = json.dumps([answer], ensure_ascii=False)
    return attributes


def _text(content: str) -> dict[str, object]:
    return {"type": "text", "content": content[:PART_LIMIT]}


def _turn(message: Message) -> dict[str, object]:
    parts: list[dict[str, object]] = []
    if message.role == "tool":
        parts.append(
            {
                "type": "tool_call_response",
                "id": message.tool_call_id,
                "response": message.content[:PART_LIMIT],
            }
        )
    elif message.content:
        parts.append(_text(message.content))
    for call in message.tool_calls:
        parts.append(
            {
                "type": "tool_call",
                "id": call.id,
                "name": call.name,
                "arguments": call.arguments[:PART_LIMIT],
            }
        )
    return {"role": message.role, "parts": parts}
