"""Anthropic's Messages API on the wire (POST /v1/messages)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyagent_providers.types import JSONObject, Message, Sampling, ToolCall, ToolSpec, Usage

from .openai_chat import pieces, sse
from .script import ErrorEvent, ErrorKind, Failure, Reply
from .server import Dialect, Frames, Sent

# status, type, message: as Anthropic words them
ERRORS: dict[ErrorKind, tuple[int, str, str]] = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed your rate limit."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "server": (500, "api_error", "Internal server error"),
    "authentication": (401, "authentication_error", "invalid x-api-key"),
    "permission": (403, "permission_error", "Your API key may not use this resource."),
    "bad_request": (400, "invalid_request_error", "temperature: range: 0..1"),
    "not_found": (404, "not_found_error", "model: claude-99"),
    "context_too_long": (
        400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum",
    ),
    "content_filter": (
        400, "invalid_request_error", "Output blocked by content filtering policy",
    ),
}  # fmt: skip

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "other": "pause_turn",
}


@dataclass(frozen=True, kw_only=True)
class _Sent(Sent):
    answer_tool: str | None = None
    """The tool that the client forces, to get an answer by schema out of it."""


class _Messages:
    name = "anthropic"
    base_path = "/anthropic"
    routes = ("/anthropic/v1/messages",)
    content_type = "text/event-stream"

    def read(self, path: str, headers: Mapping[str, str], body: Any) -> Sent:
        forced = _forced_tool(body)
        tools = [t for t in body.get("tools") or () if t["name"] != forced]
        return _Sent(
            answer_tool=forced,
            model=body["model"],
            system=body.get("system"),
            messages=tuple(m for turn in body["messages"] for m in _read_turn(turn)),
            schema=_read_schema(body),
            tools=tuple(ToolSpec(t["name"], t["description"], t["input_schema"]) for t in tools),
            sampling=Sampling(
                max_tokens=body["max_tokens"],
                temperature=body.get("temperature"),
                top_p=body.get("top_p"),
                stop=tuple(body.get("stop_sequences") or ()),
            ),
            stream=bool(body.get("stream")),
            key=headers.get("x-api-key")
            or headers.get("authorization", "").removeprefix("Bearer ")
            or None,
        )

    def answer(self, reply: Reply, sent: Sent) -> JSONObject:
        return {
            **_head(reply, sent),
            "content": _blocks(reply, sent),
            "stop_reason": _stop_reason(reply, sent),
            "usage": usage_body(reply.usage, reply.service_tier),
        }

    def frames(self, reply: Reply, sent: Sent) -> Frames:
        usage = usage_body(reply.usage, reply.service_tier)
        start = {**_head(reply, sent), "content": [], "stop_reason": None}
        start["usage"] = usage and {**usage, "output_tokens": 1}
        opening = [_event("message_start", message=start), _event("ping")]
        blocks = _blocks(reply, sent)
        for index, block in enumerate(blocks):
            last_text = index == len(blocks) - 1 and block["type"] == "text"
            opening += _block_frames(index, block, closed=not last_text)
        ending: list[bytes] = []
        if blocks and blocks[-1]["type"] == "text":
            ending.append(_event("content_block_stop", index=len(blocks) - 1))
        delta = {"stop_reason": _stop_reason(reply, sent), "stop_sequence": None}
        final = usage and {"output_tokens": usage["output_tokens"]}
        if final and reply.usage and reply.usage.reasoning_tokens:
            final["output_tokens_details"] = usage["output_tokens_details"]
        ending.append(_event("message_delta", delta=delta, usage=final))
        ending.append(_event("message_stop"))
        return Frames(opening, ending)

    def failure(self, failure: Failure) -> tuple[int, JSONObject]:
        status, _, _ = ERRORS[failure.kind]
        return failure.status or status, _error(failure.kind, failure.message, failure.code)

    def error_frame(self, event: ErrorEvent) -> bytes:
        return sse(_error(event.kind, event.message, None), "error")

    def corrupt_frame(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_del\n\n'


MESSAGES: Dialect = _Messages()


def usage_body(usage: Usage | None, service_tier: str | None) -> dict[str, Any] | None:
    """Usage as Anthropic shapes it: what was read from or written to the cache counts apart."""
    if usage is None:
        return None
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    body: dict[str, Any] = {
        "input_tokens": usage.input_tokens - cached,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "service_tier": service_tier or "standard",
    }
    if usage.reasoning_tokens:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body


def _event(kind: str, **fields: object) -> bytes:
    return sse({"type": kind, **fields}, kind)  # type: ignore[dict-item]


def _head(reply: Reply, sent: Sent) -> dict[str, Any]:
    return {
        "id": reply.response_id,
        "type": "message",
        "role": "assistant",
        "model": reply.model or sent.model,
        "stop_sequence": None,
    }


def _blocks(reply: Reply, sent: Sent) -> list[dict[str, Any]]:
    """The answer's text goes into the tool that was forced, if one was."""
    text = reply.text if reply.refusal is None else reply.refusal
    calls = reply.tool_calls
    if (tool := _answer_tool(sent)) is not None:
        calls, text = (ToolCall("answer", tool, text), *calls), ""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for call in calls:
        blocks.append(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        )
    return blocks


def _input(arguments: str) -> object:
    """Decoded; a text that is not JSON goes out as it is."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _block_frames(index: int, block: dict[str, Any], *, closed: bool) -> list[bytes]:
    if block["type"] == "text":
        start: dict[str, Any] = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    else:
        start = {**block, "input": {}}
        given = block["input"]
        text = given if isinstance(given, str) else json.dumps(given) if given else ""
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in (text[:4], text[4:])]
    frames = [_event("content_block_start", index=index, content_block=start)]
    frames += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return [*frames, _event("content_block_stop", index=index)] if closed else frames


def _stop_reason(reply: Reply, sent: Sent) -> str:
    if reply.refusal is not None:
        return "refusal"
    if reply.finish_reason == "stop" and _answer_tool(sent) is not None:
        return "tool_use"
    return STOP_REASONS[reply.finish_reason]


def _error(kind: ErrorKind, message: str | None, code: str | None) -> dict[str, Any]:
    _, type, usual_message = ERRORS[kind]
    error = {"type": code or type, "message": message or usual_message}
    return {"type": "error", "error": error, "request_id": "req-1"}


def _answer_tool(sent: Sent) -> str | None:
    return sent.answer_tool if isinstance(sent, _Sent) else None


def _forced_tool(body: Any) -> str | None:
    choice = body.get("tool_choice") or {}
    return choice.get("name") if choice.get("type") == "tool" else None


def _read_schema(body: Any) -> JSONObject | None:
    if "output_config" in body:
        return body["output_config"]["format"]["schema"]
    for tool in body.get("tools") or ():
        if tool["name"] == _forced_tool(body):
            return tool["input_schema"]
    return None


def _read_turn(turn: Any) -> list[Message]:
    """One turn can hold several messages: the results of tools come together in a user turn."""
    if isinstance(turn["content"], str):
        return [Message(turn["role"], turn["content"])]
    text = "".join(b["text"] for b in turn["content"] if b["type"] == "text")
    calls = tuple(
        ToolCall(b["id"], b["name"], json.dumps(b["input"]))
        for b in turn["content"]
        if b["type"] == "tool_use"
    )
    results = [
        Message("tool", b["content"], tool_call_id=b["tool_use_id"])
        for b in turn["content"]
        if b["type"] == "tool_result"
    ]
    return [*results, *([Message(turn["role"], text, calls)] if text or calls else [])]
