"""OpenAI's Chat Completions on the wire (POST /v1/chat/completions)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyagent_providers.types import JSONObject, Message, Sampling, ToolCall, ToolSpec, Usage

from .script import ErrorEvent, ErrorKind, Failure, Reply
from .server import Dialect, Frames, Sent

# status, type, code, message: as OpenAI words them
ERRORS: dict[ErrorKind, tuple[int, str, str | None, str]] = {
    "rate_limit": (429, "tokens", "rate_limit_exceeded", "Rate limit reached for gpt-4o."),
    "overloaded": (
        503, "service_unavailable", None, "The engine is currently overloaded, please try again.",
    ),
    "server": (500, "server_error", None, "The server had an error processing your request."),
    "authentication": (
        401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.",
    ),
    "permission": (
        403, "invalid_request_error", "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    "bad_request": (400, "invalid_request_error", None, "Invalid value for 'temperature'."),
    "not_found": (
        404, "invalid_request_error", "model_not_found", "The model `gpt-99` does not exist.",
    ),
    "context_too_long": (
        400, "invalid_request_error", "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted "
        "in 130000 tokens. Please reduce the length of the messages.",
    ),
    "content_filter": (
        400, "invalid_request_error", "content_policy_violation",
        "Your request was rejected as a result of our safety system.",
    ),
}  # fmt: skip


class _Chat:
    name = "openai-chat"
    base_path = "/v1"
    routes = ("/v1/chat/completions",)
    content_type = "text/event-stream"

    def read(self, path: str, headers: Mapping[str, str], body: Any) -> Sent:
        turns = [m for m in body["messages"] if m["role"] not in ("system", "developer")]
        system = [m["content"] for m in body["messages"] if m["role"] in ("system", "developer")]
        format = body.get("response_format") or {}
        stop = body.get("stop") or ()
        return Sent(
            model=body["model"],
            system="\n\n".join(system) or None,
            messages=tuple(_read_message(m) for m in turns),
            schema=format["json_schema"]["schema"] if format.get("type") == "json_schema" else None,
            tools=tuple(
                ToolSpec(
                    t["function"]["name"],
                    t["function"].get("description", ""),
                    t["function"]["parameters"],
                )
                for t in body.get("tools") or ()
            ),
            sampling=Sampling(
                max_tokens=body.get("max_completion_tokens", body.get("max_tokens")),
                temperature=body.get("temperature"),
                top_p=body.get("top_p"),
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
                seed=body.get("seed"),
            ),
            stream=bool(body.get("stream")),
            key=headers.get("authorization", "").removeprefix("Bearer ") or None,
        )

    def answer(self, reply: Reply, sent: Sent) -> JSONObject:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.refusal is not None:
            message |= {"content": None, "refusal": reply.refusal}
        if reply.tool_calls:
            message |= {"content": reply.text or None, "tool_calls": _calls(reply.tool_calls)}
        return {
            **_head(reply, sent, "chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
            **_usage(reply),
        }

    def frames(self, reply: Reply, sent: Sent) -> Frames:
        head = _head(reply, sent, "chat.completion.chunk")

        def frame(delta: JSONObject, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return sse({**head, "choices": [choice], "usage": None})

        opening = [frame({"role": "assistant", "content": ""})]
        if reply.refusal is not None:
            opening += [frame({"refusal": piece}) for piece in pieces(reply.refusal)]
        else:
            opening += [frame({"content": piece}) for piece in pieces(reply.text)]
        for index, call in enumerate(_calls(reply.tool_calls)):
            start, end = call["function"]["arguments"][:4], call["function"]["arguments"][4:]
            named = {**call["function"], "arguments": start}
            opening.append(frame({"tool_calls": [{"index": index, **call, "function": named}]}))
            rest = {"index": index, "function": {"arguments": end}}
            opening.append(frame({"tool_calls": [rest]}))
        ending = [frame({}, reply.finish_reason)]
        if reply.usage is not None:
            ending.append(sse({**head, "choices": [], **_usage(reply)}))
        return Frames(opening, [*ending, b"data: [DONE]\n\n"])

    def failure(self, failure: Failure) -> tuple[int, JSONObject]:
        status, _, _, _ = ERRORS[failure.kind]
        return failure.status or status, {
            "error": _error(failure.kind, failure.message, failure.code)
        }

    def error_frame(self, event: ErrorEvent) -> bytes:
        return sse({"error": _error(event.kind, event.message, None)})

    def corrupt_frame(self) -> bytes:
        return b'data: {"id": "answer-1", "choi\n\n'


CHAT: Dialect = _Chat()


def sse(data: JSONObject, event: str | None = None) -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def pieces(text: str) -> list[str]:
    """The text in the pieces it is streamed in: words with the space after them."""
    return [piece for piece in text.replace(" ", " \0").split("\0") if piece]


def _head(reply: Reply, sent: Sent, object: str) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": reply.response_id,
        "object": object,
        "created": 1_760_000_000,
        "model": reply.model or sent.model,
    }
    if reply.service_tier:
        head["service_tier"] = reply.service_tier
    return head


def _usage(reply: Reply) -> dict[str, Any]:
    if reply.usage is None:
        return {}
    usage: dict[str, Any] = usage_body(reply.usage, "prompt", "completion")
    if reply.reported_usd is not None:
        usage["cost"] = float(reply.reported_usd)
    return {"usage": usage}


def usage_body(usage: Usage, input: str, output: str) -> dict[str, Any]:
    """Usage as both OpenAI APIs shape it; they differ in what they call input and output."""
    return {
        f"{input}_tokens": usage.input_tokens,
        f"{output}_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        f"{input}_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        f"{output}_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def _error(kind: ErrorKind, message: str | None, code: str | None) -> dict[str, Any]:
    _, type, usual_code, usual_message = ERRORS[kind]
    return {
        "message": message or usual_message,
        "type": type,
        "param": None,
        "code": code or usual_code,
    }


def _read_message(message: Any) -> Message:
    calls = tuple(
        ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"])
        for c in message.get("tool_calls") or ()
    )
    return Message(
        message["role"], message.get("content") or "", calls, message.get("tool_call_id")
    )
